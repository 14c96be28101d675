"""Our scores on VLMEvalKit are those of its own program.

Compared are its own loop on the rehearsal's questions, and its evaluation of odd answers.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest

from conftest import Runs, Whole
from easi_eval.backends.vlmevalkit.question_rows import read_vlmevalkit_rows
from easi_eval.backends.vlmevalkit.result_files import find_vlmevalkit_outputs
from easi_eval.benchmarks import VLMEVALKIT, by_key
from easi_eval.data.local_hub.server import LocalHub
from own_files import KEYS, headline
from program import Results, RunFolder, answered_otherwise

pytestmark = [pytest.mark.slow, pytest.mark.e2e]

MODEL = "Tiny-VLM"
EACH = pytest.mark.parametrize("key", KEYS)
# Dealt out to every benchmark's questions in this order, so that each kind meets several of them.
ODD = (
    "None",
    "NA",
    "",
    "=1+1",
    "{=A}",
    "nan",
    "A\x01",
    "a\r\nThe answer is B",
    "\ud800 C",
    "word " * 7_000 + "D",
    "007",
    "3.0",
    "#N/A",
    "1e1",
    " A ",
    "B.",
    "http://a.b",
    "The answer is A",
    "TRUE",
)


@dataclass(frozen=True)
class Scored:
    """What one evaluation left of each benchmark."""

    folder: Path

    def of(self, key: str) -> Path:
        """Where this benchmark's files lie."""
        ours = self.folder / "outputs" / f".{key}.scored"
        return ours if ours.is_dir() else self.folder

    def rows(self, key: str) -> dict[str, dict[str, object]]:
        """By question: what the score rests on."""
        table = read_vlmevalkit_rows(
            by_key(key), find_vlmevalkit_outputs(by_key(key), self.of(key))
        )
        kept = table[
            [
                "item",
                "question_type",
                "answer",
                "extracted",
                "target",
                "score",
                "parsed",
                "cluster",
                "options",
            ]
        ].astype(object)
        return {row["item"]: row for row in kept.where(kept.notna(), None).to_dict("records")}

    def aggregate(self, key: str) -> bytes:
        return find_vlmevalkit_outputs(by_key(key), self.of(key)).scores[0].read_bytes()


def launched(whole: Whole, kind: str, changes: Mapping[str, str]) -> None:
    """Run one of the run's own commands again, changed as said.

    The command is ``score``, or ``model``, which answers.
    """
    (command,) = [
        each
        for each in whole.folder.manifest["commands"]
        if f"--easi-{'role score' if kind == 'score' else 'model'}" in each
    ]
    (served,) = (whole.out / "rehearsal").glob("hub-*")
    with LocalHub(served) as running:
        changed = re.sub(r"HF_ENDPOINT=\S+", f"HF_ENDPOINT={running.endpoint}", command)
        for old, new in changes.items():
            assert old in changed
            changed = changed.replace(old, new)
        done = subprocess.run(
            ["bash", "-c", changed],
            env=whole.user.environment(HF_HUB_DISABLE_XET="1", NO_PROXY="127.0.0.1"),
            cwd=whole.user.root,
            capture_output=True,
            text=True,
        )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


def stock(whole: Whole, work_dir: Path, mode: str) -> Scored:
    """VLMEvalKit's own program on all datasets, in one process.

    It is ``vlmeval.run.main()`` behind the listed patches.
    """
    launched(
        whole,
        "model",
        {
            f"--easi-run {shlex.quote(str(whole.folder.root))}": (
                f"--work-dir {shlex.quote(str(work_dir))} --mode {mode}"
            )
        },
    )
    return Scored(work_dir / MODEL)


@pytest.fixture(scope="module")
def whole(runs: Runs) -> Whole:
    return runs.alone(VLMEVALKIT)


# ---- its own loop --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def own_loop(whole: Whole, tmp_path_factory: pytest.TempPathFactory) -> Scored:
    return stock(whole, tmp_path_factory.mktemp("stock"), "all")


@EACH
def test_its_own_loop_gives_the_same_rows_and_scores(
    key: str, whole: Whole, own_loop: Scored
) -> None:
    ours = Scored(whole.folder.output(key))
    assert lossy(ours.folder) == set(), "the rehearsal's model says nothing odd"
    assert ours.rows(key) == own_loop.rows(key)
    assert ours.aggregate(key) == own_loop.aggregate(key)
    assert whole.results.score(key) == pytest.approx(
        headline(VLMEVALKIT, key, only(key, own_loop, whole.user.root / "one" / key)), abs=1e-9
    )


def only(key: str, scored: Scored, folder: Path) -> Path:
    """One benchmark's files of a folder that holds all, in a folder of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in find_vlmevalkit_outputs(by_key(key), scored.folder).files:
        shutil.copyfile(path, folder / path.name)
    return folder


def test_its_folder_is_imported_with_the_same_scores(whole: Whole, own_loop: Scored) -> None:
    """A genuine folder of VLMEvalKit's, with its status.json, empty run folder and pickles."""
    out = whole.user.root / "imported"
    done = whole.user.run(
        "--import-results",
        own_loop.folder,
        "--as-model",
        "easi-smoke/Tiny-VLM",
        "--output-dir",
        out,
        "--no-rich",
        "--dataset-dir",
        whole.out / "rehearsal" / "datasets",
    )
    assert done.code == 0, done.said
    adopted = Results(out)
    assert {key: adopted.score(key) for key in KEYS} == {
        key: whole.results.score(key) for key in KEYS
    }
    assert (
        adopted.payload["scores"] == whole.results.payload["scores"]
        and "imported from" in adopted.payload["remarks"]
    )
    with zipfile.ZipFile(adopted.zip) as archive:
        assert not [name for name in archive.namelist() if name.endswith((".pkl", "status.json"))]


# ---- odd answers ---------------------------------------------------------------------------------

# A column of nothing but numbers, which becomes one of floats.
NUMBERS = ("007", "3", "2.50", "1e1", "0.5", "4.0")
ALL_NUMBERS = "vsi_debiased"


def odd_answers(folder: RunFolder) -> dict[str, dict[str, str]]:
    said = {key: NUMBERS if key == ALL_NUMBERS else ODD for key in KEYS}
    return {
        key: {
            item: said[key][(place + shift) % len(said[key])]
            for place, item in enumerate(folder.items(key))
        }
        for shift, key in enumerate(KEYS)
    }


def lossy(folder: Path) -> set[str]:
    """The questions whose answers the scorer says VLMEvalKit's own xlsx would have changed."""
    return set(json.loads((folder / "scorer_notes.json").read_text(encoding="utf-8"))["lossy"])


@pytest.fixture(scope="module")
def oddly_answered(whole: Whole, tmp_path_factory: pytest.TempPathFactory) -> Scored:
    """Our scorer on a copy of the run in whose journal the odd answers stand."""
    root, texts = tmp_path_factory.mktemp("odd") / "run", odd_answers(whole.folder)
    answered_otherwise(whole.folder, root, lambda key, item, _: texts[key][item])
    launched(whole, "score", {shlex.quote(str(whole.folder.root)): shlex.quote(str(root))})
    return Scored(root)


@pytest.fixture(scope="module")
def stock_on_odd_answers(whole: Whole, tmp_path_factory: pytest.TempPathFactory) -> Scored:
    """VLMEvalKit's own evaluation of prediction files written as it writes them.

    Only surrogates are left out, because it cannot write them.
    """
    work_dir = tmp_path_factory.mktemp("odd-stock")
    (work_dir / MODEL).mkdir()
    for key, texts in odd_answers(whole.folder).items():
        name = f"{MODEL}_{by_key(key).source(VLMEVALKIT).task}.xlsx"
        table = pd.read_excel(whole.folder.output(key) / name)
        assert list(table["index"].astype(str)) == list(texts)
        table["prediction"] = pd.Series(
            [text.replace("\ud800", "?") for text in texts.values()], dtype=object
        )
        with warnings.catch_warnings():
            # it says that it cuts the long ones, which is the point
            warnings.simplefilter("ignore", UserWarning)
            table.to_excel(work_dir / MODEL / name, index=False, engine="xlsxwriter")
    return stock(whole, work_dir, "eval")


@EACH
def test_odd_answers_are_scored_as_stock_scores_them_but_for_those_listed(
    key: str, whole: Whole, oddly_answered: Scored, stock_on_odd_answers: Scored
) -> None:
    texts = odd_answers(whole.folder)[key]
    listed = lossy(oddly_answered.of(key))
    ours, theirs = oddly_answered.rows(key), stock_on_odd_answers.rows(key)
    assert {item: row["answer"] for item, row in ours.items()} == texts, (
        "our rows hold the journal's very texts"
    )
    assert {item: {**row, "answer": ""} for item, row in ours.items() if item not in listed} == {
        item: {**row, "answer": ""} for item, row in theirs.items() if item not in listed
    }
    expected = {
        "None",
        "NA",
        "",
        "=1+1",
        "{=A}",
        "A\x01",
        "a\r\nThe answer is B",
        "\ud800 C",
        ODD[9],
        "#N/A",
    }
    if key == ALL_NUMBERS:
        expected = {text for text in NUMBERS if str(float(text)) != text}
    assert {texts[item] for item in listed} == expected & set(texts.values())


def test_the_evaluation_got_the_texts_that_xlsx_cannot_hold(
    whole: Whole, oddly_answered: Scored, stock_on_odd_answers: Scored
) -> None:
    """Where it shows in a score: the letter behind the 32,767th character."""
    found = 0
    for key in KEYS:
        ours, theirs = oddly_answered.rows(key), stock_on_odd_answers.rows(key)
        for item, text in odd_answers(whole.folder)[key].items():
            if text == ODD[9] and ours[item]["extracted"] == "D":
                assert theirs[item]["extracted"] != "D"
                found += 1
    assert found >= 5
