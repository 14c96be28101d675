"""Types for the data that a run needs and for the hub they come from.

The module imports nothing that is slow to load.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Literal

DEFAULT_ENDPOINT = "https://huggingface.co"
HF_HOME = Path("~/.cache/huggingface").expanduser()
# The files of a model: weights, tokenizer, processor, its own code and chat template.
MODEL_FILES = (".safetensors", ".bin", ".pt", ".pth", ".json", ".txt", ".model", ".py", ".jinja")
OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE")
TRUE_WORDS = {"1", "ON", "YES", "TRUE"}  # as in huggingface_hub


@dataclass(frozen=True, order=True)
class Repo:
    """A repository at a revision.

    Attributes:
        kind: ``dataset`` or ``model``.
        name: ``owner/name``.
        revision: A branch, tag or commit.
    """

    kind: str
    name: str
    revision: str

    @property
    def folder(self) -> str:
        """The name of the repository's folder in a hub cache."""
        return f"{self.kind}s--" + self.name.replace("/", "--")

    def __str__(self) -> str:
        return self.name if self.revision == "main" else f"{self.name} ({self.revision})"


class Kind(Enum):
    """How the files of a need are stored."""

    SNAPSHOT = "snapshot"  # several files, in the layout of the hub cache
    FILE = "file"  # one plain file in a folder outside the hub cache


@dataclass(frozen=True)
class Unpack:
    """How the media archives of a snapshot are unpacked.

    Attributes:
        into: None for VLMEvalKit's layout: the ``*.zip`` at the root of the snapshot are unpacked
            inside the snapshot. A folder for lmms-eval's layout: every ``**/*.zip`` (tars if there
            is no zip) is unpacked into that folder, which appears only when it is complete.
        sentinel: In VLMEvalKit's layout, a file that is written into the snapshot last.
    """

    into: Path | None = None
    sentinel: str = ""


@dataclass(frozen=True)
class Need:
    """Files of one repository that a benchmark or a model needs.

    Needs that differ only in ``what`` share their files, which are fetched once.

    Attributes:
        what: Name for messages.
        repo: ``owner/name``.
        kind: How the files are stored.
        revision: A branch, tag or commit.
        files: Exact paths in the repository. If empty, ``allow`` and ``ignore`` choose the files;
            without these, all files are needed. A FILE need has exactly one.
        allow: Glob patterns of paths to include.
        ignore: Glob patterns of paths to exclude.
        repo_type: The kind of repository.
        where: FILE only: the folder for the file.
        save_as: FILE only: its name in that folder, if another than in the repository.
        derived: FILE only: names of files in that folder that other programs make from it; they are
            removed when it changes.
        unpack: SNAPSHOT only: how its archives are unpacked; None if they are not.
    """

    what: str
    repo: str
    kind: Kind = Kind.SNAPSHOT
    revision: str = "main"
    files: tuple[str, ...] = ()
    allow: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    repo_type: Literal["dataset", "model"] = "dataset"
    where: Path | None = None
    save_as: str = ""
    derived: tuple[str, ...] = ()
    unpack: Unpack | None = None

    def __post_init__(self) -> None:
        if self.kind is Kind.FILE and (
            len(self.files) != 1 or self.where is None or self.unpack is not None
        ):
            raise ValueError(
                f"{self.what}: a FILE need has one file and a folder, and unpacks nothing"
            )
        if self.kind is Kind.SNAPSHOT and (self.where is not None or self.save_as or self.derived):
            raise ValueError(f"{self.what}: a SNAPSHOT need lives in the hub cache")

    @property
    def target(self) -> Path:
        """The path of the file of a FILE need."""
        assert self.where is not None
        return self.where / (self.save_as or Path(self.files[0]).name)


@dataclass(frozen=True)
class FileRecord:
    """One file as the hub describes it.

    Attributes:
        path: Path in the repository.
        size: Bytes; -1 if unknown.
        digest: SHA-256 (64 hex digits) of a large file, else the id of git's blob (40 hex digits);
            "" if unknown.
    """

    path: str
    size: int
    digest: str


@dataclass(frozen=True)
class Listing:
    """The files of a repository at one commit.

    Attributes:
        repo: The repository and revision that was asked for.
        commit: The commit of that revision.
        files: Its files.
        source: ``hub``; ``record``, a listing saved by an earlier fetch; or ``cache``, the files in
            the hub cache, which may be incomplete.
    """

    repo: Repo
    commit: str
    files: tuple[FileRecord, ...]
    source: str = "hub"


@dataclass(frozen=True)
class Fetched:
    """A need whose files are on disk.

    Attributes:
        need: The need.
        revision: The commit; "" if unknown.
        path: The snapshot folder, or the file of a FILE need.
        bytes: Size of all ``files``.
        files: The files. The digest of a FILE need's file is always its SHA-256.
        media: The folder into which archives were unpacked; None if the need unpacks nothing.
        listed: True if the hub or an earlier fetch told which files there are. If false, ``files``
            are those found in the cache, and some may be missing.
    """

    need: Need
    revision: str
    path: Path
    bytes: int
    files: tuple[FileRecord, ...]
    media: Path | None = None
    listed: bool = True


@dataclass(frozen=True)
class Size:
    """Sizes of one need for the plan, in bytes.

    Attributes:
        need: The need.
        total: Size of all its files; None if unknown.
        present: Size of the files that are on disk.
        to_unpack: Size of its archives that are not unpacked.
        source: Where the list of files comes from, for messages.
        problem: Why there is no listing of the hub, or no size; "" if nothing is wrong.
    """

    need: Need
    total: int | None
    present: int
    to_unpack: int
    source: str
    problem: str = ""


@dataclass(frozen=True)
class Download:
    """Text on what would be downloaded.

    Attributes:
        lines: One line per benchmark, and for the model.
        total: The sum of all.
        problems: Why sizes are unknown; each reason once.
    """

    lines: Mapping[str, str]
    total: str
    problems: tuple[str, ...] = ()


@dataclass(frozen=True)
class HubSettings:
    """Address, login, cache and time limits of one hub. Times are in seconds.

    Attributes:
        endpoint: Address of the hub.
        hf_home: Folder of the Hugging Face libraries.
        cache: Hub cache; None for ``hub`` below ``hf_home``.
        token: Login; None for none.
        offline: No request may be made.
        offline_by: The environment variables that set ``offline``, for messages.
        search: Folders where the files of FILE needs may already be.
        workers: Parallel requests.
        retries: Retries of a request to a server that responds with an error, until the hub has
            answered a request.
        backoff: First pause between retries; it doubles with each.
        patience: Longest silence until a server has responded.
        patience_again: The same for a hub that was given up earlier in this process.
        out_of_order: Longest time without a usable answer, until the hub has answered a request.
        stall: Longest time without a new byte or answer, after that.
    """

    endpoint: str = DEFAULT_ENDPOINT
    hf_home: Path = HF_HOME
    cache: Path | None = None
    token: str | None = None
    offline: bool = False
    offline_by: str = OFFLINE[0]
    search: tuple[Path, ...] = ()
    workers: int = 6
    retries: int = 5
    backoff: float = 1.0
    patience: float = 12.0
    patience_again: float = 3.0
    out_of_order: float = 60.0
    stall: float = 300.0

    @property
    def hub_cache(self) -> Path:
        """The folder of the hub cache."""
        return self.cache or self.hf_home / "hub"

    @property
    def why_offline(self) -> str:
        """Which environment variables make the run offline, for messages."""
        return f"{self.offline_by} {'are' if ' and ' in self.offline_by else 'is'} set"

    @property
    def records(self) -> Path:
        """The folder for this program's own records: listings, checked files, locks.

        It is outside the hub cache, whose tools report unknown folders as damage.
        """
        return self.hf_home / "easi"

    @classmethod
    def from_env(cls, env: Mapping[str, str] = os.environ) -> HubSettings:
        """Return the settings that huggingface_hub would use, from the present environment.

        huggingface_hub itself reads the environment only when it is imported.
        """
        cache_home = env.get("XDG_CACHE_HOME") or "~/.cache"
        hf_home = _path(env.get("HF_HOME") or f"{cache_home}/huggingface")
        cache = env.get("HF_HUB_CACHE") or env.get("HUGGINGFACE_HUB_CACHE")
        # huggingface_hub reads the second variable only if the first is not set. The third belongs
        # to the datasets library: workers would not load data that this process fetched.
        names = [name for name in OFFLINE if name != OFFLINE[1] or not _denied(env, OFFLINE[0])]
        said = [name for name in names if env.get(name, "").upper() in TRUE_WORDS]
        lmu = [_path(folder) for folder in (env.get("LMUData"), "~/LMUData") if folder]
        return cls(
            endpoint=(env.get("HF_ENDPOINT") or DEFAULT_ENDPOINT).rstrip("/"),
            hf_home=hf_home,
            cache=_path(cache) if cache else None,
            token=_token(env, hf_home),
            offline=bool(said),
            offline_by=" and ".join(said) or OFFLINE[0],
            search=tuple(dict.fromkeys(lmu)),
        )


def _denied(env: Mapping[str, str], name: str) -> bool:
    return bool(env.get(name)) and env[name].upper() not in TRUE_WORDS


def _path(text: str) -> Path:
    """Return an absolute path, because the backends' processes run in other folders."""
    return Path(os.path.expandvars(text)).expanduser().absolute()


def _token(env: Mapping[str, str], hf_home: Path) -> str | None:
    """Return the token of HF_TOKEN, else the login stored by ``hf auth login``."""
    stored = _path(env.get("HF_TOKEN_PATH") or str(hf_home / "token"))
    token = env.get("HF_TOKEN") or env.get("HUGGING_FACE_HUB_TOKEN")
    if not token:
        with contextlib.suppress(OSError):  # absent, or another user's in a shared HF_HOME
            token = stored.read_text(encoding="utf-8", errors="replace")
    return (token or "").strip() or None
