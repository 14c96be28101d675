"""Random weights with which the answers of a tiny model depend on words and pictures."""

from __future__ import annotations

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

ENDS = 8  # every eighth token ends an answer: a few tokens


def draw(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, spread: float = 0.5) -> None:
    """Draw the weights of a model, the same every time."""
    torch.manual_seed(0)
    for name, weight in model.named_parameters():
        if weight.dim() > 1:  # not those of norms
            # What the layers add must outweigh the last token's own embedding, or all answers
            # would be the same.
            weight.data.normal_(0, 0.02 if "embed_tokens" in name else spread)
    model.generation_config.pad_token_id = tokenizer.pad_token_id or tokenizer.eos_token_id
    model.generation_config.eos_token_id = list(range(0, len(tokenizer), ENDS))
