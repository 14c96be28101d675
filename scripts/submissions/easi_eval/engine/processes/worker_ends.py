"""How workers ended: the files that keepers leave in the journal's folder, and their readers."""

from __future__ import annotations

import contextlib
import json
import signal
from dataclasses import asdict, dataclass
from pathlib import Path

from ...core.run_folder import RunPaths

GAVE_UP = ".gaveup"  # suffix of the file that says why a worker was given up
ENDS = ".ends"  # suffix of the file with a line for each abnormal end of a worker


@dataclass(frozen=True)
class End:
    """How one attempt of a worker ended.

    Attributes:
        began: Unix time.
        how: The exit code as ``describe`` formats it.
        line: The line of the output that names the error.
        restart: Number of the restart that follows, of ``restarts`` in a row. None: the worker is
            given up. 0: the count starts again.
    """

    worker: str
    began: float  # Unix time
    how: str
    line: str
    restart: int | None
    restarts: int

    @property
    def text(self) -> str:
        """Text for the user: ``w0 died (SIGSEGV), restart 2 of 3: <line>``."""
        then = (
            "given up"
            if self.restart is None
            else f"restart {self.restart} of {self.restarts}"
            if self.restart
            else "started again"
        )
        return f"{self.worker} died ({self.how}), {then}: {self.line}"


def gave_up_reasons(run_root: Path) -> list[str]:
    """Why workers of the last launch were given up: each reason once, lowest worker first."""
    notes = sorted(
        RunPaths(run_root).journal.glob(f"*{GAVE_UP}"),
        key=lambda path: (len(path.name), path.name),
    )
    reasons = []
    for path in notes:
        with contextlib.suppress(FileNotFoundError):  # a new keeper removed it
            reasons.append(path.read_text(encoding="utf-8").strip())
    return list(dict.fromkeys(reasons))


def read_ends(run_root: Path) -> list[End]:
    """The abnormal ends of this launch's workers, worker by worker.

    A line that is still being written is left for the next call.
    """
    found: list[End] = []
    for path in sorted(
        RunPaths(run_root).journal.glob(f"*{ENDS}"), key=lambda path: (len(path.name), path.name)
    ):
        with contextlib.suppress(OSError, ValueError, TypeError):
            whole, _, _ = path.read_text(encoding="utf-8").rpartition("\n")
            found += [End(**json.loads(line)) for line in whole.splitlines()]
    return found


def forget_ends(run_root: Path) -> None:
    """Remove the notes of the last launch, which may have had more workers than the next."""
    for kind in (GAVE_UP, ENDS):
        for note in RunPaths(run_root).journal.glob(f"*{kind}"):
            note.unlink(missing_ok=True)


def describe(code: int | None) -> str:
    """Format an exit code for the user: "exit code 1", "SIGKILL"."""
    if code is None:
        return "our request"
    if code < 0:
        try:
            return signal.Signals(-code).name
        except ValueError:
            return f"signal {-code}"
    return f"exit code {code}"


def note_end(path: Path, end: End) -> None:
    """Append the end to the file that the pipeline reads.

    A full disk only costs the message, so it is ignored.
    """
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(end)) + "\n")
