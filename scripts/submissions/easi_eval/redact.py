"""Keeps secrets out of everything we write: both backends print tokens and whole environments."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any
from urllib.parse import quote

REDACTED = "[redacted]"
SHORTEST_SECRET = (
    8  # shorter values ("EMPTY", "none") are placeholders, and replacing them would garble the log
)

_SECRET_NAME = re.compile(
    r"(?:TOKEN|KEY|KEY_ID|SECRET|PASSWORD|PASSWD|CREDENTIALS?)S?$", re.IGNORECASE
)
# Narrower: model arguments have names like max_new_tokens and cache_keys, and values that only fill a place.
_SECRET_ARGUMENT = re.compile(
    r"(?:token|api[-_]?key|(?:^|[-_])key|secret|password|passwd)$", re.IGNORECASE
)
_PLACEHOLDER = re.compile(
    r"(?:none|null|true|false|empty|dummy|-?\d{0,7}|<.*>|\[[A-Z_]+\])?$", re.IGNORECASE
)
_ASSIGNMENT = re.compile(r"([\w-]*\w)\s*=\s*([^,;\s]*)")
_MEMBER = re.compile(
    r"[\"']([\w-]+)[\"']\s*:\s*[\"']([^\"']*)"
)  # of a JSON object or a Python dictionary

# What looks like a secret whoever it belongs to. Each pattern's group 1, where it has one, is kept.
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


# Without one of these, in small letters, none of the patterns can match; looking for them is ten times as fast.
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


class Redactor:
    """Replaces known secrets and whatever looks like one by ``[redacted]``.

    ``secrets`` are literal values; each is also found percent-encoded, and a value of several lines line by line.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        literal: set[str] = set()
        for secret in secrets:
            for part in secret.splitlines():
                if len(part.strip()) >= SHORTEST_SECRET:
                    literal |= {part.strip(), quote(part.strip(), safe="")}
        # longest first: a secret that begins with another must not leave its rest behind
        ordered = sorted(literal, key=lambda text: (-len(text), text))
        self._literal = re.compile("|".join(map(re.escape, ordered))) if ordered else None

    @classmethod
    def from_environ(cls, environ: Mapping[str, str] | None = None) -> Redactor:
        """Every value whose variable is named like a secret (``*TOKEN``, ``*KEY``, ``*SECRET``, ``*PASSWORD`` …)."""
        environ = os.environ if environ is None else environ
        return cls(value for name, value in environ.items() if _SECRET_NAME.search(name))

    def line(self, text: str) -> str:
        """``text`` without its secrets. A secret cut in two by a line break is not recognised."""
        if self._literal:
            text = self._literal.sub(REDACTED, text)
        small = text.lower()
        if not any(hint in small for hint in _HINTS):
            return text
        for pattern in _PATTERNS:
            text = pattern.sub(lambda match: (match[1] if match.re.groups else "") + REDACTED, text)
        return text

    def within(self, value: Any) -> Any:
        """The same JSON value with ``line`` applied to every text in it; names stay."""
        if isinstance(value, str):
            return self.line(value)
        if isinstance(value, Mapping):
            return {name: self.within(inner) for name, inner in value.items()}
        return (
            [self.within(inner) for inner in value] if isinstance(value, (list, tuple)) else value
        )


def secret_argument(words: Sequence[str]) -> str:
    """The name under which these words of a command line hand over a secret; "" if they do not.

    Found are ``--api-key VALUE``, ``--api-key=VALUE``, ``a=b,token=VALUE``, such a name in JSON at any depth, and
    whatever looks like a secret by itself. Values that only fill a place (``EMPTY``, ``True``, ``<pad>``, short numbers) are none.
    """
    for word, following in pairwise([*words, ""]):
        named = (
            [(word, following)] if word.startswith("-") and not following.startswith("--") else []
        )
        for name, value in (*named, *_ASSIGNMENT.findall(word), *_MEMBER.findall(word)):
            if _SECRET_ARGUMENT.search(name) and not _PLACEHOLDER.match(value.strip("\"'")):
                return name
        if Redactor().line(word) != word:
            return "a key"
    return ""
