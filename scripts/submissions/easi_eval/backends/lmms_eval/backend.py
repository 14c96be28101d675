"""lmms-eval as a backend: its checks, and the model that runs."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from ...config import RunConfig
from ...core.errors import EasiError
from ...core.locks import lacks_locks
from ...core.model import ModelChoice
from ...data.needs import Need
from ..shared import (
    adapters,
    catalog,
    class_fits,
    launch_env,
    model_files,
    model_paths,
    parsers,
    quantised,
    served_model,
)
from ..shared.profile_choice import with_profile
from . import FACTS
from .class_checks import BASE_KEYS, OTHER_ENGINES, check_engine, engine_of
from .command_line import check_words, parser
from .launcher import LmmsEvalLauncher
from .reader import LmmsEvalReader
from .resolve import ADAPTER_KEYS, GENERIC, WEIGHT_KEYS, choose, class_sources

SERVED = "easi_served"
SERVED_SAID = (
    "max_new_tokens, temperature and top_p of each task, else max_tokens=1024, temperature=0"
)


class LmmsEval(LmmsEvalLauncher, LmmsEvalReader):
    """The lmms-eval backend."""

    def version(self, cfg: RunConfig) -> str:
        """Return the version of the lmms-eval that the run uses."""
        return catalog.locate(FACTS, cfg.backend_path).version

    def check(self, cfg: RunConfig) -> None:
        """Refuse an unknown model type, and arguments after ``--`` that would fail or do nothing.

        Raises:
            EasiError: Says what is wrong and what to do.
        """
        known = catalog.lmms_models(catalog.locate(FACTS, cfg.backend_path))
        if cfg.base_url:  # then the name is the servers'
            check_words(cfg)
            return
        # With ``unread`` the name may be that of a plug-in whose names are known only on import.
        if not known.unread:
            if cfg.model not in known.models and (
                model_paths.is_hub_id(cfg.model) or "/" in cfg.model
            ):
                raise EasiError(
                    f"--model {cfg.model}: lmms-eval wants a model type here, not a checkpoint",
                    hint=f"--model TYPE --model-args pretrained={cfg.model}, for example --model "
                    "qwen2_5_vl; `lmms-eval models` lists the types",
                )
            catalog.check_known("--model", cfg.model, known.models, "`lmms-eval models` lists them")
        check_words(cfg)

    def offers(self, name: str) -> str:
        """Return a hint how to run ``name`` as a model type; "" if it is none."""
        if name not in catalog.lmms_models(catalog.locate(FACTS)).models:
            return ""
        return (
            f"{name} is a model type of lmms-eval: --backend {FACTS.name} --model {name} "
            "--model-args pretrained=org/model"
        )

    def own_options(self) -> list[str]:
        """Return the options of lmms-eval's own command line."""
        return parsers.options_of(parser())

    def ready(self, cfg: RunConfig, model: ModelChoice) -> None:
        """Refuse a model whose engine, quantisation library or processor is missing or unfit.

        Raises:
            EasiError: Also if ``--plain`` would keep its data on a file system without file locks.
        """
        if cfg.base_url:
            served_model.check_ready(cfg)
            return
        engine = engine_of(cfg)
        check_engine(cfg, engine)
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
            class_fits.check_processor(model, class_sources(cfg))

    def resolve(self, cfg: RunConfig) -> ModelChoice:
        """Return the model, see ``resolve.choose``, with what its checkpoints refer to.

        Raises:
            EasiError: If an argument is unknown, no checkpoint is named, or a path does not exist.
        """
        if cfg.base_url:
            model = served_model.choose(cfg, SERVED, {}, SERVED_SAID)
            return replace(model, arguments={"model": cfg.model, **model.arguments})
        classes = class_sources(cfg)
        model = choose(cfg, classes, self.hub)
        otherwise = f"--model {GENERIC} --model-args pretrained={model.path}"
        model = with_profile(cfg, model, classes, self.hub, otherwise)
        if any(key in model.arguments for key in ADAPTER_KEYS):  # the base is an argument
            return model
        model = adapters.with_references(model, self.hub)
        adapters.check_adapter(model, classes)
        return model

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
        base = [model_files.weights_need(model.base)] if model_paths.is_hub_id(model.base) else []
        return [
            *(
                model_files.weights_need(repo, revisions[key])
                for key, repo in named.items()
                if model_paths.is_hub_id(repo)
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
