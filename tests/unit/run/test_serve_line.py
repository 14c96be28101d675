"""The line of ``--dry-run`` that says how an engine would serve the model."""

from __future__ import annotations

import shlex

import pytest

from easi_eval.config import RunConfig
from easi_eval.core.model import ModelChoice
from easi_eval.run.dry_run import serve_line


def words(line: str) -> list[str]:
    return shlex.split(line.partition("--base-url: ")[2].removesuffix("(scripts/docs/engines.md)"))


@pytest.mark.parametrize(
    ("nproc", "gpus", "parallel"),
    [
        (8, 8, ["--tensor-parallel-size", "1", "--data-parallel-size", "8"]),
        (2, 8, ["--tensor-parallel-size", "4", "--data-parallel-size", "2"]),
        (1, 4, ["--tensor-parallel-size", "4"]),
    ],
)
def test_the_gpus_are_divided_as_among_the_processes(
    nproc: int, gpus: int, parallel: list[str]
) -> None:
    model = ModelChoice("org/m", "org/m", "Chat", "why", revision="v2")
    said = words(serve_line(RunConfig(model="org/m", nproc=nproc), model, gpus))
    assert said[:5] == ["vllm", "serve", "org/m", "--revision", "v2"]
    assert said[5:-2] == parallel and said[-2:] == ["--limit-mm-per-prompt", '{"image": 64}']


def test_a_folder_is_served_under_its_name_and_its_code_must_be_allowed() -> None:
    model = ModelChoice("my model", "/data/my model", "Chat", "why", revision="0123abcd")
    said = words(serve_line(RunConfig(model="m", trust_remote_code=True), model, 1))
    assert said[:5] == ["vllm", "serve", "/data/my model", "--served-model-name", "my model"]
    assert "--revision" not in said and said[-1] == "--trust-remote-code"


@pytest.mark.parametrize(
    ("model", "gpus"),
    [
        (ModelChoice("m", "m", "Chat", "", served=True), 8),
        (ModelChoice("m", "m", "Chat", "", needs_gpu=False), 8),
        (ModelChoice("m", "m", "Chat", "", base="org/base"), 8),
        (ModelChoice("m", "m", "Chat", ""), 0),
    ],
)
def test_other_models_have_no_such_line(model: ModelChoice, gpus: int) -> None:
    assert serve_line(RunConfig(model="m"), model, gpus) == ""
