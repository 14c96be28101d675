"""Reports of made-up runs: rows of questions as a backend's reader returns them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from easi_eval.benchmarks import LMMS_EVAL
from easi_eval.core.manifest import BenchmarkState, Manifest
from easi_eval.core.run_folder import RunPaths
from easi_eval.report.subject import Subject
from easi_eval.scores.row_table import frame
from easi_eval.scores.score_table import BenchmarkScore, Reading, ScoreTable, State


@dataclass(frozen=True)
class GivenRows:
    """A reader whose questions are given."""

    records: Mapping[str, Sequence[Mapping[str, Any]]]
    name: str = LMMS_EVAL

    def outputs(self, bench: Any, folder: Path, judge: str = "", *, whole: bool = True) -> str:
        return bench.key

    def questions(self, bench: Any, out: str) -> Any:
        return frame(self.records[bench.key], asked=True)


def record(benchmark: str, number: int, **facts: Any) -> dict[str, Any]:
    """One question; wrong unless ``facts`` say something else."""
    return {
        "benchmark": benchmark,
        "item": f"{benchmark}:{number}",
        "question_type": "kind",
        "answer": "B",
        "extracted": "B",
        "target": "A",
        "score": 0.0,
        "parsed": True,
        "cluster": "",
        "options": None,
        "coin_flip": False,
        "question": f"Question {number}?",
        **facts,
    }


def subject_of(
    folder: Path, records: Mapping[str, Sequence[Mapping[str, Any]]], **more: Any
) -> Subject:
    """A run with these questions."""
    rows = tuple(
        BenchmarkScore(
            key,
            Reading(100 * sum(one["score"] for one in own) / len(own)),
            n=len(own),
            total=len(own),
            state=State.COMPLETE,
            unparsed=sum(one["parsed"] is False for one in own),
            failed=sum(one.get("failed", False) for one in own),
        )
        for key, own in records.items()
    )
    manifest = Manifest(
        "0" * 64,
        {"backend": LMMS_EVAL},
        modelName="Some/Model",
        commands=["run_easi_eval.py --model Some/Model"],
        benchmarks={key: BenchmarkState("f") for key in records},
    )
    table = ScoreTable(rows, more.pop("model", "Some/Model"), LMMS_EVAL, "0" * 64)
    reader: Any = GivenRows(records)
    return Subject(table, manifest, RunPaths(folder / "run"), folder, reader, **more)
