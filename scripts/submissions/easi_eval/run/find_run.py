"""Find the folder of a run: that of its identity, or an older one that holds the same run.

An older folder was named by an earlier rule, or without knowing a version that is known now.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..config import RunConfig
from ..core.atomic_files import digest
from ..core.libraries import short
from ..core.manifest import Manifest, other_runs
from ..core.model import ModelChoice
from ..core.run_folder import RunPaths
from .identity import (
    IDENTITY_VERSION,
    MAY_BE_UNKNOWN,
    first_identity_fields,
    identity_fields,
    known_differences,
)


@dataclass(frozen=True)
class FoundRun:
    """The folder of a run.

    Attributes:
        identity: Identity by the rule under which the folder was made.
        fields: Identity fields by that rule.
        paths: The folder.
        current: Identity fields by the present rule.
        notes: Messages for the user.
    """

    identity: str
    fields: dict[str, object]
    paths: RunPaths
    current: dict[str, object]
    notes: tuple[str, ...] = ()

    def supplement_of(self, fields: Mapping[str, object]) -> dict[str, object]:
        """Return the fields that only the present rule has, given ``fields`` of another rule."""
        return {
            name: value
            for name, value in self.current.items()
            if name not in fields and name != "identity version"
        }


def new_run(
    cfg: RunConfig, backend_version: str, model: ModelChoice, libraries: Mapping[str, str]
) -> FoundRun:
    """Return the folder by the present rule, whatever is on disk."""
    fields = identity_fields(cfg.backend, backend_version, model, cfg, libraries)
    name = digest(fields)
    return FoundRun(
        name, fields, RunPaths.of(cfg.output_dir, cfg.backend, model.name, name), fields
    )


def find_run(
    cfg: RunConfig, backend_version: str, model: ModelChoice, libraries: Mapping[str, str]
) -> FoundRun:
    """Return the folder in which a run continues, or a new one.

    In this order: the folder by the present rule, if it exists; an older one whose recorded
    settings do not contradict this run (named by the first rule, or without a version that was
    unknown then); a new folder by the present rule.

    Args:
        cfg: The run.
        backend_version: Version of the backend.
        model: The model to evaluate.
        libraries: Installed version by name.
    """
    new = new_run(cfg, backend_version, model, libraries)
    if new.paths.manifest.exists():
        return new
    first = digest(first_identity_fields(cfg.backend, backend_version, model, cfg))
    for manifest in other_runs(new.paths, model.name):
        known = known_fields(manifest)
        # The first rule's digest is equal: all fields that both rules know are the same.
        if manifest.identity == first:
            differs = known_differences(
                {name: known[name] for name in MAY_BE_UNKNOWN & known.keys()},
                new.supplement_of(manifest.fields),
            )
        elif manifest.fields.get("identity version") == IDENTITY_VERSION:
            differs = known_differences(known, new.fields)
        else:
            continue
        if not differs:
            paths = RunPaths.of(cfg.output_dir, cfg.backend, model.name, manifest.identity)
            return FoundRun(
                manifest.identity, manifest.fields, paths, new.fields, _unknown(manifest, new)
            )
    return new


def known_fields(manifest: Manifest) -> dict[str, object]:
    """Return a manifest's identity fields, completed by what else it records.

    A manifest of an older rule records the version of transformers outside the identity.
    """
    recorded: dict[str, object] = {}
    served = bool(manifest.model.get("served"))
    if not served and (version := short(str(manifest.versions.get("transformers", "")))):
        recorded["transformers"] = version
    return {**recorded, **manifest.fields, **manifest.supplement}


def _unknown(manifest: Manifest, new: FoundRun) -> tuple[str, ...]:
    """Say which fields an older run does not record; they are taken as unchanged."""
    known = known_fields(manifest)
    lacking = [
        name
        for name in new.current
        if name in MAY_BE_UNKNOWN - {"identity version", "attention"} and name not in known
    ]
    if not lacking:
        return ()
    return (
        f"run {manifest.identity[:8]} does not record its {' and '.join(lacking)}: assumed "
        f"unchanged",
    )
