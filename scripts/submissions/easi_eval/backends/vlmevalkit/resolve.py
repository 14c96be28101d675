"""Which class of VLMEvalKit runs a model, with which arguments, and why.

This is decided from files, before anything is loaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from ...core.errors import EasiError
from ...core.model import ModelChoice
from ...core.suggest import did_you_mean
from ..shared import catalog, launch_env, model_files, model_paths
from ..shared.adapter_folder import bare_adapter
from ..shared.class_source import ClassSource
from ..shared.generic_check import refuse_unloadable
from ..shared.lineage import lineage
from ..shared.signature import signature
from . import class_code, own_classes
from .families import FAMILIES, family_settings
from .registered import (
    AN_ENTRYS,
    ResolutionInput,
    entry_of,
    listed,
    meant_entry,
    of_easi,
    of_entry,
    refuse_model_path,
)

GENERIC = "EasiVLM"
OWN_CLASS = (
    f"run it as an entry of its family ({AN_ENTRYS}), or with a class of your own in "
    "VLMEvalKit/vlmeval/vlm/"
)
CPU = "VLMEvalKit's own classes need a GPU, and this run is on the CPU"
PARSES = "VLMEvalKit's class calls parse_response in a way that transformers 5 refuses"


def choose(asked: ResolutionInput) -> ModelChoice:
    """Return the class and arguments for ``--model``.

    The first match counts: a name of the registry; a hub id of one of its entries; a name of EASI's
    list; the user's own class; the family of the checkpoint's ``config.json``; the generic class.
    With ``--device cpu`` the generic class replaces VLMEvalKit's own classes, and everywhere those
    that would fail at every answer.

    Raises:
        EasiError: If nothing matches, or several entries do.
    """
    cfg = asked.cfg
    entry, why = entry_of(asked)
    known = listed(asked) if entry is None else None
    own = _own(asked) if entry is None and known is None else None
    if entry is not None and entry.api:
        return of_entry(entry, asked.arguments, why)
    if own is not None:  # its name is never that of a hub id or of a checkpoint's folder
        return own
    if cfg.device == "cpu":
        return _instead(asked, entry or meant_entry(known, asked), CPU)
    if entry is not None:
        model = of_entry(entry, asked.arguments, why)
        fails = class_code.fails_to_parse(class_sources(asked.package, model))
        in_engine = str(model.arguments.get("use_vllm")) == "True"
        return _instead(asked, entry, PARSES) if fails and not in_engine else model
    if known is not None:
        return of_easi(known, asked)
    config = model_files.model_config(cfg.model, asked.hub, asked.revision)
    family = (config or {}).get("model_type")
    if family in FAMILIES:
        return _of_family(str(family), asked)
    _refuse_unknown(asked, family)
    return _generic(
        asked,
        config,
        f"no class of VLMEvalKit is known for model_type {family} (that of an entry: {AN_ENTRYS})",
    )


def _of_family(model_type: str, asked: ResolutionInput) -> ModelChoice:
    """Return the family's class with the settings of the most similar entry.

    The user's arguments replace the entry's.
    """
    refuse_model_path(asked)
    model, arguments = asked.cfg.model, asked.arguments
    family, name = FAMILIES[model_type], model_paths.model_name(model)
    files = model_files.files_of(model_paths.model_path(model), asked.hub, asked.revision)
    adapter = bare_adapter(files) if files is not None else None
    # An adapter's own name says nothing about the settings.
    like = model_paths.model_name(adapter.base) if adapter else name
    found = family_settings(family, like.rpartition("/")[2], asked.entries.values())
    lacking = [key for key in family.required if key not in arguments]
    if found is None and lacking:
        raise EasiError(
            f"VLMEvalKit has no entry with settings for {name} (model_type {model_type}, class "
            f"{family.cls})",
            hint=f"give them yourself: --model-args {','.join(f'{key}=...' for key in lacking)}",
        )
    whose = "its base's" if adapter else "its"
    why = f"{whose} config.json says model_type {model_type}"
    if found is not None:
        why += f"; settings of VLMEvalKit's entry {found.source}" + "".join(
            f", without its {key}" for key in found.dropped
        )
    return ModelChoice(
        name,
        model_paths.model_path(model),
        family.cls,
        why,
        arguments={**(found.arguments if found else {}), **arguments},
    )


def _own(asked: ResolutionInput) -> ModelChoice | None:
    """Return the choice for a class of the user's own; None if the model is none.

    The checkpoint is ``model_path`` of ``--model-args``, or else the class's default.
    """
    if (Path(asked.cfg.model).expanduser() / "config.json").is_file():
        return None
    found = own_classes.find(asked.package, asked.cfg.model)
    if found is None or asked.package.own is None:
        return None
    takes = signature(found.sources)
    path = asked.arguments.get("model_path", takes.defaults.get("model_path"))
    if not path and "model_path" in takes.required:
        raise EasiError(
            f"{found.name} in {found.path} needs a model_path",
            hint="name the checkpoint: --model-args model_path=org/model (or a folder)",
        )
    where = (
        {"model_path": model_paths.model_path(str(path))}
        if path and "model_path" in asked.arguments
        else {}
    )
    return ModelChoice(
        model_paths.model_name(str(path)) if path else found.name,
        model_paths.model_path(str(path)) if path else found.cls,
        found.cls,
        f"a class of your own, in {found.path}",
        arguments={**asked.arguments, **where},
        source=found.digest(asked.package.own),
        needs_gpu=asked.cfg.device != "cpu" and not found.served,
        served=found.served,
    )


def _instead(asked: ResolutionInput, entry: catalog.Entry | None, why: str) -> ModelChoice:
    """Return the generic class in place of an entry, with a note on the entry it replaces."""
    refuse_model_path(asked)
    if entry is not None and entry.model_path is None:
        raise EasiError(
            f"VLMEvalKit's {entry.name} names no checkpoint that the generic class could load, "
            f"and {why}",
            hint="give the checkpoint as --model",
        )
    if entry is not None and entry.model_path is not None:
        asked = replace(asked, cfg=replace(asked.cfg, model=entry.model_path))
    else:
        _refuse_unknown(asked, None)
    config = (
        None
        if asked.cfg.is_rehearsed(asked.cfg.model)
        else model_files.model_config(asked.cfg.model, asked.hub, asked.revision)
    )
    model = _generic(asked, config, why)
    return (
        model
        if entry is None
        else replace(
            model,
            notes=(
                f"not with VLMEvalKit's entry {entry.name} ({entry.cls}): scores are not "
                f"comparable with its scores",
            ),
        )
    )


def _generic(asked: ResolutionInput, config: Mapping[str, object] | None, why: str) -> ModelChoice:
    cfg = asked.cfg
    refuse_model_path(asked)
    family = FAMILIES.get(str((config or {}).get("model_type")))
    refuse_unloadable(
        model_paths.model_name(cfg.model),
        config or {},
        cfg.trust_remote_code,
        f"leave out --device cpu: on a GPU VLMEvalKit's {family.cls} runs it"
        if family
        else OWN_CLASS,
    )
    device = launch_env.other_device(cfg)
    own: dict[str, object] = {"device": device} if device else {}
    if cfg.trust_remote_code:
        own["trust_remote_code"] = True
    return ModelChoice(
        model_paths.model_name(cfg.model),
        model_paths.model_path(cfg.model),
        GENERIC,
        why,
        arguments={**own, **asked.arguments},
        needs_gpu=cfg.device != "cpu",
    )


def _refuse_unknown(asked: ResolutionInput, family: object) -> None:
    model = asked.cfg.model
    if model_paths.is_missing_path(model):
        raise EasiError(
            f"--model {model}: there is no such folder", hint=model_paths.folder_hint(model)
        )
    # A path may be misspelt, too.
    if (
        family is None
        and not model_paths.is_hub_id(model)
        and not Path(model).expanduser().is_dir()
    ):
        known = [*asked.entries, *own_classes.names(asked.package)]
        raise EasiError(
            f"--model {model} is neither a name of VLMEvalKit's registry, nor your own class, a "
            f"folder or a hub id",
            hint=did_you_mean(model, known, "write org/model, or a folder"),
        )


def class_sources(package: catalog.Package, model: ModelChoice) -> list[ClassSource]:
    """Return the source of the chosen class and its bases; [] if the registry computes it."""
    if model.cls == GENERIC:
        return lineage(package, f"easi_vlmevalkit.generic.{GENERIC}")
    if "." in model.cls:
        return lineage(package, f"{package.kind.package}.vlm.{model.cls}")
    return lineage(
        package, f"{package.kind.package}.{'api' if model.served else 'vlm'}.{model.cls}"
    )
