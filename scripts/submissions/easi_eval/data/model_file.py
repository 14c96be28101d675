"""One small file of a model, from the hub or its cache."""

from __future__ import annotations

from pathlib import Path

from ..core.errors import Unreachable
from .local_store import incomplete, snapshot_folder
from .needs import HubSettings, Repo
from .parallel import Pulse, run_all

# By cache and revision, the commit that the hub named when this process asked for single files.
# The files lie in the snapshot of that commit. The cache's own ref cannot be used to find them,
# because it is written only when all files of the commit are there.
_commits: dict[tuple[Path, Repo], str] = {}


def fetch_model_file(settings: HubSettings, model: str, name: str, revision: str = "") -> Path:
    """Return one small file (``config.json``) of a model, from the hub or its cache.

    Offline, or if the hub cannot be reached, the cached file is used.

    Args:
        settings: Hub and cache.
        model: Model id.
        name: File name in the repository.
        revision: Revision of the model; empty means main.

    Returns:
        Its path in the hub cache. The name of its folder is the commit.

    Raises:
        EasiError: There is no cached file either, or the hub denies access to the model.
    """
    repo = Repo("model", model, revision or "main")
    if not settings.offline:
        try:
            return _ask_for_file(settings, repo, name)
        except Unreachable:
            if _cached(settings, repo, name) is None:
                raise
    path = _cached(settings, repo, name)
    if path is None:
        raise incomplete(f"{name} of {model}", settings)
    return path


def _ask_for_file(settings: HubSettings, repo: Repo, name: str) -> Path:
    from .hub import Hub  # loads huggingface_hub, which is slow

    pulse = Pulse()
    hub, found = Hub(settings, pulse), []

    def ask() -> None:
        commit = hub.commit(repo)
        found.append(Path(hub.download(repo, commit, name, lambda: 0)))
        _commits[settings.hub_cache, repo] = commit

    run_all([ask], 1, pulse, hub.watch)
    return found[0]


def _cached(settings: HubSettings, repo: Repo, name: str) -> Path | None:
    """Return the path of a file in the hub cache, None if it is not there.

    The commit is the one that the hub named to this process, else that of the cache's ref.
    """
    ref = settings.hub_cache / repo.folder / "refs" / repo.revision
    commit = _commits.get((settings.hub_cache, repo)) or (
        ref.read_text(encoding="utf-8").strip() if ref.is_file() else repo.revision
    )
    path = snapshot_folder(settings, repo, commit) / name
    return path if path.is_file() else None
