"""Two roles over unmodified lmms-eval: answer items from the shared queue, and score answers read from the journal.

Both run lmms-eval's own ``cli_evaluate_single``: its tasks, prompts, filters, metrics and files. The only thing
replaced is the object that answers requests. A worker puts a subclass of the real model class there, whose
``generate_until`` takes the requests from the queue in pieces; the scorer puts a model there that repeats what
the journal holds.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import functools
import hashlib
import json
import random
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from easi_eval.answering.driver import load_work
from easi_eval.answering.journal import Answer, Journal
from easi_eval.answering.scorer import score_loop
from easi_eval.answering.work import NOTES_FILE, Assignment, Item, ItemList, Work
from easi_eval.answering.worker import Generation, open_journal, work_loop
from easi_eval.benchmarks import LMMS_EVAL


class _Answered(BaseException):
    """Leaves lmms-eval once the queue is empty; not an Exception, so that no handler of lmms-eval keeps it."""


def item_id(request: Any) -> str:
    """``task:row``; rows are numbered in document order by every process alike."""
    return f"{request.task_name}:{request.doc_id}"


def benchmark_of(task_name: str, work: Work) -> str:
    """The benchmark a request belongs to: a group's subtasks (``blink_counting``) begin with the group's name."""
    by_task = {assignment.task: assignment.key for assignment in work.benchmarks}
    if task_name in by_task:
        return by_task[task_name]
    prefixes = [task for task in by_task if task_name.startswith(task + "_")]
    if not prefixes:
        raise KeyError(f"lmms-eval built requests of task {task_name!r}, which was not asked for")
    return by_task[max(prefixes, key=len)]


def answer(run_root: Path) -> int:
    """Be a worker: load the model once, answer items until none is left. Returns the exit code."""
    work = _work(run_root)
    journal = open_journal(run_root, work)
    journal.phase("importing lmms-eval")
    main, args = _lmms_eval()
    from lmms_eval import models

    # The journal is the record; lmms-eval's own files are written by the scorer, from all workers' answers.
    real_get_model = models.get_model

    def get_model(name: str, force_simple: bool = False) -> type:
        journal.phase("loading the model")
        return _queue_model(real_get_model(name, force_simple), run_root, work, journal)

    models.get_model = get_model
    try:
        main.cli_evaluate_single(args)
    except _Answered:
        return 0
    raise RuntimeError("lmms-eval ended without asking the model for answers")


def _queue_model(cls: type, run_root: Path, work: Work, journal: Journal) -> type:
    """A subclass of the real model class that answers what the queue gives it."""
    from easi_eval.answering.loading import refuse_spilled

    from .generic import EasiVLM

    def generate_until(self: Any, requests: Sequence[Any]) -> list[Any]:
        by_id = {item_id(request): request for request in requests}
        items = _list_items(run_root, work, requests, self.task_dict)

        def answer_chunk(chunk: Sequence[Item]) -> list[Generation]:
            batch = [by_id[item.id] for item in chunk]
            made = [_generation(request, output) for request, output in zip(batch, cls.generate_until(self, batch))]
            # Our generic class knows more of what it generated than lmms-eval's result has room for.
            return list(self.last) if isinstance(self, EasiVLM) else made

        size = int(getattr(self, "batch_size", 1) or 1)
        work_loop(run_root, work, items, answer_chunk, journal=journal, chunk=size)
        raise _Answered

    @functools.wraps(cls.__init__)
    def __init__(self: Any, *args: Any, **options: Any) -> None:
        cls.__init__(self, *args, **options)
        refuse_spilled(self)

    return type(cls.__name__, (cls,), {"__init__": __init__, "generate_until": generate_until, "__module__": cls.__module__})


def _list_items(run_root: Path, work: Work, requests: Sequence[Any], task_dict: Mapping[str, Any]) -> dict[str, list[Item]]:
    """Group requests by benchmark and leave the list of their ids on disk for progress, scoring and completeness."""
    items: dict[str, list[Item]] = {assignment.key: [] for assignment in work.benchmarks}
    rows: dict[str, dict[str, int]] = {key: {} for key in items}
    for request in requests:
        key = benchmark_of(request.task_name, work)
        prompt = request.args[0] if isinstance(request.args[0], str) else ""
        items[key].append(Item(key, item_id(request), cost=1.0 + len(prompt) / 1000))
        rows[key][request.task_name] = len(task_dict[request.task_name][request.metadata["split"]])
    for key, found in items.items():
        limit = next(assignment.limit for assignment in work.benchmarks if assignment.key == key)
        ItemList(key, sum(rows[key].values()), tuple(item.id for item in found), limit).save(run_root)
    return items


def _generation(request: Any, output: Any) -> Generation:
    from lmms_eval.api.instance import unwrap_generation_output

    text, counts = unwrap_generation_output(output)
    prompt = request.args[0] if isinstance(request.args[0], str) else ""
    options = next((arg for arg in request.args if isinstance(arg, dict)), {})
    tokens = counts.output_tokens if counts is not None else None
    limit = options.get("max_new_tokens")
    finish = None
    if tokens is not None and isinstance(limit, int):      # an answer that ends exactly at the limit counts as cut off
        finish = "length" if tokens >= limit else "stop"
    return Generation(text, tokens=tokens, finish=finish, prompt=hashlib.sha256(prompt.encode()).hexdigest()[:16])


def score(run_root: Path) -> int:
    """Score every benchmark from the journal as soon as it is answered. Returns the exit code."""
    work = _work(run_root)
    main, args = _lmms_eval()
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


def _work(run_root: Path) -> Work:
    """What is to be run, read before lmms-eval, whose import takes half a minute."""
    options = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    options.add_argument("--tasks", default="")
    options.add_argument("--limit", type=int)
    known, _ = options.parse_known_args()
    return load_work(run_root, LMMS_EVAL, known.tasks.split(","), known.limit)


def _lmms_eval() -> tuple[Any, argparse.Namespace]:
    """lmms-eval's main module and its options from ``sys.argv``, with its logger on stdout as it sets it up itself."""
    from lmms_eval import __main__ as main

    _allow_anonymous()
    _, args = main.parse_eval_args()
    main.eval_logger.remove()
    main.eval_logger.add(sys.stdout, level=args.verbosity)
    return main, args


def _allow_anonymous() -> None:
    """Some tasks of public data insist on a token (``token: True``); without one they are read as anybody may."""
    import datasets
    import huggingface_hub

    if huggingface_hub.get_token():
        return
    load = datasets.load_dataset

    def load_dataset(*args: Any, **options: Any) -> Any:
        if options.get("token") is True:
            options["token"] = None
        return load(*args, **options)

    datasets.load_dataset = load_dataset
