"""Follows a run's journals while workers answer: progress as events, and how far each benchmark is."""

from __future__ import annotations

import time
from pathlib import Path

from .answering.book import Book, Count
from .answering.journal import Phase
from .answering.work import Assignment, ItemList, Work
from .display.events import Emit, PhaseStarted, Progress, WorkerPhase

BY_BENCHMARKS = ("building the questions", "answering")      # a worker that ended while it said so was ended by a benchmark, not by the model


class Watch:
    """Turns what the journals say into events. A benchmark is counted again only when something of it is new.

    It alone reads the journals: 50,000 answers are a second's work. What they say as of the last ``tick`` is its ``book``.
    """

    def __init__(self, run_root: Path, work: Work, emit: Emit) -> None:
        self._root, self._work, self._emit = run_root, work, emit
        self.book = Book.of(run_root, work)
        self._items: dict[str, tuple[int, ItemList]] = {}      # with the file's time of change
        self._counts: dict[str, Count] = {}
        self._phases: dict[str, str] = {}      # the last of each worker of this run
        self._began = time.time()
        self._answering = False

    @property
    def answered(self) -> int:
        """Questions with an outcome, in this launch or before."""
        return sum(count.done for count in self._counts.values())

    @property
    def blames_a_benchmark(self) -> bool:
        """Whether what a worker last said it was at can go wrong because of a benchmark."""
        return any(phase in BY_BENCHMARKS for phase in self._phases.values())

    def unanswered(self, settled: bool = False) -> set[str]:
        """The benchmarks with a question that has no outcome; with ``settled``, that is still to be asked in this stage."""
        known = self.book.settled if settled else self.book.__contains__
        lists = {key: items for key, (_, items) in self._items.items()}
        return {a.key for a in self._work.benchmarks if a.key not in lists or not all(known((a.key, item)) for item in lists[a.key].ids)}

    def tick(self) -> None:
        """Take in what is new, and say so."""
        changed = set()
        for record in self.book.poll():
            if isinstance(record, Phase):
                if record.at >= self._began:      # the journals also hold those of earlier runs
                    self._phases[record.worker] = record.phase
                self._emit(WorkerPhase(record.worker, record.phase))
                continue
            changed.add(record.benchmark)
            if not self._answering:
                self._answering = True
                self._emit(PhaseStarted("answer"))
        for assignment in self._work.benchmarks:
            if self._listed(assignment) or assignment.key in changed:
                self._count(assignment.key)

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
        if not items.fits(assignment):      # another --limit left it; the first worker writes the right one
            return False
        self._items[assignment.key] = changed, items
        return True

    def _count(self, key: str) -> None:
        if key not in self._items:
            return
        count = self.book.count(self._items[key][1])
        if count != self._counts.get(key):
            self._counts[key] = count
            self._emit(Progress(key, count.done, count.total, count.failed, count.now, count.spent, count.spent_now, count.cost, count.cost_left))
