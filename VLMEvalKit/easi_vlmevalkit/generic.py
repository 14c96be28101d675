"""VLMEvalKit model class for any checkpoint that transformers loads as a model of images and text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vlmeval.vlm.base import BaseModel

from easi_eval.answering.generic_vlm import Decoding, GenericVLM, Prompt
from easi_eval.answering.worker import Generation

MOST_READY = 3  # prompts with their pictures: of the current question and the next


class EasiVLM(BaseModel):
    """Greedy unless ``temperature`` is above 0. Videos arrive as VLMEvalKit's own frames, between their texts.

    ``last`` is what the latest call generated: tokens, why it ended, frames shown.
    """

    INTERLEAVE = True
    VIDEO_LLM = False

    def __init__(
        self,
        model_path: str,
        max_new_tokens: int = 2048,
        temperature: float = 0.0,
        top_p: float | None = None,
        top_k: int | None = None,
        repetition_penalty: float | None = None,
        device: str | None = None,
        dtype: str = "auto",
        attn_implementation: str | None = None,
        trust_remote_code: bool = False,
        revision: str | None = None,
        system_prompt: str = "",
        min_pixels: int | None = None,
        max_pixels: int | None = None,
        verbose: bool = False,
    ) -> None:
        super().__init__()
        pixels = {"min_pixels": min_pixels, "max_pixels": max_pixels}
        self.vlm = GenericVLM(
            model_path,
            device=device,
            dtype=dtype,
            attn_implementation=attn_implementation,
            revision=revision,
            trust_remote_code=trust_remote_code,
            system_prompt=system_prompt,
            **{name: value for name, value in pixels.items() if value is not None},
        )
        self.decoding = Decoding(
            max_new_tokens=max_new_tokens,
            temperature=temperature,
            top_p=top_p,
            top_k=top_k,
            repetition_penalty=repetition_penalty,
        )
        self.verbose = verbose
        self.last: Generation | None = None
        self._ready: dict[
            int, tuple[object, Prompt]
        ] = {}  # by the message's id; the message is kept, so that it stays its own

    def make_ready(self, message: list[dict[str, Any]]) -> None:
        """Read the pictures of a message that ``generate`` will be given; another thread may do this while it answers."""
        self._ready[id(message)] = (
            message,
            self.vlm.prompt(conversation(self.preproc_content(message))),
        )
        while len(self._ready) > MOST_READY:  # made ready, and then asked elsewhere
            del self._ready[next(iter(self._ready))]

    def generate_inner(self, message: Sequence[dict[str, Any]], dataset: str | None = None) -> str:
        """``message`` is VLMEvalKit's list of ``{"type", "value"}`` parts, each with an optional ``role``."""
        self.last = None
        _, prompt = self._ready.pop(id(message), (None, None))
        (self.last,) = self.vlm.generate([prompt or conversation(message)], self.decoding)
        if self.verbose:
            print(f"{dataset}: {self.last.text}")
        return self.last.text


def conversation(message: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Turn VLMEvalKit's parts into messages: neighbours of one role (default ``user``) form one message."""
    messages: list[dict[str, Any]] = []
    for part in message:
        role = part.get("role", "user")
        if not messages or messages[-1]["role"] != role:
            messages.append({"role": role, "content": []})
        messages[-1]["content"].append({"type": part["type"], part["type"]: part["value"]})
    return messages
