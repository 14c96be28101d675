"""Suggest metadata of a submission from the checkpoint's own files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..config import RunConfig, SubmissionConfig
from ..core.manifest import Manifest
from ..core.model import ModelChoice
from ..core.run_folder import RunPaths
from ..data.needs import HubSettings
from .metadata import MAIN

# The leaderboard's values of the field, by the dtype in config.json. The leaderboard has no value
# for other types, for example 4 bits.
PRECISION_OF_DTYPE = {
    "bfloat16": "bfloat16",
    "float16": "float16",
    "half": "float16",
    "float32": "float32",
    "float": "float32",
}
ADAPTERS = ("peft", "delta")


def metadata_suggestions(
    cfg: RunConfig, model: ModelChoice, paths: RunPaths, hub: HubSettings
) -> tuple[str, ...]:
    """Return what the checkpoint's own files say about the metadata fields.

    Empty if the files are not on disk yet, or if they agree with the metadata.
    """
    folder = Path(model.path)
    if cfg.smoke or model.served:
        return ()
    if not folder.is_absolute():
        before = Manifest.load(paths.manifest)
        repo = hub.hub_cache / f"models--{model.path.replace('/', '--')}"
        ref = repo / "refs" / (model.revision or MAIN)
        commit = (before.revisions.get(model.path) if before else None) or (
            ref.read_text(encoding="utf-8").strip() if ref.is_file() else ""
        )
        folder = repo / "snapshots" / (commit or "none")
    return suggestions(
        model,
        read_config(folder, "config.json"),
        read_config(folder, "adapter_config.json"),
        cfg.submission,
    )


def suggestions(
    model: ModelChoice,
    config: Mapping[str, Any] | None,
    adapter: Mapping[str, Any] | None,
    given: SubmissionConfig | None,
) -> tuple[str, ...]:
    """Return suggestions for the metadata from the checkpoint's files, one line each.

    The user decides about them; no field is set automatically.
    """
    lines = []
    precision = precision_of(model, config)
    if precision and (given is None or given.precision != precision):
        said = "" if given is None else f", --submission-configs says {given.precision}"
        lines.append(f"config.json suggests precision {precision}{said}")
    base = adapter_base(model, adapter)
    if base is not None and (
        given is None or given.weightType == "Original" or not given.baseModel
    ):
        named = f', "baseModel": "{base}"' if base else ""
        lines.append(f'for an adapter: "weightType": "Adapter"{named}')
    return tuple(lines)


def precision_of(model: ModelChoice, config: Mapping[str, Any] | None) -> str:
    """Return the precision, from the arguments of the model class, else from config.json.

    "" if neither has a value that the leaderboard knows.
    """
    for name in ("torch_dtype", "dtype"):
        asked = str(model.arguments.get(name, "")).removeprefix("torch.")
        if asked in PRECISION_OF_DTYPE:
            return PRECISION_OF_DTYPE[asked]
    if any(str(model.arguments.get(name, "")).lower() == "true" for name in ("load_in_8bit",)):
        return "int8"
    for part in (
        config or {},
        (config or {}).get("text_config") or {},
        (config or {}).get("llm_config") or {},
    ):
        quantised = part.get("quantization_config")
        if isinstance(quantised, Mapping):
            return "int8" if quantised.get("load_in_8bit") or quantised.get("bits") == 8 else ""
        for name in ("dtype", "torch_dtype"):
            said = str(part.get(name) or "").removeprefix("torch.")
            if said in PRECISION_OF_DTYPE:
                return PRECISION_OF_DTYPE[said]
    return ""


def adapter_base(model: ModelChoice, adapter: Mapping[str, Any] | None) -> str | None:
    """Return the base model of an adapter, "" if it is not known.

    None if no adapter was evaluated.
    """
    said = str((adapter or {}).get("base_model_name_or_path") or "")
    if any(model.arguments.get(name) for name in ADAPTERS):
        base = str(model.arguments.get("pretrained") or said)
        return Path(base).name if Path(base).is_absolute() else base
    return said if adapter is not None else None


def read_config(folder: Path, name: str) -> Mapping[str, Any] | None:
    """Return a JSON object from a file in the model's folder, None if it cannot be read."""
    try:
        value = json.loads((folder / name).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None
