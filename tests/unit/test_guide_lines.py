"""The guide's lines for the program, pasted word for word: planned, and on a finished run.

A hub on loopback has checkpoints under the real names, and a board is the leaderboard.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from board import Board
from easi_eval.benchmarks import CORE_KEYS
from easi_eval.config import RunConfig
from easi_eval.data.local_hub.server import LocalHub
from finished import finish
from guide import launches
from pasted import Clone, Said
from program import REPOSITORY, SECRETS, Results
from rehearsal_data import checkpoint

LINES = {number: launches(number) for number in (2, 3, 4, 5, 6)}
ALL = [line for lines in LINES.values() for line in lines]
# All that is not word for word. Block 1 (clone, set-up): a folder like a clone with the tests'
# environment stands for it; its activation is pasted before each line.
FLASH = ("flash_attention_2", "sdpa")  # flash-attn is not installed: refused in the first test
NO_GPU = {  # eight, as the guide has them, that are the CPU
    "PYTHONPATH": str(REPOSITORY / "tests" / "cpu_as_cuda"),
    "CPU_AS_CUDA_DEVICES": "8",
}
MODELS = {
    "Qwen/Qwen2.5-VL-7B-Instruct": {},
    "Qwen/Qwen3-VL-8B-Instruct": {
        "model_type": "qwen3_vl",
        "architectures": ["Qwen3VLForConditionalGeneration"],
    },
}


@dataclass(frozen=True)
class Place:
    clone: Clone
    board: Board
    variables: dict[str, str]

    def paste(self, line: str, more: str = "") -> Said:
        return self.clone.paste(line.rstrip().replace(*FLASH) + more, **self.variables)

    @property
    def out(self) -> Path:
        return self.clone.folder / "eval_results"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    root = tmp_path_factory.mktemp("guide")
    for name, other in MODELS.items():
        folder = checkpoint.build(root / "hub" / "models" / name)
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        (folder / "config.json").write_text(json.dumps(config | other), encoding="utf-8")
        (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n", encoding="utf-8")
    with LocalHub(root / "hub") as hub, Board(SECRETS["HF_TOKEN"]) as board:
        told = {"HF_ENDPOINT": hub.endpoint, "HF_HUB_DISABLE_XET": "1", "NO_PROXY": "127.0.0.1"}
        sent = {"EASI_SUBMIT_URL": board.url, "HF_TOKEN": SECRETS["HF_TOKEN"]}
        yield Place(Clone.make(root), board, {**told, **sent, **NO_GPU})
    shutil.rmtree(root, ignore_errors=True)


def test_flash_attention_is_refused_with_the_line_that_works(place: Place) -> None:
    said = place.clone.paste(LINES[3][0], **place.variables)
    assert said.code == 2 and "flash_attn is not installed" in said.text, said.text
    assert "attn_implementation=sdpa --nproc 4" in said.text


@pytest.mark.parametrize("line", ALL)
def test_a_line_is_planned(place: Place, line: str) -> None:
    said = place.paste(line, " --dry-run")
    assert said.code == 0 and "blocked " not in said.text, said.text


@pytest.mark.parametrize(
    ("cfg", "alone", "sends"),
    [
        (RunConfig(model="Qwen/Qwen2.5-VL-7B-Instruct"), [LINES[2][0], LINES[6][0]], LINES[2][1]),
        (
            RunConfig(
                backend="lmms-eval",
                model="qwen3_vl",
                model_args="pretrained=Qwen/Qwen3-VL-8B-Instruct,attn_implementation=sdpa",
            ),
            [LINES[3][0], LINES[4][0]],
            LINES[3][1],
        ),
    ],
    ids=["vlmevalkit", "lmms-eval"],
)
def test_a_finished_run_is_sent(
    place: Place, cfg: RunConfig, alone: list[str], sends: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place.clone.folder)
    finish(cfg)
    for line in alone:
        said = place.paste(line)
        assert said.code == 0, said.text
    results = Results(place.out)
    assert {results.line(key)["state"] for key in CORE_KEYS} == {"complete"}
    assert not place.board.entries or place.board.entries[-1].payload != results.payload
    said = place.paste(sends)
    assert said.code == 0 and "submitted" in said.text, said.text
    entry = place.board.entries[-1]
    assert (
        entry.payload["modelName"] in sends and "Submitted via script" in entry.payload["remarks"]
    )
    assert entry.archive == (place.out / "easi_results.zip").read_bytes()
