"""A worker that raises over everything, and batches in which one question hangs.

Neither costs other questions their answers.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from easi_eval.core.run_folder import RunPaths
from easi_eval.engine.dispatch_server import DispatchServer
from easi_eval.engine.journal import Answer
from easi_eval.engine.journal_state import JournalState
from easi_eval.engine.work import Assignment, Work

pytestmark = [pytest.mark.slow, pytest.mark.faults]

WORK = Work((Assignment("a", "A"),))
CROWDED = Work((Assignment("a", "A"),), final=False)

KEEPER = """
import sys
from pathlib import Path
from easi_eval.engine.hang import Limits, Silence
from easi_eval.engine.processes.keeper import keep
root = Path(sys.argv[1])
watcher = lambda worker, attempt: Silence(root, worker, attempt, Limits(floor=5, first=8))
sys.exit(keep([sys.executable, *sys.argv[2:]], root, pause=0.05, watcher=watcher))
"""

# answer(items) and note(items) are the test's
WORKER = """
import os, sys, time
from pathlib import Path
from easi_eval.engine.work import Item, Work
from easi_eval.engine.generation import Generation
from easi_eval.engine.worker import work_loop

root, me, attempt = Path(sys.argv[1]), os.environ["EASI_WORKER"], int(os.environ["EASI_ATTEMPT"])

class OutOfMemoryError(RuntimeError): pass

def note(items):
    with open(root / "asked", "a") as file:
        file.write("".join(f"{item.id} {me} {attempt} {len(items)}\\n" for item in items))

def texts(items):
    return [Generation(item.id) for item in items]

%s

work = Work.load(root)
items = {one.key: [Item(one.key, f"{one.key}{number}") for number in range(int(sys.argv[2]))] for one in work.benchmarks}
work_loop(root, work, items, answer, int(sys.argv[3]))
"""  # noqa: E501 -- lines of a program in a string


def launch(
    root: Path, code: str, questions: int, *, chunk: int = 1, size: int = 3, work: Work = WORK
) -> str:
    """Run ``size`` keepers to their end, with workers that ``answer`` as ``code`` says.

    Returns what they printed.
    """
    work.save(root)
    (root / "worker.py").write_text(WORKER % code)
    command = [
        sys.executable,
        "-c",
        KEEPER,
        str(root),
        str(root / "worker.py"),
        str(root),
        str(questions),
        str(chunk),
    ]
    with DispatchServer(root, work):
        keepers = [
            subprocess.Popen(
                command,
                env={**os.environ, "RANK": str(rank)},
                stdout=(root / f"log{rank}").open("wb"),
                stderr=subprocess.STDOUT,
            )
            for rank in range(size)
        ]
        try:
            assert [keeper.wait(200) for keeper in keepers] == [0] * size
        finally:
            for keeper in keepers:
                keeper.terminate()
                keeper.wait()
    return "".join((root / f"log{rank}").read_text() for rank in range(size))


def outcomes(root: Path, work: Work = WORK) -> tuple[Counter[str | None], Counter[tuple[str, str]]]:
    """The number of questions per failure (None: answered), and of outcomes per question."""
    state = JournalState.of(root, work)
    written = Counter(news.key for news in state.poll() if isinstance(news, Answer))
    return Counter(answer.failure for answer in state.answers.values()), written


def asked(root: Path) -> Sequence[tuple[str, str, int, int]]:
    """(question, worker, attempt, how many at once) of each question asked."""
    lines = (line.split() for line in (root / "asked").read_text().splitlines())
    return [(item, worker, int(attempt), int(size)) for item, worker, attempt, size in lines]


@pytest.mark.timeout(240)
def test_a_worker_that_raises_over_everything_is_started_again_and_fails_nothing(
    tmp_path: Path,
) -> None:
    """As a device or an engine whose state is lost: it would empty the whole queue in no time."""
    log = launch(
        tmp_path,
        """
def answer(items):
    if me == "w1" and attempt == 1:
        raise RuntimeError("CUBLAS_STATUS_EXECUTION_FAILED")
    time.sleep(0.4)
    return texts(items)
""",
        60,
    )
    failures, written = outcomes(tmp_path)
    assert failures == {None: 60} and set(written.values()) == {1}
    assert (
        "another worker answered" in log and "[w1] ended with exit code 1; starting it again" in log
    )
    assert not list(RunPaths(tmp_path).journal.glob("*.gaveup"))


@pytest.mark.timeout(240)
def test_one_question_that_hangs_in_a_batch_does_not_fail_the_batch(tmp_path: Path) -> None:
    launch(
        tmp_path,
        """
def answer(items):
    note(items)
    while any(item.id == "a7" for item in items):
        time.sleep(1)
    return texts(items)
""",
        40,
        chunk=8,
        size=2,
    )
    failures, written = outcomes(tmp_path)
    assert failures == {
        None: 39,
        "Hung: 2 workers were killed because they gave no answer to this": 1,
    }
    assert set(written.values()) == {1} and len(written) == 40
    assert [size for item, _, _, size in asked(tmp_path) if item == "a7"] == [8, 1]


@pytest.mark.timeout(240)
def test_a_worker_without_memory_leaves_the_questions_to_the_others(tmp_path: Path) -> None:
    """Another user's process fills the GPU of one worker.

    This must not make the whole run start again with fewer workers.
    """
    log = launch(
        tmp_path,
        """
def answer(items):
    if me == "w1":
        raise OutOfMemoryError("CUDA out of memory")
    time.sleep(0.2)
    return texts(items)
""",
        60,
        work=CROWDED,
    )
    state = JournalState.of(tmp_path, CROWDED)
    state.poll()
    assert {answer.failure for answer in state.answers.values()} == {None}
    assert len(state.answers) + len(state.aside) == 60
    assert len(state.aside) <= 4 * 4, "a few for each process of it"
    assert "another worker answered" in log


@pytest.mark.timeout(240)
def test_a_benchmark_that_raises_everywhere_costs_no_worker(tmp_path: Path) -> None:
    """The pictures of one benchmark are missing.

    Every question of it fails in every worker, and those before and after it are answered.
    """
    work = Work((Assignment("a", "A"), Assignment("b", "B"), Assignment("c", "C")))
    log = launch(
        tmp_path,
        """
def answer(items):
    note(items)
    if items[0].benchmark == "b":
        raise FileNotFoundError("no such picture")
    (root / f"came.{me}").touch()
    while len(list(root.glob("came.*"))) < 3:       # who is alone is started again once
        time.sleep(0.05)
    time.sleep(0.1 if items[0].benchmark == "a" else 0)
    return texts(items)
""",
        100,
        work=work,
    )
    failures, written = outcomes(tmp_path, work)
    assert failures == {None: 200, "FileNotFoundError: no such picture": 100} and set(
        written.values()
    ) == {1}
    assert "starting it again" not in log and {attempt for _, _, attempt, _ in asked(tmp_path)} == {
        1
    }
