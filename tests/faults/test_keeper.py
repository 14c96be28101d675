"""Keepers over short workers that crash, give up or are killed.

They run alone and under the real launchers.
"""

from __future__ import annotations

import os
import signal
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest

from easi_eval.backends.shared import launch_env
from easi_eval.engine.dispatch_server import DispatchServer
from easi_eval.engine.journal_state import JournalState
from easi_eval.engine.processes import guard, keeper, launchers, supervisor, worker_ends
from easi_eval.engine.processes.jobs import Job
from easi_eval.engine.work import Assignment, Work
from hostile import marked, new_mark, program, wait_until

pytestmark = pytest.mark.faults

# A rank: keeps the worker given on its command line.
RANK = """
import sys
from pathlib import Path
from easi_eval.engine.processes.keeper import keep
sys.exit(keep(sys.argv[2:], Path(sys.argv[1]), pause=0.05))
"""

# A worker: says where it is in <root>/<worker>.<attempt>, works until <root>/finish exists.
WORKER = """
import os, sys, time
root, mark = sys.argv[1:]
name = os.path.join(root, os.environ["EASI_WORKER"] + "." + os.environ["EASI_ATTEMPT"])
with open(name + ".part", "w") as file: file.write(f"{os.getpid()} {os.getppid()}")
os.rename(name + ".part", name)
while not os.path.exists(os.path.join(root, "finish")): time.sleep(0.02)
print(os.environ["EASI_WORKER"], "finished", flush=True)
"""

# As a client of the dispatcher: each worker answers one of two questions while the other is open.
MEETING_WORKER = """
import os, sys, time
from pathlib import Path
from easi_eval.engine.generation import Generation
from easi_eval.engine.work import Item, Work
from easi_eval.engine.worker import work_loop

def answer(items):
    for item in items:
        (Path(sys.argv[1]) / f"asked.{item.id}").touch()
    while not all((Path(sys.argv[1]) / f"asked.{n}").exists() for n in "01"): time.sleep(0.05)
    print(os.environ["EASI_WORKER"], "met the other; RANK" , os.environ.get("RANK"), "threads", os.environ["OMP_NUM_THREADS"], flush=True)
    return [Generation(item.id) for item in items]

work_loop(Path(sys.argv[1]), Work.load(Path(sys.argv[1])), {"a": [Item("a", "0"), Item("a", "1")]}, answer)
"""  # noqa: E501 -- lines of a program in a string


# Answers a question a second, and says beforehand which one.
ANSWERING_WORKER = """
import os, sys, time
from pathlib import Path
from easi_eval.engine.generation import Generation
from easi_eval.engine.work import Item, Work
from easi_eval.engine.worker import work_loop

root, worker = Path(sys.argv[1]), os.environ["EASI_WORKER"]
(root / worker).write_text(f"{os.getpid()} {os.getppid()}")

def answer(items):
    for item in items:
        (root / f"{worker}.{item.id}.asked").touch()
    time.sleep(len(items))
    return [Generation(worker) for _ in items]

work_loop(root, Work.load(root), {"a": [Item("a", str(number)) for number in range(500)]}, answer)
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "journal").mkdir()
    return tmp_path


def _rank(root: Path, worker: str, *arguments: str) -> list[str]:
    (root / "rank.py").write_text(RANK)
    (root / "worker.py").write_text(textwrap.dedent(worker))
    return [str(root / "rank.py"), str(root), sys.executable, str(root / "worker.py"), *arguments]


def _note(root: Path) -> Path:
    return root / "journal" / "w0.gaveup"


def _keep(root: Path, code: str, **options: Any) -> int:
    """Keep a worker of one line in this process.

    Each start of the worker adds a line to <root>/starts.
    """
    count = f"echo $EASI_ATTEMPT $EASI_WORKER ${{EASI_DISPATCHER-none}} >> {root}/starts; "
    return keeper.keep(["/bin/sh", "-c", count + code], root, pause=0.01, **options)


def _starts(root: Path) -> list[str]:
    return (root / "starts").read_text().splitlines()


# --- one keeper -----------------------------------------------------------------------------------


def test_a_worker_that_is_done_is_not_started_again(root: Path) -> None:
    _note(root).write_text("from an earlier launch")
    assert _keep(root, "exit 0") == 0
    assert _starts(root) == ["1 w0 1"] and not _note(root).exists()


def test_a_worker_that_keeps_crashing_is_given_up_with_a_reason(root: Path) -> None:
    assert _keep(root, "echo; echo CUDA error; echo; kill -9 $$", restarts=3) == 0
    assert _starts(root) == [f"{attempt} w0 1" for attempt in (1, 2, 3, 4)]
    assert _note(root).read_text() == "SIGKILL after 4 starts: CUDA error\n"


def test_a_crash_is_told_by_its_name_not_by_the_stacks_below(root: Path) -> None:
    stacks = (
        "echo 'ValueError: an older one'; echo 'Fatal Python error: Aborted'; for n in $(seq 60); "
        "do echo '  File x'; done; echo Extension modules: a.error, b"
    )
    assert _keep(root, stacks + "; kill -6 $$", restarts=1) == 0
    assert [end.text for end in worker_ends.read_ends(root)] == [
        "w0 died (SIGABRT), restart 1 of 1: Fatal Python error: Aborted",
        "w0 died (SIGABRT), given up: Fatal Python error: Aborted",
    ]


def test_a_worker_that_cannot_work_is_not_started_again(root: Path) -> None:
    assert _keep(root, "echo no such model >&2; exit 3") == 0
    assert (
        _starts(root) == ["1 w0 1"]
        and _note(root).read_text() == "exit code 3 after 1 start: no such model\n"
    )


def test_a_reason_that_cannot_be_noted_does_not_end_the_keeper(
    root: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """As on a full disk: torchrun would end all ranks with it."""
    assert _keep(root, f"rm -r {root}/journal; echo > {root}/journal; echo no space; exit 3") == 0
    said = capfd.readouterr().out
    assert "given up: exit code 3 after 1 start: no space" in said and "could not be noted" in said


def test_a_hung_worker_is_killed_although_that_cannot_be_noted(root: Path) -> None:
    class Watcher:
        def __init__(self, worker: str, attempt: int) -> None:
            self.hangs = attempt == 1

        @property
        def pid(self) -> int | None:
            path = root / "w0.pid"
            return int(path.read_text()) if path.exists() and path.read_text() else None

        def hung(self) -> str:
            return "no answer" if self.hangs and self.pid else ""

        def note(self) -> None:
            raise OSError(28, "No space left on device")

    code = (
        f"trap '' USR1; echo $$ > {root}/w0.pid; [ $EASI_ATTEMPT = 2 ] || while :; do sleep 0.1; "
        "done"
    )
    assert _keep(root, code, watcher=Watcher) == 0
    assert len(_starts(root)) == 2


def test_of_a_worker_that_says_its_error_the_note_keeps_that_line(root: Path) -> None:
    assert (
        _keep(
            root,
            "echo loading; echo 'run.py: error: no such option'; echo 'hint: leave it out'; exit 3",
        )
        == 0
    )
    assert worker_ends.gave_up_reasons(root) == [
        "exit code 3 after 1 start: run.py: error: no such option"
    ]


def test_reasons_are_told_once_in_the_order_of_the_workers(root: Path) -> None:
    assert worker_ends.gave_up_reasons(root) == []
    for worker, reason in (("w10", "last"), ("w2", "one"), ("w0", "zero"), ("w1", "one")):
        _note(root).with_name(f"{worker}.gaveup").write_text(reason + "\n")
    assert worker_ends.gave_up_reasons(root) == ["zero", "one", "last"]
    worker_ends.forget_ends(root)
    assert worker_ends.gave_up_reasons(root) == []


def test_a_worker_that_recovers_is_not_given_up(root: Path) -> None:
    assert _keep(root, "[ $EASI_ATTEMPT = 3 ] || exit 1") == 0
    assert len(_starts(root)) == 3 and not _note(root).exists()


def test_crashes_far_apart_do_not_add_up_but_do_not_go_on_for_ever(root: Path) -> None:
    assert _keep(root, "exit 1", restarts=1, settled=0.0) == 0
    assert len(_starts(root)) == keeper.HOPELESS


def test_a_worker_that_cannot_be_started_is_given_up(root: Path) -> None:
    assert keeper.keep(["/no/such/python"], root, pause=0.01, restarts=1) == 0
    assert (
        _note(root).read_text()
        == "exit code 127 after 2 starts: cannot start /no/such/python: No such file or directory\n"
    )


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGKILL])
def test_a_worker_ends_with_its_keeper(root: Path, signum: signal.Signals) -> None:
    mark = new_mark()
    rank = _rank(root, WORKER, str(root), mark)
    with program(
        "import os, sys; os.execv(sys.executable, [sys.executable, *sys.argv[1:]])", *rank
    ) as process:
        wait_until((root / "w0.1").exists)
        process.send_signal(signum)
        assert process.wait(20) == (keeper.STOPPED if signum == signal.SIGTERM else -signal.SIGKILL)
        wait_until(lambda: marked(mark) == [], 10)


def test_a_keeper_ends_with_its_launcher(root: Path) -> None:
    """Also in the pause before a restart, and when nothing tells it but its parent's absence."""
    mark = new_mark()
    rank = _rank(
        root, "import os, sys; open(sys.argv[1] + '/w0.1', 'w'); sys.exit(1)", str(root), mark
    )
    Path(rank[0]).write_text(RANK.replace("pause=0.05", "pause=600"))
    launcher = (
        "import subprocess, sys; subprocess.call([sys.executable, *sys.argv[1:]], "
        "start_new_session=True)"
    )
    with program(launcher, *rank) as process:
        wait_until((root / "w0.1").exists)
        process.kill()
        process.wait()
        wait_until(lambda: marked(mark) == [], 10)


# --- under the launchers --------------------------------------------------------------------------


def _pids(path: Path) -> tuple[int, int]:
    worker, its_guard = path.read_text().split()
    return int(worker), int(its_guard)


def test_a_killed_worker_is_started_again_and_the_other_left_alone(root: Path) -> None:
    mark, log = new_mark(), root / "run.log"
    job = Job(
        "answer", launchers.torchrun(2, launchers.free_port(), _rank(root, WORKER, str(root), mark))
    )
    with supervisor.start(job, log, grace=40) as handle:
        wait_until(lambda: (root / "w0.1").exists() and (root / "w1.1").exists(), 60)
        others = {pid for pid in marked(mark) if pid not in _pids(root / "w1.1")}
        os.kill(_pids(root / "w1.1")[0], signal.SIGKILL)
        wait_until((root / "w1.2").exists)
        assert others == {pid for pid in marked(mark) if pid not in _pids(root / "w1.2")}
        (root / "finish").touch()
        wait_until(lambda: handle.poll() is not None)
    assert handle.outcome().exit_code == 0 and marked(mark) == []
    text = log.read_text()
    assert "[answer] [w1] ended with SIGKILL; starting it again in 0.05 s\n" in text
    assert (
        text.count("[answer] [w0] w0 finished\n") == text.count("[answer] [w1] w1 finished\n") == 1
    )


def test_a_worker_given_up_leaves_the_others_working(root: Path) -> None:
    worker = WORKER.replace(
        "import os, sys, time",
        "import os, sys, time\nif os.environ['EASI_WORKER'] == 'w0': sys.exit(3)",
    )
    mark, log = new_mark(), root / "run.log"
    job = Job(
        "answer", launchers.torchrun(2, launchers.free_port(), _rank(root, worker, str(root), mark))
    )
    with supervisor.start(job, log, grace=40) as handle:
        wait_until(lambda: _note(root).exists() and (root / "w1.1").exists(), 60)
        time.sleep(1)  # the launcher looks at its ranks ten times a second
        assert _pids(root / "w1.1")[0] in marked(mark)
        (root / "finish").touch()
        wait_until(lambda: handle.poll() is not None)
    assert handle.outcome().exit_code == 0 and "w1 finished" in log.read_text()


def test_when_a_keeper_dies_the_other_workers_hand_in_what_they_answer(root: Path) -> None:
    """The launcher then ends all ranks. No question of theirs has to be answered again."""
    work = Work((Assignment("a", "A"),))
    work.save(root)
    command = launchers.torchrun(2, launchers.free_port(), _rank(root, ANSWERING_WORKER, str(root)))
    job = Job("answer", command)
    with DispatchServer(root, work), supervisor.start(job, root / "run.log", grace=40) as handle:
        wait_until(lambda: [*root.glob("w0.*.asked")] and [*root.glob("w1.*.asked")], 60)
        os.kill(guard.process_table()[_pids(root / "w0")[1]], signal.SIGKILL)
        wait_until(lambda: handle.poll() is not None, 60)
    state = JournalState.of(root, work)
    state.poll()
    answered = {item for (_, item), answer in state.answers.items() if answer.text == "w1"}
    assert answered == {path.name.split(".")[1] for path in root.glob("w1.*.asked")}


MAIN = """
    import sys
    from pathlib import Path
    from easi_eval.engine.processes import launchers, supervisor
    from easi_eval.engine.processes.jobs import Job
    job = Job("answer", launchers.torchrun(2, launchers.free_port(), sys.argv[2:]))
    try:
        supervisor.run_job(job, Path(sys.argv[1]), grace=40)
    except KeyboardInterrupt:
        sys.exit(130)
"""


@pytest.mark.parametrize(
    "victim", ["main SIGKILL", "main SIGTERM", "main SIGINT", "guard", "torchrun", "keeper"]
)
def test_whatever_is_killed_nothing_is_left(root: Path, victim: str) -> None:
    mark = new_mark()
    with program(MAIN, str(root / "run.log"), *_rank(root, WORKER, str(root), mark)) as main:
        wait_until(lambda: (root / "w0.1").exists() and (root / "w1.1").exists(), 60)
        outer_guard = next(
            pid for pid, parent in guard.process_table().items() if parent == main.pid
        )
        torchrun = next(
            pid for pid, parent in guard.process_table().items() if parent == outer_guard
        )
        keepers = [pid for pid, parent in guard.process_table().items() if parent == torchrun]
        # main, guard, torchrun, 2 x (keeper, guard, worker)
        assert len(keepers) == 2 and len(marked(mark)) == 9
        kind, _, name = victim.partition(" ")
        os.kill(
            {"main": main.pid, "guard": outer_guard, "torchrun": torchrun, "keeper": keepers[0]}[
                kind
            ],
            signal.Signals[name] if name else signal.SIGKILL,
        )
        code = main.wait(40)
        if victim == "main SIGKILL":
            wait_until(lambda: marked(mark) == [], 10)
        else:
            assert code == (130 if kind == "main" else 0)
            assert marked(mark) == [], "gone when the main program goes"


@pytest.mark.parametrize(("users", "threads"), [("1", "1"), ("", "8")])
@pytest.mark.parametrize("launch", [launchers.torchrun, launchers.accelerate])
def test_workers_meet_in_the_launchers_store(
    root: Path, launch: object, users: str, threads: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Workers start in a shell with the ranks of another job.

    Each worker gets the number of threads that the user, or else the run, set.
    """
    assert callable(launch)
    for name, value in {
        "RANK": "3",
        "WORLD_SIZE": "8",
        "LOCAL_RANK": "3",
        "MASTER_PORT": "9",
        "PET_NNODES": "2",
        "OMP_NUM_THREADS": users,
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(64)))
    work = Work((Assignment("a", "A"),))
    work.save(root)
    command = launch(2, launchers.free_port(), _rank(root, MEETING_WORKER, str(root)))
    job = Job("answer", command, launch_env.threads(2))
    with DispatchServer(root, work):
        outcome = supervisor.run_job(job, root / "run.log", grace=40)
    assert outcome.exit_code == 0, outcome.log_tail
    for worker in ("w0", "w1"):
        assert f"[{worker}] {worker} met the other; RANK None threads {threads}" in outcome.log_tail


def test_accelerate_starts_one_process_without_a_store(root: Path) -> None:
    show = (
        "import os; print('store', os.environ.get('MASTER_PORT'), [n for n in os.environ if "
        "n.startswith('ACCELERATE')])"
    )
    job = Job("answer", launchers.accelerate(1, launchers.free_port(), _rank(root, show)))
    assert supervisor.run_job(job, root / "run.log", grace=40).log_tail[-1] == "[w0] store None []"


def test_accelerate_does_not_read_the_users_configuration(root: Path) -> None:
    config = root / "accelerate" / "default_config.yaml"
    config.parent.mkdir()
    config.write_text(
        "compute_environment: LOCAL_MACHINE\ndistributed_type: DEEPSPEED\nmixed_precision: fp16\n"
        "num_machines: 4\nnum_processes: 32\nmachine_rank: 3\nmain_process_ip: 10.0.0.1\n"
        "main_process_port: 1\ndeepspeed_config: {zero_stage: 3}\n"
    )
    (root / "show.py").write_text(
        "import os; print(os.environ['WORLD_SIZE'], os.environ['MASTER_ADDR'],"
        "os.environ['ACCELERATE_MIXED_PRECISION'], os.environ.get('ACCELERATE_USE_DEEPSPEED'))"
    )
    command = launchers.accelerate(2, launchers.free_port(), [str(root / "show.py")])
    outcome = supervisor.run_job(
        Job("answer", command, {"HF_HOME": str(root)}), root / "run.log", grace=40
    )
    assert outcome.log_tail.count("2 127.0.0.1 no None") == 2, outcome.log_tail
