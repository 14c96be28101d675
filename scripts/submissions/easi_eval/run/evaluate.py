"""Evaluate the benchmarks of a plan: workers answer, scorers score, results are accepted.

One launch answers all questions, and one process scores each benchmark once it is answered.
``--plain`` starts the backend's own launch instead, benchmark by benchmark.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Protocol

from ..benchmarks import Benchmark
from ..core.atomic_files import read_json
from ..core.events import BenchmarkScored, Emit, Notice, PhaseStarted
from ..core.log_lines import telling_line
from ..core.model import ModelChoice
from ..engine.giving_up import Reason
from ..engine.processes import launchers
from ..engine.processes.interrupts import time_limit
from ..engine.processes.jobs import Job
from ..engine.processes.supervisor import Handle, run_job, start
from ..engine.work import ItemList
from ..scores.data_check import count_note, is_other_count
from ..scores.score_table import BenchmarkScore, State
from .accept import Acceptance, Verdict
from .context import RunContext
from .judge_pass import JudgePass
from .nodes_of_run import open_nodes
from .plan import Plan
from .run_progress import Watch
from .workers import Workers, prepare_work

TICK = 0.2
SCORER_STARTS = 2


class Recorder(Protocol):
    """Keeps what an evaluation reports; ``RunRecord`` writes it into the manifest."""

    @property
    def made_before(self) -> Mapping[str, str]:
        """Library versions to assume for answers of workers that reported none."""

    @property
    def revisions(self) -> Mapping[str, str]:
        """The revision of each repository that the run reads."""

    def note_machines(self, machines: Sequence[str]) -> None:
        """Record the machines that joined the run, with their GPUs."""

    def note_command(self, command: str) -> None:
        """Record a command line before it is started."""

    def note_workers(self, made_with: Sequence[Mapping[str, str]]) -> None:
        """Record the library versions that the workers reported after loading the model."""

    def note_score(self, score: BenchmarkScore, line: str = "") -> None:
        """Record the score of a benchmark whose results were accepted."""

    def note_failure(self, key: str, reason: str, line: str = "") -> None:
        """Record why the results of a benchmark were not accepted."""


def evaluate(
    context: RunContext, plan: Plan, model: ModelChoice, record: Recorder, emit: Emit
) -> None:
    """Evaluate the benchmarks of the plan; afterwards ``record`` has a score or failure of each."""
    if plan.todo:
        Evaluation(context, plan, model, record, emit).run()


class Evaluation:
    """The execution of one plan.

    Attributes:
        verdicts: The verdicts so far, by benchmark.
    """

    def __init__(
        self, context: RunContext, plan: Plan, model: ModelChoice, record: Recorder, emit: Emit
    ) -> None:
        """Prepare the folders; nothing is started yet.

        Args:
            context: The run.
            plan: What to run.
            model: The model, as the workers load it.
            record: Keeps verdicts and commands.
            emit: Receives events for the display.
        """
        self.verdicts: dict[str, Verdict] = {}
        self._context = context
        self._plan = plan
        self._todo = plan.benchmarks
        self._model = model
        self._record = record
        self._emit = emit
        self._work = work = prepare_work(context, plan, model)
        self._watch = Watch(context.paths.root, work, emit, context.cfg.verbose)
        self._workers = Workers(context, self._todo, model, work, self._watch, emit)
        self._acceptance = Acceptance(
            context, plan.fingerprints, self._watch.state, record.made_before
        )
        self._counted: set[str] = set()  # benchmarks whose number of questions was compared

    def run(self) -> dict[str, Verdict]:
        """Run the plan; afterwards every benchmark of it has a verdict.

        All started processes have ended on any exit, also after an exception.
        """
        self._watch.state.poll()
        for step in self._plan.todo:
            if step.scored:  # by rules, before this run; only the judge is missing
                folder = self._context.paths.output(step.bench.key)
                self._give(self._acceptance.accept(step.bench, folder))
        with ExitStack() as stack:
            judges = JudgePass(
                self._context,
                self._todo,
                self._acceptance.rules,
                start=lambda some: stack.enter_context(self._judge(some)),
                gather=lambda bench, folder: self._acceptance.gather(
                    bench, folder, self._context.policy.judge
                ),
                give=lambda bench, evidence, line: self._give(
                    Verdict(bench.key, evidence, line=line)
                ),
                say=lambda text: self._emit(Notice(text)),
            )
            if self._context.cfg.plain:
                self._run_plain()
            elif self._open():
                self._run_shared(judges)
            if not self._context.cfg.plain:
                while judges.tick(self.verdicts):
                    if time_limit.near:
                        time_limit.leave()
                    time.sleep(TICK)
        return self.verdicts

    def _open(self) -> list[Benchmark]:
        """Return the benchmarks without a verdict."""
        return [bench for bench in self._todo if bench.key not in self.verdicts]

    # ---- our workers and scorers -----------------------------------------------------------------

    def _run_shared(self, judges: JudgePass) -> None:
        with ExitStack() as stack:
            stack.callback(self._workers.close)
            self._workers.nodes = nodes = stack.enter_context(
                open_nodes(
                    self._context,
                    self._work,
                    self._record.revisions,
                    self._workers.drop_node,
                    self._workers.retire_node,
                    self._emit,
                )
            )
            time_limit.drains = True
            try:
                tail = self._follow(judges, stack)
            finally:
                time_limit.drains = False
                # Before the workers here are ended, which may take long.
                if nodes is not None:
                    nodes.end()
        for bench in self._open():
            self._give(
                Verdict(bench.key, None, "scoring ended without a result", telling_line(tail))
            )

    def _follow(self, judges: JudgePass, stack: ExitStack) -> list[str]:
        """Start workers and scorers until nothing is left to do; returns the end of their logs."""
        scoring = stack.enter_context(self._score())
        scorers = 1
        over = False
        told: Sequence[Mapping[str, str]] = []
        while True:
            self._watch.tick()
            self._workers.tell_nodes()
            self._record.note_machines(list(self._workers.machines.values()))
            self._say_counts()
            if (loaded := self._watch.state.loaded) != told:
                told = loaded
                self._record.note_workers(loaded)
            self._accept_scored()
            judges.tick(self.verdicts)
            self._workers.give_up(self.verdicts, self._drop)
            if time_limit.near:
                self._drain()
            self._workers.start_again(lambda job: stack.enter_context(self._start(job)))
            if not over and not self._workers.are_running:
                over = not self._launch_again(stack)
            scored = scoring.poll() is not None
            if scored:
                self._accept_scored()
            if not self._open() and (over or scored):
                break
            if scored:
                # A crashed scorer loses no answers: it is started again while the workers go on,
                # and has one more start once they are done.
                if scorers < SCORER_STARTS + over:
                    scoring = stack.enter_context(self._score())
                    scorers += 1
                elif over:
                    break
            time.sleep(TICK)
        return [*self._workers.log_tail, *scoring.outcome().log_tail]

    def _drain(self) -> None:
        """Let the workers finish the questions in hand, then stop as after Ctrl-C."""
        self._workers.leave()
        if time_limit.overdue or not self._workers.are_running:
            time_limit.leave()

    def _launch_again(self, stack: ExitStack) -> bool:
        """Start the next launch of workers; False if there is none, because answering is over."""
        # The workers may have written more since the journals were last read.
        self._watch.tick()
        self._workers.give_up(self.verdicts, self._drop)
        if self._workers.launch_again(lambda job: stack.enter_context(self._start(job))):
            return True
        self._context.paths.answering_done.touch()
        self._emit(PhaseStarted("score"))
        return False

    def _drop(self, key: str, reason: Reason) -> None:
        self._give(Verdict(key, None, reason.text, reason.error))

    def _say_counts(self) -> None:
        """Warn about a benchmark whose list of questions does not have the expected length."""
        paths = self._context.paths
        for bench in () if self._context.cfg.smoke else self._todo:
            if bench.key in self._counted or not paths.item_list(bench.key).exists():
                continue
            self._counted.add(bench.key)
            source = bench.source(self._context.backend.name)
            total = ItemList.load(paths.root, bench.key).total
            if is_other_count(source, total):
                text = f"{bench.title}: {count_note(source, total)}; its score cannot be submitted"
                self._emit(Notice(text, "warning"))

    def _score(self) -> Handle:
        """Start the process that scores the benchmarks without a verdict."""
        context = self._context
        return self._start(
            context.backend.score_job(context.cfg, self._model, self._open(), context.paths)
        )

    def _judge(self, some: Sequence[Benchmark]) -> Handle:
        """Start the process that scores these benchmarks again, with the judge."""
        context, judge = self._context, self._context.policy.judge
        self._emit(Notice(f"{judge} judges {', '.join(bench.title for bench in some)}"))
        return self._start(
            context.backend.score_job(context.cfg, self._model, some, context.paths, judge)
        )

    def _start(self, job: Job) -> Handle:
        self._before(job)
        return start(job, self._context.log)

    def _before(self, job: Job) -> None:
        self._record.note_command(str(job))
        if job.cwd is not None:
            job.cwd.mkdir(parents=True, exist_ok=True)

    def _accept_scored(self) -> None:
        paths = self._context.paths
        for bench in self._open():
            scored, failed = paths.scored(bench.key), paths.failed(bench.key)
            if scored.is_dir():
                # The last answers of the benchmark may not have been read yet.
                self._watch.tick()
                self._give(self._acceptance.accept(bench, scored))
            elif failed.is_file():
                note = read_json(failed)
                told = note if isinstance(note, dict) else {}
                unanswered = told.get("unanswered") and self._workers.process
                line = self._workers.why_unanswered(bench.key) if unanswered else ""
                self._give(Verdict(bench.key, None, str(told.get("error", "scoring failed")), line))

    # ---- the backend's own launch ----------------------------------------------------------------

    def _run_plain(self) -> None:
        context = self._context
        self._emit(PhaseStarted("answer", "the backend's own launch for each benchmark"))
        for bench in self._todo:
            folder = context.paths.plain(bench.key)
            folder.mkdir(parents=True)
            job = context.backend.plain_job(
                context.cfg, self._model, bench, folder, launchers.free_port()
            )
            self._before(job)
            outcome = run_job(job, context.log)
            verdict = self._acceptance.accept(bench, folder)
            self._give(
                verdict
                if verdict.evidence
                else replace(verdict, line=telling_line(outcome.log_tail))
            )

    # ---- verdicts --------------------------------------------------------------------------------

    def _give(self, verdict: Verdict) -> None:
        self.verdicts[verdict.key] = verdict
        if verdict.evidence is None:
            self._record.note_failure(verdict.key, verdict.reason, verdict.line)
            self._emit(BenchmarkScored(verdict.key, None, str(State.FAILED), verdict.reason))
            return
        score = verdict.evidence.score
        self._record.note_score(score, verdict.line)
        self._emit(
            BenchmarkScored(verdict.key, score.reading.overall, str(score.state), score.reason)
        )
