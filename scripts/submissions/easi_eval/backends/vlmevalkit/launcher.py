"""Launch VLMEvalKit: command lines and environments of its processes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from ...benchmarks import Benchmark
from ...config import RULES, RunConfig
from ...core.errors import EasiError
from ...core.model import ModelChoice
from ...core.profiles import interpreter
from ...core.run_folder import RunPaths, sanitise
from ...data.benchmark_needs import vlmevalkit_needs
from ...data.needs import HubSettings, Need
from ...engine.processes import launchers
from ...engine.processes.jobs import Job
from ...scores import judging
from ..shared import catalog, launch_env
from . import FACTS, judge_endpoint
from .command_line import RUN_PY

# Variables that choose VLMEvalKit's file formats. Runs of this program remove them and use
# the defaults; with EVAL_FORMAT=json, VLMEvalKit even writes tab-separated text into *.json.
FILE_FORMATS = ("PRED_FORMAT", "EVAL_FORMAT")


class VLMEvalKitLauncher:
    """Launches VLMEvalKit through ``VLMEvalKit/run.py``."""

    name = FACTS.name

    def __init__(self, hub: HubSettings) -> None:
        self.hub = hub

    def settings(self, cfg: RunConfig, bench: Benchmark) -> dict[str, object]:
        """Return the task, the judge's settings and how VSI-Bench is shown."""
        shown = cfg.vsi_input == "frames" and bench.source(self.name).vsi_input
        frames = {"--vsi-input": "frames"} if shown else {}
        return {"task": bench.source(self.name).task, **judging.settings(cfg, os.environ), **frames}

    def needs(self, cfg: RunConfig, bench: Benchmark) -> list[Need]:
        """Return the data this benchmark reads."""
        return vlmevalkit_needs(bench, cfg.dataset_dir.absolute())

    def answer_job(
        self,
        cfg: RunConfig,
        model: ModelChoice,
        todo: Sequence[Benchmark],
        paths: RunPaths,
        port: int,
    ) -> Job:
        """Return the launch whose workers answer all items of ``todo``."""
        argv = [
            *self._command(cfg, model, todo),
            "--easi-run",
            str(paths.root),
            "--easi-model",
            model.to_argument(),
        ]
        return Job(
            "answer",
            _launched(cfg, model, port, argv),
            env={**self._environment(cfg), **launch_env.answering(cfg, cfg.nproc)},
        )

    def import_job(self, cfg: RunConfig, model: ModelChoice) -> Job:
        """Return the process that imports the model's class."""
        code = (
            "import sys\n"
            "from easi_eval.core.model import ModelChoice\n"
            "from easi_vlmevalkit import models, patches\n"
            "patches.apply()\n"
            "models.model_factory(ModelChoice.from_argument(sys.argv[1]))"
        )
        return Job(
            "import",
            launchers.plain(["-P", "-c", code, model.to_argument()], interpreter(model.profile)),
            env={**self._environment(cfg), **launch_env.NO_GPU},
        )

    def score_job(
        self,
        cfg: RunConfig,
        model: ModelChoice,
        todo: Sequence[Benchmark],
        paths: RunPaths,
        judge: str = RULES,
    ) -> Job:
        """Return the process that scores ``todo``, by rules or with the model ``judge``."""
        argv = [
            *self._command(cfg, model, todo, judge),
            "--easi-run",
            str(paths.root),
            "--easi-role",
            "score",
        ]
        return Job(
            "score" if judge == RULES else "judge",
            launchers.plain(argv),
            env={**self._environment(cfg), **launch_env.NO_GPU},
        )

    def plain_job(
        self, cfg: RunConfig, model: ModelChoice, bench: Benchmark, folder: Path, port: int
    ) -> Job:
        """Return VLMEvalKit's own launch of one benchmark into ``folder``."""
        argv = [
            *self._command(cfg, model, [bench], cfg.judge or RULES),
            "--work-dir",
            str(folder),
            "--mode",
            "all",
            "--easi-model",
            model.to_argument(),
        ]
        return Job(
            f"plain {bench.key}",
            _launched(cfg, model, port, argv),
            env={**self._environment(cfg), **launch_env.threads(cfg.nproc)},
        )

    def reads_unmodified(self, cfg: RunConfig, model: ModelChoice) -> bool:
        """Return whether an engine reads the checkpoint; ``--plain`` runs this program's run.py."""
        return bool(model.engine)

    def probe_judge(self, cfg: RunConfig, judge: str) -> EasiError | None:
        """Send the judge one short question.

        Returns:
            Why it cannot be used; None if it can.

        Raises:
            EasiError: ``EASI_JUDGE_TIMEOUT`` is not a positive number.
        """
        limit = judge_endpoint.seconds() or judge_endpoint.PROBE_SECONDS
        package = catalog.locate(FACTS, cfg.backend_path).root
        try:
            judge_endpoint.probe(
                judge_endpoint.endpoint(),
                judge_endpoint.model_name(package, judge),
                min(judge_endpoint.PROBE_SECONDS, limit),
            )
        except EasiError as error:
            return error
        return None

    def _command(
        self,
        cfg: RunConfig,
        model: ModelChoice,
        todo: Sequence[Benchmark],
        judge: str = RULES,
    ) -> list[str]:
        limit = ["--limit", str(cfg.limit)] if cfg.limit else []
        verbose = ["--verbose"] if cfg.verbose else []
        frames = ["--vsi-input", "frames"] if cfg.vsi_input == "frames" else []
        return [
            str(RUN_PY),
            "--data",
            *(bench.source(self.name).task for bench in todo),
            "--model",
            file_name(model),
            "--judge",
            judge,
            *limit,
            *verbose,
            *frames,
            *cfg.backend_args,
        ]

    def _environment(self, cfg: RunConfig) -> dict[str, str]:
        package = catalog.locate(FACTS, cfg.backend_path)
        return {
            **launch_env.environment(self.hub, package),
            "LMUData": str(cfg.dataset_dir.absolute()),
            # The package's default is another hub, whose client is not among its requirements.
            "VLMEVALKIT_USE_MODELSCOPE": "0",
            **dict.fromkeys(FILE_FORMATS, ""),
        }


def _launched(
    cfg: RunConfig, model: ModelChoice, port: int, argv: Sequence[str]
) -> tuple[str, ...]:
    python = interpreter(model.profile)
    if cfg.nproc > 1:
        return launchers.torchrun(cfg.nproc, port, argv, python)
    return launchers.plain(argv, python)


def file_name(model: ModelChoice) -> str:
    """Return the model's name in VLMEvalKit's file names; a slash in it would break them."""
    return sanitise(model.name.rstrip("/").rsplit("/", 1)[-1])
