"""``events.jsonl``: every event with its time, whatever the disk says."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from easi_eval.core.event_log import EventLog, last_launch
from easi_eval.core.events import (
    BenchmarkScored,
    DataProgress,
    Event,
    Notice,
    PhaseStarted,
    Progress,
    RunEnded,
    RunStarted,
    Traceback,
    WorkerPhase,
)
from easi_eval.core.redact import Redactor

STARTED = RunStarted(
    "org/model",
    "vlmevalkit",
    "Cls",
    (("blink", "BLINK"), ("vsi_bench", "VSI-Bench")),
    (("blink", "already complete"),),
    Path("/out/runs/x"),
    Path("/out/eval.log"),
    ("a note",),
)
EVERY_KIND: tuple[Event, ...] = (
    STARTED,
    PhaseStarted("start", "2 workers"),
    DataProgress("BLINK", 10, None),
    WorkerPhase("w0", "answering"),
    Progress("blink", 3, 10, 1, 2, 1.5, 1.0, 2.0, 3.0),
    BenchmarkScored("blink", None, "failed", "no score"),
    Notice('a line with "quotes" and 你', "warning"),
    Traceback("two\nlines"),
    RunEnded("interrupted"),
)


class Clock:
    now = 1_700_000_000.25

    def __call__(self) -> float:
        return self.now


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_every_kind_of_event_is_read_back_as_it_was(tmp_path: Path) -> None:
    clock, path = Clock(), tmp_path / "events.jsonl"
    log = EventLog(path, Redactor(), clock)
    for event in EVERY_KIND:
        log.on(event)
        clock.now += 10
    found = list(last_launch(path))
    assert tuple(event for _, event in found) == EVERY_KIND
    assert [at for at, _ in found][:3] == [1_700_000_000.25, 1_700_000_010.25, 1_700_000_020.25]
    assert lines(path)[0]["time"] == "2023-11-14T22:13:20.250Z"
    assert all(re.fullmatch(r"[\d-]{10}T[\d:]{8}\.\d{3}Z", line["time"]) for line in lines(path))


def test_of_the_counts_within_a_second_the_latest_is_written(tmp_path: Path) -> None:
    clock, path = Clock(), tmp_path / "events.jsonl"
    log = EventLog(path, Redactor(), clock)
    for done in range(1, 100):
        log.on(Progress("blink", done, 200, 0, done))
        log.on(Progress("vsi_bench", done, 200, 0, done))
        clock.now += 0.25
    assert len(lines(path)) == 2 * 25
    log.on(PhaseStarted("score"))
    assert [line.get("done") for line in lines(path)[-3:]] == [99, 99, None]
    log.on(Progress("blink", 100, 200, 0, 100))
    log.flush(every=1.0)
    assert lines(path)[-1]["event"] == "PhaseStarted"
    clock.now += 1
    log.flush(every=1.0)
    assert lines(path)[-1]["done"] == 100


def test_launches_follow_each_other_and_the_last_one_is_read(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    for launch in ("first", "second"):
        log = EventLog(path, Redactor())
        log.on(STARTED)
        log.on(Notice(launch))
    assert [line["event"] for line in lines(path)] == ["RunStarted", "Notice"] * 2
    assert [event for _, event in last_launch(path)] == [STARTED, Notice("second")]


def test_of_a_long_launch_the_last_counts_are_read(tmp_path: Path) -> None:
    clock, path = Clock(), tmp_path / "events.jsonl"
    log = EventLog(path, Redactor(), clock)
    log.on(STARTED)
    for key in ("blink", "vsi_bench"):
        for done in range(1, 3001):
            clock.now += 1
            log.on(Progress(key, done, 3000, 0, done))
    found = [event for _, event in last_launch(path)]
    assert found[:2] == [STARTED, Progress("blink", 3000, 3000, 0, 3000)]
    assert found[-1] == Progress("vsi_bench", 3000, 3000, 0, 3000) and len(found) < 1100


def test_no_file_and_foreign_lines_are_no_events(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    assert list(last_launch(path)) == []
    EventLog(path, Redactor()).on(Notice("kept"))
    with path.open("ab") as file:
        file.write(b'{"time": "2023-11-14T22:13:20Z", "event": "OfALaterVersion"}\n')
        file.write(b'{"time": "2023-11-14T22:13:20Z", "event": "Notice", "words": "x"}\n')
        file.write(b'{"time": "2023-11-14T22:1')
    assert [event for _, event in last_launch(path)] == [Notice("kept")]


def test_secrets_are_replaced(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    log = EventLog(path, Redactor(["open-sesame"]))
    log.on(Notice("it said open-sesame"))
    log.on(RunStarted("m", "b", "c", (), (("k", "open-sesame"),), Path("open-sesame"), Path("l")))
    assert "sesame" not in path.read_text() and path.read_text().count("[redacted]") == 3


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_loses_lines_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    log = EventLog(path, Redactor())
    log.on(Notice("before"))
    path.rename(tmp_path / "kept")
    path.symlink_to("/dev/full")
    log.on(Notice("lost"))
    path.unlink()
    (tmp_path / "kept").rename(path)
    log.on(Notice("after"))
    assert [event for _, event in last_launch(path)] == [Notice("before"), Notice("after")]
