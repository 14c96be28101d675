"""Follows a run's journals while workers answer: progress as events, and how far each benchmark is."""

from __future__ import annotations

import time
from pathlib import Path

from .answering.book import Book, Count
from .answering.complaints import ERRORS_FOLDER
from .answering.journal import Answer, Phase, Returned
from .answering.work import Assignment, ItemList, Work
from .display.events import Emit, Notice, PhaseStarted, Progress, Traceback, WorkerPhase
from .execution.keeper import End, ends
from .giving_up import (
    Answered,
    Decision,
    Died,
    Event,
    Listed,
    LoadFailed,
    Raised,
    Started,
    decide,
    lacked_memory,
    like,
)

NO_EXCEPTION = ("Hung:", "Killed:", "taken over:")  # reasons of ours that no question raised
MOST_ERRORS = (
    10  # different errors of questions are shown at once; the summary and the log have all
)
BY_BENCHMARKS = (
    "building the questions",
    "answering",
)  # a worker that ended while it said so was ended by a benchmark, not by the model


class Watch:
    """Turns what the journals say into events. A benchmark is counted again only when something of it is new.

    It alone reads the journals: 50,000 answers are a second's work. What they say as of the last ``tick`` is its ``book``.
    """

    def __init__(self, run_root: Path, work: Work, emit: Emit, verbose: bool = False) -> None:
        self._root, self._work, self._emit = run_root, work, emit
        self.book = Book.of(run_root, work)
        self._items: dict[str, tuple[int, ItemList]] = {}  # with the file's time of change
        self._counts: dict[str, Count] = {}
        self._phases: dict[str, str] = {}  # the last of each worker of this run
        self._began = time.time()
        self._answering = False
        self._events: list[
            Event
        ] = []  # of this run, as far as they may lead to giving something up
        self._told: set[str] = set()  # benchmarks with an answer of this run
        self._shown: set[str] = set()  # errors of questions
        self._ends: list[End] = []  # of this launch's workers
        self._traces: set[str] | None = set() if verbose else None  # tracebacks that were shown

    @property
    def answered(self) -> int:
        """Questions with an outcome, in this launch or before."""
        return sum(count.done for count in self._counts.values())

    @property
    def blames_a_benchmark(self) -> bool:
        """Whether what a worker last said it was at can go wrong because of a benchmark."""
        return any(phase in BY_BENCHMARKS for phase in self._phases.values())

    @property
    def lacked_memory(self) -> bool:
        """Whether no worker of the last launch had the memory to load the model."""
        return lacked_memory(self._events)

    def started(self, workers: int) -> None:
        """A launch of so many workers begins."""
        self._ends = []
        self._events.append(Started(workers))

    def decide(self) -> Decision:
        """What is to be given up after what has happened so far."""
        return decide(self._events)

    def unanswered(self, settled: bool = False) -> set[str]:
        """The benchmarks with a question that has no outcome; with ``settled``, that is still to be asked in this stage."""
        known = self.book.settled if settled else self.book.__contains__
        lists = {key: items for key, (_, items) in self._items.items()}
        return {
            a.key
            for a in self._work.benchmarks
            if a.key not in lists or not all(known((a.key, item)) for item in lists[a.key].ids)
        }

    def tick(self) -> None:
        """Take in what is new, and say so."""
        ended = ends(
            self._root
        )  # before the journals, which then hold all that those workers wrote
        changed = set()
        for record in self.book.poll():
            if isinstance(record, Phase):
                if record.at >= self._began:  # the journals also hold those of earlier runs
                    self._phases[record.worker] = record.phase
                self._emit(WorkerPhase(record.worker, record.phase))
                continue
            self._note(record)
            if isinstance(record, Returned):
                continue
            changed.add(record.benchmark)
            if not self._answering:
                self._answering = True
                self._emit(PhaseStarted("answer"))
        for assignment in self._work.benchmarks:
            if self._listed(assignment) or assignment.key in changed:
                self._count(assignment.key)
        self._note_ends(ended)
        self._show_traces()

    def _show_traces(self) -> None:
        if self._traces is None:
            return
        for path in sorted((self._root / ERRORS_FOLDER).glob("*.txt")):
            text = path.read_text(encoding="utf-8")
            if text and path.name not in self._traces:
                self._traces.add(path.name)
                self._emit(Traceback(text.rstrip()))

    def _note(self, record: Answer | Returned) -> None:
        """Of an outcome of this launch, what may lead to giving something up; the first error of its kind is shown."""
        if isinstance(record, Answer) and record.failure is None:
            if record.benchmark not in self._told:
                self._told.add(record.benchmark)
                self._events.append(Answered(record.benchmark))
            return
        keys, error = (
            ([record.key], record.failure or "")
            if isinstance(record, Answer)
            else (record.keys, record.reason)
        )
        if error.startswith(NO_EXCEPTION):
            return
        for benchmark, item in keys:
            if benchmark not in self._told:
                self._events.append(Raised(benchmark, item, error))
            if like(error) not in self._shown and len(self._shown) < MOST_ERRORS:
                self._shown.add(like(error))
                self._emit(Notice(f"{benchmark} {item} raised {error}", "warning"))

    def _note_ends(self, found: list[End]) -> None:
        """Show how workers ended, and what they ended over."""
        for end in (end for end in found if end not in self._ends):
            self._ends.append(end)
            self._emit(Notice(end.said, "warning"))
            attempt = self.book.attempt(end.worker, end.began)
            if attempt is not None and attempt.at:
                self._events.append(Died(attempt.at[0][0], end.how, end.line))
            elif attempt is None or attempt.phase not in (*BY_BENCHMARKS, "done"):
                self._events.append(LoadFailed(end.worker, end.how, end.line))

    def _listed(self, assignment: Assignment) -> bool:
        """Read the benchmark's list of questions if it is new; False if nothing changed."""
        path = ItemList.path(self._root, assignment.key)
        try:
            changed = path.stat().st_mtime_ns
        except FileNotFoundError:
            return False
        if changed == self._items.get(assignment.key, (0,))[0]:
            return False
        items = ItemList.load(self._root, assignment.key)
        if not items.fits(
            assignment
        ):  # another --limit left it; the first worker writes the right one
            return False
        if assignment.key not in self._items:
            found = (self.book.get((items.key, item)) for item in items.ids)
            left = sum(answer is None or answer.failure is not None for answer in found)
            self._events.append(Listed(items.key, len(items.ids), left))
        self._items[assignment.key] = changed, items
        return True

    def _count(self, key: str) -> None:
        if key not in self._items:
            return
        count = self.book.count(self._items[key][1])
        if count != self._counts.get(key):
            self._counts[key] = count
            self._emit(
                Progress(
                    key,
                    count.done,
                    count.total,
                    count.failed,
                    count.now,
                    count.spent,
                    count.spent_now,
                    count.cost,
                    count.cost_left,
                )
            )
