"""lmms-eval: how it is launched, which of its model types runs, where it leaves its files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..benchmarks import Benchmark
from ..config import RunConfig, format_model_args
from ..data.needs import HubSettings, Need
from ..execution import launchers
from ..execution.jobs import Job
from ..state import RunPaths
from . import catalog, common
from .base import ModelChoice, Outputs
from .kinds import KINDS

if TYPE_CHECKING:
    import pandas as pd

    from ..results.scores import Reading

KIND = KINDS["lmms-eval"]
# Which of the model arguments names the checkpoint, in lmms-eval's own order of precedence.
CHECKPOINT_KEYS = ("peft", "delta", "pretrained", "model", "model_version", "model_name", "model_id", "path", "engine")


class LmmsEval:
    """The second backend, through ``python -m easi_lmms_eval``."""

    name = KIND.name
    payload_name = "lmmseval"
    package = KIND.package

    def __init__(self, hub: HubSettings) -> None:
        self.hub = hub

    def version(self, cfg: RunConfig) -> str:
        return catalog.locate(KIND, cfg.backend_path).version

    def check(self, cfg: RunConfig) -> None:
        known = catalog.lmms_models(catalog.locate(KIND, cfg.backend_path))
        if not known.unread:      # else the name may be one of a plug-in that tells its names only when it is imported
            otherwise = "`lmms-eval models` lists them"
            if common.is_hub_id(cfg.model):
                otherwise = f"give its model type and --model-args pretrained={cfg.model},..."
            catalog.check_known("--model", cfg.model, known.models, otherwise)

    def resolve(self, cfg: RunConfig) -> ModelChoice:
        arguments = cfg.model_arguments
        keys = [key for key in CHECKPOINT_KEYS if key in arguments]
        for key in keys:
            arguments[key] = common.model_path(arguments[key])
        checkpoint = arguments[keys[0]] if keys else cfg.model
        if cfg.trust_remote_code:
            arguments.setdefault("trust_remote_code", "True")
        return ModelChoice(common.model_name(checkpoint), checkpoint, cfg.model, f"--model {cfg.model}",
                           arguments=dict(arguments), needs_gpu=cfg.device != "cpu" and "base_url" not in arguments)

    def settings(self, cfg: RunConfig, bench: Benchmark) -> dict[str, object]:
        return {"task": bench.source(self.name).task}

    def needs(self, cfg: RunConfig, bench: Benchmark) -> list[Need]:
        from ..datasets import lmms_needs

        return lmms_needs(bench, self.hub.hf_home)

    def weights(self, model: ModelChoice) -> list[Need]:
        named = [str(model.arguments[key]) for key in CHECKPOINT_KEYS if key in model.arguments]
        served = "base_url" in model.arguments
        return [common.weights_need(repo) for repo in named if common.is_hub_id(repo) and not served]

    def localise(self, model: ModelChoice, repo: str, path: Path) -> ModelChoice:
        arguments = {key: str(path) if value == repo and key in CHECKPOINT_KEYS else value for key, value in model.arguments.items()}
        return replace(model, path=str(path) if model.path == repo else model.path, arguments=arguments)

    def answer_job(self, cfg: RunConfig, model: ModelChoice, todo: Sequence[Benchmark], paths: RunPaths, port: int) -> Job:
        argv = ["-m", "easi_lmms_eval", *self._options(cfg, model, todo, paths.outputs), "--easi-run", str(paths.root.absolute())]
        return Job("answer", self._launched(cfg, port, argv), env={**self._environment(cfg), **common.threads(cfg.nproc)}, cwd=self._cwd())

    def score_job(self, cfg: RunConfig, model: ModelChoice, todo: Sequence[Benchmark], paths: RunPaths) -> Job:
        argv = ["-m", "easi_lmms_eval", *self._options(cfg, model, todo, paths.outputs), "--easi-run", str(paths.root.absolute()), "--easi-role", "score"]
        return Job("score", launchers.plain(argv), env={**self._environment(cfg), **common.NO_GPU}, cwd=self._cwd())

    def plain_job(self, cfg: RunConfig, model: ModelChoice, bench: Benchmark, folder: Path, port: int) -> Job:
        argv = ["-m", "lmms_eval", *self._options(cfg, model, [bench], folder)]
        return Job(f"plain {bench.key}", self._launched(cfg, port, argv), env=self._environment(cfg), cwd=self._cwd())

    def _launched(self, cfg: RunConfig, port: int, argv: list[str]) -> tuple[str, ...]:
        if cfg.no_accelerate or (cfg.device == "cpu" and cfg.nproc == 1):
            return launchers.plain(argv)
        if cfg.device == "cpu":      # accelerate starts a single process where there is no GPU
            return launchers.torchrun(cfg.nproc, port, argv)
        return launchers.accelerate(cfg.nproc, port, argv)

    def _options(self, cfg: RunConfig, model: ModelChoice, todo: Sequence[Benchmark], folder: Path) -> list[str]:
        limit = ["--limit", str(cfg.limit)] if cfg.limit else []
        device = ["--device", cfg.device] if cfg.device else []
        verbose = ["--verbosity", "DEBUG"] if cfg.verbose else []
        return ["--model", cfg.model, "--model_args", format_model_args({k: str(v) for k, v in model.arguments.items()}),
                "--tasks", ",".join(bench.source(self.name).task for bench in todo), "--batch_size", "1", "--log_samples",
                "--output_path", str(folder.absolute()), *limit, *device, *verbose, *cfg.backend_args]

    def _environment(self, cfg: RunConfig) -> dict[str, str]:
        return common.environment(self.hub, catalog.locate(KIND, cfg.backend_path))

    def _cwd(self) -> Path:
        """Two tasks keep their data cache in the current directory; all runs share one beside the other caches."""
        return self.hub.hf_home / "lmms-eval-cwd"

    def outputs(self, bench: Benchmark, folder: Path) -> Outputs:
        from ..results.readers import find_lmms_outputs

        return find_lmms_outputs(bench, folder)

    def rows(self, bench: Benchmark, out: Outputs) -> pd.DataFrame:
        from ..results.readers import read_lmms_rows

        return read_lmms_rows(bench, out)

    def read(self, bench: Benchmark, out: Outputs, rows: pd.DataFrame) -> Reading:
        from ..results.readers import read_lmms_scores

        return read_lmms_scores(bench, out, rows)

    def total(self, cfg: RunConfig, bench: Benchmark, out: Outputs) -> int:
        from ..results.readers import lmms_total

        return lmms_total(bench, out)
