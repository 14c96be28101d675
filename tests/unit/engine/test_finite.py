"""Which models are refused for values that are not finite, in their weights or their logits."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import Qwen2Config, Qwen2ForCausalLM

from easi_eval.core.errors import EasiError
from easi_eval.engine.vlm.finite import refuse_noise, refuse_nonfinite

torch.set_num_threads(1)
NAN, INFINITY = float("nan"), float("inf")
Q = "model.layers.0.self_attn.q_proj.weight"
FLOAT8 = [torch.float8_e4m3fn, torch.float8_e5m2, torch.float8_e8m0fnu]


def qwen() -> Qwen2ForCausalLM:
    return Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=32,
            hidden_size=16,
            intermediate_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            num_key_value_heads=2,
        )
    ).eval()


class Held(torch.nn.Module):
    """One tensor, as a weight or as a buffer."""

    def __init__(self, weight: torch.Tensor | None = None, **buffers: torch.Tensor) -> None:
        super().__init__()
        if weight is not None:
            self.weight = torch.nn.Parameter(weight, requires_grad=False)
        for name, buffer in buffers.items():
            self.register_buffer(name, buffer, persistent=False)


def values(value: float, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    tensor = torch.ones(3, 5).to(dtype)
    tensor[1, 2] = value
    return tensor


def refused(check: Callable[[], None]) -> EasiError:
    with pytest.raises(EasiError) as error:
        check()
    assert error.value.hint
    return error.value


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("value", [NAN, INFINITY, -INFINITY])
def test_one_value_of_a_weight_is_enough(dtype: torch.dtype, value: float) -> None:
    held = SimpleNamespace(vlm=SimpleNamespace(model=Held(values(value, dtype))))
    said = refused(lambda: refuse_nonfinite(held)).message
    assert said == "1 of the model's weights hold NaN or infinity: weight"


def test_a_buffer_may_hold_infinity_but_not_nan() -> None:
    refuse_nonfinite(Held(values(1), mask=values(-INFINITY)))
    said = refused(lambda: refuse_nonfinite([Held(mask=values(INFINITY), inv_freq=values(NAN))]))
    assert said.message == "1 of the model's buffers hold NaN: inv_freq"


def test_three_names_are_told_and_a_tied_weight_counts_once() -> None:
    model = qwen()
    for weight in model.parameters():
        weight.data.fill_(NAN)
    count = len(list(model.parameters()))
    said = refused(lambda: refuse_nonfinite({"llm": model, "again": model.model})).message
    assert said.startswith(f"{count} of the model's weights") and said.endswith(", ...")
    assert said.count("weight,") + said.count("bias,") == 3


@pytest.mark.parametrize(
    "tensor",
    [
        torch.full((4,), -128, dtype=torch.int8),
        torch.full((4,), 255, dtype=torch.uint8),
        torch.ones(0),
        torch.ones(4, device="meta"),
        torch.ones(4).to_sparse(),
        torch.zeros(4, dtype=torch.uint8).view(torch.float4_e2m1fn_x2),
        torch.quantize_per_tensor(torch.ones(4), 0.1, 0, torch.qint8),
        *(torch.ones(4).to(dtype) for dtype in FLOAT8),
    ],
    ids=lambda tensor: f"{tensor.dtype} {tensor.device} {tensor.layout}",
)
def test_quantised_and_absent_values_are_no_fault(tensor: torch.Tensor) -> None:
    refuse_nonfinite(Held(tensor, scale=tensor))


@pytest.mark.parametrize("dtype", FLOAT8)
def test_nan_is_seen_in_float8(dtype: torch.dtype) -> None:
    bad = torch.cat([torch.ones(2**22 + 3).to(dtype).view(torch.uint8), torch.tensor([255]).byte()])
    assert refused(lambda: refuse_nonfinite(Held(bad.view(dtype))))


def test_uninitialised_weights_of_a_lazy_layer_are_no_fault() -> None:
    refuse_nonfinite(SimpleNamespace(unused=torch.nn.LazyLinear(4)))


class Asked:
    """A backend's object around a model, with its own call; it notes how far the call came."""

    def __init__(
        self, model: torch.nn.Module | None, then: Callable[[], str] = lambda: "A"
    ) -> None:
        self.model, self.then, self.ended = model, then, False

    def ask(self, picture: Image.Image, question: str) -> str:
        assert picture.mode == "RGB" and question
        random.random(), np.random.rand(), torch.rand(1)
        if self.model is not None:
            self.model.generate(torch.tensor([[1, 2, 3]]), max_new_tokens=4, do_sample=False)
        self.ended = True
        return self.then()


def test_a_sound_model_is_asked_for_its_first_logits_alone() -> None:
    asked = Asked(qwen())
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    refuse_noise(asked, asked.ask)
    assert not asked.ended, "no token more than needed"
    assert before == (
        random.getstate(),
        np.random.get_state()[1].tolist(),
        torch.get_rng_state().tolist(),
    )
    asked.ask(Image.new("RGB", (8, 8)), "and real questions are answered in full")
    assert asked.ended


def nan_in_a_layer(model: Qwen2ForCausalLM) -> None:
    model.model.layers[0].self_attn.v_proj.weight.data.fill_(NAN)


def nan_after_the_head(model: Qwen2ForCausalLM) -> None:
    def forward(*args: object, own: Callable = model.forward, **options: object) -> object:
        output = own(*args, **options)
        output.logits = output.logits * NAN
        return output

    model.forward = forward


def nan_in_the_head(model: Qwen2ForCausalLM) -> None:
    model.lm_head.register_forward_hook(lambda module, args, output: output * NAN)


@pytest.mark.parametrize("harm", [nan_in_a_layer, nan_after_the_head, nan_in_the_head])
def test_nan_logits_are_refused(harm: Callable[[Qwen2ForCausalLM], None]) -> None:
    asked = Asked(qwen())
    harm(asked.model)
    assert "computes NaN" in refused(lambda: refuse_noise(asked, asked.ask)).message
    assert not asked.ended


def test_nan_logits_are_refused_also_where_the_class_swallows_all_it_can() -> None:
    asked = Asked(qwen())
    nan_in_a_layer(asked.model)

    def swallowing(picture: Image.Image, question: str) -> str:
        try:
            return asked.ask(picture, question)
        except BaseException:
            return "A"

    assert refused(lambda: refuse_noise(asked, swallowing))


def test_masked_tokens_are_no_fault() -> None:
    asked = Asked(qwen())
    asked.model.lm_head.register_forward_hook(
        lambda module, args, output: output.index_fill(-1, torch.tensor([5]), -INFINITY)
    )
    refuse_noise(asked, asked.ask)


def test_an_answer_of_an_engine_is_not_empty_and_a_random_model_may_say_nothing() -> None:
    engine = Asked(None, lambda: " \n")
    assert "is empty" in refused(lambda: refuse_noise(engine, engine.ask)).message
    engine.then = lambda: "bright"
    refuse_noise(engine, engine.ask)
    other = Asked(None, lambda: "")
    other.model = torch.nn.Linear(2, 2)
    refuse_noise(other, lambda picture, question: "")


def test_a_class_that_cannot_take_the_question_is_not_refused(
    capfd: pytest.CaptureFixture[str],
) -> None:
    def ask(picture: Image.Image, question: str) -> str:
        raise ValueError("videos only")

    refuse_noise(Asked(qwen()), ask)
    assert "the test question raised ValueError: videos only" in capfd.readouterr().out


HANGS = """
import time
from easi_eval.engine.vlm.finite import refuse_noise
def ask(picture, question):
    time.sleep(10_000)
refuse_noise(object(), ask)
"""


def test_a_question_that_hangs_ends_the_process_and_shows_where() -> None:
    done = subprocess.run(
        [sys.executable, "-c", HANGS],
        env={"EASI_HANG_SECONDS": "0.05", "PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 1 and "in ask" in done.stderr
