"""Checks of this machine before a run starts: packages, folders, token.

Nothing here imports torch, because that takes seconds.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from ..backends import make_backend
from ..backends.shared.catalog import locate
from ..config import RunConfig
from ..core.backend_facts import BACKEND_FACTS
from ..core.errors import EasiError, Refusals
from ..core.model_args import format_model_args
from ..data.connection import refuse_unusable
from ..data.needs import HubSettings
from ..engine.processes.gpus import SETUP
from ..engine.processes.supervisor import capture
from ..submission.endpoint import check_token, endpoint

NEEDED = (
    "rich",
    "pandas",
    "openpyxl",
    "huggingface_hub",
    "requests",
    "dotenv",
    "torch",
    "accelerate",
)


def check_dependencies(repository: Path) -> None:
    """Raise EasiError if this Python lacks a package that every run needs."""
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        ready = (repository / ".venv" / "bin" / "python").exists()
        raise EasiError(
            f"this Python lacks {', '.join(missing)}",
            hint="source .venv/bin/activate (if that does not help, run: bash scripts/setup.sh)"
            if ready
            else f"run: {SETUP}",
        )


def check_setup(
    cfg: RunConfig, refusals: Refusals, environ: Mapping[str, str] = os.environ
) -> None:
    """Check everything that depends on the machine and the options, but not on the model.

    The failed checks raise EasiError, or are collected in ``refusals`` in a dry run.
    """
    with refusals.noted():
        locate(cfg.kind, cfg.backend_path)
    with refusals.noted():
        check_attention(cfg, importlib.util.find_spec("flash_attn") is not None, flash_attn_imports)
    with refusals.noted():
        check_output_dir(cfg.output_dir)
    if not cfg.smoke:
        with refusals.noted():
            refuse_unusable(HubSettings.from_env(environ), environ)
        if cfg.kind.takes_dataset_dir and not cfg.import_results:
            with refusals.noted():
                # Only existence is checked: a complete dataset folder may be read-only.
                _existing(cfg.dataset_dir, "--dataset-dir")
    if cfg.submit:
        with refusals.noted():
            endpoint(environ)
        with refusals.noted():
            check_token(HubSettings.from_env(environ).token)


def check_output_dir(folder: Path) -> None:
    """Raise EasiError if the folder cannot be written to. Does not create it."""
    there = _existing(folder, "--output-dir")
    if not os.access(there, os.W_OK | os.X_OK):
        raise EasiError(
            f"--output-dir {folder}: {there} is not writable", hint="give another --output-dir"
        )


def _existing(folder: Path, option: str) -> Path:
    """Return the folder or its nearest existing parent; EasiError if that is not a folder."""
    there = folder.absolute()
    while not there.exists() and not there.is_symlink():
        there = there.parent
    if not there.is_dir():
        raise EasiError(
            f"{option} {folder}: {there} is not a folder", hint=f"give another {option}"
        )
    return there


def flash_attn_imports() -> bool:
    """Whether flash_attn can be imported.

    A build for another torch version is installed and still fails to import. The test takes seconds
    and runs in a separate process.
    """
    return capture([sys.executable, "-c", "import flash_attn"], seconds=120) is not None


def check_attention(cfg: RunConfig, has_flash_attn: bool, imports: Callable[[], bool]) -> None:
    """Raise EasiError if flash_attention_2 is requested and cannot be used.

    Args:
        cfg: The run; its model arguments may name an attention implementation.
        has_flash_attn: The package is installed.
        imports: Slow test whether it can be imported; called only if everything else is fine.
    """
    asked = {
        key
        for key, value in cfg.model_arguments.items()
        if value.strip("\"'") == "flash_attention_2"
    }
    if not asked:
        return
    if not has_flash_attn:
        why = "flash_attn is not installed"
    elif cfg.device == "cpu":
        why = "it does not run on the CPU"
    elif not imports():
        why = "flash_attn does not import (was it built for another torch?)"
    else:
        return
    arguments = {
        key: "sdpa" if key in asked else value for key, value in cfg.model_arguments.items()
    }
    raise EasiError(
        f"{min(asked)}=flash_attention_2, but {why}",
        hint=replace(cfg, model_args=format_model_args(arguments)).command(),
    )


def backends_with_option(name: str) -> list[str]:
    """Return the backends whose own command line has this option."""
    found = []
    for backend in BACKEND_FACTS:
        # A backend that is not installed cannot be asked.
        with contextlib.suppress(EasiError, ImportError):
            if name in make_backend(backend, HubSettings.from_env()).own_options():
                found.append(backend)
    return found
