"""``--import-results``: take over finished results that were made without this program.

They are checked like results of this program, copied, and marked as adopted. This needs no GPU, no
weights and no backend, only the files, and the datasets where the backend's files do not hold the
number of questions (``Reader.check_adopted``).
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..backends.base import Reader
from ..backends.completeness import gather
from ..backends.evidence import Evidence
from ..benchmarks import by_key
from ..config import RunConfig
from ..core.errors import EasiError
from ..core.manifest import BenchmarkState, Manifest
from ..scores.comparability import NOTE
from ..scores.outputs import Candidate, Survey
from ..scores.score_table import State
from .accept import put_in_place
from .identity import fingerprint
from .plan import Plan


@dataclass(frozen=True)
class Adoption:
    """What an import would do, decided without writing anything.

    Attributes:
        source: The folder with the results.
        survey: What was found in it.
        plan: A plan with nothing to run; it has the identity and the folders.
        keys: The benchmarks in it.
    """

    source: Path
    survey: Survey
    plan: Plan
    keys: tuple[str, ...]

    def fingerprint(self, candidate: Candidate) -> str:
        """Return the fingerprint of one benchmark's adopted results."""
        return fingerprint(self.plan.identity, self.settings(candidate))

    def settings(self, candidate: Candidate) -> dict[str, object]:
        """Return the settings of one benchmark: its task, and the judge if one was used."""
        return {
            "task": by_key(candidate.key).source(self.survey.backend).task,
            **({"judge": candidate.method} if candidate.method else {}),
        }


@dataclass(frozen=True)
class AdoptDecision:
    """The result for one benchmark.

    Attributes:
        candidate: Its files as found.
        evidence: The evidence if it was accepted, else None.
        reason: Why it was rejected.
        data: The version of the dataset that it was compared with, for its settings.
    """

    candidate: Candidate
    evidence: Evidence | None
    reason: str = ""
    data: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        if self.evidence is None:
            return f"reject   {self.candidate.key}: {self.reason}"
        score = self.evidence.score
        method = f", {score.method}" if score.method else ""
        return (
            f"accept   {self.candidate.key}: {score.n} questions, "
            f"score {score.reading.overall:.2f}{method}"
        )


def decide(
    cfg: RunConfig,
    reader: Reader,
    adoption: Adoption,
    candidate: Candidate,
    staged: Path,
) -> AdoptDecision:
    """Copy one benchmark's files to the empty folder ``staged`` and check them there.

    The checks are those of a run of this program.
    """
    if candidate.problem:
        return AdoptDecision(candidate, None, candidate.problem)
    bench = by_key(candidate.key)
    try:
        _copy(candidate, staged)
        match = reader.check_adopted(cfg, bench, staged, candidate.method)
        evidence = gather(
            cfg, reader, bench, staged, adoption.fingerprint(candidate), match.items, ()
        )
    except EasiError as error:
        return AdoptDecision(
            candidate, None, error.message.replace(str(staged), str(adoption.source))
        )
    score = evidence.score
    notes = (
        f"imported from {adoption.source.name}: not made by this program",
        *candidate.notes,
        *match.notes,
        *score.notes,
    )
    method = score.method or candidate.method
    adopted = dataclasses.replace(
        score,
        notes=notes,
        method=method,
        comparable=NOTE if match.notes else score.comparable,
        by_method=score.by_method or ({method: score.reading} if method else {}),
    )
    return AdoptDecision(
        candidate,
        dataclasses.replace(evidence, score=adopted, adopted=adoption.source.name),
        data=match.data,
    )


def _copy(candidate: Candidate, staged: Path) -> None:
    """Copy the content of the files, never a link."""
    staged.mkdir(parents=True)
    for path in candidate.files:
        try:
            shutil.copyfile(path, staged / path.name)
        except OSError as error:
            raise EasiError(f"{path} cannot be read: {error.strerror or error}") from error


# ---- carrying it out -----------------------------------------------------------------------------


def adopt(
    cfg: RunConfig, reader: Reader, adoption: Adoption, version: str
) -> tuple[list[AdoptDecision], Manifest]:
    """Take over every benchmark that passes the checks, into ``outputs/<key>`` and the manifest.

    Benchmarks that were adopted before and are not replaced are kept. The caller holds the run's
    lock.

    Args:
        cfg: The import.
        reader: Reads the files of the backend that wrote them.
        adoption: The planned import.
        version: Version of this program.

    Returns:
        The decisions, and the manifest as it was written.
    """
    paths = adoption.plan.paths
    before = Manifest.load(paths.manifest)
    states = dict(before.benchmarks) if before else {}
    decisions = []
    for candidate in adoption.survey.candidates:
        staged = paths.importing(candidate.key)
        shutil.rmtree(staged, ignore_errors=True)
        decision = decide(cfg, reader, adoption, candidate, staged)
        if decision.evidence is not None:
            put_in_place(decision.evidence, staged, paths, candidate.key)
            states[candidate.key] = _state(adoption, decision)
        else:
            shutil.rmtree(staged, ignore_errors=True)
            if states.get(candidate.key, BenchmarkState("")).state != State.COMPLETE:
                states[candidate.key] = _state(adoption, decision)
        decisions.append(decision)
    manifest = _manifest(cfg, adoption, states, before, version)
    manifest.save(paths.manifest)
    return decisions, manifest


def _state(adoption: Adoption, decision: AdoptDecision) -> BenchmarkState:
    candidate, name = decision.candidate, adoption.source.name
    settings = adoption.settings(candidate)
    if decision.evidence is None:
        return BenchmarkState(
            adoption.fingerprint(candidate),
            state=str(State.FAILED),
            reason=f"not imported from {name}: {decision.reason}",
            settings=settings,
        )
    score = decision.evidence.score
    if decision.data:
        settings = {**settings, "data": dict(decision.data)}
    return BenchmarkState(
        adoption.fingerprint(candidate),
        state=str(score.state),
        settings=settings,
        evidence={"adopted": name, "rows": score.n, "total": score.total},
    )


def _manifest(
    cfg: RunConfig,
    adoption: Adoption,
    states: dict[str, BenchmarkState],
    before: Manifest | None,
    version: str,
) -> Manifest:
    plan = adoption.plan
    versions = {
        "easi-eval": version,
        cfg.kind.distribution: adoption.survey.version or "not recorded",
    }
    return Manifest(
        plan.identity,
        plan.fields,
        modelName=plan.model.name,
        model=dataclasses.asdict(plan.model),
        versions=versions,
        commands=list(dict.fromkeys([*(before.commands if before else []), cfg.command()])),
        benchmarks=states,
        notes=[
            "imported results: not made by this program, re-verified from their per-question files"
        ],
    )


def describe(adoption: Adoption, decisions: list[AdoptDecision]) -> str:
    """Describe the import for users, as ``--dry-run`` prints it."""
    plan = adoption.plan
    lines = [
        f"model    {plan.model.name}",
        f"backend  {plan.backend} {plan.fields['backend version']}",
        f"from     {adoption.source}",
        f"folder   {plan.paths.root}",
    ]
    return "\n".join([*lines, *map(str, decisions)])
