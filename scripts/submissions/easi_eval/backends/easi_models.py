"""EASI's names for models that VLMEvalKit's registry has under another name, or not at all (``easi_models.toml``)."""

from __future__ import annotations

import functools
import tomllib
from dataclasses import dataclass
from pathlib import Path

TABLE = Path(__file__).with_name("easi_models.toml")


@dataclass(frozen=True)
class EasiModel:
    """``entry`` names the registry's entry for it; or else ``like`` the entry whose settings the checkpoint ``path`` takes.

    ``note`` is worth saying when the model is used.
    """

    name: str
    entry: str = ""
    like: str = ""
    path: str = ""
    note: str = ""


@functools.cache
def easi_models() -> tuple[EasiModel, ...]:
    return tuple(
        EasiModel(**row) for row in tomllib.loads(TABLE.read_text(encoding="utf-8"))["model"]
    )


def easi_model(wanted: str) -> EasiModel | None:
    """The row for a name of EASI's list, or for the hub id of a model that the registry lacks."""
    return next(
        (model for model in easi_models() if wanted in (model.name, model.path) and wanted), None
    )
