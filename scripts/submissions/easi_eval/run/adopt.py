"""``--import-results``: take over finished results that were made without this program.

They are checked like results of this program, copied, and marked as adopted. This needs no GPU, no
weights and no backend, only the files. For VLMEvalKit it also needs the datasets' tables, which
hold the number of questions; lmms-eval's files hold it themselves and are compared with the hub's
cache.

Adopted results have an identity of their own, so no evaluation of the same model mixes with them.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..backends.base import Backend
from ..backends.evidence import Evidence, gather
from ..benchmarks import ALL_KEYS, LMMS_EVAL, VLMEVALKIT, Benchmark, HubData, TsvData, by_key
from ..config import RULES, RunConfig
from ..core.atomic_files import digest
from ..core.errors import EasiError
from ..core.manifest import BenchmarkState, Manifest
from ..core.model import ModelChoice
from ..core.redact import secret_argument
from ..core.run_folder import RunPaths
from ..data.needs import HubSettings
from ..engine.work import ItemList
from ..scores.comparability import NOTE
from ..scores.outputs import Candidate, Survey
from ..scores.scores import State
from .found import survey
from .identity import fingerprint
from .plan import Plan

if TYPE_CHECKING:
    import pandas as pd

    from ..backends.vlmevalkit.table_check import Differences
    from ..scores.outputs import Outputs

UNPROVEN = "its questions and right answers were not held against the dataset, which is not at hand"
SILENT = (
    "its right answers are those of the dataset; its files hold "
    "no question that could be held against it"
)
OTHER_COMMIT = (
    "its questions and right answers are those of commit {commit} of the dataset, "
    "which is not main's in the hub's cache"
)
CLASS_UNKNOWN = "not told"
# How to get a dataset's table, for people; {repo}, {name} and {folder} are filled in.
GET_TABLE = "huggingface-cli download --repo-type dataset {repo} {name} --local-dir {folder}"


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
class Held:
    """The dataset that a benchmark's results agree with.

    Attributes:
        items: Its questions; None if no copy of the dataset is available.
        data: The version of the dataset, for the benchmark's settings.
        notes: Remarks to show beside the score.
    """

    items: ItemList | None = None
    data: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


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


def consider(cfg: RunConfig) -> Adoption:
    """Examine ``cfg.import_results`` and plan the import.

    Raises:
        EasiError: The folder as a whole cannot be imported.
    """
    assert cfg.import_results is not None
    source = cfg.import_results.expanduser().resolve()
    asked = tuple(bench.key for bench in cfg.selected) if cfg.benchmarks else None
    found = survey(source, asked or ALL_KEYS, cfg.judge or "")
    if cfg.backend == LMMS_EVAL != found.backend:
        raise EasiError(
            f"{source} holds results of VLMEvalKit", hint="leave out --backend: the files say it"
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
    backend: Backend,
    hub: HubSettings,
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
        evidence, held = _prove(
            cfg, backend, hub, bench, staged, adoption.fingerprint(candidate), candidate.method
        )
    except EasiError as error:
        return AdoptDecision(
            candidate, None, error.message.replace(str(staged), str(adoption.source))
        )
    score = evidence.score
    notes = (
        f"adopted from {adoption.source.name}: made without this program",
        *candidate.notes,
        *held.notes,
        *score.notes,
    )
    method = score.method or candidate.method
    adopted = dataclasses.replace(
        score,
        notes=notes,
        method=method,
        comparable=NOTE if held.notes else score.comparable,
        by_method=score.by_method or ({method: score.reading} if method else {}),
    )
    return AdoptDecision(
        candidate,
        dataclasses.replace(evidence, score=adopted, adopted=adoption.source.name),
        staged=staged,
        data=held.data,
    )


def _copy(candidate: Candidate, staged: Path) -> None:
    """Copy the content of the files, never a link."""
    staged.mkdir(parents=True)
    for path in candidate.files:
        try:
            shutil.copyfile(path, staged / path.name)
        except OSError as error:
            raise EasiError(f"{path} cannot be read: {error.strerror or error}") from error


def _prove(
    cfg: RunConfig,
    backend: Backend,
    hub: HubSettings,
    bench: Benchmark,
    folder: Path,
    mark: str,
    method: str,
) -> tuple[Evidence, Held]:
    from ..backends.vlmevalkit.question_rows import read_by_rules

    source = bench.source(backend.name)
    asked = _asked(bench, cfg.dataset_dir) if backend.name == VLMEVALKIT else None
    out = backend.outputs(bench, folder)
    rows = backend.rows(bench, out)
    if not rows["item"].is_unique:
        raise EasiError(f"{int(rows['item'].duplicated().sum())} questions are there twice")
    held = (
        _against_table(bench, out, rows, asked, cfg.dataset_dir)
        if asked
        else _against_cache(bench, out, rows, hub)
    )
    if source.family == "mcq" and (stale := _stale(rows)):
        raise EasiError(
            f"question {stale[0]} (of {len(stale)}) is not scored by its answer: "
            "VLMEvalKit keeps old scores in *_result.pkl "
            "when the answers are made anew"
        )
    if method not in ("", RULES) and (left := read_by_rules(bench, out)):
        raise EasiError(
            f"{left} answers were read by rules, though the files carry the judge's name {method}: "
            "VLMEvalKit falls back to them silently"
        )
    return gather(cfg, backend, bench, folder, mark, held.items, ()), held


def _asked(bench: Benchmark, dataset_dir: Path) -> ItemList:
    """Return the dataset's questions, read from its table."""
    from ..backends.vlmevalkit.sheets import tsv_items

    data = bench.source(VLMEVALKIT).data
    assert isinstance(data, TsvData)
    if (table := _table(bench, dataset_dir)) is not None:
        ids = tsv_items(table)
        return ItemList(bench.key, len(ids), ids)
    get = GET_TABLE.format(repo=data.repo, name=data.tsv, folder=dataset_dir)
    raise EasiError(
        f"how many questions the dataset has is in {data.tsv}, which is not in {dataset_dir}: {get}"
    )


def _table(bench: Benchmark, dataset_dir: Path) -> Path | None:
    data = bench.source(VLMEVALKIT).data
    assert isinstance(data, TsvData)
    places = (dataset_dir / name for name in dict.fromkeys((data.tsv_local or data.tsv, data.tsv)))
    return next((place for place in places if place.is_file()), None)


def _md5(table: Path) -> str:
    with table.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


def _against_table(
    bench: Benchmark, out: Outputs, rows: pd.DataFrame, asked: ItemList, dataset_dir: Path
) -> Held:
    """Compare the results with the dataset's table.

    The ids are 0, 1, 2 ... in most tables, so the texts of the questions are compared as well.
    """
    from ..backends.vlmevalkit.question_rows import row_cells
    from ..backends.vlmevalkit.table_check import compare

    table = _table(bench, dataset_dir)
    assert table is not None
    _compare(rows, asked)
    _same(compare(bench.source(VLMEVALKIT).rows, row_cells(bench, out), table), table.name)
    return Held(asked, {"md5": _md5(table)})


def _against_cache(bench: Benchmark, out: Outputs, rows: pd.DataFrame, hub: HubSettings) -> Held:
    """Compare the results with the dataset in the hub's cache, if it is there.

    A question's id is the number of its row in the dataset, which some tasks shuffle.
    """
    from ..backends.lmms_eval.sample_check import Sample, compare
    from ..backends.lmms_eval.samples import lmms_samples
    from ..data.hub_tables import rows_of, shuffled, snapshots

    source = bench.source(LMMS_EVAL, out.task)
    data = source.data
    assert isinstance(data, HubData)
    folders, main = snapshots(data, hub)
    orders: tuple[Callable[[list[dict[str, Any]]], list[dict[str, Any]]], ...] = (list, shuffled)
    problems = []
    for folder, order in itertools.product(folders, orders):
        try:
            documents = rows_of(data, folder)
            if documents is None:
                continue
            asked = {
                f"{task}:{number}": row
                for task, those in zip(source.tasks, documents, strict=True)
                for number, row in enumerate(order(those))
            }
            items = ItemList(bench.key, len(asked), tuple(asked))
            _compare(rows, items)
            found = compare(
                data,
                (
                    Sample(item, sample, entry, asked[item], source.rows.target)
                    for item, sample, entry in lmms_samples(bench, out)
                ),
            )
            _same(found, f"{data.repo} in the hub's cache")
        except EasiError as error:
            problems.append(error)
            continue
        notes = [SILENT] * bool(found.silent) + [OTHER_COMMIT.format(commit=folder.name[:12])] * (
            main not in ("", folder.name)
        )
        return Held(items, {"commit": folder.name}, tuple(notes))
    if problems:
        raise problems[0]
    return Held(notes=(UNPROVEN,))


def _same(found: Differences, table: str) -> None:
    for items, what in (
        (found.questions, "questions are not those"),
        (found.truths, "right answers are not those"),
    ):
        if items:
            raise EasiError(
                f"{len(items)} {what} of {table} (the first: {items[0]}): "
                "made from another version of it, or changed since"
            )


def _compare(rows: pd.DataFrame, items: ItemList) -> None:
    there, known = set(rows["item"]), set(items.ids)
    if there == known:
        return
    if there < known:
        raise EasiError(
            f"{len(there)} questions of {len(known)}: incomplete, or made under --limit"
        )
    raise EasiError(
        f"{len(there)} questions, {len(there - known)} of which the dataset's {len(known)} do not "
        "have: made from another version of it"
    )


def _stale(rows: pd.DataFrame) -> list[str]:
    """Return questions whose answer is one bare letter and whose score contradicts it."""
    return [
        item
        for item, answer, target, score in zip(
            *(rows[name] for name in ("item", "answer", "target", "score")), strict=True
        )
        if re.fullmatch(r"[A-D]", answer.strip())
        and re.fullmatch(r"[A-D]", target.strip())
        and (answer.strip() == target.strip()) != (score == 1)
    ]


# ---- carrying it out -----------------------------------------------------------------------------


def adopt(
    cfg: RunConfig, backend: Backend, hub: HubSettings, adoption: Adoption, version: str
) -> list[AdoptDecision]:
    """Take over every benchmark that passes the checks, into ``outputs/<key>`` and the manifest.

    Benchmarks that were adopted before and are not replaced are kept. The caller holds the run's
    lock.

    Args:
        cfg: The import.
        backend: The backend that wrote the files.
        hub: The hub's cache.
        adoption: The planned import.
        version: Version of this program.
    """
    paths = adoption.plan.paths
    before = Manifest.load(paths.manifest)
    states = dict(before.benchmarks) if before else {}
    decisions = []
    for candidate in adoption.survey.candidates:
        staged = paths.outputs / f".{candidate.key}.importing"
        shutil.rmtree(staged, ignore_errors=True)
        decision = decide(cfg, backend, hub, adoption, candidate, staged)
        if decision.evidence is not None:
            _place(decision, paths)
            states[candidate.key] = _state(adoption, decision)
        else:
            shutil.rmtree(staged, ignore_errors=True)
            if states.get(candidate.key, BenchmarkState("")).state != State.COMPLETE:
                states[candidate.key] = _state(adoption, decision)
        decisions.append(decision)
    _manifest(cfg, adoption, states, before, version).save(paths.manifest)
    return decisions


def elsewhere(adoption: Adoption, folder: Path) -> Adoption:
    """Return the same import into a copy of its run folder, below ``folder``.

    A dry run uses it to show the outcome without changing the real folder.
    """
    root = adoption.plan.paths.root
    copy = RunPaths(folder / root.name)
    if root.is_dir():
        shutil.copytree(root, copy.root)
    return dataclasses.replace(adoption, plan=dataclasses.replace(adoption.plan, paths=copy))


def _place(decision: AdoptDecision, paths: RunPaths) -> None:
    """Replace ``outputs/<key>`` by the folder of staged files."""
    assert decision.evidence is not None and decision.staged is not None
    decision.evidence.save(decision.staged)
    final, old = (
        paths.output(decision.candidate.key),
        paths.outputs / f".{decision.candidate.key}.old",
    )
    shutil.rmtree(old, ignore_errors=True)
    if final.exists():
        final.rename(old)
    decision.staged.rename(final)
    shutil.rmtree(old, ignore_errors=True)


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
