"""A worker over the installed ``vlmeval``: its datasets, prompts and model classes; ours is which item is answered next."""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from easi_eval.answering.driver import load_work
from easi_eval.answering.work import Item
from easi_eval.answering.worker import Generation, open_journal, work_loop
from easi_eval.benchmarks import VLMEVALKIT
from easi_eval.model import ModelChoice

from .datasets import Datasets

# What VLMEvalKit's API classes return when every retry failed; it is no answer.
API_FAILURE = "Failed to obtain answer via API"


def answer(run_root: Path, model_choice: ModelChoice, args: argparse.Namespace) -> int:
    """Be a worker: load the model once, answer items until none is left. Returns the exit code."""
    work = load_work(run_root, VLMEVALKIT, args.data, args.limit)
    journal = open_journal(run_root, work)
    journal.phase("importing VLMEvalKit")
    from . import shims

    shims.apply()
    journal.phase("building the questions")
    datasets = Datasets(run_root, work)
    items = {assignment.key: datasets.items(assignment) for assignment in work.benchmarks}
    journal.phase("loading the model")
    from easi_eval.answering.loading import refuse_spilled

    model = shims.model_factory(model_choice)()
    refuse_spilled(model)
    by_key = {assignment.key: assignment for assignment in work.benchmarks}

    def answer_chunk(chunk: Sequence[Item]) -> list[Generation]:
        return [answer_one(model, datasets.get(by_key[item.benchmark]), args.model, item.id) for item in chunk]

    work_loop(run_root, work, items, answer_chunk, journal=journal)
    return 0


def answer_one(model: Any, dataset: Any, model_name: str, item: str) -> Generation:
    """Build the prompt of one row as VLMEvalKit's own loop does, and generate."""
    row = dataset.rows[item]
    source, name = dataset.source, dataset.source.dataset_name
    if source.MODALITY == "VIDEO":
        match_frames(model, source)
        if _custom_prompt(model, name):
            message = model.build_prompt(source.data.iloc[row], dataset=source, video_llm=getattr(model, "VIDEO_LLM", False))
        else:
            message = source.build_prompt(row, video_llm=getattr(model, "VIDEO_LLM", False))
    else:
        if hasattr(model, "set_dump_image"):
            model.set_dump_image(source.dump_image)
        line = source.data.iloc[row]
        if not getattr(source, "force_use_dataset_prompt", False) and _custom_prompt(model, name):
            message = model.build_prompt(line, dataset=name)
        else:
            message = source.build_prompt(line)
    if message is None:
        raise ValueError(f"{source.dataset_name} made no prompt of {item}")
    answered = model.generate(message=message, dataset=name)
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
        frames=sum(part["type"] == "image" for part in message) if isinstance(message, list) else None,
        prompt=prompt_hash(message),
    )


def _free_cache() -> None:
    """As VLMEvalKit's own loop does after every answer; models at the edge of the memory rely on it."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _custom_prompt(model: Any, dataset_name: str) -> bool:
    return hasattr(model, "use_custom_prompt") and model.use_custom_prompt(dataset_name)


def match_frames(model: Any, source: Any) -> None:
    """Set a video model's frame count or rate to the dataset's, as VLMEvalKit does before every video item."""
    for own, other in (("nframe", "fps"), ("fps", "nframe")):
        if (getattr(model, own, None) or 0) > 0:
            wanted = getattr(source, own)
            if wanted > 0:
                setattr(model, own, wanted)
            elif (getattr(model, other, 0) or 0) == 0:
                raise ValueError(f"the model samples video by {own}, {source.dataset_name} does not")
            else:
                setattr(model, own, None)


def prompt_hash(message: Any) -> str:
    """First 16 hex digits of the SHA-256 of the text parts of a message."""
    parts = message if isinstance(message, list) else [{"type": "text", "value": str(message)}]
    text = "\n".join(str(part["value"]) for part in parts if part["type"] == "text")
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
