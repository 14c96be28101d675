"""The benchmarks at small size: they run, and what does not depend on the machine holds.

Nothing here measures time.
"""

from __future__ import annotations

import csv
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from conftest import Runs
from easi_eval.benchmarks import VLMEVALKIT, by_key
from rehearsal_data import repositories

sys.path.insert(0, str(Path(__file__).parent))

import disturbed_rehearsal
import gpu_check
import interval_coverage
import many_questions
import overhead
import real_drivers
import repeated_work
import stragglers


def test_stragglers_on_a_clock_of_their_own() -> None:
    known, unknown = (
        stragglers.measure(1.5, known, draws=5, count=900, workers=8) for known in (0.5, 0.0)
    )
    assert known.ours <= 1.05 and known.complete >= 6
    assert (
        known.ours <= unknown.ours * 1.02
        and unknown.ours < unknown.static < unknown.static_barriers
    )
    assert stragglers.table([known, unknown]).count("\n") == 3


@pytest.mark.parametrize(
    "case",
    [
        interval_coverage.Case("share", 200, 1, 0.25),
        interval_coverage.Case("share", 60, 18, 0.5),
        interval_coverage.Case("parts", 60, 6, 0.4),
        interval_coverage.Case("caa", 60, 6, 0.4),
    ],
    ids=str,
)
def test_intervals_hold_the_true_score(case: interval_coverage.Case) -> None:
    held = interval_coverage.coverage(case, 1000 if case.kind == "share" else 100)
    assert 90 <= held <= 99, "seeded; the bounds are those of so few runs"


@pytest.mark.slow
def test_overhead_with_threads_over_a_real_dispatcher() -> None:
    measured = overhead.measure(600, 8, processes=2)
    assert measured.answers == 600, "every question once"
    assert 0 < measured.seconds < measured.whole
    assert overhead.table([measured]).count("\n") == 3


@pytest.mark.slow
@pytest.mark.faults
def test_kills_repeat_only_what_was_in_hand() -> None:
    disturbed = repeated_work.measure(kills=4, workers=2, seconds=0.05, count=40, seed=1)
    quiet = repeated_work.measure(kills=0, workers=2, seconds=0.0, count=40)
    assert disturbed.distinct == quiet.distinct == 120 and sum(disturbed.kills.values()) == 4
    assert disturbed.distinct <= disturbed.ended <= disturbed.generated
    assert disturbed.generated - disturbed.distinct <= disturbed.allowed
    assert disturbed.journaled_twice == quiet.journaled_twice == 0
    assert disturbed.score == quiet.score
    assert quiet.generated == 120


@pytest.mark.slow
@pytest.mark.e2e
@pytest.mark.faults
def test_a_rehearsal_that_was_killed_hung_and_stopped_ends_like_an_undisturbed_one(
    runs: Runs, backend: str
) -> None:
    keys = ("viewspatial", "embspatial", "mmsi_bench")
    whole = runs.alone(backend)
    quiet = disturbed_rehearsal.Ended.read(whole.results, whole.folder, keys)
    rehearsals = disturbed_rehearsal.Rehearsals(whole.user, backend, keys)
    rehearsals.disturb(3, seed=1)
    assert rehearsals.done == {"killed": 1, "hung": 1, "stopped": 1}
    assert quiet.twice == 0 and len(quiet.answers) == 60
    assert {state for (_, part), (state, _) in quiet.scores.items() if not part} == {"complete"}
    for ended in rehearsals.ended:
        assert ended == quiet


def test_enlarged_tables_keep_their_form(tmp_path: Path) -> None:
    repositories.build(tmp_path)
    asked = many_questions.counts(1000)
    before = {path: pq.read_schema(path) for path in tmp_path.rglob("*.parquet")}
    many_questions.enlarge(tmp_path / "datasets", asked, sigma=1.5)
    assert sum(asked.values()) == 1000
    assert all(
        pq.read_schema(path).equals(schema, check_metadata=True) for path, schema in before.items()
    )
    for key, count in asked.items():
        names = [f"{key} {number}" for number in range(count)]
        data = by_key(key).source(VLMEVALKIT).data
        rows = _rows_of_tsv(tmp_path / "datasets" / data.repo / data.tsv)
        assert [re.search(many_questions.MARKER, row["question"])[1] for row in rows] == names
        assert [row["index"] for row in rows] == [str(number) for number in range(count)]
        assert (
            max(len(cell) for row in rows for column, cell in row.items() if "image" not in column)
            < 32767
        ), "fits a workbook's cell"
        if key == "3dsrbench":
            qids = [row["qid"] for row in rows]
            assert len(set(qids)) == count and all(
                qid[:8] + "-flip" + qid[8:] in qids for qid in qids if "-flip" not in qid
            )
        files = many_questions.parquets(tmp_path / "datasets", key)
        texts = [str(row) for file in files for row in pq.read_table(file).to_pylist()]
        assert [re.search(many_questions.MARKER, text)[1] for text in texts] == names


@pytest.mark.slow
def test_the_whole_program_with_a_model_that_sleeps(tmp_path: Path) -> None:
    asked = many_questions.counts(60, ("viewspatial", "3dsrbench", "embspatial"))
    case = real_drivers.Case("vlmevalkit", 1.0, 0.5)
    with real_drivers.Bench(tmp_path, asked, workers=2, mean=0.02) as bench:
        measured = bench.measure([case], seed=0)[case]
    assert len(measured.told) == 60 and measured.told.keys() == measured.draw.seconds.keys(), (
        "every question once"
    )
    assert len({told.worker for told in measured.told.values()}) == 2, "every worker took part"
    assert all(
        told.ended - told.began >= measured.draw.seconds[key] for key, told in measured.told.items()
    ), "each slept its own seconds"
    heading, _, row = real_drivers.table({case: [measured]}).splitlines()
    assert row.startswith("| vlmevalkit | 1 | 0.5 | 1 | ") and row.count("|") == heading.count("|")


def _rows_of_tsv(path: Path) -> list[dict[str, str]]:
    csv.field_size_limit(sys.maxsize)
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


@pytest.mark.parametrize(
    ("ours", "published", "said"),
    [
        ("50.2", "50.3", "50.2 / 50.3, -0.1: close"),
        ("46.0", "50.3", "46.0 / 50.3, -4.3: near"),
        ("60.0", "50.3", "60.0 / 50.3, +9.7: FAR"),
        ("", "50.3", "missing / 50.3"),
    ],
)
def test_a_score_beside_a_published_one(ours: str, published: str, said: str) -> None:
    assert gpu_check.compared(ours, published) == said


def test_the_published_row_of_the_gpu_check_has_all_of_easi_8() -> None:
    row = gpu_check.published_row(gpu_check.PUBLISHED)
    assert row["vsi_bench"] == "50.3"
    for key in gpu_check.TABLE_KEYS:
        assert 0 < float(row[key]) < 100


def test_the_gpu_check_compares_attentions_where_flash_attn_is_installed(tmp_path: Path) -> None:
    if find_spec("flash_attn") is None:
        what, said = gpu_check.check_attention("qwen3_5", tmp_path, tmp_path)
        assert (what, said) == (
            "qwen3_5: images, flash_attention_2 / sdpa",
            "skipped: flash-attn is not installed",
        )
    assert gpu_check.ratio(3.0, 2.0) == "3.00 / 2.00 questions/s, 1.50"


@pytest.mark.parametrize(("path", "ready"), [("", 1), (str(gpu_check.NO_PREFETCH), 0)])
def test_the_gpu_check_can_leave_out_what_is_prepared_ahead(path: str, ready: int) -> None:
    asked = """
from easi_eval.engine.prefetch import Prefetcher
from easi_eval.engine.work import Item
first, second = Item("blink", "1"), Item("blink", "2")
prefetcher = Prefetcher(lambda item: item.id)
prefetcher.prepare([first], [second])
assert [prefetcher.take(first), prefetcher.take(second)] == ["1", "2"]
print(prefetcher.summary())
"""
    done = subprocess.run(
        [sys.executable, "-c", asked],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert done.stdout.startswith(f"{ready} prompts were ready")
