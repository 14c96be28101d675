"""Which folder a run belongs to: the one of its identity, or an older one that holds the same run as far as it knows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .config import RunConfig
from .libraries import short
from .model import ModelChoice
from .state import (
    IDENTITY_VERSION,
    MAY_BE_UNKNOWN,
    Manifest,
    RunPaths,
    digest,
    first_identity_fields,
    identity_fields,
    known_differences,
    other_runs,
)


@dataclass(frozen=True)
class RunFolder:
    """``identity`` and ``fields`` are by the rule under which the folder was made, ``current`` by the present one."""

    identity: str
    fields: dict[str, object]
    paths: RunPaths
    current: dict[str, object]
    notes: tuple[str, ...] = ()

    def supplement_of(self, fields: Mapping[str, object]) -> dict[str, object]:
        """What the present rule knows of the run and ``fields``, of another rule, do not."""
        return {
            name: value
            for name, value in self.current.items()
            if name not in fields and name != "identity version"
        }


def new_folder(
    cfg: RunConfig, backend_version: str, model: ModelChoice, libraries: Mapping[str, str]
) -> RunFolder:
    """The folder by the present rule, whatever lies on disk."""
    fields = identity_fields(cfg.backend, backend_version, model, cfg, libraries)
    name = digest(fields)
    return RunFolder(
        name, fields, RunPaths.of(cfg.output_dir, cfg.backend, model.name, name), fields
    )


def run_folder(
    cfg: RunConfig, backend_version: str, model: ModelChoice, libraries: Mapping[str, str]
) -> RunFolder:
    """The folder of the present rule if it is there; else one that an older rule made, or one made without knowing a version,
    unless what is recorded there says otherwise; else a new one of the present rule.
    """
    new = new_folder(cfg, backend_version, model, libraries)
    if new.paths.manifest.exists():
        return new
    first = digest(first_identity_fields(cfg.backend, backend_version, model, cfg))
    for manifest in other_runs(new.paths, model.name):
        known = known_fields(manifest)
        if manifest.identity == first:  # proves that what both rules know is the same
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
            return RunFolder(
                manifest.identity, manifest.fields, paths, new.fields, _unknown(manifest, new)
            )
    return new


def known_fields(manifest: Manifest) -> dict[str, object]:
    """The identity's fields in clear, with what is recorded beside them of a run that an older rule named."""
    recorded: dict[str, object] = {}
    served = bool(manifest.model.get("served"))
    if not served and (version := short(str(manifest.versions.get("transformers", "")))):
        recorded["transformers"] = version
    return {**recorded, **manifest.fields, **manifest.supplement}


def _unknown(manifest: Manifest, new: RunFolder) -> tuple[str, ...]:
    known = known_fields(manifest)
    lacking = [
        name
        for name in new.current
        if name in MAY_BE_UNKNOWN - {"identity version", "attention"} and name not in known
    ]
    if not lacking:
        return ()
    return (
        f"run {manifest.identity[:8]} does not say under which {' and '.join(lacking)} it was begun: taken as unchanged",
    )
