"""What happened in a run, as data. The run emits these to one callable; a display decides how they look."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class RunStarted:
    """The plan stands and work begins. ``benchmarks`` are (key, title) in table order; ``skipped`` keys with reasons."""

    model: str
    backend: str
    model_class: str
    benchmarks: tuple[tuple[str, str], ...]
    skipped: tuple[tuple[str, str], ...]
    folder: Path
    log: Path
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class PhaseStarted:
    """``phase`` is one of prepare, start, answer, score, collect, submit; ``detail`` is for people."""

    phase: str
    detail: str = ""


@dataclass(frozen=True)
class DataProgress:
    """Bytes of one piece of benchmark data. ``total`` None: not known. Sent again with done == total at its end."""

    what: str
    done: int
    total: int | None


@dataclass(frozen=True)
class WorkerPhase:
    """What one worker is doing before and between answers ("importing", "loading the model", "answering", "gone")."""

    worker: str
    phase: str


@dataclass(frozen=True)
class Progress:
    """Exact counts from the journal; ``answered_now`` in this run.

    ``spent`` are the seconds of all its answers, ``spent_now`` of those of this run, summed over the workers; ``cost``
    is what those of ``spent`` were expected to take and ``cost_left`` what the unanswered are, in a unit of its own
    (0: nothing is known).
    """

    benchmark: str
    done: int
    total: int
    failed: int
    answered_now: int
    spent: float = 0.0
    spent_now: float = 0.0
    cost: float = 0.0
    cost_left: float = 0.0


@dataclass(frozen=True)
class BenchmarkScored:
    """One benchmark reached the table. ``score`` 0-100 or None with a ``reason``."""

    benchmark: str
    score: float | None
    state: str
    reason: str = ""


@dataclass(frozen=True)
class Notice:
    """One line the user should see once; ``level`` is "info" or "warning"."""

    text: str
    level: str = "info"


@dataclass(frozen=True)
class Traceback:
    """Where something was raised, for ``--verbose``; several lines, shown as they are."""

    text: str


Event = (
    RunStarted
    | PhaseStarted
    | DataProgress
    | WorkerPhase
    | Progress
    | BenchmarkScored
    | Notice
    | Traceback
)
Emit = Callable[[Event], None]
