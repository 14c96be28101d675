"""VLMEvalKit as a backend: its checks, and the model that runs."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from ...config import RunConfig
from ...core.errors import EasiError
from ...core.model import ModelChoice
from ...data.needs import HubSettings, Need
from ...scores import judging
from ..shared import (
    adapters,
    catalog,
    class_fits,
    model_files,
    model_paths,
    parsers,
    quantised,
    served_model,
)
from ..shared.profile_choice import with_profile
from . import FACTS, class_checks, class_code, class_notes, own_classes
from .command_line import RUN_PY, check_words, parser
from .launcher import VLMEvalKitLauncher
from .reader import VLMEvalKitReader
from .registered import ResolutionInput
from .resolve import GENERIC, choose, class_sources

SERVED = "EasiServed"
# As VLMEvalKit's own client of OpenAI-compatible servers.
SERVED_SAMPLING = {"max_tokens": 2048, "temperature": 0}
SERVED_SAID = "max_tokens=2048, temperature=0 (VLMEvalKit's for served models, for all benchmarks)"


class VLMEvalKit(VLMEvalKitLauncher, VLMEvalKitReader):
    """The default backend."""

    def __init__(self, hub: HubSettings, own_folder: Path | None = None) -> None:
        super().__init__(hub)
        self.own_folder = own_folder or own_classes.folder()

    def version(self, cfg: RunConfig) -> str:
        """Return the version of the VLMEvalKit that the run uses."""
        return catalog.locate(FACTS, cfg.backend_path).version

    def check(self, cfg: RunConfig) -> None:
        """Refuse a missing ``run.py``, unusable judge settings, and arguments that do nothing.

        Raises:
            EasiError: Says what is wrong and what to do.
        """
        catalog.locate(FACTS, cfg.backend_path)
        if not RUN_PY.is_file():
            raise EasiError(
                f"{RUN_PY} does not exist",
                hint="run this program from its repository, installed by scripts/setup.sh",
            )
        judging.check(cfg, os.environ)
        if os.environ.get("SPLIT_THINK"):
            raise EasiError(
                "SPLIT_THINK is set: it changes answers in VLMEvalKit's own loop only",
                hint="unset SPLIT_THINK",
            )
        check_words(cfg)

    def offers(self, name: str) -> str:
        """Return a hint how to run an entry of the registry; "" if ``name`` is none."""
        if name not in catalog.vlmeval_entries(catalog.locate(FACTS)):
            return ""
        return (
            f"{name} is a name of VLMEvalKit's registry: leave out --backend, or name "
            "lmms-eval's model type and its checkpoint"
        )

    def own_options(self) -> list[str]:
        """Return the options of VLMEvalKit's own command line."""
        return parsers.options_of(parser())

    def resolve(self, cfg: RunConfig) -> ModelChoice:
        """Return the model, see ``resolve.choose``, with the notes on its class.

        Raises:
            EasiError: If no class fits, several fit, or the chosen one would fail.
        """
        if cfg.base_url:
            return served_model.choose(cfg, SERVED, SERVED_SAMPLING, SERVED_SAID)
        package = self._located(cfg)
        model = choose(ResolutionInput(cfg, package, catalog.vlmeval_entries(package), self.hub))
        classes = class_sources(package, model)
        class_checks.check(cfg, model, classes)
        said = class_notes.notes(cfg, model, classes, generic=model.cls == GENERIC)
        engine = "" if model.served else class_code.engine(classes, model.arguments)[0]
        model = adapters.with_references(replace(model, engine=engine), self.hub)
        adapters.check_adapter(model, classes)
        model = replace(
            model,
            revision=model_files.revision([model.path], str(model.arguments.get("revision", ""))),
            notes=(*model.notes, *said),
        )
        return with_profile(
            cfg,
            model,
            classes,
            self.hub,
            f"--model {model.path} (without model_path) runs it with a class that can"
            if model.entry
            else f"--backend lmms-eval --model easi_vlm --model-args pretrained={model.path}",
        )

    def ready(self, cfg: RunConfig, model: ModelChoice) -> None:
        """Refuse a model whose key, engine, server, quantisation library or processor is missing.

        Raises:
            EasiError: Says what is missing.
        """
        if cfg.base_url:
            served_model.check_ready(cfg)
            return
        classes = class_sources(self._located(cfg), model)
        class_checks.check_ready(cfg, model, classes)
        # A class of the user's own (``source``) may load a quantised checkpoint in its own way.
        if classes and not (
            model.served or model.source or class_code.engine(classes, model.arguments)[0]
        ):
            quantised.check(cfg, model, [model.path], self.hub)
            class_fits.check_processor(model, classes)

    def _located(self, cfg: RunConfig) -> catalog.Package:
        return replace(catalog.locate(FACTS, cfg.backend_path), own=self.own_folder)

    def weights(self, model: ModelChoice) -> list[Need]:
        """Return the checkpoints of the hub that the model reads, including an adapter's base."""
        if model.served:
            return []
        base = [model_files.weights_need(model.base)] if model_paths.is_hub_id(model.base) else []
        return [
            *(
                [model_files.weights_need(model.path, model.revision)]
                if model_paths.is_hub_id(model.path)
                else []
            ),
            *base,
        ]

    def localise(self, model: ModelChoice, repo: str, path: Path) -> ModelChoice:
        """Return the choice with the weights of ``repo`` in the folder ``path``."""
        model = adapters.with_base(model, repo, path)
        if repo != model.path:
            return model
        inside = {"model_path": str(path)} if model.entry or model.source else {}
        return replace(model, path=str(path), arguments={**model.arguments, **inside})
