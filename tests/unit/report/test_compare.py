"""``--compare``: flips, verdicts, warnings, the decision of ``--max-drop``, and refusals."""

from __future__ import annotations

import dataclasses
import html
import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from docs import REPOSITORY
from easi_eval.backends import make_backend
from easi_eval.backends.base import Backend
from easi_eval.benchmarks import ALL_KEYS, CORE_KEYS, LMMS_EVAL, VLMEVALKIT
from easi_eval.cli import main
from easi_eval.config import RunConfig
from easi_eval.data.needs import HubSettings
from easi_eval.report.compare import adjusted, agreement, compare
from easi_eval.report.compare_command import decide, told_of
from easi_eval.report.compare_page import comparison_page
from easi_eval.report.compare_pairs import pair, right_answer
from easi_eval.report.compare_settings import CHANCE, PROTOCOL, Caution
from easi_eval.report.compare_text import (
    letter,
    markdown_text,
    overall,
    screen_lines,
    warnings,
)
from easi_eval.report.evaluated import EvaluatedBenchmark, EvaluatedRun
from easi_eval.report.load_run import load_run
from easi_eval.scores.recompute import tolerance
from finished import finish


@dataclasses.dataclass(frozen=True)
class Runs:
    """One model's finished run on each backend."""

    vlmevalkit: EvaluatedRun
    lmms_eval: EvaluatedRun


def backend(name: str) -> Backend:
    return make_backend(name, HubSettings())


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    folder = tmp_path_factory.mktemp("runs")
    model = folder / "Some Model"
    model.mkdir()
    (model / "config.json").write_text('{"model_type": "qwen2_5_vl"}', encoding="utf-8")
    stock = RunConfig(model=str(model), output_dir=folder / "a", device="cpu")
    lmms = RunConfig(
        backend=LMMS_EVAL,
        model="qwen2_5_vl",
        model_args=f"pretrained={model}",
        output_dir=folder / "b",
        device="cpu",
    )
    return Runs(*(load_run(finish(cfg, ALL_KEYS).root, backend) for cfg in (stock, lmms)))


def changed(run: EvaluatedRun, scores: dict[str, dict[str, float]]) -> EvaluatedRun:
    """The run with other scores of some questions, by benchmark and item."""
    benchmarks = dict(run.benchmarks)
    for key, by_item in scores.items():
        rows = benchmarks[key].rows
        made = [
            by_item.get(item, score)
            for item, score in zip(rows["item"], rows["score"], strict=True)
        ]
        benchmarks[key] = dataclasses.replace(benchmarks[key], rows=rows.assign(score=made))
    return dataclasses.replace(run, benchmarks=benchmarks)


def grown(run: EvaluatedRun, times: int) -> EvaluatedRun:
    """The run with every question of MMSI-Bench so many times, each as one of its own."""
    one = run.benchmarks["mmsi_bench"]
    rows = one.rows.loc[one.rows.index.repeat(times)].reset_index(drop=True)
    rows = rows.assign(item=[str(number) for number in range(len(rows))])
    return only(run, dataclasses.replace(one, rows=rows))


def only(run: EvaluatedRun, *benchmarks: EvaluatedBenchmark) -> EvaluatedRun:
    return dataclasses.replace(run, benchmarks={one.bench.key: one for one in benchmarks})


def said(first: EvaluatedRun, *others: EvaluatedRun, width: int = 80) -> list[str]:
    return screen_lines(
        told_of(
            adjusted(
                [compare(first, other, letter(place)) for place, other in enumerate(others, 1)]
            )
        ),
        width,
    )


# ---- the same, and known flips


@pytest.mark.parametrize("backend", ["vlmevalkit", "lmms_eval"])
def test_a_run_and_itself_have_no_flips(runs: Runs, backend: str) -> None:
    run = getattr(runs, backend)
    found = compare(run, run)
    assert sum(len(found.flips(key)) for key in found.pairs) == 0
    assert sum(len(pairs.both) for pairs in found.pairs.values()) == sum(
        len(one.rows) for one in run.benchmarks.values()
    )
    assert all(line.difference and line.difference.value == 0 for line in found.headlines)
    assert not any(line.certain for line in found.lines)
    chance, *others = found.cautions  # the answers are guesses
    assert chance.title.startswith("EASI-8 average, ") and not others
    assert chance.words == "no better than chance, in A and B" and not found.apart
    assert decide(found, 0)[0] == 0


@pytest.mark.parametrize("backend", ["vlmevalkit", "lmms_eval"])
def test_the_scores_are_those_of_the_score_table(runs: Runs, backend: str) -> None:
    run = getattr(runs, backend)
    found, table = compare(run, run), run.table
    rounding = {  # lmms-eval writes two decimals of some
        key: tolerance(one.source, one.source.scale) + 1e-4 for key, one in run.benchmarks.items()
    }
    own = {row.key: row.reading for row in (*table.rows, *table.headlines)}
    assert {line.key for line in found.headlines} == {row.key for row in table.headlines}
    for line in found.lines[:-1]:
        value = own[line.key].parts[line.part] if line.part else own[line.key].overall
        first = line.difference and line.difference.first
        assert (first is None and value is None) or first == pytest.approx(
            value, abs=rounding.get(line.key, 1e-4)
        ), line
    assert found.average and found.average.difference
    assert found.average.difference.first == pytest.approx(table.easi8_average, abs=1e-4)


def test_of_thirty_known_flips_exactly_those_are_told(runs: Runs) -> None:
    random, wanted = np.random.default_rng(30), {}
    for key in ("mmsi_bench", "site_image", "viewspatial"):
        rows = runs.vlmevalkit.benchmarks[key].rows
        picked = rows.iloc[np.sort(random.choice(len(rows), 10, replace=False))]
        wanted[key] = {row.item: 1 - row.score for row in picked.itertuples()}
    found = compare(runs.vlmevalkit, changed(runs.vlmevalkit, wanted))
    assert {
        key: dict(zip(flips["item"], flips["second"], strict=True))
        for key in found.pairs
        if len(flips := found.flips(key))
    } == wanted
    for line in found.lines:
        if line.key in wanted and line.level < 2:
            ups = sum(value == 1 for value in wanted[line.key].values())
            assert line.difference is not None
            assert (line.difference.better, line.difference.worse) == (ups, 10 - ups)
    told = markdown_text(told_of([found]))
    for key, by_item in wanted.items():
        title = found.first.benchmarks[key].bench.title
        section = told.partition(f"## {title}: 10 scored differently")[2].partition("\n## ")[0]
        listed = [line.split("|")[1].strip() for line in section.splitlines() if " → " in line]
        assert listed == list(by_item)


# ---- verdicts


def test_a_clear_lead_is_told_with_its_interval(runs: Runs) -> None:
    many = grown(runs.vlmevalkit, 40)
    rows = many.benchmarks["mmsi_bench"].rows
    wrong = rows.loc[rows["score"] == 0, "item"].tolist()
    better = changed(many, {"mmsi_bench": dict.fromkeys(wrong[:60], 1.0)})
    (line,) = [line for line in compare(many, better).lines if line.level == 0]
    found = line.difference
    assert found and found.value == pytest.approx(100 * 60 / 880) and found.exact < 0.001
    assert line.verdict() == (
        f"B is ahead by {found.value:.1f} ({found.low:.1f} to {found.high:.1f})"
    )
    assert compare(many, better).overall == f"MMSI-Bench: {line.verdict()}."
    back = compare(better, many).lines[0]
    assert back.verdict() == line.verdict().replace("B is", "A is")


def test_the_terminal_has_the_sub_scores_that_are_furthest_apart(runs: Runs) -> None:
    many = grown(runs.vlmevalkit, 40)
    rows = many.benchmarks["mmsi_bench"].rows
    better = changed(many, {"mmsi_bench": dict.fromkeys(rows["item"], 1.0)})
    lines = said(many, better)
    apart = [line for line in compare(many, better).lines if line.level == 2 and line.certain]
    assert len(apart) > 3
    assert sum(line.startswith("    ") and "100.00" in line for line in lines) == 3
    parts = len(many.benchmarks["mmsi_bench"].source.parts)
    assert f"{parts - 3} more sub-scores are in the Markdown file" in lines


def test_a_benchmark_read_in_another_way_is_no_category(runs: Runs) -> None:
    """3DSRBench's overall, circular and flipped scores are of the same questions."""
    benchmark = runs.vlmevalkit.benchmarks["3dsrbench"]
    run = only(runs.vlmevalkit, benchmark)
    every = {"3dsrbench": dict.fromkeys(benchmark.rows["item"], 1.0)}
    found = compare(changed(run, every), run)
    named = {line.part: line.category for line in found.lines if line.level == 2}
    parts = {part.name: part for part in benchmark.source.parts}
    assert named == {name: bool(parts[name].types and not parts[name].group) for name in named}
    assert True in named.values() and False in named.values()
    assert "verall" not in found.overall and "Eval:" not in found.overall


def test_what_differs_in_all_of_two_runs_is_not_said_of_one_benchmark(runs: Runs) -> None:
    found = compare(runs.vlmevalkit, runs.vlmevalkit)
    cautions = (Caution(PROTOCOL, "one / other"), Caution(PROTOCOL, "limit 1 / 2", "VSI-Bench"))
    for told in (cautions, cautions[::-1]):
        assert dataclasses.replace(found, cautions=told).apart == PROTOCOL
    assert dataclasses.replace(found, cautions=cautions[1:]).apart == f"{PROTOCOL} in VSI-Bench"


def test_gains_and_losses_are_told_apart(runs: Runs, tmp_path: Path) -> None:
    """Also by a mark, and the categories that lost the most are named in the first sentence."""
    many = grown(runs.vlmevalkit, 40)
    rows = many.benchmarks["mmsi_bench"].rows
    all_right = changed(many, {"mmsi_bench": dict.fromkeys(rows["item"], 1.0)})
    gains, losses = compare(many, all_right), compare(all_right, many)
    lost = [line for line in losses.lines if line.level == 2 and line.certain]
    most = min(lost, key=lambda line: line.difference.value if line.difference else 0)
    assert f"; categories in which B is significantly worse: {most.title} (MMSI-Bench), " in (
        losses.overall
    )
    assert losses.overall.endswith(f" and {len(lost) - 3} more.") and "worse" not in gains.overall
    parts, count = len(lost), sum(line.level == 2 for line in losses.lines)
    for found, cls, said in (
        (gains, "gain", f"{parts} significantly better in B, 0 worse"),
        (losses, "loss", f"0 significantly better in B, {parts} worse"),
    ):
        page = comparison_page(told_of([found]), tmp_path).decode()
        assert f"{count} categories: {said}" in page
        assert page.count(f'<tr class="{cls}">') == parts + 1  # the benchmark's row too


def test_a_small_change_is_not_distinguishable_and_says_what_would_be(runs: Runs) -> None:
    many = grown(runs.vlmevalkit, 10)
    rows = many.benchmarks["mmsi_bench"].rows
    flipped = {row.item: 1 - row.score for row in rows.iloc[::50].itertuples()}
    line = compare(many, changed(many, {"mmsi_bench": flipped})).lines[0]
    assert line.difference is not None and not line.certain
    assert line.verdict() == (
        f"not distinguishable; differences under {line.difference.detectable:.1f} "
        "would often be missed"
    )


def test_a_lead_in_one_of_many_benchmarks_has_to_be_clearer(runs: Runs) -> None:
    """p-values are adjusted for the number of benchmarks."""
    alone = grown(runs.vlmevalkit, 10)
    rows = alone.benchmarks["mmsi_bench"].rows
    wrong = rows.loc[rows["score"] == 0, "item"].tolist()
    scores = {"mmsi_bench": dict.fromkeys(wrong[:6], 1.0)}
    assert compare(alone, changed(alone, scores)).lines[0].p == pytest.approx(0.03125)
    whole = dataclasses.replace(
        runs.vlmevalkit, benchmarks=runs.vlmevalkit.benchmarks | alone.benchmarks
    )
    among = compare(whole, changed(whole, scores))
    (line,) = [line for line in among.headlines if line.key == "mmsi_bench"]
    assert line.p == pytest.approx(0.03125 * len(among.headlines)) and not line.certain
    assert line.verdict() == "not distinguishable, given how many scores are compared"


@pytest.mark.parametrize(
    ("points", "word"),
    [
        (0, "within 2.5"),
        (-2.5, "within 2.5"),
        (2.6, "within 5"),
        (5, "within 5"),
        (-5.1, "more than 5"),
    ],
)
def test_how_far_apart_scores_are(points: float, word: str) -> None:
    assert agreement(points).startswith(f"{word} points")


def test_an_interval_is_the_same_everywhere_and_on_the_scale(runs: Runs, tmp_path: Path) -> None:
    told = told_of([compare(runs.vlmevalkit, runs.lmms_eval)])
    screens = [screen_lines(told, width) for width in (80, 140)]
    markdown = [
        [cell.strip() for cell in row.split("|")[1:-1]] for row in markdown_text(told).splitlines()
    ]
    page = html.unescape(comparison_page(told, tmp_path).decode())
    for line in told.comparisons[0].lines:
        found = line.difference
        if found is None:
            continue
        shown = "" if found.ends is None else f"{found.ends[0]:z.1f} to {found.ends[1]:z.1f}"
        at = line.level and 1
        rows = [row for row in markdown if len(row) > 6 and row[at] == line.title]
        assert shown in {row[6] for row in rows}
        figures = (line.title, f"{found.value:+z.2f}", shown, line.verdict())
        assert any(
            all(f">{figure}<" in row for figure in figures) for row in page.split("<tr")[1:]
        ) or (line.key == "average" and line.verdict() in page)
        if line.level < 2:
            assert all(any(line.title in row and shown in row for row in one) for one in screens)
        if found.ends is None:
            assert "no difference" in line.verdict() or "too few questions" in line.verdict()
        else:
            assert -100 <= found.ends[0] <= found.value <= found.ends[1] <= 100
    assert "inf" not in {word for row in markdown for cell in row for word in cell.split()}


@pytest.mark.parametrize("count", [1, 2, 4])
def test_a_difference_of_too_few_questions_has_no_interval(runs: Runs, count: int) -> None:
    one = runs.vlmevalkit.benchmarks["mmsi_bench"]
    few = dataclasses.replace(one, rows=one.rows.head(count).assign(score=0.0))
    up = dataclasses.replace(few, rows=few.rows.assign(score=[1.0] + [0.0] * (count - 1)))
    (line, *_) = compare(only(runs.vlmevalkit, few), only(runs.vlmevalkit, up)).lines
    assert line.difference is not None and line.difference.value > 0
    assert line.verdict().startswith("not distinguishable: too few questions")
    if count < 4:
        assert line.difference.ends is None
    else:
        assert line.difference.high > 100 and line.difference.ends == (line.difference.low, 100)


# ---- both backends


def test_both_backends_questions_are_paired(runs: Runs) -> None:
    found = compare(runs.vlmevalkit, runs.lmms_eval)
    unpaired = {
        key: (pairs.only_first, pairs.only_second)
        for key, pairs in found.pairs.items()
        if pairs.only_first or pairs.only_second
    }
    assert unpaired == {"3dsrbench": (32, 0)}  # only VLMEvalKit asks its turned variants
    assert list(found.pairs) == list(ALL_KEYS)
    text = "\n".join(str(caution) for caution in found.cautions if caution.kind != CHANCE)
    assert "backend vlmevalkit / lmms-eval" in text and "SPAR" not in text
    assert (
        "3DSRBench: not the same questions, 32 only in A; compared are the 24 in both; "
        "the others are variants of these" in text
    )
    assert "BLINK: averaged in different ways, A over questions, B over the means of kinds" in text
    own = runs.vlmevalkit.table.row("3dsrbench")
    assert (
        own
        and f"3DSRBench: not the score of the run's table, A has {own.reading.overall:.2f}" in text
    )
    count = len(found.headlines)
    assert found.overall.startswith(
        "Not comparable (not the same protocol; not the same questions in 3DSRBench): a difference "
        "need not be the model's. EASI-8 average: "
    )
    assert found.overall.endswith(f"; none of the {count} benchmarks differs significantly.")
    assert found.same_model and found.other_backend
    for pairs in found.pairs.values():
        assert (pairs.both["key"] == pairs.both["key_2"]).all()


def test_questions_in_another_order_are_not_paired(runs: Runs) -> None:
    first, second = (run.benchmarks["viewspatial"] for run in (runs.vlmevalkit, runs.lmms_eval))
    rows = second.rows
    moved = rows.assign(target=rows["target"].to_numpy()[np.arange(len(rows)) - 1])
    found = pair(first, dataclasses.replace(second, rows=moved))
    assert len(found.both) == 0 and found.only_first == found.only_second == len(rows)
    (line,) = compare(
        only(runs.vlmevalkit, first),
        only(runs.lmms_eval, dataclasses.replace(second, rows=moved)),
    ).headlines
    assert line.verdict() == "no question in both"


def test_a_run_of_fewer_questions_is_paired_as_far_as_it_goes(runs: Runs) -> None:
    first, second = (run.benchmarks["vsi_bench"] for run in (runs.vlmevalkit, runs.lmms_eval))
    found = pair(first, dataclasses.replace(second, rows=second.rows.head(10)))
    assert (len(found.both), found.only_first, found.only_second) == (10, 14, 0)


@pytest.mark.parametrize(
    ("one", "other"),
    [("B", "(B)"), ("B", "<Answer>B</Answer>"), ("b", "B. left"), ("2", "2.0"), ("Left", "left")],
)
def test_right_answers_are_compared_across_backends(one: str, other: str) -> None:
    assert right_answer(one) == right_answer(other) != right_answer("C")


# ---- warnings


def test_other_right_answers_are_another_key(runs: Runs) -> None:
    one = runs.vlmevalkit.benchmarks["mmsi_bench"]
    rows = one.rows.assign(
        target=["A" if at < 8 else text for at, text in enumerate(one.rows["target"])]
    )
    count = int((rows["target"] != one.rows["target"]).sum())
    found = compare(
        only(runs.vlmevalkit, one), only(runs.vlmevalkit, dataclasses.replace(one, rows=rows))
    )
    assert len(found.pairs["mmsi_bench"].both) == len(rows) - count
    assert (
        f"MMSI-Bench: not the same answer key, {count} questions have another right answer in B "
        "and are left out" in found.warnings
    )


def test_another_judge_protocol_or_version_is_warned_of(runs: Runs) -> None:
    one = runs.vlmevalkit.benchmarks["mmsi_bench"]
    other = dataclasses.replace(
        one,
        score=dataclasses.replace(one.score, method="gpt-4o", failed=1),
        settings={**one.settings, "videos": "frames"},
    )
    manifest = runs.vlmevalkit.manifest
    later = dataclasses.replace(
        manifest, fields={**manifest.fields, "transformers": "5.0", "backend arguments": ["--x"]}
    )
    second = dataclasses.replace(only(runs.vlmevalkit, other), manifest=later)
    text = "\n".join(compare(only(runs.vlmevalkit, one), second).warnings)
    assert "MMSI-Bench: not read by the same judge, rules / gpt-4o" in text
    assert "MMSI-Bench: not the same protocol, videos not given / frames" in text
    assert "MMSI-Bench: questions that failed count as wrong, 1 in B" in text
    assert (
        "transformers" in text and "/ 5.0" in text and "backend arguments not given / --x" in text
    )


# ---- --max-drop


def test_what_max_drop_decides(runs: Runs) -> None:
    many = grown(runs.vlmevalkit, 40)
    rows = many.benchmarks["mmsi_bench"].rows
    right = rows.loc[rows["score"] == 1, "item"].tolist()
    worse = changed(many, {"mmsi_bench": dict.fromkeys(right[:60], 0.0)})  # 6.8 points
    for points, code in ((2, 1), (7, 4), (12, 0)):
        assert decide(compare(many, worse), points)[0] == code, points
    assert decide(compare(worse, many), 0)[0] == 0


def test_a_drop_in_one_benchmark_is_a_drop(runs: Runs) -> None:
    many = grown(runs.vlmevalkit, 40)
    whole = dataclasses.replace(
        runs.vlmevalkit, benchmarks=runs.vlmevalkit.benchmarks | many.benchmarks
    )
    rows = many.benchmarks["mmsi_bench"].rows
    right = rows.loc[rows["score"] == 1, "item"].tolist()
    worse = changed(whole, {"mmsi_bench": dict.fromkeys(right[:100], 0.0)})
    code, text = decide(compare(whole, worse), 3)  # of the average it is 1.4
    assert (code, text) == (1, "drop: B is more than 3 worse in MMSI-Bench")


def test_a_missing_benchmark_cannot_be_a_go(runs: Runs) -> None:
    fewer = only(runs.vlmevalkit, runs.vlmevalkit.benchmarks["mmsi_bench"])
    code, text = decide(compare(runs.vlmevalkit, fewer), 5)
    assert code == 4 and text.startswith("cannot be told: B lacks VSI-Bench, MindCube-Tiny")
    assert decide(compare(fewer, runs.vlmevalkit), 5)[0] == 0


def test_nothing_is_decided_about_runs_that_are_not_comparable(runs: Runs, tmp_path: Path) -> None:
    one = runs.vlmevalkit.benchmarks["mmsi_bench"]
    first, fields = only(runs.vlmevalkit, one), runs.vlmevalkit.manifest.fields

    def asked(**given: object) -> EvaluatedRun:
        manifest = dataclasses.replace(first.manifest, fields={**fields, **given})
        return dataclasses.replace(first, manifest=manifest)

    def of(**changes: object) -> EvaluatedRun:
        return only(first, dataclasses.replace(one, **changes))

    keys = one.rows["target"].replace({"A": "B", "B": "A"})
    judged = dataclasses.replace(one.score, method="gpt-4o")
    for other, reason in (
        (runs.lmms_eval, "not the same protocol"),
        (asked(**{"backend arguments": ["--x"]}), "not the same protocol"),
        (asked(**{"--smoke": True}), "one is a rehearsal"),
        (of(settings={**one.settings, "videos": "frames"}), "not the same protocol in MMSI-Bench"),
        (of(rows=one.rows.head(9)), "not the same questions in MMSI-Bench"),
        (of(rows=one.rows.assign(target=keys)), "not the same answer key in MMSI-Bench"),
        (of(score=judged), "not read by the same judge in MMSI-Bench"),
    ):
        found = compare(first, other)
        assert decide(found, 100) == (4, f"cannot be told: the runs are not comparable, {reason}")
        # The same is said first of all on the terminal, in the file and on the page.
        told = told_of([found])
        assert found.overall.startswith(f"Not comparable ({reason}): ")
        assert found.overall in " ".join(" ".join(screen_lines(told, 80)).split())
        assert f"**{found.overall}**" in markdown_text(told).replace("\\", "")
        shown = html.unescape(comparison_page(told, tmp_path).decode())
        assert f"<p><b>{found.overall}</b></p>" in shown
    both = asked(**{"--smoke": True})
    assert decide(compare(both, both), 0)[0] == 0
    assert decide(compare(first, of(score=dataclasses.replace(one.score, failed=1))), 0)[0] == 0


def test_an_error_is_no_decision(
    runs: Runs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also one inside this program: 1 is a drop."""
    broken = tmp_path / "broken"
    shutil.copytree(runs.vlmevalkit.path, broken)
    manifest = json.loads((broken / "run_manifest.json").read_text(encoding="utf-8"))
    manifest["fields"]["class arguments"], manifest["versions"] = 3, 3
    (broken / "run_manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    assert main(["--compare", str(broken), str(broken), "--max-drop", "1"]) == 2
    assert capsys.readouterr().err.startswith("error: ")
    script = str(REPOSITORY / "scripts/submissions/run_easi_eval.py")
    compared = [*["--compare", *[str(runs.vlmevalkit.path)] * 2], "--max-drop", "1"]
    with Path("/dev/full").open("w") as full:  # the table is written to a full disk
        done = subprocess.run([sys.executable, script, *compared], stdout=full, cwd=tmp_path)
    assert done.returncode == 2


# ---- the command


def test_the_command_shows_it_and_writes_its_files(
    runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for width in (80, 140):
        monkeypatch.setenv("COLUMNS", str(width))
        assert main(["--compare", str(runs.vlmevalkit.path), str(runs.lmms_eval.path)]) == 0
        shown = capsys.readouterr().out
        assert f"Written: {tmp_path / 'easi_comparison.md'}" in shown
        wide = [line for line in shown.splitlines() if len(line) > width]
        assert all(str(tmp_path.parent) in line for line in wide)
        assert "\nEASI-8 average " in shown
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"easi_comparison.md", "easi_comparison.html"}
    told = (tmp_path / "easi_comparison.md").read_text(encoding="utf-8")
    table = [line for line in told.splitlines() if line.startswith("| ") and "McNemar" in line]
    assert len(table) == 1 and "Order of appearance" in told
    again = ["--compare", str(runs.vlmevalkit.path), str(runs.vlmevalkit.path)]
    assert main([*again, "--max-drop", "0"]) == 0
    assert "go: B is at most 0 worse" in capsys.readouterr().out
    assert "go: B is" in (tmp_path / "easi_comparison.md").read_text(encoding="utf-8")


def test_many_runs_make_one_table(runs: Runs) -> None:
    lines = said(runs.vlmevalkit, runs.lmms_eval, runs.vlmevalkit, width=140)
    (head,) = [line for line in lines if line.startswith("benchmark")]
    assert head.split() == ["benchmark", "A", "B", "C"]
    (row,) = [line for line in lines if line.startswith("EASI-8 average")]
    average = runs.vlmevalkit.table.easi8_average
    assert row.split()[2] == f"{average:.2f}" and row.endswith(f"{average:.2f} (+0.0)")
    pair_of = compare(runs.vlmevalkit, runs.lmms_eval)
    wide = screen_lines(told_of(adjusted([pair_of] * 9)), 80)
    assert max(map(len, wide[wide.index("") + 1 :])) <= 80
    assert [line.split()[2:] for line in wide if line.startswith("benchmark")][-1][-1] == "J"


def test_many_runs_are_named_by_their_own_letters(runs: Runs) -> None:
    third = compare(runs.vlmevalkit, runs.lmms_eval, "C")
    told = told_of(adjusted([compare(runs.vlmevalkit, runs.vlmevalkit), third]))
    text = markdown_text(told)
    assert "A over questions, C over the means of kinds" in text and "B over the means" not in text
    assert "3DSRBench: not the same questions, 32 only in A" in text


def test_warnings_of_many_runs_are_one_line_for_each_kind(runs: Runs) -> None:
    """Each names the pairs and benchmarks; those of one pair are in its part of the file."""
    short = dataclasses.replace(
        runs.lmms_eval,
        benchmarks={
            key: dataclasses.replace(one, rows=one.rows.head(3))
            for key, one in runs.lmms_eval.benchmarks.items()
        },
    )
    told = told_of(
        adjusted(
            [
                compare(runs.vlmevalkit, runs.lmms_eval),
                compare(runs.vlmevalkit, short, "C"),
                compare(runs.vlmevalkit, short, "D"),
            ]
        )
    )
    found = warnings(told.comparisons)
    assert sum(len(one.warnings) for one in told.comparisons) > 40 and len(found) == 4
    protocol, averaged, questions, chance = found
    assert chance.endswith(": no better than chance, in A and B and C and D")
    assert "backend vlmevalkit / lmms-eval" in protocol
    assert protocol.endswith(": A and B, A and C, A and D")
    assert questions.startswith(
        "warning: not the same questions: A and B in 3DSRBench; A and C, A and D in VSI-Bench, "
    )
    assert averaged.startswith("warning: averaged in different ways: A and B, A and C, A and D in ")
    shown = screen_lines(told, 80)
    assert overall(told.comparisons).startswith("Not comparable with A: B (not the same protocol; ")
    assert "C (not the same protocol; not the same questions in 13 benchmarks), D (" in (
        " ".join(" ".join(shown).split())
    )
    assert sum(line.startswith("warning: ") for line in shown) == 4


def test_scores_of_all_questions_and_differences_of_common_ones_are_told_apart(runs: Runs) -> None:
    """Also where they have opposite signs."""
    one = runs.vlmevalkit.benchmarks["mmsi_bench"]
    rows = one.rows.sort_values("score", ascending=False)
    half = dataclasses.replace(one, rows=rows.tail(len(rows) // 2))  # the wrong ones, one is right
    score = dataclasses.replace(one.score.reading, overall=10.0)
    half = dataclasses.replace(half, score=dataclasses.replace(one.score, reading=score))
    half = dataclasses.replace(
        half, rows=half.rows.assign(score=[1.0, *[0.0] * (len(half.rows) - 1)])
    )
    first, other = only(runs.vlmevalkit, one), only(runs.vlmevalkit, half)
    own, seen = one.score.reading.overall, 100 / len(half.rows)
    lines = said(first, first, other)
    (row,) = [line for line in lines if line.startswith("MMSI-Bench")]
    assert row.split()[1:] == [
        f"{own:.2f}",
        f"{own:.2f}",
        "(+0.0)",
        "10.00",
        f"(+{seen:.1f}†)",
    ]
    text = " ".join(lines)
    assert "Scores are over all questions of a run. In brackets: difference from A over the" in text
    assert f"A and C: MMSI-Bench 0.00 and {seen:.2f}" in text and "A and B: MMSI" not in text
    assert "†" not in "".join(said(first, first, first))


def test_hostile_answers_stay_in_their_cell(runs: Runs) -> None:
    one = runs.vlmevalkit.benchmarks["mmsi_bench"]
    answers = ["a | b\n<script>\x1b[31m`*_[x](y)\u2028" * 20] * len(one.rows)
    hostile = dataclasses.replace(
        one, rows=one.rows.assign(answer=answers, score=1 - one.rows["score"])
    )
    told = markdown_text(
        told_of([compare(only(runs.vlmevalkit, one), only(runs.vlmevalkit, hostile))])
    )
    rows = [line for line in told.splitlines() if " → " in line]
    assert len(rows) == len(one.rows)
    for row in rows:
        assert row.replace("\\|", "").count("|") == 8
        assert "<" not in row and "\x1b" not in row and " [x]" not in row


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--compare", "a"], "--compare needs two runs or more"),
        (["--compare", "nowhere", "neither"], "nowhere does not exist"),
        (["--max-drop", "1"], "--max-drop without --compare"),
        (["--compare", "a", "b", "c", "--max-drop", "1"], "--max-drop with 3 runs"),
        (["--compare", "a", "b", "--max-drop", "-1"], "--max-drop is -1"),
        (["--compare", "a", "b", "--max-drop", "nan"], "--max-drop is nan"),
        (["--compare", "a", "b", "--max-drop", "inf"], "--max-drop is inf"),
        (["--compare", "a", "b", "--max-drop", "two"], "--max-drop is two"),
        (["--compare", "a", "b", "--model", "m"], "--compare cannot be combined with --model"),
        (["--compare", *["a"] * 27], "--compare with 27 runs"),
    ],
)
def test_what_cannot_be_compared_is_refused(
    argv: Sequence[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(argv) == 2
    error, hint, *more = capsys.readouterr().err.splitlines()
    assert error.startswith(f"error: {message}") and hint.startswith("hint: ") and not more


def test_what_both_have_counts(runs: Runs) -> None:
    core = dataclasses.replace(
        runs.vlmevalkit, benchmarks={key: runs.vlmevalkit.benchmarks[key] for key in CORE_KEYS[:3]}
    )
    found = compare(core, runs.vlmevalkit)
    assert list(found.pairs) == list(CORE_KEYS[:3]) and found.lacking == ()
    assert found.average is not None and found.average.title == "Mean of these 3"
    assert any(text.startswith("only B has ") for text in found.warnings)
    assert runs.vlmevalkit.backend == VLMEVALKIT
