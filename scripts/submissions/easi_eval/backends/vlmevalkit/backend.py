"""VLMEvalKit: how it is launched, which class runs a model, and where its files are."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...benchmarks import Benchmark, TsvData
from ...config import RULES, RunConfig
from ...core.backend_facts import BACKEND_FACTS
from ...core.errors import EasiError
from ...core.model import ModelChoice
from ...core.places import REPOSITORY
from ...core.run_folder import RunPaths, sanitise
from ...data.benchmark_needs import vlmevalkit_needs
from ...data.needs import HubSettings, Need
from ...engine.processes import launchers
from ...engine.processes.jobs import Job
from ...scores import judging
from ...scores.outputs import Outputs
from ..shared import adapters, catalog, launch_env, model_files, parsers, quantised
from . import class_checks, class_code, judge_endpoint, own_classes
from .resolve import GENERIC, ResolutionInput, choose, class_sources

if TYPE_CHECKING:
    import pandas as pd

    from ...scores.scores import BenchmarkScore, Reading

KIND = BACKEND_FACTS["vlmevalkit"]
# Variables that choose VLMEvalKit's file formats. Runs of this program remove them and use
# the defaults; with EVAL_FORMAT=json, VLMEvalKit even writes tab-separated text into *.json.
FILE_FORMATS = ("PRED_FORMAT", "EVAL_FORMAT")
RUN_PY = REPOSITORY / KIND.folder / "run.py"
DRIVER = REPOSITORY / KIND.folder / "easi_vlmevalkit" / "__main__.py"
# Options of VLMEvalKit's command line that this program sets, and its own option to use instead.
OURS = {
    "data": "--benchmarks",
    "model": "--model",
    "config": "--model and --benchmarks",
    "work_dir": "--output-dir",
    "mode": "--model, a whole run",
    "limit": "--limit",
    "judge": "--judge",
    "nproc": "--nproc",
    "vsi_input": "--vsi-input",
    "judge_base_url": "OPENAI_API_BASE in the environment",
    "judge_key": "OPENAI_API_KEY in the environment",
}
OWN_LOOP = "it belongs to VLMEvalKit's own loop, which --plain runs"


class VLMEvalKit:
    """The default backend, launched through ``VLMEvalKit/run.py``."""

    name = KIND.name
    payload_name = "vlmevalkit"
    package = KIND.package

    def __init__(self, hub: HubSettings, own_folder: Path | None = None) -> None:
        self.hub = hub
        self.own_folder = own_folder or own_classes.folder()

    def version(self, cfg: RunConfig) -> str:
        """Return the version of the VLMEvalKit that the run uses."""
        return catalog.locate(KIND, cfg.backend_path).version

    def check(self, cfg: RunConfig) -> None:
        """Refuse a missing ``run.py``, unusable judge settings, and arguments that do nothing.

        Raises:
            EasiError: Says what is wrong and what to do.
        """
        catalog.locate(KIND, cfg.backend_path)
        if not RUN_PY.is_file():
            raise EasiError(
                f"{RUN_PY} is not there",
                hint="run this program from its repository, installed by scripts/setup.sh",
            )
        judging.check(cfg, os.environ)
        if os.environ.get("SPLIT_THINK"):
            raise EasiError(
                "SPLIT_THINK is set: VLMEvalKit's own loop would cut answers with it, ours "
                "would not",
                hint="unset SPLIT_THINK",
            )
        self._check_words(cfg)

    def offers(self, name: str) -> str:
        """Return a hint how to run an entry of the registry; "" if ``name`` is none."""
        if name not in catalog.vlmeval_entries(catalog.locate(KIND)):
            return ""
        return (
            f"{name} is a name of VLMEvalKit's registry: leave out --backend, or name "
            "lmms-eval's model type and its checkpoint"
        )

    def own_options(self) -> list[str]:
        """Return the options of VLMEvalKit's own command line."""
        return parsers.options_of(_parser())

    def _check_words(self, cfg: RunConfig) -> None:
        """Refuse arguments after ``--`` that would fail late or do nothing."""
        if not cfg.backend_args:
            return
        known = _parser(cfg.backend_path)
        used = {
            action.dest for action in parsers.read_parser(DRIVER, "parser", "VLMEvalKit")._actions
        }
        unused = (
            {}
            if cfg.plain
            else {action.dest: OWN_LOOP for action in known._actions if action.dest not in used}
        )
        parsers.check_words(cfg.backend_args, known, OURS, unused)

    def resolve(self, cfg: RunConfig) -> ModelChoice:
        """Return the model, see ``resolution.choose``, with the notes on its class.

        Raises:
            EasiError: If no class fits, several fit, or the chosen one would fail.
        """
        package = self._located(cfg)
        model = choose(ResolutionInput(cfg, package, catalog.vlmeval_entries(package), self.hub))
        classes = class_sources(package, model)
        class_checks.check(cfg, model, classes)
        said = class_checks.notes(cfg, model, classes, generic=model.cls == GENERIC)
        engine = "" if model.served else class_code.engine(classes, model.arguments)[0]
        model = adapters.with_references(replace(model, engine=engine), self.hub)
        adapters.check_adapter(model, classes)
        return replace(
            model,
            revision=model_files.revision([model.path], str(model.arguments.get("revision", ""))),
            notes=(*model.notes, *said),
        )

    def ready(self, cfg: RunConfig, model: ModelChoice) -> None:
        """Refuse a model whose key, engine or quantisation library is missing.

        Raises:
            EasiError: Says what is missing.
        """
        classes = class_sources(self._located(cfg), model)
        class_checks.check_ready(cfg, model, classes)
        # A class of the user's own (``source``) may load a quantised checkpoint in its own way.
        if classes and not (
            model.served or model.source or class_code.engine(classes, model.arguments)[0]
        ):
            quantised.check(cfg, model, [model.path], self.hub)

    def _located(self, cfg: RunConfig) -> catalog.Package:
        return replace(catalog.locate(KIND, cfg.backend_path), own=self.own_folder)

    def settings(self, cfg: RunConfig, bench: Benchmark) -> dict[str, object]:
        """Return the task, the judge's settings and how VSI-Bench is shown."""
        frames = (
            {"--vsi-input": "frames"}
            if cfg.vsi_input == "frames" and bench.key in class_checks.VSI
            else {}
        )
        return {"task": bench.source(self.name).task, **judging.settings(cfg, os.environ), **frames}

    def needs(self, cfg: RunConfig, bench: Benchmark) -> list[Need]:
        """Return the data this benchmark reads."""
        return vlmevalkit_needs(bench, cfg.dataset_dir.absolute())

    def weights(self, model: ModelChoice) -> list[Need]:
        """Return the checkpoints of the hub that the model reads, including an adapter's base."""
        if model.served:
            return []
        base = [model_files.weights_need(model.base)] if model_files.is_hub_id(model.base) else []
        return [
            *(
                [model_files.weights_need(model.path, model.revision)]
                if model_files.is_hub_id(model.path)
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
        launched = (
            launchers.torchrun(cfg.nproc, port, argv) if cfg.nproc > 1 else launchers.plain(argv)
        )
        return Job(
            "answer",
            launched,
            env={**self._environment(cfg), **launch_env.answering(cfg, cfg.nproc)},
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
        launched = (
            launchers.torchrun(cfg.nproc, port, argv) if cfg.nproc > 1 else launchers.plain(argv)
        )
        return Job(
            f"plain {bench.key}",
            launched,
            env={**self._environment(cfg), **launch_env.threads(cfg.nproc)},
        )

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
        package = catalog.locate(KIND, cfg.backend_path)
        return {
            **launch_env.environment(self.hub, package),
            "LMUData": str(cfg.dataset_dir.absolute()),
            # The package's default is another hub, whose client is not among its requirements.
            "VLMEVALKIT_USE_MODELSCOPE": "0",
            **dict.fromkeys(FILE_FORMATS, ""),
        }

    def judge_model(self, cfg: RunConfig, judge: str) -> str:
        """Return the model name that VLMEvalKit uses for this judge."""
        return judge_endpoint.model_name(catalog.locate(KIND, cfg.backend_path).root, judge)

    def outputs(self, bench: Benchmark, folder: Path, judge: str = "") -> Outputs:
        """Find the files of one benchmark in ``folder``, those made with ``judge``.

        Raises:
            EasiError: If a file is missing, or VLMEvalKit read answers by rules although a model
                was to judge.
        """
        from .result_files import find_vlmevalkit_outputs, read_by_rules

        found = find_vlmevalkit_outputs(bench, folder, sanitise(judge) if judge else "")
        if judge not in ("", *judging.BY_RULES) and (count := read_by_rules(bench, found)):
            raise EasiError(
                f"VLMEvalKit read {count} answers of {bench.title} by rules instead of asking "
                f"{judge}",
                hint="the log says why",
            )
        return found

    def rows(self, bench: Benchmark, out: Outputs) -> pd.DataFrame:
        """Return one row per question, with the columns of ``results.readers.ROW_COLUMNS``."""
        from .result_files import read_vlmevalkit_rows

        return read_vlmevalkit_rows(bench, out)

    def read(self, bench: Benchmark, out: Outputs, rows: pd.DataFrame) -> Reading:
        """Return headline score and sub-scores (0-100) from the aggregate files."""
        from .result_files import read_vlmevalkit_scores

        return read_vlmevalkit_scores(bench, out, rows)

    def told(
        self,
        cfg: RunConfig,
        bench: Benchmark,
        out: Outputs,
        rows: pd.DataFrame,
        score: BenchmarkScore,
        scorer_notes: Mapping[str, Any],
    ) -> BenchmarkScore:
        """Return ``score`` with notes on counted oddities of answers and scoring."""
        from .caveats import right_without_letter, standing_still

        changed = len(scorer_notes.get("lossy") or ())
        lossy = (
            f"{changed} of {len(rows)} answers are scored as they were given; VLMEvalKit's own "
            "xlsx would have changed them (empty, None, cut off ...)"
        )
        return replace(
            score,
            notes=(
                *score.notes,
                *filter(
                    None,
                    [lossy if changed else "", right_without_letter(rows), standing_still(rows)],
                ),
            ),
        )

    def total(self, cfg: RunConfig, bench: Benchmark, out: Outputs) -> int:
        """Return the dataset's number of rows."""
        from .result_files import tsv_rows

        data = bench.source(self.name).data
        assert isinstance(data, TsvData)
        return tsv_rows(cfg.dataset_dir / (data.tsv_local or data.tsv))


def _parser(backend_path: Path | None = None) -> argparse.ArgumentParser:
    """Return a parser with the options of VLMEvalKit's own command line."""
    return parsers.read_parser(
        catalog.locate(KIND, backend_path).root / "run.py", "parse_args", "VLMEvalKit"
    )


def file_name(model: ModelChoice) -> str:
    """Return the model's name in VLMEvalKit's file names; a slash in it would break them."""
    return sanitise(model.name.rstrip("/").rsplit("/", 1)[-1])
