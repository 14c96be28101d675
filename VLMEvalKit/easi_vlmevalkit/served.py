"""Models behind a server: several questions at once, and a failed request is never an answer."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from easi_eval.answering.worker import Generation

from .datasets import Loaded


class ServedModel:
    """One of VLMEvalKit's API classes, asked by several threads at a time, as its own loop asks it."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self._building = (
            threading.Lock()
        )  # datasets write the images of a prompt to files that prompts share
        self._latest = threading.local()
        if hasattr(model, "generate_inner"):
            self._request, model.generate_inner = model.generate_inner, self._watched

    def answer(self, load: Callable[[], Loaded], item: str) -> Generation | Exception:
        """The result for one question of the dataset that ``load`` gives; what it raises is its result."""
        from .answer import build_prompt, generate

        self._latest.code = 0  # classes that send their requests elsewhere are taken at their word
        try:
            with self._building:
                dataset = load()
                message = build_prompt(self.model, dataset, item)
            answered = generate(self.model, dataset, item, message)
        except Exception as error:
            return (
                RuntimeError(f"the server answered {self._latest.code}: {error}")
                if self._latest.code
                else error
            )
        if self._latest.code:
            # The classes give up with whatever text the last response held, and VLMEvalKit scores it.
            return RuntimeError(f"the server answered {self._latest.code}: {answered.text}")
        return answered

    def _watched(self, *args: Any, **options: Any) -> Any:
        """``generate_inner`` of the class, which returns (0 or an error code, text, log); the code of the latest is kept."""
        self._latest.code = "nothing"
        try:
            result = self._request(*args, **options)
        except Exception as error:
            self._latest.code = f"nothing ({type(error).__name__})"
            raise
        self._latest.code = result[0]
        return result
