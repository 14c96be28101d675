"""A model class for every checkpoint that ``AutoModelForImageTextToText`` loads.

A conversation is a list of messages ``{"role": ..., "content": [part, ...]}``. A part is one of

* ``{"type": "text", "text": str}``
* ``{"type": "image", "image": PIL image or path}``
* ``{"type": "video", "video": path or sequence of frames}``

Media keep their place between the texts.
"""

from __future__ import annotations

import inspect
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from transformers import BatchFeature
from transformers.video_utils import VideoMetadata

from ...core.atomic_files import text_digest
from ...core.errors import EasiError
from ..generation import Generation
from .loading import check_loadable, load_model, load_processor
from .video import Frames, sample_frames

Conversation = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Decoding:
    """How tokens are chosen; None means the checkpoint's own setting.

    Attributes:
        temperature: 0 selects greedy decoding.
    """

    max_new_tokens: int = 128
    temperature: float = 0.0
    top_p: float | None = None
    top_k: int | None = None
    num_beams: int = 1
    repetition_penalty: float | None = None

    @property
    def samples(self) -> bool:
        """Whether tokens are sampled."""
        return self.temperature > 0

    def arguments(self) -> dict[str, object]:
        """Keyword arguments for ``generate``.

        Greedy decoding also unsets the sampling parameters of the checkpoint's generation config.
        """
        chosen: dict[str, object] = {
            "max_new_tokens": self.max_new_tokens,
            "num_beams": self.num_beams,
            "do_sample": self.samples,
        }
        if self.samples:
            chosen["temperature"] = self.temperature
            chosen |= {
                name: getattr(self, name)
                for name in ("top_p", "top_k")
                if getattr(self, name) is not None
            }
        else:
            chosen |= {"temperature": None, "top_p": None, "top_k": None}
        if self.repetition_penalty is not None:
            chosen["repetition_penalty"] = self.repetition_penalty
        return chosen


@dataclass(frozen=True)
class Prompt:
    """A rendered conversation: its text and its media in the order in which they appear."""

    text: str
    images: tuple[Image.Image, ...]
    videos: tuple[Frames, ...]

    @property
    def frames(self) -> int:
        """Number of images and video frames."""
        return len(self.images) + sum(len(video.images) for video in self.videos)

    @property
    def digest(self) -> str:
        """The first 16 hex digits of the SHA-256 of the text."""
        return text_digest(self.text)[:16]


class GenericVLM:
    """A loaded model and its processor.

    On one device the whole model is put there; several visible accelerators share the layers. A
    model that does not fit on the accelerators is refused instead of being moved to CPU or disk in
    part.

    Args:
        path: Hub id or folder of the checkpoint.
        device: None: the accelerator that torch finds, or the CPU where there is none.
        dtype: "auto" is the checkpoint's own, and float32 on a CPU.
        trust_remote_code: Allow code that the checkpoint brings.
        attn_implementation: Attention of transformers; None: its default.
        revision: Revision of a hub id.
        num_frames: Frames taken from a video that is given as a path.
        system_prompt: Added to conversations without a system message.
        **processor_options: Options of the processor (``min_pixels``, ``max_pixels`` ...).

    Raises:
        EasiError: The checkpoint cannot be used here.
    """

    def __init__(
        self,
        path: str | Path,
        device: str | None = None,
        dtype: str = "auto",
        trust_remote_code: bool = False,
        attn_implementation: str | None = None,
        revision: str | None = None,
        num_frames: int = 32,
        system_prompt: str = "",
        **processor_options: object,
    ) -> None:
        self.path = str(path)
        self.num_frames = num_frames
        self.system_prompt = system_prompt
        where = (
            {"revision": revision, "trust_remote_code": trust_remote_code}
            if revision
            else {"trust_remote_code": trust_remote_code}
        )
        check_loadable(self.path, where)
        self.processor = load_processor(self.path, where, processor_options)
        self.tokenizer = self.processor.tokenizer
        self.model = load_model(self.path, where, device, dtype, attn_implementation)
        self.device = next(self.model.parameters()).device
        self._takes_videos = getattr(
            self.processor, "video_processor", None
        ) is not None and "video" in _template(self.processor)

    def generate(
        self,
        conversations: Sequence[Conversation | Prompt],
        decoding: Decoding = Decoding(),
        seeds: Sequence[int] | None = None,
    ) -> list[Generation]:
        """Answer each conversation.

        With a temperature each conversation is answered on its own, from its own seed, so the
        answer does not depend on the other conversations or their order. The state of torch's
        generators does not change.

        Args:
            conversations: Conversations, or results of ``prompt``.
            decoding: How tokens are chosen.
            seeds: One seed per conversation, for sampling; default: derived from torch's seed and
                the prompt.

        Returns:
            One generation per conversation, in the same order. ``tokens`` counts the generated
            tokens with the final end token. ``finish`` is "stop" if the model ended its answer and
            "length" if it reached the limit.
        """
        prompts = [
            asked if isinstance(asked, Prompt) else self.prompt(asked) for asked in conversations
        ]
        if not decoding.samples:
            answers: dict[int, Generation] = {}
            for group in _alike(prompts):
                answers |= zip(
                    group,
                    self._answer([prompts[number] for number in group], decoding),
                    strict=True,
                )
            return [answers[number] for number in range(len(prompts))]
        if seeds is None:
            seeds = [(torch.initial_seed() + int(prompt.digest, 16)) % 2**31 for prompt in prompts]
        sampled = []
        for prompt, seed in zip(prompts, seeds, strict=True):
            with torch.random.fork_rng(range(torch.cuda.device_count())):
                torch.manual_seed(seed)
                sampled += self._answer([prompt], decoding)
        return sampled

    def prompt(self, conversation: Conversation) -> Prompt:
        """Render one conversation with the checkpoint's chat template.

        Videos become images if the checkpoint does not support videos.

        Raises:
            EasiError: A part has an unknown type, or a video cannot be read.
        """
        images: list[Image.Image] = []
        videos: list[Frames] = []
        messages = []
        if self.system_prompt and not any(message["role"] == "system" for message in conversation):
            messages.append(
                {"role": "system", "content": [{"type": "text", "text": self.system_prompt}]}
            )
        for message in conversation:
            parts: list[dict[str, object]] = []
            content = message["content"]
            for part in (
                [{"type": "text", "text": content}] if isinstance(content, str) else content
            ):
                match part["type"]:
                    case "text":
                        parts.append({"type": "text", "text": part["text"]})
                    case "image":
                        images.append(_open(part["image"]))
                        parts.append({"type": "image"})
                    case "video":
                        video = sample_frames(part["video"], self.num_frames)
                        if self._takes_videos:
                            videos.append(video)
                            parts.append({"type": "video"})
                        else:
                            images += video.images
                            parts += [{"type": "image"} for _ in video.images]
                    case other:
                        raise EasiError(
                            f"a question holds {other!r}, "
                            "which the generic model class does not support",
                            hint="it supports text, image and video",
                        )
            messages.append({"role": message["role"], "content": parts})
        text = self.processor.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True
        )
        return Prompt(text, tuple(images), tuple(videos))

    def _answer(self, prompts: Sequence[Prompt], decoding: Decoding) -> list[Generation]:
        """Answer prompts in one batch; ``_alike`` gives the groups that can share one."""
        began = time.monotonic()
        inputs = self.encode(prompts).to(self.device, dtype=self.model.dtype)
        with torch.inference_mode():
            produced = self.model.generate(
                **inputs, **decoding.arguments(), pad_token_id=self.tokenizer.pad_token_id
            )
        seconds = (time.monotonic() - began) / len(prompts)
        given = inputs["input_ids"]
        length = given.shape[1]
        # Most classes return prompt and answer; encoder-decoder models and some remote code return
        # the answer alone.
        if produced.shape[1] >= length and torch.equal(produced[:, :length], given):
            produced = produced[:, length:]
        answers = []
        for prompt, row in zip(prompts, produced.tolist(), strict=True):
            tokens, finish = _cut(row, self._end_ids())
            text = self.tokenizer.decode(
                tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False
            )
            answers.append(
                Generation(
                    text,
                    tokens=len(tokens),
                    finish=finish,
                    frames=prompt.frames,
                    prompt=prompt.digest,
                    seconds=seconds,
                )
            )
        return answers

    def encode(self, prompts: Sequence[Prompt]) -> BatchFeature:
        """The model's inputs on the CPU, padded on the left.

        All prompts must have images or none, and videos or none. Media are nested per prompt, the
        form that every processor accepts.
        """
        arguments: dict[str, Any] = {
            "text": [prompt.text for prompt in prompts],
            "return_tensors": "pt",
        }
        if len(prompts) > 1:
            arguments |= {"padding": True, "padding_side": "left"}
        if prompts[0].images:
            arguments["images"] = [list(prompt.images) for prompt in prompts]
        if prompts[0].videos:
            arguments["videos"] = [
                [list(video.images) for video in prompt.videos] for prompt in prompts
            ]
            arguments["video_metadata"] = [
                [_metadata(video) for video in prompt.videos] for prompt in prompts
            ]
            arguments["do_sample_frames"] = False
        beginning = self.tokenizer.bos_token
        if beginning is not None and prompts[0].text.startswith(beginning):
            arguments["add_special_tokens"] = False  # the template has already added the token
        return BatchFeature(data=dict(self.processor(**arguments)))

    def _end_ids(self) -> set[int]:
        configured = self.model.generation_config.eos_token_id
        ids = configured if isinstance(configured, list) else [configured]
        return {number for number in (*ids, self.tokenizer.eos_token_id) if number is not None}


def _template(processor: Any) -> str:
    """The chat template, or all of them in one text."""
    template = processor.chat_template
    return " ".join(template.values()) if isinstance(template, dict) else str(template)


def _open(image: Image.Image | str | os.PathLike[str]) -> Image.Image:
    if isinstance(image, Image.Image):
        return image.convert("RGB")
    with Image.open(image) as opened:
        return opened.convert("RGB")


def _metadata(video: Frames) -> VideoMetadata:
    """The metadata of a video, as far as the installed transformers has fields for it."""
    known = inspect.signature(VideoMetadata).parameters
    values: dict[str, Any] = {
        "total_num_frames": video.total,
        "fps": video.fps,
        "frames_indices": list(video.indices),
        "duration": video.total / video.fps,
        "width": video.images[0].width,
        "height": video.images[0].height,
    }
    return VideoMetadata(**{name: value for name, value in values.items() if name in known})


def _alike(prompts: Sequence[Prompt]) -> list[list[int]]:
    """Indices of prompts that can share a batch: all or none with images, likewise videos."""
    groups: dict[tuple[bool, bool], list[int]] = {}
    for number, prompt in enumerate(prompts):
        groups.setdefault((bool(prompt.images), bool(prompt.videos)), []).append(number)
    return list(groups.values())


def _cut(row: Sequence[int], ends: set[int]) -> tuple[list[int], str]:
    """Tokens up to the first end token, and why they end: "stop" or "length".

    Tokens after the end token are padding.
    """
    for place, token in enumerate(row):
        if token in ends:
            return list(row[: place + 1]), "stop"
    return list(row), "length"
