"""Models that VLMEvalKit's registry or EASI's list names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from ...config import RunConfig
from ...core.errors import EasiError
from ...core.model import ModelChoice
from ...core.model_args import literal
from ...data.needs import HubSettings
from ..shared import catalog, model_paths
from .aliases import EasiModel, easi_model

AN_ENTRYS = "--model ENTRY --model-args model_path=..."


@dataclass(frozen=True)
class ResolutionInput:
    """The input of the decision.

    Attributes:
        cfg: The run's options.
        package: VLMEvalKit's package, with the folder of the user's own files.
        entries: VLMEvalKit's registry.
        hub: Where a ``config.json`` is read.
    """

    cfg: RunConfig
    package: catalog.Package
    entries: Mapping[str, catalog.Entry]
    hub: HubSettings

    @property
    def arguments(self) -> dict[str, object]:
        """``--model-args`` as Python values; a revision stays a text."""
        return {
            key: value if key == "revision" else literal(value)
            for key, value in self.cfg.model_arguments.items()
        }

    @property
    def revision(self) -> str:
        """The revision among ``--model-args``; "" if there is none."""
        return self.cfg.model_arguments.get("revision", "")


def entry_of(asked: ResolutionInput) -> tuple[catalog.Entry | None, str]:
    """Return the registry's entry with this name or hub id, and why it was chosen."""
    wanted = asked.cfg.model
    if wanted in asked.entries:
        return asked.entries[wanted], "it is a name of VLMEvalKit's registry"
    using = {name: entry for name, entry in asked.entries.items() if entry.model_path == wanted}
    if not using:
        return None, ""
    last = wanted.rsplit("/", 1)[-1]
    named = (
        [using[last]]
        if last in using
        else [entry for name, entry in using.items() if name.lower() == last.lower()]
    )
    if len(using) > 1 and len(named) != 1:
        raise EasiError(
            f"VLMEvalKit has {len(using)} entries for {wanted}",
            hint=f"name one: {', '.join(using)}",
        )
    chosen = named[0] if named else next(iter(using.values()))
    others = [name for name in using if name != chosen.name]
    return chosen, "VLMEvalKit's entry for this hub id" + (
        f" (others: {', '.join(others)})" if others else ""
    )


def of_entry(entry: catalog.Entry, arguments: Mapping[str, object], why: str) -> ModelChoice:
    """Return the choice for an entry; the user's arguments replace the entry's.

    Raises:
        EasiError: If ``model_path`` is neither a folder nor a hub id, or the folder holds no model.
    """
    own = {key: value for key, value in entry.kwargs.items() if key != "model_path"}
    path = str(arguments.get("model_path") or entry.model_path or entry.name)
    if "model_path" in arguments:
        if model_paths.is_missing_path(path):
            raise EasiError(
                f"--model-args model_path={path}: there is no such folder",
                hint=model_paths.folder_hint(path),
            )
        if not model_paths.is_hub_id(path) and not Path(path).expanduser().exists():
            raise EasiError(
                f"--model-args model_path={path} is neither a folder nor a hub id",
                hint="write org/model, or an existing folder",
            )
        model_paths.check_folder(Path(path).expanduser())
        arguments = {**arguments, "model_path": model_paths.model_path(path)}
    return ModelChoice(
        model_paths.model_name(path),
        model_paths.model_path(path),
        entry.cls,
        why,
        entry=entry.name,
        arguments={**own, **arguments},
        needs_gpu=not entry.api,
        served=entry.api,
    )


def listed(asked: ResolutionInput) -> EasiModel | None:
    """Return the row of EASI's list for the model.

    None also for a hub id whose row needs an entry that this registry, a fork's, lacks: the class
    is then chosen by ``config.json``.
    """
    known = easi_model(asked.cfg.model)
    served = known is not None and (known.entry or known.like) in asked.entries
    return known if served or "/" not in asked.cfg.model else None


def of_easi(known: EasiModel, asked: ResolutionInput) -> ModelChoice:
    """Return the choice for a name of EASI's list.

    It is an entry under another name, or one whose settings the checkpoint takes.
    """
    entry = asked.entries.get(known.entry or known.like)
    if entry is None:
        raise EasiError(
            f"{known.name} is run as VLMEvalKit's entry {known.entry or known.like}, and this "
            "VLMEvalKit has none",
            hint="give the hub id or a folder of the checkpoint as --model",
        )
    notes = (known.note,) if known.note else ()
    if known.entry:
        return replace(
            of_entry(entry, asked.arguments, f"EASI's name for VLMEvalKit's entry {entry.name}"),
            notes=notes,
        )
    refuse_model_path(asked)
    settings = {key: value for key, value in entry.kwargs.items() if key != "model_path"}
    return ModelChoice(
        known.path,
        known.path,
        entry.cls,
        f"in EASI's list; this VLMEvalKit has no entry for it, so the settings of {entry.name} "
        f"are used",
        arguments={**settings, **asked.arguments},
        notes=notes,
    )


def meant_entry(known: EasiModel | None, asked: ResolutionInput) -> catalog.Entry | None:
    """Return the entry behind a name of EASI's list, with the checkpoint that the name means."""
    entry = asked.entries.get(known.entry or known.like) if known is not None else None
    return (
        replace(entry, model_path=known.path)
        if entry is not None and known is not None and known.path
        else entry
    )


def refuse_model_path(asked: ResolutionInput) -> None:
    """Refuse ``model_path`` where ``--model`` names the checkpoint."""
    if "model_path" in asked.arguments:
        raise EasiError(
            "--model-args model_path names another checkpoint than --model",
            hint="give the checkpoint as --model",
        )
