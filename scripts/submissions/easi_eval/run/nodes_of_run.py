"""``--nodes``: where other machines can join a run, and what they are told of it."""

from __future__ import annotations

import os
import secrets
import shlex
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from .. import __version__
from ..backends.shared.model_paths import model_path
from ..cluster import slurm
from ..config import RunConfig, program
from ..core.atomic_files import read_json, replace_file
from ..core.errors import EasiError
from ..core.events import Emit, Notice
from ..core.model_args import format_model_args
from ..core.places import cache_folder
from ..engine.nodes import NodeServer, loopback_of, own_address
from ..engine.processes.jobs import Job
from ..engine.work import Work
from .context import RunContext

SECRET = "EASI_JOIN_SECRET"
LISTEN = "EASI_LISTEN"
# Options that each machine has for itself, and those that only the head acts on.
_NOT_TOLD = (
    "output_dir",
    "dataset_dir",
    "nproc",
    "device",
    "benchmarks",
    "include_extra",
    "submission",
    "submit",
    "resubmit",
    "model_name_differs",
    "nodes",
    "slurm",
    "rerun",
    "smoke",
)


def secret_file(host: str, port: int) -> Path:
    """Return the file with the secret of the run whose head listens there."""
    return cache_folder() / "join" / f"{host}_{port}"


def joining_secret(host: str, port: int) -> str:
    """Return the secret of a run, for a machine that joins it.

    Raises:
        EasiError: It is not on this machine.
    """
    if secret := os.environ.get(SECRET, "").strip():
        return secret
    path = secret_file(host, port)
    with suppress(OSError):
        return path.read_text(encoding="utf-8").strip()
    raise EasiError(
        f"the secret of the run at {host}:{port} is not here: there is no {path}",
        hint=f"set {SECRET} to the content of the file that the run names",
    )


def about(context: RunContext, work: Work, revisions: Mapping[str, str]) -> dict[str, Any]:
    """Return what a node is told of a run: its options, its identity and its data."""
    cfg, default = _with_whole_paths(context), RunConfig(smoke=True)
    told = {
        field.name: str(value) if isinstance(value, Path) else value
        for field in fields(cfg)
        if field.name not in _NOT_TOLD
        and (value := getattr(cfg, field.name)) != getattr(default, field.name)
    }
    return {
        "program": __version__,
        "options": {**told, "smoke": cfg.smoke},
        "device": cfg.device,
        "benchmarks": [assignment.key for assignment in work.benchmarks],
        "identity": context.run.current,
        "revisions": dict(revisions),
    }


def _with_whole_paths(context: RunContext) -> RunConfig:
    """The options as the user gave them, with absolute paths: a node has another working folder."""
    cfg, model = context.asked, context.model
    if model_path(cfg.model) == model.path:
        cfg = replace(cfg, model=model.path)
    whole = {
        name: value
        for name in cfg.model_arguments
        if isinstance(value := model.arguments.get(name), str) and Path(value).is_absolute()
    }
    if whole:
        cfg = replace(cfg, model_args=format_model_args({**cfg.model_arguments, **whole}))
    return replace(cfg, backend_path=cfg.backend_path and cfg.backend_path.expanduser().absolute())


def placed(cfg: RunConfig) -> bool:
    """Whether Slurm places the nodes; then this machine answers nothing as head."""
    return bool(cfg.slurm) or (cfg.nodes > 1 and slurm.in_allocation(os.environ))


def placement(context: RunContext, server: NodeServer) -> Job:
    """Return the process under which Slurm has the nodes."""
    cfg, root = context.cfg, context.paths.root
    if not cfg.slurm:
        return slurm.srun_job(cfg, server.address, os.environ)
    logs = root / "nodes"
    logs.mkdir(exist_ok=True)
    replace_file(logs / "node.sbatch", slurm.SCRIPT.encode())
    words = slurm.sbatch_words(cfg, server.address, logs, context.model.needs_gpu)
    return slurm.array_job(words, root / "slurm.json")


def job_line(root: Path, at_work: int, nodes: int) -> str:
    """Say how far Slurm has placed the nodes; "" while it has not said anything."""
    told = read_json(root / "slurm.json") if (root / "slurm.json").exists() else None
    if not isinstance(told, dict):
        return ""
    waiting = [reason for what, reason in told["tasks"].values() if what == "PENDING"]
    pending = f", {len(waiting)} pending ({', '.join(sorted(set(waiting)))})" if waiting else ""
    return f"job {told['job']}: {at_work} of {nodes} nodes at work{pending}"


@contextmanager
def open_nodes(
    context: RunContext,
    work: Work,
    revisions: Mapping[str, str],
    lost: Callable[[str], None],
    leaves: Callable[[str], None],
    emit: Emit,
) -> Iterator[NodeServer | None]:
    """Let machines join for the length of the block; None without ``--nodes``.

    Raises:
        EasiError: This machine's name has no address to listen on.
    """
    cfg = context.cfg
    if cfg.nodes < 2 and not cfg.slurm:
        yield None
        return
    secret = os.environ.get(SECRET, "").strip() or secrets.token_hex(32)
    (context.paths.root / "slurm.json").unlink(missing_ok=True)  # of an earlier launch
    with ExitStack() as stack:
        try:
            host = os.environ.get(LISTEN, "").strip()
            if host in ("", "0.0.0.0", "::"):  # the last two are no address for others
                host = own_address()
            elif loopback := loopback_of(host):
                text = f"{LISTEN}={host} is {loopback}: only programs on this machine can join"
                emit(Notice(text, "warning"))
            most = cfg.nodes if placed(cfg) else cfg.nodes - 1  # this machine is one itself
            told = about(context, work, revisions)
            server = stack.enter_context(
                NodeServer(
                    context.paths.root, secret, host, most, told, lost, leaves, not placed(cfg)
                )
            )
        except OSError as error:
            raise EasiError(
                f"other machines cannot reach this one: {error}",
                hint=f"set {LISTEN} to the address or name of this machine's network interface",
            ) from error
        path = secret_file(host, server.port)
        stack.callback(path.unlink, missing_ok=True)
        replace_file(path, secret.encode(), mode=0o600)
        if not placed(cfg):
            emit(
                Notice(
                    f"other machines join with: {shlex.join(program())} --join {server.address} "
                    f"--nproc {cfg.nproc} (secret: {path}, or {SECRET})"
                )
            )
        yield server
