"""Lines of the log, and conversion of a program's raw output to such lines."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Sequence

from .redact import Redactor

UPDATE_EVERY = 10.0  # seconds between two logged states of one progress bar
LONGEST_LINE = 64 * 1024  # bytes; longer lines are cut (both backends can print a base64 image)
_MARGIN = 4096  # characters dropped before a cut, so that no half of a secret remains

_ESCAPE = re.compile(rb"\x1b(?:\[[0-9;?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")
_CURSOR = re.compile(rb"\x1b\[\d*[AF]")
_UNPRINTABLE = {code: f"\\x{code:02x}" for code in (*range(9), *range(10, 32), 127)}

# A line that names an error. "CUDA out of memory" comes as torch.OutOfMemoryError.
TELLING = re.compile(
    r"\b\w*(Error|Exception)\b|\berror:|out of memory|combination failed|\bKilled\b"
    r"|Segmentation fault|Fatal Python error"
)
# Lines that launchers and loggers print around an error; they match TELLING but say nothing.
NOISE = re.compile(
    r"ChildFailedError|error_file|exitcode|torch/distributed/elastic|traceback :|_stderr"
    r"|^\s*File \"|Traceback \(most recent"
)


def telling_line(lines: Sequence[str]) -> str:
    """The last line that names an error, else the last line with text, else "".

    Args:
        lines: Output of a process, oldest first.
    """
    said = [line.strip() for line in lines if line.strip()]
    for line in reversed(said):
        if TELLING.search(line) and not NOISE.search(line):
            return line
    return said[-1] if said else ""


def stamped(text: str, at: float) -> bytes:
    """Return a line of the log: local time, and the text."""
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))
    return f"{when} {text}\n".encode(errors="backslashreplace")


class LineCleaner:
    r"""Splits one output stream into redacted lines, and thins out empty ones and progress bars.

    Text that ends with a carriage return is one state of a progress bar. At most one state per
    ``every`` seconds is kept; the last state is always kept. Terminal escapes are removed, other
    control characters are written as ``\x00``.
    """

    def __init__(self, redactor: Redactor, every: float = UPDATE_EVERY) -> None:
        self._redactor = redactor
        self._every = every
        self._buffer = b""
        self._cutting = False  # the rest of an overlong line is being skipped
        self._update: str | None = None  # the newest state not yet logged
        self._updated = -math.inf  # when a state was last logged
        self._returned = False  # the last piece ended with a carriage return
        self._several = False  # several bars are drawn one below the other

    def feed(self, data: bytes, now: float) -> list[str]:
        """Take in ``data`` and return the lines that are complete.

        Empty ``data`` returns a waiting state of a progress bar if its interval has passed.
        """
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
            # Keep a final carriage return: a line feed may follow.
            self._buffer = b"\r" if self._buffer.endswith(b"\r") else b""
        self._let_through(now, lines)
        return lines

    def close(self, now: float) -> list[str]:
        """Return what is left at the end of the stream.

        That is an unfinished line, or the last state of a progress bar.
        """
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
        """Turn one piece of the stream into a line or into a state of a progress bar.

        Args:
            raw: The piece without its line ending.
            ended: True after a line feed, False after a carriage return.
            now: Time in seconds.
            lines: Receives the finished lines.
            cut: The line is longer than ``LONGEST_LINE`` and its rest will be skipped.
        """
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
        # This line does not overwrite the waiting state, so that state was the last of its bar.
        elif self._update is not None and not self._returned:
            lines.append(self._update)
        self._update = None
        if text:
            lines.append(text)

    def _let_through(self, now: float, lines: list[str]) -> None:
        if self._update is not None and now - self._updated >= self._every:
            lines.append(self._update)
            self._update = None
            self._updated = now
