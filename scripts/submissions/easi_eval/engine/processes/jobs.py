"""A process to run, and how it ended, as plain data.

``--dry-run`` prints jobs; the supervisor executes them.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

# Variables by which launchers (torchrun, accelerate, MPI, srun, the operators of clusters) tell
# processes their rank and configure them. torch, accelerate, transformers, deepspeed, vllm and
# model classes of both backends act on them. Patterns are exact names or unambiguous prefixes,
# because similar names are user settings: VLMEvalKit reads LOCAL_LLM.
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
    """Names of the variables in ``environ`` that a launcher has set.

    They describe a rank of the launcher's job. A process that this program starts is no such rank.
    """
    return [name for name in environ if _LAUNCHER.fullmatch(name)]


@dataclass(frozen=True)
class Job:
    """One command line.

    It holds no secrets, because it is printed: children inherit secrets from the environment of
    this process.

    Attributes:
        name: Name for logs and messages: "answer", "score", "plain blink".
        env: Differences from the environment of this process; "" removes a variable.
        cwd: Working directory, or None for that of this process. The caller creates it before the
            start; the printed command contains a ``mkdir``.
    """

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: Path | None = None

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
    """How a job ended.

    Attributes:
        exit_code: Negative: the signal. None: this program ended the job. 0 does not prove success,
            because both backends exit with 0 after failures.
        log_tail: The last lines of the output, redacted.
    """

    job: Job
    exit_code: int | None
    seconds: float
    log_tail: tuple[str, ...] = ()


@dataclass
class Restarts:
    """Decides whether a launch of workers is started again on its machine after it was killed.

    Attributes:
        most: Times in a row.
        settled: If a launch lasted this many seconds, its end counts as the first in a row.
        failures: Ends in a row so far.
    """

    most: int = 3
    settled: float = 900.0
    failures: int = 0

    def allow(self, outcome: Outcome) -> bool:
        """Whether to start it again. Keepers end with 0, also when they gave their workers up."""
        if not outcome.exit_code:
            return False
        self.failures = 1 if outcome.seconds >= self.settled else self.failures + 1
        return self.failures <= self.most
