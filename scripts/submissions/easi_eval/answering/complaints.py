"""Tracebacks, each once: a model that raises at every question would fill the log of all workers with the same lines."""

from __future__ import annotations

import hashlib
import sys
import traceback
from pathlib import Path

from ..errors import says_nothing, worded
from ..giving_up import like
from ..redact import Redactor

ERRORS_FOLDER = (
    "errors"  # of a run: a file for each distinct error of its last launch, with the traceback
)


class Complaints:
    """Says what was raised: with its traceback where no process of this ``launch`` said the like before, else by its message."""

    def __init__(self, run_root: Path, launch: int) -> None:
        self._folder, self._launch = run_root / ERRORS_FOLDER, launch
        self._seen: set[str] = set()
        self._redact = Redactor.from_environ().line

    def say(self, what: str, error: Exception) -> None:
        last = (
            worded(error)
            if says_nothing(error)
            else "".join(traceback.format_exception_only(error)).rstrip()
        )
        lines = traceback.format_exception(error)
        text = "".join([*lines[:-1], last] if says_nothing(error) else lines).rstrip()
        if self._first(error, text):
            print(f"{what}:\n{text}", file=sys.stderr)
        else:
            print(
                f"{what} (the traceback is above):\n{last}", file=sys.stderr
            )  # ends as a traceback does: keepers compare last lines

    def _first(self, error: Exception, text: str) -> bool:
        places = [
            f"{frame.filename}:{frame.lineno}"
            for frame in traceback.extract_tb(error.__traceback__)[-1:]
        ]
        same = "\n".join([type(error).__name__, like(str(error)), *places])
        name = f"{self._launch}.{hashlib.sha256(same.encode('utf-8', 'surrogatepass')).hexdigest()[:16]}.txt"
        if name in self._seen:
            return False
        self._seen.add(name)
        if not self._launch:  # used without our program, nobody tells one launch from the next
            return True
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with (self._folder / name).open(
                "x", encoding="utf-8", errors="backslashreplace"
            ) as file:
                file.write("\n".join(map(self._redact, text.splitlines())) + "\n")
        except FileExistsError:
            return False
        except OSError:  # a full disk
            return True
        return True
