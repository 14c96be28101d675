"""A process to run, and how it ended: plain data, printed by ``--dry-run`` and executed by the supervisor."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

# What launchers (torchrun, accelerate, MPI, srun, the operators of clusters) tell their processes about ranks, and with what
# they configure them. torch, accelerate, transformers, deepspeed, vllm and model classes of both backends act on it. By exact
# name or clear prefix: LOCAL_LLM, for one, is a user's setting that VLMEvalKit reads.
_LAUNCHER = re.compile(
    "|".join(
        (
            "(LOCAL_|GROUP_|ROLE_|NODE_|CROSS_|SMDATAPARALLEL_LOCAL_)?RANK",
            "(LOCAL_|GROUP_|ROLE_)?WORLD_SIZE",
            "ROLE_NAME",
            "LOCAL_SIZE",
            "CROSS_SIZE",
            "NNODES",
            "NPROC",
            "NPROC_PER_NODE",
            "MASTER_(ADDR|PORT)",
            "FORK_LAUNCHED",
            "(TORCH_)?NCCL_ASYNC_ERROR_HANDLING",
            r"TORCH_(\w+_)?RDZV(_\w+)?",
            r"(TORCHELASTIC|TORCH_ELASTIC|TORCHX|PET)_\w+",
            r"(ACCELERATE|FSDP|DEEPSPEED|MEGATRON_LM|PARALLELISM_CONFIG|VLLM_DP)_\w+",
            r"(PMI|PMI2|PMIX|OMPI|PALS|JSM_NAMESPACE|MV2_COMM_WORLD)_\w+",
            r"MPI_\w*(RANK|SIZE)\w*",
            r"MPI_LOCAL\w+",
            r"HOROVOD_(\w+_)?(RANK|SIZE)",
            "SLURM_(PROCID|LOCALID|NODEID|GTIDS|TASK_PID|NPROCS|NTASKS|NNODES|JOB_NUM_NODES)",
            "SLURM_(NTASKS|TASKS)_PER_NODE",
            r"SLURM_(STEP|SRUN|LAUNCH)_\w+",
        )
    )
)


def launcher_variables(environ: Mapping[str, str]) -> list[str]:
    """Names of the variables that a launcher left in ``environ``: to a process that we start they would be another job's."""
    return [name for name in environ if _LAUNCHER.fullmatch(name)]


@dataclass(frozen=True)
class Job:
    """One command line. Secrets never stand here: children inherit them from our own environment."""

    name: str  # for people: "answer", "score", "plain blink"
    argv: tuple[str, ...]
    env: Mapping[str, str] = field(
        default_factory=dict
    )  # only what differs from ours; "" removes the variable
    cwd: Path | None = None  # made if it is not there

    def __str__(self) -> str:
        words = ["env"]
        removed = [name for name, value in self.env.items() if value == ""]
        for name in dict.fromkeys([*removed, *launcher_variables(os.environ)]):
            words += ["-u", name]
        words += [f"{name}={value}" for name, value in self.env.items() if value != ""]
        command = shlex.join((words if len(words) > 1 else []) + list(self.argv))
        folder = shlex.quote(str(self.cwd))
        return f"mkdir -p {folder} && cd {folder} && {command}" if self.cwd else command


@dataclass(frozen=True)
class Outcome:
    """How a job ended. ``exit_code`` proves nothing: both backends exit 0 on failure."""

    job: Job
    exit_code: int | None  # None: we ended it
    seconds: float
    log_tail: tuple[str, ...] = ()  # the last lines of its output, redacted
