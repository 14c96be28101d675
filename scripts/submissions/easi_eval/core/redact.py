"""Remove secrets from all output: both backends print tokens and whole environments."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any
from urllib.parse import quote

REDACTED = "[redacted]"
# Shorter values ("EMPTY", "none") are placeholders, and replacing them would garble the log.
SHORTEST_SECRET = 8

_SECRET_NAME = re.compile(
    r"(?:TOKEN|KEY|KEY_ID|SECRET|PASSWORD|PASSWD|CREDENTIALS?)S?$", re.IGNORECASE
)
# Narrower than _SECRET_NAME, because model arguments have names like max_new_tokens and cache_keys.
_SECRET_ARGUMENT = re.compile(
    r"(?:token|api[-_]?key|(?:^|[-_])key|secret|password|passwd)$", re.IGNORECASE
)
# Values of such arguments that are no secret.
_PLACEHOLDER = re.compile(
    r"(?:none|null|true|false|empty|dummy|-?\d{0,7}|<.*>|\[[A-Z_]+\])?$", re.IGNORECASE
)
_ASSIGNMENT = re.compile(r"([\w-]*\w)\s*=\s*([^,;\s]*)")
# A member of a JSON object or a Python dictionary.
_MEMBER = re.compile(r"[\"']([\w-]+)[\"']\s*:\s*[\"']([^\"']*)")

# Text that looks like a secret. Group 1 of a pattern, where it has one, is kept.
_PATTERNS = tuple(
    re.compile(pattern)
    for pattern in (
        r"(?<![A-Za-z0-9])hf_[A-Za-z0-9]{16,}\w*",
        r"(?<![A-Za-z0-9])sk-[A-Za-z0-9_-]{16,}",
        r"(?<![A-Za-z0-9])(?:gh[pousr]|github_pat)_[A-Za-z0-9_]{20,}",
        r"(?<![A-Za-z0-9])AIza[A-Za-z0-9_-]{30,}",
        r"(?<![A-Za-z0-9])eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]*",
        r"((?i:bearer)\s{1,4})[^\s\"',]{8,}",
        r"((?i:api[-_]?key|judge[-_]key|auth[-_]?token|access[-_]?token|hf[-_]?token|password|client[-_]?secret)"
        r"[\"']{0,2}\s{0,2}[:=,]?\s{0,2}[\"']{0,2})(?<=[\s\"':=])[^\s\"',;&)}\]]{8,}",
        r"([a-z][a-z0-9+.-]{1,16}://[^\s/:@]{0,64}:)[^\s/@]{3,}(?=@)",
    )
)


# Without one of these (in lower case) no pattern can match, and looking for them is ten times as
# fast.
_HINTS = (
    "hf_",
    "sk-",
    "ghp_",
    "gho_",
    "ghu_",
    "ghs_",
    "ghr_",
    "github_pat",
    "aiza",
    "eyj",
    "bearer",
    "key",
    "token",
    "password",
    "secret",
    "://",
)
_AFTER_NAME = rb"[\"'&:=,\s\x1c-\x1f\x80-\xff]"
# Every secret that a pattern finds is found by one of these, too, in the lower case of its bytes,
# raw or escaped in XML. Each begins with a character that is rare in texts: the search for it is
# many times as fast as that for what follows.
_SUSPICIOUS = tuple(
    re.compile(pattern)
    for pattern in (
        rb"_(?:(?<=hf_)[a-z0-9]{16}|(?:(?<=gh[pousr]_)|(?<=b_pat_))\w{20})",
        rb"k(?:(?<=sk)-[\w-]{16}|(?:(?<=[i_-]k)ey|(?<=[hsf_-]tok)en)" + _AFTER_NAME + rb")",
        rb"z(?<=aiz)a[\w-]{30}",
        rb"j(?<=eyj)[\w-]{10,}\.",
        rb"b(?=earer[\s&\x1c-\x1f\x80-\xff])",
        rb"w(?<=passw)ord" + _AFTER_NAME,
        rb"secret(?<=[t_-]secret)" + _AFTER_NAME,
        rb"://[^\s/@]*:[^\s/@]{3,}@",
        rb"\xe2\x84\xaa",  # the Kelvin sign is a "k" without regard to case
    )
)


class Redactor:
    """Replace known secrets, and text that looks like a secret, by ``[redacted]``.

    ``secrets`` are literal values. Each is also replaced in its percent-encoded form, and a value
    of several lines is replaced line by line.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        literal: set[str] = set()
        for secret in secrets:
            for part in secret.splitlines():
                if len(part.strip()) >= SHORTEST_SECRET:
                    literal |= {part.strip(), quote(part.strip(), safe="")}
        # Longest first: a secret may begin with another one, and its rest must not remain.
        ordered = sorted(literal, key=lambda text: (-len(text), text))
        self._literal = re.compile("|".join(map(re.escape, ordered))) if ordered else None
        self._literal_bytes = [
            re.compile(re.escape(form)) for secret in ordered for form in byte_forms(secret)
        ]

    @classmethod
    def from_environ(cls, environ: Mapping[str, str] | None = None) -> Redactor:
        """Use every variable named like a secret (``*TOKEN``, ``*KEY``, ``*PASSWORD`` ...)."""
        environ = os.environ if environ is None else environ
        return cls(value for name, value in environ.items() if _SECRET_NAME.search(name))

    def line(self, text: str) -> str:
        """Return ``text`` without its secrets.

        A secret that is split by a line break is not recognised.
        """
        if self._literal:
            text = self._literal.sub(REDACTED, text)
        small = text.lower()
        if not any(hint in small for hint in _HINTS):
            return text
        for pattern in _PATTERNS:
            text = pattern.sub(lambda match: (match[1] if match.re.groups else "") + REDACTED, text)
        return text

    def suspects(self, data: bytes) -> Iterator[int]:
        """Yield a place inside or at the start of each secret in a text, and of what may be none.

        ``data`` is in UTF-8, raw or escaped in XML. For large files: ``line`` then reads only the
        lines with such a place.
        """
        small = data.lower()
        for pattern, where in (
            *((pattern, data) for pattern in self._literal_bytes),
            *((pattern, small) for pattern in _SUSPICIOUS),
        ):
            for match in pattern.finditer(where):
                yield match.start()

    def within(self, value: Any) -> Any:
        """Return a JSON value with ``line`` applied to every text in it, except for names."""
        if isinstance(value, str):
            return self.line(value)
        if isinstance(value, Mapping):
            return {name: self.within(inner) for name, inner in value.items()}
        return (
            [self.within(inner) for inner in value] if isinstance(value, (list, tuple)) else value
        )


def byte_forms(text: str) -> tuple[bytes, ...]:
    """Return the UTF-8 of a text as it is, and as it may be escaped in XML."""
    escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    quoted = escaped.replace('"', "&quot;").replace("'", "&apos;")
    forms = dict.fromkeys((text, escaped, quoted))
    return tuple(form.encode("utf-8", errors="surrogateescape") for form in forms)


def secret_argument(words: Sequence[str]) -> str:
    """Return the name under which command line words pass a secret; empty if they do not.

    It recognises ``--api-key VALUE``, ``--api-key=VALUE``, ``a=b,token=VALUE``, such a name in JSON
    at any depth, and values that look like a secret. Placeholders (``EMPTY``, ``True``, ``<pad>``,
    short numbers) are not secrets.
    """
    for word, following in pairwise([*words, ""]):
        named = (
            [(word, following)] if word.startswith("-") and not following.startswith("--") else []
        )
        pairs: list[tuple[str, str]]
        pairs = [*named, *_ASSIGNMENT.findall(word), *_MEMBER.findall(word)]
        for name, value in pairs:
            if _SECRET_ARGUMENT.search(name) and not _PLACEHOLDER.match(value.strip("\"'")):
                return name
        if Redactor().line(word) != word:
            return "a key"
    return ""
