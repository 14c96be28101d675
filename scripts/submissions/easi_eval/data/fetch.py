"""Download and unpack data before any worker starts: list, plan, check the disk, download, unpack.

Every file is compared with what the hub reports about it; a file is either complete or absent.
Importing this module loads huggingface_hub, so callers import it where they fetch.
"""

from __future__ import annotations

import contextlib
import functools
import queue
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import filelock

from ..core.atomic_files import text_digest
from ..core.errors import DiskFull, EasiError, Unreachable
from ..core.events import DataProgress, Emit, Notice
from ..core.locks import Waiting, file_lock
from .archives import Archive
from .files import bring, tidy
from .hub import Hub
from .local_store import Checked, digest_of, local_listing, save_listing, snapshot_folder, write_ref
from .needs import Fetched, FileRecord, HubSettings, Kind, Need
from .parallel import Pulse, run_all
from .planning import (
    Planned,
    all_here,
    archives_of,
    distinct,
    plan_needs,
    refuse_incomplete,
    repo_of,
    target_of,
)
from .room import refuse_full_disk, rooms
from .unpack import Target, is_unpacked, mark, unpack
from .wanted_file import WantedFile

CHECKED = "checked.txt"


def fetch(needs: Sequence[Need], emit: Emit, settings: HubSettings) -> list[Fetched]:
    """Fetch every need, in the order given; an interrupted download is continued next time.

    Emits DataProgress for each need (bytes present and verified; while archives are unpacked,
    ``what`` ends in ", unpacking") and a Notice for other remarks. If the hub does not answer,
    complete data on disk is used; otherwise one error says what is missing.

    Raises:
        EasiError: A need cannot be met.
    """

    def say(line: str) -> None:
        emit(Notice(line, "warning"))

    pulse = Pulse()
    hub = Hub(settings, pulse, say)
    repos = list(dict.fromkeys(repo_of(need) for need in needs))
    if settings.offline:
        listings = {repo: local_listing(settings, repo) for repo in repos}
    else:
        try:
            listings = hub.list_all(repos)
        except Unreachable as error:
            listings = {repo: local_listing(settings, repo) for repo in repos}
            if not all_here(needs, listings, settings):
                raise
            pulse = Pulse()  # the old one has told its threads to stop
            hub = Hub(settings, pulse, say)
            emit(
                Notice(
                    f"{error.message}; going on with the data on disk, which is complete", "warning"
                )
            )
    plan = plan_needs(needs, listings, settings)
    items = distinct(plan)
    if any(listing.source != "hub" for listing in listings.values()):
        refuse_incomplete(plan, settings)
    refuse_full_disk(plan, settings)
    try:
        _get(plan, items, hub, pulse, emit)
    except DiskFull as error:
        left = "; ".join(str(room) for room in rooms(plan, settings) if room.needed)
        raise DiskFull(f"{error.message}: {left}", "what was downloaded is kept") from error
    for item in items:
        if item.note:
            emit(Notice(item.note))
    for listing in listings.values():
        if listing.source == "hub":
            save_listing(settings, listing)
    for planned in plan:
        if planned.need.kind is Kind.SNAPSHOT and planned.listing.source != "cache":
            write_ref(settings, planned.listing)
    _unpack(plan, settings, pulse, emit)
    return [_fetched(planned, settings) for planned in plan]


def _get(
    plan: Sequence[Planned], items: Sequence[WantedFile], hub: Hub, pulse: Pulse, emit: Emit
) -> None:
    hub.answered = (
        hub.answered or hub.settings.offline or any(p.listing.source != "hub" for p in plan)
    )
    books = {
        item.repo: Checked(hub.settings.records / item.repo.folder / CHECKED) for item in items
    }
    shown: dict[str, int] = {}
    last = -1

    def tick() -> None:
        nonlocal last
        now = sum(item.bytes_now() for item in items)
        if now != last:
            last = now
            pulse.beat()
        for planned in plan:
            done = sum(item.bytes_now() for item in planned.items)
            if shown.get(planned.need.what) != done:
                shown[planned.need.what] = done
                emit(DataProgress(planned.need.what, done, planned.bytes))
        hub.watch()

    def task(item: WantedFile) -> Callable[[], None]:
        return lambda: bring(item, hub, books[item.repo], pulse)

    # Big files first: the last one to finish should not be the longest.
    run_all(
        [task(item) for item in sorted(items, key=lambda item: -item.file.size)],
        hub.settings.workers,
        pulse,
        tick,
    )
    tidy(items)


def _unpack(plan: Sequence[Planned], settings: HubSettings, pulse: Pulse, emit: Emit) -> None:
    progress: dict[str, tuple[int, int]] = {}
    shown: dict[str, tuple[int, int]] = {}
    tasks: dict[tuple[Path, str], Callable[[], None]] = {}
    # Messages of the unpacking threads, emitted by this thread.
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()

    def note(what: str, done: int, total: int) -> None:
        progress[what] = (done, total)

    for planned in plan:
        if planned.need.unpack is not None:
            target = target_of(planned, settings)
            archives = archives_of(planned, settings)
            # With nothing to unpack, lmms-eval makes no folder, but VLMEvalKit writes its sentinel.
            if archives or not target.whole:
                what = f"{planned.need.what}, unpacking"
                tasks.setdefault(
                    (target.folder, target.sentinel),
                    _unpack_task(
                        target,
                        archives,
                        functools.partial(note, what),
                        settings,
                        pulse,
                        lines.put,
                    ),
                )

    def tick() -> None:
        while not lines.empty():
            emit(Notice(lines.get()))
        for what, (done, total) in list(progress.items()):
            if shown.get(what) != (done, total):
                shown[what] = (done, total)
                emit(DataProgress(what, done, total))
        if pulse.silence() > settings.stall:
            raise EasiError(
                f"unpacking made no progress for {settings.stall:.0f} s", hint="check the disk"
            )

    run_all(list(tasks.values()), settings.workers, pulse, tick)


def _unpack_task(
    target: Target,
    archives: Sequence[Archive],
    show: Callable[[int, int], None],
    settings: HubSettings,
    pulse: Pulse,
    say: Callable[[str], None],
) -> Callable[[], None]:
    def on_bytes(done: int, total: int) -> None:
        show(done, total)
        pulse.beat()

    def work() -> None:
        if is_unpacked(target, archives):
            with contextlib.suppress(OSError):  # a complete shared cache may be read-only
                mark(target, archives)
            return
        with _locked(target.folder, settings, pulse, say):
            unpack(target, archives, on_bytes)

    return work


@contextlib.contextmanager
def _locked(
    folder: Path, settings: HubSettings, pulse: Pulse, say: Callable[[str], None]
) -> Iterator[None]:
    """Hold the lock of a folder while unpacking into it, so that other runs wait."""
    path = settings.records / "locks" / f"{text_digest(str(folder))[:32]}.lock"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = file_lock(path)
        waiting = Waiting(lock, say)
        while True:
            try:
                lock.acquire(timeout=1)
                break
            except filelock.Timeout:
                pulse.beat()
                waiting.heed()
    except OSError as error:
        raise EasiError(
            f"{path} cannot be locked: {error.strerror or error}",
            hint="set HF_HOME to another folder",
        ) from error
    try:
        yield
    finally:
        lock.release()


def _fetched(planned: Planned, settings: HubSettings) -> Fetched:
    need, listing = planned.need, planned.listing
    files = tuple(item.file for item in planned.items)
    if need.kind is Kind.FILE:
        file = files[0]
        if len(file.digest) != 64:
            file = FileRecord(file.path, file.size, digest_of(need.target, "sha256"))
        return Fetched(
            need, listing.commit, need.target, file.size, (file,), listed=listing.source != "cache"
        )
    folder = snapshot_folder(settings, listing.repo, listing.commit)
    media = (need.unpack.into or folder) if need.unpack else None
    return Fetched(
        need, listing.commit, folder, planned.bytes, files, media, listed=listing.source != "cache"
    )
