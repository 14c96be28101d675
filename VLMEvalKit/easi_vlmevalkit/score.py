"""The scorer over the installed ``vlmeval``: answers from the journal, its own prediction files and evaluation."""

from __future__ import annotations

import argparse
import functools
import json
from collections.abc import Mapping
from pathlib import Path

from easi_eval.answering.driver import load_work
from easi_eval.answering.journal import Answer
from easi_eval.answering.scorer import score_loop
from easi_eval.answering.work import Assignment
from easi_eval.benchmarks import VLMEVALKIT

from .datasets import Datasets


def score(run_root: Path, args: argparse.Namespace) -> int:
    """Score every benchmark from the journal as soon as it is answered. Returns the exit code."""
    work = load_work(run_root, VLMEVALKIT, args.data, args.limit)
    from . import shims

    shims.apply()
    datasets = Datasets(run_root, work)
    score_loop(run_root, work, functools.partial(score_one, datasets, args))
    return 0


def score_one(datasets: Datasets, args: argparse.Namespace, assignment: Assignment, answers: Mapping[str, Answer], folder: Path) -> None:
    """Write VLMEvalKit's prediction file for one dataset, a lossless copy beside it, and run its own evaluation."""
    from vlmeval.smp import dump

    dataset = datasets.get(assignment)
    source = dataset.source
    table = source.data.copy()
    table["prediction"] = [answers[item].text for item in dataset.rows]
    if "image" in table:
        table.pop("image")
    prediction = folder / f"{args.model}_{assignment.task}.xlsx"
    with prediction.with_suffix(".jsonl").open("w", encoding="utf-8") as lossless:
        for item in dataset.rows:
            lossless.write(json.dumps({"index": item, "prediction": answers[item].text}) + "\n")
    dump(table, str(prediction))
    source.evaluate(str(prediction), **judge_options(args))


def judge_options(args: argparse.Namespace) -> dict[str, object]:
    """The keyword arguments VLMEvalKit's run.py passes to a dataset's evaluation."""
    return {
        "model": args.judge,
        "nproc": args.api_nproc,
        "verbose": args.verbose,
        "retry": args.retry,
        "timeout": args.judge_timeout,
        **json.loads(args.judge_args),
    }
