"""A process to run, and how it ended: plain data, printed by ``--dry-run`` and executed by the supervisor."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Job:
    """One command line. Secrets never stand here: children inherit them from our own environment."""

    name: str                                   # for people: "answer", "score", "plain blink"
    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)    # only what differs from ours; "" removes the variable
    cwd: Path | None = None         # made if it is not there

    def __str__(self) -> str:
        words = ["env"]
        for name, value in self.env.items():
            words += ["-u", name] if value == "" else []
        words += [f"{name}={value}" for name, value in self.env.items() if value != ""]
        command = shlex.join((words if len(words) > 1 else []) + list(self.argv))
        folder = shlex.quote(str(self.cwd))
        return f"mkdir -p {folder} && cd {folder} && {command}" if self.cwd else command


@dataclass(frozen=True)
class Outcome:
    """How a job ended. ``exit_code`` proves nothing: both backends exit 0 on failure."""

    job: Job
    exit_code: int | None      # None: we ended it
    seconds: float
    log_tail: tuple[str, ...] = ()     # the last lines of its output, redacted
