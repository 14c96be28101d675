"""How the local hub describes a folder of files: hashes, listings and the JSON of its API."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from dataclasses import dataclass
from pathlib import Path

# Files that the real hub keeps as plain git blobs; everything else is stored as LFS and named by
# its sha256.
_PLAIN_SUFFIXES = frozenset({".md", ".json", ".txt", ".py", ".jinja", ".gitattributes", ".yaml"})
_TIME = "2025-01-01T00:00:00.000Z"


@dataclass(frozen=True)
class File:
    """One file of a repository: ``etag`` is its sha256 where ``lfs``, else its git blob sha1."""

    path: Path
    size: int
    etag: str
    lfs: bool


@dataclass(frozen=True)
class LocalRepository:
    """A repository's files by their path inside it, sorted, and the commit they make (40 hex)."""

    commit: str
    files: dict[str, File]

    def entry(self, path: str) -> dict[str, object] | None:
        """The hub's description of one file or folder; None where there is neither."""
        file = self.files.get(path)
        if file is not None:
            described: dict[str, object] = {
                "type": "file",
                "oid": file.etag[:40],
                "size": file.size,
                "path": path,
            }
            if file.lfs:
                described["lfs"] = {"oid": file.etag, "size": file.size, "pointerSize": 130}
            return described
        inside = [
            name + other.etag for name, other in self.files.items() if name.startswith(f"{path}/")
        ]
        if not inside:
            return None
        return {
            "type": "directory",
            "oid": hashlib.sha1("".join(inside).encode()).hexdigest(),
            "size": 0,
            "path": path,
        }

    def tree(self, folder: str, recursive: bool) -> list[dict[str, object]] | None:
        """The entries below a folder ('' is the root), sorted by path; None if there is none."""
        prefix = f"{folder}/" if folder else ""
        paths: set[str] = set()
        for name in self.files:
            if name.startswith(prefix):
                steps = name[len(prefix) :].split("/")
                depth = len(steps) if recursive else 1
                paths.update(prefix + "/".join(steps[:end]) for end in range(1, depth + 1))
        if not paths and folder:
            return None
        return [entry for path in sorted(paths) if (entry := self.entry(path)) is not None]

    def info(self, kind: str, name: str, blobs: bool) -> dict[str, object]:
        """The hub's description of the repository; with ``blobs``, also file sizes and hashes."""
        siblings = []
        for path, file in self.files.items():
            sibling: dict[str, object] = {"rfilename": path}
            if blobs:
                sibling |= {"size": file.size, "blobId": file.etag[:40]}
                if file.lfs:
                    sibling["lfs"] = {"sha256": file.etag, "size": file.size, "pointerSize": 130}
            siblings.append(sibling)
        described: dict[str, object] = {
            "_id": self.commit[:24],
            "id": name,
            "author": name.split("/")[0],
            "sha": self.commit,
            "lastModified": _TIME,
            "createdAt": _TIME,
            "private": False,
            "gated": False,
            "disabled": False,
            "downloads": 0,
            "likes": 0,
            "tags": [],
            "siblings": siblings,
        }
        card = self.files.get("README.md")
        if found := re.match(
            r"---\n(?:.*\n)*?license: *(\S+)\n",
            card.path.read_text(encoding="utf-8") if card else "",
        ):
            described["cardData"] = {"license": found[1]}
        if kind == "models":
            described["modelId"] = name
        return described


class RepositoryIndex:
    """Repositories by folder.  A file is hashed once per size and modification time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._hashed: dict[tuple[str, int, int], File] = {}

    def repo(self, folder: Path) -> LocalRepository:
        """The folder as it is now."""
        with self._lock:
            paths = sorted(path for path in folder.rglob("*") if path.is_file())
            files = {path.relative_to(folder).as_posix(): self._file(path) for path in paths}
        named = "\n".join(f"{name} {file.etag}" for name, file in files.items())
        return LocalRepository(hashlib.sha1(named.encode()).hexdigest(), files)

    def _file(self, path: Path) -> File:
        stat = path.stat()
        key = (str(path), stat.st_size, stat.st_mtime_ns)
        if key not in self._hashed:
            self._hashed[key] = _hash(path, stat.st_size)
        return self._hashed[key]


def _hash(path: Path, size: int) -> File:
    lfs = path.suffix not in _PLAIN_SUFFIXES and path.name not in _PLAIN_SUFFIXES
    digest = hashlib.sha256() if lfs else hashlib.sha1(f"blob {size}\0".encode())
    with path.open("rb") as file:
        while part := file.read(1 << 20):
            digest.update(part)
    return File(path, size, digest.hexdigest(), lfs)


def to_json(value: object) -> bytes:
    """The value as UTF-8 JSON."""
    return json.dumps(value, ensure_ascii=False).encode()
