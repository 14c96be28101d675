"""Whether a model folder on this machine holds what a repository of the hub holds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..errors import EasiError
from .fetching import list_all
from .hub import Hub, Repo
from .needs import HubSettings
from .parallel import Pulse
from .planning import WEIGHTS
from .store import digest_of

CONFIGS = ("config.json", "adapter_config.json")


@dataclass(frozen=True)
class Likeness:
    """``commit``: what the revision stands for now; ``differs``: names of the configs and weights that are not the same."""

    commit: str
    differs: tuple[str, ...]


def compare(folder: Path, name: str, revision: str, settings: HubSettings) -> Likeness:
    """Compare configs and weights by their digests; sizes come first, so that only files that may be equal are read whole.

    Raises EasiError where the hub has no such model or cannot be asked.
    """
    if settings.offline:
        raise EasiError(settings.why_offline, hint=f"unset {settings.offline_by}")
    repo, pulse = Repo("model", name, revision), Pulse()
    listing = list_all([repo], Hub(settings, pulse), pulse)[repo]
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
    return Likeness(listing.commit, tuple(sorted(differs)))


def _matters(path: Path) -> bool:
    return path.name in CONFIGS or path.suffix in WEIGHTS
