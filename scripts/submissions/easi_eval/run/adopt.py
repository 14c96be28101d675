"""``--import-results``: take over finished results that were made without this program.

They are checked like results of this program, copied, and marked as adopted. This needs no GPU, no
weights and no backend, only the files, and the datasets where the backend's files do not hold the
number of questions (``Reader.check_adopted``).

Adopted results have an identity of their own, so no evaluation of the same model mixes with them.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..backends import make_backend
from ..backends.base import Reader
from ..backends.evidence import Evidence, gather
from ..benchmarks import ALL_KEYS, by_key
from ..config import RunConfig
from ..core.atomic_files import digest
from ..core.backend_facts import BACKEND_FACTS
from ..core.errors import EasiError
from ..core.manifest import BenchmarkState, Manifest
from ..core.model import ModelChoice
from ..core.redact import secret_argument
from ..core.run_folder import RunPaths
from ..data.needs import HubSettings
from ..scores.comparability import NOTE
from ..scores.outputs import Candidate, Survey
from ..scores.scores import State
from .accept import put_in_place
from .identity import fingerprint
from .plan import Plan

CLASS_UNKNOWN = "not told"


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
        staged: Folder with the copied files.
        data: The version of the dataset that it was compared with, for its settings.
    """

    candidate: Candidate
    evidence: Evidence | None
    reason: str = ""
    staged: Path | None = None
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


def survey(folder: Path, keys: Sequence[str] = ALL_KEYS, judge: str = "") -> Survey:
    """Survey ``folder`` for results of the benchmarks ``keys``.

    Args:
        folder: The folder with the results.
        keys: The benchmarks to look for.
        judge: If given, only results read by this judge, or by rules (``exact_matching``), are
            considered on a backend with judges.

    Raises:
        EasiError: The folder holds no results, or results of both backends or of several models.
    """
    if not folder.is_dir():
        raise EasiError(
            f"{folder} is {'not a folder' if folder.exists() else 'not there'}",
            hint="name the folder that holds the results",
        )
    hub = HubSettings.from_env()
    found = [
        one
        for name in BACKEND_FACTS
        if (one := make_backend(name, hub).survey(folder, keys, judge)) is not None
    ]
    if not found:
        every = BACKEND_FACTS.values()
        raise EasiError(
            f"{folder} holds no results of {' or '.join(facts.title for facts in every)} "
            "for any EASI benchmark",
            hint="name the folder their files are in: "
            + ", or ".join(facts.result_files for facts in every),
        )
    if len(found) > 1:
        raise EasiError(
            f"{folder} holds results of both backends", hint="name the folder of one of them"
        )
    return found[0]


def consider(cfg: RunConfig) -> Adoption:
    """Examine ``cfg.import_results`` and plan the import.

    Raises:
        EasiError: The folder as a whole cannot be imported.
    """
    assert cfg.import_results is not None
    source = cfg.import_results.expanduser().resolve()
    asked = tuple(bench.key for bench in cfg.selected) if cfg.benchmarks else None
    found = survey(source, asked or ALL_KEYS, cfg.judge or "")
    # The default is not told from a backend that was named.
    if cfg.backend not in (RunConfig.backend, found.backend):
        raise EasiError(
            f"{source} holds results of {BACKEND_FACTS[found.backend].title}",
            hint="leave out --backend: the files say it",
        )
    if asked:
        there = {candidate.key for candidate in found.candidates}
        lacking = tuple(
            Candidate(key, problem="no results of it are there")
            for key in asked
            if key not in there
        )
        found = dataclasses.replace(found, candidates=(*found.candidates, *lacking))
    name = cfg.as_model or found.model
    if not name:
        raise EasiError(
            f"{source} does not say which model its results are of",
            hint="say it: --as-model org/model",
        )
    # The manifest is shared with the results: arguments with secrets are left out.
    arguments = {
        key: value
        for key, value in found.arguments.items()
        if not secret_argument([f"{key}={value}"])
    }
    model = ModelChoice(
        name,
        name,
        found.cls or CLASS_UNKNOWN,
        "results made without this program",
        arguments=dict(arguments),
        needs_gpu=False,
        served=True,
    )
    fields: dict[str, object] = {"backend": found.backend, "model": name, "imported": True}
    identity = digest(fields)
    shown = {**fields, "backend version": found.version or "not told", "--device": "not told"}
    paths = RunPaths.of(cfg.output_dir, found.backend, name, identity)
    plan = Plan(model, found.backend, identity, shown, paths, (), ())
    return Adoption(source, found, plan, tuple(candidate.key for candidate in found.candidates))


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
        f"adopted from {adoption.source.name}: made without this program",
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
        staged=staged,
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


def elsewhere(adoption: Adoption, folder: Path) -> Adoption:
    """Return the same import into a copy of its run folder, below ``folder``.

    A dry run uses it to show the outcome without changing the real folder.
    """
    root = adoption.plan.paths.root
    copy = RunPaths(folder / root.name)
    if root.is_dir():
        shutil.copytree(root, copy.root)
    return dataclasses.replace(adoption, plan=dataclasses.replace(adoption.plan, paths=copy))


def _state(adoption: Adoption, decision: AdoptDecision) -> BenchmarkState:
    candidate, name = decision.candidate, adoption.source.name
    settings = adoption.settings(candidate)
    if decision.evidence is None:
        return BenchmarkState(
            adoption.fingerprint(candidate),
            state=str(State.FAILED),
            reason=f"not adopted from {name}: {decision.reason}",
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
    versions = {"easi-eval": version, cfg.kind.distribution: adoption.survey.version or "not told"}
    return Manifest(
        plan.identity,
        plan.fields,
        modelName=plan.model.name,
        model=dataclasses.asdict(plan.model),
        versions=versions,
        commands=list(dict.fromkeys([*(before.commands if before else []), cfg.command()])),
        benchmarks=states,
        notes=["adopted results: made without this program, proven from their per-question files"],
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
