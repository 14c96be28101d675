"""Compare a model folder on this machine with a repository of the hub."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..core.errors import EasiError
from ..data.hub import Hub
from ..data.local_store import digest_of
from ..data.needs import HubSettings, Repo
from ..data.parallel import Pulse
from ..data.weight_files import WEIGHTS

CONFIGS = ("config.json", "adapter_config.json")


@dataclass(frozen=True)
class CheckpointMatch:
    """Result of a comparison.

    Attributes:
        commit: The commit that the revision names now.
        differs: Names of the configs and weights that differ or exist on one side only.
    """

    commit: str
    differs: tuple[str, ...]


def match_checkpoint(
    folder: Path, name: str, revision: str, settings: HubSettings
) -> CheckpointMatch:
    """Compare configs and weights at the top of both by their digests.

    Files on the hub in a weights format that the folder does not use are ignored. Sizes are
    compared first, so that only files of equal size are read.

    Raises:
        EasiError: The hub has no such model, cannot be reached, or the run is offline.
    """
    if settings.offline:
        raise EasiError(settings.why_offline, hint=f"unset {settings.offline_by}")
    repo = Repo("model", name, revision)
    listing = Hub(settings, Pulse()).list_all([repo])[repo]
    theirs = {file.path: file for file in listing.files if _matters(Path(file.path))}
    ours = {path.name: path for path in folder.iterdir() if path.is_file() and _matters(path)}
    formats = {path.suffix for path in ours.values()}
    wanted = {path for path in theirs if "/" not in path and Path(path).suffix in formats}
    differs = set(wanted ^ set(ours))
    for path in wanted & set(ours):
        file = theirs[path]
        if (
            ours[path].stat().st_size != file.size
            or digest_of(ours[path], file.digest) != file.digest
        ):
            differs.add(path)
    return CheckpointMatch(listing.commit, tuple(sorted(differs)))


def _matters(path: Path) -> bool:
    return path.name in CONFIGS or path.suffix in WEIGHTS
