"""Decide what will be run and what is skipped, and why.

Pure: everything it needs is passed in, so a plan can be printed and tested.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ..benchmarks import GROUPS, Benchmark, Group, by_key
from ..config import RunConfig
from ..core.errors import EasiError
from ..core.manifest import BenchmarkState, Manifest
from ..core.model import ModelChoice
from ..core.run_folder import RunPaths
from ..data.needs import Download
from ..engine.processes.jobs import Job
from .find_run import RunFolder, known_fields, new_folder
from .identity import differing_fields, fingerprint, known_differences

# Settings that change the scoring but not the answers: the journal's answers stay valid.
SCORING_ONLY = frozenset(
    {"judge", "judge model", "extraction threshold", "corrections", "data truth", "data md5"}
)


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
        fields: Everything that changes the answers; see ``state.identity_fields``.
        paths: Folders of the run.
        todo: Benchmarks to run.
        skipped: Benchmarks that are not run, as (key, reason).
        notes: Messages to show once.
        jobs: The processes to start, added by the pipeline for ``--dry-run``.
        download: The data to download, added by the pipeline.
        blocked: Errors that prevent the run, added by the pipeline.
        supplement: See ``state.Manifest``.
    """

    model: ModelChoice
    backend: str
    identity: str
    fields: dict[str, object]
    paths: RunPaths
    todo: tuple[Todo, ...]
    skipped: tuple[tuple[str, str], ...]
    notes: tuple[str, ...] = ()
    jobs: tuple[Job, ...] = ()
    download: Download | None = None
    blocked: tuple[EasiError, ...] = ()
    supplement: dict[str, object] = field(default_factory=dict)

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


def make_plan(
    cfg: RunConfig,
    model: ModelChoice,
    backend_version: str,
    settings: Mapping[str, Mapping[str, object]],
    manifest: Manifest | None,
    found: Mapping[str, FoundResult],
    others: Sequence[Manifest] = (),
    notes: Sequence[str] = (),
    folder: RunFolder | None = None,
) -> Plan:
    """Decide about every selected benchmark.

    Args:
        cfg: The run.
        model: The model to evaluate.
        backend_version: Version of the backend.
        settings: ``Backend.settings`` of each benchmark, by key.
        manifest: Manifest of this identity, if there is one.
        found: What lies in the output folders; benchmarks without files are absent.
        others: Manifests of the same model under other identities.
        notes: Messages to show besides those of the plan.
        folder: Folder of the run, if it is not the one that the present rule gives.
    """
    folder = folder or new_folder(cfg, backend_version, model, {})
    name = folder.identity
    todo, skipped = [], []
    for bench in cfg.selected:
        mark = fingerprint(name, settings[bench.key])
        state = manifest.benchmarks.get(bench.key) if manifest else None
        step = _decide(cfg, bench, mark, dict(settings[bench.key]), state, found.get(bench.key))
        if isinstance(step, str):
            skipped.append((bench.key, step))
        else:
            partial = f" (partial: only the first {cfg.limit})" if cfg.limit else ""
            todo.append(dataclasses.replace(step, reason=step.reason + partial))
    todo, skipped = _read_alike(todo, skipped, settings, manifest, found)
    new = [] if manifest else _differences(folder.current, others)
    return Plan(
        model,
        cfg.backend,
        name,
        folder.fields,
        folder.paths,
        tuple(todo),
        tuple(skipped),
        (*cfg.ignored, *model.notes, *notes, *folder.notes, *new),
        supplement=folder.supplement_of(folder.fields),
    )


def unresolved(cfg: RunConfig) -> Plan:
    """Return a plan for a run whose model cannot be determined.

    ``--dry-run`` shows it together with the errors.
    """
    todo = tuple(Todo(bench, 0, "", {}, "state unknown") for bench in cfg.selected)
    model = ModelChoice(
        f"{cfg.model}: it could not be looked at, for the reason below", cfg.model, "", ""
    )
    return Plan(model, cfg.backend, "", {}, RunPaths(cfg.output_dir), todo, (), cfg.ignored)


def describe(plan: Plan, verbose: bool = False) -> str:
    """Describe the plan for users, as ``--dry-run`` prints it.

    With ``verbose`` it includes the commands, each on a line of its own, ready to paste.
    """
    arguments = ", ".join(f"{name}={value!r}" for name, value in plan.model.arguments.items())
    lines = [
        f"model    {plan.model.name}"
        + (f" (revision {plan.model.revision})" if plan.model.revision else "")
    ]
    if plan.identity:
        lines += [
            f"weights  {plan.model.path}",
            f"class    {plan.model.cls}({arguments}): {plan.model.why}",
            f"backend  {plan.backend} {plan.fields['backend version']}, "
            f"device {plan.fields['--device']}",
            f"folder   {plan.paths.root}",
        ]
    lines += [f"note     {note}" for note in plan.notes]
    lines += [f"skip     {key}: {reason}" for key, reason in plan.skipped]
    sizes = plan.download.lines if plan.download else {}
    lines += [
        f"run      {todo.bench.key}: "
        f"""{
            "; ".join(
                filter(
                    None,
                    [
                        _questions(todo.bench, plan.backend),
                        sizes.get(todo.bench.key, ""),
                        todo.reason,
                    ],
                )
            )
        }"""
        for todo in plan.todo
    ]
    if plan.download:
        lines += [f"data     {name}: {said}" for name, said in sizes.items() if name == "model"]
        lines += [
            f"data     in all: {plan.download.total}",
            *(f"data     {problem}" for problem in plan.download.problems),
        ]
    if verbose:
        lines += [f"\n# {job.name}\n{job}" for job in plan.jobs]
    for refusal in plan.blocked:
        lines += [
            f"blocked  {refusal.message}",
            *([f"         {refusal.hint}"] if refusal.hint else []),
        ]
    return "\n".join(lines)


def _questions(bench: Benchmark, backend: str) -> str:
    count = bench.source(backend).questions
    return f"{count:,} questions" if count else ""


def _decide(
    cfg: RunConfig,
    bench: Benchmark,
    mark: str,
    settings: dict[str, object],
    state: BenchmarkState | None,
    found: FoundResult | None,
) -> Todo | str:
    """Return a Todo, or the reason to skip the benchmark."""
    epoch = state.epoch if state else 0
    if cfg.rerun:
        # Without a state there are no older answers that a new epoch would have to invalidate.
        return Todo(
            bench, epoch + 1 if state else 0, mark, settings, "--rerun", aside=found is not None
        )
    if state is not None and state.fingerprint != mark:
        names = differing_fields(state.settings, settings)
        made = "scored" if names and SCORING_ONLY.issuperset(names) else "made"
        epoch += made == "made"
        return Todo(
            bench,
            epoch,
            mark,
            settings,
            f"{made} under other settings ({', '.join(names) or 'the run'})",
            aside=found is not None,
        )
    if found is None:
        return Todo(
            bench, epoch, mark, settings, state.reason or "not finished" if state else "not run yet"
        )
    if found.problem:
        return Todo(bench, epoch, mark, settings, found.problem, aside=True)
    # The files exist, but the manifest that they were made with does not.
    if found.fingerprint != mark:
        return Todo(
            bench, epoch + 1, mark, settings, "its files were made under other settings", aside=True
        )
    done = (found.limit is None and found.rows == found.total) or (
        cfg.limit is not None and found.limit == cfg.limit
    )
    if done and found.judging and found.limit == cfg.limit:
        return Todo(bench, epoch, mark, settings, found.judging, scored=True)
    if found.limit is None and found.rows == found.total:
        return f"complete, {found.rows} questions"
    if cfg.limit is not None and found.limit == cfg.limit:
        return f"its first {found.rows} questions are done (partial: --limit)"
    of = f" of {found.total}" if found.total is not None else ""
    how = f" (--limit {found.limit})" if found.limit is not None else ""
    return Todo(bench, epoch, mark, settings, f"holds {found.rows}{of} questions{how}", aside=True)


def _read_alike(
    todo: Sequence[Todo],
    skipped: Sequence[tuple[str, str]],
    settings: Mapping[str, Mapping[str, object]],
    manifest: Manifest | None,
    found: Mapping[str, FoundResult],
) -> tuple[list[Todo], list[tuple[str, str]]]:
    """Have the members of a group read by the same method.

    If one member has to run, or one was judged and another was not, then the finished members that
    a judge could read are added to the benchmarks to run.
    """
    doing = {step.bench.key for step in todo}
    partners = {
        key
        for group in GROUPS
        if doing.intersection(group.members) or _apart(group, found)
        for key in group.members
    } - doing
    more = []
    for key, _ in skipped:
        state = manifest.benchmarks.get(key) if manifest else None
        if key in partners and state is not None and found[key].judgeable:
            more.append(
                Todo(
                    by_key(key),
                    state.epoch,
                    state.fingerprint,
                    dict(settings[key]),
                    "is read as its other half is",
                    scored=True,
                )
            )
    kept = {step.bench.key for step in more}
    order = {key: place for place, key in enumerate(settings)}
    return sorted([*todo, *more], key=lambda step: order[step.bench.key]), [
        each for each in skipped if each[0] not in kept
    ]


def _apart(group: Group, found: Mapping[str, FoundResult]) -> bool:
    """Whether members of the group were read by different methods."""
    return len({found[key].method for key in group.members if key in found}) > 1


def _differences(fields: Mapping[str, object], others: Sequence[Manifest]) -> list[str]:
    """Say in which settings a new identity differs from the most similar known one."""
    different = [(known_differences(known_fields(other), fields), other) for other in others]
    if not different:
        return []
    names, nearest = min(different, key=lambda pair: (len(pair[0]), pair[1].identity))
    before = known_fields(nearest)
    told = [
        f"{name} ({before[name]} there, {fields[name]} here)" if name == "transformers" else name
        for name in names
    ]
    return [
        f"new settings for this model: {', '.join(told)} differ from run {nearest.identity[:8]}, "
        "whose results stay as they are"
    ]
