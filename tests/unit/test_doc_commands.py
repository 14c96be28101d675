"""Every command block of the README and the guides: bash understands it, and it is run if cheap."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator

import pytest

from docs import PROGRAM, READMES, REPOSITORY, commands, fenced, text
from easi_eval.config import RunConfig
from finished import finish
from guide import BLOCKS
from pasted import Clone

# Elsewhere: what a block holds, and why it is not run here.
ELSEWHERE = {
    "bash scripts/setup.sh  ": "needs the network: unit/setup, continuous integration",
    "bash scripts/smoke.sh ": "continuous integration; e2e/test_whole_runs has its launches",
    "bash scripts/test.sh": "these tests",
    "tests/structure.py": "unit/test_style runs it",
    "vllm serve": "needs vLLM and a GPU",
    "--nodes": "needs Slurm: cluster/",
    "--join": "needs a run on another machine: cluster/",
    "--model ": "an evaluation: planned in e2e/test_doc_lines or, in the guide's words, in "
    "unit/test_guide_lines; whole runs: e2e/test_guide, e2e/test_whole_runs and others",
    "--import-results": "needs results of VLMEvalKit itself: e2e/test_guide",
    "xdg-open": "opens a browser: unit/report drives one",
}
# The files of the backends' own READMEs have tests of their own: e2e/test_*direct_use and others.
ITSELF = ("VLMEvalKit/README.md", "lmms-eval/README.md")

ALL = [(name, block) for name in READMES for block in fenced(text(name), "bash")]


def reasons(block: str) -> list[str]:
    return [held for held in ELSEWHERE if held in block]


RUN = [block for name, block in ALL if name not in ITSELF and not reasons(block)]


def first_line(block: str) -> str:
    return block.partition("\n")[0][:80]


@pytest.mark.parametrize("block", [*(block for _, block in ALL), *BLOCKS.values()], ids=first_line)
def test_bash_understands_a_block_and_its_files_exist(block: str) -> None:
    done = subprocess.run(["bash", "-n"], input=block, capture_output=True, text=True)
    assert done.returncode == 0 and not done.stderr, done.stderr
    files = re.findall(r"(?<![\w./])(?:scripts|tests)/[\w./-]+\.(?:py|sh)\b", block)
    assert [name for name in files if not (REPOSITORY / name).is_file()] == []


@pytest.mark.parametrize(("number", "name"), [(7, ITSELF[0]), (8, ITSELF[1])])
def test_a_backends_readme_has_the_guides_line(number: int, name: str) -> None:
    told = [words for where, block in ALL if where == name for words in commands(block)]
    assert list(commands(BLOCKS[number]))[-1] in told


def test_every_reason_is_needed() -> None:
    assert {held for _, block in ALL for held in reasons(block)} == set(ELSEWHERE)


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clone]:
    """A clone with a finished run under the names that the guides use for runs."""
    made = Clone.make(tmp_path_factory.mktemp("pasted"))
    model = made.folder / "Qwen2.5-VL-7B-Instruct"
    model.mkdir()
    (model / "config.json").write_text('{"model_type": "qwen2_5_vl", "torch_dtype": "bfloat16"}')
    cfg = RunConfig(model=str(model), output_dir=made.folder / "eval_results")
    run = finish(cfg).root
    told = made.paste(f"{PROGRAM} --model {model}", HF_HUB_OFFLINE="1")
    assert told.code == 0, told.text
    shutil.copytree(run, run.with_name("base-1a2b3c4d"))
    shutil.copytree(cfg.output_dir, made.folder / "eval_results_tuned")
    for name in ("easi_results.zip", "easi_results.json"):
        shutil.copy(cfg.output_dir / name, made.folder)
    yield made
    shutil.rmtree(made.folder.parent, ignore_errors=True)


@pytest.mark.slow
@pytest.mark.parametrize("block", RUN, ids=first_line)
def test_a_cheap_block_runs(clone: Clone, block: str) -> None:
    said = clone.paste(block)
    assert said.code == 0 and "error: " not in said.text, said.text
