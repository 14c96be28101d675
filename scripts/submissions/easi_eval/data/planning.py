"""Plan a fetch before anything is downloaded: which files meet which need, and where they go."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub.utils import filter_repo_objects

from ..core.errors import EasiError
from .archives import Archive, media_archives, root_zips
from .local_store import incomplete, size_of_file, snapshot_folder
from .needs import FileRecord, HubSettings, Kind, Listing, Need, Repo
from .unpack import Target
from .wanted_file import WantedFile
from .weight_files import WEIGHTS, missing_shard, missing_weights


@dataclass(frozen=True)
class Planned:
    """A need with the files that meet it.

    Attributes:
        need: The need.
        listing: The files of its repository.
        items: The files that meet the need.
    """

    need: Need
    listing: Listing
    items: tuple[WantedFile, ...]

    @property
    def bytes(self) -> int:
        """Size of all files."""
        return sum(item.file.size for item in self.items)


def repo_of(need: Need) -> Repo:
    """Return the repository of a need."""
    return Repo(need.repo_type, need.repo, need.revision)


def plan_needs(
    needs: Sequence[Need], listings: Mapping[Repo, Listing], settings: HubSettings
) -> list[Planned]:
    """Choose the files of each need. Needs that share a file share its WantedFile.

    Raises:
        EasiError: A repository has none of the files that are needed, or is not on disk and the
            hub cannot be asked.
    """
    items: dict[Path, WantedFile] = {}
    plan = []
    for need in needs:
        listing = listings[repo_of(need)]
        mine = [_item(need, listing, file, settings) for file in _select(need, listing, settings)]
        plan.append(
            Planned(need, listing, tuple(items.setdefault(item.place, item) for item in mine))
        )
    return plan


def _select(need: Need, listing: Listing, settings: HubSettings) -> list[FileRecord]:
    by_path = {file.path: file for file in listing.files}
    if listing.source == "cache" and need.kind is Kind.FILE and need.files[0] not in by_path:
        # Without a listing, size and digest are unknown; a file at the right place is accepted.
        size = size_of_file(need.target)
        return [FileRecord(need.files[0], -1 if size is None else size, "")]
    if listing.source == "cache" and not listing.files:
        raise incomplete(need.repo, settings)
    wanted = need.files or tuple(
        filter_repo_objects(
            by_path,
            allow_patterns=list(need.allow) or None,
            ignore_patterns=list(need.ignore) or None,
        )
    )
    absent = [path for path in wanted if path not in by_path]
    if absent or not wanted:
        raise EasiError(
            f"{need.repo} has no {absent[0] if absent else 'file like ' + ', '.join(need.allow)}",
            hint=f"needed for {need.what}; check HF_ENDPOINT, or the repo was rearranged",
        )
    return [by_path[path] for path in wanted]


def _item(need: Need, listing: Listing, file: FileRecord, settings: HubSettings) -> WantedFile:
    repo, commit = listing.repo, listing.commit
    snapshot = snapshot_folder(settings, repo, commit) / file.path
    if need.kind is Kind.SNAPSHOT:
        return WantedFile(repo, commit, file, snapshot, plain=False)
    names = dict.fromkeys((need.target.name, Path(file.path).name))
    found = [folder / name for folder in settings.search for name in names] + [snapshot]
    return WantedFile(
        repo,
        commit,
        file,
        need.target,
        plain=True,
        elsewhere=tuple(found) if file.digest else (),
        derived=tuple(need.target.parent / name for name in need.derived),
    )


def distinct(plan: Sequence[Planned]) -> list[WantedFile]:
    """Return the files of all needs, each once."""
    return list({item.place: item for planned in plan for item in planned.items}.values())


def all_here(
    needs: Sequence[Need], listings: Mapping[Repo, Listing], settings: HubSettings
) -> bool:
    """Return whether all files are on disk, by the listing of an earlier fetch.

    False if there is no such listing: a cache alone does not tell which files are missing.
    """
    if any(listing.source != "record" for listing in listings.values()):
        return False
    return all(item.looks_present() for item in distinct(plan_needs(needs, listings, settings)))


def refuse_incomplete(plan: Sequence[Planned], settings: HubSettings) -> None:
    """Refuse a plan of which files are missing on disk, when the hub cannot be asked.

    Raises:
        EasiError: A file is missing; the message names it.
    """
    for planned in plan:
        for item in planned.items:
            if not item.looks_present():
                raise incomplete(f"{item.file.path} of {item.repo}", settings)
        if planned.listing.source == "cache" and (lacking := _lacking(planned)):
            raise incomplete(f"{lacking} of {planned.listing.repo}", settings)


def _lacking(planned: Planned) -> str:
    """Return what a cache without a listing visibly lacks, "" if nothing.

    The names of the present files tell that a shard, all weights, or all archives are missing.
    """
    need, there = planned.need, {item.file.path: item.place for item in planned.items}
    if need.repo_type == "model":
        if absent := missing_weights(there):
            return absent
        if not (need.allow or need.files) and not any(path.endswith(WEIGHTS) for path in there):
            return "the weights"
    elif absent := missing_shard(there, (0, 1)):
        return absent
    if need.unpack is not None and not archive_names(planned):
        # Whoever unpacked the archives may have deleted them afterwards.
        into, inside = (
            need.unpack.into,
            planned.items[0].place.parents[planned.items[0].file.path.count("/")]
            / need.unpack.sentinel,
        )
        return "" if (into.exists() if into is not None else inside.is_file()) else "the archives"
    return ""


def archive_names(planned: Planned) -> list[tuple[str, tuple[str, ...]]]:
    """Return the archives among a need's files, as (name, parts)."""
    assert planned.need.unpack is not None
    paths = [item.file.path for item in planned.items]
    if planned.need.unpack.into is None:
        return [(name, (name,)) for name in root_zips(paths)]
    return media_archives(paths)


def target_of(planned: Planned, settings: HubSettings) -> Target:
    """Return where the archives of a need are unpacked."""
    unpack, listing = planned.need.unpack, planned.listing
    assert unpack is not None
    if unpack.into is None:
        folder = snapshot_folder(settings, listing.repo, listing.commit)
        marker = (
            settings.records
            / listing.repo.folder
            / f"unpacked-{listing.commit}{unpack.sentinel}.json"
        )
        return Target(
            folder,
            marker,
            whole=False,
            sentinel=unpack.sentinel,
            reserved=frozenset(file.path for file in listing.files),
        )
    # The folder may be a link to a bigger disk; the link's target is renamed into place, not the
    # link.
    folder = Path(os.path.realpath(unpack.into))
    return Target(folder, folder.with_name(f".{folder.name}.easi.json"), whole=True)


def archives_of(planned: Planned, settings: HubSettings) -> list[Archive]:
    """Return the archives of a need, with the paths of their parts on disk."""
    by_path = {item.file.path: item for item in planned.items}
    return [
        Archive(
            name,
            tuple(by_path[part].place for part in parts),
            " ".join(by_path[part].file.digest or str(by_path[part].file.size) for part in parts),
        )
        for name, parts in archive_names(planned)
    ]
