"""lmms-eval model class ``easi_vlm`` for any image-text checkpoint that transformers can load."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from typing import Any

from accelerate import Accelerator
from lmms_eval.api.instance import GenerationResult, Instance, TokenCounts
from lmms_eval.api.model import lmms
from lmms_eval.models.model_utils.gen_metrics import log_metrics
from lmms_eval.protocol import ChatMessages
from tqdm import tqdm

from easi_eval.engine.generation import Generation
from easi_eval.engine.vlm.generic_vlm import Decoding, GenericVLM, Prompt


class EasiVLM(lmms):
    """Generic vision-language model over transformers (``--model easi_vlm``).

    ``--model_args`` takes ``pretrained=`` and the options below; others are rejected. The task sets
    the generation settings, as with lmms-eval's own Qwen classes: greedy and 128 new tokens where
    it says nothing.

    Attributes:
        last: What the latest ``generate_until`` generated, in the order of its requests.
    """

    is_simple = False

    def __init__(
        self,
        pretrained: str,
        # lmms-eval itself adds device, batch_size and max_batch_size to --model_args.
        device: str | None = None,
        batch_size: int | str = 1,
        max_batch_size: int | str | None = None,
        dtype: str = "auto",
        attn_implementation: str | None = None,
        trust_remote_code: bool = False,
        revision: str | None = None,
        min_pixels: int | None = None,
        max_pixels: int | None = None,
        max_num_frames: int = 32,
        system_prompt: str = "",
    ) -> None:
        super().__init__()
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            # lmms-eval's own sharding gathers through the model's accelerator.
            self.accelerator = Accelerator(cpu=device == "cpu")
            self._rank, self._world_size = (
                self.accelerator.process_index,
                self.accelerator.num_processes,
            )
            device = str(self.accelerator.device)
        pixels = {"min_pixels": min_pixels, "max_pixels": max_pixels}
        self.vlm = GenericVLM(
            pretrained,
            device=device,
            dtype=dtype,
            attn_implementation=attn_implementation,
            revision=revision,
            trust_remote_code=trust_remote_code,
            num_frames=max_num_frames,
            system_prompt=self._resolve_system_prompt(system_prompt),
            **{name: value for name, value in pixels.items() if value is not None},
        )
        self.batch_size = int(batch_size)
        self.last: list[Generation] = []

    @property
    def device(self) -> Any:
        """Device of the model's inputs."""
        return self.vlm.device

    @property
    def model(self) -> Any:
        """The transformers model."""
        return self.vlm.model

    @property
    def tokenizer(self) -> Any:
        """The model's tokenizer."""
        return self.vlm.tokenizer

    def generate_until(self, requests: Sequence[Instance]) -> list[GenerationResult]:
        """Answer requests in batches and log lmms-eval's throughput metrics."""
        found: dict[int, Generation] = {}
        began = time.monotonic()
        with tqdm(total=len(requests), disable=self.rank != 0, desc="Model Responding") as bar:
            for batch in batches(requests, self.batch_size):
                prompts = [self.prompt(requests[number]) for number in batch]
                found |= zip(
                    batch,
                    self.vlm.generate(prompts, decoding(requests[batch[0]].args[2])),
                    strict=True,
                )
                bar.update(len(batch))
        self.last = [found[number] for number in range(len(requests))]
        tokens, seconds = sum(answer.tokens or 0 for answer in self.last), time.monotonic() - began
        log_metrics(
            total_elapsed_time=seconds,
            total_gen_tokens=tokens,
            avg_speed=tokens / seconds if seconds else 0.0,
        )
        return [
            GenerationResult(answer.text, TokenCounts(output_tokens=answer.tokens))
            for answer in self.last
        ]

    def prompt(self, request: Instance) -> Prompt:
        """Return the prompt of one request with its media loaded.

        Another thread may call this while ``generate_until`` runs.
        """
        _, doc_to_messages, _, doc_id, task, split = request.args
        messages = ChatMessages(messages=doc_to_messages(self.task_dict[task][split][doc_id]))
        return self.vlm.prompt(messages.to_hf_messages())

    def loglikelihood(self, requests: Sequence[Instance]) -> list[tuple[float, bool]]:
        """Not supported: no EASI task needs likelihoods."""
        raise NotImplementedError("easi_vlm generates; no EASI task asks for likelihoods")

    def generate_until_multi_round(self, requests: Sequence[Instance]) -> list[str]:
        """Not supported: no EASI task has several rounds."""
        raise NotImplementedError("easi_vlm answers in one round; no EASI task has several")


def decoding(settings: Mapping[str, Any]) -> Decoding:
    """Return the generation settings that lmms-eval's Qwen classes honour.

    Like these classes, it ignores ``until`` and other settings.
    """
    return Decoding(
        max_new_tokens=settings.get("max_new_tokens", 128),
        temperature=settings.get("temperature") or 0.0,
        top_p=settings.get("top_p"),
        top_k=settings.get("top_k"),
        num_beams=settings.get("num_beams") or 1,
    )


def batches(requests: Sequence[Instance], size: int) -> list[list[int]]:
    """Group requests that may be answered together.

    Args:
        requests: The requests, with equal generation settings within a batch.
        size: The most requests of a batch.

    Returns:
        For each batch the positions of its requests.
    """
    groups: list[tuple[Mapping[str, Any], list[int]]] = []
    for number, request in enumerate(requests):
        settings = request.args[2]
        same = next((members for known, members in groups if known == settings), None)
        if same is None:
            groups.append((settings, [number]))
        else:
            same.append(number)
    return [
        members[start : start + size]
        for _, members in groups
        for start in range(0, len(members), size)
    ]
