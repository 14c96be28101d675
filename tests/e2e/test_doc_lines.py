"""The launches in the README and the guides: planned as they are written, and two of them run.

A hub on loopback serves tiny checkpoints under the real names. Those of models that only
transformers 5 knows are whole, and their lines are run.
"""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

import checkpoints
from board import Board
from docs import PROGRAM, READMES, fenced, launches, text
from easi_eval.core.profiles import NEWER, interpreter
from easi_eval.data.local_hub.server import LocalHub
from guide import BLOCKS
from judge_server import KEY, judge_server
from openai_server import openai_server
from pasted import Clone, Said
from program import REPOSITORY, SECRETS, run_folder

pytestmark = [pytest.mark.slow, pytest.mark.e2e]

# Not planned here: what evaluates nothing; what unit/test_guide_lines plans.
SHOWS = {"--compare", "--help", "--import-results", "--list", "--status", "--verify"}
GUIDE = [words for block in BLOCKS.values() for words in launches(block)]
# Not planned anywhere: what needs a machine of another kind.
NEEDS = {"--join", "--slurm", "vllm"}  # a run, Slurm (both: cluster/), vLLM (test_lmms_engines)
LINES = {
    shlex.join(words): None
    for name in READMES
    for block in fenced(text(name), "bash")
    for words in launches(block)
    if not {*words} & (SHOWS | NEEDS) and words not in GUIDE
}
OURS = "Qwen/Qwen3.5-9B"
NEWER_MODELS = {"qwen3_5": OURS, "gemma4": "google/gemma-4-31B-it", "molmo2": "allenai/Molmo2-8B"}
OTHERS = ("Qwen/Qwen2.5-VL-7B-Instruct", "Qwen/Qwen2.5-VL-72B-Instruct")
RUN = {
    "vlmevalkit": f"--model {OURS} --nproc 8 --dry-run",
    "lmms-eval": f"--backend lmms-eval --model easi_vlm --model-args pretrained={OURS} --nproc 8",
}
# Eight workers with all questions would take minutes.
ONE = ("--nproc 8", "--smoke --device cpu --benchmarks embspatial --no-rich")
EIGHT_GPUS = {
    "PYTHONPATH": str(REPOSITORY / "tests" / "cpu_as_cuda"),  # no GPU: eight that are the CPU
    "CPU_AS_CUDA_DEVICES": "8",
}


@dataclass(frozen=True)
class Place:
    clone: Clone
    instead: dict[str, str]  # all that is not word for word
    variables: dict[str, str]

    def paste(self, words: str, **changes: str) -> Said:
        for old, new in self.instead.items():
            words = words.replace(old, new)
        return self.clone.paste(f"{PROGRAM} {words}", **self.variables, **changes)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    root = tmp_path_factory.mktemp("lines")
    models = root / "hub" / "models"
    builder = str(REPOSITORY / "tests" / "newer_families.py")
    subprocess.run([interpreter(NEWER), builder, str(root), *NEWER_MODELS], check=True)
    for family, name in NEWER_MODELS.items():
        shutil.copytree(root / family, models / name)
    for name in OTHERS:
        folder = checkpoints.qwen2_5_vl(models / name)
        (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n")
    made = Clone.make(root)
    (submit,) = (words for words in GUIDE if "--submit" in words and OTHERS[0] in words)
    (made.folder / "meta.json").write_text(submit[-1])
    with (
        LocalHub(root / "hub") as hub,
        Board(SECRETS["HF_TOKEN"]) as board,
        judge_server() as judge,
        openai_server(model=OURS) as one,
        openai_server(model=OURS) as other,
    ):
        instead = {
            "http://node7:8000/v1": one.base,
            "http://node8:8000/v1": other.base,
            "ORG/MODEL": OTHERS[0],
        }
        told = {"HF_ENDPOINT": hub.endpoint, "HF_HUB_DISABLE_XET": "1", "NO_PROXY": "127.0.0.1"}
        sent = {"EASI_SUBMIT_URL": board.url, "HF_TOKEN": SECRETS["HF_TOKEN"]}
        asked = {"OPENAI_API_BASE": judge.base, "OPENAI_API_KEY": KEY}
        yield Place(made, instead, {**told, **sent, **asked})
    shutil.rmtree(root, ignore_errors=True)


@pytest.mark.parametrize("line", LINES)
def test_a_line_is_planned(place: Place, line: str) -> None:
    said = place.paste(f"{line} --dry-run", **EIGHT_GPUS)
    assert said.code == 0 and "blocked " not in said.text, said.text
    newer = [family for family, name in NEWER_MODELS.items() if name in line]
    if newer and "--base-url" not in line:
        assert f"only this version has model_type {newer[0]}" in said.text, said.text


@pytest.mark.parametrize("backend", RUN)
def test_a_model_of_transformers_5_is_run_and_its_run_found_again(
    place: Place, backend: str
) -> None:
    assert RUN[backend] in LINES
    line = RUN[backend].replace(" --dry-run", "").replace(*ONE)
    said = place.paste(line)
    assert said.code == 0, said.text[-6000:]
    assert "only this version has model_type qwen3_5" in said.text
    out = place.clone.folder / "eval_results_smoke"
    folder = run_folder(out, backend, OURS.replace("/", "__"))
    texts = folder.texts("embspatial")
    assert list(texts) and set(texts) == set(folder.items("embspatial"))
    assert len(set(texts.values())) > 1  # they depend on the question
    manifest = json.loads((folder.root / "run_manifest.json").read_text(encoding="utf-8"))
    assert manifest["versions"]["transformers"].startswith("5.")
    assert manifest["fields"]["transformers"] == manifest["versions"]["transformers"][:4]
    again = place.paste(line)
    assert again.code == 0 and "skipped embspatial: complete" in again.text
