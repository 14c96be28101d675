"""The score process: it scores each benchmark as soon as all its questions have an outcome.

Meanwhile the workers answer the next benchmark.
"""

from __future__ import annotations

import shutil
import socket
import sys
import time
import traceback
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from ..core.atomic_files import write_json
from ..core.errors import EasiError, is_full, worded
from ..core.locks import process_start
from ..core.run_folder import RunPaths
from .journal import Answer
from .journal_state import JournalState
from .processes.supervisor import started_by_hand
from .processes.worker_ends import gave_up_reasons
from .work import Assignment, ItemList, Work, item_seed, seed_everything, tolerable

RESTARTED = 15.0  # seconds within which a keeper restarts a worker that died

# Arguments: the assignment, the outcomes by item id in document order, and an empty folder for all
# files. An outcome may be a failure: the backend's evaluator does not get that question, and the
# scorer notes it (``scores/scorer_notes.py``).
Score = Callable[[Assignment, Mapping[str, Answer], Path], None]


class Unanswered(EasiError):
    """A benchmark cannot be scored because questions lack an answer."""


def score_loop(
    run_root: Path,
    work: Work,
    score: Score,
    only: Collection[str] | None = None,
    every: float = 0.25,
) -> bool:
    """Score every benchmark of ``work`` once, in serving order as they become ready.

    ``score`` is called with the outcomes of all questions, of which few are failures
    (``tolerable``). The random number generators are seeded by run seed and benchmark. Then its
    folder is renamed to ``outputs/.<key>.scored``. If ``score`` raises, or answering is over while
    questions lack an answer, ``outputs/.<key>.failed.json`` is written with ``error`` (one line),
    ``traceback`` and ``unanswered`` (whether answers are missing, so that scoring is not the
    cause).

    Answering is over when the file ``answering.done`` exists. If no run started this process, that
    file is not written; then answering is over when a worker was given up and none is alive.

    Results of earlier calls are removed first. A benchmark whose scoring folder was left by an
    earlier call comes last: that call may have died over it, and the others are scored first.

    Args:
        run_root: Folder of the run.
        work: The work of this launch.
        score: Scores one benchmark.
        only: Keys of the benchmarks to score; None: all.
        every: Seconds between two looks at the journals.

    Returns:
        Whether all benchmarks were scored.
    """
    scored = True
    waiting = {
        assignment.key: assignment
        for assignment in work.benchmarks
        if only is None or assignment.key in only
    }
    suspects = {key for key in waiting if RunPaths(run_root).scoring(key).exists()}
    for key in waiting:
        remove_scored(run_root, key)
    state = JournalState.of(run_root, work)
    open_ones = {key: Open(run_root, assignment) for key, assignment in waiting.items()}
    abandoned = Abandoned(run_root, state) if started_by_hand() else None
    while waiting:
        # Check this before reading the journals: if it is True, they are complete.
        over = RunPaths(run_root).answering_done.exists() or (
            abandoned is not None and abandoned.now()
        )
        state.poll()
        candidates = [key for key in waiting if key not in suspects] or list(waiting)
        ready = [key for key in candidates if over or open_ones[key].handled(state)]
        for key in ready:
            scored &= _handle(run_root, work, waiting.pop(key), state, score)
        if not ready:
            time.sleep(every)
    return scored


class Abandoned:
    """Whether answering has ended without a run that would say so.

    That is the case if a worker was given up and none has been alive for ``RESTARTED`` seconds.
    """

    def __init__(self, run_root: Path, state: JournalState) -> None:
        self._root, self._state = run_root, state
        self._since = 0.0  # when the last worker ended; 0: one is alive

    def now(self) -> bool:
        """Check the workers; True if answering has ended."""
        if not gave_up_reasons(self._root) or any(
            alive(header.host, header.pid) for header in self._state.at_work
        ):
            self._since = 0.0
            return False
        self._since = self._since or time.monotonic()
        return time.monotonic() - self._since > RESTARTED


def alive(host: str, pid: int) -> bool:
    """Whether a process may still exist; True for another machine, which cannot be checked."""
    return host != socket.gethostname() or process_start(pid) != ""


class Open:
    """The questions of one benchmark that have no outcome yet.

    It is checked four times a second for hours. Therefore the list of questions is read only when
    it changed, and a question with an outcome is not looked up again.
    """

    def __init__(self, run_root: Path, assignment: Assignment) -> None:
        self._root, self._assignment = run_root, assignment
        self._path = RunPaths(run_root).item_list(assignment.key)
        self._read: tuple[int, int, int] | None = None
        self._left: list[str] | None = None

    def handled(self, state: JournalState) -> bool:
        """Whether every question has an answer or a final failure."""
        try:
            found = self._path.stat()
        except FileNotFoundError:
            return False
        # Each write of the list replaces the file, so the inode changes too.
        if (
            found.st_mtime_ns,
            found.st_ino,
            found.st_size,
        ) != self._read:
            self._read = found.st_mtime_ns, found.st_ino, found.st_size
            items = ItemList.load(self._root, self._assignment.key)
            self._left = list(reversed(items.ids)) if items.fits(self._assignment) else None
        if self._left is None:
            return False
        while self._left and (self._assignment.key, self._left[-1]) in state:
            self._left.pop()
        return not self._left


def _handle(
    run_root: Path, work: Work, assignment: Assignment, state: JournalState, score: Score
) -> bool:
    """Score one benchmark; False if that failed, which is then recorded in its file."""
    key = assignment.key
    folder = RunPaths(run_root).scoring(key)
    try:
        answers = _answers(run_root, assignment, state)
        folder.mkdir(parents=True)
        seed_everything(item_seed(work.seed, key, "scoring"))
        score(assignment, answers, folder)
        folder.rename(RunPaths(run_root).scored(key))
        return True
    # Any exception of a backend's scorer fails this benchmark only; the others are still scored.
    except Exception as error:
        trace = traceback.format_exc()
        message = error.message if isinstance(error, EasiError) else worded(error)
        if is_full(error):
            message = f"the disk is full: it could not be scored, its answers are kept: {message}"
        print(f"{key} could not be scored: {message}", file=sys.stderr)
        if not isinstance(error, EasiError):
            print(trace, file=sys.stderr)
        write_json(
            RunPaths(run_root).failed(key),
            {
                "error": " ".join(message.split()),
                "traceback": trace,
                "unanswered": isinstance(error, Unanswered),
            },
        )
        return False


def _answers(run_root: Path, assignment: Assignment, state: JournalState) -> dict[str, Answer]:
    """The outcomes of a benchmark in document order.

    Raises:
        Unanswered: Questions lack an outcome.
        EasiError: Too many questions failed.
    """
    if not RunPaths(run_root).item_list(assignment.key).exists():
        raise _unanswered(run_root, "no question was asked: no worker read the data")
    items = ItemList.load(run_root, assignment.key)
    if not items.fits(assignment):
        raise _unanswered(
            run_root, "no question was asked: the list of questions is of another run"
        )
    found = {item: state.get((items.key, item)) for item in items.ids}
    missing = sum(answer is None for answer in found.values())
    if missing:
        raise _unanswered(run_root, f"{missing} of {len(found)} questions not answered")
    failures = {item: answer.failure for item, answer in found.items() if answer and answer.failure}
    if not tolerable(len(failures), len(found)):
        item, failure = next(iter(failures.items()))
        raise EasiError(
            f"{len(failures)} of {len(found)} questions failed (first: {item}): {failure}"
        )
    return {item: answer for item, answer in found.items() if answer}


def _unanswered(run_root: Path, text: str) -> Unanswered:
    """The error for missing answers; without a run it includes why workers were given up.

    With a run, the run reports these reasons itself.
    """
    return Unanswered("; ".join((text, *(gave_up_reasons(run_root) if started_by_hand() else ()))))


def remove_scored(run_root: Path, key: str) -> None:
    """Remove the results of an earlier call."""
    for folder in (RunPaths(run_root).scoring(key), RunPaths(run_root).scored(key)):
        if folder.exists():
            shutil.rmtree(folder)
    RunPaths(run_root).failed(key).unlink(missing_ok=True)
