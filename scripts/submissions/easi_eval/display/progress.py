"""State of the run for a display: takes in events, gives numbers and texts.

Nothing here writes to a terminal.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from ..core.events import (
    BenchmarkScored,
    DataProgress,
    Event,
    PhaseStarted,
    Progress,
    RunStarted,
    WorkerPhase,
)

PHASES = ("prepare", "start", "answer", "score", "collect", "submit")
WINDOW = 120.0  # seconds that a rate looks back
FEWEST = 10  # answers that a rate needs; the window grows until it has them


class Stage(StrEnum):
    """State of a benchmark as shown, until its result has a state of its own."""

    WAITING = "waiting"
    ANSWERING = "generating"
    SCORING = "scoring"
    UNFINISHED = "unfinished"  # answering is over and questions are left
    SKIPPED = "skipped"


def shown(phase: str) -> str:
    """Return the phase of a worker as it is shown; journals name it as earlier versions did."""
    return Stage.ANSWERING if phase == "answering" else phase


class Rate:
    """Growth per second of a counter over the recent past, from timed samples."""

    def __init__(self, began: float, count: float = 0) -> None:
        self._samples: deque[tuple[float, float]] = deque([(began, count)])

    def add(self, now: float, count: float) -> None:
        """Add a sample and drop those outside the window.

        The window is ``WINDOW`` seconds, and longer if fewer than ``FEWEST`` were counted in it.
        """
        self._samples.append((now, count))
        while (
            len(self._samples) > 2
            and self._samples[1][0] < now - WINDOW
            and count - self._samples[1][1] >= FEWEST
        ):
            self._samples.popleft()

    def at(self, now: float) -> float | None:
        """The rate at ``now``, or None until something was counted.

        It falls while the counter does not grow.
        """
        began, first = self._samples[0]
        answers = self._samples[-1][1] - first
        return answers / (now - began) if answers > 0 and now > began else None


@dataclass
class Row:
    """One benchmark in the table.

    Attributes:
        total: Number of questions, or None if they are not known yet.
        now: Questions with an outcome of this launch.
        state: State of its result, or "skipped"; "" before.
        rate: Outcomes per second, from the first outcome of this launch on.
        counted: The latest progress event.
    """

    key: str
    title: str
    done: int = 0
    total: int | None = None
    failed: int = 0
    now: int = 0
    state: str = ""
    score: float | None = None
    reason: str = ""
    rate: Rate | None = None
    counted: Progress | None = None

    @property
    def left(self) -> int:
        """Questions without an outcome; 0 if the benchmark is over or its questions are unknown."""
        return 0 if self.state or self.total is None else self.total - self.done


class RunView:
    """The state of the run, from the events so far.

    Args:
        clock: Returns the time in seconds; only differences are used.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.began = clock()
        self.started: RunStarted | None = None
        self.phase, self.detail = "", ""
        self.phases_seen: list[str] = []
        self.rows: dict[str, Row] = {}
        self.workers: dict[str, str] = {}
        self.data: dict[str, DataProgress] = {}  # what is being fetched now
        # Seconds of answering per second, of all workers together.
        self.effort = Rate(self.began)
        self.gpus = ""
        self.is_stopping = False
        self._last_news = self.began
        self._asked: float | None = None  # when the first worker of this launch began to answer

    def on(self, event: Event) -> None:
        """Take in one event."""
        now = self._clock()
        match event:
            case RunStarted():
                self.started = event
                skipped = dict(event.skipped)
                for key, title in event.benchmarks:
                    self.rows[key] = Row(
                        key,
                        title,
                        state=Stage.SKIPPED if key in skipped else "",
                        reason=skipped.get(key, ""),
                    )
            case PhaseStarted(phase, detail):
                self.phase, self.detail = phase, detail
                if phase not in self.phases_seen:
                    self.phases_seen.append(phase)
                if phase != "prepare":
                    self.data.clear()
                if phase == "start":
                    self._asked = None
                if phase == "answer":
                    self._begin(now)
            case DataProgress(what, done, total):
                self.data[what] = event
                if total is not None and done >= total:
                    del self.data[what]
            case WorkerPhase(worker, phase):
                self.workers[worker] = shown(phase)
                if phase == "answering" and self._asked is None:
                    self._asked = now
            case Progress(key, done, total, failed, answered_now):
                row = self.row(key)
                # No event "answer" comes after a restart of the workers: their first answer
                # begins the phase.
                if self.phase == "start" and answered_now > row.now:
                    self.phase, self.detail = "answer", ""
                    self._begin(now)
                row.counted = event
                # Workers come to this benchmark from another one, so its first answer is timed from
                # the last news of any benchmark.
                if row.rate is None and answered_now:
                    row.rate = Rate(self._last_news, 0)
                row.done, row.total, row.failed, row.now = done, total, failed, answered_now
                if row.rate:
                    row.rate.add(now, answered_now)
                self.effort.add(now, self._spent())
                self._last_news = now
            case BenchmarkScored(key, score, state, reason):
                row = self.row(key)
                row.score, row.state, row.reason = score, state, reason

    def _begin(self, now: float) -> None:
        """Restart the rates from the time when a worker began to answer.

        The phase "answer" starts later than that, and the first answer takes time too.
        """
        since = now if self._asked is None else self._asked
        self.effort = Rate(since, self._spent())
        self._last_news = since

    def row(self, key: str) -> Row:
        """The row of a benchmark, made if no event named it before."""
        return self.rows.setdefault(key, Row(key, key))

    def title(self, key: str) -> str:
        """The title of a benchmark, or its key if the title is unknown."""
        return self.rows[key].title if key in self.rows else key

    def stage(self, row: Row) -> str:
        """The state of a benchmark as shown: that of its result, else a ``Stage``."""
        if row.state:
            return row.state
        if row.total is not None and row.done >= row.total:
            return Stage.SCORING
        if self.phase in ("score", "collect", "submit"):
            return Stage.UNFINISHED
        return Stage.ANSWERING if row.now else Stage.WAITING

    @property
    def elapsed(self) -> float:
        """Seconds since the start of the run."""
        return self._clock() - self.began

    def rate_of(self, row: Row) -> float | None:
        """Outcomes per second of a benchmark; None unless it is being answered."""
        return (
            row.rate.at(self._clock()) if row.rate and self.stage(row) == Stage.ANSWERING else None
        )

    def eta_of(self, row: Row) -> float | None:
        """Seconds until a benchmark is answered at its recent rate; None if unknown."""
        rate = self.rate_of(row)
        return row.left / rate if rate else None

    @property
    def totals(self) -> tuple[int, int, int]:
        """Done, total and failed over all benchmarks whose questions are known.

        Questions that will not be asked, because their benchmark is over, are not counted.
        """
        known = [row for row in self.rows.values() if row.total is not None]
        done = sum(row.done for row in known)
        return done, done + self.left, sum(row.failed for row in known)

    @property
    def left(self) -> int:
        """Questions of all benchmarks without an outcome."""
        return sum(row.left for row in self.rows.values())

    @property
    def all_eta(self) -> float | None:
        """Seconds until all benchmarks are answered; None if unknown or not in phase "answer".

        It is unknown until this launch has ``FEWEST`` answers: the first ones take longest.

        The estimated work of what is left divided by the recent effort (seconds of answering per
        second, of all workers together). The number of questions left divided by those answered
        per second would be wrong by factors, because a video may take ten times as long as an
        image, and one kind is answered before the other.
        """
        if sum(row.now for row in self.rows.values()) < FEWEST:
            return None
        work, effort = self._work_left(), self.effort.at(self._clock())
        return work / effort if self.phase == "answer" and work and effort else None

    @property
    def all_rate(self) -> float | None:
        """Outcomes per second to be expected on average of what is left; None like ``all_eta``.

        It belongs to the time left: questions left / ``all_rate`` = ``all_eta``. The rate of the
        recent past is shown for each benchmark, where it gives that benchmark's time left.
        """
        return self.left / self.all_eta if self.all_eta else None

    def _spent(self) -> float:
        """Seconds spent on answers of this launch, summed over benchmarks and workers."""
        return sum(row.counted.spent_now for row in self.rows.values() if row.counted)

    def _work_left(self) -> float | None:
        """Seconds that one worker would take for everything left; None if unknown.

        The expected cost of each benchmark is scaled by its own measured time per cost. A benchmark
        with fewer than ``FEWEST`` outcomes uses the scale of all benchmarks together.
        """
        known = [row.counted for row in self.rows.values() if row.counted]
        spent, cost = sum(one.spent for one in known), sum(one.cost for one in known)
        if not spent or not cost:
            return None
        usual = spent / cost
        return sum(
            row.counted.cost_left
            * (
                row.counted.spent / row.counted.cost
                if row.counted.done >= FEWEST and row.counted.cost
                else usual
            )
            for row in self.rows.values()
            if row.counted and row.left
        )

    @property
    def uncounted(self) -> bool:
        """Whether the questions of some benchmark are unknown, so that totals are too low."""
        return any(row.total is None and not row.state for row in self.rows.values())

    @property
    def stopping(self) -> str:
        """What is said after an interrupt."""
        return "Stopping" + ("; waiting for the workers to end" if self.workers else "")

    @property
    def worker_summary(self) -> str:
        """How many workers are in each phase; those that do not answer are named."""
        counts = Counter(self.workers.values())
        parts: list[str] = []
        for phase, count in counts.most_common():
            names = [worker for worker, its in sorted(self.workers.items()) if its == phase]
            shown = ", ".join(names[:4]) + (", ..." if count > 4 else "")
            parts.append(
                f"{count} {phase}"
                if phase in (Stage.ANSWERING, "done") and len(self.workers) > 1
                else f"{phase} ({shown})"
            )
        return "; ".join(parts)
