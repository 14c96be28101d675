"""VLMEvalKit's model class for servers of ``--base-url``."""

from __future__ import annotations

from typing import Any

from easi_eval.engine.generation import Generation
from easi_eval.engine.served.served_client import Sampling, ServedClient

from .prompts import conversation


class EasiServed:
    """A served model, which VLMEvalKit shows what it shows its own API classes.

    Videos arrive as the frames that VLMEvalKit extracts, in order with the text parts. Several
    threads may call it.
    """

    is_api = True
    INTERLEAVE = True
    VIDEO_LLM = False

    def __init__(
        self,
        model_path: str,
        max_tokens: int = 2048,
        temperature: float = 0.0,
        top_p: float | None = None,
        **options: Any,
    ) -> None:
        self.client = ServedClient(model_path, **options)
        self.sampling = Sampling(max_tokens, temperature, top_p)

    def generate(self, message: Any, dataset: str | None = None) -> Generation:
        """Answer a message: a text, or VLMEvalKit's list of ``{"type", "value"}`` parts."""
        parts = [{"type": "text", "value": message}] if isinstance(message, str) else message
        return self.client.ask(conversation(parts), self.sampling)
