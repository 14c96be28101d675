"""The plan of a run, as data: what will be run, what is skipped, and why.

``decide.py`` makes it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ..benchmarks import Benchmark
from ..core.errors import EasiError
from ..core.manifest import BenchmarkState, Manifest
from ..core.model import ModelChoice
from ..core.run_folder import RunPaths
from ..data.needs import Download
from ..engine.processes.jobs import Job
from ..engine.work import Assignment


@dataclass(frozen=True)
class FoundResult:
    """What a benchmark's accepted files prove, read from disk before the plan is made.

    Attributes:
        fingerprint: Fingerprint of the settings they were made under.
        rows: Number of scored questions.
        total: Number of questions of the dataset; None if unknown.
        limit: Value of ``--limit``; a backend may apply it per subtask.
        problem: Why the files prove nothing; empty if they do.
        judging: Why a judge still has to read answers that were scored by rules.
        judgeable: A judge is configured for that.
        method: How the answers were read.
    """

    fingerprint: str = ""
    rows: int = 0
    total: int | None = None
    limit: int | None = None
    problem: str = ""
    judging: str = ""
    judgeable: bool = False
    method: str = ""


@dataclass(frozen=True)
class Todo:
    """One benchmark to run.

    Attributes:
        bench: The benchmark.
        epoch: Answers of an earlier epoch do not count.
        fingerprint: Fingerprint of the settings.
        settings: The settings.
        reason: Why it has to run.
        aside: Its output folder holds older files, which must be moved away first.
        scored: Its score by rules was accepted before; only the judge is missing.
    """

    bench: Benchmark
    epoch: int
    fingerprint: str
    settings: dict[str, object]
    reason: str
    aside: bool = False
    scored: bool = False


@dataclass(frozen=True)
class Plan:
    """The decided run.

    Attributes:
        model: The model to evaluate.
        backend: Name of the backend.
        identity: Digest of ``fields``.
        fields: Everything that changes the answers; see ``identity_fields``.
        paths: Folders of the run.
        todo: Benchmarks to run.
        skipped: Benchmarks that are not run, as (key, reason).
        before: The manifest that it was decided on, if there was one.
        option_notes: Notes on options that are ignored, and on the model.
        check_notes: Notes of the checks before a run; see ``preflight.py``.
        state_notes: Notes on judging, and on what earlier starts left.
        jobs: The processes to start, added for ``--dry-run``.
        download: The data to download, added for ``--dry-run``.
        blocked: Errors that prevent the run, added for ``--dry-run``.
        supplement: See ``Manifest``.
    """

    model: ModelChoice
    backend: str
    identity: str
    fields: dict[str, object]
    paths: RunPaths
    todo: tuple[Todo, ...]
    skipped: tuple[tuple[str, str], ...]
    before: Manifest | None = None
    option_notes: tuple[str, ...] = ()
    check_notes: tuple[str, ...] = ()
    state_notes: tuple[str, ...] = ()
    jobs: tuple[Job, ...] = ()
    download: Download | None = None
    blocked: tuple[EasiError, ...] = ()
    supplement: dict[str, object] = field(default_factory=dict)

    @property
    def notes(self) -> tuple[str, ...]:
        """Messages to show once."""
        return (*self.option_notes, *self.check_notes, *self.state_notes)

    @property
    def benchmarks(self) -> tuple[Benchmark, ...]:
        """The benchmarks to run."""
        return tuple(todo.bench for todo in self.todo)

    @property
    def fingerprints(self) -> dict[str, str]:
        """Fingerprint of each benchmark to run, by key."""
        return {todo.bench.key: todo.fingerprint for todo in self.todo}

    @property
    def epochs(self) -> dict[str, int]:
        """Epoch of each benchmark to run, by key."""
        return {todo.bench.key: todo.epoch for todo in self.todo}

    def assignments(self, limit: int | None) -> tuple[Assignment, ...]:
        """Return what the workers are asked, under this ``--limit``."""
        return tuple(
            Assignment(todo.bench.key, todo.bench.source(self.backend).task, todo.epoch, limit)
            for todo in self.todo
        )

    def manifest(
        self,
        before: Manifest | None,
        versions: Mapping[str, str],
        commands: Sequence[str],
        revisions: Mapping[str, str] | None = None,
    ) -> Manifest:
        """Return the manifest to write before anything starts.

        The benchmarks to run are open under their new epoch; everything else stays as in
        ``before``.

        Args:
            before: The manifest on disk, if there is one.
            versions: Versions of this program, the backend and libraries.
            commands: Command lines to add.
            revisions: Commit of each repository, added to the known ones.
        """
        known = before or Manifest(self.identity, self.fields)
        fresh = {
            todo.bench.key: _opened(todo, known.benchmarks.get(todo.bench.key))
            for todo in self.todo
        }
        return dataclasses.replace(
            known,
            modelName=self.model.name,
            model=dataclasses.asdict(self.model),
            versions=dict(versions),
            commands=list(dict.fromkeys([*known.commands, *commands])),
            revisions={**known.revisions, **(revisions or {})},
            benchmarks={**known.benchmarks, **fresh},
            notes=list(self.notes),
            supplement={**self.supplement, **known.supplement},
        )


def _opened(todo: Todo, before: BenchmarkState | None) -> BenchmarkState:
    """Return the state of a benchmark that is about to run.

    The evidence about the data is kept as long as the answers made from that data count.
    """
    evidence = before.evidence if before and before.epoch == todo.epoch else {}
    return BenchmarkState(todo.fingerprint, todo.epoch, settings=todo.settings, evidence=evidence)
