"""VLMEvalKit's own command line: its loop, with our model resolution and data, and its traps closed."""

from __future__ import annotations

import argparse
import functools
import logging
import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from easi_eval.backends import catalog
from easi_eval.backends.common import REPOSITORY
from easi_eval.backends.kinds import KINDS
from easi_eval.backends.vlmevalkit import VLMEvalKit, file_name
from easi_eval.benchmarks import BENCHMARKS, VLMEVALKIT
from easi_eval.cli import load_env_files
from easi_eval.config import RunConfig
from easi_eval.datasets import HubSettings, fetch, vlmevalkit_needs
from easi_eval.display.plain import PlainDisplay
from easi_eval.errors import EasiError
from easi_eval.judging import BY_RULES, RULES
from easi_eval.judging.endpoint import endpoint, model_name, probe
from easi_eval.locks import file_lock
from easi_eval.model import ModelChoice
from easi_eval.redact import Redactor
from easi_eval.state import sanitise

PROJECT = Path(__file__).resolve().parents[1]
WORK_DIR = "--work-dir"
MODELSCOPE = "VLMEVALKIT_USE_MODELSCOPE"


@dataclass(frozen=True)
class Asked:
    """What of VLMEvalKit's command line concerns us before the package is loaded."""

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
    def of(cls, argv: Sequence[str]) -> Asked:
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
    """Carry out VLMEvalKit's own command line ``argv`` and return the exit code: 1 if any dataset failed.

    ``planned`` is a model that a plan of ours resolved; its files are named as ``--model`` says. Raises EasiError for
    what can be known to fail before anything is loaded.
    """
    asked = Asked.of(argv)
    load_env_files((Path.cwd(), PROJECT, REPOSITORY))
    prepare_environment(asked)
    if not asked.help and not asked.config and not (asked.data and asked.models):
        raise EasiError(
            "--data and --model are needed",
            hint="--data BLINK --model Qwen/Qwen2.5-VL-7B-Instruct, for example; --help lists the options",
        )
    models: dict[str, ModelChoice] = {}
    if planned is not None:
        models = {asked.models[0]: planned}
    elif not asked.help:
        check_judge(asked)
        models = resolve_models(asked)
        fetch_data(asked.data)
    return _run(asked, models, planned is not None, argv)


def _run(asked: Asked, models: Mapping[str, ModelChoice], resume: bool, argv: list[str]) -> int:
    from . import judge, shims, stock_loop

    shims.apply()
    argv = shims.take_vsi_input(argv)
    run = stock_loop.import_run()
    outcomes = stock_loop.Outcomes()
    stock_loop.cure(run, outcomes, resume)
    sys.argv = ["run.py", *argv]
    args = run.parse_args()
    hide_secrets(args)
    names = {
        name: name if _names_files(name) else file_name(choice) for name, choice in models.items()
    }
    for name, choice in models.items():
        shims.register_model(choice, names[name])
    if args.base_url and not args.api_mode:
        stock_loop.name_served_models(run, args)
    elif args.model:
        args.model = [names.get(name, name) for name in args.model]
    if args.config:
        stock_loop.offer_own_classes(args.config)
    shims.watch_loading(args.model or ())
    if asked.judge is not None:
        args.judge = sanitise(asked.judge)
        if asked.judges and _first_rank():  # the one that scores
            judges = judge.attach(Path(os.environ.get("MMEVAL_ROOT") or args.work_dir), asked.judge)
            run.build_dataset = functools.partial(
                stock_loop.build_judged_dataset, run.build_dataset, judges
            )
    run.run_task(args)
    return outcomes.exit_code(args.model, args.data)


def _names_files(name: str) -> bool:
    """Whether files can be named so; a hub id and a folder's path have slashes."""
    return re.fullmatch(r"[\w.-]+", name) is not None and not Path(name).is_dir()


def prepare_environment(asked: Asked) -> None:
    """The variables that VLMEvalKit reads while it is imported, and what it would do silently because of them."""
    os.environ.setdefault(
        MODELSCOPE, "0"
    )  # its default hub needs a client that it does not even require
    if folder := os.environ.get("LMUData"):  # noqa: SIM112 -- its name in VLMEvalKit
        Path(folder).expanduser().mkdir(
            parents=True, exist_ok=True
        )  # a missing one is ignored for ~/LMUData
    root = os.environ.get("MMEVAL_ROOT")
    if root and asked.work_dir:
        say(f"MMEVAL_ROOT ({root}) is left alone: {WORK_DIR} was given")
        del os.environ["MMEVAL_ROOT"]
    elif root:
        say(f"results go to {root}: MMEVAL_ROOT is set")


def hide_secrets(args: argparse.Namespace) -> None:
    """The package logs the keys of judges and served models, to a file too, and puts its command line into ``status.json``."""
    redactor = Redactor.from_environ(
        {**os.environ, "KEY": args.key or "", "JUDGE_KEY": args.judge_key or ""}
    )

    class Record(logging.LogRecord):
        def getMessage(self) -> str:
            return redactor.line(super().getMessage())

    logging.setLogRecordFactory(Record)
    sys.argv = [redactor.line(word) for word in sys.argv]


def check_judge(asked: Asked) -> None:
    """Refuse a judge that cannot be asked: the package would score by rules instead, without a word in its files."""
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
            probe(where, model_name(catalog.locate(KINDS[VLMEVALKIT]).root, asked.judge))


def resolve_models(asked: Asked) -> dict[str, ModelChoice]:
    """Which class runs each model that is no name of VLMEvalKit's own registry, found as ``run_easi_eval.py`` does."""
    if not asked.by_name:
        return {}
    entries = catalog.vlmeval_entries(catalog.locate(KINDS[VLMEVALKIT]))
    backend = VLMEvalKit(HubSettings.from_env())
    chosen = {}
    for name in dict.fromkeys(asked.models):
        cfg = RunConfig(model=name)
        choice = backend.resolve(cfg)
        backend.ready(cfg, choice)
        if name not in entries:
            chosen[name] = choice
            say(f"{name}: {choice.entry or choice.cls} ({choice.why})")
        for note in choice.notes:
            say(note)
    return chosen


def fetch_data(tasks: Sequence[str]) -> None:
    """Get tables and media of EASI's datasets from the hub, compared with its checksums; others are VLMEvalKit's affair."""
    if os.environ[MODELSCOPE].lower() in ("1", "true"):
        return
    folder = os.environ.get("LMUData") or "~/LMUData"  # noqa: SIM112 -- as above
    folder = Path(folder).expanduser().absolute()
    wanted = [
        bench
        for bench in BENCHMARKS
        if VLMEVALKIT in bench.sources and bench.source(VLMEVALKIT).task in tasks
    ]
    needs = [need for bench in wanted for need in vlmevalkit_needs(bench, folder)]
    if not needs:
        return
    folder.mkdir(parents=True, exist_ok=True)
    with (
        file_lock(folder / ".easi.lock"),
        PlainDisplay(sys.stdout) as display,
    ):  # the ranks of torchrun: one after the other
        fetch(needs, display.on if _first_rank() else lambda event: None)


def _first_rank() -> bool:
    return int(os.environ.get("RANK") or 0) == 0


def say(line: str) -> None:
    if _first_rank():
        print(line, flush=True)
