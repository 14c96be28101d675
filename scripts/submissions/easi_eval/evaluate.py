"""Carries out a plan: one launch that answers, one process that scores; accepts what they leave, benchmark by benchmark.

Exit codes of the jobs decide nothing: a benchmark is accepted when its files can be read, hold every row of the
dataset and a headline score.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

from . import judging
from .answering.book import Book, Count, pending
from .answering.journal import Phase
from .answering.work import DONE_FILE, Assignment, ItemList, Work
from .backends.base import Backend
from .benchmarks import Benchmark
from .config import RunConfig
from .display.events import (
    BenchmarkScored,
    Emit,
    Notice,
    PhaseStarted,
    Progress,
    WorkerPhase,
)
from .errors import EasiError
from .evidence import Evidence, gather
from .execution import launchers
from .execution.jobs import Job
from .execution.keeper import forget_reasons, gave_up_reasons
from .execution.supervisor import Handle, run_job, start
from .judge_pass import JudgePass
from .judging import Policy
from .model import ModelChoice
from .results import extraction
from .results.report import telling_line
from .state import RunPaths, read_json

TICK = 0.2
BY_BENCHMARKS = ("building the questions", "answering")      # a worker that ended while it said so was ended by a benchmark, not by the model
SCORER_STARTS = 2
HALF_MADE = ("scoring", "scored", "failed.json", "plain", "old")      # what a launch may leave beside a benchmark's folder


@dataclass(frozen=True)
class Verdict:
    """What became of one benchmark: ``evidence`` if it was accepted, else ``reason`` and the log's telling ``line``."""

    key: str
    evidence: Evidence | None
    reason: str = ""
    line: str = ""


@dataclass
class Evaluation:
    """One launch of one plan: what it needs, and the verdicts so far."""

    cfg: RunConfig
    backend: Backend
    model: ModelChoice
    todo: Sequence[Benchmark]
    fingerprints: Mapping[str, str]
    epochs: Mapping[str, int]
    paths: RunPaths
    log: Path
    emit: Emit
    on_verdict: Callable[[Verdict], None]
    on_command: Callable[[str], None]
    verdicts: dict[str, Verdict] = field(default_factory=dict)
    policy: Policy = field(default_factory=lambda: Policy(reads=False))
    scored: Collection[str] = ()        # of ``todo``: those whose accepted result by rules stands and which are only to be judged
    rules: dict[str, Evidence] = field(default_factory=dict)      # as by rules, before anything was said of judging
    answered: int = -1                  # by all workers, when they were last started
    size: int = 0                       # workers of the launch; fewer, with more GPUs each, for what lacked memory (``stage``)
    stage: int = 0
    alone: list[Benchmark] | None = None      # those still to be tried in launches of their own, once it came to that
    launched: Sequence[Benchmark] = ()  # what the last launch was for
    whys: dict[str, str] = field(default_factory=dict)      # by benchmark: why the workers of its last launch were given up

    def run(self) -> dict[str, Verdict]:
        """Carry it out; every benchmark of ``todo`` has a verdict afterwards. Processes of ours are gone on any exit."""
        work = self._prepare_work()
        for bench in self.todo:
            if bench.key in self.scored:
                self._give(self._accept(bench, self.paths.output(bench.key), work))
        with ExitStack() as stack:
            judges = JudgePass(
                self.policy, self.backend, self.todo, self.paths, self.rules, start=lambda some: stack.enter_context(self._judge(some)),
                gather=lambda bench, folder: self._gather(bench, folder, work, self.policy.judge),
                give=lambda bench, evidence, line: self._give(Verdict(bench.key, evidence, line=line)),
                say=lambda text: self.emit(Notice(text)))
            if self.cfg.plain:
                self._run_plain(work)
            elif len(self.verdicts) < len(self.todo):
                self._run_shared(work, judges)
            if not self.cfg.plain:
                while judges.tick(self.verdicts):
                    time.sleep(TICK)
        return self.verdicts

    def _prepare_work(self) -> Work:
        """Write ``work.json`` and clear what an interrupted launch left half-made. Answers in the journal stay."""
        assignments = tuple(
            Assignment(bench.key, bench.source(self.backend.name).task, self.epochs[bench.key], self.cfg.limit) for bench in self.todo
        )
        self.size = self.cfg.nproc
        work = Work(assignments, dict(self.fingerprints), launch=self._next_launch(), final=self.size == 1 or self.model.served)
        (self.paths.root / DONE_FILE).unlink(missing_ok=True)
        forget_reasons(self.paths.root)
        self.paths.outputs.mkdir(parents=True, exist_ok=True)
        for assignment in assignments:
            for kind in HALF_MADE:
                leftover = self.paths.outputs / f".{assignment.key}.{kind}"
                shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink(missing_ok=True)
        work.save(self.paths.root)
        return work

    def _next_launch(self) -> int:
        try:
            return Work.load(self.paths.root).launch + 1
        except EasiError:      # the first, or a damaged file: any number that no earlier launch had
            return int(time.time())

    # ---- our workers ----------------------------------------------------------------------------------------------

    def _run_shared(self, work: Work, judges: JudgePass) -> None:
        watch = Watch(self.paths.root, work, self.emit)
        with ExitStack() as stack:
            scoring = stack.enter_context(self._score())
            scorers = 1
            answering: Handle | None = None
            over = False
            while True:
                watch.tick()
                self._accept_scored(work, answering)
                judges.tick(self.verdicts)
                if not over and (answering is None or answering.poll() is not None):
                    watch.tick()      # what the workers wrote last
                    job = self._answers_wanted(work, watch)
                    over = job is None
                    if job is not None:
                        answering = stack.enter_context(self._start(job))
                    else:
                        (self.paths.root / DONE_FILE).touch()
                        self.emit(PhaseStarted("score"))
                if scoring.poll() is not None:
                    self._accept_scored(work, answering)
                    if len(self.verdicts) == len(self.todo):
                        break
                    # A scorer that dies costs no answer: the workers go on, and it has another chance when they are done.
                    if scorers < SCORER_STARTS + over:
                        scoring = stack.enter_context(self._score())
                        scorers += 1
                    elif over:
                        break
                time.sleep(TICK)
            tail = [*(answering.outcome().log_tail if answering else ()), *scoring.outcome().log_tail]
        for bench in self.todo:
            if bench.key not in self.verdicts:
                self._give(Verdict(bench.key, None, "scoring ended without a result", telling_line(tail)))

    def _score(self) -> Handle:
        """Start the process that scores what has no verdict yet."""
        left = [bench for bench in self.todo if bench.key not in self.verdicts]
        return self._start(self.backend.score_job(self.cfg, self.model, left, self.paths))

    def _judge(self, some: Sequence[Benchmark]) -> Handle:
        """Start the process that scores these once more, with the judge."""
        self.emit(Notice(f"{self.policy.judge} judges {', '.join(bench.title for bench in some)}"))
        return self._start(self.backend.score_job(self.cfg, self.model, some, self.paths, self.policy.judge))

    def _answers_wanted(self, work: Work, watch: Watch) -> Job | None:
        """The launch for what is unanswered: for all of it as long as that brings something, then once for each benchmark alone.

        On the backends one benchmark that cannot even be read may end a launch for all. What keeps the model from being
        loaded does so in every launch, and is not tried again.
        """
        left = [b for b, a in zip(self.todo, work.benchmarks, strict=True) if pending(self.paths.root, replace(work, benchmarks=(a,)))]
        if left and self.size > 1 and not pending(self.paths.root, replace(work, stage=self.stage), settled=True):
            return self._with_more_memory(work, left)
        self._note_whys(left)
        first, gained, self.answered = self.answered < 0, watch.answered > self.answered, watch.answered
        if left and gained and self.alone is None:
            if not first:
                self.emit(Notice("the workers ended before all was answered; starting them again", "warning"))
            wanted = left
        elif left and (wanted := self._next_alone(left, watch)):
            self.emit(Notice(f"the workers ended before all was answered; now {wanted[0].title} in a launch of its own", "warning"))
        else:
            return None
        return self._launch(wanted)

    def _with_more_memory(self, work: Work, left: Sequence[Benchmark]) -> Job:
        """All that is left lacked memory: half as many workers, so that each has twice the GPUs, down to one with all of them."""
        self.size, self.stage = self.size // 2, self.stage + 1
        replace(work, stage=self.stage, final=self.size == 1).save(self.paths.root)
        self.emit(Notice(f"some questions of {', '.join(bench.title for bench in left)} lacked memory; asked again by fewer workers", "warning"))
        return self._launch(left)

    def _launch(self, wanted: Sequence[Benchmark]) -> Job:
        self.launched = wanted
        forget_reasons(self.paths.root)
        self.emit(PhaseStarted("start", f"{self.size} worker{'s' if self.size > 1 else ''}"))
        return self.backend.answer_job(replace(self.cfg, nproc=self.size), self.model, wanted, self.paths, launchers.free_port())

    def _note_whys(self, left: Sequence[Benchmark]) -> None:
        """Keep the last launch's reasons: the next one has its own."""
        if reasons := gave_up_reasons(self.paths.root):
            self.whys.update({bench.key: "; ".join(reasons) for bench in self.launched if bench in left})

    def _next_alone(self, left: Sequence[Benchmark], watch: Watch) -> list[Benchmark]:
        """The next one to be tried alone, or nothing."""
        if self.alone is None:      # the last launch had all of ``left``
            self.alone = list(left) if len(left) > 1 and watch.blames_a_benchmark else []
        while self.alone:
            bench = self.alone.pop(0)
            if bench in left:
                return [bench]
        return []

    def _start(self, job: Job) -> Handle:
        self._before(job)
        return start(job, self.log)

    def _before(self, job: Job) -> None:
        self.on_command(str(job))
        if job.cwd is not None:
            job.cwd.mkdir(parents=True, exist_ok=True)

    def _accept_scored(self, work: Work, answering: Handle | None) -> None:
        for bench in self.todo:
            if bench.key in self.verdicts:
                continue
            scored, failed = self.paths.outputs / f".{bench.key}.scored", self.paths.outputs / f".{bench.key}.failed.json"
            if scored.is_dir():
                self._give(self._accept(bench, scored, work))
            elif failed.is_file():
                note = read_json(failed)
                told = note if isinstance(note, dict) else {}
                line = self._why_unanswered(bench.key, answering) if told.get("unanswered") and answering else ""
                self._give(Verdict(bench.key, None, str(told.get("error", "scoring failed")), line))

    def _why_unanswered(self, key: str, answering: Handle) -> str:
        """What a keeper noted when it gave its worker up, else the telling line of the log."""
        return self.whys.get(key) or telling_line(answering.outcome().log_tail)

    # ---- the backend's own launch ---------------------------------------------------------------------------------

    def _run_plain(self, work: Work) -> None:
        self.emit(PhaseStarted("answer", "the backend's own launch, benchmark by benchmark"))
        for bench in self.todo:
            folder = self.paths.outputs / f".{bench.key}.plain"
            folder.mkdir(parents=True)
            job = self.backend.plain_job(self.cfg, self.model, bench, folder, launchers.free_port())
            self._before(job)
            outcome = run_job(job, self.log)
            verdict = self._accept(bench, folder, work)
            self._give(verdict if verdict.evidence else replace(verdict, line=telling_line(outcome.log_tail)))

    # ---- verdicts -------------------------------------------------------------------------------------------------

    def _accept(self, bench: Benchmark, folder: Path, work: Work) -> Verdict:
        """Prove what lies in ``folder`` complete, then let it replace ``outputs/<key>`` (if it is not there already) in one step."""
        try:
            evidence = self._read(bench, folder, work)
        except EasiError as error:
            return Verdict(bench.key, None, error.message)
        evidence.save(folder)
        if folder == self.paths.output(bench.key):
            return Verdict(bench.key, evidence)
        final, old = self.paths.output(bench.key), self.paths.outputs / f".{bench.key}.old"
        if final.exists():
            final.rename(old)
        folder.rename(final)
        shutil.rmtree(old, ignore_errors=True)
        return Verdict(bench.key, evidence)

    def _read(self, bench: Benchmark, folder: Path, work: Work) -> Evidence:
        """What lies in ``folder``, with method, rate and what is still to be done. Raises EasiError where it is not complete."""
        judge = self.policy.judge
        if self.cfg.plain and judge:      # the launch itself was told to ask the judge
            try:
                found = self._gather(bench, folder, work, judge)
                plain, score = replace(found.score, unparsed=None), judging.judged_alone(found.score, judge)
            except EasiError as error:
                found = self._gather(bench, folder, work)
                plain, score = found.score, judging.not_judged(found.score, judge, error.message)
        else:
            found = self._gather(bench, folder, work)
            plain, score = found.score, judging.by_rules(self.policy, found.score)
        self.rules[bench.key] = found
        if self.policy.reads:
            extraction.save_entry(folder, extraction.entry(self.policy, plain, score))
        return replace(found, score=score)

    def _gather(self, bench: Benchmark, folder: Path, work: Work, judge: str = "") -> Evidence:
        items, answers = None, []
        if not self.cfg.plain:
            items = ItemList.load(self.paths.root, bench.key)
            book = Book.of(self.paths.root, work)
            book.poll()
            answers = [answer for (key, _), answer in book.answers.items() if key == bench.key]
        return gather(self.cfg, self.backend, bench, folder, self.fingerprints[bench.key], items, answers, judge)

    def _give(self, verdict: Verdict) -> None:
        self.verdicts[verdict.key] = verdict
        self.on_verdict(verdict)
        if verdict.evidence is not None:
            score = verdict.evidence.score
            self.emit(BenchmarkScored(verdict.key, score.reading.overall, str(score.state), score.reason))
        else:
            self.emit(BenchmarkScored(verdict.key, None, "failed", verdict.reason))


class Watch:
    """Turns what the journals say into events. A benchmark is counted again only when something of it is new."""

    def __init__(self, run_root: Path, work: Work, emit: Emit) -> None:
        self._root, self._work, self._emit = run_root, work, emit
        self._book = Book.of(run_root, work)
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

    def tick(self) -> None:
        changed = set()
        for record in self._book.poll():
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
        count = self._book.count(self._items[key][1])
        if count != self._counts.get(key):
            self._counts[key] = count
            self._emit(Progress(key, count.done, count.total, count.failed, count.now, count.spent, count.spent_now, count.cost, count.cost_left))
