"""The commands of the leaderboard's own guide, pasted into bash one after the other.

A hub on loopback serves the rehearsal's data and tiny checkpoints under the real names. What needs
no evaluation is in unit/test_guide_lines, and block 8 (lmms-eval itself) in test_lmms_direct_use.
"""

from __future__ import annotations

import shutil
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import checkpoints
from board import Board
from easi_eval.benchmarks import ALL_KEYS, CORE_KEYS
from easi_eval.data.local_hub.server import LocalHub
from easi_eval.data.rehearsal import unpack
from guide import launches
from pasted import Clone, Said
from program import REPOSITORY, SECRETS, Results, RunFolder, run_folder
from ranks import workers_below

pytestmark = [pytest.mark.slow, pytest.mark.e2e]

# All that is not word for word, with the reason. Block 1 (clone, set-up): a folder like a clone
# with the tests' environment stands for it; its activation is pasted before every command.
FLASH = ("flash_attention_2", "sdpa")  # flash-attn is not installed; the refusal: test_guide_lines
TWO = ("--nproc 4", "--nproc 2")  # eight start on VLMEvalKit; lmms-eval: test_eight_workers
CPU_AS_CUDA = {
    "PYTHONPATH": str(REPOSITORY / "tests" / "cpu_as_cuda"),  # no GPU: eight that are the CPU
    "CPU_AS_CUDA_DEVICES": "8",
}
MODELS = {
    "Qwen/Qwen2.5-VL-7B-Instruct": checkpoints.qwen2_5_vl,
    "Qwen/Qwen3-VL-8B-Instruct": lambda folder: checkpoints.answers_a(checkpoints.qwen3_vl(folder)),
}
SHORT = {"CPU_AS_CUDA_TOKENS": "300"}  # memory is too small for the longest questions


@dataclass(frozen=True)
class Place:
    clone: Clone
    board: Board
    variables: dict[str, str]

    def paste(
        self,
        command: str,
        *instead: tuple[str, str],
        look: Callable[[list[int]], object] | None = None,
        **changes: str,
    ) -> Said:
        for old, new in instead:
            command = command.replace(old, new)
        return self.clone.paste(command, look, **self.variables, **changes)

    @property
    def out(self) -> Path:
        return self.clone.folder / "eval_results"

    def run(self, backend: str) -> RunFolder:
        name = next(name for name in MODELS if ("Qwen3" in name) == (backend == "lmms-eval"))
        return run_folder(self.out, backend, name.replace("/", "__"))

    def check_outputs(self, model: str, *keys: str) -> None:
        """Check what the guide says that the script generates."""
        assert (self.out / "easi_results.zip").is_file()
        assert [path for path in self.out.glob("eval_*.log") if model in path.name]
        results = Results(self.out)
        assert results.payload["scores"]
        assert {results.line(key)["state"] for key in keys} == {"complete"}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    root = tmp_path_factory.mktemp("guide")
    served = unpack(root / "served")
    for name, build in MODELS.items():
        folder = build(served / "models" / name)
        (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n")
    with LocalHub(served) as hub, Board(SECRETS["HF_TOKEN"]) as board:
        told = {"HF_ENDPOINT": hub.endpoint, "HF_HUB_DISABLE_XET": "1", "NO_PROXY": "127.0.0.1"}
        sent = {"EASI_SUBMIT_URL": board.url, "HF_TOKEN": SECRETS["HF_TOKEN"]}
        yield Place(Clone.make(root), board, {**told, **sent, **CPU_AS_CUDA})
    shutil.rmtree(root, ignore_errors=True)


# ---- VLMEvalKit ----------------------------------------------------------------------------------


@pytest.mark.alone
def test_eight_workers_on_vlmevalkit(place: Place) -> None:
    seen: dict[str, set[str]] = defaultdict(set)

    def look(pids: list[int]) -> None:
        for (_, rank), workers in workers_below(pids, "torch.distributed.run").items():
            seen[rank] |= workers

    said = place.paste(launches(2)[0], look=look)
    assert said.code == 0, said.text[-6000:]
    assert seen == {str(rank): {f"w{rank}"} for rank in range(8)}
    place.check_outputs("Qwen2.5-VL-7B-Instruct", *CORE_KEYS)
    assert {answer["worker"] for answer in place.run("vlmevalkit").answers} <= {
        f"w{rank}" for rank in range(8)
    }


def test_a_finished_run_on_vlmevalkit_is_sent(place: Place) -> None:
    said = place.paste(launches(2)[1])
    assert said.code == 0 and "submitted" in said.text, said.text[-6000:]
    entry = place.board.entries[-1]
    assert entry.payload["modelName"] == "Qwen/Qwen2.5-VL-7B-Instruct"
    assert entry.payload["remarks"].startswith("Submitted via script")
    assert entry.archive == (place.out / "easi_results.zip").read_bytes()


def test_what_is_complete_is_neither_asked_nor_scored_otherwise(place: Place) -> None:
    folder = place.run("vlmevalkit")
    asked = len(folder.answers)
    for command in (launches(6)[0], launches(6)[2]):
        said = place.paste(command)
        assert said.code == 0, said.text[-6000:]
    assert len(folder.answers) == asked
    place.check_outputs("Qwen2.5-VL-7B-Instruct", *CORE_KEYS)


def test_rerun_asks_everything_again(place: Place) -> None:
    folder = place.run("vlmevalkit")
    asked = len(folder.answers)
    said = place.paste(launches(5)[0], ("--nproc 8", "--nproc 2"))
    assert said.code == 0, said.text[-6000:]
    assert len(folder.answers) == 2 * asked
    place.check_outputs("Qwen2.5-VL-7B-Instruct", *CORE_KEYS)


# ---- lmms-eval -----------------------------------------------------------------------------------


def test_what_lacked_memory_is_completed_without_accelerate(place: Place) -> None:
    said = place.paste(launches(3)[0], FLASH, TWO, **SHORT)
    assert said.code == 1 and "out of memory" in said.text, said.text[-6000:]
    asked = len(place.run("lmms-eval").answers)
    said = place.paste(launches(4)[0], FLASH)
    assert said.code == 0, said.text[-6000:]
    assert len(place.run("lmms-eval").answers) > asked > 0
    place.check_outputs("Qwen3-VL-8B-Instruct", *CORE_KEYS)


def test_a_finished_run_on_lmms_eval_is_sent(place: Place) -> None:
    for command in launches(3):
        said = place.paste(command, FLASH)
        assert said.code == 0, said.text[-6000:]
    assert [entry.payload["backend"] for entry in place.board.entries][-1] == "lmmseval"
    assert place.board.entries[-1].payload["modelName"] == "Qwen/Qwen3-VL-8B-Instruct"


def test_the_optional_benchmarks_are_added_on_lmms_eval(place: Place) -> None:
    said = place.paste(launches(6)[1], FLASH, TWO)
    assert said.code == 0, said.text[-6000:]
    place.check_outputs("Qwen3-VL-8B-Instruct", *ALL_KEYS)
