"""VLMEvalKit: how it is launched, which of its classes runs a model, where it leaves its files."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..answering.driver import model_option
from ..benchmarks import Benchmark
from ..config import RunConfig
from ..data.needs import HubSettings, Need
from ..errors import EasiError
from ..execution import launchers
from ..execution.jobs import Job
from ..model import ModelChoice
from ..nearest import did_you_mean
from ..results.outputs import Outputs
from ..state import RunPaths, sanitise
from . import catalog, common
from .families import FAMILIES, family_settings
from .kinds import KINDS
from .signatures import parameters

if TYPE_CHECKING:
    import pandas as pd

    from ..results.scores import Reading

KIND = KINDS["vlmevalkit"]
RUN_PY = common.REPOSITORY / KIND.folder / "run.py"
RULES = "exact_matching"
JUDGES_BY_RULES = (RULES, "extract_matching")
GENERIC = "EasiVLM"


class VLMEvalKit:
    """The default backend, through ``VLMEvalKit/run.py``."""

    name = KIND.name
    payload_name = "vlmevalkit"
    package = KIND.package

    def __init__(self, hub: HubSettings) -> None:
        self.hub = hub

    def version(self, cfg: RunConfig) -> str:
        return catalog.locate(KIND, cfg.backend_path).version

    def check(self, cfg: RunConfig) -> None:
        catalog.locate(KIND, cfg.backend_path)
        if not RUN_PY.is_file():
            raise EasiError(f"{RUN_PY} is not there", hint="run this program from its repository, installed by scripts/setup.sh")
        if cfg.judge not in (None, *JUDGES_BY_RULES) and not os.environ.get("OPENAI_API_KEY"):
            raise EasiError(f"--judge {cfg.judge} needs OPENAI_API_KEY; without it VLMEvalKit would silently score by rules",
                            hint=f"set OPENAI_API_KEY and OPENAI_API_BASE in the environment or in .env, or use --judge {RULES}")
        if os.environ.get("SPLIT_THINK"):
            raise EasiError("SPLIT_THINK is set: VLMEvalKit's own loop would cut answers with it, ours would not",
                            hint="unset SPLIT_THINK")

    def resolve(self, cfg: RunConfig) -> ModelChoice:
        """The registry's name, else its entry for this hub id, else the family's class, else the generic class."""
        package = catalog.locate(KIND, cfg.backend_path)
        model = self._choose(cfg, catalog.vlmeval_entries(package))
        revision = str(model.arguments.get("revision", ""))
        if revision and model.cls not in ("", GENERIC) and "revision" not in parameters(package, f"{KIND.package}.vlm.{model.cls}"):
            raise EasiError(f"VLMEvalKit's {model.cls} takes no revision", hint="download that revision and give its folder as --model")
        notes = model.notes
        if model.cls != GENERIC and not model.served and importlib.util.find_spec("flash_attn") is None:
            notes += ("flash-attn is not installed: what asks for flash_attention_2 is loaded with sdpa",)
        return replace(model, revision=common.revision([model.path], revision), notes=notes)

    def _choose(self, cfg: RunConfig, entries: Mapping[str, catalog.Entry]) -> ModelChoice:
        arguments: dict[str, object] = {key: value if key == "revision" else common.literal(value) for key, value in cfg.model_arguments.items()}
        if cfg.device == "cpu":
            if Path(cfg.model).expanduser().is_dir():
                common.model_type(cfg.model, self.hub)      # refuses a folder that holds no model
            return self._generic(cfg, arguments, "VLMEvalKit's own classes need a GPU, and --device cpu was asked for")
        if cfg.model in entries:
            return _entry(entries[cfg.model], arguments, "it is a name of VLMEvalKit's registry")
        using = {name: entry for name, entry in entries.items() if entry.model_path == cfg.model}
        if using:
            wanted = cfg.model.rsplit("/", 1)[-1]
            if wanted not in using and len(using) > 1:
                raise EasiError(f"VLMEvalKit has {len(using)} entries for {cfg.model}", hint=f"name one: {', '.join(using)}")
            chosen = using.get(wanted) or next(iter(using.values()))
            others = [name for name in using if name != chosen.name]
            why = "its entry for this hub id" + (f" (others: {', '.join(others)})" if others else "")
            return _entry(chosen, arguments, why)
        family = common.model_type(cfg.model, self.hub)
        if family in FAMILIES:
            return _of_family(cfg.model, family, entries, arguments)
        if family is None and "/" not in cfg.model and not Path(cfg.model).exists():
            raise EasiError(f"--model {cfg.model} is no name of VLMEvalKit's registry, no folder and no hub id",
                            hint=did_you_mean(cfg.model, list(entries), "write org/model, or a folder"))
        return self._generic(cfg, arguments, f"VLMEvalKit has no class for model_type {family}")

    def _generic(self, cfg: RunConfig, arguments: dict[str, object], why: str) -> ModelChoice:
        device = common.other_device(cfg)
        own: dict[str, object] = {"device": device} if device else {}
        if cfg.trust_remote_code:
            own["trust_remote_code"] = True
        return ModelChoice(common.model_name(cfg.model), common.model_path(cfg.model), GENERIC, why,
                           arguments={**own, **arguments}, needs_gpu=cfg.device != "cpu")

    def settings(self, cfg: RunConfig, bench: Benchmark) -> dict[str, object]:
        return {"task": bench.source(self.name).task, "judge": cfg.judge or RULES}

    def needs(self, cfg: RunConfig, bench: Benchmark) -> list[Need]:
        from ..datasets import vlmevalkit_needs

        return vlmevalkit_needs(bench, cfg.dataset_dir.absolute())

    def weights(self, model: ModelChoice) -> list[Need]:
        return [common.weights_need(model.path, model.revision)] if common.is_hub_id(model.path) and not model.served else []

    def localise(self, model: ModelChoice, repo: str, path: Path) -> ModelChoice:
        inside = {"model_path": str(path)} if model.entry else {}
        return replace(model, path=str(path), arguments={**model.arguments, **inside})

    def answer_job(self, cfg: RunConfig, model: ModelChoice, todo: Sequence[Benchmark], paths: RunPaths, port: int) -> Job:
        argv = [*self._command(cfg, model, todo), "--easi-run", str(paths.root), *model_option(model)]
        launched = launchers.torchrun(cfg.nproc, port, argv) if cfg.nproc > 1 else launchers.plain(argv)
        return Job("answer", launched, env={**self._environment(cfg), **common.answering(cfg)})

    def score_job(self, cfg: RunConfig, model: ModelChoice, todo: Sequence[Benchmark], paths: RunPaths) -> Job:
        argv = [*self._command(cfg, model, todo), "--easi-run", str(paths.root), "--easi-role", "score"]
        return Job("score", launchers.plain(argv), env={**self._environment(cfg), **common.NO_GPU})

    def plain_job(self, cfg: RunConfig, model: ModelChoice, bench: Benchmark, folder: Path, port: int) -> Job:
        argv = [*self._command(cfg, model, [bench]), "--work-dir", str(folder), "--mode", "all", *model_option(model)]
        launched = launchers.torchrun(cfg.nproc, port, argv) if cfg.nproc > 1 else launchers.plain(argv)
        return Job(f"plain {bench.key}", launched, env=self._environment(cfg))

    def _command(self, cfg: RunConfig, model: ModelChoice, todo: Sequence[Benchmark]) -> list[str]:
        limit = ["--limit", str(cfg.limit)] if cfg.limit else []
        verbose = ["--verbose"] if cfg.verbose else []
        return [str(RUN_PY), "--data", *(bench.source(self.name).task for bench in todo), "--model", file_name(model),
                "--judge", cfg.judge or RULES, *limit, *verbose, *cfg.backend_args]

    def _environment(self, cfg: RunConfig) -> dict[str, str]:
        package = catalog.locate(KIND, cfg.backend_path)
        return {
            **common.environment(self.hub, package),
            "LMUData": str(cfg.dataset_dir.absolute()),
            # The package's default is another hub, whose client it does not even require.
            "VLMEVALKIT_USE_MODELSCOPE": "0",
        }

    def outputs(self, bench: Benchmark, folder: Path) -> Outputs:
        from ..results.readers import find_vlmevalkit_outputs

        return find_vlmevalkit_outputs(bench, folder)

    def rows(self, bench: Benchmark, out: Outputs) -> pd.DataFrame:
        from ..results.readers import read_vlmevalkit_rows

        return read_vlmevalkit_rows(bench, out)

    def read(self, bench: Benchmark, out: Outputs, rows: pd.DataFrame) -> Reading:
        from ..results.readers import read_vlmevalkit_scores

        return read_vlmevalkit_scores(bench, out, rows)

    def total(self, cfg: RunConfig, bench: Benchmark, out: Outputs) -> int:
        from ..results.readers import tsv_rows

        data = bench.source(self.name).data
        return tsv_rows(cfg.dataset_dir / (data.tsv_local or data.tsv))


def _entry(entry: catalog.Entry, arguments: dict[str, object], why: str) -> ModelChoice:
    own = {key: value for key, value in entry.kwargs.items() if key != "model_path"}
    path = str(arguments.get("model_path") or entry.model_path or entry.name)
    if "model_path" in arguments:
        arguments = {**arguments, "model_path": common.model_path(path)}
    return ModelChoice(common.model_name(path), common.model_path(path), entry.cls, why, entry=entry.name,
                       arguments={**own, **arguments}, needs_gpu=not entry.api, served=entry.api)


def _of_family(model: str, model_type: str, entries: Mapping[str, catalog.Entry], arguments: dict[str, object]) -> ModelChoice:
    """The family's class with the settings of its entry named most like the model; the user's arguments win."""
    family, name = FAMILIES[model_type], common.model_name(model)
    found = family_settings(family, name.rpartition("/")[2], entries.values())
    lacking = [key for key in family.required if key not in arguments]
    if found is None and lacking:
        raise EasiError(f"VLMEvalKit has no entry with settings for {name} (model_type {model_type}, class {family.cls})",
                        hint=f"give them yourself: --model-args {','.join(f'{key}=...' for key in lacking)}")
    why = f"its config.json says model_type {model_type}"
    if found is not None:
        why += f"; settings of VLMEvalKit's entry {found.source}" + "".join(f", without its {key}" for key in found.dropped)
    return ModelChoice(name, common.model_path(model), family.cls, why, arguments={**(found.arguments if found else {}), **arguments})


def file_name(model: ModelChoice) -> str:
    """The name VLMEvalKit's files carry; a slash in it would break them."""
    return sanitise(model.name.rstrip("/").rsplit("/", 1)[-1])
