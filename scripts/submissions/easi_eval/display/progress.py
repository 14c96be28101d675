"""What a display knows about the run: events in, numbers and words out. Nothing here touches a terminal."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from .events import (
    BenchmarkScored,
    DataProgress,
    Event,
    PhaseStarted,
    Progress,
    RunStarted,
    WorkerPhase,
)

PHASES = ("prepare", "start", "answer", "score", "collect", "submit")
WINDOW = 120.0  # seconds that a rate looks back ...
FEWEST = 10  # ... and further if fewer answers came in them


class Stage(StrEnum):
    """Where a benchmark is, as shown. Once scored, the state of its score takes over."""

    WAITING = "waiting"
    ANSWERING = "answering"
    SCORING = "scoring"
    UNFINISHED = "unfinished"  # answering is over and questions are left
    SKIPPED = "skipped"


class Rate:
    """Answers (or something else that grows) per second over the recent past, from counts with the time they were seen."""

    def __init__(self, began: float, count: float = 0) -> None:
        self._samples: deque[tuple[float, float]] = deque([(began, count)])

    def add(self, now: float, count: float) -> None:
        self._samples.append((now, count))
        while (
            len(self._samples) > 2
            and self._samples[1][0] < now - WINDOW
            and count - self._samples[1][1] >= FEWEST
        ):
            self._samples.popleft()

    def at(self, now: float) -> float | None:
        """None until something was counted. Falls while nothing comes."""
        began, first = self._samples[0]
        answers = self._samples[-1][1] - first
        return answers / (now - began) if answers > 0 and now > began else None


@dataclass
class Row:
    """One benchmark. ``total`` None: its questions are not known yet."""

    key: str
    title: str
    done: int = 0
    total: int | None = None
    failed: int = 0
    now: int = 0
    state: str = ""  # from its score or its skip; "" before
    score: float | None = None
    reason: str = ""
    rate: Rate | None = None  # from its first answer of this run on
    counted: Progress | None = None

    @property
    def left(self) -> int:
        return 0 if self.state or self.total is None else self.total - self.done


class RunView:
    """The run as far as events have told. ``clock`` gives seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.began = clock()
        self.started: RunStarted | None = None
        self.phase, self.detail = "", ""
        self.phases_seen: list[str] = []
        self.rows: dict[str, Row] = {}
        self.workers: dict[str, str] = {}
        self.data: dict[str, DataProgress] = {}  # what is being fetched now
        self.rate = Rate(self.began)
        self.effort = Rate(self.began)  # of all workers together: seconds of answering per second
        self._last_news = self.began
        self._asked: float | None = None  # when the first worker of this launch began to answer

    def on(self, event: Event) -> None:
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
                self.workers[worker] = phase
                if phase == "answering" and self._asked is None:
                    self._asked = now
            case Progress(key, done, total, failed, answered_now):
                row = self.row(key)
                if (
                    self.phase == "start" and answered_now > row.now
                ):  # workers that were started once more answer
                    self.phase, self.detail = "answer", ""
                    self._begin(now)
                row.counted = event
                if (
                    row.rate is None and answered_now
                ):  # it begins: since the last news of any benchmark, not since its own
                    row.rate = Rate(self._last_news, 0)
                row.done, row.total, row.failed, row.now = done, total, failed, answered_now
                if row.rate:
                    row.rate.add(now, answered_now)
                self.rate.add(now, sum(other.now for other in self.rows.values()))
                self.effort.add(now, self._spent())
                self._last_news = now
            case BenchmarkScored(key, score, state, reason):
                row = self.row(key)
                row.score, row.state, row.reason = score, state, reason

    def _begin(self, now: float) -> None:
        """Rates count from when the first question was asked: the first answer took its time too."""
        since = now if self._asked is None else self._asked
        self.rate = Rate(since, sum(row.now for row in self.rows.values()))
        self.effort = Rate(since, self._spent())
        self._last_news = since

    def row(self, key: str) -> Row:
        return self.rows.setdefault(key, Row(key, key))

    def title(self, key: str) -> str:
        return self.rows[key].title if key in self.rows else key

    def stage(self, row: Row) -> str:
        if row.state:
            return row.state
        if row.total is not None and row.done >= row.total:
            return Stage.SCORING
        if self.phase in ("score", "collect", "submit"):
            return Stage.UNFINISHED
        return Stage.ANSWERING if row.now else Stage.WAITING

    @property
    def elapsed(self) -> float:
        return self._clock() - self.began

    def rate_of(self, row: Row) -> float | None:
        return (
            row.rate.at(self._clock()) if row.rate and self.stage(row) == Stage.ANSWERING else None
        )

    def eta_of(self, row: Row) -> float | None:
        """Seconds until the last question of this benchmark, at its own recent rate."""
        rate = self.rate_of(row)
        return row.left / rate if rate else None

    @property
    def totals(self) -> tuple[int, int, int]:
        """Done, total and failed over all benchmarks whose questions are known."""
        known = [row for row in self.rows.values() if row.total is not None]
        return (
            sum(r.done for r in known),
            sum(r.total or 0 for r in known),
            sum(r.failed for r in known),
        )

    @property
    def all_rate(self) -> float | None:
        return self.rate.at(self._clock()) if self.phase == "answer" else None

    @property
    def all_eta(self) -> float | None:
        """Seconds for what is left of all benchmarks: what it should take by the times measured so far, at the effort of late.

        Where no times are known: by numbers of questions, at the recent rate of all.
        """
        rate = self.all_rate
        left = sum(row.left for row in self.rows.values())
        if not rate or not left:
            return None
        work, effort = self._work_left(), self.effort.at(self._clock())
        return work / effort if work and effort else left / rate

    def _spent(self) -> float:
        return sum(row.counted.spent_now for row in self.rows.values() if row.counted)

    def _work_left(self) -> float | None:
        """Seconds of one worker for all that is left; a benchmark with few answers takes what all took for what was expected of them."""
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
        """Whether some benchmark's questions are not known yet: then what is left is more than what is counted."""
        return any(row.total is None and not row.state for row in self.rows.values())

    @property
    def worker_summary(self) -> str:
        """How many workers are in each phase; those that are not answering by name."""
        counts = Counter(self.workers.values())
        parts: list[str] = []
        for phase, count in counts.most_common():
            names = [worker for worker, its in sorted(self.workers.items()) if its == phase]
            shown = ", ".join(names[:4]) + (", ..." if count > 4 else "")
            parts.append(
                f"{count} {phase}"
                if phase in ("answering", "done") and len(self.workers) > 1
                else f"{phase} ({shown})"
            )
        return "; ".join(parts)


def duration(seconds: float) -> str:
    """Two units at most: 8 s, 12 min, 1 h 05 min, 2 d 3 h."""
    whole = max(round(seconds), 0)
    if whole < 90:
        return f"{whole} s"
    minutes = round(whole / 60)
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 24 * 60:
        return f"{minutes // 60} h {minutes % 60:02} min"
    return f"{minutes // (24 * 60)} d {minutes // 60 % 24} h"


def short_duration(seconds: float) -> str:
    """At most six characters: 8 s, 12 min, 1h05m, 2d03h."""
    minutes = round(max(seconds, 0) / 60)
    if minutes < 60:
        return duration(seconds)
    if minutes < 24 * 60:
        return f"{minutes // 60}h{minutes % 60:02}m"
    return f"{minutes // (24 * 60)}d{minutes // 60 % 24:02}h"


def clock_time(seconds: float) -> str:
    """0:03:12"""
    whole = int(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"


def per_time(rate: float | None) -> str:
    """In the unit that gives a number of one or more: 3.1/s, 24/min, 7/h."""
    if not rate:
        return ""
    for factor, unit in ((1, "s"), (60, "min"), (3600, "h")):
        if rate * factor >= 1 or unit == "h":
            value = rate * factor
            return f"{value:.1f}/{unit}" if value < 10 else f"{value:.0f}/{unit}"
    raise AssertionError("the last unit always returns")


def size(count: float) -> str:
    """Bytes in decimal units, as downloads are counted."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            return f"{count:.0f} {unit}" if count >= 100 or unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    raise AssertionError("the last unit always returns")


def percent(done: int, total: int) -> str:
    """Rounded down: 100 % is said of nothing that is not whole."""
    return f"{100 * done // total} %" if total else ""
