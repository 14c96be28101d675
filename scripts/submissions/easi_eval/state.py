"""What is known about a run on disk: where it lies, what it is (identity, fingerprints), its manifest, its lock."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import hashlib
import json
import os
import re
import shutil
import socket
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from .errors import DiskFull, EasiError, is_full
from .libraries import short
from .locks import NO_LOCKS, process_start
from .redact import Redactor

if TYPE_CHECKING:
    from .config import RunConfig
    from .model import ModelChoice

SCHEMA = 1


# ---- places -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class RunPaths:
    """Where everything of one (backend, model identity) lies. Making one touches no file."""

    root: Path

    @classmethod
    def of(cls, output_dir: Path, backend: str, model_name: str, identity: str) -> RunPaths:
        return cls(output_dir / "runs" / backend / f"{sanitise(model_name)}-{identity[:8]}")

    @property
    def work(self) -> Path:
        return self.root / "work.json"

    @property
    def journal(self) -> Path:
        return self.root / "journal"

    @property
    def items(self) -> Path:
        return self.root / "items"

    @property
    def outputs(self) -> Path:
        return self.root / "outputs"

    @property
    def manifest(self) -> Path:
        return self.root / "run_manifest.json"

    @property
    def lock(self) -> Path:
        return self.root / "run.lock"

    def output(self, key: str) -> Path:
        """The folder of one benchmark's own output."""
        return self.outputs / key

    def aside(self, key: str, epoch: int) -> Path:
        """Where what an earlier epoch left in ``output(key)`` is moved before that benchmark runs again."""
        return self.outputs / f".before-{key}.{epoch}"


def sanitise(name: str) -> str:
    """A model's name as one folder name: ``org/model`` gives ``org__model``; never empty, hidden or over 100 characters."""
    words = name.strip().strip("/").replace("/", "__")
    return re.sub(r"[^\w.+-]+", "_", words).lstrip(".")[-100:] or "model"


def cache_folder() -> Path:
    """The user's own folder for what can be made again."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if Path(base).is_absolute() else Path.home() / ".cache") / "easi-eval"


# ---- files --------------------------------------------------------------------------------------------------------


def write_atomic(path: Path, content: str | bytes) -> None:
    """Write the whole file or nothing: a kill at any instant leaves the old file or the new one. Makes the folder.

    Raises EasiError when the disk will not take it (full, read-only).
    """
    data = content if isinstance(content, bytes) else content.encode("utf-8")
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and is_full(error):
            raise DiskFull(
                f"{path} cannot be written: {error.strerror}; it has {len(data):,} bytes, "
                f"{_free(path):,} are free",
                "what was written before is kept",
            ) from error
        if isinstance(error, OSError):
            raise EasiError(
                f"{path} cannot be written: {error.strerror or error}",
                hint="free some space, or give another --output-dir",
            ) from error
        raise


def _free(path: Path) -> int:
    try:
        return shutil.disk_usage(path.parent).free
    except OSError:
        return 0


def write_json(path: Path, value: object) -> None:
    """``write_atomic`` of readable JSON. NaN and infinities are bugs and raise ValueError."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    try:
        data = text.encode("utf-8")
    except UnicodeEncodeError:  # lone surrogates have no UTF-8; \\u escapes keep them exactly
        data = (json.dumps(value, indent=2, allow_nan=False) + "\n").encode("ascii")
    write_atomic(path, data)


def read_json(path: Path) -> object:
    """Raises EasiError naming the file if it is missing, cut off or not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise EasiError(
            f"{path} cannot be read: {error.strerror or error}",
            hint="is this the output folder of a run?",
        ) from error
    except ValueError as error:
        raise EasiError(
            f"{path} is damaged: {error}", hint="move it away and start again"
        ) from error


# ---- what a run is ------------------------------------------------------------------------------------------------

# The rule by which ``identity_fields`` are chosen. Runs of an older one go on in their folders: see ``run_folder.py``.
IDENTITY_VERSION = 2
# Fields that may not be known: absent is unknown, and unknown differs from nothing.
MAY_BE_UNKNOWN = frozenset({"identity version", "refers to", "transformers", "engine", "attention"})
# Arguments that ask for a way to compute attention.
ATTENTION = (
    "attn_implementation",
    "_attn_implementation",
    "use_flash_attention_2",
    "use_flash_attn",
)
# Arguments of a served model's class that say where the server is, how long to wait for it and how much to ask at once.
CONNECTION = frozenset(
    {
        "api_base",
        "base_url",
        "api_url",
        "url",
        "model_url",
        "httpx_trust_env",
        "timeout",
        "request_timeout",
        "wait",
        "retry",
        "max_retries",
        "retry_backoff_s",
        "num_concurrent",
        "max_concurrent",
        "num_cpus",
        "batch_size",
        "adaptive_concurrency",
        "adaptive_min_concurrency",
        "adaptive_max_concurrency",
        "adaptive_target_latency_s",
        "adaptive_increase_step",
        "adaptive_decrease_factor",
        "adaptive_failure_threshold",
        "prefix_aware_queue",
        "prefix_hash_chars",
        "verbose",
    }
)


def identity_fields(
    backend: str,
    version: str,
    model: ModelChoice,
    cfg: RunConfig,
    libraries: Mapping[str, str] = {},
) -> dict[str, object]:
    """Everything that changes the answers, in clear.

    ``libraries``: installed versions by name; only major and minor of those that answer count. A served model is answered by
    its server: ``engine`` is then the server's kind and version where those are known, and its image encoding and sampling
    are what ``class arguments`` ask for; where it is and how it is called (``CONNECTION``) is no part of it.
    What changes scores alone (the judge, corrections) belongs to a benchmark's settings; what only changes speed, place or display
    (``--nproc``, ``--no-accelerate``, ``--plain``, ``--limit``, folders ...) is in neither.
    """
    fields = first_identity_fields(backend, version, model, cfg) | {
        "identity version": IDENTITY_VERSION
    }
    fields["backend arguments"] = cfg.kind.answer_arguments(cfg.backend_args)
    if model.refers_to:
        fields["refers to"] = model.refers_to
    if model.served:
        for name in ("class arguments", "--model-args"):
            fields[name] = {
                key: value for key, value in fields[name].items() if key not in CONNECTION
            }
        return fields
    transformers, engine = (
        short(libraries.get("transformers", "")),
        short(libraries.get(model.engine, "")),
    )
    if transformers:
        fields["transformers"] = transformers
    if engine:
        fields["engine"] = {model.engine: engine}
    return fields | {
        "attention": {name: model.arguments[name] for name in ATTENTION if name in model.arguments}
    }


def first_identity_fields(
    backend: str, version: str, model: ModelChoice, cfg: RunConfig
) -> dict[str, object]:
    """The fields by the first rule, which had no version."""
    return {
        "backend": backend,
        "backend version": version,
        "model": model.path,
        "revision": model.revision,
        "model class": model.cls,
        "registry entry": model.entry,
        "class file": model.source,
        "class arguments": model.arguments,
        # as the backend understood them: `models/m/` and `./models/m` are one folder
        "--model-args": {
            name: model.arguments.get(name, value) for name, value in cfg.model_arguments.items()
        },
        "--device": cfg.device_kind,
        "--trust-remote-code": cfg.trust_remote_code,
        "backend arguments": list(cfg.backend_args),
        "--smoke": cfg.smoke,
    }


def identity(
    backend: str,
    version: str,
    model: ModelChoice,
    cfg: RunConfig,
    libraries: Mapping[str, str] = {},
) -> str:
    """64 hex digits of ``identity_fields``; the first eight name the run's folder."""
    return digest(identity_fields(backend, version, model, cfg, libraries))


def fingerprint(identity: str, settings: Mapping[str, object]) -> str:
    """64 hex digits for one benchmark of a run: its identity and the benchmark's own settings."""
    return digest({"identity": identity, "settings": dict(settings)})


def digest(value: object) -> str:
    """SHA-256 of the value as canonical JSON: key order does not matter, and what is not JSON raises TypeError."""
    text = json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False
    )
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def differing_fields(old: Mapping[str, object], new: Mapping[str, object]) -> list[str]:
    """The top-level names whose values differ; nested mappings are named down to the key (``--model-args max_pixels``)."""
    names = []
    for name in sorted({*old, *new}):
        before, after = old.get(name), new.get(name)
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            names += [f"{name} {inner}" for inner in differing_fields(before, after)]
        elif _plain(before) != _plain(after):
            names.append(name)
    return names


def known_differences(old: Mapping[str, object], new: Mapping[str, object]) -> list[str]:
    """As ``differing_fields``, without what one of the two does not know."""
    unknown = {name for name in MAY_BE_UNKNOWN if name not in old or name not in new} | {
        "identity version"
    }
    return differing_fields(
        {name: value for name, value in old.items() if name not in unknown},
        {name: value for name, value in new.items() if name not in unknown},
    )


def _plain(value: object) -> object:
    return json.loads(json.dumps(value))  # tuples and lists are one thing on disk


# ---- the manifest -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class BenchmarkState:
    """What is known of one benchmark. ``state`` is a value of ``results.scores.State``, or "" before it was scored.

    ``settings`` in clear belong to ``fingerprint``; ``evidence`` is what proved the state (files, rows, total);
    ``reason`` says why it is not complete. Answers of an epoch below ``epoch`` do not count.
    """

    fingerprint: str
    epoch: int = 0
    state: str = ""
    reason: str = ""
    settings: dict[str, object] = field(default_factory=dict)
    evidence: dict[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Manifest:
    """``run_manifest.json``: how the run's numbers were made, for people, for resume and for the archive."""

    identity: str
    fields: dict[str, object]  # ``identity_fields``: names the setting that differs
    modelName: str = ""
    model: dict[str, object] = field(default_factory=dict)  # the ModelChoice
    versions: dict[str, str] = field(
        default_factory=dict
    )  # of this program, the backend, torch ...
    commands: list[str] = field(default_factory=list)  # ours and those of the jobs, without secrets
    revisions: dict[str, str] = field(
        default_factory=dict
    )  # commit of each repository, of data and model
    benchmarks: dict[str, BenchmarkState] = field(default_factory=dict)
    machines: list[str] = field(default_factory=list)  # what it was run on: GPUs and processes
    notes: list[str] = field(default_factory=list)
    supplement: dict[str, object] = field(
        default_factory=dict
    )  # identity fields of a newer rule than that of ``fields``
    launches: list[dict[str, object]] = field(
        default_factory=list
    )  # versions and attention of each start of workers, oldest first
    schema: int = SCHEMA

    def save(self, path: Path) -> None:
        """Without secrets: the file is part of the archive."""
        write_json(path, Redactor.from_environ().within(dataclasses.asdict(self)))

    @classmethod
    def load(cls, path: Path) -> Manifest | None:
        """None if there is none. Raises EasiError if it is damaged or of another schema."""
        if not path.exists():
            return None
        value = read_json(path)
        schema = value.get("schema") if isinstance(value, dict) else None
        if schema != SCHEMA:
            raise EasiError(
                f"{path} has schema {schema}, and this version reads {SCHEMA}",
                hint="use another --output-dir, or the version of this program that wrote it",
            )
        try:
            states = {
                key: BenchmarkState(**state) for key, state in value.pop("benchmarks").items()
            }
            return cls(**value, benchmarks=states)
        except (TypeError, KeyError, AttributeError) as error:
            raise EasiError(
                f"{path} is damaged: {error}", hint="move it away and start again"
            ) from error

    def with_state(self, key: str, **changes: object) -> Manifest:
        """A copy in which this benchmark's state is changed; it must be known already."""
        return dataclasses.replace(
            self,
            benchmarks={
                **self.benchmarks,
                key: dataclasses.replace(self.benchmarks[key], **changes),
            },
        )


def other_runs(paths: RunPaths, model_name: str) -> list[Manifest]:
    """The manifests of the same backend and model beside ``paths``, under other identities; damaged ones are left out."""
    found = []
    for file in sorted(
        paths.root.parent.glob(
            f"{glob_escape(sanitise(model_name))}-????????/{paths.manifest.name}"
        )
    ):
        with contextlib.suppress(
            EasiError
        ):  # another run's damaged manifest is no reason to refuse this one
            manifest = Manifest.load(file) if file.parent != paths.root else None
            # What was adopted (--import-results) was made under settings that nobody told us.
            if (
                manifest is not None
                and manifest.modelName == model_name
                and not manifest.fields.get("imported")
            ):
                found.append(manifest)
    return found


def glob_escape(name: str) -> str:
    return re.sub(r"([*?\[])", r"[\1]", name)


# ---- the lock -----------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def run_lock(path: Path) -> Iterator[None]:
    """Hold the run: a second one on the same root raises EasiError naming this process.

    A POSIX lock, because it ends with this very process however that ends, and is not inherited by forked guards; where the
    file system has none, the owner written in the file decides, and a dead owner's file is taken over.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        opened = path.open("a+", encoding="utf-8")
    except OSError as error:
        raise EasiError(
            f"{path} cannot be written: {error.strerror}", hint="give another --output-dir"
        ) from error
    with opened as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            owner = _owner(file)
            if error.errno not in NO_LOCKS:
                raise _locked(path, owner) from error
            if owner_alive(owner):
                raise _locked(path, owner) from error
        file.seek(0)
        file.truncate()
        json.dump(
            {
                "pid": os.getpid(),
                "host": socket.gethostname(),
                "started": process_start(os.getpid()),
            },
            file,
        )
        file.flush()
        try:
            yield
        finally:
            file.truncate(
                0
            )  # the file stays: unlinking it would let two runs lock two files of one name


def _owner(file: TextIO) -> dict[str, object]:
    file.seek(0)
    try:
        owner = json.loads(file.read())
    except ValueError:  # being written at this moment, or left empty by a run that ended
        return {}
    return owner if isinstance(owner, dict) else {}


def owner_alive(owner: Mapping[str, object]) -> bool:
    """Whether the process that wrote itself into a lock file may still run. One on another host counts as alive."""
    if not owner:
        return False
    if owner.get("host") != socket.gethostname():
        return True  # cannot be seen from here
    return process_start(int(owner["pid"])) == owner.get("started") != ""


def _locked(path: Path, owner: Mapping[str, object]) -> EasiError:
    who = f"process {owner['pid']} on {owner['host']}" if owner else "another process"
    return EasiError(
        f"{path.parent} is in use by {who}",
        hint="wait for it or end it, or give another --output-dir",
    )
