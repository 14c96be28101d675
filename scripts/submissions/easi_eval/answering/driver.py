"""What both backends' drivers share: our own options among the backend's, the three roles, the record of the model.

A driver is one command line in three roles. Under a launcher (and without one) every rank is a *keeper*,
which holds no model and starts one *worker*; the worker answers items; one *score* process turns the
journal into the backend's own result files.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from ..backends.base import ModelChoice
from ..errors import EasiError
from ..execution.keeper import keep

ROLES = ("keep", "work", "score", "stock")


@dataclass(frozen=True)
class DriverOptions:
    """Our options on a driver's command line; ``run`` None means that the backend is used directly."""

    run: Path | None = None
    role: str = "keep"


def split_options(argv: Sequence[str]) -> tuple[DriverOptions, list[str]]:
    """Take ``--easi-run DIR`` and ``--easi-role ROLE`` out of ``argv``; what remains is the backend's."""
    run: Path | None = None
    role = "keep"
    rest: list[str] = []
    words = iter(argv)
    for word in words:
        if word == "--easi-run":
            run = Path(next(words, ""))
        elif word == "--easi-role":
            role = next(words, "")
        else:
            rest.append(word)
    if role not in ROLES:
        raise EasiError(f"--easi-role is {role!r}", hint=f"one of {', '.join(ROLES)}")
    return DriverOptions(run, role), rest


def keep_worker(command: Sequence[str], options: DriverOptions, rest: Sequence[str]) -> int:
    """Be this rank's keeper: run the same command as a worker. Returns the keeper's exit code."""
    assert options.run is not None
    argv = [sys.executable, *command, *rest, "--easi-run", str(options.run), "--easi-role", "work"]
    return keep(argv, options.run)


def save_model(run_root: Path, model: ModelChoice) -> None:
    """Write ``model.json``: the worker must load exactly what the plan printed."""
    (run_root / "model.json").write_text(json.dumps(asdict(model), indent=2, ensure_ascii=False), encoding="utf-8")


def load_model(run_root: Path) -> ModelChoice:
    """Read ``model.json``; EasiError when it is missing or was written by another version."""
    path = run_root / "model.json"
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        return ModelChoice(**{**fields, "notes": tuple(fields["notes"])})
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise EasiError(f"{path} cannot be read ({error})", hint="start the run again with run_easi_eval.py") from error
