"""VLMEvalKit's own classes answer through the driver, on tiny checkpoints.

"cuda" means the CPU here. How a class is chosen is tested in unit/backends/test_backends.py; here
it must be that class that answers.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import checkpoints
from easi_eval.backends.vlmevalkit.backend import VLMEvalKit
from easi_eval.benchmarks import by_key
from easi_eval.config import RunConfig
from easi_eval.core.model import ModelChoice
from easi_eval.core.run_folder import RunPaths
from easi_eval.data.fetch import fetch
from easi_eval.data.local_hub.server import LocalHub
from easi_eval.data.needs import HubSettings
from program import REPOSITORY, RunFolder, User
from rehearsal_data import repositories

pytestmark = [pytest.mark.slow, pytest.mark.e2e]

CPU_AS_CUDA = REPOSITORY / "tests" / "cpu_as_cuda"
BENCHMARK = "embspatial"


@dataclass(frozen=True)
class Answered:
    choice: ModelChoice
    folder: RunFolder
    log: str


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, HubSettings]]:
    root = tmp_path_factory.mktemp("families")
    repositories.build(root / "hub")
    with LocalHub(root / "hub") as served:
        settings = HubSettings(endpoint=served.endpoint, hf_home=root / "huggingface")
        fetch(
            VLMEvalKit(settings).needs(
                RunConfig(model="any", dataset_dir=root / "datasets"), by_key(BENCHMARK)
            ),
            lambda event: None,
            settings,
        )
        yield root, settings


def answered(place: tuple[Path, HubSettings], family: str, options: str = "") -> Answered:
    """Two questions, answered by the launch that a run of ours would make."""
    root, settings = place
    model = checkpoints.BUILDERS[family](root / "models" / f"{family}-tiny")
    cfg = RunConfig(model=str(model), model_args=options, limit=2, dataset_dir=root / "datasets")
    backend = VLMEvalKit(settings)
    choice = backend.resolve(cfg)
    run = root / "runs" / "vlmevalkit" / family
    job = backend.answer_job(cfg, choice, [by_key(BENCHMARK)], RunPaths(run), 0)
    env = User(root).environment(**job.env, PYTHONPATH=str(CPU_AS_CUDA), EASI_LAUNCH="1")
    done = subprocess.run(job.argv, env=env, cwd=root, capture_output=True, text=True, timeout=300)
    log = done.stdout + done.stderr
    assert done.returncode == 0, log[-4000:]
    return Answered(choice, RunFolder(run), log)


@pytest.mark.parametrize(
    ("family", "options", "cls"),
    [
        ("qwen2_5_vl", "max_new_tokens=8", "vlmeval.vlm.qwen2_vl.model.Qwen2VLChat"),
        ("qwen3_vl", "max_new_tokens=8", "vlmeval.vlm.qwen3_vl.model.Qwen3VLChat"),
        ("internvl", "", "vlmeval.vlm.internvl.internvl_chat.InternVLChat"),
    ],
)
def test_the_class_of_the_family_answers(
    place: tuple[Path, HubSettings], family: str, options: str, cls: str
) -> None:
    found = answered(place, family, options)
    assert found.choice.cls == cls.rpartition(".")[2]
    assert re.findall(r"the model is a (\S+)", found.log) == [cls], found.log[-3000:]
    assert "the test question was answered" in found.log
    texts = found.folder.texts(BENCHMARK)
    assert list(texts) == found.folder.items(BENCHMARK) and len(texts) == 2
    assert all(texts.values()), texts
    assert not [record for record in found.folder.records("answer") if record["failure"]]
    assert {record["frames"] for record in found.folder.answers} == {1}
    if family.startswith("qwen"):  # what it asks for cannot be had here
        assert "loaded with sdpa instead of flash_attention_2" in found.log
    assert os.access(CPU_AS_CUDA / "nvidia-smi", os.X_OK)
