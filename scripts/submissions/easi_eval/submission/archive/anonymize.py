"""Remove absolute paths and secrets from files before they leave this machine.

The number of replacements in each file is reported.
"""

from __future__ import annotations

import hashlib
import io
import re
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from html import escape
from pathlib import Path, PurePosixPath

from ...core.redact import Redactor, byte_forms

# The part of a path before a repository's folder in a hub cache. It only tells where the cache is,
# so it is removed.
_HUB = re.compile(
    r"(?<![\w/])(?:[A-Za-z]:)?/(?:[^\s'\"<>|,;\\]+/)?(?=(?:datasets|models|spaces)--[\w.-]+/)"
)
# An absolute path has at least two parts and does not start inside a word, an address or a relative
# path: "and/or", "https://a/b" and "x/y/z" do not match. In JSON a line break before a path is the
# two characters of its escape.
_BEFORE = r"(?:(?<![\w./<~}\])%&+-])|(?<=\\[nrt])|(?<=file://))"
_ABSOLUTE = re.compile(_BEFORE + r"/(?:[\w.@%+=,~-]+/)+[\w.@%+=,~-]*[\w@%+=~-]")
_DRIVE = re.compile(r"(?<![\w])[A-Za-z]:(?:\\\\?[\w.@%+=,~ -]+){2,}")
# A place in each path that the patterns above find, searched for in bytes, raw or escaped in XML.
# Each begins with plain characters, which makes the search fast.
_SUSPICIOUS = tuple(
    re.compile(pattern)
    for pattern in (
        rb"s--[\w.\x80-\xff-]+/",
        rb"/(?:(?<![\w./<~}\])%&+-]/)|(?<=\\[nrt]/)|(?<=file:///))"
        rb"(?:[\w.@%+=,~\x80-\xff-]+/)+[\w.@%+=,~\x80-\xff-]",
        rb":\\(?<=[A-Za-z]:\\)(?<!\w[A-Za-z]:\\)",
    )
)
BLOCK = 1 << 18  # bytes of a file that are read at once; more do not fit into a cache
# Texts of a workbook. Other parts refer to each other by absolute names
# (Target="/xl/styles.xml"), which are not paths of this machine.
_TEXTS = re.compile(
    r"(?:xl/sharedStrings|xl/worksheets/sheet|docProps/).*\.(?:xml|rels)", re.DOTALL
)
EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time that a zip file can store


@dataclass
class Replacements:
    """The number of replacements in one file."""

    paths: int = 0
    secrets: int = 0

    def __str__(self) -> str:
        said = [
            f"{count} {name}{'' if count == 1 else 's'} replaced"
            for count, name in ((self.paths, "absolute path"), (self.secrets, "secret"))
            if count
        ]
        return ", ".join(said)


class Scrubber:
    """Replaces absolute paths and secrets in texts and files.

    Paths below a known folder keep their remaining part. Of other absolute paths the last one or
    two parts are kept. Web addresses, relative paths and words with slashes are not changed.

    Args:
        redactor: Replaces secrets.
        places: Known folders of this machine, each with the word that replaces it (``output-dir``
            becomes ``[output-dir]``); the longest matching path is used.
    """

    def __init__(self, redactor: Redactor, places: Iterable[tuple[str, Path]] = ()) -> None:
        self._redactor = redactor
        known = {
            str(path).rstrip("/"): word
            for word, path in reversed([*places])
            if len(PurePosixPath(path).parts) > 1
        }
        self._known = {name: known[name] for name in sorted(known, key=len, reverse=True)}
        self._places = (
            re.compile("(?:" + "|".join(map(re.escape, self._known)) + r")(?![\w-]|\.\w)")
            if known
            else None
        )
        # One search for all: they have their first character in common.
        forms = [re.escape(form) for name in self._known for form in byte_forms(name)]
        self._places_bytes = [re.compile(b"|".join(forms))] if forms else []

    def text(self, text: str, found: Replacements | None = None) -> str:
        """Return the text without paths and secrets; replacements are counted in ``found``."""
        found = Replacements() if found is None else found
        if "/" in text or ":\\" in text:
            text = self._paths(text, found)
        cleared = self._redactor.line(text)
        if cleared != text:
            found.secrets += max(1, cleared.count("[redacted]") - text.count("[redacted]"))
        return cleared

    def _paths(self, text: str, found: Replacements) -> str:
        count = 0
        text, hits = _HUB.subn("", text)
        count += hits
        if self._places is not None:
            text, hits = self._places.subn(lambda match: f"[{self._known[match[0]]}]", text)
            count += hits
        text, hits = _ABSOLUTE.subn(_last_parts, text)
        count += hits
        text, hits = _DRIVE.subn(_last_parts, text)
        found.paths += count + hits
        return text

    def lines(self, data: bytes, found: Replacements | None = None) -> bytes:
        """Return a text file, scrubbed line by line; bytes that are not UTF-8 are kept."""
        found = Replacements() if found is None else found

        def line_by_line(unit: bytes) -> bytes:
            text = unit.decode("utf-8", errors="surrogateescape")
            cleared = "".join(self.text(line, found) for line in text.splitlines(keepends=True))
            return cleared.encode("utf-8", errors="surrogateescape")

        return self._where_suspicious(data, (b"\n", b"\n"), line_by_line)

    def copy(self, source: Path, target: Path) -> tuple[str, str, Replacements]:
        """Write the scrubbed file; the same bytes if nothing was replaced.

        Returns:
            The SHA-256 of both files (hexadecimal) and the counts.
        """
        found, before, after = Replacements(), hashlib.sha256(), None
        with source.open("rb") as read, target.open("wb") as write:
            whole = source.suffix == ".xlsx"
            while data := read.read() if whole else read.read(BLOCK) + read.readline():
                cleared = self._workbook(data, found) if whole else self.lines(data, found)
                if after is None and cleared != data:
                    after = before.copy()  # until here they are the same
                before.update(data)
                if after is not None:
                    after.update(cleared)
                write.write(cleared)
        return before.hexdigest(), (after or before).hexdigest(), found

    def _suspects(self, data: bytes) -> list[int]:
        """Return places in a text, in order: one or more in each path or secret."""
        patterns = (*_SUSPICIOUS, *self._places_bytes)
        return sorted(
            [
                *(match.start() for pattern in patterns for match in pattern.finditer(data)),
                *self._redactor.suspects(data),
            ]
        )

    def _where_suspicious(
        self, data: bytes, ends: tuple[bytes, bytes], change: Callable[[bytes], bytes]
    ) -> bytes:
        """Apply ``change`` to the units of a text that may hold a path or a secret.

        ``ends`` are the bytes before and after a unit.
        """
        pieces, done = [], 0
        for place in self._suspects(data):
            if place < done:
                continue
            start = data.rfind(ends[0], done, place) + 1 or done
            end = data.find(ends[1], place)
            pieces += [data[done:start], change(data[start : end if end >= 0 else len(data)])]
            if end < 0:
                return b"".join(pieces)
            done = end
        return b"".join((*pieces, data[done:])) if pieces else data

    def _workbook(self, data: bytes, found: Replacements) -> bytes:
        """Return an xlsx file with its texts scrubbed, the same bytes if nothing was replaced.

        Other parts, their order and the formatting do not change.
        """
        with zipfile.ZipFile(io.BytesIO(data)) as book:
            parts = {info.filename: book.read(info) for info in book.infolist()}
        cleared = {
            name: self.xml(part, found) if _TEXTS.fullmatch(name) else part
            for name, part in parts.items()
        }
        if not found.paths and not found.secrets:
            return data
        made = io.BytesIO()
        with zipfile.ZipFile(made, "w") as target:
            for name, part in cleared.items():
                target.writestr(zipfile.ZipInfo(name, EPOCH), part, zipfile.ZIP_DEFLATED)
        return made.getvalue()

    def xml(self, data: bytes, found: Replacements) -> bytes:
        """Return a part of a workbook with the texts between its tags scrubbed."""
        return self._where_suspicious(data, (b">", b"<"), lambda unit: self._node(unit, found))

    def _node(self, unit: bytes, found: Replacements) -> bytes:
        """Return a text of XML, scrubbed; tags before it stay."""
        tag, end, text = unit.rpartition(b">")
        plain = (
            text.decode("utf-8", errors="surrogateescape")
            .replace("&quot;", '"')
            .replace("&apos;", "'")
            .replace("&lt;", "<")
            .replace("&gt;", ">")
            .replace("&amp;", "&")
        )
        cleared = self.text(plain, found)
        if cleared == plain:
            return unit
        return tag + end + escape(cleared, quote=False).encode("utf-8", errors="surrogateescape")


def _last_parts(match: re.Match[str]) -> str:
    """Return the end of a path: enough to tell files apart, without a user's name."""
    parts = [part for part in re.split(r"[/\\\\]+", match[0]) if part]
    if parts[0] in ("home", "Users"):
        parts = parts[2:]
    kept = parts[-2:] if len(parts) > 2 else parts[-1:]
    return "/".join(["[path]", *kept])
