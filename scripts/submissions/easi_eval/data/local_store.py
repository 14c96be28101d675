"""State on disk: digests of files, records of checked files, and listings of earlier fetches."""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

from ..core.atomic_files import replace_file
from ..core.errors import EasiError
from .needs import FileRecord, HubSettings, Listing, Repo

CHUNK = 1 << 20


def digest_of(path: Path, like: str, on_bytes: Callable[[int], None] = lambda n: None) -> str:
    """Return the digest of a file, of the same kind as ``like``.

    Args:
        path: The file.
        like: A digest: 40 characters mean the id of git's blob, all others SHA-256.
        on_bytes: Called with the number of bytes after each piece is read.
    """
    sha = hashlib.sha1(b"blob %d\0" % path.stat().st_size) if len(like) == 40 else hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            sha.update(chunk)
            on_bytes(len(chunk))
    return sha.hexdigest()


def size_of_file(path: Path) -> int | None:
    """Return the bytes of a regular file (links are followed), None if there is none."""
    try:
        return path.stat().st_size if path.is_file() else None
    except OSError:
        return None


class Checked:
    """Record of files whose digest was found to be the hub's.

    Files are recognised by size and time of change, so that tens of gigabytes are not read before
    every run. The record has one line per file: digest, size, mtime in ns.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._known: set[str] = set()
        if path.is_file():
            self._known.update(path.read_text(encoding="utf-8").splitlines())

    def __contains__(self, item: tuple[Path, str]) -> bool:
        return self._line(*item) in self._known

    def add(self, path: Path, digest: str) -> None:
        """Record that the file at ``path`` has this digest."""
        line = self._line(path, digest)
        with self._lock:
            if line in self._known:
                return
            self._known.add(line)
            # A shared cache may be read-only; the file is then checked again next time.
            with contextlib.suppress(OSError):
                self._path.parent.mkdir(parents=True, exist_ok=True)
                with self._path.open("a", encoding="utf-8") as file:
                    file.write(line + "\n")

    @staticmethod
    def _line(path: Path, digest: str) -> str:
        stat = path.stat()
        return f"{digest} {stat.st_size} {stat.st_mtime_ns}"


def snapshot_folder(settings: HubSettings, repo: Repo, commit: str) -> Path:
    """Return the folder of a commit in the hub cache."""
    return settings.hub_cache / repo.folder / "snapshots" / commit


def save_listing(settings: HubSettings, listing: Listing) -> None:
    """Save a listing, so that a later offline run knows which files make the data complete."""
    data = {"commit": listing.commit, "files": [[f.path, f.size, f.digest] for f in listing.files]}
    with contextlib.suppress(OSError):  # a shared cache may be read-only
        replace_file(_listing_path(settings, listing.repo), json.dumps(data).encode())


def local_listing(settings: HubSettings, repo: Repo) -> Listing:
    """Return the listing of the last fetch, else the files that the hub cache holds.

    If there is neither, the commit is "" and there are no files.
    """
    path = _listing_path(settings, repo)
    ref = settings.hub_cache / repo.folder / "refs" / repo.revision
    commit = ref.read_text(encoding="utf-8").strip() if ref.is_file() else repo.revision
    if path.is_file():
        data = json.loads(path.read_text(encoding="utf-8"))
        # Another program may have moved the cache's ref to another commit since. Datasets are read
        # at the commit of the ref, so the saved listing does not apply then. Weights are passed to
        # the workers as a folder, whatever the ref says.
        if repo.kind == "model" or commit in (data["commit"], repo.revision):
            return Listing(
                repo, data["commit"], tuple(FileRecord(*row) for row in data["files"]), "record"
            )
    folder = snapshot_folder(settings, repo, commit)
    if not folder.is_dir():
        return Listing(repo, "", (), "cache")
    files = []
    for path in sorted(folder.rglob("*")):
        size = size_of_file(path)
        # Files of the repository are links; plain files are unpacked media.
        if path.is_symlink() and size is not None:
            name = path.resolve().name
            digest = name if len(name) in (40, 64) and set(name) <= set("0123456789abcdef") else ""
            files.append(FileRecord(path.relative_to(folder).as_posix(), size, digest))
    return Listing(repo, commit, tuple(files), "cache")


def write_ref(settings: HubSettings, listing: Listing) -> None:
    """Write the cache's ref of a revision, by which VLMEvalKit and offline clients find the commit.

    An existing ref is changed only for a listing that comes from the hub.

    Raises:
        EasiError: The ref of a dataset cannot be written, so that another commit would be read.
    """
    if listing.repo.revision == listing.commit:
        return
    ref = settings.hub_cache / listing.repo.folder / "refs" / listing.repo.revision
    there = ref.read_text(encoding="utf-8").strip() if ref.is_file() else ""
    if there == listing.commit or (there and listing.source != "hub"):
        return
    try:
        replace_file(ref, listing.commit.encode())
    except OSError as error:
        # Weights need no ref, as they are passed on as a folder.
        if there and listing.repo.kind == "dataset":
            raise EasiError(
                f"{ref} names {there}, the hub {listing.commit}, "
                f"and it cannot be written: {error.strerror}",
                hint="HF_HUB_OFFLINE=1 reads what is there; set HF_HOME to another folder",
            ) from error


def _listing_path(settings: HubSettings, repo: Repo) -> Path:
    return settings.records / repo.folder / f"listing-{quote(repo.revision, safe='')}.json"


def incomplete(repo: object, settings: HubSettings) -> EasiError:
    """Return the error for data that are missing while the hub cannot be asked.

    ``repo`` is the repository, or text that names the missing part of it.
    """
    return EasiError(
        f"{repo} is not complete on disk and {settings.why_offline}",
        hint=f"unset {settings.offline_by}, or copy the data to {settings.hf_home}",
    )
