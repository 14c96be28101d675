"""Control flow of a run: plan, prepare data, evaluate, collect scores, report.

``run`` is the entry point of the command line. It collects every reason to refuse the run before
anything starts, and then hands over to ``Run``. Dry runs (``_show``) and imported results
(``_import``) take their own way and share the steps after it.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import InitVar, dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from .. import __version__
from ..backends import make_backend, resolved
from ..backends.base import Backend
from ..backends.evidence import Evidence
from ..backends.shared import damaged, newer_checkpoints
from ..backends.shared.adapters import checkpoints
from ..backends.shared.launch_env import libraries_of
from ..benchmarks import ALL_KEYS, GROUPS, Source
from ..config import RunConfig
from ..core.errors import EasiError, ExitCode, Refusals, Unreachable
from ..core.events import BenchmarkScored, Emit, Notice, PhaseStarted, RunStarted
from ..core.libraries import ALWAYS_RECORDED, RECORDED, decisive, lock_note, mixed, normal
from ..core.locks import unlocked
from ..core.manifest import LaunchRecord, Manifest, other_runs
from ..core.model import ModelChoice
from ..core.places import REPOSITORY
from ..core.redact import Redactor
from ..core.run_folder import RunPaths, run_lock, sanitise
from ..data.download_forecast import forecast
from ..data.needs import Download, HubSettings, Kind, Need
from ..display import make_display
from ..engine.journal_state import pending
from ..engine.processes import gpus, launchers
from ..engine.processes.interrupts import interruptible, rearm
from ..engine.processes.jobs import Job
from ..engine.work import Assignment, Work
from ..scores import judging, report
from ..scores.comparability import with_comparability
from ..scores.data_check import of_content
from ..scores.scores import BenchmarkScore, ScoreTable, State, missing
from ..submission.admission import check_admission
from ..submission.archive.size_forecast import forecast as size_forecast
from ..submission.deliver import RESULT_FILES, ResultFiles
from ..submission.endpoint import LIMIT
from ..submission.metadata import Naming, check_metadata
from ..submission.metadata_hints import metadata_suggestions
from . import prepare
from .device_checks import check_device
from .evaluate import Evaluation, Verdict
from .find_run import RunFolder, run_folder
from .plan import FoundResult, Plan, describe, make_plan, unresolved
from .rehearsal import planned_hub, rehearsal_hub, rehearse


def run(asked: RunConfig, refusals: Refusals) -> int:
    """Carry out the options of a command line.

    Args:
        asked: The options as the user gave them.
        refusals: Collects the reasons that refuse the run, so that all are reported together.

    Returns:
        The exit code.

    Raises:
        EasiError: The run is refused, or cannot go on.
        KeyboardInterrupt: The user interrupted the run; finished results are on disk.
    """
    if asked.import_results is not None:
        return _import(asked)
    machine = gpus.probe_machine()
    cfg = rehearse(asked, machine.visible) if asked.smoke else asked
    users_hub = HubSettings.from_env()
    backend = make_backend(cfg.backend, users_hub)
    if cfg.dry_run:
        return _show(asked, cfg, backend, users_hub, machine, refusals)
    model = resolved(cfg, backend, users_hub)
    naming, notes = _considered(cfg, backend, model, users_hub, machine, refusals)
    with ExitStack() as stack:
        stack.enter_context(interruptible())
        hub = users_hub
        if cfg.smoke:
            # A model named by the user comes from the real hub; only the data of a smoke run come
            # from the local one.
            if asked.model:
                from ..data.fetch import fetch  # loads the hub's client, which is slow

                for found in fetch(backend.weights(model), _said, users_hub):
                    model = backend.localise(model, found.need.repo, found.path)
            hub = stack.enter_context(rehearsal_hub(cfg))
            backend = make_backend(cfg.backend, hub)
        stack.enter_context(run_lock(places(cfg, backend, model).lock))
        return Run(asked, cfg, backend, hub, make(cfg, backend, model, notes), naming).carry_out()


def _considered(
    cfg: RunConfig,
    backend: Backend,
    model: ModelChoice,
    hub: HubSettings,
    machine: gpus.Machine,
    refusals: Refusals,
) -> tuple[Naming, tuple[str, ...]]:
    """Check the model, the machine and the submission; reasons to refuse go to ``refusals``.

    Returns:
        What the submission's metadata name, and the notes of the plan.
    """
    notes: tuple[str, ...] = ()
    # A run whose questions are all answered needs no model: it can be scored and sent from a
    # machine without GPUs.
    idle = not has_unanswered(cfg, backend, make(cfg, backend, model, ()))
    if not idle:
        with refusals.noted():
            backend.ready(cfg, model)
        with refusals.noted():
            damaged.check(model)
        with refusals.noted():
            notes = check_device(cfg, model.needs_gpu, machine, gpus.read_torch_build())
        with refusals.noted():
            notes = (
                *notes,
                *newer_checkpoints.notes(
                    cfg, model, {need.repo: need.revision for need in backend.weights(model)}, hub
                ),
            )
    naming = Naming()
    with refusals.noted():
        naming = check_metadata(cfg, model, places(cfg, backend, model), hub)
    with refusals.noted():
        notes = (*notes, *check_admission(cfg, hub))
    if not (idle or cfg.smoke or cfg.limit is not None):
        notes = (
            *notes,
            *filter(
                None, [size_forecast(cfg.backend, [bench.key for bench in cfg.selected], LIMIT)]
            ),
        )
    caches = {} if cfg.smoke else {"HF_HOME": hub.hf_home, "the hub's cache": hub.hub_cache}
    notes = (*notes, *unlocked({"--output-dir": cfg.output_dir, **caches}))
    return naming, (
        *notes,
        *lock_note(REPOSITORY, libraries_of(cfg)),
        *(
            metadata_suggestions(cfg, model, places(cfg, backend, model), hub)
            if cfg.submission
            else ()
        ),
    )


def _show(
    asked: RunConfig,
    cfg: RunConfig,
    backend: Backend,
    users_hub: HubSettings,
    machine: gpus.Machine,
    refusals: Refusals,
) -> int:
    """Print the plan of ``--dry-run`` with all reasons to refuse the run; start nothing."""
    plan, naming = unresolved(cfg), Naming()
    with refusals.noted():
        model = resolved(cfg, backend, users_hub)
        naming, notes = _considered(cfg, backend, model, users_hub, machine, refusals)
        backend = make_backend(cfg.backend, planned_hub(cfg) if cfg.smoke else users_hub)
        plan = make(cfg, backend, model, notes)
        plan = replace(plan, jobs=tuple(_jobs(cfg, backend, plan)))
    if not cfg.smoke and plan.todo:
        # A hub that did not answer is not asked again, and its problem is reported once.
        silent = any(isinstance(refusal, Unreachable) for refusal in refusals.found)
        with refusals.noted():
            download = _download(
                cfg, backend, plan, replace(users_hub, offline=users_hub.offline or silent)
            )
            plan = replace(
                plan, download=replace(download, problems=() if silent else download.problems)
            )
    plan = replace(plan, blocked=tuple(refusals.found))
    print(Redactor.from_environ().line(describe(plan, cfg.verbose)))
    if cfg.submit and plan.identity:
        with refusals.noted():
            print(
                "\n# submission\n"
                f"{Run(asked, cfg, backend, users_hub, plan, naming).describe_request()}"
            )
    return ExitCode.REFUSED if refusals.found else ExitCode.COMPLETE


def _import(asked: RunConfig) -> int:
    """Adopt results that another program made, for ``--import-results``.

    Table, payload, archive and submission are then the same as after a run of this program.
    """
    # Loads pandas, which is slow; a refused command line should not wait for it.
    from . import adopt

    adoption = adopt.consider(asked)
    cfg = replace(asked, backend=adoption.plan.backend, benchmarks=adoption.keys)
    hub = HubSettings.from_env()
    backend = make_backend(cfg.backend, hub)
    naming = check_metadata(cfg, adoption.plan.model, adoption.plan.paths, hub)
    check_admission(cfg, hub)
    if cfg.dry_run:
        with TemporaryDirectory(prefix="easi-import-") as folder:
            trial = adopt.elsewhere(adoption, Path(folder))
            decisions = adopt.adopt(cfg, backend, trial, __version__)
            print(Redactor.from_environ().line(adopt.describe(adoption, decisions)))
            if cfg.submit:
                print(
                    "\n# submission\n"
                    f"{Run(asked, cfg, backend, hub, trial.plan, naming).describe_request()}"
                )
        return ExitCode.COMPLETE
    with interruptible(), run_lock(adoption.plan.paths.lock):
        decisions = adopt.adopt(cfg, backend, adoption, __version__)
        run = Run(asked, cfg, backend, hub, adoption.plan, naming)
        run.manifest = Manifest.load(adoption.plan.paths.manifest) or run.manifest
        run.troubles = [
            report.Trouble(each.candidate.key, f"not adopted: {each.reason}")
            for each in decisions
            if each.evidence is None
        ]
        return run.carry_out()


def _said(event: object) -> None:
    if isinstance(event, Notice):
        print(event.text)


def folder_of(cfg: RunConfig, backend: Backend, model: ModelChoice) -> RunFolder:
    """Return the folder of this run, which may not exist yet."""
    return run_folder(cfg, backend.version(cfg), model, libraries_of(cfg))


def places(cfg: RunConfig, backend: Backend, model: ModelChoice) -> RunPaths:
    """Return the paths inside the folder of this run."""
    return folder_of(cfg, backend, model).paths


def make(cfg: RunConfig, backend: Backend, model: ModelChoice, notes: Sequence[str]) -> Plan:
    """Return the plan: which benchmarks are to be evaluated, given the results on disk.

    ``notes`` are messages for the user; the plan shows them before its own.
    """
    folder = folder_of(cfg, backend, model)
    paths, manifest = folder.paths, Manifest.load(folder.paths.manifest)
    settings = {
        bench.key: {**backend.settings(cfg, bench), **_data_of(manifest, bench.key)}
        for bench in cfg.selected
    }
    policy = judging.policy(cfg, os.environ)
    found = {
        bench.key: _found(Evidence.load(paths.output(bench.key)), paths.output(bench.key), policy)
        for bench in cfg.selected
    }
    for bench in () if cfg.smoke or cfg.plain else cfg.selected:
        if found[bench.key] is not None and _table_changed(
            bench.source(backend.name), backend.needs(cfg, bench), manifest, bench.key
        ):
            found[bench.key] = FoundResult(problem="its table was changed since it was scored")
    changed = _changed_since(manifest, libraries_of(cfg)) if manifest else ()
    return make_plan(
        cfg,
        model,
        backend.version(cfg),
        settings,
        manifest,
        {key: f for key, f in found.items() if f is not None},
        other_runs(paths, model.name),
        (*notes, *judging.plan_lines(policy), *changed),
        folder,
    )


def _data_of(manifest: Manifest | None, key: str) -> dict[str, object]:
    """Return the recorded digests of a benchmark's data.

    Whether the data are still the same is checked later, by ``prepare.begin``.
    """
    state = manifest.benchmarks.get(key) if manifest else None
    return {"data": state.settings["data"]} if state and "data" in state.settings else {}


def _table_changed(
    source: Source, needs: Sequence[Need], manifest: Manifest | None, key: str
) -> bool:
    """Return whether the benchmark's table has another size or time than when it was recorded.

    A table that is gone counts as changed only if it was not the benchmark's expected content: its
    user deleted it to get the present one. What the change means is decided by ``prepare.begin``.
    """
    state = manifest.benchmarks.get(key) if manifest else None
    before = state.evidence.get("table") if state else None
    now = next((prepare.table_state(need.target) for need in needs if need.kind is Kind.FILE), [])
    if before and not now and state:
        recorded = state.settings.get("data")
        return isinstance(recorded, Mapping) and bool(of_content(source, recorded))
    return bool(before and now and before != now)


def _changed_since(manifest: Manifest, libraries: Mapping[str, str]) -> tuple[str, ...]:
    """Return a note if library versions differ from those of the manifest; the answers are kept.

    Only differences that belong to the same run identity get here, such as patch versions.
    """
    differing = mixed([decisive(manifest.versions), decisive(libraries)])
    return (
        (
            "since the last start of this run other versions were installed "
            f"({'; '.join(differing)}); its answers are kept",
        )
        if differing
        else ()
    )


def has_unanswered(cfg: RunConfig, backend: Backend, plan: Plan) -> bool:
    """Return whether the model has questions left to answer."""
    if cfg.plain or not plan.todo:
        return bool(plan.todo)
    return pending(
        plan.paths.root,
        Work(
            tuple(
                Assignment(
                    bench.key, bench.source(backend.name).task, plan.epochs[bench.key], cfg.limit
                )
                for bench in plan.benchmarks
            )
        ),
    )


def _found(evidence: Evidence | None, folder: Path, policy: judging.Policy) -> FoundResult | None:
    if evidence is None:
        return FoundResult(problem="its files are not what was scored") if folder.exists() else None
    return FoundResult(
        evidence.fingerprint,
        evidence.score.n,
        evidence.score.total,
        limit=evidence.limit,
        judging=judging.why_rejudge(policy, evidence.score),
        judgeable=bool(policy.judge),
        method=evidence.score.method,
    )


def _jobs(cfg: RunConfig, backend: Backend, plan: Plan) -> list[Job]:
    """Return the commands that the plan would run; a judge only if it judges every benchmark."""
    if not plan.todo:
        return []
    port = launchers.free_port()
    if cfg.plain:
        return [
            backend.plain_job(
                cfg, plan.model, bench, plan.paths.outputs / f".{bench.key}.plain", port
            )
            for bench in plan.benchmarks
        ]
    policy = judging.policy(cfg, os.environ)
    judge = (
        [backend.score_job(cfg, plan.model, plan.benchmarks, plan.paths, policy.judge)]
        if policy.always
        else []
    )
    return [
        backend.answer_job(cfg, plan.model, plan.benchmarks, plan.paths, port),
        backend.score_job(cfg, plan.model, plan.benchmarks, plan.paths),
        *judge,
    ]


def _download(cfg: RunConfig, backend: Backend, plan: Plan, hub: HubSettings) -> Download:
    """Return what data and weights the plan would download; asks the hub for the sizes."""
    from ..data.fetch import size_of  # loads the hub's client, which is slow

    wanted = {bench.key: backend.needs(cfg, bench) for bench in plan.benchmarks}
    if (
        plan.identity
        and has_unanswered(cfg, backend, plan)
        and (weights := backend.weights(plan.model))
    ):
        wanted["model"] = weights
    sizes = {
        size.need: size
        for size in size_of([need for each in wanted.values() for need in each], hub)
    }
    return forecast({name: [sizes[need] for need in each] for name, each in wanted.items()})


@dataclass
class Run:
    """A run in progress: its plan, the manifest on disk, and the problems so far.

    Attributes:
        asked: The options as the user gave them; they form the command for a retry.
        cfg: The options that hold; differs from ``asked`` for ``--smoke`` and imported results.
        naming: What the metadata of a submission name, as found at the start.
        troubles: One entry per benchmark that failed or is incomplete.
        snapshots: Folders of the hub's checkpoints by repository; filled when they are fetched.
    """

    asked: RunConfig
    cfg: RunConfig
    backend: Backend
    hub: HubSettings
    plan: Plan
    naming: InitVar[Naming]
    troubles: list[report.Trouble] = field(default_factory=list)
    snapshots: dict[str, Path] = field(default_factory=dict)

    def __post_init__(self, naming: Naming) -> None:
        self.result_files = ResultFiles(
            self.asked, self.cfg, self.backend, self.hub, self.plan.model, self.plan.paths, naming
        )
        self.policy = judging.policy(self.cfg, os.environ)
        stamp = time.strftime("%Y%m%d_%H%M%S")
        self.log = (
            self.cfg.output_dir / f"eval_{sanitise(self.plan.model.name)}_{stamp}.log"
        ).absolute()
        self.manifest = self.plan.manifest(
            Manifest.load(self.plan.paths.manifest), self._versions(), [self.asked.command()]
        )

    def carry_out(self) -> int:
        """Evaluate, write the result files, print the summary, and submit if asked.

        All result files are on disk before the summary is printed.

        Returns:
            The exit code.

        Raises:
            EasiError: The run cannot go on, or the leaderboard did not accept the results.
            KeyboardInterrupt: The user interrupted the run; finished results are on disk.
        """
        if self.plan.todo:
            warning = self._check_judge()
            try:
                self._answer(warning)
            except KeyboardInterrupt:
                self._keep_complete()
                raise
        scores = self._collect()
        self.result_files.write(scores, self.manifest.revisions)
        self._summarise(scores)
        return self._exit_code(scores)

    # ---- steps -----------------------------------------------------------------------------------

    def _answer(self, warning: str) -> None:
        with make_display(self.cfg.no_rich, sys.stdout) as display:
            self._begin(display.on)
            if warning:
                display.on(Notice(warning, "warning"))
            self._prepare(display.on)
            if self.plan.todo:
                self._evaluate(display.on)

    def _keep_complete(self) -> None:
        """Write table, payload and archive after an interrupt.

        A second interrupt stops the writing. Each file is then either complete or the previous
        version, because files are replaced in one step.
        """
        if not self.plan.paths.manifest.exists():
            return
        rearm()
        scores = self._collect()
        complete = [row.key for row in scores.rows if row.state is State.COMPLETE]
        with suppress(OSError):  # after a hangup the terminal is gone
            print(
                f"interrupted; writing table and payload ({len(complete)} of "
                f"{len(self.cfg.selected)} benchmarks complete)",
                flush=True,
            )
        self.result_files.write(scores, self.manifest.revisions)
        with suppress(OSError):
            self._summarise(scores)

    def _check_judge(self) -> str:
        """Send the judge a test request, if one may be needed, before anything is started.

        Returns:
            A warning if the judge cannot be used and the answers are read by rules; else "".

        Raises:
            EasiError: A judge that was configured on purpose cannot be used.
        """
        if not self.policy.judge:
            return ""
        error = self.backend.probe_judge(self.cfg, self.policy.judge)
        if error is None:
            return ""
        if judging.judge_is_required(self.cfg, os.environ):
            raise error
        self.policy = replace(self.policy, judge="", why_none=error.message)
        return f"{error.message}: all benchmarks are read by rules"

    def _begin(self, emit: Emit) -> None:
        plan = self.plan
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self.log.touch()
        for todo in plan.todo:
            if todo.aside:
                aside = plan.paths.aside(todo.bench.key, todo.epoch)
                shutil.rmtree(aside, ignore_errors=True)
                plan.paths.output(todo.bench.key).rename(aside)
        self.manifest = replace(
            self.manifest,
            machines=list(
                dict.fromkeys([*self.manifest.machines, gpus.machine_line(self.cfg.nproc)])
            ),
        )
        known = Manifest.load(plan.paths.manifest)
        # Manifests of older versions have no list of launches, only the versions of the last one.
        before: list[LaunchRecord] = self.manifest.launches or (
            [{"versions": known.versions}] if known else []
        )
        launch: LaunchRecord = {
            "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "versions": self.manifest.versions,
        }
        self.manifest = replace(self.manifest, launches=[*before, launch])
        self.manifest.save(plan.paths.manifest)
        if any(todo.aside for todo in plan.todo):
            # However this run ends, the result files must not show results that were set aside.
            self.result_files.write(self._collect(), self.manifest.revisions)
        emit(
            RunStarted(
                plan.model.name,
                plan.backend,
                plan.model.cls,
                tuple((b.key, b.title) for b in self.cfg.selected),
                plan.skipped,
                plan.paths.root,
                self.log,
                (f"{plan.model.cls}: {plan.model.why}", *plan.notes, *self._forecast()),
            )
        )

    def _prepare(self, emit: Emit) -> None:
        """Fetch data and weights, and adapt the plan where they changed since the last start."""
        emit(PhaseStarted("prepare", self.hub.endpoint))
        asking = has_unanswered(self.cfg, self.backend, self.plan)
        weights = self.backend.weights(self.plan.model) if asking else []
        needs = {
            bench.key: [*self.backend.needs(self.cfg, bench), *weights]
            for bench in self.plan.benchmarks
        }
        fetched, failed = prepare.fetch_each(needs, emit, self.hub)
        self._note_unprepared(
            {**failed, **prepare.refuse_lacking(self.plan, fetched, self.hub)}, emit
        )
        repos = [need.repo for need in weights]
        here = {
            repo: found.path
            for each in fetched.values()
            for repo, found in each.items()
            if repo in repos
        }
        if asking:
            local = [here.get(name, Path(name)) for name in checkpoints(self.plan.model)]
            referred = prepare.fetch_referred(local, repos, emit, self.hub)
            fetched = {key: {**each, **referred} for key, each in fetched.items()}
            self.snapshots = {**here, **{repo: found.path for repo, found in referred.items()}}
        prepare.refuse_changed([*repos, *self.snapshots], fetched, self.plan, self.manifest)
        self.plan, self.manifest, unreadable = prepare.begin(
            self.plan, self.manifest, fetched, emit, self.hub.records
        )
        self._note_unprepared(unreadable, emit)
        self.manifest.save(self.plan.paths.manifest)

    def _note_unprepared(self, failed: Mapping[str, EasiError], emit: Emit) -> None:
        for key, error in failed.items():
            self._note(Verdict(key, None, error.message))
            emit(BenchmarkScored(key, None, str(State.FAILED), error.message))

    def _evaluate(self, emit: Emit) -> None:
        plan = self.plan
        translated = newer_checkpoints.read_as_they_are(self.cfg, self.backend, plan.model)
        model = prepare.laid_out(
            plan.model, self.snapshots, self.backend, plan.paths.root / "checkpoint", translated
        )
        Evaluation(
            self.cfg,
            self.backend,
            model,
            plan.benchmarks,
            plan.fingerprints,
            plan.epochs,
            plan.paths,
            self.log,
            emit,
            self._note,
            self._note_command,
            policy=self.policy,
            scored={todo.bench.key for todo in plan.todo if todo.scored},
            made_before=decisive(self.manifest.launches[0]["versions"]),
            on_loaded=self._note_loaded,
        ).run()

    def _note_loaded(self, made_with: Sequence[Mapping[str, str]]) -> None:
        """Record the library versions that the workers of this launch reported."""
        *before, last = self.manifest.launches
        self.manifest = replace(
            self.manifest,
            launches=[*before, {**last, "workers": [dict(made) for made in made_with]}],
        )
        self.manifest.save(self.plan.paths.manifest)

    def _note_command(self, command: str) -> None:
        self.manifest = replace(
            self.manifest, commands=list(dict.fromkeys([*self.manifest.commands, command]))
        )
        self.manifest.save(self.plan.paths.manifest)

    def _note(self, verdict: Verdict) -> None:
        """Record a verdict on disk at once, so that it survives a kill.

        A judged benchmark has two verdicts, by rules and by the judge; the later one replaces the
        earlier one.
        """
        self.troubles = [trouble for trouble in self.troubles if trouble.key != verdict.key]
        if verdict.evidence is None:
            changes: dict[str, object] = {"state": str(State.FAILED), "reason": verdict.reason}
            self.troubles.append(
                report.Trouble(verdict.key, verdict.reason, verdict.line, self.log)
            )
        else:
            score = verdict.evidence.score
            evidence = {
                **self.manifest.benchmarks[verdict.key].evidence,
                "rows": score.n,
                "total": score.total,
            }
            told = with_comparability(
                score,
                self.backend.name,
                self.plan.model.cls,
                self.manifest.benchmarks[verdict.key].settings,
                self.plan.model.cuts,
                self.cfg.smoke,
            )
            evidence |= {
                "comparable": told.comparable,
                "notes": list(told.notes),
                "warnings": list(told.warnings),
            }
            evidence |= {
                "method": score.method,
                "scores": {name: read.overall for name, read in score.by_method.items()},
            }
            changes = {"state": str(score.state), "reason": score.reason, "evidence": evidence}
            if score.state is State.INCOMPLETE:
                self.troubles.append(
                    report.Trouble(verdict.key, score.reason, verdict.line, self.log)
                )
        self.manifest = self.manifest.with_state(verdict.key, **changes)
        self.manifest.save(self.plan.paths.manifest)

    def _collect(self) -> ScoreTable:
        """Return the scores of all benchmarks in the run folder, not only of the selected ones.

        A later run for fewer benchmarks therefore removes nothing from the result files.
        """
        rows = [row for key in ALL_KEYS if (row := self._row(key)) is not None]
        return ScoreTable(tuple(rows), self.plan.model.name, self.backend.name, self.plan.identity)

    def _row(self, key: str) -> BenchmarkScore | None:
        state = self.manifest.benchmarks.get(key)
        if state is None:
            return None
        evidence = Evidence.load(self.plan.paths.output(key))
        if evidence is not None and evidence.fingerprint == state.fingerprint:
            return with_comparability(
                evidence.score,
                self.backend.name,
                self.plan.model.cls,
                state.settings,
                self.plan.model.cuts,
                self.cfg.smoke,
            )
        return missing(
            key, state.reason or "not finished", State.FAILED if state.reason else State.INCOMPLETE
        )

    def _summarise(self, scores: ScoreTable) -> None:
        width = min(shutil.get_terminal_size((80, 24)).columns, 140)
        failed = tuple(trouble.key for trouble in self.troubles)
        # Importing the same files again would give the same result, so no retry is offered.
        again = bool(failed) and not self.cfg.import_results
        retry = (
            replace(self.asked, benchmarks=failed, include_extra=False, rerun=False).command_words()
            if again
            else ()
        )
        notes = [
            *(f"skipped {key}: {reason}" for key, reason in self.plan.skipped),
            *self.result_files.notes(),
        ]
        files = [self.cfg.output_dir / name for name in RESULT_FILES] + (
            [self.log] if self.plan.todo else []
        )
        lines = report.summary(
            scores, self.troubles, width=width, retry=retry, files=files, notes=notes
        )
        print("\n".join(map(Redactor.from_environ().line, lines)))

    def _exit_code(self, scores: ScoreTable) -> ExitCode:
        wanted = (
            (State.COMPLETE, State.PARTIAL) if self.cfg.limit is not None else (State.COMPLETE,)
        )
        rows = {row.key: row.state for row in (*scores.rows, *scores.headlines)}
        asked = {bench.key for bench in self.cfg.selected}
        groups = {group.key for group in GROUPS if asked.issuperset(group.members)}
        finished = all(rows.get(key) in wanted for key in (*asked, *groups))
        if self.cfg.submit:
            self.result_files.submit(
                scores,
                self.manifest.revisions,
                ExitCode.NOT_SENT if finished else ExitCode.INCOMPLETE,
            )
        return ExitCode.COMPLETE if finished else ExitCode.INCOMPLETE

    def describe_request(self) -> str:
        """Describe what ``--submit`` would send."""
        return self.result_files.describe_request(
            self._collect(), self.manifest.revisions, [bench.key for bench in self.plan.benchmarks]
        )

    def _forecast(self) -> list[str]:
        """Return a note if ``--submit`` will lack benchmarks that are neither selected nor done.

        It is shown at the start, before hours of evaluation are spent.
        """
        asked = {bench.key for bench in self.cfg.selected}
        never = (
            [key for key in self._collect().lacking() if key not in asked]
            if self.cfg.submit
            else []
        )
        return (
            [f"--submit will send nothing at the end: that needs {', '.join(never)} too"]
            if never
            else []
        )

    def _versions(self) -> dict[str, str]:
        here = libraries_of(self.cfg)
        others = {
            name: here[name] for name in RECORDED if name in here and name not in ALWAYS_RECORDED
        }
        return {
            "easi-eval": __version__,
            self.cfg.kind.distribution: self.backend.version(self.cfg),
            **{name: here.get(normal(name), "not installed") for name in ALWAYS_RECORDED},
            **others,
        }
