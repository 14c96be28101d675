"""Supervision of short real programs.

They crash, hang, ignore signals, run away or flood their output.
"""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from pathlib import Path

import pytest

from easi_eval.core.errors import EasiError
from easi_eval.engine.processes import guard, supervisor
from easi_eval.engine.processes.jobs import Job
from hostile import marked, new_mark, program, python, shell, wait_until

pytestmark = pytest.mark.faults


def said(log: Path) -> list[str]:
    """The lines of a log without the time that each must have."""
    lines = log.read_text().splitlines()
    assert all(re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d \[", line) for line in lines)
    return [line[20:] for line in lines]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "logs" / "run.log"


# --- how a job ended ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("exit 0", 0),
        ("exit 7", 7),
        ("kill -9 $$", -signal.SIGKILL),
        ("kill -TERM $$", -signal.SIGTERM),
        ("kill -SEGV $$", -signal.SIGSEGV),
        ("kill -KILL 0", -signal.SIGKILL),
    ],
)
def test_exit_code_is_the_jobs_own(log: Path, code: str, expected: int) -> None:
    assert supervisor.run_job(shell("job", code), log).exit_code == expected


def test_output_reaches_log_and_tail_with_the_jobs_name(log: Path) -> None:
    outcome = supervisor.run_job(
        shell("answer", "echo one; echo two >&2; printf unfinished; exit 1"), log
    )
    assert outcome.log_tail == ("one", "two", "unfinished")
    assert said(log) == ["[answer] one", "[answer] two", "[answer] unfinished"]


def test_tail_is_the_end_of_a_long_output(log: Path) -> None:
    outcome = supervisor.run_job(shell("job", "seq 1 5000"), log)
    assert outcome.log_tail[-1] == "5000" and len(outcome.log_tail) == supervisor.TAIL_LINES
    assert log.read_text().count("\n") == 5000


def test_a_program_that_does_not_exist_says_so(log: Path) -> None:
    outcome = supervisor.run_job(Job("job", ("no-such-program",)), log)
    assert outcome.exit_code == 127 and outcome.log_tail == (
        "cannot start no-such-program: No such file or directory",
    )


def test_a_folder_or_log_that_cannot_be_used_is_an_error_for_people(
    log: Path, tmp_path: Path
) -> None:
    with pytest.raises(EasiError, match="cannot start job"):
        supervisor.run_job(Job("job", ("true",), cwd=tmp_path / "missing"), log)
    (tmp_path / "file").write_text("")
    with pytest.raises(EasiError, match="cannot write the log"):
        supervisor.run_job(Job("job", ("true",)), tmp_path / "file" / "run.log")


def test_environment_is_ours_with_the_jobs_changes(
    log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EASI_TEST_KEPT", "kept")
    monkeypatch.setenv("EASI_TEST_GONE", "gone")
    job = Job(
        "job",
        ("/bin/sh", "-c", 'echo "$EASI_TEST_KEPT,${EASI_TEST_GONE-unset},$EASI_TEST_NEW"'),
        {"EASI_TEST_GONE": "", "EASI_TEST_NEW": "new"},
    )
    assert supervisor.run_job(job, log).log_tail == ("kept,unset,new",)


def test_a_program_that_asks_a_question_reads_the_end_of_its_input(log: Path) -> None:
    assert supervisor.run_job(shell("job", "read answer && exit 1; exit 5"), log).exit_code == 5


def test_signals_have_their_default_meaning_in_the_job(log: Path) -> None:
    """The guard ignores some signals.

    A job that inherited that could not be interrupted by its own means.
    """
    code = """
        import signal
        for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGPIPE", "SIGCHLD"):
            if name == "SIGINT": print(name, signal.getsignal(signal.SIGINT) is signal.default_int_handler)
            elif name == "SIGPIPE": pass                     # Python itself ignores it
            else: print(name, signal.getsignal(getattr(signal, name)) == signal.SIG_DFL)
        print("blocked", sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())))
    """  # noqa: E501 -- lines of a program in a string
    tail = supervisor.run_job(python("job", code), log).log_tail
    assert tail == (
        "SIGINT True",
        "SIGTERM True",
        "SIGHUP True",
        "SIGQUIT True",
        "SIGCHLD True",
        "blocked []",
    )


# --- nothing is left ------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["sys.exit(0)", "os.kill(os.getpid(), 9)"])
def test_a_runaway_grandchild_ends_with_its_job(log: Path, ending: str) -> None:
    mark = new_mark()
    daemons = """daemon(sys.argv[1], on_term="echo asked; exit"); """ * 2
    outcome = supervisor.run_job(python("job", f"{daemons} {ending}", mark), log)
    assert marked(mark) == []
    assert outcome.log_tail.count("asked") == 2, "SIGTERM comes before SIGKILL"


def test_a_runaway_grandchild_that_ignores_sigterm_ends_too(log: Path) -> None:
    mark = new_mark()
    outcome = supervisor.run_job(
        python("job", "daemon(sys.argv[1], on_term=''); time.sleep(0.5)", mark), log
    )
    assert outcome.exit_code == 0 and marked(mark) == []


def test_a_hanging_job_is_stopped(log: Path) -> None:
    mark = new_mark()
    began = time.monotonic()
    outcome = supervisor.run_job(
        shell("job", "sleep 1000; :", mark), log, stop=lambda: bool(marked(mark)), grace=600
    )
    assert outcome.exit_code is None and marked(mark) == []
    assert time.monotonic() - began < 200, "the grace is only for those that need it"


def test_a_job_that_ignores_sigterm_is_killed_after_the_grace(log: Path) -> None:
    mark = new_mark()
    job = python(
        "job",
        """
        import signal
        signal.signal(signal.SIGTERM, lambda *_: print("no", flush=True))
        daemon(sys.argv[1], on_term="")
        print("ready", flush=True)
        while True: time.sleep(1)
    """,
        mark,
    )
    handle = supervisor.start(job, log, grace=1.5)
    wait_until(lambda: said(log) == ["[job] ready"])
    began = time.monotonic()
    handle.stop()
    assert time.monotonic() - began > 1.4
    assert marked(mark) == [] and handle.outcome().exit_code is None
    assert handle.outcome().log_tail == ("ready", "no"), "it was asked once before it was killed"


def test_a_job_gets_its_grace_to_tidy_up(log: Path) -> None:
    job = python(
        "job",
        """
        import signal
        def leave(*_):
            time.sleep(1); print("tidy", flush=True); sys.exit(0)
        signal.signal(signal.SIGTERM, leave)
        print("ready", flush=True)
        while True: time.sleep(1)
    """,
    )
    with supervisor.start(job, log, grace=20) as handle:
        wait_until(lambda: said(log) == ["[job] ready"])
    assert handle.outcome().log_tail == ("ready", "tidy")


def test_a_stopped_job_can_be_ended(log: Path) -> None:
    mark = new_mark()
    handle = supervisor.start(shell("job", "kill -STOP $$; sleep 1000", mark), log, grace=600)
    wait_until(lambda: any(_state(pid) == "T" for pid in marked(mark)))
    began = time.monotonic()
    handle.stop()
    assert marked(mark) == [] and time.monotonic() - began < 200


def test_a_request_lost_between_fork_and_exec_is_made_again(log: Path) -> None:
    """A forked child still has its parent's handler, which swallows SIGTERM.

    The program that it then becomes never gets the signal.
    """
    mark = new_mark()
    job = python(
        "job",
        """
        import signal
        signal.signal(signal.SIGTERM, lambda *_: None)
        print("ready", flush=True)
        if os.fork() == 0:
            until = time.monotonic() + 1.5
            while time.monotonic() < until: time.sleep(0.1)
            os.execv("/bin/sleep", ["sleep", "1000"])
        os.wait()
    """,
        mark,
    )
    handle = supervisor.start(job, log, grace=600)
    wait_until(lambda: said(log) == ["[job] ready"])
    began = time.monotonic()
    handle.stop()
    assert time.monotonic() - began < 200


def test_a_killed_guard_leaves_nothing(log: Path) -> None:
    mark = new_mark()
    handle = supervisor.start(
        python(
            "job",
            """
        import subprocess
        for _ in range(2): subprocess.Popen(["/bin/sh", "-c", "sleep 1000; :", sys.argv[1]], start_new_session=True)
        print("ready", flush=True)
        time.sleep(1000)
    """,  # noqa: E501 -- lines of a program in a string
            mark,
        ),
        log,
    )
    wait_until(lambda: said(log) == ["[job] ready"])
    assert len(marked(mark)) >= 4  # guard, Python, two shells, and what these run
    os.kill(handle.pid, signal.SIGKILL)
    wait_until(lambda: handle.poll() is not None)
    assert handle.outcome().exit_code == -signal.SIGKILL and marked(mark) == []


def test_a_hanging_guard_is_worked_around(log: Path) -> None:
    mark = new_mark()
    one_second = -guard.KILL_PATIENCE - 4  # what is left of the supervisor's own patience
    handle = supervisor.start(shell("job", "sleep 1000; :", mark), log, grace=one_second)
    wait_until(lambda: len(marked(mark)) >= 2)
    keep_stopped = threading.Thread(target=_keep_stopped, args=(handle.pid,))
    keep_stopped.start()
    handle.stop()
    keep_stopped.join()
    assert marked(mark) == []


def _keep_stopped(pid: int) -> None:
    while True:
        try:
            os.kill(pid, signal.SIGSTOP)
        except ProcessLookupError:
            return
        time.sleep(0.001)


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


def test_a_job_inside_a_job_ends_with_the_outer_one(log: Path) -> None:
    mark = new_mark()
    code = f"""
        sys.path.insert(0, {str(Path(supervisor.__file__).parents[3])!r})
        from easi_eval.engine.processes import supervisor
        from easi_eval.engine.processes.jobs import Job
        supervisor.run_job(Job("inner", ("/bin/sh", "-c", "echo $EASI_TAG; sleep 1000; :", sys.argv[1])), 1, grace=600)
    """  # noqa: E501 -- lines of a program in a string
    handle = supervisor.start(python("outer", code, mark), log, grace=600)
    wait_until(lambda: log.exists() and "inner" in log.read_text())
    inner_tag = log.read_text().split()[-1]
    assert inner_tag.count(":") == 1, "the sweep of the outer job finds the inner one's processes"
    began = time.monotonic()
    os.kill(handle.pid, signal.SIGKILL)
    wait_until(lambda: handle.poll() is not None, 600)
    assert marked(mark) == [] and time.monotonic() - began < 200


# --- the output -----------------------------------------------------------------------------------


def test_secrets_never_reach_the_log(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_SERVICE_TOKEN", "correct-horse-battery")
    job = python(
        "job",
        """
        print(dict(os.environ), flush=True)
        for half in ("correct-horse", "-battery and hf_", "abcdefghijklmnopqrstuvwxyz012345", "6789\\n"):
            sys.stdout.write(half); sys.stdout.flush(); time.sleep(0.1)
        sys.stdout.write("\\r 1% correct-horse-battery"); sys.stdout.flush()
        os.kill(os.getpid(), 9)
    """,  # noqa: E501 -- lines of a program in a string
    )
    outcome = supervisor.run_job(job, log)
    for text in (log.read_text(), "\n".join(outcome.log_tail)):
        assert "horse" not in text and "abcdefgh" not in text
        assert "[redacted] and [redacted]" in text and "1% [redacted]" in text


def test_a_flood_without_line_breaks_neither_blocks_nor_fills_the_disk(log: Path) -> None:
    code = "for _ in range(640): os.write(1, b'x' * 65536)\nos.write(1, b'\\nend\\n')"
    outcome = supervisor.run_job(python("job", code), log)
    assert outcome.exit_code == 0 and outcome.log_tail[-1] == "end"
    assert log.stat().st_size < 200_000


def test_a_progress_bar_leaves_few_lines_and_its_last_state(log: Path) -> None:
    code = "for n in range(20000): os.write(2, b'\\r%d/20000' % (n + 1))"
    outcome = supervisor.run_job(python("job", code), log)
    assert outcome.log_tail[-1] == "20000/20000" and len(outcome.log_tail) <= 3


def test_raw_bytes_are_written_readably(log: Path) -> None:
    outcome = supervisor.run_job(
        python("job", r"os.write(1, b'\xff\x00\x1b[31mred\x1b[0m \xe4\xbd\xa0\r\n')"), log
    )
    assert outcome.log_tail == ("\\xff\\x00red 你",)


def test_two_jobs_share_a_log_line_by_line(log: Path) -> None:
    code = "i=0; while [ $i -lt 2000 ]; do echo $0 $i $0; i=$((i+1)); done"
    with (
        supervisor.start(shell("one", code, "aaaa"), log) as one,
        supervisor.start(shell("two", code, "bbbb"), log) as two,
    ):
        wait_until(lambda: one.poll() is not None and two.poll() is not None)
    expected = {
        f"[{name}] {word} {n} {word}"
        for name, word in (("one", "aaaa"), ("two", "bbbb"))
        for n in range(2000)
    }
    lines = said(log)
    assert len(lines) == 4000 and set(lines) == expected


def test_a_log_that_cannot_grow_does_not_stop_the_job() -> None:
    with Path("/dev/full").open("wb") as full:
        outcome = supervisor.run_job(shell("job", "seq 1 100000; exit 4"), full.fileno())
    assert outcome.exit_code == 4 and outcome.log_tail[-1] == "100000"


# --- side by side ---------------------------------------------------------------------------------


def test_an_interrupt_stops_them_at_the_same_time(log: Path) -> None:
    mark = new_mark()
    waits = (
        f"trap 'echo asked' TERM; echo ready; "
        f"until [ $(grep -c asked {log}) = 2 ]; do sleep 0.1; done; echo both"
    )
    with pytest.raises(KeyboardInterrupt):  # noqa: SIM117 -- one block inside the other
        with supervisor.start(shell("answer", waits, mark), log, grace=100):
            with supervisor.start(shell("score", waits, mark), log, grace=100):
                wait_until(lambda: log.read_text().count("ready") == 2)
                raise KeyboardInterrupt
    assert marked(mark) == []
    assert {"[answer] both", "[score] both"} <= set(said(log)), "each saw the other asked"


def test_on_tick_is_called_while_the_job_runs_and_its_error_ends_the_job(log: Path) -> None:
    mark = new_mark()
    ticks: list[int] = []

    def tick() -> None:
        ticks.append(1)
        if len(ticks) == 5:
            raise RuntimeError("display")

    with pytest.raises(RuntimeError, match="display"):
        supervisor.run_job(shell("job", "sleep 1000; :", mark), log, on_tick=tick, tick=0.05)
    assert marked(mark) == []


# --- our own end ----------------------------------------------------------------------------------

MAIN = f"""
import os, sys, time
from pathlib import Path
sys.path.insert(0, {str(Path(__file__).parent)!r})
from easi_eval.engine.processes import supervisor
from easi_eval.engine.processes.interrupts import announced
from hostile import python

mark, temper, seconds, log = sys.argv[1:]
job = python("job", '''
import signal
if sys.argv[2] == "stubborn": signal.signal(signal.SIGTERM, signal.SIG_IGN)
daemon(sys.argv[1], on_term="" if sys.argv[2] == "stubborn" else None)
print("ready", flush=True)
time.sleep(float(sys.argv[3]))
''', mark, temper, seconds)
forks = []
def fork_once():
    if temper == "forking" and not forks:
        forks.append(os.fork())
        if forks == [0]:
            time.sleep(600)
            os._exit(0)
        print("forked", forks[0], flush=True)
def announce():
    if temper == "stubborn":
        os.write(1, b"stopping %d\\n" % len(supervisor.guard.descendants(os.getpid())))
try:
    print("go", flush=True)
    with announced(announce):
        outcome = supervisor.run_job(job, Path(log), on_tick=fork_once, grace=3 if temper == "stubborn" else 600)
except KeyboardInterrupt:
    print("interrupted", flush=True)
    time.sleep(0.5 if temper == "polite" else 0)      # what is gone now is gone without our own end
    sys.exit(130)
print("exit code", outcome.exit_code)
"""  # noqa: E501 -- lines of a program in a string


def _ready(log: Path) -> bool:
    return log.exists() and "ready" in log.read_text()


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupt_leaves_nothing_and_is_prompt(log: Path, signum: signal.Signals) -> None:
    mark = new_mark()
    with program(MAIN, mark, "polite", "1000", str(log)) as main:
        wait_until(lambda: _ready(log))
        main.send_signal(signum)
        assert main.wait(200) == 130, main.stdout and main.stdout.read()
        assert marked(mark) == []


def test_a_second_interrupt_does_not_skip_the_cleaning_up(log: Path) -> None:
    mark = new_mark()
    with program(MAIN, mark, "stubborn", "1000", str(log)) as main:
        wait_until(lambda: _ready(log))
        began = time.monotonic()
        while time.monotonic() - began < 2.5:  # the cleaning up takes the grace, 3 s
            main.send_signal(signal.SIGINT)
            main.send_signal(signal.SIGTERM)
            time.sleep(0.05)
        assert main.wait(200) == 130 and time.monotonic() - began > 2.9
        assert marked(mark) == []
        assert main.stdout is not None
        go, stopping, *end = main.stdout.read().splitlines()
        assert [go, *end] == ["go", "interrupted"], "said once"
        word, running = stopping.split()
        assert word == "stopping" and int(running) >= 3, "said before anything of the job ended"


def test_an_interrupt_while_the_job_starts_leaves_nothing(log: Path) -> None:
    """Whenever it comes: before, during or after the start."""
    for delay in range(8):
        mark = new_mark()
        with program(MAIN, mark, "polite", "1000", str(log)) as main:
            assert main.stdout is not None and main.stdout.readline() == "go\n"
            time.sleep(delay * 0.005)
            main.send_signal(signal.SIGINT)
            assert main.stdout.readline() == "interrupted\n" and marked(mark) == [main.pid]
            assert main.wait(200) == 130


@pytest.mark.parametrize("temper", ["polite", "stubborn"])
def test_our_own_sigkill_leaves_nothing(log: Path, temper: str) -> None:
    mark = new_mark()
    with program(MAIN, mark, temper, "1000", str(log)) as main:
        wait_until(lambda: _ready(log))
        main.kill()
        main.wait()
        wait_until(lambda: marked(mark) == [])


def test_our_own_sigkill_leaves_nothing_though_a_fork_of_ours_lives_on(log: Path) -> None:
    """A forked child (datasets, multiprocessing) holds our end of the pipe.

    The guard therefore sees no end of file.
    """
    mark = new_mark()
    with program(MAIN, mark, "forking", "1000", str(log)) as main:
        wait_until(lambda: _ready(log))
        assert main.stdout is not None and main.stdout.readline() == "go\n"
        fork = int(main.stdout.readline().removeprefix("forked "))
        main.kill()
        main.wait()
        wait_until(lambda: marked(mark) == [fork])
        os.kill(fork, signal.SIGKILL)


def test_stopping_us_kills_nothing(log: Path) -> None:
    mark = new_mark()
    with program(MAIN, mark, "polite", "6", str(log)) as main:
        wait_until(lambda: _ready(log))
        time.sleep(0.5)  # a daemon's first child may still be ending
        before = set(marked(mark))
        main.send_signal(signal.SIGSTOP)
        time.sleep(3)
        assert set(marked(mark)) == before
        main.send_signal(signal.SIGCONT)
        assert main.stdout is not None and main.stdout.read() == "go\nexit code 0\n"
        assert marked(mark) == []


def test_a_signal_we_were_started_to_ignore_stays_ignored(log: Path) -> None:
    mark = new_mark()
    with program(
        MAIN, mark, "polite", "2", str(log), ignore=(signal.SIGHUP, signal.SIGINT)
    ) as main:
        wait_until(lambda: _ready(log))
        main.send_signal(signal.SIGHUP)
        main.send_signal(signal.SIGINT)
        assert main.stdout is not None and main.stdout.read() == "go\nexit code 0\n"
