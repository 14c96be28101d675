"""Remove absolute paths and secrets from files before they leave this machine.

The number of replacements in each file is reported.
"""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from xml.sax.saxutils import escape

from ...core.redact import Redactor

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
_XML = (".xml", ".rels")
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
        text = data.decode("utf-8", errors="surrogateescape")
        return "".join(self.text(line, found) for line in text.splitlines(keepends=True)).encode(
            "utf-8", errors="surrogateescape"
        )

    def file(self, name: str, data: bytes) -> tuple[bytes, Replacements]:
        """Return the scrubbed file and the counts; the same bytes if nothing was replaced."""
        found = Replacements()
        cleared = self._workbook(data, found) if name.endswith(".xlsx") else self.lines(data, found)
        return (cleared, found) if found.paths or found.secrets else (data, found)

    def _workbook(self, data: bytes, found: Replacements) -> bytes:
        """Return an xlsx file with its texts scrubbed.

        Other parts, their order and the formatting do not change.
        """
        made = io.BytesIO()
        with zipfile.ZipFile(io.BytesIO(data)) as book, zipfile.ZipFile(made, "w") as target:
            for info in book.infolist():
                part = book.read(info)
                if info.filename.endswith(_XML):
                    # Other parts refer to each other by absolute names (Target="/xl/styles.xml"),
                    # which are not paths of this machine.
                    inside = (
                        info.filename.startswith("xl/sharedStrings")
                        or info.filename.startswith("xl/worksheets/sheet")
                        or info.filename.startswith("docProps/")
                    )
                    part = self._xml(part, found) if inside else part
                entry = zipfile.ZipInfo(info.filename, EPOCH)
                target.writestr(entry, part, zipfile.ZIP_DEFLATED, compresslevel=9)
        return made.getvalue()

    def _xml(self, part: bytes, found: Replacements) -> bytes:
        text = part.decode("utf-8", errors="surrogateescape")
        pieces = re.split(r"(<[^>]*>)", text)
        pieces[::2] = [
            piece if not piece else self._xml_text(piece, found) for piece in pieces[::2]
        ]
        return "".join(pieces).encode("utf-8", errors="surrogateescape")

    def _xml_text(self, piece: str, found: Replacements) -> str:
        plain = (
            piece.replace("&quot;", '"')
            .replace("&apos;", "'")
            .replace("&lt;", "<")
            .replace("&gt;", ">")
            .replace("&amp;", "&")
        )
        cleared = self.text(plain, found)
        return piece if cleared == plain else escape(cleared)


def _last_parts(match: re.Match[str]) -> str:
    """Return the end of a path: enough to tell files apart, without a user's name."""
    parts = [part for part in re.split(r"[/\\\\]+", match[0]) if part]
    if parts[0] in ("home", "Users"):
        parts = parts[2:]
    kept = parts[-2:] if len(parts) > 2 else parts[-1:]
    return "/".join(["[path]", *kept])
