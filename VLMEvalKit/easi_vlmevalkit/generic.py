"""VLMEvalKit model class for any image-text checkpoint that transformers can load."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vlmeval.vlm.base import BaseModel

from easi_eval.engine.generation import Generation
from easi_eval.engine.vlm.generic_vlm import Decoding, GenericVLM, Prompt

from .prompts import conversation

MOST_READY = 3  # prompts kept with their images: that of the current question and the next ones


class EasiVLM(BaseModel):
    """Generic vision-language model over transformers.

    Decoding is greedy unless ``temperature`` is above 0. Videos arrive as the frames that
    VLMEvalKit extracts, in order with the text parts.

    Attributes:
        last: What the latest call generated, with token count, finish reason and frames.
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
        # By the message's id. The message is kept too, so that its id is not used again.
        self._ready: dict[int, tuple[object, Prompt]] = {}

    def make_ready(self, message: list[dict[str, Any]]) -> None:
        """Load the images of a message that ``generate`` will be given later.

        Another thread may call this while ``generate`` runs.
        """
        self._ready[id(message)] = (
            message,
            self.vlm.prompt(conversation(self.preproc_content(message))),
        )
        # Drop the oldest: prompts that were made ready, but whose question another worker got.
        while len(self._ready) > MOST_READY:
            del self._ready[next(iter(self._ready))]

    def generate_inner(self, message: Sequence[dict[str, Any]], dataset: str | None = None) -> str:
        """Answer a message: VLMEvalKit's list of ``{"type", "value"}`` parts, ``role`` optional."""
        self.last = None
        _, prompt = self._ready.pop(id(message), (None, None))
        (self.last,) = self.vlm.generate([prompt or conversation(message)], self.decoding)
        if self.verbose:
            print(f"{dataset}: {self.last.text}")
        return self.last.text
