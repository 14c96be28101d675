"""The log that one follows with ``tail -f``: stamped lines, one of progress a minute."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from easi_eval.core.events import (
    BenchmarkScored,
    DataProgress,
    Event,
    Notice,
    PhaseStarted,
    Progress,
    RunStarted,
    Traceback,
    WorkerPhase,
)
from easi_eval.display.run_log import RunLog

STARTED = RunStarted(
    "org/model",
    "vlmevalkit",
    "Cls",
    (("vsi_bench", "VSI-Bench"), ("blink", "BLINK"), ("viewspatial", "ViewSpatial")),
    (("viewspatial", "already complete"),),
    Path("/out/runs/x"),
    Path("/out/eval.log"),
)


class Clock:
    now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


class Followed:
    """A run's log with a clock of its own; ``shown`` is what reached the display."""

    def __init__(self, folder: Path) -> None:
        self.clock, self.shown = Clock(), list[Event]()
        self.path, self.events = folder / "eval.log", folder / "events.jsonl"
        self.log = RunLog(self.path, self.events, self.shown.append, self.clock)

    def pass_time(self, seconds: int) -> None:
        for _ in range(seconds):
            self.clock.now += 1
            self.log.tick()

    @property
    def lines(self) -> list[str]:
        """The lines, without the time that each must have."""
        lines = self.path.read_text().splitlines()
        assert all(re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d \S", line) for line in lines)
        return [line[20:] for line in lines]


@pytest.fixture
def run(tmp_path: Path) -> Followed:
    run = Followed(tmp_path)
    run.log.on(STARTED)
    return run


def test_one_line_of_progress_a_minute_while_answering(run: Followed) -> None:
    run.log.on(PhaseStarted("start", "2 workers"))
    for worker in ("w0", "w1"):
        run.log.on(WorkerPhase(worker, "answering"))
    run.log.on(Progress("vsi_bench", 0, 5130, 0, 0, cost_left=5130))
    run.log.on(Progress("blink", 0, 1901, 0, 0, cost_left=1901))
    run.log.on(PhaseStarted("answer"))
    before = len(run.lines)
    for second in range(1, 601):
        run.clock.now += 1
        done = 2 * second  # of two workers, each a second per question
        times = (done, done, done, 5130 - done)
        run.log.on(Progress("vsi_bench", done, 5130, second // 300, done, *times))
        run.log.tick()
    said = run.lines[before:]
    assert len(said) == 10
    assert said[0] == "120/7,031 questions, 2.0/s, ETA 58 min; VSI-Bench 120/5,130"
    assert said[-1] == "1,200/7,031 questions, 2.0/s, ETA 49 min, 2 failed; VSI-Bench 1,200/5,130"
    run.pass_time(600)
    assert len(run.lines) == before + 20, "also when nothing comes any more"


def test_before_and_after_answering_it_says_what_is_done(run: Followed) -> None:
    run.log.on(PhaseStarted("prepare"))
    run.log.on(DataProgress("VSI-Bench media", 3_100_000_000, 24_000_000_000))
    run.pass_time(60)
    assert run.lines[-1] == "preparing the data: VSI-Bench media 3.1 GB of 24.0 GB"
    run.log.on(DataProgress("VSI-Bench media", 24_000_000_000, 24_000_000_000))
    assert run.lines[-1] == "fetched VSI-Bench media (24.0 GB)"
    run.log.on(PhaseStarted("start", "2 workers"))
    run.log.on(WorkerPhase("w0", "loading the model"))
    run.pass_time(60)
    assert run.lines[-1] == "starting: loading the model (w0)"
    run.log.on(PhaseStarted("answer", "the backend's own launch for each benchmark"))
    run.log.on(PhaseStarted("score"))
    run.pass_time(60)
    assert run.lines[-1] == "scoring: VSI-Bench, BLINK"


def test_what_is_notable_is_there_once_and_the_display_gets_everything(run: Followed) -> None:
    events = [
        Notice("w0 died (SIGSEGV), restart 1 of 3", "warning"),
        Traceback("Traceback (most recent call last):\n  the log has it already"),
        BenchmarkScored("blink", 12.5, "complete"),
    ]
    for event in events:
        run.log.on(event)
    assert run.lines[-2:] == ["warning: w0 died (SIGSEGV), restart 1 of 3", "complete BLINK 12.50"]
    assert run.shown == [STARTED, *events]
    written = [json.loads(line) for line in run.events.read_text().splitlines()]
    assert [line["event"] for line in written] == [type(event).__name__ for event in run.shown]


@pytest.mark.parametrize(
    ("error", "said"),
    [(None, ""), (KeyboardInterrupt(), "interrupted"), (OSError("no disk"), "no disk")],
)
def test_how_the_launch_ended_is_the_last_event(
    run: Followed, error: BaseException | None, said: str
) -> None:
    try:
        with run.log:
            run.log.on(Progress("blink", 5, 10, 0, 5))
            run.log.on(Progress("blink", 6, 10, 0, 6))
            if error is not None:
                raise error
    except (KeyboardInterrupt, OSError):
        pass
    *_, last, ended = [json.loads(line) for line in run.events.read_text().splitlines()]
    assert last["done"] == 6 and (ended["event"], ended["error"]) == ("RunEnded", said)
    assert (run.lines[-1] == said) == bool(said)


def test_a_full_disk_ends_nothing(run: Followed) -> None:
    run.path.unlink()
    run.path.symlink_to("/dev/full")
    run.log.on(Notice("lost"))
    assert run.shown[-1] == Notice("lost")


def test_secrets_are_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_" + "NeverShowThisToken" * 2)
    run = Followed(tmp_path)
    run.log.on(Notice("it said hf_" + "NeverShowThisToken" * 2))
    assert run.lines == ["it said [redacted]"] and "NeverShow" not in run.events.read_text()
