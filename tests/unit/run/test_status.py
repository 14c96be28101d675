"""``--status`` on the folders of runs: running, finished, dead, interrupted, of old versions."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from easi_eval import cli
from easi_eval.core.event_log import EventLog
from easi_eval.core.events import (
    BenchmarkScored,
    Event,
    NodeChanged,
    Notice,
    PhaseStarted,
    Progress,
    RunEnded,
    RunStarted,
    WorkerPhase,
)
from easi_eval.core.manifest import BenchmarkState, Manifest
from easi_eval.core.redact import Redactor
from easi_eval.core.run_folder import RunPaths
from easi_eval.core.run_lock import is_locked, run_lock
from easi_eval.engine.journal import Answer, Journal
from easi_eval.engine.work import Assignment, ItemList, Work
from easi_eval.run.status import show_status

HOLD = (
    "import sys, pathlib; from easi_eval.core.run_lock import run_lock\n"
    "with run_lock(pathlib.Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
)


@contextmanager
def held(lock: Path) -> Iterator[None]:
    """Another process holds the lock, as a run does."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(lock)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == b"held\n"
        yield
        holder.communicate()


class Folder:
    """A run's folder whose launch is told by its events."""

    def __init__(self, out: Path, **states: BenchmarkState) -> None:
        self.out, self.paths = out, RunPaths.of(out, "vlmevalkit", "org/model", "0123456789")
        self.now = 1_700_000_000.0
        self.states = states or {key: BenchmarkState("f") for key in ("vsi_bench", "blink")}
        self.paths.root.mkdir(parents=True)
        Manifest("0123456789", {"backend": "vlmevalkit"}, "org/model", benchmarks=self.states).save(
            self.paths.manifest
        )
        self.log = EventLog(self.paths.events, Redactor(), lambda: self.now)

    def begin(self) -> None:
        self.tell(
            RunStarted(
                "org/model",
                "vlmevalkit",
                "Cls",
                (("vsi_bench", "VSI-Bench"), ("blink", "BLINK")),
                (),
                self.paths.root,
                self.out / "eval.log",
            ),
            PhaseStarted("start", "2 workers"),
            WorkerPhase("w0", "answering"),
            WorkerPhase("w1", "answering"),
            Progress("vsi_bench", 0, 5130, 0, 0, cost_left=5130),
            Progress("blink", 0, 1901, 0, 0, cost_left=1901),
            PhaseStarted("answer"),
        )

    def answer(self, count: int, failed: int = 0) -> None:
        """Two questions of VSI-Bench a second."""
        for done in range(2, count + 1, 2):
            self.now += 1
            self.tell(
                Progress("vsi_bench", done, 5130, failed, done, done, done, done, 5130 - done)
            )

    def tell(self, *events: Event) -> None:
        for event in events:
            self.log.on(event)

    @property
    def status(self) -> list[str]:
        lines = show_status(self.out).splitlines()
        assert all(len(line) <= 80 or " " not in line.strip() for line in lines)
        return [line.strip() for line in lines]


def test_a_dead_run_says_how_far_it_came(tmp_path: Path) -> None:
    run = Folder(tmp_path)
    run.begin()
    run.answer(1204, failed=2)
    run.tell(Notice("w1 died (SIGSEGV), restart 1 of 3: core dumped", "warning"))
    assert run.status == [
        "org/model on vlmevalkit: dead; the same command resumes it",
        "1,204/7,031 questions (17 %), 2 failed",
        "VSI-Bench 1,204/5,130",
        "last error: w1 died (SIGSEGV), restart 1 of 3: core dumped",
        str(run.paths.root),
    ]
    assert show_status(run.paths.root) == show_status(run.out), "a run's own folder will do"
    backend = run.paths.root.parent.name
    assert show_status(run.out, backend) == show_status(run.out) != show_status(run.out, "other")


def test_a_running_run_has_rate_time_left_and_workers(tmp_path: Path) -> None:
    run = Folder(tmp_path)
    run.now = time.time() - 602.0
    run.begin()
    run.answer(1204)
    with held(run.paths.lock):
        head, counts, now, workers, _ = run.status
    assert head == "org/model on vlmevalkit: running for 10 min"
    assert (
        counts.startswith("1,204/7,031 questions (17 %), ")
        and ", ETA " in counts
        and counts.endswith(" min")
    )
    assert (
        "/s, " in counts and now == "VSI-Bench 1,204/5,130" and workers == "workers: 2 generating"
    )
    assert run.status[0].endswith("dead; the same command resumes it"), "its lock is free again"


def test_a_run_that_has_the_lock_and_no_event_yet(tmp_path: Path) -> None:
    run = Folder(tmp_path)
    with held(run.paths.lock):
        assert run.status[0] == "org/model on vlmevalkit: running"
        assert run.status[1] == "not counted yet: vsi_bench, blink"


def test_finished_interrupted_and_incomplete(tmp_path: Path) -> None:
    evidence: dict[str, object] = {"rows": 5130, "total": 5130, "failed": 3, "seconds": 1710.0}
    done = BenchmarkState("f", state="complete", evidence=evidence)
    run = Folder(tmp_path / "finished", vsi_bench=done)
    run.begin()
    run.tell(BenchmarkScored("vsi_bench", 30.0, "complete"), RunEnded())
    assert run.status[:2] == [
        "org/model on vlmevalkit: finished",
        "5,130/5,130 questions (100 %), 3.0/s, in 28 min, 3 failed",
    ]
    part = BenchmarkState("f", state="partial", evidence={"rows": 20, "total": 5130, "failed": 0})
    run = Folder(tmp_path / "limited", vsi_bench=part)
    run.begin()
    run.tell(BenchmarkScored("vsi_bench", 30.0, "partial"), RunEnded())
    assert run.status[0] == (
        "org/model on vlmevalkit: finished with --limit; without it the rest is asked"
    )
    run = Folder(tmp_path / "interrupted")
    run.begin()
    run.answer(10)
    run.tell(RunEnded("interrupted"))
    assert run.status[:2] == [
        "org/model on vlmevalkit: interrupted; the same command resumes it",
        "10/7,031 questions (0 %)",
    ]
    failed = BenchmarkState("f", state="failed", reason="no")
    run = Folder(tmp_path / "failed", vsi_bench=done, blink=failed)
    run.begin()
    run.tell(BenchmarkScored("blink", None, "failed", "30 of 1901 items failed"), RunEnded())
    assert run.status[:3] == [
        "org/model on vlmevalkit: not complete; the same command resumes it",
        "5,130/7,031 questions (72 %), 3 failed",
        "last error: BLINK: 30 of 1901 items failed",
    ]


def test_a_folder_of_a_version_without_events_is_counted_in_its_journal(tmp_path: Path) -> None:
    run = Folder(tmp_path)
    Work((Assignment("blink", "BLINK"), Assignment("vsi_bench", "VSI")), launch=3).save(
        run.paths.root
    )
    ItemList("blink", 4, ("0", "1", "2", "3")).save(run.paths.root)
    with Journal(run.paths.journal, "w0", 0, launch=3) as journal:
        journal.answer(Answer("blink", "0", 0, "A", 1.0, launch=3))
        journal.answer(Answer("blink", "1", 0, None, 1.0, failure="Error: no", launch=3))
    assert run.status == [
        "org/model on vlmevalkit: not complete; the same command resumes it",
        "2/4 questions (50 %), 1 failed, not counted yet: vsi_bench",
        "blink 2/4",
        str(run.paths.root),
    ]


def test_answers_after_the_last_event_are_counted(tmp_path: Path) -> None:
    """As the program itself does when it is interrupted."""
    run = Folder(tmp_path)
    run.begin()
    run.tell(Progress("blink", 1, 4, 0, 1), RunEnded("interrupted"))
    Work((Assignment("blink", "BLINK"),), launch=3).save(run.paths.root)
    ItemList("blink", 4, ("0", "1", "2", "3")).save(run.paths.root)
    with Journal(run.paths.journal, "w0", 0, launch=3) as journal:
        for item in "012":
            journal.answer(Answer("blink", item, 0, "A", 1.0, launch=3))
    assert run.status[2] == "BLINK 3/4"


def test_the_machines_of_a_run_and_what_they_are_at(tmp_path: Path) -> None:
    run = Folder(tmp_path)
    run.begin()
    two, of = "2 workers, 2 x H200", "1 of 4 nodes at work"
    run.tell(
        NodeChanged(f"job 4711: {of}, 3 pending (Priority)"),
        NodeChanged("node n1 (a) is preparing data and weights", "info", "n1", "a"),
        NodeChanged(f"node n1 (a) joined: {two}", "info", "n1", "a", two),
        NodeChanged("node n2 (b) joined: 8 workers", "info", "n2", "b", "8 workers"),
        NodeChanged("node n3 (c) left: no weights", "warning", "n3", "c", "", "left: no weights"),
        NodeChanged("node n4 (d) is preparing data and weights", "info", "n4", "d"),
        NodeChanged("node n2 (b) is gone", "warning", "n2", "b", "", "gone"),
    )
    with held(run.paths.lock):
        assert [line for line in run.status if line.startswith(("job", "node"))] == [
            f"job 4711: {of}, 3 pending (Priority)",
            f"node n1 (a), {two}: at work",
            "node n2 (b), 8 workers: gone",
            "node n3 (c): left: no weights",
            "node n4 (d): preparing",
        ]
    # A run that has ended has no pending tasks, and nobody is at work. Who left is no error of it.
    assert run.status[2:-1] == [
        f"node n1 (a), {two}",
        "node n2 (b), 8 workers: gone",
        "node n3 (c): left: no weights",
        "node n4 (d)",
    ]


def test_one_damaged_run_hides_no_other(tmp_path: Path) -> None:
    run = Folder(tmp_path)
    other = tmp_path / "runs" / "lmms-eval" / "x-1"
    other.mkdir(parents=True)
    (other / "run_manifest.json").write_text("{")
    assert run.status[0] == "x-1: cannot be read"
    assert "org/model on vlmevalkit: not complete; the same command resumes it" in run.status


def test_looking_at_a_lock_takes_nothing(tmp_path: Path) -> None:
    lock = tmp_path / "run.lock"
    assert not is_locked(lock) and not lock.exists()
    with held(lock):
        before = json.loads(lock.read_text())["pid"]
        assert is_locked(lock) and json.loads(lock.read_text())["pid"] == before
    assert not is_locked(lock)
    with run_lock(lock):
        pass


def test_the_option(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--status", "--output-dir", str(tmp_path)]) == 0
    assert capsys.readouterr().out == f"no runs in {tmp_path}\n"
    backend = ["--backend", "lmms-eval"]  # a rehearsal's own line with --status
    assert cli.main(["--smoke", *backend, "--status", "--output-dir", str(tmp_path)]) == 0
    assert capsys.readouterr().out == f"no runs in {tmp_path} with --backend lmms-eval\n"
    assert cli.main(["--status", "--nproc", "2"]) == 2
    assert "--status cannot be combined with --nproc" in capsys.readouterr().err
