"""What it costs to see that a loaded model computes no NaN: ``python tests/benchmarks/finite.py``.

Seconds for the check of the weights and for the test question, on the rehearsal's tiny model and
on a random model of half a billion weights, on this machine's CPU.
"""

from __future__ import annotations

import contextlib
import io
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from PIL import Image
from transformers import Qwen2Config, Qwen2ForCausalLM

from easi_eval.engine.vlm.finite import AskCanary, refuse_noise, refuse_nonfinite
from easi_eval.engine.vlm.generic_vlm import GenericVLM

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from rehearsal_data import checkpoint

ROUNDS = 3
PROMPT = torch.arange(80).unsqueeze(0)  # tokens, about as many as the question and its picture
HALF_A_BILLION = Qwen2Config(
    hidden_size=896,
    intermediate_size=4864,
    num_hidden_layers=24,
    num_attention_heads=14,
    num_key_value_heads=2,
    tie_word_embeddings=True,
)


def models() -> Iterator[tuple[str, object, AskCanary]]:
    """The name of each model, the model, and how it is asked."""
    with tempfile.TemporaryDirectory() as folder:
        tiny = GenericVLM(checkpoint.build(Path(folder) / "model"), device="cpu")

    def ask_tiny(picture: Image.Image, question: str) -> str:
        parts = [{"type": "image", "image": picture}, {"type": "text", "text": question}]
        return tiny.generate([[{"role": "user", "content": parts}]])[0].text

    yield "rehearsal", tiny, ask_tiny
    model = Qwen2ForCausalLM(HALF_A_BILLION).eval()
    for dtype in (torch.float32, torch.bfloat16):
        model.to(dtype)
        yield f"0.5 billion, {dtype}", model, lambda *asked: str(model.generate(PROMPT))


def seconds(call: Callable[[], None]) -> tuple[float, float]:
    """The first call, and the fastest of the next ones."""
    taken = []
    for _ in range(1 + ROUNDS):
        began = time.perf_counter()
        with contextlib.redirect_stdout(io.StringIO()):
            call()
        taken.append(time.perf_counter() - began)
    return taken[0], min(taken[1:])


def main() -> None:
    for name, model, ask in models():
        checks = seconds(lambda model=model: refuse_nonfinite(model))
        canary = seconds(lambda model=model, ask=ask: refuse_noise(model, ask))
        print(f"{name}: weights {checks[0]:.3f} {checks[1]:.3f} s, ", end="")
        print(f"canary {canary[0]:.3f} {canary[1]:.3f} s", flush=True)


if __name__ == "__main__":
    main()
