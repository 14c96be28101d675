"""Asks models behind a server: several questions at once, and a failed request is no answer."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

from easi_eval.engine.generation import Generation

from .datasets import LoadedDataset
from .prompts import build_prompt, generate
from .served import EasiServed


class ServedModel:
    """A class that asks servers, called by several threads, as in VLMEvalKit's own loop.

    VLMEvalKit's API classes may set themselves up for a prompt, so theirs are made one at a time;
    with ``EasiServed`` each thread makes its own.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        self._loading = threading.Lock()
        self._building = nullcontext() if isinstance(model, EasiServed) else threading.Lock()
        self._latest = threading.local()
        if hasattr(model, "generate_inner"):
            self._request, model.generate_inner = model.generate_inner, self._watched

    def answer(self, load: Callable[[], LoadedDataset], item: str) -> Generation | Exception:
        """Ask one question.

        Args:
            load: Returns the dataset; called under a lock.
            item: Item id in that dataset.

        Returns:
            The answer. An exception of the dataset or model is returned, not raised, and a failed
            request is a RuntimeError.
        """
        # No code: the answer of a class that sends its requests without ``generate_inner`` counts.
        self._latest.code = 0
        try:
            with self._loading:
                dataset = load()
            with self._building:
                message = build_prompt(self.model, dataset, item)
            answered = generate(self.model, dataset, item, message)
        except Exception as error:
            return (
                RuntimeError(f"the server answered {self._latest.code}: {error}")
                if self._latest.code
                else error
            )
        if self._latest.code:
            # The classes return the text of the last response, which VLMEvalKit would score.
            return RuntimeError(f"the server answered {self._latest.code}: {answered.text}")
        return answered

    def _watched(self, *args: Any, **options: Any) -> Any:
        """Call the class's ``generate_inner`` and keep the code of this thread's latest request.

        ``generate_inner`` returns (0 or an error code, text, log).
        """
        self._latest.code = "nothing"
        try:
            result = self._request(*args, **options)
        except Exception as error:
            self._latest.code = f"nothing ({type(error).__name__})"
            raise
        self._latest.code = result[0]
        return result
