"""What data a run needs and from which hub: plain data, quick to import."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Literal

from ..errors import EasiError

DEFAULT_ENDPOINT = "https://huggingface.co"
HF_HOME = Path("~/.cache/huggingface").expanduser()
# What a model is made of: weights, tokenizer, processor, its own code and chat template.
MODEL_FILES = (".safetensors", ".bin", ".pt", ".pth", ".json", ".txt", ".model", ".py", ".jinja")
OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE")
TRUE_WORDS = {"1", "ON", "YES", "TRUE"}  # what huggingface_hub takes for true


class Unreachable(EasiError):
    """No answer at all from the hub."""


class Kind(Enum):
    SNAPSHOT = "snapshot"  # files of a repo, into the hub cache, in the cache's own layout
    FILE = "file"  # one file, as itself in a folder


@dataclass(frozen=True)
class Unpack:
    """How the media archives of a snapshot are unpacked.

    ``into`` None: the ``*.zip`` at the snapshot's root are unpacked inside the snapshot, and the file ``sentinel``
    is written there last (VLMEvalKit's layout). ``into`` a folder: every ``**/*.zip`` (tars where there is no zip)
    is unpacked into that folder, which appears only when it is complete (lmms-eval's layout).
    """

    into: Path | None = None
    sentinel: str = ""


@dataclass(frozen=True)
class Need:
    """One piece of benchmark data. ``what`` is for people; needs that differ in nothing else are fetched once.

    ``files`` are exact paths in the repo; without them ``allow`` and ``ignore`` (glob patterns) choose, and
    without those everything. A FILE need names one file, the folder ``where`` it goes to, and ``save_as`` if it
    has another name there; ``derived`` are files beside it that others make from it, removed when it changes.
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
        """Where the file of a FILE need is placed."""
        assert self.where is not None
        return self.where / (self.save_as or Path(self.files[0]).name)


@dataclass(frozen=True)
class FileRecord:
    """One file as the hub describes it; ``digest`` is sha256 (64 hex) of large files, else git's blob id (40 hex)."""

    path: str
    size: int
    digest: str


@dataclass(frozen=True)
class Fetched:
    """A need that is met. ``revision`` is the commit ("" where nobody can tell), ``path`` the snapshot folder or the
    file, ``media`` the folder its archives were unpacked into, ``bytes`` the size of ``files``.

    The digest of a FILE need's file is always its sha256. ``listed``: hub or an earlier fetch said which files there are;
    else they are those of a cache, and some may be lacking.
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
    """For the plan: bytes of one need, how many are here already, how many of its archives' bytes are to be
    unpacked, and where it comes from. ``total`` None: not known, ``problem`` says why.
    """

    need: Need
    total: int | None
    present: int
    to_unpack: int
    source: str
    problem: str = ""


@dataclass(frozen=True)
class Download:
    """What would be downloaded, in words: of each name, of all together, and why sizes are unknown (each reason once)."""

    lines: Mapping[str, str]
    total: str
    problems: tuple[str, ...] = ()


@dataclass(frozen=True)
class HubSettings:
    """One hub, one cache, one user; times in seconds.

    ``offline_by`` names the variables that say so. ``search`` are folders looked through for FILE
    needs before anything is downloaded. Before the hub has answered anything: ``patience`` bounds
    its silence (``patience_again`` once it was given up in this process), ``out_of_order`` how long
    it may answer 5xx, with at most ``retries``. Later ``stall`` bounds
    how long there may be no new byte and no new answer.
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
        return self.cache or self.hf_home / "hub"

    @property
    def why_offline(self) -> str:
        """What is set, for messages."""
        return f"{self.offline_by} {'are' if ' and ' in self.offline_by else 'is'} set"

    @property
    def records(self) -> Path:
        """Our own notes. Outside the hub cache: a stranger's folder there is reported as damage by its tools."""
        return self.hf_home / "easi"

    @classmethod
    def from_env(cls, env: Mapping[str, str] = os.environ) -> HubSettings:
        """What huggingface_hub would use, read now and not when it was imported."""
        cache_home = env.get("XDG_CACHE_HOME") or "~/.cache"
        hf_home = _path(env.get("HF_HOME") or f"{cache_home}/huggingface")
        cache = env.get("HF_HUB_CACHE") or env.get("HUGGINGFACE_HUB_CACHE")
        # The second counts for the hub's client where the first says nothing; the third, of the
        # datasets library, would keep data that we fetched from workers.
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
    """Absolute: the backends' processes are started in other folders than ours."""
    return Path(os.path.expandvars(text)).expanduser().absolute()


def _token(env: Mapping[str, str], hf_home: Path) -> str | None:
    """HF_TOKEN, else the login stored by ``hf auth login``."""
    stored = _path(env.get("HF_TOKEN_PATH") or str(hf_home / "token"))
    token = env.get("HF_TOKEN") or env.get("HUGGING_FACE_HUB_TOKEN")
    if not token:
        with contextlib.suppress(OSError):  # none, or that of somebody else in a shared HF_HOME
            token = stored.read_text(encoding="utf-8", errors="replace")
    return (token or "").strip() or None
