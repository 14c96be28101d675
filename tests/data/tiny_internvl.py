"""The code that the tests' InternVL-like checkpoint contains.

AutoModel loads it with trust_remote_code.
"""

from typing import ClassVar

import torch
from transformers import PretrainedConfig, PreTrainedModel


class TinyInternVLConfig(PretrainedConfig):
    model_type = "internvl_chat"


class TinyInternVL(PreTrainedModel):
    """Says one of four letters, by the mean colour of what it is shown."""

    config_class = TinyInternVLConfig
    _no_split_modules: ClassVar[list[str]] = []

    def __init__(self, config):
        super().__init__(config)
        self.head = torch.nn.Linear(3, 4)
        self.post_init()

    def _init_weights(self, module):
        pass

    def chat(
        self,
        tokenizer,
        pixel_values,
        question,
        generation_config,
        num_patches_list=None,
        verbose=False,
    ):
        assert pixel_values.shape[1:] == (3, 448, 448) and sum(num_patches_list) == len(
            pixel_values
        )
        assert tokenizer(question).input_ids and generation_config["max_new_tokens"] > 0
        scores = self.head(pixel_values.mean(dim=(0, 2, 3)).to(self.head.weight.dtype))
        return "ABCD"[int(scores.argmax())]
