"""What is known about a run on disk: its folder, identity, fingerprints, manifest and lock."""

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
from typing import TYPE_CHECKING, Any, TextIO, TypedDict

from .errors import DiskFull, EasiError, is_full
from .libraries import short
from .locks import NO_LOCKS, process_start
from .redact import Redactor

if TYPE_CHECKING:
    from .config import RunConfig
    from .model import ModelChoice

SCHEMA = 1


# ---- places --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class RunPaths:
    """The files of one run, below the folder of its backend and model identity.

    Creating an instance touches no file.
    """

    root: Path

    @classmethod
    def of(cls, output_dir: Path, backend: str, model_name: str, identity: str) -> RunPaths:
        """Return the paths of a run; the folder is named by model and start of the identity."""
        return cls(output_dir / "runs" / backend / f"{sanitise(model_name)}-{identity[:8]}")

    @property
    def work(self) -> Path:
        """The benchmarks and settings that the workers read."""
        return self.root / "work.json"

    @property
    def journal(self) -> Path:
        """Folder of the workers' journals, which hold the answers."""
        return self.root / "journal"

    @property
    def items(self) -> Path:
        """Folder of each benchmark's list of questions."""
        return self.root / "items"

    @property
    def outputs(self) -> Path:
        """Folder of the backend's output, with one subfolder per benchmark."""
        return self.root / "outputs"

    @property
    def manifest(self) -> Path:
        """The manifest; see ``Manifest``."""
        return self.root / "run_manifest.json"

    @property
    def lock(self) -> Path:
        """The lock file; see ``run_lock``."""
        return self.root / "run.lock"

    def output(self, key: str) -> Path:
        """The output folder of one benchmark."""
        return self.outputs / key

    def aside(self, key: str, epoch: int) -> Path:
        """The folder that ``output(key)`` of an earlier epoch is moved to before a new run."""
        return self.outputs / f".before-{key}.{epoch}"


def sanitise(name: str) -> str:
    """Return a model's name as one folder name: ``org/model`` becomes ``org__model``.

    The result is never empty, hidden or longer than 100 characters.
    """
    words = name.strip().strip("/").replace("/", "__")
    return re.sub(r"[^\w.+-]+", "_", words).lstrip(".")[-100:] or "model"


def cache_folder() -> Path:
    """Return the user's cache folder of this program; its content can be made again."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if Path(base).is_absolute() else Path.home() / ".cache") / "easi-eval"


# ---- files ---------------------------------------------------------------------------------------


def write_atomic(path: Path, content: str | bytes) -> None:
    """Write the whole file or nothing, and create its folder.

    If the process is killed, the file has either its old or its new content.

    Raises:
        EasiError: The disk is full (DiskFull) or cannot be written to.
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
    """Write readable JSON with ``write_atomic``.

    Raises:
        EasiError: The file cannot be written.
        ValueError: The value contains NaN or an infinity.
    """
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    try:
        data = text.encode("utf-8")
    except UnicodeEncodeError:
        # Lone surrogates have no UTF-8; escapes keep them exactly.
        data = (json.dumps(value, indent=2, allow_nan=False) + "\n").encode("ascii")
    write_atomic(path, data)


def read_json(path: Path) -> object:
    """Read a JSON file.

    Raises:
        EasiError: The file is missing, truncated or not JSON; the message names it.
    """
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


# ---- what a run is -------------------------------------------------------------------------------

# Version of the rule that chooses ``identity_fields``. Runs of an older rule continue in their
# folders; see ``run_folder.py``.
IDENTITY_VERSION = 2
# Fields that may be unknown. An absent field is unknown, and unknown fields never differ.
MAY_BE_UNKNOWN = frozenset({"identity version", "refers to", "transformers", "engine", "attention"})
# Arguments that select the attention implementation.
ATTENTION = (
    "attn_implementation",
    "_attn_implementation",
    "use_flash_attention_2",
    "use_flash_attn",
)
# Arguments of a served model's class that concern the connection: address, time-outs, concurrency.
# They do not change answers.
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
    """Return everything that changes the answers, by readable names.

    Settings that only change scores (judge, corrections) belong to a benchmark's settings. Those
    that only change speed, place or display (``--nproc``, ``--no-accelerate``, ``--plain``,
    ``--limit``, folders) belong to neither.

    For a served model, address and connection (``CONNECTION``) are left out, and so are the
    libraries of this machine, because the server computes the answers. Image encoding and sampling
    are part of the ``class arguments``.

    Args:
        backend: Name of the backend.
        version: Version of the backend.
        model: The model to evaluate.
        cfg: The run.
        libraries: Installed version by name. Of transformers and the model's engine, major and
            minor version are included.
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
) -> dict[str, Any]:
    """Return the identity fields by the first rule, which had no version number."""
    return {
        "backend": backend,
        "backend version": version,
        "model": model.path,
        "revision": model.revision,
        "model class": model.cls,
        "registry entry": model.entry,
        "class file": model.source,
        "class arguments": model.arguments,
        # As the backend understood them: `models/m/` and `./models/m` are the same folder.
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
    """Return the digest of ``identity_fields``, 64 hex digits; 8 of them name the folder."""
    return digest(identity_fields(backend, version, model, cfg, libraries))


def fingerprint(identity: str, settings: Mapping[str, object]) -> str:
    """Return a digest (64 hex digits) of a run's identity and one benchmark's settings."""
    return digest({"identity": identity, "settings": dict(settings)})


def digest(value: object) -> str:
    """Return the SHA-256 of a value as canonical JSON, independent of the order of keys.

    Raises:
        TypeError: The value cannot be written as JSON.
        ValueError: It contains NaN or an infinity.
    """
    text = json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False
    )
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def differing_fields(old: Mapping[str, object], new: Mapping[str, object]) -> list[str]:
    """Return the names whose values differ.

    In nested mappings the key is named as well (``--model-args max_pixels``).
    """
    names = []
    for name in sorted({*old, *new}):
        before, after = old.get(name), new.get(name)
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            names += [f"{name} {inner}" for inner in differing_fields(before, after)]
        elif _plain(before) != _plain(after):
            names.append(name)
    return names


def known_differences(old: Mapping[str, object], new: Mapping[str, object]) -> list[str]:
    """Return ``differing_fields`` without fields that are unknown on one side."""
    unknown = {name for name in MAY_BE_UNKNOWN if name not in old or name not in new} | {
        "identity version"
    }
    return differing_fields(
        {name: value for name, value in old.items() if name not in unknown},
        {name: value for name, value in new.items() if name not in unknown},
    )


def _plain(value: object) -> object:
    # Tuples become lists on disk, so both sides are compared after one round trip.
    return json.loads(json.dumps(value))


# ---- the manifest --------------------------------------------------------------------------------


@dataclass(frozen=True)
class BenchmarkState:
    """What is known of one benchmark.

    Attributes:
        fingerprint: Digest of the run's identity and ``settings``.
        epoch: Answers of an earlier epoch do not count.
        state: A value of ``results.scores.State``; empty before it was scored.
        reason: Why it is not complete.
        settings: The benchmark's own settings, by readable names.
        evidence: What proved the state (files, rows, total).
    """

    fingerprint: str
    epoch: int = 0
    state: str = ""
    reason: str = ""
    settings: dict[str, object] = field(default_factory=dict)
    evidence: dict[str, object] = field(default_factory=dict)


class LaunchRecord(TypedDict, total=False):
    """What the manifest keeps of one start of workers.

    Attributes:
        started: UTC time of the start.
        versions: Library versions that were installed then.
        workers: For each worker, what it says that it answers with.
    """

    started: str
    versions: dict[str, str]
    workers: list[dict[str, str]]


@dataclass(frozen=True)
class Manifest:
    """``run_manifest.json``: how the numbers of a run were made.

    It serves users, the continuation of a run, and the archive.

    Attributes:
        identity: Digest of ``fields``.
        fields: Everything that changes the answers; see ``identity_fields``.
        modelName: Name of the model.
        model: The ModelChoice.
        versions: Versions of this program, the backend, torch and other libraries.
        commands: Command lines of this program and its processes, without secrets.
        revisions: Commit of each repository, of data and model.
        benchmarks: State of each benchmark.
        machines: Hardware it ran on: GPUs and number of processes.
        notes: Messages for the user.
        supplement: Identity fields of a newer rule than that of ``fields``.
        launches: Library versions and attention of each start of workers, oldest first.
        schema: Version of the file format.
    """

    identity: str
    fields: dict[str, object]
    modelName: str = ""
    model: dict[str, object] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    commands: list[str] = field(default_factory=list)
    revisions: dict[str, str] = field(default_factory=dict)
    benchmarks: dict[str, BenchmarkState] = field(default_factory=dict)
    machines: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    supplement: dict[str, object] = field(default_factory=dict)
    launches: list[LaunchRecord] = field(default_factory=list)
    schema: int = SCHEMA

    def save(self, path: Path) -> None:
        """Write the file without secrets, because it is part of the archive."""
        write_json(path, Redactor.from_environ().within(dataclasses.asdict(self)))

    @classmethod
    def load(cls, path: Path) -> Manifest | None:
        """Load the file; None if there is none.

        Raises:
            EasiError: The file is damaged or has another schema.
        """
        if not path.exists():
            return None
        value = read_json(path)
        schema = value.get("schema") if isinstance(value, dict) else None
        if not isinstance(value, dict) or schema != SCHEMA:
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

    def with_state(self, key: str, **changes: Any) -> Manifest:
        """Return a copy with changes to the state of one known benchmark."""
        return dataclasses.replace(
            self,
            benchmarks={
                **self.benchmarks,
                key: dataclasses.replace(self.benchmarks[key], **changes),
            },
        )


def other_runs(paths: RunPaths, model_name: str) -> list[Manifest]:
    """Return the manifests of the same backend and model under other identities.

    Damaged manifests and adopted results are left out.
    """
    found = []
    for file in sorted(
        paths.root.parent.glob(
            f"{glob_escape(sanitise(model_name))}-????????/{paths.manifest.name}"
        )
    ):
        # A damaged manifest of another run must not prevent this one.
        with contextlib.suppress(EasiError):
            manifest = Manifest.load(file) if file.parent != paths.root else None
            # The settings of adopted results (--import-results) are unknown.
            if (
                manifest is not None
                and manifest.modelName == model_name
                and not manifest.fields.get("imported")
            ):
                found.append(manifest)
    return found


def glob_escape(name: str) -> str:
    """Escape the wildcards of ``glob`` in a name."""
    return re.sub(r"([*?\[])", r"[\1]", name)


# ---- the lock ------------------------------------------------------------------------------------


@contextlib.contextmanager
def run_lock(path: Path) -> Iterator[None]:
    """Hold the lock of a run while the block is active.

    It is a POSIX lock, because the kernel releases it when the process ends, however that ends, and
    because forked guards do not inherit it. On a file system without locks the owner recorded in
    the file decides, and the file of a dead owner is taken over.

    Raises:
        EasiError: Another process holds the lock, which the message names, or the lock file cannot
            be written.
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
            # The file is not deleted: otherwise one run could hold the deleted file while another
            # one creates and locks a new file of the same name.
            file.truncate(0)


def _owner(file: TextIO) -> dict[str, Any]:
    file.seek(0)
    try:
        owner = json.loads(file.read())
    except ValueError:
        # It is being written at this moment, or a run that ended left it empty.
        return {}
    return owner if isinstance(owner, dict) else {}


def owner_alive(owner: Mapping[str, Any]) -> bool:
    """Whether the process recorded in a lock file may still run.

    One on another host cannot be checked and counts as alive.
    """
    if not owner:
        return False
    if owner.get("host") != socket.gethostname():
        return True
    return process_start(int(owner["pid"])) == owner.get("started") != ""


def _locked(path: Path, owner: Mapping[str, object]) -> EasiError:
    who = f"process {owner['pid']} on {owner['host']}" if owner else "another process"
    return EasiError(
        f"{path.parent} is in use by {who}",
        hint="wait for it or end it, or give another --output-dir",
    )
