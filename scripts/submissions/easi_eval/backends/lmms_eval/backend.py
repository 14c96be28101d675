"""lmms-eval: how it is launched, which model type runs, and where its files are."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from importlib.util import find_spec
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...benchmarks import Benchmark
from ...config import RunConfig
from ...core.backend_facts import BACKEND_FACTS
from ...core.errors import EasiError
from ...core.locks import lacks_locks
from ...core.model import ModelChoice
from ...core.model_args import format_model_args, unquoted
from ...core.run_folder import RunPaths
from ...core.suggest import did_you_mean
from ...data.benchmark_needs import lmms_needs
from ...data.needs import HubSettings, Need
from ...engine.processes import launchers
from ...engine.processes.jobs import Job
from ...scores.outputs import Outputs
from ..shared import adapters, catalog, launch_env, model_files, parsers, quantised
from ..shared.class_source import ClassSource
from ..shared.engines import how_to_get
from ..shared.lineage import lineage
from ..shared.signature import Signature, signature
from . import stops
from .corrections import corrections_setting
from .launcher import absolute_paths

if TYPE_CHECKING:
    import pandas as pd

    from ...scores.scores import BenchmarkScore, Reading

KIND = BACKEND_FACTS["lmms-eval"]
# Model arguments that name weights: an adapter or a delta, and the base under it. The first that is
# given names the checkpoint.
ADAPTER_KEYS = ("peft", "delta")
BASE_KEYS = model_files.CHECKPOINT_KEYS
WEIGHT_KEYS = (*ADAPTER_KEYS, *BASE_KEYS)
# Model arguments that name the model on a server. For other types they are not weights (llava's
# model_name is a conversation template).
NAME_KEYS = ("model", "model_version", "model_name", "engine")
# Types that load no weights: clients of an API, and types without a model (lmms-eval 0.7.3).
# srt_api is not one of them, because it starts a server on the GPUs of this machine.
SERVED_TYPES = frozenset(
    {
        "async_openai",
        "batch_gpt4",
        "claude",
        "gemini",
        "generation_api",
        "gpt4o_audio",
        "gpt4v",
        "litellm",
        "openai",
        "qwen_vl_api",
        "reka",
        "dummy",
        "from_log",
    }
)
PATH_OPTIONS = ("--include_path",)
# Options of lmms-eval's command line that this program sets, and its own option to use instead.
OURS = {
    "model": "--model",
    "model_args": "--model-args",
    "tasks": "--benchmarks",
    "output_path": "--output-dir",
    "limit": "--limit",
    "device": "--device",
    "config": "this program's own options: a file would replace them",
}
# Options that are refused with every launch, and what this program does instead.
NEVER = {
    "predict_only": "every benchmark is scored",
    "repeats": "each question is answered once",
    "offset": "every question of a benchmark is asked",
    "tui": "this program has its own display",
}
# Options that take effect only with lmms-eval's own launch, not with workers that share the
# questions.
OWN_LAUNCH = "only lmms-eval's own launch does it, which --plain runs"
WITHOUT_EFFECT = {
    "use_cache": "answers are kept in the run's journal and are never asked twice",
    "hf_hub_log_args": OWN_LAUNCH,
    **dict.fromkeys(
        (
            "wandb_args",
            "wandb_log_samples",
            "swanlab_args",
            "swanlab_log_samples",
            "power_analysis",
            "effect_size",
            "alpha",
            "power",
            "correlation",
            "std_a",
            "std_b",
        ),
        OWN_LAUNCH,
    ),
}
# Types that run an engine with its own batching, and the package each needs. Each worker runs one
# engine.
ENGINES = {"vllm": "vllm", "vllm_generate": "vllm", "sglang": "sglang"}
# Other types that answer with an engine, or with a server that they start.
OTHER_ENGINES = frozenset(
    {"aero_realtime_vllm", "llava_sglang", "longvila", "srt_api", "whisper_vllm"}
)
# Default batch size of engines: enough questions to keep an engine busy, few enough for the frames
# of as many videos to fit into memory. lmms-eval's own default of one leaves the engine idle.
ENGINE_BATCH = 64


class LmmsEval:
    """The lmms-eval backend, launched through ``python -m easi_lmms_eval``."""

    name = KIND.name
    payload_name = "lmmseval"
    package = KIND.package

    def __init__(self, hub: HubSettings) -> None:
        self.hub = hub

    def version(self, cfg: RunConfig) -> str:
        """Return the version of the lmms-eval that the run uses."""
        return catalog.locate(KIND, cfg.backend_path).version

    def check(self, cfg: RunConfig) -> None:
        """Refuse an unknown model type, and arguments after ``--`` that would fail or do nothing.

        Raises:
            EasiError: Says what is wrong and what to do.
        """
        known = catalog.lmms_models(catalog.locate(KIND, cfg.backend_path))
        # With ``unread`` the name may be that of a plug-in whose names are known only on import.
        if not known.unread:
            if cfg.model not in known.models and (
                model_files.is_hub_id(cfg.model) or "/" in cfg.model
            ):
                raise EasiError(
                    f"--model {cfg.model}: lmms-eval wants a model type here, not a checkpoint",
                    hint=f"--model TYPE --model-args pretrained={cfg.model}, for example --model "
                    "qwen2_5_vl; `lmms-eval models` lists the types",
                )
            catalog.check_known("--model", cfg.model, known.models, "`lmms-eval models` lists them")
        self._check_words(cfg)

    def offers(self, name: str) -> str:
        """Return a hint how to run ``name`` as a model type; "" if it is none."""
        if name not in catalog.lmms_models(catalog.locate(KIND)).models:
            return ""
        return (
            f"{name} is a model type of lmms-eval: --backend {KIND.name} --model {name} "
            "--model-args pretrained=org/model"
        )

    def own_options(self) -> list[str]:
        """Return the options of lmms-eval's own command line."""
        return parsers.options_of(_parser())

    def _check_words(self, cfg: RunConfig) -> None:
        """Refuse arguments after ``--`` that would fail late or do nothing."""
        if cfg.backend_args:
            parsers.check_words(
                cfg.backend_args,
                _parser(cfg.backend_path),
                OURS,
                NEVER if cfg.plain else {**NEVER, **WITHOUT_EFFECT},
            )

    def ready(self, cfg: RunConfig, model: ModelChoice) -> None:
        """Refuse a model whose engine or quantisation library is missing, or does not fit the GPUs.

        Raises:
            EasiError: Also if ``--plain`` would keep its data on a file system without file locks.
        """
        engine = self._engine(cfg)
        _check_engine(cfg, engine)
        data = (
            Path(
                os.environ.get("HF_DATASETS_CACHE")
                or launch_env.written_folder(self.hub, "datasets")
            )
            .expanduser()
            .absolute()
        )
        if cfg.plain and lacks_locks(data):
            raise EasiError(
                "--plain: lmms-eval's own launch needs file locks, and the file system of "
                f"{data} has none",
                hint="set HF_DATASETS_CACHE to a folder on another one, or leave out --plain",
            )
        if engine is None and not model.served and cfg.model not in OTHER_ENGINES:
            quantised.check(
                cfg,
                model,
                [str(model.arguments[key]) for key in WEIGHT_KEYS if key in model.arguments],
                replace(self.hub, offline=True),  # ``resolve`` has fetched the config
            )

    def _engine(self, cfg: RunConfig) -> str | None:
        """Return the package of the engine that the model type runs; None if it runs none."""
        known = catalog.lmms_models(catalog.locate(KIND, cfg.backend_path)).models.get(cfg.model)
        return ENGINES.get(known.model_id) if known is not None else None

    def resolve(self, cfg: RunConfig) -> ModelChoice:
        """Return the model that the type and ``--model-args`` name.

        Raises:
            EasiError: If an argument is unknown, no checkpoint is named, or a path does not exist.
        """
        package = catalog.locate(KIND, cfg.backend_path)
        known = catalog.lmms_models(package).models.get(cfg.model)
        arguments, why = cfg.model_arguments, f"--model {cfg.model}"
        classes = lineage(package, _class(cfg, known)) if known else []
        takes = signature(classes)
        if "base_url" in arguments or (known is not None and known.model_id in SERVED_TYPES):
            name = next((arguments[key] for key in NAME_KEYS if key in arguments), cfg.model)
            notes: tuple[str, ...] = (
                (
                    (
                        f"--nproc {cfg.nproc} has no effect: a served model has one client, with "
                        "its own concurrency"
                    ),
                )
                if cfg.nproc > 1
                else ()
            )
            _check_names(cfg, takes)
            return ModelChoice(
                name,
                name,
                cfg.model,
                why,
                notes=notes,
                arguments=dict(arguments),
                needs_gpu=False,
                served=True,
            )
        keys = [key for key in WEIGHT_KEYS if key in arguments]
        arguments |= {key: unquoted(arguments[key]) for key in keys}
        _check_weights(cfg, {key: arguments[key] for key in keys}, takes)
        _check_names(cfg, takes)
        arguments |= {key: model_files.model_path(arguments[key]) for key in keys}
        if cfg.plain and (commas := next((key for key in keys if "," in arguments[key]), "")):
            raise EasiError(
                f"--plain: lmms-eval's own launch cannot take a path with commas ({commas}=)",
                hint="leave out --plain, or give a link to the folder",
            )
        # During ``--smoke`` the local hub is not running yet. Preparation reports a missing config.
        for key in keys if not cfg.smoke else ():
            with suppress(EasiError):
                model_files.model_config(arguments[key], self.hub, arguments.get("revision", ""))
        checkpoint = arguments[keys[0]] if keys else cfg.model
        arguments, notes = _supported(cfg, arguments, takes.names)
        cuts = _cuts(cfg, classes)
        model = ModelChoice(
            model_files.model_name(checkpoint),
            checkpoint,
            cfg.model,
            why,
            notes=(*notes, *filter(None, [cuts])),
            arguments=dict(arguments),
            cuts=cuts,
            revision=model_files.revision(
                [arguments[key] for key in keys], arguments.get("revision", "")
            ),
            needs_gpu=cfg.device != "cpu",
            engine=self._engine(cfg) or "",
        )
        if any(key in arguments for key in ADAPTER_KEYS):  # the base is an argument
            return replace(model, refers_to={})
        model = adapters.with_references(model, self.hub)
        adapters.check_adapter(model, classes)
        return model

    def settings(self, cfg: RunConfig, bench: Benchmark) -> dict[str, object]:
        """Return the task and the corrections in use."""
        return {
            "task": bench.source(self.name).task,
            **corrections_setting(bench, self.name, not cfg.no_corrections),
        }

    def needs(self, cfg: RunConfig, bench: Benchmark) -> list[Need]:
        """Return the data this benchmark reads."""
        return lmms_needs(bench, self.hub.hf_home)

    def weights(self, model: ModelChoice) -> list[Need]:
        """Return the checkpoints of the hub that the model reads, including an adapter's base.

        The argument ``revision`` applies to base checkpoints only.
        """
        if model.served:
            return []
        revisions = {
            key: str(model.arguments.get("revision", "")) if key in BASE_KEYS else ""
            for key in WEIGHT_KEYS
        }
        named = {key: str(model.arguments[key]) for key in WEIGHT_KEYS if key in model.arguments}
        base = [model_files.weights_need(model.base)] if model_files.is_hub_id(model.base) else []
        return [
            *(
                model_files.weights_need(repo, revisions[key])
                for key, repo in named.items()
                if model_files.is_hub_id(repo)
            ),
            *base,
        ]

    def localise(self, model: ModelChoice, repo: str, path: Path) -> ModelChoice:
        """Return the choice with the weights of ``repo`` in the folder ``path``."""
        arguments = {
            key: str(path) if value == repo and key in WEIGHT_KEYS else value
            for key, value in model.arguments.items()
        }
        return replace(
            adapters.with_base(model, repo, path),
            path=str(path) if model.path == repo else model.path,
            arguments=arguments,
        )

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

    def judge_model(self, cfg: RunConfig, judge: str) -> str:
        """Return the name unchanged; lmms-eval takes no judge, see ``Kind.takes_judge``."""
        return judge

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

    def _launched(
        self, cfg: RunConfig, model: ModelChoice, port: int, argv: list[str]
    ) -> tuple[str, ...]:
        workers = self.workers(cfg, model)
        if cfg.no_accelerate or (not model.needs_gpu and workers == 1):
            return launchers.plain(argv)
        if not model.needs_gpu:  # accelerate starts a single process where there is no GPU
            return launchers.torchrun(workers, port, argv)
        return launchers.accelerate(workers, port, argv)

    def workers(self, cfg: RunConfig, model: ModelChoice) -> int:
        """Return the number of processes that answer.

        That is one per GPU; one per engine, which may use several GPUs; one client for a served
        model.
        """
        if model.served:
            return 1
        # Questions that ran out of memory are retried with fewer workers, down to one engine of any
        # size.
        return max(1, cfg.nproc // _tensor_parallel(cfg)) if self._engine(cfg) else cfg.nproc

    def _options(
        self, cfg: RunConfig, model: ModelChoice, todo: Sequence[Benchmark], folder: Path
    ) -> list[str]:
        limit = ["--limit", str(cfg.limit)] if cfg.limit else []
        other = launch_env.other_device(cfg)
        device = ["--device", other] if other else []
        verbose = ["--verbosity", "DEBUG"] if cfg.verbose else []
        return [
            "--model",
            cfg.model,
            "--model_args",
            format_model_args({k: str(v) for k, v in model.arguments.items()}),
            "--tasks",
            ",".join(bench.source(self.name).task for bench in todo),
            "--batch_size",
            str(ENGINE_BATCH if self._engine(cfg) else 1),
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
            **launch_env.environment(self.hub, catalog.locate(KIND, cfg.backend_path)),
            # The datasets library writes and locks files there.
            **launch_env.written_cache(self.hub, "HF_DATASETS_CACHE", "datasets"),
        }

    def _cwd(self) -> Path:
        """Return the working directory, a folder beside the other caches that all runs share.

        Two tasks of lmms-eval keep their data cache in the current directory.
        """
        return launch_env.written_folder(self.hub, "lmms-eval-cwd")

    def outputs(self, bench: Benchmark, folder: Path, judge: str = "") -> Outputs:
        """Find the files of one benchmark in ``folder``."""
        from .result_files import find_lmms_outputs

        return find_lmms_outputs(bench, folder)

    def rows(self, bench: Benchmark, out: Outputs) -> pd.DataFrame:
        """Return one row per question, with the columns of ``results.readers.ROW_COLUMNS``."""
        from .result_files import read_lmms_rows

        return read_lmms_rows(bench, out)

    def read(self, bench: Benchmark, out: Outputs, rows: pd.DataFrame) -> Reading:
        """Return headline score and sub-scores (0-100) from the aggregate files."""
        from .result_files import read_lmms_scores

        return read_lmms_scores(bench, out, rows)

    def told(
        self,
        cfg: RunConfig,
        bench: Benchmark,
        out: Outputs,
        rows: pd.DataFrame,
        score: BenchmarkScore,
        scorer_notes: Mapping[str, Any],
    ) -> BenchmarkScore:
        """Return ``score`` with its notes and corrections.

        Corrected values are the headline, unless ``--no-corrections`` is given.
        """
        from .caveats import told

        return told(bench, out, rows, score, scorer_notes, wanted=not cfg.no_corrections)

    def total(self, cfg: RunConfig, bench: Benchmark, out: Outputs) -> int:
        """Return the dataset's number of rows."""
        from .result_files import lmms_total

        return lmms_total(bench, out)


def _parser(backend_path: Path | None = None) -> argparse.ArgumentParser:
    """Return a parser with the options of lmms-eval's own command line."""
    return parsers.read_parser(
        catalog.locate(KIND, backend_path).root / "__main__.py", "parse_eval_args", "lmms-eval"
    )


def _tensor_parallel(cfg: RunConfig) -> int:
    """Return the number of GPUs that one engine uses."""
    given = cfg.model_arguments.get("tensor_parallel_size", "1")
    if not given.isdecimal() or int(given) < 1:
        raise EasiError(
            f"--model-args tensor_parallel_size is {given}",
            hint="it is the number of GPUs that share one engine: 1 or more",
        )
    return int(given)


def _check_engine(cfg: RunConfig, package: str | None) -> None:
    """Refuse an engine that is not installed, or that does not fit the number of GPUs."""
    if package is None:
        return
    if find_spec(package) is None:
        raise EasiError(
            f"lmms-eval's type {cfg.model} needs {package}, which is not installed",
            hint=how_to_get(package),
        )
    if cfg.model_arguments.get("data_parallel_size", "1") != "1":
        raise EasiError(
            "--model-args data_parallel_size is not for this program: it starts an engine for "
            "every share of the GPUs",
            hint="leave it out; --nproc is the number of GPUs, tensor_parallel_size that of one "
            "engine",
        )
    size = _tensor_parallel(cfg)
    if cfg.nproc % size:
        raise EasiError(
            f"--nproc {cfg.nproc} is no multiple of tensor_parallel_size={size}",
            hint=f"--nproc counts GPUs: --nproc {max(size, cfg.nproc - cfg.nproc % size)} runs "
            f"{max(1, cfg.nproc // size)} engine(s) of {size}",
        )


def _class(cfg: RunConfig, known: catalog.LmmsModel) -> str:
    """Return the class that lmms-eval takes for the type."""
    return known.simple or known.cls if "--force_simple" in cfg.backend_args else known.cls


def _cuts(cfg: RunConfig, classes: Sequence[ClassSource]) -> str:
    """Return a description of where the class truncates answers; "" if it does not."""
    cutting = stops.cutting(classes)
    asked = _generation_argument(cfg, stops.UNTIL)
    found = cutting.stops([stops.INHERITED if asked is None else asked]) if cutting else ()
    return (
        stops.said(cfg.model, classes[0].name, found, asked is not None)
        if found and found != (stops.NEVER,)
        else ""
    )


def _generation_argument(cfg: RunConfig, name: str) -> str | None:
    """Return the value of one of the ``--gen_kwargs`` after ``--``; None if it is not given."""
    found: dict[str, str] = {}
    for word, following in zip_longest(cfg.backend_args, cfg.backend_args[1:], fillvalue=""):
        option, given, value = word.partition("=")
        if option == "--gen_kwargs":
            found = dict(
                part.partition("=")[::2] for part in (value if given else following).split(",")
            )
    return found.get(name)


def _check_names(cfg: RunConfig, takes: Signature) -> None:
    """Refuse an argument that the class would fail on after everything is fetched."""
    for name, value in cfg.model_arguments.items():
        launch_env.check_number(
            name, value, takes.defaults.get(name), f"lmms-eval's type {cfg.model}"
        )
    for name in cfg.model_arguments if not takes.open else ():
        if name not in takes.names:
            raise EasiError(
                f"lmms-eval's type {cfg.model} takes no {name}=",
                hint=did_you_mean(name, takes.names, f"it takes {', '.join(sorted(takes.names))}"),
            )


def _check_weights(cfg: RunConfig, given: Mapping[str, str], takes: Signature) -> None:
    """Refuse a checkpoint that cannot be meant, or a missing one.

    Without a checkpoint the class would load its own default, and the results would carry the name
    of another model.

    Args:
        cfg: The run's options.
        given: Those of ``WEIGHT_KEYS`` that are among the model arguments.
        takes: The signature of the class.
    """
    # A name may be anything that the class knows, but a path that does not exist is a mistake.
    for key, value in given.items():
        if not value:
            raise EasiError(
                f"--model-args {key}= is empty",
                hint="write org/model, or a folder, or leave it out",
            )
        if model_files.is_missing_path(value):
            raise _no_folder(cfg, key, value)
        model_files.check_folder(Path(value).expanduser())
        if value.endswith("/") and not Path(value).expanduser().exists():
            raise EasiError(
                f"--model-args {key}={value} is no folder and no hub id",
                hint="write org/model, or a folder that is there",
            )
    taken = [key for key in BASE_KEYS if key in takes.names]
    bases = [key for key in BASE_KEYS if key in given]
    if not taken or takes.names.intersection(bases):
        return
    if bases:
        raise EasiError(
            f"lmms-eval's type {cfg.model} takes {taken[0]}=, not {bases[0]}=",
            hint=f"write --model-args {taken[0]}={given[bases[0]]}",
        )
    default = takes.defaults.get(taken[0], "org/model")
    if default is not None:
        raise EasiError(
            "--model-args names no checkpoint", hint=f"write {taken[0]}={default or 'org/model'}"
        )


def _no_folder(cfg: RunConfig, key: str, value: str) -> EasiError:
    """Return the error for a path that does not exist.

    An unquoted path with commas was cut at the first one; the hint then gives the whole path in
    quotes.
    """
    uncut = cfg.model_args.partition(f"{key}=")[2]
    cuts = [at for at, char in enumerate(uncut) if char == ","] + [len(uncut)]
    if whole := next(
        (
            uncut[:at]
            for at in cuts
            if Path(uncut[:at]).expanduser().is_dir() and uncut[:at] != value
        ),
        "",
    ):
        return EasiError(
            f"--model-args {key}={value} is no folder: commas part the arguments",
            hint=f"put the path in quotes: {key}='{whole}'",
        )
    return EasiError(
        f"--model-args {key}={value}: there is no such folder", hint=model_files.folder_hint(value)
    )


def _supported(
    cfg: RunConfig, arguments: dict[str, str], taken: frozenset[str]
) -> tuple[dict[str, str], tuple[str, ...]]:
    """Return the arguments with those that our own options add, and notes on ineffective options.

    Args:
        cfg: The run's options.
        arguments: The user's model arguments, which win.
        taken: The parameters that the class takes; empty if they are not known.

    Raises:
        EasiError: For a revision that the class would silently ignore.
    """
    if "revision" in arguments and taken and "revision" not in taken:
        raise EasiError(
            f"lmms-eval's type {cfg.model} takes no revision",
            hint="download that revision and give its folder",
        )
    own: dict[str, str] = {}
    notes: tuple[str, ...] = ()
    # The default of device_map places weights, and then inputs, on a GPU.
    if cfg.device == "cpu" and "device_map" in taken:
        own["device_map"] = "cpu"
    if cfg.trust_remote_code and "trust_remote_code" in taken:
        own["trust_remote_code"] = "True"
    elif cfg.trust_remote_code:
        notes = (
            f"--trust-remote-code has no effect: lmms-eval's type {cfg.model} does not take it",
        )
    return {**own, **arguments}, notes
