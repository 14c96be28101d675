"""Whether the disks have room for what a plan writes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..core.errors import EasiError, NoRoom
from .disk import existing_parent, free_bytes, gigabytes, refuse_unwritable
from .needs import HubSettings
from .planning import Planned, archive_names, archives_of, distinct, target_of
from .unpack import Target, bytes_missing


@dataclass(frozen=True)
class Room:
    """Space on one file system, in bytes.

    Attributes:
        place: A folder on it.
        needed: What is still to be written there.
        free: What is free there.
    """

    place: Path
    needed: int
    free: int

    def __str__(self) -> str:
        return (
            f"{gigabytes(self.needed)} of data are to be fetched to {self.place}, "
            f"{gigabytes(self.free)} are free (short of "
            f"{gigabytes(max(0, self.needed - self.free))})"
        )


def refuse_full_disk(plan: Sequence[Planned], settings: HubSettings) -> None:
    """Refuse a plan whose files cannot all be written.

    Raises:
        NoRoom: A file system has less free space than needed.
        EasiError: A place cannot be written to.
    """
    for place in sorted(
        {existing_parent(item.place.parent) for item in distinct(plan) if not item.looks_present()}
    ):
        refuse_unwritable(place)
    if short := [room for room in rooms(plan, settings) if room.needed > room.free]:
        raise NoRoom(
            "; ".join(map(str, short)),
            hint="free some space, set HF_HOME and --dataset-dir to larger disks, "
            "or fewer --benchmarks",
        )


def rooms(plan: Sequence[Planned], settings: HubSettings) -> list[Room]:
    """Return the space needed on each file system, for downloads and for unpacking archives.

    An archive that is not downloaded yet is estimated to unpack to its own size, because media
    hardly compress.
    """
    needed: dict[int, tuple[Path, int]] = {}

    def add(place: Path, count: int) -> None:
        parent = existing_parent(place)
        device = parent.stat().st_dev
        first, before = needed.get(device, (parent, 0))
        needed[device] = (first, before + count)

    for item in distinct(plan):
        if not item.looks_present():
            add(item.place, max(0, item.file.size - item.partial_bytes()))
    targets = {
        (target.folder, target.sentinel): (target, planned)
        for planned in plan
        if planned.need.unpack
        for target in [target_of(planned, settings)]
    }
    for target, planned in targets.values():
        add(target.folder, _to_unpack(target, planned, settings))
    return [Room(place, count, free_bytes(place)) for place, count in needed.values()]


def _to_unpack(target: Target, planned: Planned, settings: HubSettings) -> int:
    names = {part for _, parts in archive_names(planned) for part in parts}
    archives = [item for item in planned.items if item.file.path in names]
    if all(item.place.is_file() and item.looks_present() for item in archives):
        if (
            target.folder.exists()
            and target.sentinel
            and (target.folder / target.sentinel).is_file()
        ):
            return 0
        try:
            return bytes_missing(target, archives_of(planned, settings))
        except EasiError:  # damaged: it is downloaded again
            pass
    return sum(item.file.size for item in archives)
