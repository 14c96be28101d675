"""The commands of the leaderboard's own guide, pasted into bash one after the other.

A hub on loopback serves the rehearsal's data and tiny checkpoints under the real names. What needs
no evaluation is in unit/test_guide_lines, and block 8 (lmms-eval itself) in test_lmms_direct_use.
What VLMEvalKit itself makes is then imported, with the line of our own guide.
"""

from __future__ import annotations

import shutil
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest

import checkpoints
from board import Board
from docs import RESULTS, fenced, text
from easi_eval.benchmarks import ALL_KEYS, CORE_KEYS, VLMEVALKIT, by_key
from easi_eval.data.local_hub.server import LocalHub
from easi_eval.data.rehearsal import unpack
from guide import BLOCKS, launches
from judge_server import KEY, JudgeServer, judge_server
from own_entries import TINY
from pasted import Clone, Said
from program import REPOSITORY, SECRETS, Results, RunFolder, run_folder
from ranks import workers_below

pytestmark = [pytest.mark.slow, pytest.mark.e2e]

# All that is not word for word, with the reason. Block 1 (clone, set-up): a folder like a clone
# with the tests' environment stands for it; its activation is pasted before every command.
FLASH = ("flash_attention_2", "sdpa")  # flash-attn is not installed; the refusal: test_guide_lines
TWO = ("--nproc 4", "--nproc 2")  # one line of each backend starts eight
YOURS = ("{your_model}", "Qwen2.5-VL-7B-Instruct")  # block 7; OPENAI_API_BASE is the tests' judge
CPU_AS_CUDA = {
    "PYTHONPATH": str(REPOSITORY / "tests" / "cpu_as_cuda"),  # no GPU: eight that are the CPU
    "CPU_AS_CUDA_DEVICES": "8",
}
MODELS = {
    "Qwen/Qwen2.5-VL-7B-Instruct": checkpoints.qwen2_5_vl,
    "Qwen/Qwen3-VL-8B-Instruct": lambda folder: checkpoints.answers_a(checkpoints.qwen3_vl(folder)),
}
WORKERS = {str(rank): {f"w{rank}"} for rank in range(8)}
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

    def paste_and_look(
        self, command: str, launcher: str, *instead: tuple[str, str], **changes: str
    ) -> tuple[Said, dict[str, set[str]]]:
        """Paste, and return the workers that were seen below each rank of the only launcher."""
        seen: dict[tuple[str, str], set[str]] = defaultdict(set)

        def look(pids: list[int]) -> None:
            for rank, workers in workers_below(pids, launcher).items():
                seen[rank] |= workers

        said = self.paste(command, *instead, look=look, **changes)
        assert len({process for process, _ in seen}) <= 1, seen
        return said, {rank: workers for (_, rank), workers in seen.items()}

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
    said, ranks = place.paste_and_look(launches(2)[0], "torch.distributed.run")
    assert said.code == 0, said.text[-6000:]
    assert ranks == WORKERS
    assert {answer["worker"] for answer in place.run("vlmevalkit").answers} <= {
        f"w{rank}" for rank in range(8)
    }
    place.check_outputs("Qwen2.5-VL-7B-Instruct", *CORE_KEYS)


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


# ---- VLMEvalKit itself ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def by_itself(place: Place) -> tuple[Said, JudgeServer, Path]:
    """Block 7, and where its files are."""
    with judge_server() as judge:
        said = place.paste(
            BLOCKS[7],
            YOURS,
            OPENAI_API_BASE=judge.base,
            OPENAI_API_KEY=KEY,
            LMUData=str(place.clone.folder / "datasets"),  # where --import-results looks for tables
        )
    return said, judge, place.clone.folder / "VLMEvalKit" / "outputs"


@pytest.mark.parametrize("key", CORE_KEYS)
def test_vlmevalkit_itself_answers_and_judges_every_dataset(
    by_itself: tuple[Said, JudgeServer, Path], key: str
) -> None:
    said, judge, outputs = by_itself
    assert said.code == 0, said.text[-6000:]
    stem = f"{YOURS[1]}_{by_key(key).source(VLMEVALKIT).task}"
    answers = pd.read_excel(outputs / YOURS[1] / f"{stem}.xlsx", dtype=str)["prediction"]
    assert len(answers) == TINY[VLMEVALKIT][key]
    assert answers.notna().all() and not answers.str.startswith("Failed").any()
    # 3DSRBench's own evaluation leaves the judge out of the name.
    name = "result.xlsx" if key == "3dsrbench" else "*gpt-4o-1120*.xlsx"
    assert list((outputs / YOURS[1]).glob(f"{stem}_{name}"))
    replies = (outputs / "judge_answers.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(replies) == len(judge.questions) > 0


def test_what_vlmevalkit_itself_made_is_imported(
    place: Place, by_itself: tuple[Said, JudgeServer, Path]
) -> None:
    (line,) = (block for block in fenced(text(RESULTS), "bash") if "--import-results" in block)
    said = place.paste(line)
    assert said.code == 0, said.text[-6000:]
    results = Results(place.out)
    assert {results.line(key)["state"] for key in CORE_KEYS} == {"complete"}
    assert results.payload["modelName"] == "Qwen/Qwen2.5-VL-7B-Instruct"


def test_one_benchmark_on_vlmevalkit_itself_as_its_readme_has_it(place: Place) -> None:
    said = place.paste(fenced(text("VLMEvalKit/README.md"), "bash")[0])
    assert said.code == 0, said.text[-6000:]
    (path,) = (place.clone.folder / "VLMEvalKit" / "outputs" / YOURS[1]).glob(
        f"{YOURS[1]}_EmbSpatialBench_extract_matching_acc.csv"
    )
    assert 0 <= float(pd.read_csv(path, sep="\t")["overall"].iloc[-1]) <= 100


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


@pytest.mark.alone
def test_eight_workers_add_the_optional_benchmarks_on_lmms_eval(place: Place) -> None:
    said, ranks = place.paste_and_look(
        launches(6)[1], "accelerate.commands.launch", FLASH, ("--nproc 4", "--nproc 8")
    )
    assert said.code == 0, said.text[-6000:]
    assert ranks == WORKERS
    place.check_outputs("Qwen3-VL-8B-Instruct", *ALL_KEYS)
