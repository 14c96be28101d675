"""The commands by which Slurm places the nodes of a run.

Each node runs ``--join``. Inside an allocation one ``srun`` step has all nodes; from outside an
array job has one task per node, so that a lost node is requeued alone
(https://slurm.schedmd.com/job_array.html). A single job with ``--no-kill`` would go on without its
batch script when its first machine is lost.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from ..config import RunConfig
from ..core.errors import EasiError
from ..core.places import REPOSITORY
from ..engine.processes.jobs import Job
from ..engine.processes.supervisor import run_job

PROGRAM = REPOSITORY / "scripts" / "submissions" / "run_easi_eval.py"
SCRIPT = '#!/bin/bash\nexec "$@"\n'
DRAIN_BEFORE = 120  # seconds before the time limit at which a node takes nothing more
CPUS_PER_WORKER = 4  # where the user's options say nothing of CPUs
TEST_WITHIN = 30.0  # seconds
_GPUS = re.compile(r"(?m)(?:^|\s)(?:#SBATCH\s+)?(--gres|--gpus|-G\b|--tres-per)")
_CPUS = re.compile(r"(?m)(?:^|\s)(?:#SBATCH\s+)?(--cpus-per|-c\b|--exclusive)")


def in_allocation(environ: Mapping[str, str]) -> bool:
    """Whether this program runs inside an allocation of several machines."""
    return int(environ.get("SLURM_JOB_NUM_NODES") or 1) > 1


def own_job(environ: Mapping[str, str]) -> str:
    """Return the number of the batch job, or task of an array job, that this program runs in."""
    job, task = environ.get("SLURM_ARRAY_JOB_ID"), environ.get("SLURM_ARRAY_TASK_ID")
    return f"{job}_{task}" if job and task else environ.get("SLURM_JOB_ID", "")


def requeue(job: str, log: Path) -> None:
    """Have Slurm end this batch job and start it again; print why if it does not."""
    with suppress(KeyboardInterrupt):  # Slurm ends this job
        outcome = run_job(Job("requeue", ("scontrol", "requeue", job)), log)
        if outcome.exit_code:
            print(f"job {job} is not requeued: {' '.join(outcome.log_tail[-1:])}", flush=True)


def join_words(cfg: RunConfig, address: str) -> list[str]:
    """Return the command line of a node."""
    device = ["--device", cfg.device] if cfg.device else []
    data = ["--dataset-dir", str(cfg.dataset_dir.absolute())] if cfg.kind.takes_dataset_dir else []
    return [
        *(sys.executable, str(PROGRAM), "--join", address),
        *("--nproc", str(cfg.nproc), *device, *data),
    ]


def srun_job(cfg: RunConfig, address: str, environ: Mapping[str, str]) -> Job:
    """Return the step that has one node program on each machine of this allocation.

    A step gets one CPU per task unless it is told otherwise.
    """
    nodes = min(cfg.nodes, int(environ["SLURM_JOB_NUM_NODES"]))
    cpus = [int(count) for count in re.findall(r"\b\d+(?!\))", _per_node(environ))]
    return Job(
        "nodes",
        (
            *("srun", f"--nodes={nodes}", f"--ntasks={nodes}", "--ntasks-per-node=1"),
            *([f"--cpus-per-task={min(cpus)}"] if cpus else []),
            *("--kill-on-bad-exit=0", "--no-kill", "--cpu-bind=none", "--label"),
            *join_words(cfg, address),
        ),
    )


def _per_node(environ: Mapping[str, str]) -> str:
    """``SLURM_JOB_CPUS_PER_NODE``, for example ``64(x3),32``, without the repetitions."""
    return re.sub(r"\(x\d+\)", "", environ.get("SLURM_JOB_CPUS_PER_NODE", ""))


def script_of(cfg: RunConfig) -> tuple[list[str], Path | None]:
    """Return the user's options of ``--slurm``, or the user's script after ``@``.

    Raises:
        EasiError: A quote is open, or the script is not there or does not start what it is given.
    """
    if not cfg.slurm.startswith("@"):
        try:
            return shlex.split(cfg.slurm), None
        except ValueError as error:
            raise EasiError(f"--slurm: {error}", hint="close each quote") from error
    path = Path(cfg.slurm[1:]).expanduser()
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise EasiError(
            f"--slurm: {path} cannot be read: {error}", hint="name a batch script after @"
        ) from error
    if '"$@"' not in text:
        raise EasiError(
            f'--slurm: {path} does not contain "$@", which starts the node',
            hint='end it with: exec "$@"',
        )
    return [], path.absolute()


def sbatch_words(cfg: RunConfig, address: str, logs: Path, needs_gpu: bool) -> list[str]:
    """Return the command that submits the array job.

    Args:
        cfg: The run.
        address: Where its head listens for nodes.
        logs: Folder for the tasks' output; without a script of the user's it has ``node.sbatch``,
            with the text ``SCRIPT``.
        needs_gpu: Whether the workers need GPUs.

    Raises:
        EasiError: See ``script_of``.
    """
    given, script = script_of(cfg)
    said = script.read_text(encoding="utf-8") if script else shlex.join(given)
    gpus = [f"--gres=gpu:{cfg.nproc}"] if needs_gpu and not _GPUS.search(said) else []
    cpus = [] if _CPUS.search(said) else [f"--cpus-per-task={CPUS_PER_WORKER * cfg.nproc}"]
    signal = [] if "--signal" in said else [f"--signal=B:USR2@{DRAIN_BEFORE}"]
    return [
        *("sbatch", "--parsable", f"--array=0-{cfg.nodes - 1}", "--nodes=1", "--ntasks=1"),
        *("--requeue", "--open-mode=append", *signal),
        *(f"--job-name=easi-{re.sub(r'[^A-Za-z0-9.-]+', '-', cfg.model)[:40]}",),
        *(f"--output={logs}/slurm-%a.log", *gpus, *cpus, *given),
        *(str(script) if script else str(logs / "node.sbatch"), *join_words(cfg, address)),
    ]


def array_job(words: list[str], state: Path) -> Job:
    """Return the process that submits the array job, follows it, and cancels it when it ends."""
    return Job("nodes", (sys.executable, "-m", "easi_eval.cluster.array", str(state), *words))


def check(cfg: RunConfig, needs_gpu: bool) -> list[str]:
    """Refuse what Slurm would refuse; nothing is submitted.

    Returns:
        Lines for the plan: the command of the job, and its script.

    Raises:
        EasiError: The script cannot be used, Slurm is not on this machine (unless nothing is to be
            started), or it would not take the job.
    """
    logs = Path("LOGS")
    words = sbatch_words(cfg, "HOST:PORT", logs, needs_gpu)
    lines = [f"nodes: {shlex.join(words)}"]
    if script_of(cfg)[1] is None:
        lines.append(f"LOGS/node.sbatch: {' '.join(SCRIPT.split())}")
    if shutil.which("sbatch") is None:
        if cfg.dry_run:
            return lines
        raise EasiError(
            "--slurm: there is no sbatch on this machine",
            hint="start the run on a machine from which jobs are submitted, or use --join",
        )
    if reason := _refusal(words):
        raise EasiError(f"Slurm would refuse the job: {reason}", hint="correct --slurm or --nodes")
    return lines


def _refusal(words: list[str]) -> str:
    """Why Slurm would not take this job; "" if it would."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "node.sbatch").write_text(SCRIPT, encoding="utf-8")
        tried = [word.replace("LOGS/", f"{folder}/", 1) for word in words[1:]]
        try:
            told = subprocess.run(
                ["sbatch", "--test-only", *tried],
                capture_output=True,
                text=True,
                timeout=TEST_WITHIN,
            )
        except subprocess.TimeoutExpired:
            return f"sbatch --test-only gave no answer within {TEST_WITHIN:g} s"
    if not told.returncode:
        return ""
    return " ".join(told.stderr.split()) or f"sbatch --test-only ended with {told.returncode}"
