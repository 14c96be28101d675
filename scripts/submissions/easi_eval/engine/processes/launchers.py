"""Command lines that start N ranks of one Python program.

All functions are pure, except ``free_port``. ``argv`` is what follows ``python``: a script, or
``-m`` and a module, then its arguments.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Sequence
from pathlib import Path

# Replaces the file that `accelerate config` writes to the user's home directory. Otherwise
# accelerate mixes that file (another number of machines, deepspeed, mixed precision) into the flags
# given here.
ACCELERATE_CONFIG = Path(__file__).with_name("accelerate.yaml")


def plain(argv: Sequence[str], python: str = sys.executable) -> tuple[str, ...]:
    """Command line of one process without a launcher."""
    return (python, *argv)


def torchrun(
    nproc: int, port: int, argv: Sequence[str], python: str = sys.executable
) -> tuple[str, ...]:
    """Command line of ``nproc`` ranks on this machine; the TCPStore listens on ``port``."""
    return (
        python,
        "-m",
        "torch.distributed.run",
        "--nnodes=1",
        f"--nproc-per-node={nproc}",
        "--max-restarts=0",
        "--master-addr=127.0.0.1",
        f"--master-port={port}",
        *argv,
    )


def accelerate(
    nproc: int, port: int, argv: Sequence[str], python: str = sys.executable
) -> tuple[str, ...]:
    """Command line of ``nproc`` ranks through accelerate, with the flags of the EASI guide.

    The accelerate configuration of the user has no effect. ``--multi_gpu`` makes accelerate start N
    processes for any number of visible GPUs, also on a machine without one. With one process
    accelerate starts the program directly, without a TCPStore.
    """
    several = ("--multi_gpu",) if nproc > 1 else ()
    return (
        python,
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
    """A TCP port that is free now; another program may take it before it is used."""
    with socket.socket() as probe:
        probe.bind(("", 0))
        port: int = probe.getsockname()[1]
        return port
