"""Carry out a plan: one launch answers all questions, one process scores, results are accepted.

Exit codes of the processes do not decide. A benchmark is accepted if its files can be read and hold
every row of the dataset and a headline score.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

from ..backends.base import Backend
from ..backends.evidence import Evidence, gather
from ..benchmarks import Benchmark
from ..config import RunConfig
from ..core.atomic_files import read_json
from ..core.errors import EasiError
from ..core.events import BenchmarkScored, Emit, Notice, PhaseStarted
from ..core.libraries import mixed
from ..core.model import ModelChoice
from ..core.run_folder import RunPaths
from ..engine.giving_up import Reason
from ..engine.processes import launchers
from ..engine.processes.jobs import Job
from ..engine.processes.supervisor import Handle, run_job, start
from ..engine.processes.worker_ends import forget_ends, gave_up_reasons
from ..engine.work import DONE_FILE, SET_ASIDE_FILE, Assignment, ItemList, SetAside, Work
from ..engine.worker_errors import ERRORS_FOLDER
from ..scores import extraction, judging
from ..scores.comparability import NOTE
from ..scores.data_check import of_count, other_count
from ..scores.judging import Policy
from ..scores.report import telling_line
from .judge_pass import JudgePass
from .relaunch import Launch, Launches, Standing
from .run_progress import Watch

TICK = 0.2
SCORER_STARTS = 2
# Suffixes of what an interrupted launch may leave beside a benchmark's folder.
HALF_MADE = ("scoring", "scored", "failed.json", "plain", "old")


@dataclass(frozen=True)
class Verdict:
    """The result for one benchmark.

    Attributes:
        key: The benchmark.
        evidence: Its numbers and file digests if it was accepted, else None.
        reason: Why it was not accepted.
        line: The most informative line of the log, for a benchmark that was not accepted.
    """

    key: str
    evidence: Evidence | None
    reason: str = ""
    line: str = ""


@dataclass
class Evaluation:
    """The execution of one plan: its inputs and the verdicts so far.

    Attributes:
        cfg: The run.
        backend: The backend that answers and scores.
        model: The model to evaluate.
        todo: Benchmarks to run.
        fingerprints: Fingerprint of each benchmark's settings.
        epochs: Epoch of each benchmark; answers of an earlier epoch do not count.
        paths: Folders of the run.
        log: Log file of all processes.
        emit: Receives events for the display.
        on_verdict: Called with each verdict.
        on_command: Called with each command line before it is started.
        verdicts: The verdicts so far, by benchmark.
        policy: Whether and when a judge model reads the answers.
        scored: Benchmarks of ``todo`` whose score by rules was accepted before; only the judge is
            missing.
        on_loaded: Called with the library versions that workers report after loading the model.
        made_before: Library versions to assume for answers of workers that reported none.
        rules: Evidence of each benchmark as scored by rules, before any judging.
        counted: Benchmarks whose number of questions has been compared with the expected one.
        launched: Benchmarks of the last launch.
        whys: Why the workers of the last launch were given up, by benchmark.
        set_aside: Benchmarks whose remaining questions are no longer asked.
        ended: Why the run was ended early, or None.
        stopped: Launches that were told to stop because no question is left to ask.
    """

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
    scored: Collection[str] = ()
    on_loaded: Callable[[Sequence[Mapping[str, str]]], None] = lambda made_with: None
    made_before: Mapping[str, str] = field(default_factory=dict)
    rules: dict[str, Evidence] = field(default_factory=dict)
    counted: set[str] = field(default_factory=set)
    launched: Sequence[Benchmark] = ()
    whys: dict[str, str] = field(default_factory=dict)
    work: Work = field(init=False)
    watch: Watch = field(init=False)
    launches: Launches = field(init=False)
    set_aside: set[str] = field(default_factory=set)
    ended: Reason | None = None
    stopped: list[Handle] = field(default_factory=list)

    def run(self) -> dict[str, Verdict]:
        """Run the plan; afterwards every benchmark of ``todo`` has a verdict.

        All started processes have ended on any exit, also after an exception.
        """
        self.work = self._prepare_work()
        self.watch = Watch(self.paths.root, self.work, self.emit, self.cfg.verbose)
        self.launches = Launches(self.cfg.nproc)
        self.watch.state.poll()
        for bench in self.todo:
            if bench.key in self.scored:
                self._give(self._accept(bench, self.paths.output(bench.key)))
        with ExitStack() as stack:
            judges = JudgePass(
                self.policy,
                self.backend,
                self.todo,
                self.paths,
                self.rules,
                start=lambda some: stack.enter_context(self._judge(some)),
                gather=lambda bench, folder: self._gather(bench, folder, self.policy.judge),
                give=lambda bench, evidence, line: self._give(
                    Verdict(bench.key, evidence, line=line)
                ),
                say=lambda text: self.emit(Notice(text)),
            )
            if self.cfg.plain:
                self._run_plain()
            elif len(self.verdicts) < len(self.todo):
                self._run_shared(judges)
            if not self.cfg.plain:
                while judges.tick(self.verdicts):
                    time.sleep(TICK)
        return self.verdicts

    def _prepare_work(self) -> Work:
        """Write ``work.json`` and delete partial files of an interrupted launch.

        Answers in the journal are kept.
        """
        assignments = tuple(
            Assignment(
                bench.key,
                bench.source(self.backend.name).task,
                self.epochs[bench.key],
                self.cfg.limit,
            )
            for bench in self.todo
        )
        work = Work(
            assignments,
            dict(self.fingerprints),
            launch=self._next_launch(),
            final=self.cfg.nproc == 1 or self.model.served,
        )
        for told in (DONE_FILE, SET_ASIDE_FILE):
            (self.paths.root / told).unlink(missing_ok=True)
        forget_ends(self.paths.root)
        shutil.rmtree(self.paths.root / ERRORS_FOLDER, ignore_errors=True)
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
        except EasiError:
            # No or a damaged work.json: the time is a number that no earlier launch has used.
            return int(time.time())

    # ---- our workers -----------------------------------------------------------------------------

    def _run_shared(self, judges: JudgePass) -> None:
        with ExitStack() as stack:
            scoring = stack.enter_context(self._score())
            scorers = 1
            answering: Handle | None = None
            over = False
            told: Sequence[Mapping[str, str]] = []
            while True:
                self.watch.tick()
                self._say_counts()
                if (loaded := self.watch.state.loaded) != told:
                    told = loaded
                    self.on_loaded(loaded)
                self._accept_scored(answering)
                judges.tick(self.verdicts)
                self._give_up(answering)
                if not over and (answering is None or answering.poll() is not None):
                    # The workers may have written more between the tick above and their end.
                    self.watch.tick()
                    self._give_up(answering)
                    job = self._answers_wanted()
                    over = job is None
                    if job is not None:
                        answering = stack.enter_context(self._start(job))
                    else:
                        (self.paths.root / DONE_FILE).touch()
                        self.emit(PhaseStarted("score"))
                scored = scoring.poll() is not None
                if scored:
                    self._accept_scored(answering)
                if len(self.verdicts) == len(self.todo) and (over or scored):
                    break
                if scored:
                    # A crashed scorer loses no answers: it is started again while the workers go
                    # on, and has one more start once they are done.
                    if scorers < SCORER_STARTS + over:
                        scoring = stack.enter_context(self._score())
                        scorers += 1
                    elif over:
                        break
                time.sleep(TICK)
            tail = [
                *(answering.outcome().log_tail if answering else ()),
                *scoring.outcome().log_tail,
            ]
        for bench in self.todo:
            if bench.key not in self.verdicts:
                self._give(
                    Verdict(bench.key, None, "scoring ended without a result", telling_line(tail))
                )

    def _say_counts(self) -> None:
        """Warn about a benchmark whose list of questions does not have the expected length."""
        for bench in () if self.cfg.smoke else self.todo:
            if bench.key in self.counted or not ItemList.path(self.paths.root, bench.key).exists():
                continue
            self.counted.add(bench.key)
            source, total = (
                bench.source(self.backend.name),
                ItemList.load(self.paths.root, bench.key).total,
            )
            if other_count(source, total):
                self.emit(
                    Notice(
                        f"{bench.title}: {of_count(source, total)}; its score cannot be submitted",
                        "warning",
                    )
                )

    def _score(self) -> Handle:
        """Start the process that scores the benchmarks without a verdict."""
        left = [bench for bench in self.todo if bench.key not in self.verdicts]
        return self._start(self.backend.score_job(self.cfg, self.model, left, self.paths))

    def _judge(self, some: Sequence[Benchmark]) -> Handle:
        """Start the process that scores these benchmarks again, with the judge."""
        self.emit(Notice(f"{self.policy.judge} judges {', '.join(bench.title for bench in some)}"))
        return self._start(
            self.backend.score_job(self.cfg, self.model, some, self.paths, self.policy.judge)
        )

    def _give_up(self, answering: Handle | None) -> None:
        """Tell the workers which benchmarks to drop, and stop them if nothing is left to ask."""
        decision = self.watch.decide()
        new = {
            key: reason
            for key, reason in decision.aside.items()
            if key not in self.set_aside and key not in self.verdicts
        }
        if new:
            self.set_aside.update(new)
            SetAside(self.paths.root, self.work.launch).save(self.set_aside)
            for key, reason in new.items():
                self._give(Verdict(key, None, reason.text, reason.error))
        if decision.end and not self.ended:
            self.ended = decision.end
            self.emit(Notice(f"{self.ended.text}: {self.ended.error}", "warning"))
            self.whys.update(dict.fromkeys((bench.key for bench in self.todo), self.ended.error))
        nothing_left = (
            bool(self.set_aside or self.ended)
            and not self.watch.unanswered() - self.set_aside - self.ended_for
        )
        if nothing_left and answering and answering not in self.stopped:
            self.stopped.append(answering)
            answering.ask_to_stop()

    @property
    def ended_for(self) -> set[str]:
        """Benchmarks that are no longer asked because the run was ended early."""
        return {bench.key for bench in self.todo} if self.ended else set()

    def _answers_wanted(self) -> Job | None:
        """Return the next launch of workers, or None if there is none."""
        unanswered = self.watch.unanswered() - self.set_aside - self.ended_for
        left = [bench for bench in self.todo if bench.key in unanswered]
        # Read now: the next launch deletes these notes of the last one.
        if reasons := gave_up_reasons(self.paths.root):
            self.whys.update(
                {bench.key: "; ".join(reasons) for bench in self.launched if bench in left}
            )
        lacked_memory = bool(left) and (
            self.watch.lacked_memory or not self.watch.unanswered(settled=True) & unanswered
        )
        launch = self.launches.next(
            Standing(left, self.watch.answered, lacked_memory, self.watch.blames_a_benchmark)
        )
        return self._launch(launch) if launch else None

    def _launch(self, launch: Launch) -> Job:
        if launch.said:
            self.emit(Notice(launch.said, "warning"))
        if launch.stage != self.watch.state.stage:
            self.watch.state.stage = launch.stage
            replace(self.work, stage=launch.stage, final=launch.workers == 1).save(self.paths.root)
        self.launched = launch.benchmarks
        forget_ends(self.paths.root)
        self.watch.started(launch.workers)
        self.emit(
            PhaseStarted("start", f"{launch.workers} worker{'s' if launch.workers > 1 else ''}")
        )
        return self.backend.answer_job(
            replace(self.cfg, nproc=launch.workers),
            self.model,
            launch.benchmarks,
            self.paths,
            launchers.free_port(),
        )

    def _start(self, job: Job) -> Handle:
        self._before(job)
        return start(job, self.log)

    def _before(self, job: Job) -> None:
        self.on_command(str(job))
        if job.cwd is not None:
            job.cwd.mkdir(parents=True, exist_ok=True)

    def _accept_scored(self, answering: Handle | None) -> None:
        for bench in self.todo:
            if bench.key in self.verdicts:
                continue
            scored, failed = (
                self.paths.outputs / f".{bench.key}.scored",
                self.paths.outputs / f".{bench.key}.failed.json",
            )
            if scored.is_dir():
                # The last answers of the benchmark may not have been read yet.
                self.watch.tick()
                self._give(self._accept(bench, scored))
            elif failed.is_file():
                note = read_json(failed)
                told = note if isinstance(note, dict) else {}
                line = (
                    self._why_unanswered(bench.key, answering)
                    if told.get("unanswered") and answering
                    else ""
                )
                self._give(Verdict(bench.key, None, str(told.get("error", "scoring failed")), line))

    def _why_unanswered(self, key: str, answering: Handle) -> str:
        """Return why a worker was given up, else the most informative line of the log."""
        return self.whys.get(key) or telling_line(answering.outcome().log_tail)

    # ---- the backend's own launch ----------------------------------------------------------------

    def _run_plain(self) -> None:
        self.emit(PhaseStarted("answer", "the backend's own launch, benchmark by benchmark"))
        for bench in self.todo:
            folder = self.paths.outputs / f".{bench.key}.plain"
            folder.mkdir(parents=True)
            job = self.backend.plain_job(self.cfg, self.model, bench, folder, launchers.free_port())
            self._before(job)
            outcome = run_job(job, self.log)
            verdict = self._accept(bench, folder)
            self._give(
                verdict
                if verdict.evidence
                else replace(verdict, line=telling_line(outcome.log_tail))
            )

    # ---- verdicts --------------------------------------------------------------------------------

    def _accept(self, bench: Benchmark, folder: Path) -> Verdict:
        """Check that ``folder`` is complete, then let it replace ``outputs/<key>``.

        A folder that is already in place stays there.
        """
        try:
            evidence = self._read(bench, folder)
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

    def _read(self, bench: Benchmark, folder: Path) -> Evidence:
        """Read the results in ``folder``, with scoring method and rate of unreadable answers.

        Raises EasiError if they are not complete.
        """
        judge = self.policy.judge
        # In a plain launch the backend itself asks the judge and may fall back to rules.
        if self.cfg.plain and judge:
            try:
                found = self._gather(bench, folder, judge)
                plain, score = (
                    replace(found.score, unparsed=None),
                    judging.judged_alone(found.score, judge),
                )
            except EasiError as error:
                found = self._gather(bench, folder)
                plain, score = found.score, judging.not_judged(found.score, judge, error.message)
        else:
            found = self._gather(bench, folder)
            plain, score = found.score, judging.by_rules(self.policy, found.score)
        self.rules[bench.key] = found
        if self.policy.reads:
            extraction.save_entry(folder, extraction.entry(self.policy, plain, score))
        return replace(found, score=score)

    def _gather(self, bench: Benchmark, folder: Path, judge: str = "") -> Evidence:
        items = None if self.cfg.plain else ItemList.load(self.paths.root, bench.key)
        state = self.watch.state
        answers = (
            [answer for item in items.ids if (answer := state.get((bench.key, item)))]
            if items
            else []
        )
        found = gather(
            self.cfg,
            self.backend,
            bench,
            folder,
            self.fingerprints[bench.key],
            items,
            answers,
            judge,
        )
        differing = mixed(
            [made or self.made_before for made in state.made_with(answer.key for answer in answers)]
        )
        if not differing:
            return found
        note = f"its answers were made under several versions: {'; '.join(differing)}"
        return replace(
            found, score=replace(found.score, notes=(*found.score.notes, note), comparable=NOTE)
        )

    def _give(self, verdict: Verdict) -> None:
        self.verdicts[verdict.key] = verdict
        self.on_verdict(verdict)
        if verdict.evidence is not None:
            score = verdict.evidence.score
            self.emit(
                BenchmarkScored(verdict.key, score.reading.overall, str(score.state), score.reason)
            )
        else:
            self.emit(BenchmarkScored(verdict.key, None, "failed", verdict.reason))
