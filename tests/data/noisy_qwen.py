"""The code that the tests' noisy checkpoints contain: answers would be noise, without an error.

AutoModelForImageTextToText loads it with trust_remote_code.
"""

import functools

import torch
from transformers import Qwen2_5_VLForConditionalGeneration


class UnsetBuffer(Qwen2_5_VLForConditionalGeneration):
    """A buffer that no file holds is not filled, as code for transformers 4 leaves it on 5."""

    def __init__(self, config):
        super().__init__(config)
        self.register_buffer("inv_freq", torch.full((4,), float("nan")), persistent=False)


class NanLogits(Qwen2_5_VLForConditionalGeneration):
    """Weights and buffers are finite, and what is computed of them is not."""

    @functools.wraps(Qwen2_5_VLForConditionalGeneration.forward)  # generate reads its signature
    def forward(self, *args, **options):
        output = super().forward(*args, **options)
        output.logits = output.logits * float("nan")
        return output
