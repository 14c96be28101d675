"""Detection of hung workers.

A worker's keeper decides from the worker's journal whether it has been silent for too long.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ..core.errors import EasiError
from ..core.run_folder import RunPaths
from .journal import Answer, Aside, Header, Journal, Leased, Line, Record, Returned, Tail
from .journal_state import InHand
from .work import Key

VARIABLE = "EASI_HANG_SECONDS"
SETTLED = 3  # answers of an attempt after which compilation and warm-up are over
REMEMBERED = 500  # last answers of a benchmark from which its usual time is taken
LOOK_EVERY = 1.0  # seconds between two reads of the journal
# A longer gap between two looks, in seconds, means that the keeper itself did not run: the machine
# slept or the job was suspended.
ASLEEP = 10.0


@dataclass(frozen=True)
class Limits:
    """How long a worker may be silent over the questions it holds.

    Attributes:
        floor: Seconds that are always allowed.
        first: Seconds allowed at the first questions of an attempt or a benchmark, and at a
            question that came back from another worker: a question that was killed as too slow must
            get enough time to finish.
        times: Allowed multiple of the 95th percentile of the benchmark's own times.
    """

    floor: float = 300.0
    first: float = 1800.0
    times: float = 10.0

    @classmethod
    def read(cls, environ: Mapping[str, str]) -> Limits | None:
        """Read ``EASI_HANG_SECONDS``: the floor; ``first`` is six times as long.

        Returns:
            The limits; the default ones if the variable is unset, None (no detection) if it is 0.

        Raises:
            EasiError: The value is not a number.
        """
        text = environ.get(VARIABLE, "")
        if not text:
            return cls()
        try:
            floor = float(text)
        except ValueError as error:
            raise EasiError(
                f"{VARIABLE} is {text!r}",
                hint="write a number of seconds; 0 disables the check",
            ) from error
        return cls(floor, 6 * floor) if floor > 0 else None


class Silence:
    """Watches one attempt of one worker; implements ``keeper.Watcher``.

    Create it before the attempt starts.

    Args:
        run_root: Folder of the run.
        worker: Name of the worker.
        attempt: Number of the attempt.
        limits: How long the worker may be silent.
        clock: Returns the time in seconds; only differences are used.
    """

    def __init__(
        self,
        run_root: Path,
        worker: str,
        attempt: int,
        limits: Limits,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folder, self._worker, self._attempt = RunPaths(run_root).journal, worker, attempt
        self._limits, self._clock = limits, clock
        self._tail = Tail(self._folder, f"{worker}.*.jsonl")
        self._times: dict[str, deque[float]] = {}
        self._own = ""  # name of this attempt's file
        self._header: Header | None = None  # its first line
        self._answers = 0
        self._in_hand = InHand()
        self._back: set[Key] = set()  # questions that came back from another worker
        self._watching = False
        self._read()  # journals of earlier attempts and launches
        self._watching = True
        self._news = self._looked = clock()

    @property
    def pid(self) -> int | None:
        """Process id of the worker, or None before it has begun its journal."""
        return self._header.pid if self._header else None

    def hung(self) -> str:
        """The reason why the worker is considered hung, or ""."""
        now = self._clock()
        if now - self._looked < LOOK_EVERY:
            return ""
        # In such a gap the worker did not run either, or waited for the same file system.
        if now - self._looked > ASLEEP:
            self._news += now - self._looked
        self._looked = now
        if self._read():
            self._news = now
        limit = self._limit()
        if limit is None or now - self._news <= limit:
            return ""
        benchmark, item = self._in_hand.at[0]
        return (
            f"no answer to {benchmark} {item} for {now - self._news:.0f} s (limit: {limit:.0f} s)"
        )

    def note(self) -> None:
        """Record in the journal which questions the worker holds, before it is killed."""
        assert self._header is not None
        with Journal(self._folder, self._worker, self._attempt, self._header.launch) as journal:
            journal.hung(self._in_hand.at, self._clock() - self._news)

    def _limit(self) -> float | None:
        """Seconds of silence that are allowed now; None while the worker holds no question."""
        step = self._in_hand.at
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
        """Read the worker's journals; whether this attempt has written something.

        A damaged journal is ignored here, because the worker itself reports it.
        """
        try:
            return self._take([*self._tail.poll()])
        except EasiError:
            return False

    def _take(self, lines: list[Line]) -> bool:
        """Take in lines; whether any was written by this attempt."""
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
                self._in_hand.end(record.key)
            case Leased():
                self._in_hand.lease(record)
                if record.back:
                    self._back.update(record.keys)
            case Returned(keys) | Aside(keys):
                for key in keys:
                    self._in_hand.end(key)
