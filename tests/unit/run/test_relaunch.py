"""What is launched again, and how.

Benchmarks that end a launch before it has answered anything do not stop the others.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from easi_eval.benchmarks import VLMEVALKIT, Benchmark, by_key
from easi_eval.config import RunConfig
from easi_eval.core.events import Event, Notice
from easi_eval.core.model import ModelChoice
from easi_eval.core.run_folder import RunPaths
from easi_eval.engine.processes.jobs import Job
from easi_eval.run.accept import Verdict
from easi_eval.scores.outputs import Outputs
from easi_eval.scores.row_table import frame
from easi_eval.scores.score_table import BenchmarkScore, Reading
from evaluations import evaluated

# Answers the benchmarks it is given, two questions each. If one of them is in DEADLY, it ends
# before the first question, whichever others there are.
WORKER = """
import os, sys
from pathlib import Path
from easi_eval.engine.journal import Answer, Journal
from easi_eval.engine.work import ItemList, Work
root, deadly, phase, keys = Path(sys.argv[1]), sys.argv[2].split(","), sys.argv[3], sys.argv[4:]
work = Work.load(root)
worker = "w0" if phase.startswith("loading") else "w7"
with Journal(root / "journal", worker, 1, work.launch) as journal:
    journal.phase(phase)
    if set(deadly) & set(keys):
        (root / "journal" / f"{worker}.gaveup").write_text("exit code 1 after 4 starts: " + ",".join(k for k in keys if k in deadly))
        sys.exit(1)
    for key in keys:
        ItemList(key, 2, ("0", "1")).save(root)
        for item in "01":
            journal.answer(Answer(key, item, 0, "w0", 1, 0.0, "A"))
"""  # noqa: E501 -- lines of a program in a string
SCORER = """
import json, sys
from pathlib import Path
from easi_eval.engine.scorer import score_loop
from easi_eval.engine.work import Work
root, keys = Path(sys.argv[1]), sys.argv[2:]
def score(assignment, answers, folder):
    (folder / "rows.json").write_text(json.dumps(sorted(answers)))
score_loop(root, Work.load(root), score, only=keys, every=0.05)
"""


class Toy:
    """A backend of short programs."""

    name = VLMEVALKIT

    def __init__(self, deadly: Sequence[str], phase: str = "building the questions") -> None:
        self.deadly, self.phase, self.launches = ",".join(deadly), phase, []

    def answer_job(
        self,
        cfg: RunConfig,
        model: ModelChoice,
        todo: Sequence[Benchmark],
        paths: RunPaths,
        port: int,
    ) -> Job:
        self.launches.append([bench.key for bench in todo])
        return Job(
            "answer",
            (
                sys.executable,
                "-c",
                WORKER,
                str(paths.root),
                self.deadly,
                self.phase,
                *self.launches[-1],
            ),
        )

    def score_job(
        self,
        cfg: RunConfig,
        model: ModelChoice,
        todo: Sequence[Benchmark],
        paths: RunPaths,
        judge: str = "",
    ) -> Job:
        return Job(
            "score", (sys.executable, "-c", SCORER, str(paths.root), *(bench.key for bench in todo))
        )

    def outputs(self, bench: Benchmark, folder: Path, judge: str = "") -> Outputs:
        return Outputs(bench.key, folder, (folder / "rows.json",), (folder / "rows.json",))

    def rows(self, bench: Benchmark, out: Outputs) -> pd.DataFrame:
        return frame(
            {
                "benchmark": bench.key,
                "item": item,
                "question_type": "",
                "answer": "A",
                "extracted": "A",
                "target": "A",
                "score": 1.0,
                "parsed": True,
                "cluster": "",
                "options": None,
                "coin_flip": False,
            }
            for item in json.loads(out.rows[0].read_text())
        )

    def read(self, bench: Benchmark, out: Outputs, rows: pd.DataFrame) -> Reading:
        return Reading(100.0)

    def annotate(
        self,
        cfg: RunConfig,
        bench: Benchmark,
        out: Outputs,
        rows: pd.DataFrame,
        score: BenchmarkScore,
        scorer_notes: Mapping[str, Any],
    ) -> BenchmarkScore:
        return score


KEYS = ("mmsi_bench", "mindcube_tiny", "viewspatial", "embspatial")


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Any]:
    def carry_out(toy: Toy, keys: Sequence[str] = KEYS) -> tuple[dict[str, Verdict], list[str]]:
        cfg = RunConfig(model="m", benchmarks=tuple(keys), output_dir=tmp_path)
        events: list[Event] = []
        verdicts = evaluated(cfg, toy, tmp_path / "log", events.append)
        said = [event.text for event in events if isinstance(event, Notice)]
        return verdicts, [text for text in said if "not the benchmark" not in text]

    return carry_out


def complete(verdicts: Mapping[str, Verdict]) -> set[str]:
    return {key for key, verdict in verdicts.items() if verdict.evidence is not None}


def test_all_in_one_launch_if_nothing_is_wrong(run: Any) -> None:
    toy = Toy([])
    verdicts, said = run(toy)
    assert complete(verdicts) == set(KEYS) and toy.launches == [list(KEYS)] and said == []


def test_a_benchmark_that_ends_every_launch_takes_no_other_with_it(run: Any) -> None:
    toy = Toy(["mindcube_tiny"])
    verdicts, said = run(toy)
    assert complete(verdicts) == set(KEYS) - {"mindcube_tiny"}
    assert toy.launches == [list(KEYS), *([key] for key in KEYS)], "each of them alone, and once"
    assert verdicts["mindcube_tiny"].line == "exit code 1 after 4 starts: mindcube_tiny"
    assert "no worker read the data" in verdicts["mindcube_tiny"].reason
    assert [text.rpartition("now ")[2] for text in said] == [
        f"{by_key(key).title} in a separate launch" for key in KEYS
    ]


def test_two_of_them_are_told_apart(run: Any) -> None:
    verdicts, _ = run(Toy(["mmsi_bench", "embspatial"]))
    assert complete(verdicts) == {"mindcube_tiny", "viewspatial"}
    for key in ("mmsi_bench", "embspatial"):
        assert verdicts[key].line.endswith(f": {key}")


def test_one_alone_is_not_launched_again(run: Any) -> None:
    toy = Toy(["blink"])
    verdicts, _ = run(toy, ["blink"])
    assert complete(verdicts) == set() and toy.launches == [["blink"]]


def test_what_an_earlier_run_was_stopped_at_blames_nobody(run: Any) -> None:
    run(Toy(["mindcube_tiny"]), ["mindcube_tiny"])
    toy = Toy(KEYS, phase="loading the model")
    run(toy)
    assert toy.launches == [list(KEYS)]


def test_a_model_that_cannot_be_loaded_is_not_tried_with_each_benchmark(run: Any) -> None:
    toy = Toy(KEYS, phase="loading the model")
    verdicts, said = run(toy)
    assert complete(verdicts) == set() and toy.launches == [list(KEYS)] and said == []
    assert all("exit code 1" in verdict.line for verdict in verdicts.values())
