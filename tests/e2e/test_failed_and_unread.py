"""Failed questions and unreadable answers, through the real scorers.

The tests write their own journal over the rehearsal's data. Three benchmarks are made 13 times as
large, so that one question in 200 may fail; in the others every other answer is unreadable.
"""

from __future__ import annotations

import csv
import dataclasses
import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pandas as pd
import pytest

from conftest import Runs, Whole
from easi_eval.backends import make_backend
from easi_eval.backends.completeness import gather
from easi_eval.backends.evidence import Evidence
from easi_eval.backends.vlmevalkit.question_rows import read_vlmevalkit_rows
from easi_eval.backends.vlmevalkit.result_files import find_vlmevalkit_outputs
from easi_eval.benchmarks import LMMS_EVAL, VLMEVALKIT, by_key
from easi_eval.config import RunConfig
from easi_eval.core.errors import EasiError
from easi_eval.core.run_folder import RunPaths
from easi_eval.data.local_hub.server import LocalHub
from easi_eval.data.needs import HubSettings
from easi_eval.engine.journal import Answer, Journal
from easi_eval.engine.work import FAILED_ONE_IN, Assignment, ItemList, Work
from easi_eval.scores.recompute import all_right
from easi_eval.scores.score_table import State
from own_files import KEYS

pytestmark = [pytest.mark.slow, pytest.mark.e2e]

TIMES = 13
LARGE = {
    "mmsi_bench": "RunsenXu/MMSI-Bench",
    "3dsrbench": "oscarqjh/3DSRBench_lmmseval",
    "embspatial": "FlagEval/EmbSpatial-Bench",
}
TOO_MANY = "blink"  # one of its few questions fails
UNREAD = ("???", "")  # no letter, number or movement in them; dealt in turn
REASON = "OSError: the picture cannot be read"


@dataclasses.dataclass(frozen=True)
class Scored:
    """What the scorer left, and what it was asked."""

    backend: str
    root: Path
    failed: Mapping[str, str]  # benchmark -> the item that failed

    def items(self, key: str) -> ItemList:
        return ItemList.load(self.root, key)

    def gather(self, key: str) -> Evidence:
        cfg = RunConfig(
            model="easi-smoke/Tiny-VLM" if self.backend == VLMEVALKIT else "qwen2_5_vl",
            backend=self.backend,
            model_args="" if self.backend == VLMEVALKIT else "pretrained=easi-smoke/Tiny-VLM",
            output_dir=self.root,
        )
        made = make_backend(self.backend, HubSettings("http://127.0.0.1:1", self.root))
        return gather(cfg, made, by_key(key), self.folder(key), "", self.items(key), [])

    def folder(self, key: str) -> Path:
        return self.root / "outputs" / f".{key}.scored"

    def rows(self, key: str) -> pd.DataFrame:
        made = make_backend(self.backend, HubSettings("http://127.0.0.1:1", self.root))
        return made.rows(by_key(key), made.outputs(by_key(key), self.folder(key)))


@pytest.fixture(scope="module", params=[VLMEVALKIT, LMMS_EVAL])
def scored(
    request: pytest.FixtureRequest, runs: Runs, tmp_path_factory: pytest.TempPathFactory
) -> Scored:
    whole = runs.alone(request.param)
    folder = tmp_path_factory.mktemp(f"failed-{request.param}")
    root = folder / "run"
    served, data = folder / "served", folder / "datasets"
    changes = enlarged(whole, served, data)
    failed = journal(whole, root)
    (command,) = [each for each in whole.folder.manifest["commands"] if "--easi-role score" in each]
    with LocalHub(served) as running:
        command = re.sub(r"HF_ENDPOINT=\S+", f"HF_ENDPOINT={running.endpoint}", command)
        for old, new in {
            **changes,
            shlex.quote(str(whole.folder.root)): shlex.quote(str(root)),
        }.items():
            assert old in command
            command = command.replace(old, new)
        done = subprocess.run(
            ["bash", "-c", command],
            env=whole.user.environment(HF_HUB_DISABLE_XET="1", NO_PROXY="127.0.0.1"),
            cwd=whole.user.root,
            capture_output=True,
            text=True,
        )
    assert done.returncode == 1, done.stdout[-3000:] + done.stderr[-3000:]  # TOO_MANY has no score
    return Scored(request.param, root, failed)


def enlarged(whole: Whole, served: Path, data: Path) -> dict[str, str]:
    """A hub and a folder of tables with TIMES the questions of LARGE.

    Returns what has to be changed in the command.
    """
    (own,) = (whole.out / "rehearsal").glob("hub-*")
    shutil.copytree(own, served, copy_function=shutil.copyfile)
    for repo in LARGE.values():
        for path in (served / "datasets" / repo).rglob("*.parquet"):
            table = pd.read_parquet(path)
            pd.concat([table] * TIMES, ignore_index=True).to_parquet(path, index=False)
    if whole.folder.backend != VLMEVALKIT:
        return {}
    shutil.copytree(
        whole.out / "rehearsal" / "datasets", data, ignore=shutil.ignore_patterns("images")
    )
    for key in LARGE:
        path = data / by_key(key).source(VLMEVALKIT).data.tsv
        csv.field_size_limit(1 << 30)
        with path.open(newline="") as file:
            lines = list(csv.DictReader(file, delimiter="\t"))
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(
                file, list(lines[0]), delimiter="\t", quoting=csv.QUOTE_ALL, lineterminator="\n"
            )
            writer.writeheader()
            for copy in range(TIMES):
                for at, line in enumerate(lines):
                    own_qid = {"qid": f"{copy:02}{line['qid'][2:]}"} if "qid" in line else {}
                    writer.writerow({**line, **own_qid, "index": copy * len(lines) + at})
    return {str(whole.out / "rehearsal" / "datasets"): str(data)}


def journal(whole: Whole, root: Path) -> dict[str, str]:
    """Answers to everything, some failed or unreadable.

    In the large benchmarks one question failed, in TOO_MANY too; elsewhere every other answer is
    unreadable.
    """
    assignments = tuple(
        Assignment(key, by_key(key).source(whole.folder.backend).task) for key in KEYS
    )
    Work(assignments, launch=1).save(root)
    made = Journal(root / "journal", "w0", 0, launch=1)
    failed = {}
    for key in KEYS:
        items = item_list(whole, key)
        items.save(root)
        kinds = {
            row["item"]: row["question_type"] for row in small_rows(whole, key).to_dict("records")
        }
        if key in (*LARGE, TOO_MANY):
            failed[key] = items.ids[4]  # of 3DSRBench a question that others are paired with
        for at, item in enumerate(items.ids):
            failure = REASON if item == failed.get(key) else None
            readable = key in LARGE or at % 2 == 0
            # what it is a copy of
            like = (
                item if item in kinds else whole.folder.items(key)[at % (len(items.ids) // TIMES)]
            )
            text = good_answer(key, kinds[like]) if readable else UNREAD[at // 2 % 2]
            made.answer(
                Answer(
                    key,
                    item,
                    0,
                    None if failure else text,
                    0.1,
                    failure=failure,
                    worker="w0",
                    launch=1,
                )
            )
    RunPaths(root).answering_done.touch()
    return failed


def item_list(whole: Whole, key: str) -> ItemList:
    known = ItemList.load(whole.folder.root, key)
    if key not in LARGE:
        return known
    size = TIMES * known.total
    prefix = "" if whole.folder.backend == VLMEVALKIT else f"{known.ids[0].partition(':')[0]}:"
    return ItemList(key, size, tuple(f"{prefix}{at}" for at in range(size)))


def small_rows(whole: Whole, key: str) -> pd.DataFrame:
    made = make_backend(whole.folder.backend, HubSettings("http://127.0.0.1:1", whole.out))
    return made.rows(by_key(key), made.outputs(by_key(key), whole.folder.output(key)))


def good_answer(key: str, kind: str) -> str:
    """Something this kind of question can be answered with."""
    if kind == "view_change_infer":
        return "move_right:0.3,move_up:0.1,move_forward:0.2,rotate_right:10,rotate_up:5"
    if key.startswith("omnispatial"):
        return "First, the scene.\nAnswer: B"
    numeric = (
        kind
        in (
            "object_abs_distance",
            "object_counting",
            "object_size_estimation",
            "room_size_estimation",
        )
        or "_prediction_" in kind
    )
    return "3" if numeric else "B"


# ---- failed questions ----------------------------------------------------------------------------


@pytest.mark.parametrize("key", LARGE)
def test_a_failed_question_counts_as_wrong_and_the_benchmark_is_complete(
    scored: Scored, key: str
) -> None:
    score = scored.gather(key).score
    total = len(scored.items(key).ids)
    assert total >= FAILED_ONE_IN
    assert (score.state, score.n, score.total, score.failed) == (State.COMPLETE, total, total, 1)
    assert (
        score.notes[0] == f"1 of {total} questions failed and count as wrong; the first: {REASON}"
    )
    rows = scored.rows(key)
    (row,) = rows[rows["failed"]].to_dict("records")
    assert (row["item"], row["score"], row["answer"]) == (scored.failed[key], 0.0, "")
    if key == "mmsi_bench":
        assert (
            score.reading.overall == pytest.approx(100 * rows["score"].sum() / total)
            and rows["score"].sum() > 0
        )


def test_its_row_says_what_the_dataset_says(scored: Scored) -> None:
    """The questions are repeated, so the failed one has the kind and right answer of its copies."""
    for key in LARGE:
        rows = scored.rows(key).set_index("item")
        size = len(rows) // TIMES
        prefix, at = re.fullmatch(r"(.*?)(\d+)", scored.failed[key]).groups()
        twin = rows.loc[f"{prefix}{int(at) + size}"]
        own = rows.loc[scored.failed[key]]
        assert own["question_type"] == twin["question_type"] != ""
        assert own["target"] == twin["target"] != ""


def test_no_evaluator_saw_it(scored: Scored) -> None:
    for key in LARGE:
        folder, item = scored.folder(key), scored.failed[key]
        if scored.backend == VLMEVALKIT:
            (lossless,) = folder.glob("*.jsonl")
            assert item not in {
                json.loads(line)["index"] for line in lossless.read_text().splitlines()
            }
        else:
            (samples,) = folder.glob("*/*_samples_*.jsonl")
            assert int(item.rpartition(":")[2]) not in {
                json.loads(line)["doc_id"] for line in samples.read_text().splitlines()
            }


def test_sets_with_a_failed_member_are_wrong(scored: Scored) -> None:
    """The numbers come from the rows.

    VLMEvalKit's evaluation raises where a question is missing that others are paired with.
    """
    if scored.backend != VLMEVALKIT:
        # its task has no sets
        assert scored.gather("3dsrbench").score.reading.parts["circ_eval_overall"] is None
        return
    out = find_vlmevalkit_outputs(by_key("3dsrbench"), scored.folder("3dsrbench"))
    rows = read_vlmevalkit_rows(by_key("3dsrbench"), out)
    found = scored.gather("3dsrbench").score.reading
    qid = rows.set_index("item").loc[scored.failed["3dsrbench"], "variant"]
    assert rows["variant"].str.startswith(qid).sum() > 1
    assert out.scores == () and len(qid) == 8
    right = rows.assign(score=1.0)
    for name, group in (
        ("circ_eval_overall", "circular"),
        ("flip_eval_overall", "flip"),
        ("flip_circ_eval_overall", "flip_circular"),
    ):
        assert found.parts[name] == all_right(rows, group)
        one_wrong = right.assign(score=(~rows["failed"]).astype(float))
        assert all_right(one_wrong, group) == pytest.approx(
            100
            * (
                1
                - 1
                / one_wrong["variant"]
                .map(len)
                .groupby(
                    rows["variant"].str.replace("-flip", "")
                    if group == "flip"
                    else rows["variant"].str.slice(0, 8)
                    if group == "flip_circular"
                    else rows["variant"].map(
                        lambda text: text[:13] if "-flip" in text else text[:8]
                    )
                )
                .ngroups
            )
        )


def test_too_many_failures_are_no_score(scored: Scored) -> None:
    note = json.loads((scored.root / "outputs" / f".{TOO_MANY}.failed.json").read_text())
    first = note["error"].partition("(first: ")[2].partition(")")[0]
    assert first in scored.items(TOO_MANY).ids
    assert (
        note["error"]
        == f"1 of {len(scored.items(TOO_MANY).ids)} questions failed (first: {first}): {REASON}"
    )
    assert not scored.folder(TOO_MANY).exists()


def test_a_failure_that_nobody_noted_is_no_score(scored: Scored, tmp_path: Path) -> None:
    shutil.copytree(scored.folder("mmsi_bench"), tmp_path / "outputs" / ".mmsi_bench.scored")
    shutil.copytree(scored.root / "items", tmp_path / "items")
    (tmp_path / "outputs" / ".mmsi_bench.scored" / "scorer_notes.json").unlink()
    with pytest.raises(EasiError, match="samples, the results say|which are not the"):
        dataclasses.replace(scored, root=tmp_path).gather("mmsi_bench")


# ---- unreadable answers --------------------------------------------------------------------------


@pytest.mark.parametrize("key", [key for key in KEYS if key not in (*LARGE, TOO_MANY)])
def test_unreadable_answers_are_counted(scored: Scored, key: str) -> None:
    ids = scored.items(key).ids
    score = scored.gather(key).score
    rows = scored.rows(key).set_index("item")
    wanted = set(ids[1::2])
    if scored.backend == VLMEVALKIT:  # it marks no view change of SPAR-Bench as read or not
        wanted -= set(rows.index[rows["question_type"] == "view_change_infer"])
    assert (
        set(rows.index[rows["answer"].isin(UNREAD)])
        >= wanted
        == {item for item, parsed in rows["parsed"].items() if not parsed}
    )
    assert score.unparsed == len(wanted) > 0
    drawn = score.unparsed if scored.backend == LMMS_EVAL and key.startswith("site_") else 0
    assert score.coin_flips == drawn == int(rows["coin_flip"].sum())


def test_readable_answers_of_the_large_ones_are_not_counted(scored: Scored) -> None:
    assert [scored.gather(key).score.unparsed for key in LARGE] == [0, 0, 0]
