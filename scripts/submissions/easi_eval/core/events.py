"""Events of a run, as data.

The run passes each event to one callable (``Emit``). A display decides how the event is shown.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class RunStarted:
    """The plan is made and work begins.

    Attributes:
        model: Name of the model.
        benchmarks: (key, title) of each benchmark, in the order of the table.
        skipped: (key, reason) of each benchmark that is not run.
        folder: The folder of the results.
        notes: Lines to show to the user.
    """

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
    """A phase of the run begins.

    Attributes:
        phase: One of prepare, start, answer, score, collect, submit.
        detail: Text for the user.
    """

    phase: str
    detail: str = ""


@dataclass(frozen=True)
class DataProgress:
    """Progress in bytes of one piece of benchmark data.

    The last event of a piece has ``done == total``.

    Attributes:
        what: What is fetched.
        done: Bytes fetched so far.
        total: All bytes, or None if the size is not known.
    """

    what: str
    done: int
    total: int | None


@dataclass(frozen=True)
class WorkerPhase:
    """A worker changed to another phase.

    Attributes:
        worker: Name of the worker.
        phase: For example "importing", "loading the model", "answering", "gone".
    """

    worker: str
    phase: str


@dataclass(frozen=True)
class Progress:
    """Progress of one benchmark, counted from the journal.

    Times are summed over the workers. ``cost`` and ``cost_left`` are expected times in an arbitrary
    unit that all benchmarks share; 0 means unknown.

    Attributes:
        done: Questions with an outcome, failed ones included.
        answered_now: Questions with an outcome of this launch.
        spent: Seconds spent on all answers, failed questions left out.
        spent_now: The part of ``spent`` that belongs to this launch.
        cost: Expected time of the questions that ``spent`` covers.
        cost_left: Expected time of the questions without an outcome.
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
    """One benchmark has its final row in the table.

    Attributes:
        score: 0-100, or None if there is no score.
        state: State of the result, for example "complete" or "failed".
        reason: Why the score is missing or incomplete.
    """

    benchmark: str
    score: float | None
    state: str
    reason: str = ""


@dataclass(frozen=True)
class RunEnded:
    """The launch is over; a launch that was killed has no such event.

    Attributes:
        error: What ended it early; "" if nothing did.
    """

    error: str = ""


@dataclass(frozen=True)
class Notice:
    """One line to show to the user once.

    Attributes:
        level: "info" or "warning".
    """

    text: str
    level: str = "info"


@dataclass(frozen=True)
class NodeChanged(Notice):
    """A machine of a run with ``--nodes`` came, went or changed; or Slurm's job did.

    Attributes:
        node: Its name in the run; "" for the job.
        host: Its own name.
        place: Its workers and GPUs; "" if nothing new is known.
        state: For example "gone"; "" if it prepares or is at work.
    """

    node: str = ""
    host: str = ""
    place: str = ""
    state: str = ""


@dataclass(frozen=True)
class Traceback:
    """The traceback of an error, for ``--verbose``; several lines, shown unchanged."""

    text: str


Event = (
    RunStarted
    | PhaseStarted
    | DataProgress
    | WorkerPhase
    | Progress
    | BenchmarkScored
    | RunEnded
    | Notice
    | NodeChanged
    | Traceback
)
Emit = Callable[[Event], None]
