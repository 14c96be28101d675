"""``--join``: give this machine to a run that another machine started with ``--nodes``.

A node takes everything that changes answers from the head, resolves it by itself in its own caches,
and compares: the same identity and the same revisions of the data, or it leaves. Its folder is a
temporary one; answers go to the head's dispatcher.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from .. import __version__
from ..backends import make_backend, resolved
from ..cluster import slurm
from ..config import RunConfig
from ..core.atomic_files import write_json
from ..core.errors import EasiError, ExitCode, Refusals
from ..core.events import Notice
from ..core.model import ModelChoice
from ..data.needs import HubSettings
from ..engine.dispatch_client import NODE
from ..engine.journal import Header, Hung, Tail
from ..engine.node_link import NodeLink
from ..engine.processes import launchers
from ..engine.processes.gpus import machine_line, probe_machine
from ..engine.processes.interrupts import interrupt, interruptible, time_limit
from ..engine.processes.jobs import Restarts
from ..engine.processes.supervisor import Handle, start
from ..engine.processes.worker_ends import forget_ends
from ..engine.work import Assignment, Work
from .context import RunContext, make_context
from .identity import known_differences
from .nodes_of_run import joining_secret
from .preflight import check
from .prepare import prepare
from .resume import plan_run
from .run_record import RunRecord
from .smoke import rehearse
from .smoke_hub import rehearsal

TICK = 0.2
LOG_PART = 1 << 18  # bytes sent at a time; the lines of a log are shorter


class _HeadGone(EasiError):
    def __init__(self) -> None:
        super().__init__(
            "the head of the run is gone", hint="run it again there: saved answers are kept"
        )


def join(address: str, own: Mapping[str, Any]) -> int:
    """Answer questions of the run at ``address`` until it is over.

    Args:
        address: ``HOST:PORT``.
        own: This machine's ``nproc``, ``device`` and ``dataset_dir``, as far as they were given.

    Returns:
        The exit code.

    Raises:
        EasiError: This machine cannot join, or the head is gone.
    """
    host, _, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")  # of an IPv6 address
    if not host or not port.isdecimal():
        raise EasiError(
            f"--join is {address!r}", hint="write HOST:PORT, as the run started with --nodes prints"
        )
    nproc = int(own.get("nproc", 1))
    if nproc < 1:
        raise EasiError(f"--nproc is {nproc}", hint="use 1 or more")
    with ExitStack() as stack:
        stack.enter_context(interruptible())
        stack.enter_context(time_limit)
        secret = joining_secret(host, int(port))
        link = stack.enter_context(NodeLink(host, int(port), secret, _end_preparation))
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="easi-node-")))
        try:
            context, model = _prepared(link, own, nproc, scratch, stack)
            time_limit.drains = True
            leaves = _Node(link, context, model, nproc).serve()
        except EasiError as error:
            link.send(type="left", reason=error.message)
            raise
        except KeyboardInterrupt:
            if link.gone:
                raise _HeadGone from None
            leaves = time_limit.leaves and not link.over
            if not (leaves or link.over):
                link.send(type="left", reason="it was interrupted")
                raise
        if leaves:
            _leave(link, scratch / "requeue.log")
    return ExitCode.COMPLETE


def _end_preparation() -> None:
    """End what may take hours when the run is over."""
    if not time_limit.drains:
        interrupt()


def _prepared(
    link: NodeLink, own: Mapping[str, Any], nproc: int, scratch: Path, stack: ExitStack
) -> tuple[RunContext, ModelChoice]:
    """Resolve the run on this machine, compare, and fetch what is missing.

    Raises:
        EasiError: This machine would give other answers, or cannot run the model.
    """
    told = link.about
    _compare("", {"this program": told.get("program")}, {"this program": __version__})
    options = {**told["options"], "benchmarks": tuple(told["benchmarks"])}
    options["backend_args"] = tuple(options.get("backend_args", ()))
    if options.get("backend_path"):
        options["backend_path"] = Path(options["backend_path"])
    asked = RunConfig(
        **options,
        nproc=nproc,
        output_dir=scratch,
        dataset_dir=Path(str(own.get("dataset_dir", RunConfig.dataset_dir))).expanduser(),
        device=own.get("device", told["device"]),
    )
    machine = probe_machine()
    cfg = rehearse(asked, machine.visible) if asked.smoke else asked
    hub = HubSettings.from_env()
    backend = make_backend(cfg.backend, hub)
    context = make_context(asked, cfg, backend, hub, resolved(cfg, backend, hub))
    _compare("", told["identity"], context.run.current)
    plan, _ = check(context, plan_run(context), machine, Refusals())
    context = stack.enter_context(rehearsal(context))
    record = RunRecord.of(context, plan)
    context.log.parent.mkdir(parents=True, exist_ok=True)
    record.note_launch(None)
    _, model = prepare(context, plan, record, _say)
    if troubles := [trouble.reason for trouble in record.troubles]:
        raise EasiError(troubles[0], hint="fix it on this machine, then join again")
    revisions = record.manifest.revisions
    both = told["revisions"].keys() & revisions.keys()  # the head may need more, for scoring
    _compare(
        "data ", *({name: each[name] for name in both} for each in (told["revisions"], revisions))
    )
    return context, model


def _say(event: object) -> None:
    if isinstance(event, Notice):
        print(event.text, flush=True)


def _compare(what: str, theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> None:
    if differs := known_differences(theirs, ours):
        said = {"revision": f"content of {ours.get('model')}"}
        values = ", ".join(
            f"{said.get(name, name)} {theirs[name]} there, {ours.get(name)} here"
            if name in theirs
            else name
            for name in differs
        )
        raise EasiError(
            f"this machine would give different answers: {what}{values}",
            hint="make them equal, then join again",
        )


def _leave(link: NodeLink, log: Path) -> None:
    """Leave, and have Slurm start this task of an array job again, on this or another machine."""
    link.send(type="left", reason="its time limit is near")
    if "SLURM_ARRAY_TASK_ID" in os.environ:
        slurm.requeue(slurm.own_job(os.environ), log)


class _Node:
    """The launches of this machine."""

    def __init__(self, link: NodeLink, context: RunContext, model: ModelChoice, nproc: int) -> None:
        self._link, self._context, self._model = link, context, model
        self._paths = context.paths
        self._handle: Handle | None = None
        self._restarts = Restarts()
        self._leaving = False
        self._order: dict[str, Any] = {}
        self._workers = 0
        self._connection = link.connections
        self._place = machine_line(nproc)
        link.send(type="ready", place=self._place, nproc=nproc)
        self._sent: dict[Path, tuple[int, int]] = {}  # files, with time and size
        self._tail = Tail(self._paths.journal)
        self._headers: dict[str, Header] = {}
        self._logged = 0

    def serve(self) -> bool:
        """Follow the head's orders until the run is over, or a time limit is near.

        Returns:
            Whether this machine leaves before the run is over.

        Raises:
            EasiError: The head is gone.
        """
        try:
            while True:
                message = self._link.next(TICK)
                if time_limit.near and not self._leaving:
                    self._leaving = True
                    print("the time limit is near: finishing the current questions", flush=True)
                    self._link.send(type="leaving")
                if self._leaving and (time_limit.overdue or self._handle is None):
                    return True
                if message is not None and message["type"] == "over":
                    return False
                if message is not None and message["type"] == "launch":
                    self._begin(message["order"])
                self._report()
                if self._handle is not None and self._handle.poll() is not None:
                    self._report()
                    if not self._leaving and self._restarts.allow(self._handle.outcome()):
                        self._start()  # a keeper was killed, and its launcher ended the others
                    else:
                        self._end()
                if self._link.gone:
                    raise _HeadGone
        finally:
            if self._handle is not None:
                self._handle.stop()

    def _begin(self, order: dict[str, Any] | None) -> None:
        if order is not None and order["number"] == self._order.get("number"):
            return  # told again after the connection broke
        if self._handle is not None:
            self._handle.stop()
            self._end()
        if order is None or self._leaving:
            return
        self._order = order
        forget_ends(self._paths.root)
        work = dict(order["work"])
        assignments = tuple(Assignment(**each) for each in work.pop("benchmarks"))
        Work(assignments, **work).save(self._paths.root)
        # Never sent: both sides prove that they know it.
        address = {"host": self._link.host, "port": order["port"], "secret": self._link.secret}
        write_json(self._paths.dispatcher, address, mode=0o600)
        # With less memory per worker than the questions need, each machine halves its own.
        self._workers = max(1, self._context.cfg.nproc >> work["stage"])
        self._restarts = Restarts()
        self._start()
        self._link.send(type="started", workers=self._workers, number=order["number"])

    def _start(self) -> None:
        cfg = self._context.cfg
        job = self._context.backend.answer_job(
            replace(cfg, nproc=self._workers),
            self._model,
            [bench for bench in cfg.selected if bench.key in self._order["benchmarks"]],
            self._paths,
            launchers.free_port(),
        )
        job = replace(job, env={**job.env, NODE: self._link.name})
        if job.cwd is not None:
            job.cwd.mkdir(parents=True, exist_ok=True)
        self._handle = start(job, self._context.log)
        print(f"{self._workers} workers started", flush=True)

    def _end(self) -> None:
        self._handle = None
        self._workers = 0
        self._link.send(type="ended", number=self._order["number"])

    def _report(self) -> None:
        """Send what the head needs of this machine's folder, and what is new in the log."""
        if self._connection != self._link.connections:  # what was sent may not have arrived
            self._connection = self._link.connections
            self._sent.clear()
            self._link.send(
                type="resumed",
                place=self._place,
                nproc=self._context.cfg.nproc,
                workers=self._workers,
                number=self._order.get("number"),
            )
            if self._leaving:
                self._link.send(type="leaving")
        for pattern in ("items/*.json", "journal/*.ends", "journal/*.gaveup", "errors/*.txt"):
            for path in self._paths.root.glob(pattern):
                with suppress(FileNotFoundError):
                    self._send_file(path)
        for line in self._tail.poll():
            if isinstance(line.record, Header):
                self._headers[line.file] = line.record
            elif isinstance(line.record, Hung):
                header = self._headers[line.file]
                self._link.send(
                    type="hung",
                    worker=header.worker,
                    attempt=header.attempt,
                    launch=header.launch,
                    keys=line.record.keys,
                    seconds=line.record.seconds,
                )
        with self._context.log.open("rb") as log:
            log.seek(self._logged)
            if new := log.read(LOG_PART).rpartition(b"\n")[0]:
                self._logged += len(new) + 1
                self._link.send(type="log", text=new.decode("utf-8", "replace"))

    def _send_file(self, path: Path) -> None:
        status = path.stat()
        stamp = status.st_mtime_ns, status.st_size
        if self._sent.get(path) != stamp:
            text = path.read_bytes().decode("utf-8", "surrogatepass")
            self._link.send(
                type="file", name=path.relative_to(self._paths.root).as_posix(), text=text
            )
            self._sent[path] = stamp
