"""What both backends' drivers share: our own options among the backend's, the roles, what is to be run.

A driver is one command line in three roles. Under a launcher (and without one) every rank is a *keeper*,
which holds no model and starts one *worker*; the worker answers items; one *score* process turns the
journal into the backend's own result files.
"""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from ..benchmarks import BENCHMARKS
from ..errors import EasiError
from ..execution.keeper import CANNOT_WORK, keep
from ..model import ModelChoice
from .complaints import Complaints
from .hang import Limits, Silence
from .work import WORK_FILE, Assignment, Work

ROLES = ("keep", "work", "score")
ARGPARSE_REFUSED = 2


@dataclass(frozen=True)
class DriverOptions:
    """Our options on a driver's command line; ``run`` None means that the backend is used directly.

    ``model`` is the plan's choice, in full: the command alone says what it loads.
    """

    run: Path | None = None
    role: str = "keep"
    model: ModelChoice | None = None


def split_options(argv: Sequence[str]) -> tuple[DriverOptions, list[str]]:
    """Take ``--easi-run DIR``, ``--easi-role ROLE`` and ``--easi-model JSON`` out of ``argv``; the rest is the backend's."""
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
            model = _model(next(words, ""))
        else:
            rest.append(word)
    if role not in ROLES:
        raise EasiError(f"--easi-role is {role!r}", hint=f"one of {', '.join(ROLES)}")
    return DriverOptions(run, role, model), rest


def guarded(options: DriverOptions, role: Callable[[], int]) -> int:
    """Carry out a role and return its exit code; an error for people is two lines.

    What a worker is told in such words, and a command line that its backend refuses, is the same at the next start: it
    returns ``CANNOT_WORK`` and its keeper does not start it again.
    """
    hopeless = CANNOT_WORK if options.role == "work" else ARGPARSE_REFUSED
    if options.role == "work":
        faulthandler.enable()  # the log says where a crash of native code struck
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
        Complaints(options.run, _launch(options.run)).say(
            "this worker ends" if options.role == "work" else "this process ends", error
        )
        return 1
    finally:
        gc.freeze()  # the process ends: its last collection would look at a whole backend for a second or two


def _launch(run_root: Path) -> int:
    try:
        return Work.load(run_root).launch
    except EasiError:
        return 0


@contextlib.contextmanager
def importing() -> Iterator[None]:
    """Import a backend without the garbage collector, and keep it out of what was imported.

    A backend is some million objects that live as long as the process. Each full collection looks at all of them: a third
    of an import's time, and a quarter of a second whenever a backend calls ``gc.collect`` (lmms-eval does twice per scored
    task).
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def keep_worker(command: Sequence[str], options: DriverOptions, argv: Sequence[str]) -> int:
    """Be this rank's keeper: run the same command line ``argv`` as a worker. Returns the keeper's exit code."""
    assert options.run is not None
    root, limits = options.run, Limits.read(os.environ)
    watcher = (lambda worker, attempt: Silence(root, worker, attempt, limits)) if limits else None
    return keep([sys.executable, *command, *argv, "--easi-role", "work"], root, watcher=watcher)


def model_option(model: ModelChoice) -> list[str]:
    """``--easi-model`` with what a driver needs to load the model; why it was chosen stays out."""
    fields = {
        name: value
        for name, value in asdict(replace(model, why="", notes=())).items()
        if value not in ("", (), {})
    }
    return ["--easi-model", json.dumps(fields, ensure_ascii=False)]


def _model(text: str) -> ModelChoice:
    try:
        return ModelChoice(**{"why": "", **json.loads(text)})
    except (ValueError, TypeError) as error:
        raise EasiError(
            f"--easi-model cannot be read ({error})",
            hint="copy the command from --dry-run as it is",
        ) from error


def load_work(run_root: Path, backend: str, tasks: Sequence[str], limit: int | None) -> Work:
    """The part of the run that this command line asks for: an answered benchmark is not asked again, but still scored.

    Without ``work.json`` (the command was pasted, not started by a run) all of ``tasks`` are asked, under a launch of
    their own; a task that is no benchmark of the registry goes by its own name.
    """
    if (run_root / WORK_FILE).exists():
        work = Work.load(run_root)
        return replace(
            work,
            benchmarks=tuple(
                assignment for assignment in work.benchmarks if assignment.task in tasks
            ),
        )
    keys = {bench.source(backend).task: bench.key for bench in BENCHMARKS}
    work = Work(tuple(Assignment(keys.get(task, task), task, limit=limit) for task in tasks))
    run_root.mkdir(parents=True, exist_ok=True)
    work.save(run_root)
    return work
