"""Launch lmms-eval: command lines and environments of its processes."""

from __future__ import annotations

from collections.abc import Container, Sequence
from pathlib import Path

from ...benchmarks import Benchmark
from ...config import RunConfig
from ...core.model import ModelChoice
from ...core.model_args import format_model_args
from ...core.profiles import interpreter
from ...core.run_folder import RunPaths
from ...data.benchmark_needs import lmms_needs
from ...data.needs import HubSettings, Need
from ...engine.processes import launchers
from ...engine.processes.jobs import Job
from ..shared import catalog, launch_env
from . import FACTS
from .class_checks import OTHER_ENGINES, engine_of, tensor_parallel
from .corrections import corrections_setting

PATH_OPTIONS = ("--include_path",)
# Default batch size of engines: enough questions to keep an engine busy, few enough for the frames
# of as many videos to fit into memory. lmms-eval's own default of one leaves the engine idle.
ENGINE_BATCH = 64


class LmmsEvalLauncher:
    """Launches lmms-eval through ``python -m easi_lmms_eval``."""

    name = FACTS.name

    def __init__(self, hub: HubSettings) -> None:
        self.hub = hub

    def settings(self, cfg: RunConfig, bench: Benchmark) -> dict[str, object]:
        """Return the task and the corrections in use."""
        return {
            "task": bench.source(self.name).task,
            **corrections_setting(bench, self.name, not cfg.no_corrections),
        }

    def needs(self, cfg: RunConfig, bench: Benchmark) -> list[Need]:
        """Return the data this benchmark reads."""
        return lmms_needs(bench, self.hub.hf_home)

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
            "-m",
            "easi_lmms_eval",
            *self._options(cfg, model, todo, paths.outputs),
            "--easi-run",
            str(paths.root.absolute()),
        ]
        return Job(
            "answer",
            self._launched(cfg, model, port, argv),
            env={**self._environment(cfg), **launch_env.answering(cfg, self.workers(cfg, model))},
            cwd=self._cwd(),
        )

    def import_job(self, cfg: RunConfig, model: ModelChoice) -> Job:
        """Return the process that imports the model's class."""
        code = (
            "import sys\n"
            "from lmms_eval.models import get_model\n"
            "get_model(sys.argv[1], '--force_simple' in sys.argv)"
        )
        return Job(
            "import",
            launchers.plain(
                ["-P", "-c", code, model.cls, *cfg.backend_args], interpreter(model.profile)
            ),
            env={**self._environment(cfg), **launch_env.NO_GPU},
        )

    def score_job(
        self,
        cfg: RunConfig,
        model: ModelChoice,
        todo: Sequence[Benchmark],
        paths: RunPaths,
        judge: str = "",
    ) -> Job:
        """Return the process that scores the benchmarks of ``todo``."""
        argv = [
            "-m",
            "easi_lmms_eval",
            *self._options(cfg, model, todo, paths.outputs),
            "--easi-run",
            str(paths.root.absolute()),
            "--easi-role",
            "score",
        ]
        return Job(
            "score",
            launchers.plain(argv),
            env={**self._environment(cfg), **launch_env.NO_GPU},
            cwd=self._cwd(),
        )

    def plain_job(
        self, cfg: RunConfig, model: ModelChoice, bench: Benchmark, folder: Path, port: int
    ) -> Job:
        """Return lmms-eval's own launch of one benchmark into ``folder``."""
        argv = ["-m", "lmms_eval", *self._options(cfg, model, [bench], folder)]
        return Job(
            f"plain {bench.key}",
            self._launched(cfg, model, port, argv),
            env={**self._environment(cfg), **launch_env.threads(self.workers(cfg, model))},
            cwd=self._cwd(),
        )

    def reads_unmodified(self, cfg: RunConfig, model: ModelChoice) -> bool:
        """Return whether an engine, a server or ``python -m lmms_eval`` reads the checkpoint."""
        return bool(model.engine) or cfg.plain or cfg.model in OTHER_ENGINES

    def probe_judge(self, cfg: RunConfig, judge: str) -> None:
        """Do nothing: lmms-eval takes no judge, see ``BackendFacts.takes_judge``."""

    def _launched(
        self, cfg: RunConfig, model: ModelChoice, port: int, argv: list[str]
    ) -> tuple[str, ...]:
        workers, python = self.workers(cfg, model), interpreter(model.profile)
        if cfg.no_accelerate or (not model.needs_gpu and workers == 1):
            return launchers.plain(argv, python)
        if not model.needs_gpu:  # accelerate starts a single process where there is no GPU
            return launchers.torchrun(workers, port, argv, python)
        return launchers.accelerate(workers, port, argv, python)

    def workers(self, cfg: RunConfig, model: ModelChoice) -> int:
        """Return the number of processes that answer.

        That is one per GPU; one per engine, which may use several GPUs; one of lmms-eval's own
        clients, which have a concurrency of their own.
        """
        if model.served and not cfg.base_url:
            return 1
        # Questions that ran out of memory are retried with fewer workers, down to one engine of any
        # size.
        return max(1, cfg.nproc // tensor_parallel(cfg)) if engine_of(cfg) else cfg.nproc

    def _options(
        self, cfg: RunConfig, model: ModelChoice, todo: Sequence[Benchmark], folder: Path
    ) -> list[str]:
        limit = ["--limit", str(cfg.limit)] if cfg.limit else []
        other = launch_env.other_device(cfg)
        device = ["--device", other] if other else []
        verbose = ["--verbosity", "DEBUG"] if cfg.verbose else []
        return [
            "--model",
            model.cls,
            "--model_args",
            format_model_args({k: str(v) for k, v in model.arguments.items()}),
            "--tasks",
            ",".join(bench.source(self.name).task for bench in todo),
            "--batch_size",
            str(ENGINE_BATCH if engine_of(cfg) else 1),
            "--log_samples",
            "--output_path",
            str(folder.absolute()),
            *limit,
            *device,
            *verbose,
            *absolute_paths(cfg.backend_args, PATH_OPTIONS),
        ]

    def _environment(self, cfg: RunConfig) -> dict[str, str]:
        return {
            **launch_env.environment(self.hub, catalog.locate(FACTS, cfg.backend_path)),
            # The datasets library writes and locks files there.
            **launch_env.written_cache(self.hub, "HF_DATASETS_CACHE", "datasets"),
        }

    def _cwd(self) -> Path:
        """Return the working directory, a folder beside the other caches that all runs share.

        Two tasks of lmms-eval keep their data cache in the current directory.
        """
        return launch_env.written_folder(self.hub, "lmms-eval-cwd")


def absolute_paths(args: Sequence[str], options: Container[str]) -> list[str]:
    """Return ``args`` with the values of these options, which are paths, made absolute.

    Both ``--o V`` and ``--o=V`` are recognised. The workers run in another folder.
    """
    made: list[str] = []
    for word in args:
        option, equals, value = word.partition("=")
        if equals and option in options:
            made.append(f"{option}={Path(value).expanduser().absolute()}")
        else:
            made.append(
                str(Path(word).expanduser().absolute()) if made and made[-1] in options else word
            )
    return made
