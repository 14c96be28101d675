"""The record of a run in progress: its manifest, on disk after every change, and its problems."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from .. import __version__
from ..core.libraries import ALWAYS_RECORDED, RECORDED, decisive, normal
from ..core.manifest import LaunchRecord, Manifest
from ..engine.processes.gpus import machine_line, visible_gpus
from ..scores.report import Trouble
from ..scores.score_table import BenchmarkScore, State
from .context import RunContext
from .nodes_of_run import placed
from .plan import Plan


@dataclass
class RunRecord:
    """What a run has done so far.

    Attributes:
        context: The run.
        manifest: The manifest; written by ``keep``.
        troubles: One entry per benchmark that failed or is incomplete.
    """

    context: RunContext
    manifest: Manifest
    troubles: list[Trouble] = field(default_factory=list)

    @classmethod
    def of(cls, context: RunContext, plan: Plan) -> RunRecord:
        """Return the record of a run that is about to begin; nothing is written."""
        commands = [context.asked.command()]
        return cls(context, plan.manifest(plan.before, _versions(context), commands))

    @property
    def made_before(self) -> Mapping[str, str]:
        """Library versions to assume for answers of workers that reported none: the first ones."""
        return decisive(self.manifest.launches[0]["versions"])

    @property
    def revisions(self) -> Mapping[str, str]:
        """The revision of each repository that the run reads."""
        return self.manifest.revisions

    @property
    def place(self) -> str:
        """What the model ran on in the launches of this run; "" if none recorded it."""
        places = [launch.get("place") for launch in self.manifest.launches]
        return " and ".join(dict.fromkeys(filter(None, places)))

    def keep(self, **changes: Any) -> None:
        """Change the manifest and write it."""
        self.manifest = replace(self.manifest, **changes)
        self.manifest.save(self.context.paths.manifest)

    def note_launch(self, before: Manifest | None) -> None:
        """Record the machine and the library versions of this start; ``before`` is the last one."""
        here = machine_line(self.context.cfg.nproc)
        # Manifests of older versions have no list of launches, only the versions of the last one.
        earlier: list[LaunchRecord] = self.manifest.launches or (
            [{"versions": before.versions}] if before else []
        )
        launch: LaunchRecord = {
            "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "versions": self.manifest.versions,
            "place": _place(self.context),
        }
        self.keep(
            machines=list(dict.fromkeys([*self.manifest.machines, here])),
            launches=[*earlier, launch],
        )

    def note_workers(self, made_with: Sequence[Mapping[str, str]]) -> None:
        """Record the library versions that the workers of this launch reported."""
        *before, last = self.manifest.launches
        workers = [dict(made) for made in made_with]
        self.keep(launches=[*before, {**last, "workers": workers}])

    def note_machines(self, machines: Sequence[str]) -> None:
        """Record the machines that joined the run, with their GPUs and without their names."""
        if not machines:
            return
        *before, last = self.manifest.launches
        joined = [f"machine {number}: {line}" for number, line in enumerate(machines, 1)]
        known = list(dict.fromkeys([*self.manifest.machines, *joined]))
        count = len(machines) + (not placed(self.context.cfg))  # where this machine answers, too
        place = f"{count} machine{'' if count == 1 else 's'}"
        if (known, place) != (self.manifest.machines, last["place"]):
            self.keep(machines=known, launches=[*before, {**last, "place": place}])

    def note_command(self, command: str) -> None:
        """Record a command line before it is started."""
        self.keep(commands=list(dict.fromkeys([*self.manifest.commands, command])))

    def note_failure(self, key: str, reason: str, line: str = "") -> None:
        """Record that a benchmark was not accepted; ``line`` is the most telling one of the log."""
        self._replace_trouble(key, Trouble(key, reason, line, self.context.log))
        self._set_state(key, state=str(State.FAILED), reason=reason)

    def note_score(self, score: BenchmarkScore, line: str = "") -> None:
        """Record the score of a benchmark whose results were accepted.

        A judged benchmark has two, by rules and by the judge; the later one replaces the earlier.
        """
        known = self.manifest.benchmarks[score.key]
        compared = self.context.compare(score, known.settings)
        evidence = {
            **known.evidence,
            "rows": score.n,
            "total": score.total,
            "comparable": compared.comparable,
            "notes": list(compared.notes),
            "warnings": list(compared.warnings),
            "method": score.method,
            "failed": score.failed,
            "seconds": score.seconds,
            "tokens": score.tokens,
            "scores": {name: read.overall for name, read in score.by_method.items()},
        }
        incomplete = score.state is State.INCOMPLETE
        trouble = Trouble(score.key, score.reason, line, self.context.log)
        self._replace_trouble(score.key, trouble if incomplete else None)
        self._set_state(score.key, state=str(score.state), reason=score.reason, evidence=evidence)

    def _replace_trouble(self, key: str, trouble: Trouble | None) -> None:
        others = [other for other in self.troubles if other.key != key]
        self.troubles = [*others, *([trouble] if trouble else [])]

    def _set_state(self, key: str, **changes: Any) -> None:
        # Written at once, so that it survives a kill.
        self.manifest = self.manifest.with_state(key, **changes)
        self.keep()


def _place(context: RunContext) -> str:
    cfg, gpus = context.cfg, context.model.needs_gpu
    if placed(cfg):
        return ""  # until a machine joins
    count = (len(visible_gpus()) or cfg.nproc) if gpus else cfg.nproc
    what = "GPU" if gpus else "CPU worker" if cfg.device == "cpu" else "worker"
    return f"{count} {what}{'' if count == 1 else 's'}"


def _versions(context: RunContext) -> dict[str, str]:
    here = context.libraries
    others = {name: here[name] for name in RECORDED if name in here and name not in ALWAYS_RECORDED}
    return {
        "easi-eval": __version__,
        context.cfg.kind.distribution: context.backend.version(context.cfg),
        **{name: here.get(normal(name), "not installed") for name in ALWAYS_RECORDED},
        **others,
    }
