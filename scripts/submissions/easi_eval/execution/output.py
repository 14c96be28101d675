"""From a program's raw output to log lines: pure, so that a clock can be given."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from ..redact import Redactor

UPDATE_EVERY = 10.0  # seconds between two logged states of one progress bar
LONGEST_LINE = 64 * 1024  # bytes; a line is cut there (both backends can print a base64 image)
_MARGIN = 4096  # characters given up at a cut, so that no half of a secret stays behind

_ESCAPE = re.compile(rb"\x1b(?:\[[0-9;?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")
_CURSOR = re.compile(rb"\x1b\[\d*[AF]")
_UNPRINTABLE = {code: f"\\x{code:02x}" for code in (*range(9), *range(10, 32), 127)}

# A line that names an error ("CUDA out of memory" comes as torch.OutOfMemoryError) ...
TELLING = re.compile(
    r"\b\w*(Error|Exception)\b|\berror:|out of memory|combination failed|\bKilled\b|Segmentation fault|Fatal Python error"
)
# ... but not what launchers and loggers print around it.
NOISE = re.compile(
    r"ChildFailedError|error_file|exitcode|torch/distributed/elastic|traceback :|_stderr|^\s*File \"|Traceback \(most recent"
)


def telling_line(lines: Sequence[str]) -> str:
    """The last line that says what went wrong; failing that the last one that says anything."""
    said = [line.strip() for line in lines if line.strip()]
    for line in reversed(said):
        if TELLING.search(line) and not NOISE.search(line):
            return line
    return said[-1] if said else ""


class LineCleaner:
    """Cuts one stream into redacted lines and thins out progress bars.

    Text ended by a carriage return is one state of a progress bar: at most one per ``every`` seconds is kept, and the
    last one is not lost. Terminal escapes are dropped, other control characters written as ``\\x00``.
    """

    def __init__(self, redactor: Redactor, every: float = UPDATE_EVERY) -> None:
        self._redactor = redactor
        self._every = every
        self._buffer = b""
        self._cutting = False  # the rest of an overlong line is being skipped
        self._update: str | None = None  # the newest state not yet logged
        self._updated = -math.inf  # when a state was last logged
        self._returned = False  # what comes next overwrites a line
        self._several = False  # bars are being drawn one below the other
        self._blank = True  # the last line was empty

    def feed(self, data: bytes, now: float) -> list[str]:
        """Lines complete with ``data``; empty ``data`` lets a waiting progress state through when its time has come."""
        lines: list[str] = []
        self._buffer += data
        start = 0
        for match in re.finditer(rb"\r*\n|\r+(?=[^\r\n])", self._buffer):
            ended = b"\n" in match[0]
            self._take(self._buffer[start : match.start()], ended, now, lines)
            self._returned = not ended
            start = match.end()
        self._buffer = self._buffer[start:]
        if len(self._buffer) > LONGEST_LINE:
            if not self._cutting:
                self._take(self._buffer[:LONGEST_LINE], True, now, lines, cut=True)
                self._cutting = True
            # a carriage return at the very end is not yet known to end anything
            self._buffer = b"\r" if self._buffer.endswith(b"\r") else b""
        self._let_through(now, lines)
        return lines

    def close(self, now: float) -> list[str]:
        """What is left at the end of the stream: an unfinished line, or the last state of a progress bar."""
        lines: list[str] = []
        if self._buffer.rstrip(b"\r"):
            self._take(self._buffer.rstrip(b"\r"), True, now, lines)
        self._buffer = b""
        if self._update is not None:
            lines.append(self._update)
            self._update = None
        return lines

    def _take(
        self, raw: bytes, ended: bool, now: float, lines: list[str], cut: bool = False
    ) -> None:
        if self._cutting:
            self._cutting = False
            return
        text = (
            _ESCAPE.sub(b"", raw).decode(errors="backslashreplace").translate(_UNPRINTABLE).rstrip()
        )
        text = self._redactor.line(text)
        if cut:
            text = f"{text[:-_MARGIN]} [the rest of this line is not logged]"
        if _CURSOR.search(raw):
            self._several = True
        elif not self._returned and text:
            self._several = False
        if not ended or self._several:
            if text.strip():
                self._update = text
            self._let_through(now, lines)
            return
        if self._update is not None and not text:  # the line break after a finished bar
            text = self._update
        elif (
            self._update is not None and not self._returned
        ):  # no newer state of it, so this was its last
            lines.append(self._update)
        self._update = None
        if text or not self._blank:  # redrawn bars leave many empty lines
            lines.append(text)
        self._blank = not text

    def _let_through(self, now: float, lines: list[str]) -> None:
        if self._update is not None and now - self._updated >= self._every:
            lines.append(self._update)
            self._update = None
            self._updated = now
