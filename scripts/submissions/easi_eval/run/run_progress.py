"""Read a run's journals: what is left to ask, and progress and events while workers answer."""

from __future__ import annotations

import time
from pathlib import Path
from statistics import fmean

from ..benchmarks import Benchmark
from ..config import RunConfig
from ..core.events import Emit, Notice, PhaseStarted, Progress, Traceback, WorkerPhase
from ..core.run_folder import RunPaths
from ..engine.giving_up import (
    Answered,
    Decision,
    Died,
    Event,
    Joined,
    Listed,
    LoadFailed,
    Raised,
    Started,
    decide,
    lacked_memory,
    like,
)
from ..engine.journal import SERVERS_GONE, Answer, Phase, Returned
from ..engine.journal_state import Count, JournalState, pending
from ..engine.processes.worker_ends import End, read_ends
from ..engine.work import Assignment, ItemList, Work
from .plan import Plan

# Prefixes of reasons that this program records itself; the question raised no exception.
NO_EXCEPTION = ("Hung:", "Killed:", "taken over:")
# Different errors of questions that are shown at once; the summary and the log have all.
MOST_ERRORS = 10
# If a worker ends in one of these phases, the cause is a benchmark, not loading the model.
BY_BENCHMARKS = ("building the questions", "answering")


def has_unanswered(cfg: RunConfig, plan: Plan) -> bool:
    """Return whether the model has questions left to answer."""
    if cfg.plain or not plan.todo:
        return bool(plan.todo)
    return pending(plan.paths.root, Work(plan.assignments(cfg.limit)))


def answers_kept(cfg: RunConfig, plan: Plan) -> int:
    """Return how many questions of the plan have an answer that a later launch will use."""
    return 0 if cfg.plain else len(_kept(_journals(cfg, plan)))


def _journals(cfg: RunConfig, plan: Plan) -> JournalState:
    work = Work(plan.assignments(cfg.limit), plan.fingerprints)
    state = JournalState.of(plan.paths.root, work)
    state.poll()
    return state


def _kept(state: JournalState) -> list[Answer]:
    return [answer for answer in state.answers.values() if answer.failure is None]


def count_planned(cfg: RunConfig, bench: Benchmark) -> int | None:
    """Return the questions of a benchmark, at most ``--limit`` of each task; None: not known."""
    source = bench.source(cfg.backend)
    if cfg.limit is None or source.questions is None:
        return source.questions
    return min(source.questions, cfg.limit * len(source.tasks))


def forecast_seconds(cfg: RunConfig, plan: Plan) -> float | None:
    """Return how long the run's open questions may take; None if that cannot be told.

    By the mean seconds of the answers that are there: of the same benchmark, or of all of them for
    a benchmark without any. A server has many questions open, so the clock's time counts there.
    """
    counts = {bench.key: count_planned(cfg, bench) for bench in plan.benchmarks}
    state = _journals(cfg, plan)
    took: dict[str, list[float]] = {key: [] for key in counts}
    for answer in _kept(state):
        took[answer.benchmark].append(answer.seconds)
    if plan.model.served:
        clock = {key: state.answering_time(key) or 0.0 for key in counts}
        took = {key: [clock[key] / len(each)] * len(each) for key, each in took.items() if each}
    known = [seconds for each in took.values() for seconds in each]
    if cfg.plain or not known or not all(counts.values()):
        return None
    left = {key: max(0, (count or 0) - len(took.get(key, ()))) for key, count in counts.items()}
    seconds = sum(left[key] * fmean(took.get(key) or known) for key in left)
    return seconds if plan.model.served else seconds / cfg.nproc


class Watch:
    """Turns new records of the journals into events for the display and for ``giving_up``.

    Only this class reads the journals, because 50,000 answers take a second. ``state`` is their
    state as of the last ``tick``. A benchmark is counted again only if it has new records.
    """

    def __init__(self, run_root: Path, work: Work, emit: Emit, verbose: bool = False) -> None:
        self._root, self._work, self._emit = run_root, work, emit
        self.state = JournalState.of(run_root, work)
        self._items: dict[str, tuple[int, ItemList]] = {}  # with the file's modification time
        self._counts: dict[str, Count] = {}
        self._phases: dict[str, str] = {}  # the last phase of each worker of this run
        self._began = time.time()
        self._answering = False
        self._events: list[Event] = []  # input of ``giving_up``
        self._told: set[str] = set()  # benchmarks with an answer in this run
        self._shown: set[str] = set()  # errors that were shown, masked by ``like``
        self._ends: list[End] = []  # of this launch's workers
        self._traces: set[str] | None = set() if verbose else None  # tracebacks that were shown

    @property
    def answered(self) -> int:
        """Number of questions with an outcome, in this launch or before."""
        return sum(count.done for count in self._counts.values())

    @property
    def servers_gone(self) -> bool:
        """Whether a worker ended because no server answers any more."""
        return SERVERS_GONE in self._phases.values()

    @property
    def blames_a_benchmark(self) -> bool:
        """Whether the last phase of some worker can fail because of a benchmark."""
        return any(phase in BY_BENCHMARKS for phase in self._phases.values())

    @property
    def lacked_memory(self) -> bool:
        """Whether every worker of the last launch lacked the memory to load the model."""
        return lacked_memory(self._events)

    def started(self, workers: int) -> None:
        """Record that a launch with this number of workers begins."""
        self._ends = []
        self._events.append(Started(workers))

    def joined(self, workers: int) -> None:
        """Record that another machine has started workers in this launch."""
        self._events.append(Joined(workers))

    def decide(self) -> Decision:
        """Return what to give up after the events so far."""
        return decide(self._events)

    def unanswered(self, settled: bool = False) -> set[str]:
        """Return the benchmarks with a question that has no outcome.

        With ``settled``, questions that wait for a launch with more memory do not count.
        """
        known = self.state.settled if settled else self.state.__contains__
        lists = {key: items for key, (_, items) in self._items.items()}
        return {
            a.key
            for a in self._work.benchmarks
            if a.key not in lists or not all(known((a.key, item)) for item in lists[a.key].ids)
        }

    def tick(self) -> None:
        """Read new records and emit events for them."""
        # Read before the journals, which then hold everything that these workers wrote.
        ended = read_ends(self._root)
        changed = set()
        for record in self.state.poll():
            if isinstance(record, Phase):
                # The journals also hold the phases of earlier runs.
                if record.at >= self._began:
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
        for path in sorted(RunPaths(self._root).errors.glob("*.txt")):
            text = path.read_text(encoding="utf-8")
            if text and path.name not in self._traces:
                self._traces.add(path.name)
                self._emit(Traceback(text.rstrip()))

    def _note(self, record: Answer | Returned) -> None:
        """Record an outcome that may lead to giving up, and show the first error of each kind."""
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
        """Show how workers ended, and record what they were doing at that time."""
        for end in (end for end in found if end not in self._ends):
            self._ends.append(end)
            self._emit(Notice(end.text, "warning"))
            attempt = self.state.attempt(end.worker, end.began)
            if attempt is not None and attempt.at:
                self._events.append(Died(attempt.at[0][0], end.how, end.line))
            elif attempt is None or attempt.phase not in (*BY_BENCHMARKS, "done"):
                self._events.append(LoadFailed(end.worker, end.how, end.line))

    def _listed(self, assignment: Assignment) -> bool:
        """Read the benchmark's list of questions if it has changed; False if it has not."""
        path = RunPaths(self._root).item_list(assignment.key)
        try:
            changed = path.stat().st_mtime_ns
        except FileNotFoundError:
            return False
        if changed == self._items.get(assignment.key, (0,))[0]:
            return False
        items = ItemList.load(self._root, assignment.key)
        # A list made under another --limit; the first worker replaces it.
        if not items.fits(assignment):
            return False
        if assignment.key not in self._items:
            found = (self.state.get((items.key, item)) for item in items.ids)
            left = sum(answer is None or answer.failure is not None for answer in found)
            self._events.append(Listed(items.key, len(items.ids), left))
        self._items[assignment.key] = changed, items
        return True

    def _count(self, key: str) -> None:
        if key not in self._items:
            return
        count = self.state.count(self._items[key][1])
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
