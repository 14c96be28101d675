"""Answers that a backend's files cannot hold as they are lose nothing.

All benchmarks on both backends, scored from a finished rehearsal.
"""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from conftest import Runs, Whole
from easi_eval.scores.row_table import rows_from_csv
from own_files import KEYS
from program import Launch, Results, RunFolder, run_folder

pytestmark = [pytest.mark.slow, pytest.mark.e2e]

# A lone surrogate, NUL, ten megabytes, a formula that a spreadsheet would run, and a carriage
# return alone: each is the answer to one question of each benchmark.
TEXTS = ("B \ud83d", "B\0", "B. " + "word " * 2_000_000, "=cmd|' /C calc'!A0", "B\rC")
NOTES = {
    "vlmevalkit": "5 of {} answers would have been changed by VLMEvalKit's own xlsx file",
    "lmms-eval": "1 of {} answers hold an incomplete Unicode character",
}


@dataclass(frozen=True)
class Odd:
    """A copy of a finished rehearsal with such answers, and the launch that scored it."""

    whole: Whole
    launch: Launch
    results: Results
    folder: RunFolder
    journal: Mapping[str, bytes]  # before the launch

    def changed(self, key: str) -> dict[str, str]:
        return dict(zip(self.folder.items(key), TEXTS, strict=False))


@pytest.fixture(scope="module", params=["vlmevalkit", "lmms-eval"])
def odd(request: pytest.FixtureRequest, runs: Runs) -> Odd:
    backend = request.param
    whole, out = runs.alone(backend), runs.fresh(f"odd-{backend}")
    root = shutil.copytree(whole.folder.root, out / "runs" / backend / whole.folder.root.name)
    shutil.rmtree(root / "outputs")
    texts = {
        (key, item): text
        for key in KEYS
        for item, text in zip(whole.folder.items(key), TEXTS, strict=False)
    }
    for path in (root / "journal").glob("*.jsonl"):
        lines = [json.loads(line) for line in path.read_bytes().splitlines()]
        for line in lines:
            if line["kind"] == "answer":
                line["text"] = texts.get((line["benchmark"], line["item"]), line["text"])
        path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    folder = run_folder(out, backend)
    journal = _journal(folder)
    launch = runs.user.run(
        "--smoke",
        "--backend",
        backend,
        "--output-dir",
        out,
        "--no-rich",
        "--include-extra",
        "--nproc",
        1,
    )
    return Odd(whole, launch, Results(out), folder, journal)


def _journal(folder: RunFolder) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (folder.root / "journal").glob("*.jsonl")}


def rows(archive: Path, key: str) -> dict[str, dict[str, Any]]:
    with zipfile.ZipFile(archive) as opened:
        table = rows_from_csv(opened.read(f"rows/{key}.csv"))
    return {
        row["item"]: row
        for row in table.astype(object).where(table.notna(), None).to_dict("records")
    }


def test_every_benchmark_is_complete_and_the_journal_as_it_was(odd: Odd) -> None:
    assert odd.launch.code == 0, odd.launch.said
    assert {key: odd.results.line(key)["state"] for key in KEYS} == dict.fromkeys(KEYS, "complete")
    assert _journal(odd.folder) == odd.journal
    assert "importing" not in odd.launch.out, "nothing was left to answer"


@pytest.mark.parametrize("key", KEYS)
def test_the_scores_are_of_the_very_texts_and_the_others_are_unchanged(odd: Odd, key: str) -> None:
    before, after, changed = (
        rows(odd.whole.results.zip, key),
        rows(odd.results.zip, key),
        odd.changed(key),
    )
    assert list(after) == list(before) and len(changed) == len(TEXTS)
    assert {item: row for item, row in after.items() if item not in changed} == {
        item: row for item, row in before.items() if item not in changed
    }
    assert {item: after[item]["answer"] for item in changed} == changed
    notes = odd.folder.manifest["benchmarks"][key]["evidence"]["notes"]
    assert any(note.startswith(NOTES[odd.folder.backend].format(len(after))) for note in notes), (
        notes
    )


def test_the_archive_gives_the_same_scores_again(odd: Odd) -> None:
    assert odd.results.zip.stat().st_size < 4_500_000
    launch = odd.whole.user.run("--verify", odd.results.zip)
    assert launch.code == 0, launch.said
    assert (
        launch.out.count("  equal\n") == 12
        and "every score follows from the archive's own rows" in launch.out
    ), launch.said
