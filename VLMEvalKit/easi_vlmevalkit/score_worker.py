"""Scorer over the installed ``vlmeval``.

It writes VLMEvalKit's prediction files from the journal and runs VLMEvalKit's own evaluation.
"""

from __future__ import annotations

import argparse
import functools
import io
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from easi_eval.benchmarks import VLMEVALKIT
from easi_eval.config import RULES
from easi_eval.engine.bars import silence_bars
from easi_eval.engine.driver import without_gc
from easi_eval.engine.journal import Answer
from easi_eval.engine.scorer import score_loop
from easi_eval.engine.work import Assignment, load_work
from easi_eval.scores.scorer_notes import add_failed, add_notes

from . import failed, judge, lossless_xlsx, patches
from .datasets import Datasets


def score(run_root: Path, args: argparse.Namespace) -> int:
    """Score every benchmark from the journal as soon as all its questions have an outcome.

    Args:
        run_root: Folder of the run.
        args: Options as parsed by ``__main__.parser``.

    Returns:
        The exit code: 1 if any benchmark has no score.
    """
    work = load_work(run_root, VLMEVALKIT, args.data, args.limit)
    # VLMEvalKit prints answers, and an answer may hold characters that UTF-8 cannot encode.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    with without_gc():
        patches.apply()
    if args.judge == RULES:  # a judge's bar is all that tells how far it is
        silence_bars()
    judges = patches.ask_judge(run_root, args.judge)
    datasets = Datasets(run_root, work)
    return (
        0 if score_loop(run_root, work, functools.partial(score_one, datasets, args, judges)) else 1
    )


def score_one(
    datasets: Datasets,
    args: argparse.Namespace,
    judges: Sequence[judge.Judge],
    assignment: Assignment,
    answers: Mapping[str, Answer],
    folder: Path,
) -> None:
    """Run VLMEvalKit's own evaluation of one dataset on the exact answer texts.

    Writes VLMEvalKit's prediction file and a lossless copy into ``folder``. Failed questions have
    no row in them; the scorer's notes list them.
    """
    dataset = datasets.get(assignment)
    source = dataset.source
    texts = {item: text for item in dataset.rows if (text := answers[item].text) is not None}
    table = source.data.drop(columns="image", errors="ignore").iloc[
        [dataset.rows[item] for item in texts]
    ]
    prediction = folder / f"{args.model}_{assignment.task}.xlsx"
    lossless_xlsx.write_predictions(table, texts, prediction)
    add_notes(folder, lossy=lossless_xlsx.lossy(texts))
    lost = failed.items(assignment.key, dataset, answers)
    add_failed(folder, lost)

    def evaluate() -> None:
        with (
            patches.exact_answers(prediction, list(texts.values())),
            failed.without_paired(lost),
        ):
            source.evaluate(str(prediction), **judge_options(args))

    judge.evaluate_settled(judges, prediction, evaluate)


def judge_options(args: argparse.Namespace) -> dict[str, object]:
    """Return the keyword arguments that VLMEvalKit's run.py passes to a dataset's evaluation."""
    return {
        "nproc": args.api_nproc,
        "verbose": args.verbose,
        "retry": args.retry,
        "timeout": args.judge_timeout,
        **judge.options(args),
        **json.loads(args.judge_args),
    }
