"""EASI's names for models that VLMEvalKit's registry lacks or has under another name.

The table is ``aliases.toml``.
"""

from __future__ import annotations

import functools
import tomllib
from dataclasses import dataclass
from pathlib import Path

TABLE = Path(__file__).with_name("aliases.toml")


@dataclass(frozen=True)
class EasiModel:
    """A model of EASI's list.

    Attributes:
        name: EASI's name for it.
        entry: The entry of VLMEvalKit's registry for it, if there is one.
        like: Otherwise, the entry whose settings the checkpoint ``path`` takes.
        path: The hub id of the checkpoint.
        note: A remark for the user when the model is used.
    """

    name: str
    entry: str = ""
    like: str = ""
    path: str = ""
    note: str = ""


@functools.cache
def easi_models() -> tuple[EasiModel, ...]:
    """Return all rows of the table."""
    return tuple(
        EasiModel(**row) for row in tomllib.loads(TABLE.read_text(encoding="utf-8"))["model"]
    )


def easi_model(wanted: str) -> EasiModel | None:
    """Return the row with this name, or with this hub id; None if there is none."""
    return next(
        (model for model in easi_models() if wanted in (model.name, model.path) and wanted), None
    )
