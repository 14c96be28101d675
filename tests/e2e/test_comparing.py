"""``--compare`` of the rehearsals of both backends, against what their journals and tables say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from conftest import BACKENDS, Runs
from program import RunFolder

pytestmark = pytest.mark.e2e


def prompts(folder: RunFolder, key: str) -> dict[str, str]:
    return {
        record["item"]: record["prompt"]
        for record in folder.records("answer")
        if record["benchmark"] == key
    }


def test_one_model_through_both_backends(runs: Runs) -> None:
    """The same questions are paired, and a prompt that differs is the reason that is given."""
    left, right = (runs.alone(backend).folder for backend in BACKENDS)
    launch = runs.user.run("--compare", left.root, right.root, COLUMNS="140")
    assert launch.code == 0, launch.said
    said = launch.out
    assert "One model through both backends, how far its scores are apart (estimates):" in said
    assert "3DSRBench: not the same questions, 32 only in A; compared are the 24 in both" in said
    assert said.count(": not the same questions") == 1
    assert "\nNot comparable (not the same protocol; not the same questions in 3DSRBench)" in said
    (path,) = runs.user.root.rglob("easi_comparison.md")
    told = path.read_text(encoding="utf-8")
    both = (prompts(left, "blink"), prompts(right, "blink"))
    section = told.partition("\n## BLINK: ")[2].partition("\n## ")[0]
    flips = [line for line in section.splitlines() if " → " in line]
    assert flips and both[0].keys() and not set(both[0].values()) & set(both[1].values())
    assert all("with another prompt" in line or "read differently" in line for line in flips)


def test_an_archive_tells_what_its_run_folder_tells(runs: Runs) -> None:
    left, right = (runs.alone(backend).folder for backend in BACKENDS)
    found = []
    for one in (right.root, right.root / "easi_results.zip"):
        launch = runs.user.run("--compare", left.root, one)
        assert launch.code == 0, launch.said
        found.append(launch.out.partition("\nbenchmark ")[2].partition("\n\n")[0])
    assert found[0] == found[1] and "EASI-8 average" in found[0]
    before = json.loads((right.root / "easi_results.json").read_text(encoding="utf-8"))
    assert before["scores"] and not list(Path(right.root).glob("easi_comparison*"))
