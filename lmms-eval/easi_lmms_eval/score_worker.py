"""Scorer over unmodified lmms-eval.

lmms-eval evaluates a model that returns the journal's answers.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import functools
import io
import re
import sys
import tempfile
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from easi_eval.backends.lmms_eval.caveats import unwrapped, wrapped
from easi_eval.backends.lmms_eval.reader import read_lmms_scores
from easi_eval.backends.lmms_eval.result_files import find_lmms_outputs
from easi_eval.benchmarks import ALL_KEYS, by_key
from easi_eval.engine.bars import silence_bars
from easi_eval.engine.driver import without_gc
from easi_eval.engine.journal import Answer
from easi_eval.engine.scorer import score_loop
from easi_eval.engine.work import Assignment, item_seed, seed_everything
from easi_eval.scores.scorer_notes import add_failed, add_notes

from . import failed, patches
from .scoring_probe import Seen, watched
from .tasks import asked_work, item_id

# A lone surrogate, as left by a server that cuts an emoji in half. UTF-8 cannot hold it.
HALF = re.compile("[\ud800-\udfff]")


def score(run_root: Path) -> int:
    """Score every benchmark from the journal as soon as all its questions have an outcome.

    Args:
        run_root: Folder of the run.

    Returns:
        The exit code: 1 if any benchmark has no score.
    """
    work = asked_work(run_root)
    # Tasks print answers, and an answer may hold characters that UTF-8 cannot encode.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    with without_gc():
        main, args = patches.import_main()
    silence_bars()
    patches.write_any_character()
    patches.index_tasks_once(main)
    from lmms_eval import models

    manifest = models.get_model_manifest(args.model)
    simple = manifest.chat_class_path is None or (
        args.force_simple and manifest.simple_class_path is not None
    )
    # One thread, so that rows are scored in document order: SITE draws a random letter for an
    # answer without one.
    args.process_docs_parallel = 1
    score_task = functools.partial(score_one, _Evaluator(main, args, simple), work.seed)
    return 0 if score_loop(run_root, work, score_task) else 1


@dataclass(frozen=True)
class _Evaluator:
    """lmms-eval's own scoring.

    Attributes:
        main: Its main module.
        args: Its options.
        simple: Whether its tasks make requests for a class of the simple kind.
    """

    main: Any
    args: argparse.Namespace
    simple: bool

    def run(self, assignment: Assignment, answers: Mapping[str, Answer], folder: Path) -> Seen:
        """Score one task into ``folder`` and return what was observed."""
        own = copy.copy(self.args)
        own.tasks = assignment.task
        own.output_path = str(folder)
        patches.replay(_replay_model(answers, self.simple))
        with (
            watched(assignment.key, answers) as seen,
            patches.forgiving_aggregation(assignment.limit is not None),
            tables_of_any_character(answers),
        ):
            self.main.cli_evaluate_single(own)
        return seen


def score_one(
    evaluator: _Evaluator,
    seed: int,
    assignment: Assignment,
    answers: Mapping[str, Answer],
    folder: Path,
) -> None:
    """Run lmms-eval's own evaluation of one task; its files and our notes go into ``folder``.

    Failed questions are in none of its numbers; the scorer's notes list them.
    """
    seen = evaluator.run(assignment, answers, folder)
    add_notes(folder, **seen.notes(), escaped=_halves(answers))
    lost = failed.items(assignment.key, assignment.task, answers, seen.tasks)
    add_failed(folder, lost)
    if lost and assignment.key not in ALL_KEYS:
        print(
            f"{assignment.task}: {len(lost)} of {len(answers)} questions failed "
            f"and are in none of lmms-eval's numbers ({lost[0].reason})",
            flush=True,
        )
    # The same random letters must be drawn as in the scoring above.
    seed_everything(item_seed(seed, assignment.key, "scoring"))
    if (would := _score_unwrapped(evaluator, assignment, answers)) is not None:
        add_notes(folder, unwrapped=would)


def tables_of_any_character(
    answers: Mapping[str, Answer],
) -> contextlib.AbstractContextManager[None]:
    """Return a context in which pandas keeps texts as plain objects, if an answer needs it.

    The string type of pandas is UTF-8 inside and fails on a lone surrogate. VSI-Bench and
    SPAR-Bench put answers into tables.
    """
    return (
        pd.option_context("future.infer_string", False)
        if _halves(answers)
        else contextlib.nullcontext()
    )


def _halves(answers: Mapping[str, Answer]) -> list[str]:
    return [item for item, answer in answers.items() if HALF.search(answer.text or "")]


def _score_unwrapped(
    evaluator: _Evaluator, assignment: Assignment, answers: Mapping[str, Answer]
) -> float | None:
    r"""Return the score, 0-100, with ``<answer>`` tags and ``\boxed{}`` removed from the answers.

    This is a diagnosis: if it fails, the log says so and the benchmark's score stands without it.

    Returns:
        None if no answer has such a wrapping, and for a task of the user's own, whose headline
        score is not known.
    """
    if assignment.key not in ALL_KEYS or not any(
        wrapped(answer.text or "") for answer in answers.values()
    ):
        return None
    try:
        bench = by_key(assignment.key)
        with tempfile.TemporaryDirectory() as scratch:
            bare = {
                item: answer
                if answer.text is None
                else replace(answer, text=unwrapped(answer.text))
                for item, answer in answers.items()
            }
            seen = evaluator.run(assignment, bare, Path(scratch))
            add_failed(
                Path(scratch), failed.items(assignment.key, assignment.task, answers, seen.tasks)
            )
            return read_lmms_scores(bench, find_lmms_outputs(bench, Path(scratch))).overall
    except Exception:  # whatever a task's own code raises
        traceback.print_exc()
        return None


def _replay_model(answers: Mapping[str, Answer], simple: bool) -> type:
    """Return a model class that answers from the journal, so that lmms-eval scores the answers."""
    from lmms_eval.api.instance import GenerationResult, TokenCounts
    from lmms_eval.api.model import lmms

    class JournaledAnswers(lmms):
        is_simple = simple

        @classmethod
        def create_from_arg_string(
            cls, arg_string: str, additional_config: dict[str, Any] | None = None
        ) -> JournaledAnswers:
            return cls()

        def generate_until(self, requests: Sequence[Any]) -> list[Any]:
            found = [answers[item_id(request)] for request in requests]
            return [
                GenerationResult(
                    a.text, TokenCounts(output_tokens=a.tokens) if a.tokens is not None else None
                )
                for a in found
            ]

        def loglikelihood(self, requests: Sequence[Any]) -> list[Any]:
            raise NotImplementedError("no EASI task asks for likelihoods")

        def generate_until_multi_round(self, requests: Sequence[Any]) -> list[Any]:
            raise NotImplementedError("no EASI task has several rounds")

    return JournaledAnswers
