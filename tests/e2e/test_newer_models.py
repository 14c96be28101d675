"""Whole runs of models that only transformers 5 knows, with tiny checkpoints."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from easi_eval.core.profiles import NEWER, interpreter
from program import REPOSITORY, User, run_folder

pytestmark = [pytest.mark.slow, pytest.mark.e2e]

BENCHMARK = "embspatial"


@pytest.fixture(scope="module")
def qwen3_5(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("newer")
    builder = REPOSITORY / "tests" / "newer_families.py"
    subprocess.run([interpreter(NEWER), str(builder), str(folder), "qwen3_5"], check=True)
    return (folder / "qwen3_5").rename(folder / "Tiny-3.5")


@pytest.mark.parametrize("backend", ["vlmevalkit", "lmms-eval"])
def test_a_model_of_transformers_5_is_run_and_its_run_found_again(
    qwen3_5: Path, tmp_path: Path, backend: str
) -> None:
    model = (
        ["--model", qwen3_5]
        if backend == "vlmevalkit"
        else ["--model", "easi_vlm", "--model-args", f"pretrained={qwen3_5}"]
    )
    options = [
        *("--smoke", "--no-rich", "--backend", backend, *model, "--device", "cpu"),
        *("--benchmarks", BENCHMARK),
        *("--output-dir", tmp_path / "out"),
    ]
    user = User(tmp_path)
    launch = user.run(*options)
    assert launch.code == 0, launch.said
    assert "only this version has model_type qwen3_5" in launch.out
    folder = run_folder(tmp_path / "out", backend, "Tiny-3.5")
    texts = folder.texts(BENCHMARK)
    assert list(texts) and set(texts) == set(folder.items(BENCHMARK))
    assert len(set(texts.values())) > 1  # they depend on the question
    manifest = json.loads((folder.root / "run_manifest.json").read_text(encoding="utf-8"))
    assert manifest["versions"]["transformers"].startswith("5.")
    assert manifest["fields"]["transformers"] == manifest["versions"]["transformers"][:4]
    again = user.run(*options)
    assert again.code == 0 and f"skipped {BENCHMARK}: complete" in again.out
