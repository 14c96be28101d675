"""lmms-eval's model class ``easi_served`` for servers of ``--base-url``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lmms_eval.api.instance import GenerationResult, Instance, TokenCounts
from lmms_eval.api.model import lmms
from lmms_eval.protocol import ChatMessages

from easi_eval.engine.generation import Generation
from easi_eval.engine.served.served_client import Sampling, ServedClient


class EasiServed(lmms):
    """A served model, which is shown what lmms-eval shows its own chat classes.

    The task sets the generation, as with lmms-eval's own clients: greedy and 1,024 tokens where it
    says nothing. ``max_tokens``, ``temperature`` and ``top_p`` among the model arguments win.
    Several threads may call ``answer``.
    """

    is_simple = False

    def __init__(
        self,
        model: str,
        base_url: str,
        max_tokens: int | None = None,
        temperature: float | None = None,
        top_p: float | None = None,
        # lmms-eval itself adds device, batch_size and max_batch_size to --model_args.
        device: str | None = None,
        batch_size: int | str = 1,
        max_batch_size: int | str | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        self.client = ServedClient(model, base_url, **options)
        given = {"max_tokens": max_tokens, "temperature": temperature, "top_p": top_p}
        self._given = {name: value for name, value in given.items() if value is not None}

    def answer(self, request: Instance) -> Generation:
        """Answer one request."""
        _, doc_to_messages, settings, doc_id, task, split = request.args
        messages = ChatMessages(messages=doc_to_messages(self.task_dict[task][split][doc_id]))
        return self.client.ask(messages.to_hf_messages(), sampling(settings, self._given))

    def generate_until(self, requests: Sequence[Instance]) -> list[GenerationResult]:
        """Answer requests one after the other; the drivers of a run call ``answer``."""
        answers = map(self.answer, requests)
        return [
            GenerationResult(each.text, TokenCounts(output_tokens=each.tokens)) for each in answers
        ]

    def loglikelihood(self, requests: Sequence[Instance]) -> list[tuple[float, bool]]:
        """Not supported: no EASI task needs likelihoods."""
        raise NotImplementedError("easi_served generates; no EASI task asks for likelihoods")

    def generate_until_multi_round(self, requests: Sequence[Instance]) -> list[str]:
        """Not supported: no EASI task has several rounds."""
        raise NotImplementedError("easi_served answers in one round; no EASI task has several")


def sampling(settings: Mapping[str, Any], given: Mapping[str, Any] = {}) -> Sampling:
    """Return the sampling for a task's generation settings, replaced by what is given."""
    own = {
        "max_tokens": settings.get("max_new_tokens", 1024),
        "temperature": settings.get("temperature") or 0.0,
        "top_p": settings.get("top_p"),
    }
    return Sampling(**{**own, **given})
