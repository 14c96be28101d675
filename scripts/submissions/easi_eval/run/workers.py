"""The workers of a run: what they are given, launch by launch, and when they are given up."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Container, Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace

from ..benchmarks import Benchmark
from ..config import RunConfig
from ..core.errors import EasiError
from ..core.events import Emit, NodeChanged, Notice, PhaseStarted
from ..core.log_lines import telling_line
from ..core.model import ModelChoice
from ..core.run_folder import RunPaths
from ..engine.dispatch_server import DispatchServer
from ..engine.giving_up import Reason
from ..engine.nodes import AT_WORK, NodeServer
from ..engine.processes import launchers
from ..engine.processes.jobs import Job, Restarts
from ..engine.processes.supervisor import Handle
from ..engine.processes.worker_ends import forget_ends, gave_up_reasons
from ..engine.work import Work
from .context import RunContext
from .nodes_of_run import job_line, placed, placement
from .plan import Plan
from .relaunch import Launch, Launches, Standing
from .run_progress import Watch


def prepare_work(context: RunContext, plan: Plan, model: ModelChoice) -> Work:
    """Write ``work.json`` and delete partial files of an interrupted launch.

    Answers in the journal are kept.
    """
    paths, cfg = plan.paths, context.cfg
    work = Work(
        plan.assignments(cfg.limit),
        plan.fingerprints,
        launch=_next_launch(paths),
        final=model.served or _launches(cfg).final,
    )
    paths.answering_done.unlink(missing_ok=True)
    forget_ends(paths.root)
    shutil.rmtree(paths.errors, ignore_errors=True)
    paths.outputs.mkdir(parents=True, exist_ok=True)
    for bench in plan.benchmarks:
        for leftover in paths.half_made(bench.key):
            shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink(missing_ok=True)
    work.save(paths.root)
    return work


def _launches(cfg: RunConfig) -> Launches:
    return Launches(cfg.nproc, shared=cfg.nodes > 1 and not placed(cfg))


def _next_launch(paths: RunPaths) -> int:
    try:
        return Work.load(paths.root).launch + 1
    except EasiError:
        # No or a damaged work.json: the time is a number that no earlier launch has used.
        return int(time.time())


class Workers:
    """Decides about the launches of workers; the caller starts them.

    Attributes:
        process: The launch that was started last.
        nodes: Other machines that answer; None without ``--nodes``.
        machines: Workers and GPUs of the machines that joined, by host name.
    """

    def __init__(
        self,
        context: RunContext,
        todo: Sequence[Benchmark],
        model: ModelChoice,
        work: Work,
        watch: Watch,
        emit: Emit,
    ) -> None:
        """Begin before the first launch.

        Args:
            context: The run.
            todo: The benchmarks to run.
            model: The model, as the workers load it.
            work: What the workers read.
            watch: The state of the answers.
            emit: Receives messages.
        """
        self.process: Handle | None = None
        self._context = context
        self._todo = todo
        self._model = model
        self._work = work
        self._watch = watch
        self._emit = emit
        self._launches = _launches(context.cfg)
        self._dispatcher = ExitStack()  # holds the dispatcher of the last launch
        self._server: DispatchServer | None = None
        self._launch: Launch | None = None  # the last one
        self._restarts = Restarts()
        self._leaving = False  # the time limit is near
        self._whys: dict[str, str] = {}  # why the last workers were given up, by benchmark
        self._set_aside: set[str] = set()  # benchmarks whose other questions are no longer asked
        self.nodes: NodeServer | None = None
        self._job_line = ""
        self.machines: dict[str, str] = {}
        self._placed = placed(context.cfg)  # nobody answers on this machine
        self._orders = 0  # launches that these were told
        self._ended: Reason | None = None  # why the run was ended early
        self._stopped: Handle | None = None  # the last launch that was told to stop

    def tell_nodes(self) -> None:
        """Show which machines came and went, and how far Slurm has placed them."""
        if self.nodes is None:
            return
        for notice in self.nodes.news():
            self._emit(notice)
        if started := self.nodes.started():
            self._watch.joined(started)
        self.machines.update({node.host: node.place for node in self.nodes.nodes if node.place})
        working = sum(node.state in AT_WORK for node in self.nodes.nodes)
        line = job_line(self._context.paths.root, working, self._context.cfg.nodes)
        if line != self._job_line:
            self._job_line = line
            self._emit(NodeChanged(line))

    def retire_node(self, node: str) -> None:
        """Give a machine nothing more; may be called from any thread."""
        if (server := self._server) is not None:
            server.retire_node(node)

    def leave(self) -> None:
        """Give no worker anything more, here and on other machines; see ``are_running``."""
        if not self._leaving and self._server is not None:
            self._emit(Notice("the time limit is near: finishing the current questions"))
            self._server.retire_all()
        self._leaving = True

    def drop_node(self, node: str) -> None:
        """Hand out again what a machine held that is gone; may be called from any thread."""
        if (server := self._server) is not None:
            server.drop_node(node)

    def close(self) -> None:
        """End the dispatcher of the last launch; its workers have ended."""
        self._dispatcher.close()

    @property
    def _is_over(self) -> bool:
        """Whether workers of the last launch would get no question."""
        return (
            self._leaving
            or self._stopped is self.process
            or (self._server is not None and self._server.dispatcher.over)
        )

    @property
    def are_running(self) -> bool:
        """Whether a launch was started and has not ended, here or on another machine."""
        if self.process is None:
            return False
        alive, nodes = self.process.poll() is None, self.nodes
        if nodes is None or nodes.at_work:
            return alive or nodes is not None
        over = self._is_over
        coming = nodes.any_loading and not over
        if not self._placed:
            return alive or coming
        # Slurm's process lives as long as nodes may come. Where one has ended its launch, and none
        # is at work or preparing, others would do no better.
        return alive and not over and (coming or not nodes.any_done)

    @property
    def log_tail(self) -> Sequence[str]:
        """The last lines of the log of the last launch that has ended."""
        ended = self.process is not None and self.process.poll() is not None
        return self.process.outcome().log_tail if ended and self.process else ()

    def why_unanswered(self, key: str) -> str:
        """Return why a worker was given up, else the most informative line of the log."""
        return self._whys.get(key) or telling_line(self.log_tail)

    def give_up(self, decided: Container[str], fail: Callable[[str, Reason], None]) -> None:
        """Tell the workers which benchmarks to drop, and stop them if nothing is left to ask.

        Args:
            decided: Benchmarks that have a verdict.
            fail: Called with each benchmark that is dropped now.
        """
        decision = self._watch.decide()
        new = {
            key: reason
            for key, reason in decision.aside.items()
            if key not in self._set_aside and key not in decided
        }
        if new:
            self._set_aside.update(new)
            if self._server is not None:
                self._server.leave_out(self._set_aside)
            for key, reason in new.items():
                fail(key, reason)
        if decision.end and not self._ended:
            self._ended = decision.end
            self._emit(Notice(f"{self._ended.text}: {self._ended.error}", "warning"))
            self._whys.update(dict.fromkeys((bench.key for bench in self._todo), self._ended.error))
        nothing_left = bool(self._set_aside or self._ended) and not self._wanted()
        if nothing_left and self.process and self.process is not self._stopped:
            self._stopped = self.process
            if self.nodes is not None:
                self.nodes.launch(None)
            self.process.ask_to_stop()

    def _wanted(self) -> set[str]:
        """Return the benchmarks with unanswered questions that are still to be asked."""
        return set() if self._ended else self._watch.unanswered() - self._set_aside

    def launch_again(self, start: Callable[[Job], Handle]) -> bool:
        """Start the next launch of workers; False if there is none, because answering is over."""
        wanted = self._wanted()
        left = [bench for bench in self._todo if bench.key in wanted]
        # Read now: the next launch deletes these notes of the last one.
        launched = self._launch.benchmarks if self._launch else ()
        if reasons := gave_up_reasons(self._context.paths.root):
            self._whys.update(
                {bench.key: "; ".join(reasons) for bench in launched if bench in left}
            )
        job_gone = self._placed and self.process is not None and self.process.poll() is not None
        if self._watch.servers_gone or job_gone:
            return False
        lacked_memory = bool(left) and (
            self._watch.lacked_memory or not self._watch.unanswered(settled=True) & wanted
        )
        own = self._context.cfg.nproc
        if (nodes := self.nodes) is not None:
            most = max([own, *(node.workers for node in nodes.nodes)])
            self._launches.workers = max(1, most >> self._launches.stage)
        launch = self._launches.next(
            Standing(left, self._watch.answered, lacked_memory, self._watch.blames_a_benchmark)
        )
        if launch is None:
            return False
        self._open(launch)
        if not self._placed:
            self.process = start(self._answer_job(launch))
        elif self.process is None:
            assert self.nodes is not None
            self.process = start(placement(self._context, self.nodes))
        return True

    def start_again(self, start: Callable[[Job], Handle]) -> None:
        """Start this machine's workers again where a keeper was killed and other machines work.

        Without others at work that is the next launch.
        """
        nodes, process, launch = self.nodes, self.process, self._launch
        if nodes is None or not nodes.at_work or process is None or launch is None:
            return
        if self._placed or self._is_over:
            return
        if process.poll() is not None and self._restarts.allow(process.outcome()):
            self.process = start(self._answer_job(launch))

    def _open(self, launch: Launch) -> None:
        """Serve the questions of a launch, and tell other machines of it."""
        paths = self._context.paths
        if launch.reason:
            self._emit(Notice(launch.reason, "warning"))
        if launch.stage != self._watch.state.stage:
            self._watch.state.stage = launch.stage
            self._work = replace(self._work, stage=launch.stage, final=self._launches.final)
            self._work.save(paths.root)
        self.close()
        nodes = self.nodes
        self._server = self._dispatcher.enter_context(
            DispatchServer(paths.root, self._work, nodes.host, nodes.secret)
            if nodes
            else DispatchServer(paths.root, self._work)
        )
        self._launch, self._restarts = launch, Restarts()
        forget_ends(paths.root)
        own = self._own(launch)
        self._watch.started(0 if self._placed else own)
        self._emit(PhaseStarted("start", f"{own} worker{'s' if own > 1 else ''}"))
        if nodes is not None:
            self._orders += 1
            nodes.started()  # of the last launch
            nodes.launch(
                {
                    "number": self._orders,
                    "work": asdict(self._work),
                    "benchmarks": [bench.key for bench in launch.benchmarks],
                    "port": self._server.port,
                }
            )

    def _own(self, launch: Launch) -> int:
        """The number of workers on this machine, or on each that Slurm places."""
        return max(1, self._context.cfg.nproc >> launch.stage)

    def _answer_job(self, launch: Launch) -> Job:
        """The workers of a launch on this machine."""
        return self._context.backend.answer_job(
            replace(self._context.cfg, nproc=self._own(launch)),
            self._model,
            launch.benchmarks,
            self._context.paths,
            launchers.free_port(),
        )
