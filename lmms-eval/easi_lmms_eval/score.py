"""The scorer over unmodified lmms-eval: a model that repeats what the journal holds, scored by lmms-eval itself."""

from __future__ import annotations

import contextlib
import copy
import functools
import json
import random
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from easi_eval.answering.journal import Answer
from easi_eval.answering.scorer import score_loop
from easi_eval.answering.work import NOTES_FILE, Assignment

from .session import asked_work, item_id, lmms_eval_main


def score(run_root: Path) -> int:
    """Score every benchmark from the journal as soon as it is answered. Returns the exit code."""
    work = asked_work(run_root)
    main, args = lmms_eval_main()
    from lmms_eval import models

    # Building the task index reads some thousand YAML files; one serves all benchmarks.
    main.TaskManager = functools.cache(main.TaskManager)
    manifest = models.get_model_manifest(args.model)
    simple = manifest.chat_class_path is None or (args.force_simple and manifest.simple_class_path is not None)
    # Rows are scored in document order by one thread: SITE draws a random letter for an answer without one.
    args.process_docs_parallel = 1

    def score_one(assignment: Assignment, answers: Mapping[str, Answer], folder: Path) -> None:
        own = copy.copy(args)
        own.tasks = assignment.task
        own.output_path = str(folder)
        replay = _replay_model(answers, simple)
        models.get_model = lambda name, force_simple=False: replay
        with counted_draws() as draws:
            main.cli_evaluate_single(own)
        (folder / NOTES_FILE).write_text(json.dumps({"coin_flips": len(draws)}), encoding="utf-8")

    score_loop(run_root, work, score_one)
    return 0


@contextlib.contextmanager
def counted_draws() -> Iterator[list[Any]]:
    """Collects what ``random.choice`` gives while a benchmark is scored: letters drawn for answers that hold none."""
    choose, drawn = random.choice, []

    def choice(options: Sequence[Any]) -> Any:
        drawn.append(choose(options))
        return drawn[-1]

    random.choice = choice
    try:
        yield drawn
    finally:
        random.choice = choose


def _replay_model(answers: Mapping[str, Answer], simple: bool) -> type:
    """A model class that gives back what the journal holds, so that lmms-eval scores and writes it."""
    from lmms_eval.api.instance import GenerationResult, TokenCounts
    from lmms_eval.api.model import lmms

    class JournaledAnswers(lmms):
        is_simple = simple

        @classmethod
        def create_from_arg_string(cls, arg_string: str, additional_config: dict | None = None) -> JournaledAnswers:
            return cls()

        def generate_until(self, requests: Sequence[Any]) -> list[Any]:
            found = [answers[item_id(request)] for request in requests]
            return [GenerationResult(a.text, TokenCounts(output_tokens=a.tokens) if a.tokens is not None else None) for a in found]

        def loglikelihood(self, requests: Sequence[Any]) -> list[Any]:
            raise NotImplementedError("no EASI task asks for likelihoods")

        def generate_until_multi_round(self, requests: Sequence[Any]) -> list[Any]:
            raise NotImplementedError("no EASI task has several rounds")

    return JournaledAnswers
