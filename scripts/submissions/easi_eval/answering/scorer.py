"""Scores each benchmark as soon as its last question has an outcome, while the next one is being answered."""

from __future__ import annotations

import os
import shutil
import socket
import sys
import time
import traceback
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from ..errors import EasiError, is_full, worded
from ..execution import supervisor
from ..execution.keeper import gave_up_reasons
from ..state import write_json
from .book import Book
from .journal import Answer
from .work import DONE_FILE, OUTPUTS_FOLDER, Assignment, ItemList, Work, item_seed, seed_everything

# Of a benchmark's questions up to this share may have failed; they count as wrong. With more of them it is not complete.
FAILED_ONE_IN = 200
RESTARTED = 15.0  # seconds within which a worker that died has been started again

# (assignment, outcomes by item id in document order, an empty folder of its own for all files). An outcome may be a failure:
# the backend's evaluator is not given that question, and the scorer notes it (results/notes.py).
Score = Callable[[Assignment, Mapping[str, Answer], Path], None]


class Unanswered(EasiError):
    """There is nothing to score yet: what went wrong did so while answering."""


def scoring_folder(run_root: Path, key: str) -> Path:
    return run_root / OUTPUTS_FOLDER / f".{key}.scoring"


def scored_folder(run_root: Path, key: str) -> Path:
    return run_root / OUTPUTS_FOLDER / f".{key}.scored"


def failed_file(run_root: Path, key: str) -> Path:
    return run_root / OUTPUTS_FOLDER / f".{key}.failed.json"


def score_loop(
    run_root: Path,
    work: Work,
    score: Score,
    only: Collection[str] | None = None,
    every: float = 0.25,
) -> bool:
    """Handle every benchmark of ``work`` (or those in ``only``) once, in serving order as they become ready.

    ``score`` is called with the outcomes of all questions, few of them failures (``tolerable``), the generators seeded by run seed and benchmark. Its folder
    then becomes ``outputs/.<key>.scored``; if it raises, or ``answering.done`` is there while questions lack an answer,
    ``outputs/.<key>.failed.json`` says so (``error`` one line, ``traceback``, ``unanswered`` whether scoring was not to
    blame). Without the program that starts the workers and writes that file, answering is over when a worker was given up and none
    is alive. Results of earlier calls are removed first. A benchmark over which an earlier call's process died comes last, so that the others are scored whatever it
    does. Returns when every benchmark has one or the other: whether all are scored.
    """
    scored = True
    waiting = {
        assignment.key: assignment
        for assignment in work.benchmarks
        if only is None or assignment.key in only
    }
    suspects = {key for key in waiting if scoring_folder(run_root, key).exists()}
    for key in waiting:
        _remove(run_root, key)
    book = Book.of(run_root, work)
    open_ones = {key: Open(run_root, assignment) for key, assignment in waiting.items()}
    abandoned = Abandoned(run_root, book) if started_by_hand() else None
    while waiting:
        # Looked at before the journals are read: what they hold then is all there will be.
        over = (run_root / DONE_FILE).exists() or (abandoned is not None and abandoned.now())
        book.poll()
        candidates = [key for key in waiting if key not in suspects] or list(waiting)
        ready = [key for key in candidates if over or open_ones[key].handled(book)]
        for key in ready:
            scored &= _handle(run_root, work, waiting.pop(key), book, score)
        if not ready:
            time.sleep(every)
    return scored


def started_by_hand() -> bool:
    """Whether the program that starts workers did not start this process."""
    return supervisor.TAG not in os.environ


class Abandoned:
    """Whether nobody answers any more, for a scorer that was started by hand: a worker was given up, and for a while none is alive."""

    def __init__(self, run_root: Path, book: Book) -> None:
        self._root, self._book = run_root, book
        self._since = 0.0  # when the last one was gone

    def now(self) -> bool:
        if not gave_up_reasons(self._root) or any(
            alive(header.host, header.pid) for header in self._book.at_work
        ):
            self._since = 0.0
            return False
        self._since = self._since or time.monotonic()
        return time.monotonic() - self._since > RESTARTED


def alive(host: str, pid: int) -> bool:
    """Whether a process may still be there; of another machine's nobody can say."""
    return host != socket.gethostname() or Path(f"/proc/{pid}").exists()


class Open:
    """What of one benchmark is still to be answered. Looked at four times a second for hours, so a list is read when it is new and
    no question is looked up again once it has an outcome.
    """

    def __init__(self, run_root: Path, assignment: Assignment) -> None:
        self._root, self._assignment = run_root, assignment
        self._path = ItemList.path(run_root, assignment.key)
        self._read: tuple[int, int, int] | None = None
        self._left: list[str] | None = None

    def handled(self, book: Book) -> bool:
        """Whether every question has an answer or a final failure."""
        try:
            found = self._path.stat()
        except FileNotFoundError:
            return False
        if (
            found.st_mtime_ns,
            found.st_ino,
            found.st_size,
        ) != self._read:  # each writing makes another file
            self._read = found.st_mtime_ns, found.st_ino, found.st_size
            items = ItemList.load(self._root, self._assignment.key)
            self._left = list(reversed(items.ids)) if items.fits(self._assignment) else None
        if self._left is None:
            return False
        while self._left and (self._assignment.key, self._left[-1]) in book:
            self._left.pop()
        return not self._left


def _handle(run_root: Path, work: Work, assignment: Assignment, book: Book, score: Score) -> bool:
    """Whether it could be scored."""
    key = assignment.key
    folder = scoring_folder(run_root, key)
    try:
        answers = _answers(run_root, assignment, book)
        folder.mkdir(parents=True)
        seed_everything(item_seed(work.seed, key, "scoring"))
        score(assignment, answers, folder)
        folder.rename(scored_folder(run_root, key))
        return True
    except (
        Exception
    ) as error:  # whatever a backend's scorer raises is this benchmark's failure, not the others'
        trace = traceback.format_exc()
        message = error.message if isinstance(error, EasiError) else worded(error)
        if is_full(error):
            message = f"a disk took no more while it was scored, its answers are kept: {message}"
        print(f"{key} could not be scored: {message}", file=sys.stderr)
        if not isinstance(error, EasiError):
            print(trace, file=sys.stderr)
        write_json(
            failed_file(run_root, key),
            {
                "error": " ".join(message.split()),
                "traceback": trace,
                "unanswered": isinstance(error, Unanswered),
            },
        )
        return False


def _answers(run_root: Path, assignment: Assignment, book: Book) -> dict[str, Answer]:
    """The outcomes in document order; EasiError if one is missing or too many are failures."""
    if not ItemList.path(run_root, assignment.key).exists():
        raise _unanswered(
            run_root, "no question was asked: no worker got as far as reading the data"
        )
    items = ItemList.load(run_root, assignment.key)
    if not items.fits(assignment):
        raise _unanswered(
            run_root, "no question was asked: the list of questions is one of another run"
        )
    found = {item: book.get((items.key, item)) for item in items.ids}
    missing = sum(answer is None for answer in found.values())
    if missing:
        raise _unanswered(run_root, f"{missing} of {len(found)} items not answered")
    failures = {item: answer.failure for item, answer in found.items() if answer and answer.failure}
    if not tolerable(len(failures), len(found)):
        item, failure = next(iter(failures.items()))
        raise EasiError(f"{len(failures)} of {len(found)} items failed (first: {item}): {failure}")
    return {item: answer for item, answer in found.items() if answer}


def _unanswered(run_root: Path, text: str) -> Unanswered:
    """With the reasons why workers were given up, which otherwise the program says that started them."""
    return Unanswered("; ".join((text, *(gave_up_reasons(run_root) if started_by_hand() else ()))))


def tolerable(failed: int, total: int) -> bool:
    """Whether a benchmark of which so many questions failed is complete: at most one in ``FAILED_ONE_IN``."""
    return failed * FAILED_ONE_IN <= total


def _remove(run_root: Path, key: str) -> None:
    for folder in (scoring_folder(run_root, key), scored_folder(run_root, key)):
        if folder.exists():
            shutil.rmtree(folder)
    failed_file(run_root, key).unlink(missing_ok=True)
