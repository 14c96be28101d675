"""Judging on the real VLMEvalKit, with a local judge.

The answers of a finished rehearsal, some of them made unreadable, are scored several times. Nothing
is generated: every launch here only scores. The launches build on each other, in the order of the
fixtures.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import openpyxl
import pytest

from conftest import Runs
from judge_server import KEY, JudgeServer, judge_server
from program import Launch, Results, RunFolder, User, a_closed_port, run_folder

pytestmark = [pytest.mark.slow, pytest.mark.e2e]

ASKED = "vsi_bench,mmsi_bench,site,blink,3dsrbench"
KEYS = ("vsi_bench", "mmsi_bench", "site_image", "site_video", "blink", "3dsrbench")
UNREADABLE = {"vsi_bench": 8, "site_video": 2, "blink": 3, "3dsrbench": 4}  # of the first questions
# SITE's images are all readable, and its videos are not
JUDGED = ("vsi_bench", "site_image", "site_video", "blink", "3dsrbench")
J, RULES = "gpt-4o-1120", "exact_matching"
MODEL = "gpt-4o-2024-11-20"
READABLE, HMM = "A 3", "hmm"  # a letter to some rules, a number to others; nothing to any
# The package's own evaluation, told to accept the tiny tables and nothing else.
STOCK = """
import sys
from easi_vlmevalkit import patches
patches.accept_tables()
from vlmeval.dataset import build_dataset
for task in sys.argv[2:]:
    build_dataset(task).evaluate(f"{sys.argv[1]}_{task}.xlsx", model="gpt-4o-1120", nproc=4, verbose=False, retry=6, timeout=60)
"""  # noqa: E501 -- lines of a program in a string


@dataclass(frozen=True)
class Snapshot:
    """What one launch left, and what the judge had been asked by then."""

    launch: Launch
    results: Results
    report: dict[str, Any]
    manifest: dict[str, Any]
    asked: list[str]


@dataclass
class Stage:
    """The folder that all launches share."""

    user: User
    out: Path
    server: JudgeServer
    folder: RunFolder
    made: int = 0
    options: tuple[str, ...] = field(default=("--smoke", "--no-rich", "--benchmarks", ASKED))

    def run(self, *options: str, **environment: str) -> Snapshot:
        launch = self.user.run(*self.options, "--output-dir", self.out, *options, **environment)
        self.made += 1
        return Snapshot(
            launch,
            Results.keep(self.out, self.out / "kept" / str(self.made)),
            json.loads((self.out / "extraction_report.json").read_text())["benchmarks"],
            self.folder.manifest,
            list(self.server.asked),
        )

    @property
    def judge(self) -> dict[str, str]:
        return {
            "OPENAI_API_KEY": KEY,
            "OPENAI_API_BASE": self.server.base,
            "EASI_JUDGE_TIMEOUT": "60",
        }


@pytest.fixture(scope="module")
def stage(runs: Runs) -> Iterator[Stage]:
    whole, out = runs.alone("vlmevalkit"), runs.fresh("judging")
    root = shutil.copytree(whole.folder.root, out / "runs" / "vlmevalkit" / whole.folder.root.name)
    for key in KEYS:
        shutil.rmtree(root / "outputs" / key)
    hmm = {
        (key, item) for key, count in UNREADABLE.items() for item in whole.folder.items(key)[:count]
    }
    for journal in (root / "journal").glob("*.jsonl"):
        lines = [json.loads(line) for line in journal.read_bytes().splitlines()]
        for line in lines:
            if line["kind"] == "answer":
                line["text"] = HMM if (line["benchmark"], line["item"]) in hmm else READABLE
        journal.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    with judge_server(model=MODEL) as server:
        yield Stage(runs.user, out, server, run_folder(out, "vlmevalkit"))


@pytest.fixture(scope="module")
def ruled(stage: Stage) -> Snapshot:
    """Rules first; there is no judge on this machine."""
    return stage.run()


@pytest.fixture(scope="module")
def broken(stage: Stage, ruled: Snapshot) -> Snapshot:
    """A judge is configured, by its full address, and dies half-way."""
    stage.server.dies_after = 30
    return stage.run(**{**stage.judge, "OPENAI_API_BASE": stage.server.url})


@pytest.fixture(scope="module")
def judged(stage: Stage, broken: Snapshot) -> Snapshot:
    """It is back, and the same command goes on."""
    stage.server.dies_after = None
    return stage.run(**stage.judge)


@pytest.fixture(scope="module")
def again(stage: Stage, judged: Snapshot) -> Snapshot:
    return stage.run(**stage.judge)


@pytest.fixture(scope="module")
def named(stage: Stage, again: Snapshot) -> Snapshot:
    """Another judge by its name, with a slash in it, over whole benchmarks."""
    stage.server.model = ""
    return stage.run("--judge", "org/another-judge", **stage.judge)


# ---- rules first ---------------------------------------------------------------------------------


def test_without_a_judge_the_table_says_what_rules_could_not_read(ruled: Snapshot) -> None:
    assert ruled.launch.code == 0, ruled.launch.said
    assert ruled.asked == []
    for key in KEYS:
        entry, line = ruled.report[key], ruled.results.line(key)
        assert (entry["failed"], entry["method"], line["state"]) == (
            UNREADABLE.get(key, 0),
            RULES,
            "complete",
        ), key
        assert line["unparsed"] == str(entry["failed"]) and entry["total"] == int(line["n"])
        assert entry["rate"] == entry["failed"] / entry["total"] and entry["threshold"] == 0.025
        assert entry["scores"] == {RULES: pytest.approx(ruled.results.score(key))}
        assert bool(entry["why_not_judged"]) == (key in UNREADABLE)
    said = " ".join(ruled.launch.out.split())
    assert (
        "VSI-Bench: scored by rules; 33.33 % of answers could not be parsed, above 2.50 %; "
        "not judged: a rehearsal asks no judge" in said
    )
    assert (
        "scored by rules; 0.00 % of answers could not be parsed"
        in ruled.manifest["benchmarks"]["mmsi_bench"]["evidence"]["notes"]
    )
    assert (
        "scored by rules; 0.00 % of answers could not be parsed" in ruled.results.payload["remarks"]
    )
    assert not [key for key in ruled.results.payload["scores"] if key.endswith(RULES)]


def test_unreadable_numbers_are_counted_too(stage: Stage, ruled: Snapshot) -> None:
    sheet = openpyxl.load_workbook(
        next(stage.folder.output("vsi_bench").glob("*_extract_matching.xlsx"))
    ).worksheets[0]
    head, *rows = sheet.iter_rows(values_only=True)
    kinds = [row[head.index("task_type")] for row in rows if row[head.index("prediction")] == HMM]
    assert len(kinds) == UNREADABLE["vsi_bench"] and set(kinds) == {"NA", "MCQ"}


# ---- a judge that dies, and comes back -----------------------------------------------------------


def test_a_judge_that_dies_leaves_the_scores_by_rules_and_an_open_state(
    ruled: Snapshot, broken: Snapshot
) -> None:
    assert broken.launch.code == 1, broken.launch.said
    states = {key: broken.results.line(key)["state"] for key in KEYS}
    assert states["mmsi_bench"] == "complete" and "incomplete" in states.values()
    for key in (key for key, state in states.items() if state == "incomplete"):
        assert broken.results.score(key) == ruled.results.score(key)
        assert (
            f"judging by {J} failed: {MODEL}: ConnectionError, it cannot be reached"
            in broken.results.line(key)["reason"]
        )
        assert (
            broken.report[key]["method"] == RULES
            and broken.manifest["benchmarks"][key]["state"] == "incomplete"
        )
        assert broken.results.payload["scores"]["site" if key.startswith("site") else key] is None
    assert (
        "To complete the run:" in broken.launch.out
        and "Traceback" not in broken.launch.out + broken.launch.err
    )


def test_the_same_command_goes_on_and_pays_nothing_twice(
    stage: Stage, broken: Snapshot, judged: Snapshot
) -> None:
    assert judged.launch.code == 0, judged.launch.said
    assert {judged.results.line(key)["state"] for key in KEYS} == {"complete"}
    # what it dropped was not answered
    answered = judged.asked[:31] + judged.asked[len(broken.asked) :]
    questions = [prompt for prompt in answered if prompt != "hello"]
    assert len(set(questions)) == len(questions), "asked and paid for twice"
    memory = [
        json.loads(line)
        for line in (stage.folder.root / "judge_answers.jsonl").read_text().splitlines()
    ]
    assert len(memory) == len(questions) and {line["judge"] for line in memory} == {MODEL}
    assert judged.asked.count("hello") == 2, "one probe for each launch, and none by the package"
    assert "importing" not in judged.launch.out, "no worker was started: nothing is left to answer"


def test_only_what_is_above_the_threshold_is_judged_and_halves_alike(judged: Snapshot) -> None:
    for key in KEYS:
        assert (
            judged.report[key]["method"]
            == judged.results.line(key)["method"]
            == (J if key in JUDGED else RULES)
        ), key
        assert judged.report[key]["failed"] == UNREADABLE.get(key, 0), (
            "the rate stays that of the rules"
        )
    assert judged.results.table["site", ""]["method"] == J


def test_both_scores_stand_in_report_table_manifest_and_payload(
    ruled: Snapshot, judged: Snapshot
) -> None:
    payload = judged.results.payload["scores"]
    for key in JUDGED:
        entry, score = judged.report[key], judged.results.score(key)
        assert entry["scores"] == {
            RULES: pytest.approx(ruled.results.score(key)),
            J: pytest.approx(score),
        }
        assert judged.manifest["benchmarks"][key]["evidence"]["scores"] == entry["scores"]
        assert judged.manifest["benchmarks"][key]["evidence"]["method"] == J
        assert any(
            "could not be parsed" in note
            for note in judged.manifest["benchmarks"][key]["evidence"]["notes"]
        )
    for key in ("vsi_bench", "site", "blink", "3dsrbench"):
        assert payload[key] == payload[f"{key}_{J}"] == round(judged.results.score(key), 4)
        assert payload[f"{key}_{RULES}"] == round(ruled.results.score(key), 4)
    assert payload["mmsi_bench"] == round(ruled.results.score("mmsi_bench"), 4)
    assert not [
        key for key in payload if key.startswith(("mmsi_bench_", "site_image", "site_video"))
    ]
    assert judged.results.score("vsi_bench") != ruled.results.score("vsi_bench")


def test_the_report_has_the_rows_that_moved_and_a_diagnosis(judged: Snapshot) -> None:
    for key in JUDGED:
        entry = judged.report[key]
        moved = entry["moved"]
        assert moved["up"] + moved["down"] == len(moved["rows"]) and all(
            row["before"] != row["after"] for row in moved["rows"]
        )
        assert entry["diagnosis"]["only_unread_judged"] is not None
    assert (
        judged.report["vsi_bench"]["moved"]["up"] > 0
        and judged.report["mmsi_bench"]["moved"] is None
    )
    # The multiple-choice family asks its judge about nothing else than what the rules cannot read.
    assert judged.report["blink"]["diagnosis"]["only_unread_judged"] == pytest.approx(
        judged.results.score("blink")
    )
    assert {row["before"] for row in judged.report["blink"]["moved"]["rows"]} <= {0.0}


def test_the_archive_holds_what_both_scores_came_from_and_no_key(
    stage: Stage, judged: Snapshot
) -> None:
    with zipfile.ZipFile(judged.results.zip) as archive:
        names = archive.namelist()
        for key in JUDGED:
            assert [
                name
                for name in names
                if name.startswith(f"{key}/judged/") and name.endswith(".xlsx")
            ], key
        assert not [name for name in names if "judge_answers" in name or name.endswith(".pkl")]
        assert not [name for name in names if KEY.encode() in archive.read(name)]
    for path in (
        path
        for path in [
            *stage.out.glob("eval_*.log"),
            *stage.folder.root.rglob("*.json"),
            *stage.folder.root.rglob("*.jsonl"),
        ]
    ):
        assert KEY not in path.read_text(encoding="utf-8", errors="replace"), path
    assert not [command for command in judged.launch.commands if KEY in command]


def test_the_archive_can_be_verified(stage: Stage, judged: Snapshot) -> None:
    launch = stage.user.run("--verify", judged.results.zip)
    assert launch.code == 0, launch.said


def test_a_second_run_asks_nobody(judged: Snapshot, again: Snapshot) -> None:
    assert again.launch.code == 0 and again.asked == judged.asked
    assert again.results.payload == judged.results.payload and again.report == judged.report
    assert "skipped vsi_bench: complete, 24 questions" in again.launch.out


# ---- a judge by its name -------------------------------------------------------------------------


def test_a_named_judge_reads_everything(stage: Stage, judged: Snapshot, named: Snapshot) -> None:
    assert named.launch.code == 0, named.launch.said
    assert stage.server.models == {MODEL, "org/another-judge"}
    for key in KEYS:
        assert (
            named.results.line(key)["method"] == "org/another-judge"
            and named.report[key]["threshold"] is None
        ), key
        assert named.report[key]["failed"] == UNREADABLE.get(key, 0)
    assert (
        named.results.payload["scores"]["mmsi_bench_org/another-judge"]
        == named.results.payload["scores"]["mmsi_bench"]
    )
    for key in JUDGED:  # the same words from another mouth
        assert named.results.score(key) == judged.results.score(key), key
    assert {
        state["epoch"] for key, state in named.manifest["benchmarks"].items() if key in KEYS
    } == {0}
    assert len(stage.folder.records("header")) == 1, "no answer was made again"


def test_the_judged_scores_are_those_of_the_stock_package(
    stage: Stage, judged: Snapshot, named: Snapshot, tmp_path: Path
) -> None:
    tasks = {"vsi_bench": "VSI-Bench_32frame", "blink": "BLINK", "3dsrbench": "3DSRBench"}
    name = "Tiny-VLM"
    for key, task in tasks.items():
        shutil.copy2(stage.folder.output(key) / f"{name}_{task}.xlsx", tmp_path)
    environment = stage.user.environment(
        **{
            **stage.judge,
            "OPENAI_API_BASE": stage.server.url,
            "LMUData": str(stage.out / "rehearsal" / "datasets"),
            "HF_HUB_OFFLINE": "1",
            "HF_HOME": str(stage.out / "rehearsal" / "huggingface"),
            "VLMEVALKIT_USE_MODELSCOPE": "0",
            "CUDA_VISIBLE_DEVICES": "-1",
        }
    )
    ended = subprocess.run(
        [sys.executable, "-c", STOCK, name, *tasks.values()],
        env=environment,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=600,
        check=False,
    )
    for key, file in (
        ("vsi_bench", f"{name}_VSI-Bench_32frame_llm_{J}_acc.csv"),
        ("blink", f"{name}_BLINK_acc.csv"),
        ("3dsrbench", f"{name}_3DSRBench_results.tsv"),
    ):
        (ours,) = (
            path
            for path in (stage.folder.output(key) / "judged").glob("*")
            if path.name.replace("org__another-judge", J) == file
        )
        assert (tmp_path / file).is_file(), ended.stdout[-3000:]
        assert (tmp_path / file).read_bytes() == ours.read_bytes()


# ---- a judge that is not there -------------------------------------------------------------------


@pytest.mark.parametrize("options", [("--judge", J), ()])
def test_an_unreachable_judge_is_found_before_anything_is_started(
    stage: Stage, named: Snapshot, options: tuple[str, ...]
) -> None:
    before = {
        path: path.read_bytes()
        for path in (stage.folder.root / "run_manifest.json", stage.out / "easi_results.json")
    }
    launch = stage.user.run(
        *stage.options,
        "--output-dir",
        stage.out,
        *options,
        OPENAI_API_KEY=KEY,
        OPENAI_API_BASE=f"http://127.0.0.1:{a_closed_port()}/v1",
    )
    assert launch.code == 2, launch.said
    error, hint = launch.err.strip().splitlines()
    assert (
        error.startswith(f"error: the judge {MODEL} at http://127.0.0.1:")
        and "connection refused" in error
    )
    assert "OPENAI_API_BASE" in hint and "--judge exact_matching" in hint
    assert {path: path.read_bytes() for path in before} == before
    assert not [command for command in launch.commands if "VLMEvalKit/run.py" in command]
