"""Builds VLMEvalKit's prompts and asks its models, as its own loop does."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from PIL import Image

from easi_eval.core.atomic_files import text_digest
from easi_eval.engine.generation import Generation

from .datasets import LoadedDataset

# VLMEvalKit's API classes return this text when every retry failed. It is not an answer.
API_FAILURE = "Failed to obtain answer via API"


def ready_prompt(model: Any, dataset: LoadedDataset, item: str) -> Any:
    """Build the prompt of one row; the generic class ``EasiVLM`` also loads its images now."""
    message = build_prompt(model, dataset, item)
    if isinstance(message, list) and hasattr(model, "make_ready"):
        model.make_ready(message)
    return message


def build_prompt(model: Any, dataset: LoadedDataset, item: str) -> Any:
    """Build the prompt that VLMEvalKit's own loop would give the model for one row.

    Calls ``fit``, which changes the model. Prompts of one benchmark must therefore not be built
    while the model answers another.

    Returns:
        A list of parts ``{"type", "value"}``, or a plain text.

    Raises:
        ValueError: The dataset made no prompt, or the model cannot sample its videos.
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
        raise ValueError(f"{source.dataset_name} built no prompt for {item}")
    return message


def generate(model: Any, dataset: LoadedDataset, item: str, message: Any) -> Generation:
    """Answer one prompt made by ``build_prompt``.

    Exceptions of the model pass through.

    Raises:
        ValueError: The model returned None.
        RuntimeError: The answer holds ``API_FAILURE``.
    """
    # A prompt of another benchmark may have been built since, which set the model up for that one.
    fit(model, dataset.source)
    # Before the model runs: some classes change the parts they are given.
    hashed = prompt_hash(message)
    frames = sum(part["type"] == "image" for part in message) if isinstance(message, list) else None
    answered = model.generate(
        message=message, dataset=dataset_name(dataset.source, dataset.rows[item])
    )
    _free_cache()
    if answered is None:
        raise ValueError(f"the model gave no answer to {item}")
    if isinstance(answered, Generation):
        return replace(answered, frames=frames, prompt=hashed)
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


def ask_canary(model: Any, picture: Image.Image, question: str) -> str:
    """Ask the model about a picture, as a multiple-choice question of a data set that all know."""
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/canary.png"
        picture.save(path)
        message = [{"type": "image", "value": path}, {"type": "text", "value": question}]
        return str(model.generate(message=message, dataset="MMBench_DEV_EN") or "")


def _free_cache() -> None:
    """Free cached GPU memory after an answer, as VLMEvalKit's own loop does.

    Models that barely fit into memory rely on it.
    """
    import torch

    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def dataset_name(source: Any, row: int) -> str:
    """Return the dataset name that VLMEvalKit's loop passes to the model for this row.

    In a concatenated video dataset it is the name of the part that the row comes from.
    """
    line = source.data.iloc[row]
    return (
        line["SUB_DATASET"]
        if source.MODALITY == "VIDEO" and "SUB_DATASET" in line
        else source.dataset_name
    )


def _video_prompt(model: Any, source: Any, row: int, name: str) -> Any:
    video_llm = getattr(model, "VIDEO_LLM", False)
    # API classes never build prompts of videos themselves.
    if getattr(model, "is_api", False) or not _custom_prompt(model, name):
        return source.build_prompt(row, video_llm=video_llm)
    if source.nframe == 0:
        raise ValueError(
            f"the model builds its own video prompts from a number of frames, and {name} defines "
            f"none"
        )
    return model.build_prompt(source.data.iloc[row], dataset=source, video_llm=video_llm)


def _custom_prompt(model: Any, name: str) -> bool:
    return hasattr(model, "use_custom_prompt") and model.use_custom_prompt(name)


def fit(model: Any, source: Any) -> None:
    """Set the model up for a dataset as VLMEvalKit's loop does.

    For images it sets where the model writes image files, for videos how the model samples them.
    """
    if source.MODALITY != "VIDEO":
        if hasattr(model, "set_dump_image"):
            model.set_dump_image(source.dump_image)
    elif not getattr(model, "is_api", False):
        match_frames(model, source)
    # The API classes with a ``backend`` are Gemini's.
    elif getattr(model, "backend", None) == "vertex" or (
        getattr(model, "backend", None) == "genai" and source.nframe > 0
    ):
        model.VIDEO_LLM = False
    elif getattr(model, "backend", None) == "genai":
        model.fps = source.fps


def match_frames(model: Any, source: Any) -> None:
    """Set a video model's frame count or rate to the dataset's.

    VLMEvalKit does the same before every video item.

    Raises:
        ValueError: The model samples in a way that the dataset does not offer.
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
    """Return the first 16 hex digits of the SHA-256 of a message's text parts."""
    parts = message if isinstance(message, list) else [{"type": "text", "value": str(message)}]
    text = "\n".join(str(part["value"]) for part in parts if part["type"] == "text")
    return text_digest(text)[:16]


def conversation(message: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Convert VLMEvalKit's parts to chat messages.

    Adjacent parts of one role (default ``user``) form one message.
    """
    messages: list[dict[str, Any]] = []
    for part in message:
        role = part.get("role", "user")
        if not messages or messages[-1]["role"] != role:
            messages.append({"role": role, "content": []})
        messages[-1]["content"].append({"type": part["type"], part["type"]: part["value"]})
    return messages
