"""The course of a fetch: list, plan, check the disk, download, unpack."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import filelock
from huggingface_hub.utils import filter_repo_objects

from ..display.events import DataProgress, Emit, Notice
from ..errors import EasiError
from . import unpack as unpacking
from .files import Item, bring, existing_parent, free_bytes, gigabytes
from .hub import Hub, Listing, Repo, Unreachable
from .needs import Fetched, FileRecord, HubSettings, Kind, Need, Size
from .parallel import Pulse, run_all
from .store import Checked, digest_of, local_listing, save_listing, size_of_file, snapshot_folder, write_ref
from .unpack import Archive, Target

CHECKED = "checked.txt"


@dataclass(frozen=True)
class Planned:
    """A need with the files that meet it."""

    need: Need
    listing: Listing
    items: tuple[Item, ...]

    @property
    def bytes(self) -> int:
        return sum(item.file.size for item in self.items)


def fetch(needs: Sequence[Need], emit: Emit, settings: HubSettings) -> list[Fetched]:
    """See ``easi_eval.datasets.fetch``."""
    pulse = Pulse()
    hub = Hub(settings, pulse)
    repos = list(dict.fromkeys(_repo(need) for need in needs))
    if settings.offline:
        listings = {repo: local_listing(settings, repo) for repo in repos}
    else:
        try:
            listings = _ask(repos, hub, pulse)
        except Unreachable as error:
            listings = {repo: local_listing(settings, repo) for repo in repos}
            if not _all_here(needs, listings, settings):
                raise
            pulse = Pulse()                 # the old one has told the askers to stop
            hub = Hub(settings, pulse)
            emit(Notice(f"{error.message}; going on with the data on disk, which is complete", "warning"))
    plan = _plan(needs, listings, settings)
    items = _distinct(plan)
    if any(listing.source != "hub" for listing in listings.values()):
        _refuse_incomplete(items, settings)
    _refuse_full_disk(plan, settings)
    _get(plan, items, hub, pulse, emit)
    for item in items:
        if item.note:
            emit(Notice(item.note))
    for listing in listings.values():
        if listing.source == "hub":
            save_listing(settings, listing)
    for planned in plan:
        if planned.need.kind is Kind.SNAPSHOT and planned.listing.source == "hub":
            write_ref(settings, planned.listing)
    _unpack(plan, settings, pulse, emit)
    return [_fetched(planned, settings) for planned in plan]


def size_of(needs: Sequence[Need], settings: HubSettings) -> list[Size]:
    """See ``easi_eval.datasets.size_of``."""
    pulse = Pulse()
    repos = list(dict.fromkeys(_repo(need) for need in needs))
    problems: dict[Repo, str] = {}
    listings = {repo: local_listing(settings, repo) for repo in repos}
    if not settings.offline:
        for repo, answer in _ask_each(repos, Hub(settings, pulse), pulse).items():
            if isinstance(answer, EasiError):
                problems[repo] = answer.message
            else:
                listings[repo] = answer
    return [_size(need, listings[_repo(need)], problems.get(_repo(need), ""), settings) for need in needs]


def model_file(settings: HubSettings, model: str, name: str) -> Path:
    """See ``easi_eval.datasets.fetch_model_file``."""
    pulse = Pulse()
    hub, repo, found = Hub(settings, pulse), Repo("model", model, "main"), []

    def ask() -> None:
        found.append(Path(hub.download(repo, hub.commit(repo), name, lambda: 0)))

    try:
        if not settings.offline:
            run_all([ask], 1, pulse, lambda: _watch(hub, pulse))
            return found[0]
    except Unreachable:
        if _cached(settings, repo, name) is None:
            raise
    path = _cached(settings, repo, name)
    if path is None:
        raise _offline(f"{name} of {model}", settings)
    return path


def _cached(settings: HubSettings, repo: Repo, name: str) -> Path | None:
    """A file as other hub clients left it in the cache."""
    ref = settings.hub_cache / repo.folder / "refs" / repo.revision
    path = snapshot_folder(settings, repo, ref.read_text(encoding="utf-8").strip() if ref.is_file() else "-") / name
    return path if path.is_file() else None


def _repo(need: Need) -> Repo:
    return Repo(need.repo_type, need.repo, need.revision)


# -- listing ----------------------------------------------------------------------------------------------------------

def _ask(repos: Sequence[Repo], hub: Hub, pulse: Pulse) -> dict[Repo, Listing]:
    """Ask the hub for every listing at once; the first error is raised, Unreachable if no answer comes in time."""
    answers: dict[Repo, Listing] = {}

    def ask(repo: Repo) -> Callable[[], None]:
        return lambda: answers.__setitem__(repo, hub.list(repo))

    run_all([ask(repo) for repo in repos], hub.settings.workers, pulse, lambda: _watch(hub, pulse))
    return answers


def _ask_each(repos: Sequence[Repo], hub: Hub, pulse: Pulse) -> dict[Repo, Listing | EasiError]:
    """Like ``_ask``, with the error in place of what could not be listed."""
    answers: dict[Repo, Listing | EasiError] = {}

    def ask(repo: Repo) -> None:
        try:
            answers[repo] = hub.list(repo)
        except Unreachable:
            raise
        except EasiError as error:
            answers[repo] = error

    try:
        run_all([lambda repo=repo: ask(repo) for repo in repos],    # type: ignore[misc]
                hub.settings.workers, pulse, lambda: _watch(hub, pulse))
    except EasiError as error:
        return {repo: answers.get(repo, error) for repo in repos}
    return answers


def _watch(hub: Hub, pulse: Pulse) -> None:
    """Called while others work: silence has its limits, whatever the reason for it."""
    silence = pulse.silence()
    if not hub.answered and silence > hub.settings.patience:
        raise hub.unreachable()
    if silence > hub.settings.stall:
        raise EasiError(f"nothing has moved for {silence:.0f} s while fetching from {hub.settings.endpoint}",
                        hint="run it again, it continues where it was")


# -- planning ---------------------------------------------------------------------------------------------------------

def _plan(needs: Sequence[Need], listings: dict[Repo, Listing], settings: HubSettings) -> list[Planned]:
    """Needs that share a file share its Item."""
    items: dict[Path, Item] = {}
    plan = []
    for need in needs:
        listing = listings[_repo(need)]
        mine = [_item(need, listing, file, settings) for file in _select(need, listing, settings)]
        plan.append(Planned(need, listing, tuple(items.setdefault(item.place, item) for item in mine)))
    return plan


def _select(need: Need, listing: Listing, settings: HubSettings) -> list[FileRecord]:
    by_path = {file.path: file for file in listing.files}
    if listing.source == "cache" and need.kind is Kind.FILE and need.files[0] not in by_path:
        # Nobody can tell what the file should be; one that lies where it belongs is taken as it is.
        size = size_of_file(need.target)
        return [FileRecord(need.files[0], -1 if size is None else size, "")]
    if listing.source == "cache" and not listing.files:
        raise _offline(need.repo, settings)
    wanted = need.files or tuple(filter_repo_objects(
        by_path, allow_patterns=list(need.allow) or None, ignore_patterns=list(need.ignore) or None))
    absent = [path for path in wanted if path not in by_path]
    if absent or not wanted:
        raise EasiError(f"{need.repo} has no {absent[0] if absent else 'file like ' + ', '.join(need.allow)}",
                        hint=f"needed for {need.what}; check HF_ENDPOINT, or the repo was rearranged")
    return [by_path[path] for path in wanted]


def _item(need: Need, listing: Listing, file: FileRecord, settings: HubSettings) -> Item:
    repo, commit = listing.repo, listing.commit
    snapshot = snapshot_folder(settings, repo, commit) / file.path
    if need.kind is Kind.SNAPSHOT:
        return Item(repo, commit, file, snapshot, plain=False)
    names = dict.fromkeys((need.target.name, Path(file.path).name))
    found = [folder / name for folder in settings.search for name in names] + [snapshot]
    return Item(repo, commit, file, need.target, plain=True, elsewhere=tuple(found) if file.digest else (),
                derived=tuple(need.target.parent / name for name in need.derived))


def _distinct(plan: Sequence[Planned]) -> list[Item]:
    return list({item.place: item for planned in plan for item in planned.items}.values())


def _all_here(needs: Sequence[Need], listings: dict[Repo, Listing], settings: HubSettings) -> bool:
    """Complete by the record of an earlier fetch; a cache without one proves nothing."""
    if any(listing.source != "record" for listing in listings.values()):
        return False
    return all(item.looks_present() for item in _distinct(_plan(needs, listings, settings)))


def _offline(repo: object, settings: HubSettings) -> EasiError:
    return EasiError(f"{repo} is not complete on disk and HF_HUB_OFFLINE is set",
                     hint=f"unset HF_HUB_OFFLINE, or copy the data to {settings.hf_home}")


def _refuse_incomplete(items: Sequence[Item], settings: HubSettings) -> None:
    for item in items:
        if not item.looks_present():
            raise _offline(f"{item.file.path} of {item.repo}", settings)


def _refuse_full_disk(plan: Sequence[Planned], settings: HubSettings) -> None:
    """Before the first byte: what is to be downloaded, and as much again for archives not unpacked yet (media are
    compressed already), must fit on each disk."""
    needed: dict[int, tuple[Path, int]] = {}

    def add(place: Path, count: int) -> None:
        device = existing_parent(place).stat().st_dev
        needed[device] = (place, needed.get(device, (place, 0))[1] + count)

    for item in _distinct(plan):
        if not item.looks_present():
            add(item.place, max(0, item.file.size - item.partial_bytes()))
    targets = {_target(planned, settings).folder: planned for planned in plan if planned.need.unpack}
    for folder, planned in targets.items():
        names = {part for _, parts in _archive_names(planned) for part in parts}
        if any(item.file.path in names and not item.looks_present() for item in planned.items):
            add(folder, sum(item.file.size for item in planned.items if item.file.path in names))
    for place, count in needed.values():
        if count > free_bytes(place):
            raise EasiError(f"{gigabytes(count)} of data are to be fetched to {existing_parent(place)}, "
                            f"{gigabytes(free_bytes(place))} are free",
                            hint="free some space, or choose bigger disks with HF_HOME and --dataset-dir")


# -- downloading ------------------------------------------------------------------------------------------------------

def _get(plan: Sequence[Planned], items: Sequence[Item], hub: Hub, pulse: Pulse, emit: Emit) -> None:
    hub.answered = hub.answered or hub.settings.offline or any(p.listing.source != "hub" for p in plan)
    books = {item.repo: Checked(hub.settings.records / item.repo.folder / CHECKED) for item in items}
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
        _watch(hub, pulse)

    def task(item: Item) -> Callable[[], None]:
        return lambda: bring(item, hub, books[item.repo], pulse)

    # Big files first: the last one to finish should not be the longest.
    run_all([task(item) for item in sorted(items, key=lambda item: -item.file.size)], hub.settings.workers, pulse, tick)


# -- unpacking --------------------------------------------------------------------------------------------------------

def _archive_names(planned: Planned) -> list[tuple[str, tuple[str, ...]]]:
    """(name, parts) of the archives among a need's files."""
    assert planned.need.unpack is not None
    paths = [item.file.path for item in planned.items]
    if planned.need.unpack.into is None:
        return [(name, (name,)) for name in unpacking.root_zips(paths)]
    return unpacking.media_archives(paths)


def _target(planned: Planned, settings: HubSettings) -> Target:
    unpack, listing = planned.need.unpack, planned.listing
    assert unpack is not None
    if unpack.into is None:
        folder = snapshot_folder(settings, listing.repo, listing.commit)
        marker = settings.records / listing.repo.folder / f"unpacked-{listing.commit}{unpack.sentinel}.json"
        return Target(folder, marker, whole=False, sentinel=unpack.sentinel,
                      reserved=frozenset(file.path for file in listing.files))
    folder = Path(os.path.realpath(unpack.into))        # a link to a bigger disk stays a link
    return Target(folder, folder.with_name(f".{folder.name}.easi.json"), whole=True)


def _unpack(plan: Sequence[Planned], settings: HubSettings, pulse: Pulse, emit: Emit) -> None:
    progress: dict[str, tuple[int, int]] = {}
    shown: dict[str, tuple[int, int]] = {}
    tasks: dict[tuple[Path, str], Callable[[], None]] = {}
    for planned in plan:
        if planned.need.unpack is not None:
            target = _target(planned, settings)
            archives = _archives(planned, settings)
            # lmms-eval makes no folder where there is nothing to unpack; VLMEvalKit writes its sentinel.
            if archives or not target.whole:
                what = f"{planned.need.what}, unpacking"
                tasks.setdefault((target.folder, target.sentinel), _unpack_task(
                    target, archives, lambda done, total, what=what: progress.__setitem__(what, (done, total)),
                    settings, pulse))

    def tick() -> None:
        for what, (done, total) in list(progress.items()):
            if shown.get(what) != (done, total):
                shown[what] = (done, total)
                emit(DataProgress(what, done, total))
        if pulse.silence() > settings.stall:
            raise EasiError(f"unpacking has not moved for {settings.stall:.0f} s", hint="is the disk all right?")

    run_all(list(tasks.values()), settings.workers, pulse, tick)


def _unpack_task(target: Target, archives: Sequence[Archive], show: Callable[[int, int], None],
                 settings: HubSettings, pulse: Pulse) -> Callable[[], None]:
    def on_bytes(done: int, total: int) -> None:
        show(done, total)
        pulse.beat()

    def work() -> None:
        if unpacking.is_unpacked(target, archives):
            with contextlib.suppress(OSError):          # a shared cache may be read-only, and is complete
                unpacking.mark(target, archives)
            return
        with _locked(target.folder, settings, pulse):
            unpacking.unpack(target, archives, on_bytes)
    return work


def _archives(planned: Planned, settings: HubSettings) -> list[Archive]:
    by_path = {item.file.path: item for item in planned.items}
    return [Archive(name, tuple(by_path[part].place for part in parts),
                    " ".join(by_path[part].file.digest or str(by_path[part].file.size) for part in parts))
            for name, parts in _archive_names(planned)]


@contextlib.contextmanager
def _locked(folder: Path, settings: HubSettings, pulse: Pulse) -> Iterator[None]:
    """One run at a time unpacks into a folder; another waits for it."""
    path = settings.records / "locks" / f"{hashlib.sha256(str(folder).encode()).hexdigest()[:32]}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(path)
    while True:
        try:
            lock.acquire(timeout=1)
            break
        except filelock.Timeout:
            pulse.beat()
    try:
        yield
    finally:
        lock.release()


# -- results ----------------------------------------------------------------------------------------------------------

def _fetched(planned: Planned, settings: HubSettings) -> Fetched:
    need, listing = planned.need, planned.listing
    files = tuple(item.file for item in planned.items)
    if need.kind is Kind.FILE:
        file = files[0]
        if len(file.digest) != 64:
            file = FileRecord(file.path, file.size, digest_of(need.target, "sha256"))
        return Fetched(need, listing.commit, need.target, file.size, (file,))
    folder = snapshot_folder(settings, listing.repo, listing.commit)
    media = (need.unpack.into or folder) if need.unpack else None
    return Fetched(need, listing.commit, folder, planned.bytes, files, media)


def _size(need: Need, listing: Listing, problem: str, settings: HubSettings) -> Size:
    source = {"hub": settings.endpoint, "record": "the last fetch", "cache": "the cache"}[listing.source]
    try:
        planned = _plan([need], {listing.repo: listing}, settings)[0]
    except EasiError as error:
        return Size(need, None, 0, 0, source, problem or error.message)
    present = sum(item.file.size for item in planned.items if item.file.size >= 0 and item.looks_present())
    to_unpack = 0
    if need.unpack is not None:
        target, names = _target(planned, settings), {part for _, parts in _archive_names(planned) for part in parts}
        if not target.folder.exists() or (target.sentinel and not (target.folder / target.sentinel).is_file()):
            to_unpack = sum(item.file.size for item in planned.items if item.file.path in names)
    # Without the hub a total is what an earlier fetch noted; a bare cache proves nothing about the rest.
    total = None if listing.source == "cache" else planned.bytes
    return Size(need, total, present, to_unpack, source, problem)
