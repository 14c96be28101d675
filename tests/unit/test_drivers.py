"""The drivers' own steps around a model, with plain objects for models and datasets: no backend is imported."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
from easi_eval.answering.loading import spilled
from easi_vlmevalkit.answer import answer_one


def placed(**places: object) -> SimpleNamespace:
    return SimpleNamespace(hf_device_map=places)


@pytest.mark.parametrize(("model", "expected"), [
    (placed(a=0, b=1), []),
    (placed(a=0, b="cpu"), ["cpu"]),
    (placed(a=torch.device("cuda:0"), b=torch.device("cpu")), ["cpu"]),
    (SimpleNamespace(model=placed(a=0, b="disk", c="cpu")), ["cpu", "disk"]),
    (SimpleNamespace(_model=placed(a=0), vlm=SimpleNamespace(model=placed(a="disk"))), ["disk"]),
    (SimpleNamespace(model=SimpleNamespace(hf_device_map=None)), []),
    (object(), []),
])
def test_weights_outside_the_accelerators_are_found(model: object, expected: list[str]) -> None:
    assert spilled(model) == expected


def dataset(prompt: object) -> SimpleNamespace:
    source = SimpleNamespace(dataset_name="BLINK", MODALITY="IMAGE", data=SimpleNamespace(iloc=[{"index": "q"}]), build_prompt=lambda line: prompt)
    return SimpleNamespace(source=source, rows={"7": 0})


def model(generate: Callable[[], object]) -> SimpleNamespace:
    return SimpleNamespace(generate=lambda message, dataset: generate())


PROMPT = [{"type": "image", "value": "a.png"}, {"type": "text", "value": "Which?"}]


@pytest.mark.parametrize(("prompt", "answer", "reason"), [
    (None, "A", "BLINK made no prompt of 7"),
    (PROMPT, None, "the model gave no answer to 7"),
])
def test_nothing_is_no_prompt_and_no_answer(prompt: object, answer: object, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        answer_one(model(lambda: answer), dataset(prompt), "7")


@pytest.mark.parametrize(("answer", "text"), [("A", "A"), ("", ""), ("None", "None"), (3, "3")])
def test_an_answer_is_kept_as_text(answer: object, text: str) -> None:
    assert answer_one(model(lambda: answer), dataset(PROMPT), "7").text == text
