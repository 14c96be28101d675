"""Error output of workers that shows each distinct traceback once.

A model that raises at every question would otherwise fill the log with equal tracebacks.
"""

from __future__ import annotations

import sys
import traceback
from pathlib import Path

from ..core.atomic_files import text_digest
from ..core.errors import says_nothing, worded
from ..core.redact import Redactor
from ..core.run_folder import RunPaths
from .giving_up import like


class ErrorPrinter:
    """Prints errors to stderr: a traceback for the first of its kind, else the message.

    Errors are of one kind if type, place and message are equal; numbers in the message may differ.
    All processes of a launch share the record of known errors, a folder with one file per error.

    Args:
        run_root: Folder of the run.
        launch: Number of the launch; 0: not started by a run, so errors are counted per process.
    """

    def __init__(self, run_root: Path, launch: int) -> None:
        self._folder, self._launch = RunPaths(run_root).errors, launch
        self._seen: set[str] = set()
        self._redact = Redactor.from_environ().line

    def report(self, what: str, error: Exception) -> None:
        """Print an error; ``what`` says what raised it."""
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
            # Same last line as the full traceback, because keepers take the reason from that line.
            print(f"{what} (the traceback is above):\n{last}", file=sys.stderr)

    def _first(self, error: Exception, text: str) -> bool:
        """Whether no process of this launch printed an error of this kind before."""
        places = [
            f"{frame.filename}:{frame.lineno}"
            for frame in traceback.extract_tb(error.__traceback__)[-1:]
        ]
        same = "\n".join([type(error).__name__, like(str(error)), *places])
        name = f"{self._launch}.{text_digest(same)[:16]}.txt"
        if name in self._seen:
            return False
        self._seen.add(name)
        if not self._launch:  # without a run, launches cannot be told apart
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
