"""Submits an array job, follows it, and cancels it when this process ends.

    python -m easi_eval.cluster.array STATE sbatch ...

``STATE`` is a JSON file: the job's number, and state and reason of each task. Only ``sbatch``,
``squeue``, ``scontrol`` and ``scancel`` are used: ``sacct`` is often switched off. Slurm holds a
requeued task back for two minutes; it is told to start now.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import NoReturn

from ..core.atomic_files import write_json
from ..engine.processes.supervisor import TAG

POLL = 2.0  # seconds
ANSWER_WITHIN = 30.0  # seconds; an overloaded controller is asked again
GONE = 3  # polls in a row without the job


def main(argv: Sequence[str]) -> int:
    """Run until the job is gone; returns the exit code."""
    state, submit = Path(argv[0]), argv[1:]
    signal.signal(signal.SIGTERM, _stop)
    # Until the job's number is known, SIGTERM waits and does not end sbatch: nobody could cancel
    # the job.
    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM,))
    # A node belongs to Slurm, not to this process's job.
    environment = {name: value for name, value in os.environ.items() if name != TAG}
    told = subprocess.run(
        submit, capture_output=True, text=True, env=environment, preexec_fn=_ignore_sigterm
    )
    if told.returncode:
        print(f"error: Slurm refused the job: {' '.join(told.stderr.split())}", flush=True)
        return 1
    job = told.stdout.strip().split(";")[0]
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGTERM,))
        print(f"job {job}", flush=True)
        missing, ran, held = 0, set[str](), set[str]()
        while missing < GONE:
            tasks = _tasks(job)
            if tasks is not None:
                missing = 0 if tasks else missing + 1
                write_json(state, {"job": job, "tasks": tasks})
                for task, (what, reason) in tasks.items():
                    if what == "RUNNING":
                        ran.add(task)
                        held.discard(task)
                    # One that never ran waits for the user's own --begin.
                    elif task in ran and what == "PENDING" and reason == "BeginTime":
                        # Not yet when first seen: in the second in which it ended, its node refuses
                        # to start it again.
                        if task in held:
                            _ask("scontrol", "update", f"JobId={task}", "StartTime=now")
                        held.add(task)
            time.sleep(POLL)
        print(f"error: Slurm has no job {job} any more; was it cancelled?", flush=True)
    finally:
        _ask("scancel", job)
    return 0


def _tasks(job: str) -> dict[str, tuple[str, str]] | None:
    """State and reason of each task that is not over; None if Slurm does not answer."""
    told = _ask("squeue", "--noheader", "--array", f"--jobs={job}", "--format=%i|%T|%r")
    if told is None:
        return None
    if told.returncode:
        return {} if re.search("[Ii]nvalid job", told.stderr) else None
    lines = [line.strip().split("|", 2) for line in told.stdout.splitlines() if line.strip()]
    return {task: (what, reason) for task, what, reason in lines}


def _ask(*words: str) -> subprocess.CompletedProcess[str] | None:
    try:
        return subprocess.run(words, capture_output=True, text=True, timeout=ANSWER_WITHIN)
    except subprocess.TimeoutExpired:
        return None


def _ignore_sigterm() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def _stop(signum: int, frame: FrameType | None) -> NoReturn:
    signal.signal(signum, signal.SIG_IGN)  # a second one must not end scancel
    raise SystemExit(128 + signum)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
