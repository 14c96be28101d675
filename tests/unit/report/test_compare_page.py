"""The page about two runs: figures, flips with both answers, and hostile answers in a browser."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from urllib.parse import quote

from browser import CUT_OFF, browser
from easi_eval.backends import make_backend
from easi_eval.benchmarks import LMMS_EVAL
from easi_eval.config import RunConfig
from easi_eval.core.run_folder import RunPaths
from easi_eval.data.needs import HubSettings
from easi_eval.report.charts import difference_bar
from easi_eval.report.compare import adjusted, compare
from easi_eval.report.compare_command import told_of
from easi_eval.report.compare_page import comparison_page
from easi_eval.report.evaluated import questions_of
from easi_eval.report.load_run import load_run
from easi_eval.report.subject import REPORT
from easi_eval.scores.report import between
from finished import config, finish

HOSTILE = "</script><img src=x onerror='window.hit = 1'>\u2028\ud800"
KEYS = ("mmsi_bench", "embspatial")


def test_two_runs_in_a_browser(tmp_path: Path) -> None:
    root = finish(config(LMMS_EVAL, tmp_path), KEYS).root
    first = load_run(root, lambda name: make_backend(name, HubSettings()))
    one = first.benchmarks[KEYS[0]]
    rows = one.rows.copy()
    rows["answer"] = rows["answer"].astype(object)
    for place in range(3):
        rows.loc[place, "score"] = 1.0 - rows.loc[place, "score"]
        rows.at[place, "answer"] = HOSTILE
        rows.at[place, "parsed"] = False
    second = dataclasses.replace(
        first, benchmarks={**first.benchmarks, KEYS[0]: dataclasses.replace(one, rows=rows)}
    )
    told = told_of(adjusted([compare(first, second)]))
    page = tmp_path / "easi_comparison.html"
    page.write_bytes(comparison_page(told, tmp_path))
    with browser() as shown:
        shown.open(page)
        assert shown.run("found.length") == 3
        words = shown.run("document.querySelector('main').textContent")
        for line in told.comparisons[0].lines:
            assert line.title in words
            if line.difference:
                assert line.verdict() in words and f"{line.difference.value:+z.2f}" in words
        detail = shown.run("document.getElementById('detail').textContent")
        assert "Run A: " in detail and f"Run B: {HOSTILE[:20]}" in detail
        assert re.search("read as“.+” → unparsed", detail)
        scores = [f"{100 * score:.4g}" for score in (one.rows["score"][0], rows["score"][0])]
        assert f"pointsA {scores[0]}, B {scores[1]} of 100" in detail
        asked = questions_of(make_backend(LMMS_EVAL, HubSettings()), one.score, RunPaths(root))
        assert asked["item"][0] == rows["item"][0] and asked["question"][0][:40] in detail
        assert f"--compare {root} {root}" in words
        assert shown.run("document.querySelector('.q .o').textContent") in ("▲", "▼")
        (line,) = [line for line in told.comparisons[0].lines if line.key == "average"]
        assert line.difference and line.difference.ends
        card = shown.run("document.querySelector('.average').textContent")
        assert f"{line.difference.value:+.2f}95 % interval {between(line.difference.ends)}" in card
        assert shown.run("document.querySelectorAll('dd a').length") == 0  # no report is there
        assert shown.run("window.hit") is None
        tables = "[...document.querySelectorAll('table')]"
        assert shown.run(f"{tables}.length") == 1 + len(KEYS)
        assert shown.run(f"{tables}.every(one => one.tHead?.textContent.includes('verdict'))")
        for width in (700, 390):
            shown.look(width=width)
            assert shown.run(CUT_OFF) == []
        assert shown.messages == [f"request {page.as_uri()}"]


def test_a_run_and_itself(tmp_path: Path) -> None:
    model = tmp_path / "Some Model"
    model.mkdir()
    (model / "config.json").write_text('{"model_type": "qwen2_5_vl"}', encoding="utf-8")
    root = finish(RunConfig(model=str(model), output_dir=tmp_path, device="cpu"), KEYS[:1]).root
    run = load_run(root, lambda name: make_backend(name, HubSettings()))
    told = told_of(adjusted([compare(run, run)]))
    page = comparison_page(told, tmp_path).decode()
    assert "0 questions scored differently" in page and "no difference" in page
    assert "<h1>Some Model, two runs</h1>" in page and "its report" not in page
    (root / REPORT).write_bytes(b"")
    link = f'<a href="{quote(root.relative_to(tmp_path).as_posix())}/report.html">its report</a>'
    assert comparison_page(told, tmp_path).decode().count(link) == 2
    assert "its report" not in comparison_page(told, root / "outputs").decode()  # it lies above


def test_a_difference_is_drawn_with_the_ends_of_its_interval_that_fit() -> None:
    for interval, marks in ((None, 0), ((-10.0, 20.0), 3), ((-70.0, 20.0), 2), ((-70.0, 70.0), 1)):
        drawn = difference_bar(5.0, interval, 40.0, "title")
        assert drawn.count('class="interval"') == marks, interval
