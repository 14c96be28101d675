"""A model that computes NaN is refused on both backends, before any question is asked."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from program import REPOSITORY, User, run_folders
from rehearsal_data import checkpoint

pytestmark = [pytest.mark.slow, pytest.mark.e2e]

SAID = {
    "weight": "1 of the model's weights hold NaN or infinity: model.language_model.layers.0.",
    "UnsetBuffer": "1 of the model's buffers hold NaN: inv_freq",
    "NanLogits": "the model computes NaN",
}


def noisy(folder: Path, harm: str) -> Path:
    """A checkpoint with one NaN in a weight, or with code of its own."""
    checkpoint.build(folder)
    if harm == "weight":
        path = folder / "model.safetensors"
        weights = load_file(path)
        weights["model.layers.0.self_attn.q_proj.weight"][1, 2] = float("nan")
        save_file(weights, path, metadata={"format": "pt"})
    else:
        shutil.copy(REPOSITORY / "tests" / "data" / "noisy_qwen.py", folder)
        config = json.loads((folder / "config.json").read_text())
        config["auto_map"] = {"AutoModelForImageTextToText": f"noisy_qwen.{harm}"}
        (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize("backend", ["vlmevalkit", "lmms-eval"])
@pytest.mark.parametrize("harm", SAID)
def test_noise_is_refused_before_any_question(tmp_path: Path, backend: str, harm: str) -> None:
    model = noisy(tmp_path / "Noisy-VLM", harm)
    named: tuple[object, ...] = (
        ("--model", model, "--model-args", "min_pixels=784,max_pixels=3136")
        if backend == "vlmevalkit"
        else ("--model", "easi_vlm", "--model-args", f"pretrained={model}")
    )
    user = User(tmp_path / "user")
    launch = user.run(
        "--smoke",
        "--backend",
        backend,
        *named,
        *(() if harm == "weight" else ("--trust-remote-code",)),
        "--device",
        "cpu",
        "--benchmarks",
        "embspatial,viewspatial",
        "--limit",
        2,
        "--no-rich",
        "--output-dir",
        user.root / "out",
    )
    # The screen is as wide as a terminal.
    assert launch.code == 1 and SAID[harm] in launch.out.replace("\n    ", " "), launch.said
    (folder,) = run_folders(user.root / "out", backend)
    assert folder.records("answer") == [] == folder.records("leased")
    lines = launch.logs[0].read_text(encoding="utf-8").splitlines()
    (error,) = [place for place, line in enumerate(lines) if f"[w0] error: {SAID[harm]}" in line]
    assert "[w0] hint: " in lines[error + 1], launch.said
