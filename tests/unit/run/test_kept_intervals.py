"""Intervals are kept with the results, and made once for results that have none."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import pytest

from easi_eval.benchmarks import BACKENDS, LMMS_EVAL
from easi_eval.config import RunConfig
from finished import finish
from own_entries import OWN_ENTRIES
from program import User


@pytest.mark.parametrize("backend", BACKENDS)
def test_results_of_an_earlier_version_get_their_intervals_once(
    tmp_path: Path, backend: str
) -> None:
    model = tmp_path / "Tiny"
    model.mkdir()
    (model / "config.json").write_text('{"model_type": "qwen2_5_vl", "torch_dtype": "bfloat16"}')
    cfg = RunConfig(
        model="qwen2_5_vl" if backend == LMMS_EVAL else str(model),
        model_args=f"pretrained={model}" if backend == LMMS_EVAL else "",
        backend=backend,
        output_dir=tmp_path / "out",
    )
    root = finish(cfg).root
    whole = {}
    for path in root.glob("outputs/*/evidence.json"):
        evidence = json.loads(path.read_text())
        whole[path] = (evidence["score"].pop("intervals"), evidence["score"].pop("draws"))
        path.write_text(json.dumps(evidence))
    user = User(tmp_path / "user", program=OWN_ENTRIES)
    options = [*cfg.to_argv(), "--no-rich"]

    first = user.run(*options, HF_HUB_OFFLINE="1")
    assert first.code == 0, first.said
    for path, (intervals, draws) in whole.items():
        score = json.loads(path.read_text())["score"]
        assert (score["intervals"], score["draws"]) == (intervals, draws), path
    with (cfg.output_dir / "easi_scores.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        if row["score"] and not row["part"].endswith("]"):
            assert row["n"] and row["clusters"]
            if not row["low"]:  # too few questions
                assert row["part"] and not row["high"] and not row["error"], row
                continue
            assert float(row["low"]) <= float(row["score"]) <= float(row["high"]), row
            assert row["error"]
    average = rows[-1]
    assert average["benchmark"] == "easi8_average"
    shown = re.search(r"^EASI-8 average +(\S+) +(\S+) to (\S+)$", first.out, re.MULTILINE)
    assert shown and [float(end) for end in shown.groups()] == pytest.approx(
        [float(average[name]) for name in ("score", "low", "high")], abs=0.06
    )

    again = user.run(*options, HF_HUB_OFFLINE="1", PYTHONPROFILEIMPORTTIME="1")
    assert again.code == 0 and again.out == first.out, again.said
    loaded = set(re.findall(r"\| +([\w.]+)$", again.err, re.MULTILINE))
    assert "easi_eval.scores.score_table" in loaded
    assert not {"numpy", "scipy", "pandas", "easi_eval.scores.intervals"} & loaded
