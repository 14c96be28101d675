"""An adapter without a config.json is run over its base.

It answers as the merged model does, on both ways of loading checkpoints.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from checkpoints import adapter, qwen2_5_vl
from easi_eval.backends.shared.adapter_folder import bare_adapter, lay_out
from easi_eval.engine.vlm.generic_vlm import GenericVLM
from program import User, run_folder

pytestmark = [pytest.mark.slow, pytest.mark.e2e]


def answers(path: Path) -> list[str]:
    """Of our generic class."""
    model = GenericVLM(path, device="cpu", min_pixels=784, max_pixels=3136)
    picture = Image.new("RGB", (40, 40), "red")
    asked = [
        [
            {
                "role": "user",
                "content": [{"type": "image", "image": picture}, {"type": "text", "text": text}],
            }
        ]
        for text in ("what?", "where is it?")
    ]
    return [made.text for made in model.generate(asked)]


def test_an_adapter_answers_as_the_merged_model_and_not_as_its_base(tmp_path: Path) -> None:
    base, merged = qwen2_5_vl(tmp_path / "base"), tmp_path / "merged"
    made = bare_adapter(adapter(base, tmp_path / "lora", merged))
    assert made is not None
    lay_out(made, base, tmp_path / "both")
    assert answers(tmp_path / "both") == answers(merged) != answers(base)


def test_a_run_of_an_adapter_is_open_again_when_its_base_has_new_weights(tmp_path: Path) -> None:
    base = qwen2_5_vl(tmp_path / "base")
    lora = adapter(base, tmp_path / "lora")
    user, out = User(tmp_path), tmp_path / "out"
    arguments = (
        "--smoke",
        "--no-rich",
        "--backend",
        "lmms-eval",
        "--model",
        "qwen2_5_vl",
        "--device",
        "cpu",
        "--benchmarks",
        "embspatial",
        "--model-args",
        f"pretrained={lora},device_map=cpu,min_pixels=784,max_pixels=3136",
        "--output-dir",
        out,
    )
    short = ("--", "--gen_kwargs", "max_new_tokens=8")  # weights that nobody trained end no answer
    launch = user.run(*arguments, *short)
    assert launch.code == 0 and f"an adapter of {base}" in launch.out, launch.said
    folder = run_folder(out, "lmms-eval", "lora")
    assert folder.manifest["fields"]["refers to"].keys() == {str(base)}
    assert "complete, 18 questions" in user.run(*arguments, "--dry-run", *short).out

    [weights] = base.glob("*.safetensors")
    data = bytearray(weights.read_bytes())
    data[-2] ^= 0x40
    weights.write_bytes(data)
    again = user.run(*arguments, "--dry-run", *short).out
    assert "not run yet" in again and "refers to" in again and "complete" not in again
