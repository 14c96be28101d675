"""What VLMEvalKit needs a nudge for, tried on the real library below it."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from easi_eval.smoke import checkpoint
from easi_vlmevalkit import shims
from transformers import AutoModelForImageTextToText, PreTrainedModel, Qwen2_5_VLForConditionalGeneration

without_flash_attn = pytest.mark.skipif(importlib.util.find_spec("flash_attn") is not None, reason="flash-attn is installed here")


@pytest.fixture
def restored() -> Iterator[None]:
    before = PreTrainedModel.get_correct_attn_implementation
    yield
    PreTrainedModel.get_correct_attn_implementation = before


@without_flash_attn
@pytest.mark.parametrize("cls", [Qwen2_5_VLForConditionalGeneration, AutoModelForImageTextToText])      # as Qwen2VLChat and Qwen3VLChat load
def test_a_class_that_asks_for_flash_attention_runs_without_it(cls: type, tmp_path: Path, restored: None, capsys: pytest.CaptureFixture[str]) -> None:
    folder = checkpoint.build(tmp_path / "tiny")
    with pytest.raises(ImportError, match="flash"):      # the trap
        cls.from_pretrained(folder, attn_implementation="flash_attention_2")
    assert shims.replace_missing_flash_attention()
    model = cls.from_pretrained(folder, attn_implementation="flash_attention_2", torch_dtype=torch.float32)
    assert model.config._attn_implementation == model.model.visual.config._attn_implementation == "sdpa"
    assert capsys.readouterr().out.count("sdpa instead of flash_attention_2") == 1


@without_flash_attn
def test_what_asks_for_something_else_gets_it(tmp_path: Path, restored: None, capsys: pytest.CaptureFixture[str]) -> None:
    folder = checkpoint.build(tmp_path / "tiny")
    assert shims.replace_missing_flash_attention()
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(folder, attn_implementation="eager")
    assert model.config._attn_implementation == "eager"
    assert capsys.readouterr().out == ""
