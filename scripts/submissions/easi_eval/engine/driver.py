"""Common part of both backends' drivers: options, roles and the work to do.

A driver is one command line with three roles. Each rank of a launcher (or the only process without
one) is a *keeper*, which loads no model and starts one *worker*. The worker answers questions. One
*score* process turns the journal into the backend's result files.
"""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..core.errors import EasiError
from ..core.model import ModelChoice
from .hang import Limits, Silence
from .processes.keeper import CANNOT_WORK, Place, keep
from .processes.supervisor import started_by_hand
from .work import Work
from .worker_errors import ErrorPrinter

ROLES = ("keep", "work", "score")
ARGPARSE_REFUSED = 2


@dataclass(frozen=True)
class DriverOptions:
    """The options of this program on a driver's command line.

    Attributes:
        run: Folder of the run; None: the backend is used directly.
        role: One of ``ROLES``.
        model: The model choice of the plan, complete, so that the command alone says what it loads.
    """

    run: Path | None = None
    role: str = "keep"
    model: ModelChoice | None = None


def split_options(argv: Sequence[str]) -> tuple[DriverOptions, list[str]]:
    """Take this program's options out of a driver's command line.

    The options are ``--easi-run DIR``, ``--easi-role ROLE`` and ``--easi-model JSON``.

    Returns:
        The options, and the remaining words, which belong to the backend.

    Raises:
        EasiError: The role or the model cannot be read.
    """
    run: Path | None = None
    role = "keep"
    model: ModelChoice | None = None
    rest: list[str] = []
    words = iter(argv)
    for word in words:
        if word == "--easi-run":
            run = Path(next(words, ""))
        elif word == "--easi-role":
            role = next(words, "")
        elif word == "--easi-model":
            model = ModelChoice.from_argument(next(words, ""))
        else:
            rest.append(word)
    if role not in ROLES:
        raise EasiError(f"--easi-role is {role!r}", hint=f"one of {', '.join(ROLES)}")
    return DriverOptions(run, role, model), rest


def run_role(options: DriverOptions, role: Callable[[], int]) -> int:
    """Run a role and return its exit code; an EasiError is printed as two lines.

    An EasiError in a worker, or a command line that its backend refuses, would come again after a
    restart. The exit code is then ``CANNOT_WORK``, and the keeper does not restart the worker.
    """
    hopeless = CANNOT_WORK if options.role == "work" else ARGPARSE_REFUSED
    if options.role == "work":
        faulthandler.enable()  # print the stacks when native code crashes
    try:
        return role()
    except EasiError as error:
        print(f"error: {error.message}", file=sys.stderr)
        if error.hint:
            print(f"hint: {error.hint}", file=sys.stderr)
        return hopeless
    except SystemExit as end:
        if end.code != ARGPARSE_REFUSED:
            raise
        return hopeless
    except Exception as error:
        if options.run is None:
            raise
        ErrorPrinter(options.run, _launch(options.run)).report(
            "this worker ends" if options.role == "work" else "this process ends", error
        )
        return 1
    finally:
        # The collection at the end of the process would visit the whole backend for a second or
        # two.
        gc.freeze()


def _launch(run_root: Path) -> int:
    """Number of the run's launch; 0 if the work file cannot be read."""
    try:
        return Work.load(run_root).launch
    except EasiError:
        return 0


@contextlib.contextmanager
def without_gc() -> Iterator[None]:
    """Import a backend without garbage collection, and exclude it from later collections.

    A backend is about a million objects that live as long as the process. Each full collection
    visits all of them: a third of the import time, and a quarter of a second for each
    ``gc.collect`` of a backend (lmms-eval makes two per scored task).
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def keep_worker(
    command: Sequence[str], options: DriverOptions, argv: Sequence[str], work: Callable[[], Work]
) -> int:
    """Run as keeper of this rank, with the same command line as worker; returns the exit code.

    Where no run started the command, the keeper of rank 0 has the dispatcher, for the work that
    ``work`` returns.
    """
    assert options.run is not None
    root, limits = options.run, Limits.read(os.environ)
    watcher = (lambda worker, attempt: Silence(root, worker, attempt, limits)) if limits else None
    worker = [sys.executable, *command, *argv, "--easi-role", "work"]
    if not started_by_hand() or Place.read(os.environ).rank != 0:
        return keep(worker, root, watcher=watcher)
    from .dispatch_server import DispatchServer  # asyncio: the keepers of a run do without

    with DispatchServer(root, work()) as server:
        code = keep(worker, root, watcher=watcher)
        while server.serves:  # workers of other ranks
            time.sleep(1.0)
    return code
