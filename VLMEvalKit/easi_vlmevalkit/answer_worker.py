"""Worker over the installed ``vlmeval``.

Datasets, prompts and model classes are VLMEvalKit's. EASI's queue decides which item a worker
answers next.
"""

from __future__ import annotations

import argparse
import functools
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from easi_eval.benchmarks import VLMEVALKIT
from easi_eval.core.model import ModelChoice
from easi_eval.engine.asking import AnswerItems
from easi_eval.engine.dispatch_client import connect
from easi_eval.engine.driver import without_gc
from easi_eval.engine.generation import Generation
from easi_eval.engine.prefetch import Prefetcher
from easi_eval.engine.vlm.cuts import Decoded
from easi_eval.engine.work import Item, load_work
from easi_eval.engine.worker import work_loop

from . import models, patches
from .api_model import ServedModel
from .datasets import Datasets, LoadedDataset
from .prompts import ask_canary, generate, ready_prompt
from .served import EasiServed


def answer(run_root: Path, model_choice: ModelChoice, args: argparse.Namespace) -> int:
    """Load the model once, then answer items until none is left.

    Args:
        run_root: Folder of the run.
        model_choice: The model to load.
        args: Options as parsed by ``__main__.parser``.

    Returns:
        The exit code.
    """
    work = load_work(run_root, VLMEVALKIT, args.data, args.limit)
    dispatcher = connect(run_root, work)
    dispatcher.phase("importing VLMEvalKit")
    with without_gc():
        patches.apply()
    if args.vsi_input == "frames":
        patches.show_vsi_frames()
    dispatcher.phase("building the questions")
    datasets = Datasets(run_root, work)
    items = {assignment.key: datasets.items(assignment) for assignment in work.benchmarks}
    dispatcher.phase("loading the model")
    from easi_eval.engine.vlm.finite import refuse_noise
    from easi_eval.engine.vlm.loading import made_with, refuse_spilled

    model = models.build_whole(models.model_factory(model_choice))
    print(f"the model is a {type(model).__module__}.{type(model).__name__}", flush=True)
    refuse_spilled(model)
    if not getattr(model, "is_api", False):
        refuse_noise(model, functools.partial(ask_canary, model))
    dispatcher.loaded(made_with(model))
    by_key = {assignment.key: assignment for assignment in work.benchmarks}

    def dataset_of(item: Item) -> LoadedDataset:
        return datasets.get(by_key[item.benchmark])

    if getattr(model, "is_api", False):
        ask = _from_server(ServedModel(model), dataset_of)
        ours = model.client if isinstance(model, EasiServed) else None
        work_loop(
            run_root,
            work,
            items,
            ask,
            dispatcher=dispatcher,
            at_once=(lambda: ours.at_once) if ours else args.api_nproc,
            waiting=ours.waiting if ours else str,
        )
        return 0
    prefetcher = Prefetcher(lambda item: ready_prompt(model, dataset_of(item), item.id))
    ask = _from_model(model, dataset_of, prefetcher)
    work_loop(run_root, work, items, ask, dispatcher=dispatcher, prepare=prefetcher.prepare)
    print(prefetcher.summary(), flush=True)
    return 0


def _from_server(served: ServedModel, dataset_of: Callable[[Item], LoadedDataset]) -> AnswerItems:
    """Return what asks a model behind a server one question."""

    def ask(chunk: Sequence[Item]) -> list[Generation | Exception]:
        (item,) = chunk
        return [served.answer(lambda: dataset_of(item), item.id)]

    return ask


def _from_model(
    model: Any, dataset_of: Callable[[Item], LoadedDataset], prefetcher: Prefetcher[Any]
) -> AnswerItems:
    """Return what asks a model of this process, one question after the other."""
    decoded = Decoded()

    def ask(chunk: Sequence[Item]) -> list[Generation | Exception]:
        made: list[Generation | Exception] = []
        for item in chunk:
            message = prefetcher.take(item)
            decoded.forget()
            answered = generate(model, dataset_of(item), item.id, message)
            (cut,) = decoded.cuts([answered.text])
            made.append(replace(answered, cut=cut))
        return made

    return ask
