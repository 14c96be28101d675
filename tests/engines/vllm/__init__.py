"""An engine in vLLM's place, for machines without a GPU.

It has the offline interface that lmms-eval's own ``vllm`` class asks for: ``LLM``,
``SamplingParams``, ``LLM.chat`` on a list of conversations, ``get_metrics``. Its answers depend on
the question alone. Every call adds a line of JSON to the file ``FAKE_ENGINE_LOG``: process, GPUs it
was given, size of the batch; at its start also the model. A question with ``FAKE_ENGINE_POISON`` in
its text breaks the batch it is in, as a broken image does.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any


@dataclass
class SamplingParams:
    """The settings lmms-eval passes on."""

    max_tokens: int = 16
    temperature: float = 1.0
    top_p: float = 1.0
    extra: dict[str, Any] = field(default_factory=dict)


class LLM:
    """One engine; ``tensor_parallel_size`` is only recorded."""

    def __init__(self, model: str, tensor_parallel_size: int = 1, **options: Any) -> None:
        self.size = tensor_parallel_size
        self._note("start", 0, model=model)

    def chat(
        self,
        messages: list[list[dict[str, Any]]],
        sampling_params: list[SamplingParams],
        chat_template: str | None = None,
    ) -> list[Any]:
        assert len(messages) == len(sampling_params)
        questions = [_text(conversation) for conversation in messages]
        self._note("chat", len(messages))
        poison = os.environ.get("FAKE_ENGINE_POISON")
        if poison and any(poison in question for question in questions):
            raise ValueError(f"cannot decode the image of one of {len(questions)} questions")
        return [
            SimpleNamespace(outputs=[SimpleNamespace(text=_letter(question))])
            for question in questions
        ]

    def get_metrics(self) -> list[Any]:
        return []

    def _note(self, what: str, batch: int, **more: str) -> None:
        with Path(os.environ["FAKE_ENGINE_LOG"]).open("a", encoding="utf-8") as file:
            file.write(
                json.dumps(
                    {"what": what, "pid": os.getpid(), "size": self.size, "batch": batch, **more}
                )
                + "\n"
            )


def _text(conversation: list[dict[str, Any]]) -> str:
    return "".join(part.get("text", "") for message in conversation for part in message["content"])


def _letter(question: str) -> str:
    return "ABCD"[hashlib.sha256(question.encode()).digest()[0] % 4]
