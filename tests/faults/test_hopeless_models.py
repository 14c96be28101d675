"""Models that cannot run, under the real keepers, workers and scorer.

They are given up soon, with the reason, and nothing else is lost.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from easi_eval.benchmarks import VLMEVALKIT, Benchmark
from easi_eval.config import RunConfig
from easi_eval.core.events import Event, Notice, Traceback
from easi_eval.core.model import ModelChoice
from easi_eval.core.run_folder import RunPaths
from easi_eval.engine.processes.jobs import Job
from easi_eval.run.accept import Acceptance, Verdict
from evaluations import evaluated

pytestmark = pytest.mark.faults

KEEPER = """
import sys
from pathlib import Path
from easi_eval.engine.processes.keeper import keep
sys.exit(keep([sys.executable, *sys.argv[2:]], Path(sys.argv[1]), pause=1.0))
"""
# load() and answer(items) are the test's
WORKER = """
import os, signal, sys, time
from pathlib import Path
from easi_eval.engine.driver import DriverOptions, run_role
from easi_eval.engine.work import ItemList, Work
from easi_eval.engine.generation import Generation
from easi_eval.engine.dispatch_client import connect; from easi_eval.engine.worker import work_loop
root, keys = Path(sys.argv[1]), sys.argv[3:]

def note(what):
    with open(root / "noted", "a") as file:
        file.write(f"{what}\\n")

def load(): pass

%s

def work():
    work = Work.load(root)
    dispatcher = connect(root, work)
    dispatcher.phase("loading the model")
    note("load")
    load()
    dispatcher.phase("building the questions")
    lists = {key: ItemList(key, int(sys.argv[2]), tuple(f"{n}" for n in range(int(sys.argv[2])))) for key in keys}
    for one in lists.values():
        one.save(root)
    left = tuple(one for one in work.benchmarks if one.key in keys)
    def ask(items):
        for item in items:
            note(item.benchmark)
        time.sleep(0.02)
        return answer(items)
    from dataclasses import replace
    work_loop(root, replace(work, benchmarks=left), {key: one.items() for key, one in lists.items()}, ask, dispatcher=dispatcher)
    return 0

sys.exit(run_role(DriverOptions(root, "work"), work))
"""  # noqa: E501 -- lines of a program in a string
SCORER = """
import sys
from pathlib import Path
from easi_eval.engine.scorer import score_loop
from easi_eval.engine.work import Work
root, keys = Path(sys.argv[1]), sys.argv[2:]
def score(assignment, answers, folder):
    (folder / "scored").touch()
score_loop(root, Work.load(root), score, only=keys, every=0.05)
"""
KEYS = ("mmsi_bench", "mindcube_tiny", "viewspatial", "embspatial")


class Toy:
    """A backend of short programs; scores are not looked at."""

    name = VLMEVALKIT

    def __init__(self, folder: Path, code: str, questions: int) -> None:
        self.worker, self.questions = folder / "worker.py", questions
        self.worker.write_text(WORKER % code)

    def answer_job(
        self,
        cfg: RunConfig,
        model: ModelChoice,
        todo: Sequence[Benchmark],
        paths: RunPaths,
        port: int,
    ) -> Job:
        return Job(
            "answer",
            (
                sys.executable,
                "-c",
                KEEPER,
                str(paths.root),
                str(self.worker),
                str(paths.root),
                str(self.questions),
                *(bench.key for bench in todo),
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


class Outcome:
    """The result of a run.

    Verdicts without evidence are failures; ``noted`` counts loads, and questions asked per
    benchmark.
    """

    def __init__(
        self, verdicts: dict[str, Verdict], events: list[Event], root: Path, log: Path
    ) -> None:
        self.verdicts = verdicts
        self.warnings = [
            event.text for event in events if isinstance(event, Notice) and event.level == "warning"
        ]
        self.traces = [event.text for event in events if isinstance(event, Traceback)]
        self.noted = Counter((root / "noted").read_text().split())
        self.log = log.read_text()
        self.root = root


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Outcome]:
    def carry_out(
        code: str, keys: Sequence[str] = KEYS, questions: int = 40, verbose: bool = False
    ) -> Outcome:
        monkeypatch.setattr(
            Acceptance, "accept", lambda self, bench, folder: Verdict(bench.key, None, "scored")
        )
        cfg = RunConfig(model="m", benchmarks=tuple(keys), output_dir=tmp_path, verbose=verbose)
        events: list[Event] = []
        toy = Toy(tmp_path, code, questions)
        verdicts = evaluated(cfg, toy, tmp_path / "log", events.append)
        root = RunPaths.of(tmp_path, VLMEVALKIT, "m", "i" * 64).root
        return Outcome(verdicts, events, root, tmp_path / "log")

    return carry_out


@pytest.mark.timeout(240)
def test_a_model_that_always_raises_is_given_up_after_two_benchmarks(
    run: Callable[..., Outcome],
) -> None:
    found = run(
        'def answer(items): raise ValueError("no pictures please")', questions=400, verbose=True
    )
    assert found.noted["load"] == 1
    first, second, *others = (found.noted[key] for key in KEYS)
    assert 20 <= first < 200 and 20 <= second < 200 and others == [0, 0], (
        "each would be asked 800 times"
    )
    for key in KEYS[:2]:
        assert (
            found.verdicts[key].reason
            == "set aside: its first 20 questions raised ValueError, none was answered"
        )
    assert {verdict.line for verdict in found.verdicts.values()} == {
        "ValueError: no pictures please"
    }
    assert f"{KEYS[0]} 0 raised ValueError: no pictures please" in found.warnings
    assert sum("0 raised" in text for text in found.warnings) == 1
    assert found.log.count("Traceback (most recent call last)") == 1
    assert (
        len(found.traces) == 1
        and "no pictures please" in found.traces[0]
        and "\n" in found.traces[0]
    )


@pytest.mark.timeout(240)
def test_a_model_that_lacks_videos_loses_only_those(run: Callable[..., Outcome]) -> None:
    found = run(
        """
def answer(items):
    if items[0].benchmark in ("mindcube_tiny", "viewspatial"):
        raise NotImplementedError("no video")
    return [Generation("A") for _ in items]
""",
        questions=200,
    )
    assert found.noted["load"] == 2, (
        "who is alone, answered before and then raises ten times is started again once"
    )
    assert {key for key, verdict in found.verdicts.items() if verdict.reason == "scored"} == {
        "mmsi_bench",
        "embspatial",
    }
    assert {found.verdicts[key].line for key in ("mindcube_tiny", "viewspatial")} == {
        "NotImplementedError: no video"
    }
    assert found.noted["mmsi_bench"] == found.noted["embspatial"] == 200


@pytest.mark.timeout(240)
def test_a_model_that_kills_itself_at_every_question_is_given_up(
    run: Callable[..., Outcome],
) -> None:
    found = run("def answer(items): os.kill(os.getpid(), signal.SIGSEGV)")
    assert found.noted["load"] <= 7, (
        "3 deaths over each of two benchmarks; 4 loads for each benchmark and for all would be 20"
    )
    assert sum(found.noted[key] > 0 for key in KEYS) == 2
    assert "set aside: 3 workers died over it, none of its questions was answered" in {
        verdict.reason for verdict in found.verdicts.values()
    }
    assert {verdict.line for verdict in found.verdicts.values()} == {
        "SIGSEGV: Fatal Python error: Segmentation fault"
    }
    assert any(
        text.startswith("w0 died (SIGSEGV), restart 2 of 3: Fatal Python error")
        for text in found.warnings
    )


@pytest.mark.timeout(240)
def test_a_model_that_cannot_be_loaded_is_loaded_twice(run: Callable[..., Outcome]) -> None:
    found = run('def load(): raise KeyError("no such weights")\ndef answer(items): pass')
    assert found.noted == Counter(load=2)
    assert {verdict.line for verdict in found.verdicts.values()} == {
        "exit code 1 after 2 starts: KeyError: 'no such weights', at worker.py:16 in load"
    }
    assert any(
        text.startswith("w0 died (exit code 1), restart 1 of 3: KeyError")
        for text in found.warnings
    )
    assert found.log.count("Traceback (most recent call last)") == 1


@pytest.mark.timeout(240)
def test_a_run_with_earlier_answers_leaves_out_what_fails_and_goes_on(
    run: Callable[..., Outcome],
) -> None:
    run("def answer(items): return [Generation('A') for _ in items]", keys=KEYS[:1], questions=200)
    found = run('def answer(items): raise ValueError("broken now")', questions=200)
    assert found.verdicts[KEYS[0]].reason == "scored"
    for key in KEYS[1:]:
        assert found.verdicts[key].reason.startswith("set aside") and 0 < found.noted[key] < 200
