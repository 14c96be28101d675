"""The story of a run: plan, prepare, evaluate, collect, report."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from . import __version__, checks, judge_endpoint, judging
from .answering.book import pending
from .answering.work import Assignment, ItemList, Work
from .backends import make_backend
from .backends.base import Backend
from .benchmarks import ALL_KEYS, CORE_KEYS
from .config import RunConfig
from .data.needs import Fetched, HubSettings, Need, Unreachable
from .datasets import fetch, size_of
from .display.choose import make_display
from .display.events import BenchmarkScored, Emit, Notice, PhaseStarted, RunStarted
from .errors import EasiError, ExitCode
from .evaluate import Evaluation, Verdict
from .evidence import Evidence
from .execution import launchers
from .execution.jobs import Job
from .execution.supervisor import interruptible
from .model import ModelChoice
from .plan import Found, Plan, describe, make_plan
from .redact import Redactor
from .results import extraction, report, table
from .results.comparability import compared
from .results.forecast import forecast as size_forecast
from .results.scores import BenchmarkScore, ScoreTable, State, missing
from .smoke.rehearsal import planned_hub, rehearsal_hub, rehearse
from .state import Manifest, RunPaths, digest, identity, other_runs, run_lock, sanitise, write_atomic, write_json
from .submission import naming as naming_of
from .submission import payload
from .submission import submit as submission
from .submission.client import Parcel, room_for
from .submission.endpoint import LIMIT, by_hand, endpoint

if TYPE_CHECKING:
    from .data.likeness import Likeness
    from .results.scrub import Scrubber

ARCHIVE = "easi_results.zip"
RESULT_FILES = ("easi_scores.csv", "easi_scores.md", "easi_results.json", ARCHIVE, extraction.REPORT)


def run(asked: RunConfig) -> int:
    """Carry out the options; returns the exit code. Raises EasiError for what is refused, KeyboardInterrupt for Ctrl-C."""
    if asked.import_results is not None:
        return _import(asked)
    machine = checks.probe_machine()
    cfg = rehearse(asked, machine.visible) if asked.smoke else asked
    users_hub = HubSettings.from_env()
    backend = make_backend(cfg.backend, users_hub)
    backend.check(cfg)
    model = backend.resolve(cfg)
    # What is answered is scored and sent on any machine, also one without the GPUs.
    idle = not asks(cfg, backend, make(cfg, backend, model, ()))
    if not idle:
        backend.ready(cfg, model)
    notes = () if idle else checks.check_device(cfg, model.needs_gpu, machine, checks.read_torch_build())
    naming = described(cfg, model, places(cfg, backend, model), users_hub)
    if not (idle or cfg.smoke or cfg.limit is not None):
        notes = (*notes, *filter(None, [size_forecast(cfg.backend, [bench.key for bench in cfg.selected], LIMIT)]))
    notes = (*notes, *(offered(cfg, model, places(cfg, backend, model), users_hub) if cfg.submission else ()))
    if cfg.dry_run:
        backend = make_backend(cfg.backend, planned_hub(cfg) if cfg.smoke else users_hub)
        plan = make(cfg, backend, model, notes)
        data = () if cfg.smoke or not plan.todo else _forecast_data(cfg, backend, plan, users_hub)
        print(Redactor.from_environ().line(describe(replace(plan, jobs=tuple(_jobs(cfg, backend, plan)), data=tuple(data)))))
        if cfg.submit:
            print(f"\n# submission\n{Run(asked, cfg, backend, users_hub, plan, naming=naming).describe_request()}")
        return ExitCode.COMPLETE
    with ExitStack() as stack:
        stack.enter_context(interruptible())
        hub = users_hub
        if cfg.smoke:
            if asked.model:      # it comes from where it really is; only the data are the rehearsal's
                for found in fetch(backend.weights(model), _said, users_hub):
                    model = backend.localise(model, found.need.repo, found.path)
            hub = stack.enter_context(rehearsal_hub(cfg))
            backend = make_backend(cfg.backend, hub)
        stack.enter_context(run_lock(places(cfg, backend, model).lock))
        return Run(asked, cfg, backend, hub, make(cfg, backend, model, notes), naming=naming).carry_out()


def _import(asked: RunConfig) -> int:
    """Take over results that were made without us; table, payload, archive and sending then are as after a run of ours."""
    from . import importing      # like everything that loads pandas, only where it is needed: a refusal comes at once

    adoption = importing.consider(asked)
    cfg = replace(asked, backend=adoption.plan.backend, benchmarks=adoption.keys)
    hub = HubSettings.from_env()
    backend = make_backend(cfg.backend, hub)
    naming = described(cfg, adoption.plan.model, adoption.plan.paths, hub)
    if cfg.dry_run:
        with TemporaryDirectory(prefix="easi-import-") as folder:
            trial = importing.elsewhere(adoption, Path(folder))
            decisions = importing.adopt(cfg, backend, trial, __version__)
            print(Redactor.from_environ().line(importing.describe(adoption, decisions)))
            if cfg.submit:
                print(f"\n# submission\n{Run(asked, cfg, backend, hub, trial.plan, naming=naming).describe_request()}")
        return ExitCode.COMPLETE
    with interruptible(), run_lock(adoption.plan.paths.lock):
        decisions = importing.adopt(cfg, backend, adoption, __version__)
        run = Run(asked, cfg, backend, hub, adoption.plan, naming=naming)
        run.manifest = Manifest.load(adoption.plan.paths.manifest) or run.manifest
        run.troubles = [report.Trouble(each.candidate.key, f"not adopted: {each.reason}") for each in decisions if each.evidence is None]
        return run.carry_out()


def described(cfg: RunConfig, model: ModelChoice, paths: RunPaths, hub: HubSettings) -> naming_of.Naming:
    """Hold the metadata against what is evaluated. Raises EasiError where they name something else and that is not meant."""
    if cfg.submission is None or cfg.smoke:
        return naming_of.Naming()

    def compare(folder: Path, repo: str, revision: str) -> Likeness:
        from .data.likeness import compare as compared_with      # loads the hub's client

        print(f"comparing the files of {folder} with {repo} on the hub")
        return compared_with(folder, repo, revision, hub)

    before = Manifest.load(paths.manifest)
    found = naming_of.judge(cfg.submission, naming_of.Evaluated.of(model, before.revisions if before else {}), compare)
    naming_of.check(found, cfg.model_name_differs)
    return found


def offered(cfg: RunConfig, model: ModelChoice, paths: RunPaths, hub: HubSettings) -> tuple[str, ...]:
    """What the checkpoint's own files say about the metadata; nothing where they are not on disk yet, or agree."""
    folder = Path(model.path)
    if cfg.smoke or model.served:
        return ()
    if not folder.is_absolute():
        before = Manifest.load(paths.manifest)
        repo = hub.hub_cache / f"models--{model.path.replace('/', '--')}"
        ref = repo / "refs" / (model.revision or naming_of.MAIN)
        commit = (before.revisions.get(model.path) if before else None) or (ref.read_text(encoding="utf-8").strip() if ref.is_file() else "")
        folder = repo / "snapshots" / (commit or "none")
    read = naming_of.read_config
    return naming_of.offers(model, read(folder, "config.json"), read(folder, "adapter_config.json"), cfg.submission)


def _said(event: object) -> None:
    if isinstance(event, Notice):
        print(event.text)


def places(cfg: RunConfig, backend: Backend, model: ModelChoice) -> RunPaths:
    """Where this run lies; reads nothing of it."""
    return RunPaths.of(cfg.output_dir, cfg.backend, model.name, identity(cfg.backend, backend.version(cfg), model, cfg))


def make(cfg: RunConfig, backend: Backend, model: ModelChoice, notes: Sequence[str]) -> Plan:
    """Read what is on disk and decide."""
    settings = {bench.key: backend.settings(cfg, bench) for bench in cfg.selected}
    name = backend.version(cfg)
    paths = places(cfg, backend, model)
    policy = judging.policy(cfg, os.environ)
    found = {bench.key: _found(Evidence.load(paths.output(bench.key)), paths.output(bench.key), policy) for bench in cfg.selected}
    return make_plan(cfg, model, name, settings, Manifest.load(paths.manifest), {key: f for key, f in found.items() if f is not None},
                     other_runs(paths, model.name), (*notes, *judging.said(policy)))


def asks(cfg: RunConfig, backend: Backend, plan: Plan) -> bool:
    """Whether the model has anything left to answer."""
    if cfg.plain or not plan.todo:
        return bool(plan.todo)
    return pending(plan.paths.root, Work(tuple(
        Assignment(bench.key, bench.source(backend.name).task, plan.epochs[bench.key], cfg.limit) for bench in plan.benchmarks)))


def _found(evidence: Evidence | None, folder: Path, policy: judging.Policy) -> Found | None:
    if evidence is None:
        return Found(problem="its files are not what was scored") if folder.exists() else None
    return Found(evidence.fingerprint, evidence.score.n, evidence.score.total, limit=evidence.limit,
                 judging=judging.reopened(policy, evidence.score), judgeable=bool(policy.judge))


def _jobs(cfg: RunConfig, backend: Backend, plan: Plan) -> list[Job]:
    """The commands that the plan would run."""
    if not plan.todo:
        return []
    port = launchers.free_port()
    if cfg.plain:
        return [backend.plain_job(cfg, plan.model, bench, plan.paths.outputs / f".{bench.key}.plain", port) for bench in plan.benchmarks]
    policy = judging.policy(cfg, os.environ)
    judge = [backend.score_job(cfg, plan.model, plan.benchmarks, plan.paths, policy.judge)] if policy.always else []
    return [backend.answer_job(cfg, plan.model, plan.benchmarks, plan.paths, port),
            backend.score_job(cfg, plan.model, plan.benchmarks, plan.paths), *judge]


def _forecast_data(cfg: RunConfig, backend: Backend, plan: Plan, hub: HubSettings) -> list[str]:
    """What data and weights the plan would download; asks the hub for sizes."""
    from .data.forecast import forecast

    wanted = {bench.key: backend.needs(cfg, bench) for bench in plan.benchmarks}
    if asks(cfg, backend, plan) and (weights := backend.weights(plan.model)):
        wanted["model"] = weights
    sizes = {size.need: size for size in size_of([need for each in wanted.values() for need in each], hub)}
    return forecast({name: [sizes[need] for need in each] for name, each in wanted.items()})


def content_of(fetched: Fetched) -> str:
    """A digest of what a repository holds for us; a commit to its README alone does not change it."""
    return digest(sorted([file.path, file.digest] for file in fetched.files if file.path not in ("README.md", ".gitattributes")))


@dataclass
class Run:
    """One run under way: the plan, and what has become of it so far."""

    asked: RunConfig
    cfg: RunConfig
    backend: Backend
    hub: HubSettings
    plan: Plan
    troubles: list[report.Trouble] = field(default_factory=list)
    fits: bool = True       # whether the archive that was made last may be sent
    naming: naming_of.Naming = field(default_factory=naming_of.Naming)      # what the metadata name, as it was at the start

    def __post_init__(self) -> None:
        self.policy = judging.policy(self.cfg, os.environ)
        stamp = time.strftime("%Y%m%d_%H%M%S")
        self.log = (self.cfg.output_dir / f"eval_{sanitise(self.plan.model.name)}_{stamp}.log").absolute()
        self.manifest = self.plan.manifest(Manifest.load(self.plan.paths.manifest), self._versions(), [self.asked.command()])

    def carry_out(self) -> int:
        """Returns the exit code; everything that is written lies on disk before the summary is printed."""
        if self.plan.todo:
            warning = self._check_judge()
            with make_display(self.cfg.no_rich, sys.stdout) as display:
                self._begin(display.on)
                if warning:
                    display.on(Notice(warning, "warning"))
                self._prepare(display.on)
                if self.plan.todo:
                    self._evaluate(display.on)
        scores = self._collect()
        self._write(scores)
        self._summarise(scores)
        return self._exit_code(scores)

    # ---- steps ----------------------------------------------------------------------------------------------------

    def _check_judge(self) -> str:
        """Ask a judge that may be needed for a word before anything is started; what is to be said if there will be none.

        Raises EasiError if one that was set on purpose cannot be used.
        """
        if not self.policy.judge:
            return ""
        seconds = min(judge_endpoint.PROBE_SECONDS, judge_endpoint.seconds() or judge_endpoint.PROBE_SECONDS)
        try:
            judge_endpoint.probe(judge_endpoint.endpoint(), self.backend.judge_model(self.cfg, self.policy.judge), seconds)
        except EasiError as error:
            if judging.insisted(self.cfg, os.environ):
                raise
            self.policy = replace(self.policy, judge="", why_none=error.message)
            return f"{error.message}: all benchmarks are read by rules"
        return ""

    def _begin(self, emit: Emit) -> None:
        plan = self.plan
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self.log.touch()
        for todo in plan.todo:
            if todo.aside:
                aside = plan.paths.aside(todo.bench.key, todo.epoch)
                shutil.rmtree(aside, ignore_errors=True)
                plan.paths.output(todo.bench.key).rename(aside)
        self.manifest = replace(self.manifest, machines=list(dict.fromkeys([*self.manifest.machines, checks.machine_line(self.cfg.nproc)])))
        self.manifest.save(plan.paths.manifest)
        if any(todo.aside for todo in plan.todo):
            self._write(self._collect())      # from here on, however this run ends, no older result stands for it
        emit(RunStarted(plan.model.name, plan.backend, plan.model.cls, tuple((b.key, b.title) for b in self.cfg.selected),
                        plan.skipped, plan.paths.root, self.log, (f"{plan.model.cls}: {plan.model.why}", *plan.notes, *self._forecast())))

    def _prepare(self, emit: Emit) -> None:
        """Get data and weights. A benchmark that was begun with others starts over: its answers would be of two kinds."""
        emit(PhaseStarted("prepare", self.hub.endpoint))
        weights = self.backend.weights(self.plan.model) if asks(self.cfg, self.backend, self.plan) else []
        needs = {bench.key: [*self.backend.needs(self.cfg, bench), *weights] for bench in self.plan.benchmarks}
        fetched = self._fetch(needs, emit)
        self._check_finished([need.repo for need in weights], fetched)
        todo = []
        for step in self.plan.todo:
            key = step.bench.key
            if key not in fetched:
                continue
            now = {repo: content_of(found) for repo, found in fetched[key].items()}
            before = self._content(key)
            if any(before.get(repo, content) != content for repo, content in now.items()):
                emit(Notice(f"{step.bench.title}: its data or the model changed on the hub since it was begun; it starts over", "warning"))
                step = replace(step, epoch=step.epoch + 1, scored=False)
                ItemList.path(self.plan.paths.root, key).unlink(missing_ok=True)
            self.manifest = self.manifest.with_state(key, epoch=step.epoch, evidence={"data": {**before, **now}})
            todo.append(step)
        self.plan = replace(self.plan, todo=tuple(todo))
        revisions = {repo: found.revision for each in fetched.values() for repo, found in each.items()}
        self.manifest = replace(self.manifest, revisions={**self.manifest.revisions, **revisions})
        self.manifest.save(self.plan.paths.manifest)

    def _check_finished(self, weights: Sequence[str], fetched: Mapping[str, Mapping[str, Fetched]]) -> None:
        """Refuse to put results of two versions of one checkpoint into one table."""
        now = {repo: content_of(found) for each in fetched.values() for repo, found in each.items() if repo in weights}
        for repo, content in now.items():
            old = [key for key, _ in self.plan.skipped if self._content(key).get(repo, content) != content]
            if old:
                raise EasiError(f"{repo} changed on the hub since {', '.join(old)} were evaluated",
                                hint=f"evaluate all of it again with --rerun, or the old one at revision {self.manifest.revisions[repo]}")

    def _content(self, key: str) -> dict[str, str]:
        """What a benchmark's answers were made from, by repository, as ``content_of`` gives it."""
        return self.manifest.benchmarks[key].evidence.get("data", {})

    def _fetch(self, needs: Mapping[str, Sequence[Need]], emit: Emit) -> dict[str, dict[str, Fetched]]:
        """What each benchmark reads, by repository; one whose data cannot be had fails alone.

        Raises EasiError if none can be had, or the hub cannot be reached.
        """
        try:
            found = {f.need: f for f in fetch([need for each in needs.values() for need in each], emit, self.hub)}
            return {key: {need.repo: found[need] for need in each} for key, each in needs.items()}
        except Unreachable:
            raise
        except EasiError as error:
            fetched, last = {}, error
            for key, each in needs.items():
                try:
                    fetched[key] = {f.need.repo: f for f in fetch(each, emit, self.hub)}
                except EasiError as one:
                    last = one
                    self._note(Verdict(key, None, one.message))
                    emit(BenchmarkScored(key, None, str(State.FAILED), one.message))
            if not fetched:
                raise last from None
            return fetched

    def _evaluate(self, emit: Emit) -> None:
        plan = self.plan
        Evaluation(self.cfg, self.backend, plan.model, plan.benchmarks, plan.fingerprints, plan.epochs, plan.paths,
                   self.log, emit, self._note, self._note_command, policy=self.policy,
                   scored={todo.bench.key for todo in plan.todo if todo.scored}).run()

    def _note_command(self, command: str) -> None:
        self.manifest = replace(self.manifest, commands=list(dict.fromkeys([*self.manifest.commands, command])))
        self.manifest.save(self.plan.paths.manifest)

    def _note(self, verdict: Verdict) -> None:
        """Keep a verdict at once: a kill later must not cost it. A benchmark that is judged has two, and the later one holds."""
        self.troubles = [trouble for trouble in self.troubles if trouble.key != verdict.key]
        if verdict.evidence is None:
            changes: dict[str, object] = {"state": str(State.FAILED), "reason": verdict.reason}
            self.troubles.append(report.Trouble(verdict.key, verdict.reason, verdict.line, self.log))
        else:
            score = verdict.evidence.score
            evidence = {**self.manifest.benchmarks[verdict.key].evidence, "rows": score.n, "total": score.total}
            told = compared(score, self.backend.name, self.plan.model.cls, self.manifest.benchmarks[verdict.key].settings)
            evidence |= {"comparable": told.comparable, "notes": list(told.notes)}
            evidence |= {"method": score.method, "scores": {name: read.overall for name, read in score.by_method.items()}}
            changes = {"state": str(score.state), "reason": score.reason, "evidence": evidence}
            if score.state is State.INCOMPLETE:
                self.troubles.append(report.Trouble(verdict.key, score.reason, verdict.line, self.log))
        self.manifest = self.manifest.with_state(verdict.key, **changes)
        self.manifest.save(self.plan.paths.manifest)

    def _collect(self) -> ScoreTable:
        """Everything this identity has, not only what was asked for now: a run for fewer benchmarks removes nothing."""
        rows = [row for key in ALL_KEYS if (row := self._row(key)) is not None]
        return ScoreTable(tuple(rows), self.plan.model.name, self.backend.name, self.plan.identity)

    def _row(self, key: str) -> BenchmarkScore | None:
        state = self.manifest.benchmarks.get(key)
        if state is None:
            return None
        evidence = Evidence.load(self.plan.paths.output(key))
        if evidence is not None and evidence.fingerprint == state.fingerprint:
            return compared(evidence.score, self.backend.name, self.plan.model.cls, state.settings)
        return missing(key, state.reason or "not finished", State.FAILED if state.reason else State.INCOMPLETE)

    def _write(self, scores: ScoreTable) -> None:
        """The table, the payload and the archive: beside the run, and at the top of the output folder.

        The archive comes last: what may fail in making it (a full disk) costs no score.
        """
        root = self.plan.paths.root
        write_json(root / extraction.REPORT, extraction.report((row.key, self.plan.paths.output(row.key)) for row in scores.rows))
        self.payload = self._payload(scores)
        write_atomic(root / "easi_scores.csv", table.csv_text(scores))
        write_atomic(root / "easi_scores.md", table.markdown_text(scores))
        write_atomic(root / "easi_results.json", payload.payload_text(self.payload))
        self._copy(name for name in RESULT_FILES if name != ARCHIVE)
        self.archive = self._archive(scores, self.payload)
        write_atomic(root / ARCHIVE, self.archive)
        self._copy([ARCHIVE])

    def _copy(self, names: Iterable[str]) -> None:
        for name in names:
            write_atomic(self.cfg.output_dir / name, (self.plan.paths.root / name).read_bytes())

    def _payload(self, scores: ScoreTable) -> dict[str, Any]:
        return payload.build_payload(scores, self.backend.payload_name, self.cfg.submission, naming_of.remarks(self._named()), self._scrubber().text)

    def _archive(self, scores: ScoreTable, made: Mapping[str, Any]) -> bytes:
        from . import archiving

        packed = archiving.make(self.plan.paths, [row.key for row in scores.rows], self.backend, self._scrubber(), made, fits=room_for(made))
        self.fits = packed.fits
        return packed.data

    def _scrubber(self) -> Scrubber:
        from . import archiving

        return archiving.Places(self.cfg, self.hub, self.plan.model.path).scrubber()

    def _named(self) -> naming_of.Naming:
        """What the metadata name, with the commit that is known by now; a folder was compared at the start."""
        if self.cfg.submission is None or self.cfg.smoke:
            return naming_of.Naming()
        evaluated = naming_of.Evaluated.of(self.plan.model, self.manifest.revisions)
        return self.naming if evaluated.folder is not None else naming_of.judge(self.cfg.submission, evaluated)

    def _summarise(self, scores: ScoreTable) -> None:
        width = min(shutil.get_terminal_size((80, 24)).columns, 140)
        failed = tuple(trouble.key for trouble in self.troubles)
        again = bool(failed) and not self.cfg.import_results      # importing the same files again changes nothing
        retry = replace(self.asked, benchmarks=failed, include_extra=False, rerun=False).command_words() if again else ()
        notes = [f"skipped {key}: {reason}" for key, reason in self.plan.skipped]
        fields = payload.fields_to_fill(self.payload)
        if fields and not self.cfg.smoke:
            notes.append(f"before you submit, give {', '.join(fields)} with --submission-configs")
            notes += offered(self.cfg, self.plan.model, self.plan.paths, self.hub)
        if not self.fits:
            results, zipped = (self.cfg.output_dir.absolute() / name for name in ("easi_results.json", "easi_results.zip"))
            notes.append(f"the archive has {len(self.archive):,} bytes, more than one request takes: {by_hand(results, zipped)}")
        files = [self.cfg.output_dir / name for name in RESULT_FILES] + ([self.log] if self.plan.todo else [])
        lines = report.summary(scores, self.troubles, width=width, retry=retry, files=files, notes=notes)
        print("\n".join(map(Redactor.from_environ().line, lines)))

    def _exit_code(self, scores: ScoreTable) -> ExitCode:
        wanted = (State.COMPLETE, State.PARTIAL) if self.cfg.limit is not None else (State.COMPLETE,)
        rows = {row.key: row.state for row in scores.rows}
        finished = all(rows.get(bench.key) in wanted for bench in self.cfg.selected)
        if self.cfg.submit:
            self._submit(scores, ExitCode.NOT_SENT if finished else ExitCode.INCOMPLETE)
        return ExitCode.COMPLETE if finished else ExitCode.INCOMPLETE

    # ---- submission -----------------------------------------------------------------------------------------------

    def _submit(self, scores: ScoreTable, otherwise: ExitCode) -> None:
        """Returns only if the board has it; every other end is an EasiError, with the code ``otherwise`` where scores lack."""
        if open_ones := submission.lacking(scores, [bench.key for bench in self.cfg.selected]):
            fill = replace(self.asked, benchmarks=open_ones, include_extra=False, rerun=False)
            hint = "import their results too, under the same name" if self.cfg.import_results else fill.command()
            raise EasiError(f"nothing was sent: not complete: {', '.join(open_ones)}", hint=hint, code=otherwise)
        naming_of.check(self._named(), self.cfg.model_name_differs, otherwise)
        from .results.archive import read_index

        if unproven := [key for key in self._needed() if key not in read_index(self.archive).tables]:
            again = replace(self.asked, benchmarks=tuple(unproven), include_extra=False, rerun=True)
            raise EasiError(f"nothing was sent: the archive does not prove the scores of {', '.join(unproven)}", hint=again.command(), code=otherwise)
        submission.submit(self.plan.paths.root, self._parcel(self.payload, self.archive), self.hub.token, self.cfg.resubmit)

    def _needed(self) -> list[str]:
        """What a submission must hold."""
        return list(dict.fromkeys((*CORE_KEYS, *(bench.key for bench in self.cfg.selected))))

    def _parcel(self, scores: dict[str, Any], zipped: bytes) -> Parcel:
        results, file = (self.cfg.output_dir.absolute() / name for name in ("easi_results.json", "easi_results.zip"))
        return Parcel(endpoint(), scores, zipped, (results, file))

    def _forecast(self) -> list[str]:
        """Said before hours are spent: what ``--submit`` will find lacking at the end even if all goes well."""
        asked = {bench.key for bench in self.cfg.selected}
        never = [key for key in self._collect().lacking() if key not in asked] if self.cfg.submit else []
        return [f"--submit will send nothing at the end: that needs {', '.join(never)} too"] if never else []

    def describe_request(self) -> str:
        """What ``--submit`` would send, as ``--dry-run`` prints it; writes nothing."""
        scores = self._collect()
        lacking = submission.lacking(scores, [bench.key for bench in self.cfg.selected])
        if open_ones := dict.fromkeys((*(bench.key for bench in self.plan.benchmarks), *lacking)):
            return f"POST {endpoint()}, once these are complete: {', '.join(open_ones)}"
        return submission.describe(self.plan.paths.root, self._parcel(made := self._payload(scores), self._archive(scores, made)), self.cfg.resubmit)

    def _versions(self) -> dict[str, str]:
        found = {"easi-eval": __version__, self.cfg.kind.distribution: self.backend.version(self.cfg)}
        for name in ("torch", "transformers", "accelerate", "datasets", "huggingface_hub", "decord"):
            try:
                found[name] = version(name)
            except PackageNotFoundError:
                found[name] = "not installed"
        return found
