"""A worker over the installed ``vlmeval``: its datasets, prompts and model classes; ours is which item is answered next."""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from easi_eval.answering.ahead import Ahead
from easi_eval.answering.cuts import Decoded
from easi_eval.answering.driver import importing, load_work
from easi_eval.answering.work import Item
from easi_eval.answering.worker import Generation, open_journal, work_loop
from easi_eval.benchmarks import VLMEVALKIT
from easi_eval.model import ModelChoice

from .datasets import Datasets, Loaded
from .served import ServedModel

# What VLMEvalKit's API classes return when every retry failed; it is no answer.
API_FAILURE = "Failed to obtain answer via API"


def answer(run_root: Path, model_choice: ModelChoice, args: argparse.Namespace) -> int:
    """Be a worker: load the model once, answer items until none is left. Returns the exit code."""
    work = load_work(run_root, VLMEVALKIT, args.data, args.limit)
    journal = open_journal(run_root, work)
    journal.phase("importing VLMEvalKit")
    from . import shims

    with importing():
        shims.apply()
    if args.vsi_input == "frames":
        shims.show_vsi_frames()
    journal.phase("building the questions")
    datasets = Datasets(run_root, work)
    items = {assignment.key: datasets.items(assignment) for assignment in work.benchmarks}
    journal.phase("loading the model")
    from easi_eval.answering.loading import made_with, refuse_spilled

    model = shims.build_whole(shims.model_factory(model_choice))
    print(f"the model is a {type(model).__module__}.{type(model).__name__}", flush=True)
    refuse_spilled(model)
    journal.loaded(made_with(model))
    by_key = {assignment.key: assignment for assignment in work.benchmarks}
    if getattr(model, "is_api", False):
        served = ServedModel(model)

        def ask(chunk: Sequence[Item]) -> list[Generation | Exception]:
            (item,) = chunk
            return [served.answer(lambda: datasets.get(by_key[item.benchmark]), item.id)]

        work_loop(run_root, work, items, ask, journal=journal, at_once=args.api_nproc)
        return 0

    ahead = Ahead(lambda item: ready_prompt(model, datasets.get(by_key[item.benchmark]), item.id))
    decoded = Decoded()

    def answer_chunk(chunk: Sequence[Item]) -> list[Generation]:
        made = []
        for item in chunk:
            message = ahead.take(item)
            decoded.forget()
            answered = generate(model, datasets.get(by_key[item.benchmark]), item.id, message)
            (cut,) = decoded.cuts([answered.text])
            made.append(replace(answered, cut=cut))
        return made

    work_loop(run_root, work, items, answer_chunk, journal=journal, prepare=ahead.prepare)
    print(ahead.summary(), flush=True)
    return 0


def ready_prompt(model: Any, dataset: Loaded, item: str) -> Any:
    """The prompt of one row; our own class also reads its pictures now."""
    message = build_prompt(model, dataset, item)
    if isinstance(message, list) and hasattr(model, "make_ready"):
        model.make_ready(message)
    return message


def build_prompt(model: Any, dataset: Loaded, item: str) -> Any:
    """What VLMEvalKit's own loop would show the model for one row: its list of parts, or a text.

    Sets the model to the dataset (``fit``): prompts of one benchmark must not be built while the model answers another.
    Raises ValueError if there is none.
    """
    row, source = dataset.rows[item], dataset.source
    fit(model, source)
    name = dataset_name(source, row)
    if source.MODALITY == "VIDEO":
        message = _video_prompt(model, source, row, name)
    elif not getattr(source, "force_use_dataset_prompt", False) and _custom_prompt(model, name):
        message = model.build_prompt(source.data.iloc[row], dataset=name)
    else:
        message = source.build_prompt(source.data.iloc[row])
    if message is None:
        raise ValueError(f"{source.dataset_name} made no prompt of {item}")
    return message


def generate(model: Any, dataset: Loaded, item: str, message: Any) -> Generation:
    """The model's answer to the prompt that ``build_prompt`` made. Raises what the model raises, and for no answer."""
    fit(model, dataset.source)  # since the prompt was made one of another benchmark may have been
    hashed = prompt_hash(message)  # before the model: some classes change the parts they are given
    frames = sum(part["type"] == "image" for part in message) if isinstance(message, list) else None
    answered = model.generate(
        message=message, dataset=dataset_name(dataset.source, dataset.rows[item])
    )
    _free_cache()
    if answered is None:
        raise ValueError(f"the model gave no answer to {item}")
    text = str(answered)
    if API_FAILURE in text:
        raise RuntimeError(text)
    last = getattr(model, "last", None)
    return Generation(
        text,
        tokens=getattr(last, "tokens", None),
        finish=getattr(last, "finish", None),
        frames=frames,
        prompt=hashed,
    )


def _free_cache() -> None:
    """As VLMEvalKit's own loop does after every answer; models at the edge of the memory rely on it."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def dataset_name(source: Any, row: int) -> str:
    """The name VLMEvalKit's loop gives the model with this row; joined video datasets name the part it comes from."""
    line = source.data.iloc[row]
    return (
        line["SUB_DATASET"]
        if source.MODALITY == "VIDEO" and "SUB_DATASET" in line
        else source.dataset_name
    )


def _video_prompt(model: Any, source: Any, row: int, name: str) -> Any:
    video_llm = getattr(model, "VIDEO_LLM", False)
    if getattr(model, "is_api", False) or not _custom_prompt(
        model, name
    ):  # of videos API classes never make their own
        return source.build_prompt(row, video_llm=video_llm)
    if source.nframe == 0:
        raise ValueError(
            f"the model makes its own video prompts from a number of frames, {name} has none"
        )
    return model.build_prompt(source.data.iloc[row], dataset=source, video_llm=video_llm)


def _custom_prompt(model: Any, name: str) -> bool:
    return hasattr(model, "use_custom_prompt") and model.use_custom_prompt(name)


def fit(model: Any, source: Any) -> None:
    """Set a model to the dataset as VLMEvalKit's loop does: where it puts images, how it samples videos."""
    if source.MODALITY != "VIDEO":
        if hasattr(model, "set_dump_image"):
            model.set_dump_image(source.dump_image)
    elif not getattr(model, "is_api", False):
        match_frames(model, source)
    elif getattr(model, "backend", None) == "vertex" or (
        getattr(model, "backend", None) == "genai" and source.nframe > 0
    ):
        model.VIDEO_LLM = False
    elif getattr(model, "backend", None) == "genai":
        model.fps = source.fps


def match_frames(model: Any, source: Any) -> None:
    """Set a video model's frame count or rate to the dataset's, as VLMEvalKit does before every video item.

    ValueError for a model that samples in a way the dataset does not offer.
    """
    for own, other in (("nframe", "fps"), ("fps", "nframe")):
        if (getattr(model, own, None) or 0) > 0:
            wanted = getattr(source, own)
            if wanted > 0:
                setattr(model, own, wanted)
            elif getattr(model, other, 0) == 0:
                raise ValueError(
                    f"the model samples video by {own}, {source.dataset_name} does not"
                )
            else:
                setattr(model, own, None)


def prompt_hash(message: Any) -> str:
    """First 16 hex digits of the SHA-256 of the text parts of a message."""
    parts = message if isinstance(message, list) else [{"type": "text", "value": str(message)}]
    text = "\n".join(str(part["value"]) for part in parts if part["type"] == "text")
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
