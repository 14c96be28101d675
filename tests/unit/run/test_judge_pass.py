"""When a judge's scorer is started, and which results stand when it leaves nothing.

The processes are real, and score nothing.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from easi_eval.backends import make_backend
from easi_eval.backends.evidence import Evidence
from easi_eval.benchmarks import Benchmark, by_key
from easi_eval.config import RULES, RunConfig
from easi_eval.data.needs import HubSettings
from easi_eval.engine.processes.jobs import Job
from easi_eval.engine.processes.supervisor import Handle, start
from easi_eval.run.judge_pass import JudgePass
from easi_eval.scores.judging import Policy
from easi_eval.scores.score_table import BenchmarkScore, Reading, State
from evaluations import context_of

J = "gpt-4o-1120"
NOTHING = "import sys; print('ValueError: no way'); sys.exit(1)"


def evidence(key: str, unparsed: int) -> Evidence:
    return Evidence(
        "f" * 64,
        BenchmarkScore(
            key, Reading(50.0), n=100, total=100, state=State.COMPLETE, unparsed=unparsed
        ),
        {},
    )


@dataclass
class Board:
    """A pass over some benchmarks in ``root``, whose scorers are ``program``."""

    root: Path
    keys: tuple[str, ...]
    policy: Policy
    program: str = NOTHING
    rules: dict[str, Evidence] = field(default_factory=dict)
    started: list[tuple[str, ...]] = field(default_factory=list)
    given: list[tuple[str, Evidence, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        backend = make_backend("vlmevalkit", HubSettings())
        cfg = RunConfig(model="m", output_dir=self.root)
        context = context_of(cfg, backend, self.root / "log", self.policy)
        self.paths = context.paths
        for key in self.keys:
            self.paths.output(key).mkdir(parents=True)
        self.made = JudgePass(
            context,
            [by_key(key) for key in self.keys],
            self.rules,
            self.start,
            gather=lambda bench, folder: evidence(bench.key, 0),
            give=lambda bench, found, line: self.given.append((bench.key, found, line)),
            say=lambda text: None,
        )

    def start(self, some: Sequence[Benchmark]) -> Handle:
        self.started.append(tuple(bench.key for bench in some))
        return start(
            Job("judge", (sys.executable, "-c", self.program, str(self.paths.outputs))),
            self.root / "log",
        )

    def run(self, over: Collection[str]) -> None:
        while self.made.tick(over):
            time.sleep(0.02)


def test_a_half_waits_for_the_other(tmp_path: Path) -> None:
    board = Board(tmp_path, ("site_image", "blink", "site_video"), Policy(J))
    board.rules["site_image"] = evidence("site_image", 50)
    assert not board.made.tick({"site_image"}) and not board.started
    board.rules["blink"] = evidence("blink", 50)
    board.run({"site_image", "blink"})
    assert board.started == [("blink",)]
    board.rules["site_video"] = evidence("site_video", 0)
    board.run({"site_image", "blink", "site_video"})
    assert board.started == [("blink",), ("site_image", "site_video")]


def test_a_half_whose_other_failed_does_not_wait_for_ever(tmp_path: Path) -> None:
    board = Board(tmp_path, ("site_image", "site_video"), Policy(J))
    board.rules["site_image"] = evidence("site_image", 50)
    board.run({"site_image", "site_video"})
    assert board.started == [("site_image",)]


def test_a_scorer_that_leaves_nothing_leaves_the_score_by_rules(tmp_path: Path) -> None:
    board = Board(tmp_path, ("blink",), Policy(J, always=True, named=True))
    board.rules["blink"] = evidence("blink", 0)
    board.run({"blink"})
    [(key, found, line)] = board.given
    assert (key, line) == ("blink", "ValueError: no way")
    assert (found.score.state, found.score.method, found.score.reading.overall) == (
        State.INCOMPLETE,
        RULES,
        50.0,
    )
    assert found.score.reason == f"judging by {J} failed: the scorer ended without a result"
    assert Evidence.load(board.paths.output("blink")) == found, "on disk before anybody is told"
    board.run({"blink"})
    assert board.started == [("blink",)], "once in a launch"


def test_why_it_failed_is_what_the_scorer_wrote(tmp_path: Path) -> None:
    board = Board(
        tmp_path,
        ("blink",),
        Policy(J),
        program=(
            "import json, pathlib, sys; pathlib.Path(sys.argv[1], "
            "'.blink.failed.json').write_text(json.dumps({'error': 'm: HTTP 401'}))"
        ),
    )
    board.rules["blink"] = evidence("blink", 50)
    (board.paths.outputs / ".blink.failed.json").write_text(
        json.dumps({"error": "of an older launch"})
    )
    board.run({"blink"})
    assert [found.score.reason for _, found, _ in board.given] == [
        f"judging by {J} failed: m: HTTP 401"
    ]


def test_what_rules_could_read_is_left_alone(tmp_path: Path) -> None:
    board = Board(tmp_path, ("blink", "vsi_bench"), Policy(J))
    board.rules.update({key: evidence(key, 2) for key in board.keys})
    board.run(set(board.keys))
    assert board.started == [] and board.given == []
