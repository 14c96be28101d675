"""Whether a worker has been silent for too long over what it has in hand; judged from its journal, by its keeper."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ..errors import EasiError
from .book import Begun
from .journal import Answer, Aside, Header, Journal, Leased, Line, Record, Returned, Tail
from .work import JOURNAL_FOLDER, Key

VARIABLE = "EASI_HANG_SECONDS"
SETTLED = 3  # answers of an attempt after which what it compiles and warms up is behind it
REMEMBERED = 500  # answers of a benchmark that its usual time is taken from
LOOK_EVERY = 1.0
ASLEEP = 10.0  # seconds between two looks after which the keeper itself did not run (its machine slept, its job was suspended)


@dataclass(frozen=True)
class Limits:
    """A worker may be silent for ``times`` x the 95th percentile of the benchmark's own times, and for ``floor`` seconds
    in any case; for ``first`` seconds over the first questions of an attempt or of a benchmark, and over one that came back:
    what was killed as too slow must have the time to prove that it is only slow.
    """

    floor: float = 300.0
    first: float = 1800.0
    times: float = 10.0

    @classmethod
    def read(cls, environ: Mapping[str, str]) -> Limits | None:
        """``EASI_HANG_SECONDS=FLOOR`` sets the floor, and six times that for the first; 0: nothing is a hang."""
        text = environ.get(VARIABLE, "")
        if not text:
            return cls()
        try:
            floor = float(text)
        except ValueError as error:
            raise EasiError(
                f"{VARIABLE} is {text!r}",
                hint="a number of seconds; 0 never takes a worker for hung",
            ) from error
        return cls(floor, 6 * floor) if floor > 0 else None


class Silence:
    """Watches one attempt of one worker; made before the attempt starts. ``clock`` gives seconds."""

    def __init__(
        self,
        run_root: Path,
        worker: str,
        attempt: int,
        limits: Limits,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folder, self._worker, self._attempt = run_root / JOURNAL_FOLDER, worker, attempt
        self._limits, self._clock = limits, clock
        self._tail = Tail(self._folder, f"{worker}.*.jsonl")
        self._times: dict[str, deque[float]] = {}
        self._own = ""  # this attempt's file ...
        self._header: Header | None = None  # ... and its beginning
        self._answers = 0
        self._begun = Begun()
        self._back: set[Key] = set()  # questions that came back from another worker
        self._watching = False
        self._read()  # of earlier attempts and launches
        self._watching = True
        self._news = self._looked = clock()

    @property
    def pid(self) -> int | None:
        """Of the worker, once it has begun its journal."""
        return self._header.pid if self._header else None

    def hung(self) -> str:
        """Why the worker is taken for hung, or ""."""
        now = self._clock()
        if now - self._looked < LOOK_EVERY:
            return ""
        if now - self._looked > ASLEEP:  # nor did the worker, or it waited for the same file system
            self._news += now - self._looked
        self._looked = now
        if self._read():
            self._news = now
        limit = self._limit()
        if limit is None or now - self._news <= limit:
            return ""
        benchmark, item = self._begun.at[0]
        return f"no answer to {benchmark} {item} for {now - self._news:.0f} s (longest wait: {limit:.0f} s)"

    def note(self) -> None:
        """Put on record what the worker has in hand, before it is killed for it."""
        assert self._header is not None
        with Journal(self._folder, self._worker, self._attempt, self._header.launch) as journal:
            journal.hung(self._begun.at, self._clock() - self._news)

    def _limit(self) -> float | None:
        """Seconds of silence that are still allowed; None while it has nothing in hand."""
        step = self._begun.at
        if not step:
            return None
        times = sorted(self._times.get(step[0][0], ()))
        usual = (
            self._limits.times * times[int(0.95 * (len(times) - 1))] * len(step) if times else 0.0
        )
        patient = (
            self._answers < SETTLED
            or len(times) < SETTLED
            or any(key in self._back for key in step)
        )
        return max(usual, self._limits.first if patient else self._limits.floor)

    def _read(self) -> bool:
        """Whether this attempt has written something. A damaged journal is the worker's to complain about."""
        try:
            return self._take(self._tail.poll())
        except EasiError:
            return False

    def _take(self, lines: list[Line]) -> bool:
        """Whether anything of it is this attempt's."""
        own = False
        for line in lines:
            record = line.record
            if isinstance(record, Answer) and record.failure is None:
                self._times.setdefault(record.benchmark, deque(maxlen=REMEMBERED)).append(
                    record.seconds
                )
            if isinstance(record, Header) and self._watching and record.attempt == self._attempt:
                self._own, self._header = line.file, record
            if line.file == self._own:
                self._follow(record)
                own = True
        return own

    def _follow(self, record: Record) -> None:
        match record:
            case Answer():
                self._answers += 1
                self._begun.end(record.key)
            case Leased():
                self._begun.lease(record)
                if record.back:
                    self._back.update(record.keys)
            case Returned(keys) | Aside(keys):
                for key in keys:
                    self._begun.end(key)
