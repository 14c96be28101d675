"""The manifest of a run: what was asked, and what became of each benchmark."""

from __future__ import annotations

import contextlib
import dataclasses
import glob
import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypedDict

from .atomic_files import read_json, write_json
from .errors import EasiError
from .redact import Redactor
from .run_folder import RunPaths, sanitise

SCHEMA = 1


@dataclass(frozen=True)
class BenchmarkState:
    """What is known of one benchmark.

    Attributes:
        fingerprint: Digest of the run's identity and ``settings``.
        epoch: Answers of an earlier epoch do not count.
        state: A value of ``scores.score_table.State``; empty before it was scored.
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

    @property
    def seconds(self) -> float | None:
        """The time in which it was answered; None if it is not recorded."""
        seconds = self.evidence.get("seconds")
        return seconds if isinstance(seconds, (int, float)) else None


class LaunchRecord(TypedDict, total=False):
    """What the manifest keeps of one start of workers.

    Attributes:
        started: UTC time of the start.
        versions: Library versions that were installed then.
        place: What the model ran on: "8 GPUs", "2 CPU workers".
        workers: For each worker, what it says that it answers with.
    """

    started: str
    versions: dict[str, str]
    place: str
    workers: list[dict[str, str]]


def own_arguments(command: str) -> list[str] | None:
    """Return the arguments of a command line of this program, None for another program."""
    try:
        words = shlex.split(command)
    except ValueError:
        return None
    for place, word in enumerate(words[:2]):
        if word.endswith("run_easi_eval.py") or word.rpartition("/")[2] == "easi-eval":
            return words[place + 1 :]
    return None


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

    @property
    def last_command(self) -> str:
        """The latest command line of this program; "" if none is recorded."""
        ours = (one for one in reversed(self.commands) if own_arguments(one) is not None)
        return next(ours, "")

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
        return cls.of(read_json(path), str(path))

    @classmethod
    def of(cls, value: Any, path: str) -> Manifest:
        """Return the manifest of a file's content; ``path`` is for messages.

        Raises:
            EasiError: It is damaged or has another schema.
        """
        schema = value.get("schema") if isinstance(value, dict) else None
        if not isinstance(value, dict) or schema != SCHEMA:
            raise EasiError(
                f"{path} has schema {schema}, and this version reads {SCHEMA}",
                hint="use another --output-dir, or the version of this program that wrote it",
            )
        try:
            states = {key: BenchmarkState(**state) for key, state in value["benchmarks"].items()}
            return cls(**{**value, "benchmarks": states})
        except (TypeError, KeyError, AttributeError) as error:
            raise EasiError(
                f"{path} is damaged: {error}", hint="move the file away and start again"
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
            f"{glob.escape(sanitise(model_name))}-????????/{paths.manifest.name}"
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
