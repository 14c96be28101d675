"""Command lines that start N ranks of one Python program. Pure, but for ``free_port``.

``argv`` is what would follow ``python``: a script or ``-m module``, then its arguments.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Sequence
from pathlib import Path

# Stands in for the file that `accelerate config` leaves in a user's home: without it accelerate would mix that file
# (another number of machines, deepspeed, mixed precision) into the flags given here.
ACCELERATE_CONFIG = Path(__file__).with_name("accelerate.yaml")


def plain(argv: Sequence[str]) -> tuple[str, ...]:
    """One process, no launcher."""
    return (sys.executable, *argv)


def torchrun(nproc: int, port: int, argv: Sequence[str]) -> tuple[str, ...]:
    """``nproc`` ranks on this machine; the launcher's store listens on ``port``."""
    return (
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nnodes=1",
        f"--nproc-per-node={nproc}",
        "--max-restarts=0",
        "--master-addr=127.0.0.1",
        f"--master-port={port}",
        *argv,
    )


def accelerate(nproc: int, port: int, argv: Sequence[str]) -> tuple[str, ...]:
    """The same through accelerate, with the guide's flags, independent of the user's accelerate configuration.

    ``--multi_gpu`` makes it start N processes whatever it sees of the GPUs, on a CPU machine too; with one process
    it starts the program directly, without a store.
    """
    several = ("--multi_gpu",) if nproc > 1 else ()
    return (
        sys.executable,
        "-m",
        "accelerate.commands.launch",
        f"--config_file={ACCELERATE_CONFIG}",
        *several,
        f"--num_processes={nproc}",
        "--num_machines=1",
        "--mixed_precision=no",
        "--dynamo_backend=no",
        "--gpu_ids=all",
        "--main_process_ip=127.0.0.1",
        f"--main_process_port={port}",
        *argv,
    )


def free_port() -> int:
    """A TCP port nobody listens on now. Another program may take it before it is used."""
    with socket.socket() as probe:
        probe.bind(("", 0))
        return probe.getsockname()[1]
