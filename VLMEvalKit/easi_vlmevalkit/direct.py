"""VLMEvalKit's own command line, with EASI's model resolution and data.

The loop is ``vlmeval.run`` with the patches of ``patches``.
"""

from __future__ import annotations

import argparse
import logging
import os
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from easi_eval.backends.shared import catalog
from easi_eval.backends.vlmevalkit.backend import VLMEvalKit
from easi_eval.backends.vlmevalkit.judge_endpoint import endpoint, model_name, probe
from easi_eval.backends.vlmevalkit.launcher import file_name
from easi_eval.benchmarks import BENCHMARKS, VLMEVALKIT
from easi_eval.config import RULES, RunConfig
from easi_eval.core.backend_facts import BACKEND_FACTS
from easi_eval.core.env_files import load_env_files
from easi_eval.core.errors import EasiError
from easi_eval.core.locks import file_lock
from easi_eval.core.model import ModelChoice
from easi_eval.core.places import REPOSITORY
from easi_eval.core.redact import Redactor
from easi_eval.core.run_folder import sanitise
from easi_eval.core.suggest import nearest
from easi_eval.data.benchmark_needs import vlmevalkit_needs
from easi_eval.data.needs import HubSettings
from easi_eval.display.plain import PlainDisplay
from easi_eval.engine.processes.gpus import SETUP, probe_machine
from easi_eval.scores.judging import BY_RULES

from . import patches
from .outcomes import Outcomes

PROJECT = Path(__file__).resolve().parents[1]
WORK_DIR = "--work-dir"
MODELSCOPE = "VLMEVALKIT_USE_MODELSCOPE"


@dataclass(frozen=True)
class DirectOptions:
    """The options of VLMEvalKit's command line that matter before the package is imported."""

    data: tuple[str, ...]
    models: tuple[str, ...]
    config: bool  # models and datasets stand in a file
    by_name: bool  # the models are names of a registry, not those of a server
    work_dir: bool
    judge: str | None
    judge_at: tuple[str | None, str | None]  # address and key, if they were given
    judges: bool  # there will be something to judge
    help: bool

    @classmethod
    def of(cls, argv: Sequence[str]) -> DirectOptions:
        """Read the options from ``argv``; unknown ones are left to VLMEvalKit."""
        own = argparse.ArgumentParser(add_help=False, allow_abbrev=False)  # --mode is not --model
        own.add_argument("--data", nargs="+", default=[])
        own.add_argument("--model", nargs="+", default=[])
        own.add_argument(WORK_DIR)
        own.add_argument("--config")
        own.add_argument("--base-url")
        own.add_argument("--mode")
        own.add_argument("--judge")
        own.add_argument("--judge-base-url")
        own.add_argument("--judge-key")
        own.add_argument("--help", "-h", action="store_true")
        known = own.parse_known_args(argv)[0]
        return cls(
            tuple(known.data),
            tuple(known.model),
            bool(known.config),
            not known.base_url,
            known.work_dir is not None,
            known.judge,
            (known.judge_base_url, known.judge_key),
            known.mode != "infer",
            known.help,
        )


def run_directly(planned: ModelChoice | None, argv: list[str]) -> int:
    """Run VLMEvalKit's own command line.

    Args:
        planned: A model that a plan of EASI has resolved; its files are named as ``--model`` says.
            None: the models are resolved here.
        argv: The command line.

    Returns:
        The exit code: 1 if any dataset failed.

    Raises:
        EasiError: The run would fail for a reason that is known before anything is loaded.
    """
    asked = DirectOptions.of(argv)
    load_env_files((Path.cwd(), PROJECT, REPOSITORY))
    prepare_environment(asked)
    if not asked.help and not asked.config and not (asked.data and asked.models):
        raise EasiError(
            "--data and --model are needed",
            hint="--data BLINK --model Qwen/Qwen2.5-VL-7B-Instruct, for example; "
            "--help lists the options",
        )
    models: dict[str, ModelChoice] = {}
    if planned is not None:
        models = {asked.models[0]: planned}
    elif not asked.help:
        check_data(asked.data)
        check_judge(asked)
        models = resolve_models(asked)
        fetch_data(asked.data)
    return _run(asked, models, planned is not None, argv)


def _run(
    asked: DirectOptions, models: Mapping[str, ModelChoice], resume: bool, argv: list[str]
) -> int:
    patches.apply()
    argv = patches.take_vsi_input(argv)
    run = patches.import_run()
    outcomes = Outcomes()
    patches.apply_to_run(run, outcomes, resume)
    sys.argv = ["run.py", *argv]
    args = run.parse_args()
    hide_secrets(args)
    names = {
        name: name if _names_files(name) else file_name(choice) for name, choice in models.items()
    }
    for name, choice in models.items():
        patches.register_model(choice, names[name])
    if args.base_url and not args.api_mode:
        patches.name_served_models(run, args)
    elif args.model:
        args.model = [names.get(name, name) for name in args.model]
    if args.config:
        patches.offer_own_classes(args.config)
    patches.refuse_missing_weights(args.model or ())
    if asked.judge is not None:
        args.judge = sanitise(asked.judge)
        if asked.judges and _first_rank():  # only rank 0 scores
            folder = Path(os.environ.get("MMEVAL_ROOT") or args.work_dir)
            patches.settle_judges(run, patches.ask_judge(folder, asked.judge))
    run.run_task(args)
    return outcomes.exit_code(args.model, args.data)


def _names_files(name: str) -> bool:
    """Return whether files can carry this name; hub ids and folder paths hold slashes."""
    return re.fullmatch(r"[\w.-]+", name) is not None and not Path(name).is_dir()


def prepare_environment(asked: DirectOptions) -> None:
    """Set the variables that VLMEvalKit reads at import, and report what they change silently."""
    # VLMEvalKit's default hub, ModelScope, needs a client that it does not require.
    os.environ.setdefault(MODELSCOPE, "0")
    # VLMEvalKit uses ~/LMUData instead of a folder that does not exist.
    if folder := os.environ.get("LMUData"):  # noqa: SIM112 -- its name in VLMEvalKit
        Path(folder).expanduser().mkdir(parents=True, exist_ok=True)
    root = os.environ.get("MMEVAL_ROOT")
    if root and asked.work_dir:
        say(f"MMEVAL_ROOT ({root}) is ignored: {WORK_DIR} was given")
        del os.environ["MMEVAL_ROOT"]
    elif root:
        say(f"results go to {root}: MMEVAL_ROOT is set")


def hide_secrets(args: argparse.Namespace) -> None:
    """Remove keys from log records and from ``sys.argv``.

    VLMEvalKit logs the keys of judges and served models, also to a file, and writes its command
    line into ``status.json``.
    """
    redactor = Redactor.from_environ(
        {**os.environ, "KEY": args.key or "", "JUDGE_KEY": args.judge_key or ""}
    )

    class Record(logging.LogRecord):
        def getMessage(self) -> str:
            return redactor.line(super().getMessage())

    logging.setLogRecordFactory(Record)
    sys.argv = [redactor.line(word) for word in sys.argv]


def check_judge(asked: DirectOptions) -> None:
    """Raise EasiError for a judge that cannot be asked.

    VLMEvalKit would score by rules instead, and its files would not say so.
    """
    if not asked.judges:
        return
    if asked.judge is None:
        say(f"no --judge was given: EASI's datasets are scored by rules ({RULES})")
    elif asked.judge not in BY_RULES:
        for name, value in zip(("OPENAI_API_BASE", "OPENAI_API_KEY"), asked.judge_at, strict=True):
            if value:
                os.environ[name] = value
        where = endpoint()
        if _first_rank():
            probe(where, model_name(catalog.locate(BACKEND_FACTS[VLMEVALKIT]).root, asked.judge))


def resolve_models(asked: DirectOptions) -> dict[str, ModelChoice]:
    """Resolve the models that are not in VLMEvalKit's own registry, as ``run_easi_eval.py`` does.

    Returns:
        The choice by name; empty for served models (``--base-url``).
    """
    if not asked.by_name:
        return {}
    entries = catalog.vlmeval_entries(catalog.locate(BACKEND_FACTS[VLMEVALKIT]))
    backend = VLMEvalKit(HubSettings.from_env())
    chosen = {}
    for name in dict.fromkeys(asked.models):
        cfg = RunConfig(model=name)
        choice = backend.resolve(cfg)
        backend.ready(cfg, choice)
        check_gpu(name, choice)
        if name not in entries:
            chosen[name] = choice
            say(f"{name}: {choice.entry or choice.cls} ({choice.why})")
        for note in choice.notes:
            say(note)
    return chosen


def check_data(tasks: Sequence[str]) -> None:
    """Raise EasiError for a dataset that the package's sources do not name but nearly do.

    Names may be composed in the code or belong to a table of the user's, so others are left to
    VLMEvalKit.
    """
    of_easi = [bench.source(VLMEVALKIT).task for bench in BENCHMARKS]
    own = Path(os.environ.get("LMUData") or "~/LMUData").expanduser()  # noqa: SIM112 -- as above
    other = [task for task in tasks if task not in of_easi and not (own / f"{task}.tsv").is_file()]
    if not other:
        return
    known = {
        name
        for path in (catalog.locate(BACKEND_FACTS[VLMEVALKIT]).root / "dataset").rglob("*.py")
        for name in re.findall(r"""['"]([\w.-]{3,60})['"]""", path.read_text(encoding="utf-8"))
    }
    for task in other:
        near = nearest(task, of_easi, cutoff=0.8) or nearest(task, known, cutoff=0.8)
        if task not in known and near:
            raise EasiError(
                f"--data {task}: VLMEvalKit has no such dataset",
                hint=f"did you mean {' or '.join(near)}?",
            )


def check_gpu(name: str, choice: ModelChoice) -> None:
    """Raise EasiError for a class of VLMEvalKit's on a machine without an NVIDIA driver.

    Such classes fail while they load the model, some without a message. A class of the user's own
    may run anywhere.
    """
    if not choice.needs_gpu or choice.source or probe_machine().visible:
        return
    if shutil.which("nvidia-smi") is None:
        raise EasiError(
            f"no GPU is visible, and {choice.cls} needs one",
            hint=f"check with {SETUP} --check, or run on the CPU (slow): easi-eval --model {name} "
            "--device cpu",
        )


def fetch_data(tasks: Sequence[str]) -> None:
    """Fetch EASI's datasets among ``tasks`` from the hub and check them against its checksums.

    Other datasets are left to VLMEvalKit, and all of them if ModelScope is chosen.
    """
    if os.environ[MODELSCOPE].lower() in ("1", "true"):
        return
    place = os.environ.get("LMUData") or "~/LMUData"  # noqa: SIM112 -- as above
    folder = Path(place).expanduser().absolute()
    wanted = [
        bench
        for bench in BENCHMARKS
        if VLMEVALKIT in bench.sources and bench.source(VLMEVALKIT).task in tasks
    ]
    needs = [need for bench in wanted for need in vlmevalkit_needs(bench, folder)]
    if not needs:
        return
    from easi_eval.data.fetch import fetch  # loads the hub's client

    folder.mkdir(parents=True, exist_ok=True)
    # The ranks of torchrun fetch one after the other.
    with file_lock(folder / ".easi.lock"), PlainDisplay(sys.stdout) as display:
        fetch(needs, display.on if _first_rank() else lambda event: None, HubSettings.from_env())


def _first_rank() -> bool:
    return int(os.environ.get("RANK") or 0) == 0


def say(line: str) -> None:
    """Print a line on rank 0 only."""
    if _first_rank():
        print(line, flush=True)
