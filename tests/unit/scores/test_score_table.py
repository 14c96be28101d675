"""Pooling, the average, and adding a later run to a table."""

from __future__ import annotations

from dataclasses import replace

import pytest

from easi_eval.backends.lmms_eval.question_rows import read_lmms_rows
from easi_eval.backends.lmms_eval.reader import read_lmms_scores
from easi_eval.backends.vlmevalkit.question_rows import read_vlmevalkit_rows
from easi_eval.backends.vlmevalkit.reader import read_vlmevalkit_scores
from easi_eval.benchmarks import ALL_KEYS, CORE_KEYS, LMMS_EVAL, VLMEVALKIT, by_key, group_by_key
from easi_eval.scores.recompute import pool
from easi_eval.scores.row_table import frame
from easi_eval.scores.rows import summarise
from easi_eval.scores.score_table import BenchmarkScore, Pool, Reading, ScoreTable, State, combine
from genuine import genuine


def line(key: str, score: float = 50.0, state: State = State.COMPLETE) -> BenchmarkScore:
    pools = {"": Pool(score, 100.0)} if by_key(key).group else {}
    return BenchmarkScore(
        key,
        Reading(score),
        n=10,
        total=10,
        state=state,
        unparsed=1,
        failed=0,
        truncated=0,
        coin_flips=0,
        pools=pools,
    )


def table(**scores: float) -> ScoreTable:
    return ScoreTable(
        tuple(line(key, score) for key, score in scores.items()), "org/m", VLMEVALKIT, "id"
    )


def test_caa_follows_its_definition() -> None:
    rows = frame(
        {
            "benchmark": "site_image",
            "item": str(i),
            "question_type": kind,
            "answer": "",
            "extracted": None,
            "target": "",
            "score": score,
            "parsed": True,
            "cluster": "",
            "options": n,
            "coin_flip": False,
        }
        for i, (kind, score, n) in enumerate([("a", 1.0, 4), ("a", 0.0, 2), ("b", 1.0, 5)])
    )
    whole = pool(rows)
    assert whole is not None
    assert whole.caa == pytest.approx(
        100 * ((1 - 1 / 4) + (0 - 1 / 2) + (1 - 1 / 5)) / ((1 - 1 / 4) + (1 - 1 / 2) + (1 - 1 / 5))
    )
    parts = [made for kind in ("a", "b") if (made := pool(rows, [kind]))]
    assert sum(parts, Pool(0, 0)).caa == pytest.approx(whole.caa)
    assert pool(rows, ["c"]) is None
    assert Pool(0.0, 0.0).caa is None


@pytest.mark.parametrize("backend", [VLMEVALKIT, LMMS_EVAL])
def test_site_is_pooled_from_the_rows_of_both_halves(backend: str) -> None:
    rows_of, scores_of = {
        VLMEVALKIT: (read_vlmevalkit_rows, read_vlmevalkit_scores),
        LMMS_EVAL: (read_lmms_rows, read_lmms_scores),
    }[backend]
    halves, points, weight = {}, 0.0, 0.0
    for key in ("site_image", "site_video"):
        bench = by_key(key)
        out = genuine(backend, bench)
        rows = rows_of(bench, out)
        halves[key] = summarise(
            bench, scores_of(bench, out, rows), rows, total=len(rows), state=State.COMPLETE
        )
        for score, n in zip(rows["score"], rows["options"], strict=True):
            points, weight = points + score - 1 / n, weight + 1 - 1 / n
    site = combine(group_by_key("site"), halves)
    assert site.reading.overall == pytest.approx(100 * points / weight)
    scores = [half.reading.overall for half in halves.values()]
    assert site.reading.overall != pytest.approx(
        sum(score for score in scores if score is not None) / 2, abs=1e-3
    )
    assert len(site.reading.parts) == 6 and None not in site.reading.parts.values()
    assert (
        site.state is State.COMPLETE
        and site.n == 42
        and site.unparsed == halves["site_image"].unparsed == (None if backend == LMMS_EVAL else 0)
    )


def test_half_of_site_is_no_site() -> None:
    site = combine(group_by_key("site"), {"site_image": line("site_image", 40)})
    assert site.reading.overall is None and "site_video" in site.reading.why_missing[""]
    assert site.state is State.INCOMPLETE
    partial = combine(
        group_by_key("site"),
        {"site_image": line("site_image", 40), "site_video": line("site_video", 20, State.PARTIAL)},
    )
    assert partial.reading.overall == 30 and partial.state is State.PARTIAL


def test_halves_that_were_read_by_different_means_are_still_lacking() -> None:
    halves = [
        replace(line(key), method=method)
        for key, method in (("site_image", "gpt-4o-1120"), ("site_video", "exact_matching"))
    ]
    whole = table(**{key: 50.0 for key in CORE_KEYS if not by_key(key).group})
    apart = replace(whole, rows=(*whole.rows, *halves))
    assert apart.lacking() == ("site_image", "site_video") and apart.easi8_average is None
    assert (
        replace(
            whole, rows=(*whole.rows, *(replace(half, method="exact_matching") for half in halves))
        ).lacking()
        == ()
    )


def test_the_average_counts_site_once() -> None:
    eight = table(**{key: 80.0 if by_key(key).group else 40.0 for key in CORE_KEYS}, spar_bench=0.0)
    assert eight.easi8_average == pytest.approx((7 * 40 + 80) / 8)


@pytest.mark.parametrize("key", CORE_KEYS)
@pytest.mark.parametrize("state", [state for state in State if state is not State.COMPLETE])
def test_no_average_unless_all_eight_are_complete(key: str, state: State) -> None:
    whole = table(**dict.fromkeys(CORE_KEYS, 50.0))
    assert whole.easi8_average == 50
    lacking = replace(
        whole,
        rows=tuple(replace(row, state=state) if row.key == key else row for row in whole.rows),
    )
    assert lacking.easi8_average is None and lacking.lacking() == (key,)
    gone = replace(whole, rows=tuple(row for row in whole.rows if row.key != key))
    assert gone.easi8_average is None and gone.lacking() == (key,)


def test_zero_is_a_score() -> None:
    assert table(**dict.fromkeys(CORE_KEYS, 0.0)).easi8_average == 0


def test_rows_are_in_registry_order() -> None:
    assert [row.key for row in table(**dict.fromkeys(reversed(ALL_KEYS), 1.0)).rows] == list(
        ALL_KEYS
    )


def test_summarise_counts_what_the_rows_tell() -> None:
    bench = by_key("vsi_bench")
    out = genuine(VLMEVALKIT, bench)
    rows = read_vlmevalkit_rows(bench, out)
    score = summarise(
        bench,
        read_vlmevalkit_scores(bench, out, rows),
        rows,
        total=24,
        state=State.COMPLETE,
        truncated=3,
    )
    assert (
        score.n,
        score.total,
        score.unparsed,
        score.coin_flips,
        score.truncated,
        score.pools,
    ) == (24, 24, int((~rows["parsed"]).sum()), 0, 3, {})
    site = by_key("site_image")
    found = genuine(LMMS_EVAL, site)
    known = summarise(
        site,
        read_lmms_scores(site, found),
        read_lmms_rows(site, found),
        total=24,
        state=State.COMPLETE,
        coin_flips=2,
    )
    assert known.coin_flips == 2 and known.unparsed is None
