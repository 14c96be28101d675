"""The append-only record of answers: what each worker was given, what it answered, and what failed.

One file per attempt of one worker, one JSON line per record, each handed to the system at once: a kill costs at most
the line being written. The files of all attempts together are the truth about a run; nothing else is needed to resume.
"""

from __future__ import annotations

import json
import os
import socket
import time
import uuid
from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from types import TracebackType

from ..errors import EasiError
from .work import JOURNAL_FOLDER, SCHEMA, Item, ItemList, Key, Work


@dataclass(frozen=True)
class Answer:
    """The outcome of one question: ``text`` or, if it was given up, ``failure`` ("Type: message"); never both.

    ``seconds`` is its share of the time its call took, ``tokens`` the generated ones, ``finish`` "stop" or "length",
    ``frames`` the images or video frames the model saw, ``prompt`` the first 16 hex digits of the prompt's SHA-256.
    ``fence`` grows each time the question is leased anew within one ``launch``.
    """

    benchmark: str
    item: str
    epoch: int
    text: str | None
    seconds: float
    tokens: int | None = None
    finish: str | None = None
    frames: int | None = None
    prompt: str | None = None
    failure: str | None = None
    worker: str = ""
    fence: int = 0
    launch: int = 0

    def __post_init__(self) -> None:
        if (self.text is None) == (self.failure is None):
            raise ValueError(f"{self.benchmark}/{self.item}: an answer has either a text or a failure")

    @property
    def key(self) -> Key:
        return self.benchmark, self.item


@dataclass(frozen=True)
class Phase:
    """What a worker said it is doing ("loading the model", "answering", "done"). ``at``: Unix time."""

    worker: str
    attempt: int
    phase: str
    at: float


@dataclass(frozen=True)
class Leased:
    """These questions are a worker's to answer, in this order and ``step`` at a time (0: all at once).

    It begins with them ``now``, or when it is through with what it has. The first step of a file that was neither
    answered nor returned is what its worker is at, or was when it died.
    """

    keys: tuple[Key, ...]
    step: int = 0
    now: bool = True

    def steps(self) -> list[list[Key]]:
        size = self.step or len(self.keys)
        return [list(self.keys[at:at + size]) for at in range(0, len(self.keys), size)] if self.keys else []


@dataclass(frozen=True)
class Returned:
    """A worker could not answer these questions and gave them back to be tried elsewhere; ``reason`` as in a failure."""

    keys: tuple[Key, ...]
    reason: str


@dataclass(frozen=True)
class Aside:
    """A worker had not enough memory for these questions; they wait for a stage with fewer workers (``Work.stage``)."""

    keys: tuple[Key, ...]
    reason: str
    stage: int = 0


@dataclass(frozen=True)
class Hung:
    """A worker was killed because it had these questions in hand for ``seconds`` without an answer."""

    keys: tuple[Key, ...]
    seconds: float = 0.0


@dataclass(frozen=True)
class Header:
    """The first line of a file."""

    worker: str
    attempt: int
    launch: int
    host: str
    pid: int
    at: float


Record = Header | Answer | Phase | Leased | Returned | Aside | Hung
_KINDS: dict[str, type] = {
    "header": Header, "answer": Answer, "phase": Phase, "lease": Leased, "return": Returned, "aside": Aside, "hung": Hung,
}
_NAMES = {kind: name for name, kind in _KINDS.items()}
_FIELDS = {kind: tuple(field.name for field in fields(kind)) for kind in _NAMES}


class Journal:
    """The writer of one worker's attempt. Not shared between processes; each attempt makes a file of its own."""

    def __init__(self, folder: Path, worker: str, attempt: int, launch: int = 0) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.worker, self.attempt, self.launch = worker, attempt, launch
        self.path = folder / f"{worker}.{attempt}.{uuid.uuid4().hex}.jsonl"
        self._file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o644)
        self._size = 0
        self._write(Header(worker, attempt, launch, socket.gethostname(), os.getpid(), time.time()))

    def answer(self, answer: Answer) -> None:
        self._write(answer)

    def phase(self, text: str) -> None:
        self._write(Phase(self.worker, self.attempt, text, time.time()))

    def leased(self, items: Iterable[Item], step: int = 0, now: bool = True) -> None:
        self._write(Leased(tuple(item.key for item in items), step, now))

    def returned(self, items: Iterable[Item], reason: str) -> None:
        self._write(Returned(tuple(item.key for item in items), reason))

    def aside(self, items: Iterable[Item], reason: str, stage: int) -> None:
        self._write(Aside(tuple(item.key for item in items), reason, stage))

    def hung(self, keys: Iterable[Key], seconds: float) -> None:
        self._write(Hung(tuple(keys), seconds))

    def sync(self) -> None:
        """Make what was written visible to other machines that share the folder."""
        os.fsync(self._file)

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _write(self, record: Record) -> None:
        line = encode(record)
        try:
            rest = memoryview(line)
            while rest:                      # a full disk takes a part of the line and refuses the rest
                rest = rest[os.write(self._file, rest):]
        except OSError as error:
            os.ftruncate(self._file, self._size)
            raise EasiError(f"the answer could not be written to {self.path}: {error.strerror}",
                            hint="make room there and start the same command again; what is in the journal is kept") from error
        self._size += len(line)


def encode(record: Record) -> bytes:
    """One line. Strings keep every code point, lone surrogates too (JSON's own escapes would join neighbouring ones)."""
    data = {"kind": _NAMES[type(record)], **vars(record)}
    if isinstance(record, Header):
        data["schema"] = SCHEMA
    return json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass") + b"\n"


def decode(line: bytes) -> Record:
    """The inverse of :func:`encode`. Raises ValueError for a line that is none; unknown fields are ignored."""
    data = json.loads(line.decode("utf-8", "surrogatepass"))
    if not isinstance(data, dict) or data.get("kind") not in _KINDS:
        raise ValueError("not a journal line")
    kind = _KINDS[data["kind"]]
    if kind is Header and data.get("schema") != SCHEMA:
        raise ValueError(f"journal version {data.get('schema')!r}, this program reads {SCHEMA}")
    if "keys" in data:
        data["keys"] = tuple((benchmark, item) for benchmark, item in data["keys"])
    try:
        return kind(**{name: data[name] for name in _FIELDS[kind] if name in data})
    except TypeError as error:
        raise ValueError(f"not a journal line: {error}") from error


@dataclass(frozen=True)
class Line:
    """A record and where it stands."""

    record: Record
    file: str
    number: int                   # 1 is the header


class Tail:
    """Reads what was appended to the journals (``names``, a pattern) since the last call, file by file in the order of their names."""

    def __init__(self, folder: Path, names: str = "*.jsonl") -> None:
        self._folder, self._names = folder, names
        self._places: dict[str, tuple[int, int]] = {}      # file -> (bytes, lines) read so far

    def poll(self) -> list[Line]:
        """New complete lines. An unreadable last line is left for later (its writer may be at it or dead);
        once something follows it, it raises EasiError naming file and line."""
        lines: list[Line] = []
        for path in sorted(self._folder.glob(self._names)):
            offset, number = self._places.get(path.name, (0, 0))
            if path.stat().st_size > offset:
                lines += self._read(path, offset, number)
        return lines

    def _read(self, path: Path, offset: int, number: int) -> list[Line]:
        with path.open("rb") as file:
            file.seek(offset)
            whole, newline, _ = file.read().rpartition(b"\n")
        lines: list[Line] = []
        pieces = whole.split(b"\n") if newline else []
        for place, piece in enumerate(pieces):
            try:
                record = decode(piece)
                if (number == 0) != isinstance(record, Header):
                    raise ValueError("the header is missing" if number == 0 else "a second header")
            except ValueError as error:
                if place == len(pieces) - 1:
                    break
                raise EasiError(f"{path} is damaged in line {number + 1}: {error}",
                                hint="remove that line to keep the other answers, or use --rerun") from error
            number += 1
            offset += len(piece) + 1
            lines.append(Line(record, path.name, number))
        self._places[path.name] = offset, number
        return lines


@dataclass(frozen=True)
class Count:
    """How far one benchmark is. ``done`` includes the ``failed`` ones; ``now`` are the answers of this launch.

    ``spent`` and ``cost`` are seconds and expected times of what was answered, ``spent_now`` those seconds in this
    launch; ``cost_left`` is expected of what has no outcome.
    """

    done: int
    total: int
    failed: int
    now: int
    spent: float = 0.0
    spent_now: float = 0.0
    cost: float = 0.0
    cost_left: float = 0.0


class Begun:
    """What the worker of one file has in hand: steps of its leases, the one it is at first."""

    def __init__(self) -> None:
        self._steps: deque[list[Key]] = deque()

    @property
    def at(self) -> Sequence[Key]:
        return self._steps[0] if self._steps else ()

    def lease(self, record: Leased) -> None:
        if record.now:
            self._steps.extendleft(reversed(record.steps()))
        else:
            self._steps.extend(record.steps())

    def end(self, key: Key) -> None:
        """It was answered or returned; nearly always it is of the first step."""
        for step in self._steps:
            if key in step:
                step.remove(key)
                if not step:
                    self._steps.remove(step)
                return


class Book:
    """The merged state of all journals of a run, brought up to date by ``poll``.

    ``launch`` None: failures count whenever they happened; otherwise only those of that launch. What lacked memory
    before ``stage`` of the launch is to be asked again. ``skip`` is the name of the caller's own file, whose unfinished
    questions tell of no death.
    """

    def __init__(self, folder: Path, epochs: Mapping[str, int], launch: int | None = None, skip: str = "", stage: int = 0) -> None:
        self._tail = Tail(folder)
        self._epochs, self._launch, self._skip, self._stage = dict(epochs), launch, skip, stage
        self._best: dict[Key, tuple[tuple[object, ...], Answer]] = {}
        self._begun: dict[str, Begun] = {}            # by file of this launch
        self._hung: Counter[Key] = Counter()
        self._aside: dict[Key, str] = {}
        self._deaths: Counter[Key] | None = None
        self.phases: dict[str, Phase] = {}            # worker -> the latest

    @classmethod
    def of(cls, run_root: Path, work: Work, skip: str = "") -> Book:
        return cls(run_root / JOURNAL_FOLDER, work.epochs, work.launch, skip, work.stage)

    def poll(self) -> list[Answer | Phase]:
        """Take in what is new and return what is of this launch (of all, if none was given).
        Raises EasiError for a damaged line that is not the last of its file."""
        news: list[Answer | Phase] = []
        for line in self._tail.poll():
            self._take(line)
            if isinstance(line.record, Answer | Phase) and (self._launch is None or line.file in self._begun):
                news.append(line.record)
        return news

    def __contains__(self, key: Key) -> bool:
        return key in self._best

    def get(self, key: Key) -> Answer | None:
        found = self._best.get(key)
        return found[1] if found else None

    def settled(self, key: Key) -> bool:
        """Whether the workers of this stage need not ask it: it has an outcome, or waits for a stage with more memory."""
        return key in self._best or key in self._aside

    @property
    def aside(self) -> dict[Key, str]:
        """Questions that no worker of this stage had the memory for, and what was raised."""
        return {key: reason for key, reason in self._aside.items() if key not in self._best}

    @property
    def answers(self) -> dict[Key, Answer]:
        return {key: answer for key, (_, answer) in self._best.items()}

    def deaths(self, key: Key) -> int:
        """How many other attempts of this launch are at this question, or died over it."""
        if self._deaths is None:
            self._deaths = Counter(at for file, begun in self._begun.items() if file != self._skip for at in begun.at)
        return self._deaths[key]

    def hangs(self, key: Key) -> int:
        """How many attempts of this launch were killed because they were silent over this question."""
        return self._hung[key]

    def count(self, items: ItemList) -> Count:
        outcomes = [(cost, self.get((items.key, item))) for item, cost in zip(items.ids, items.expected(), strict=True)]
        found = [answer for _, answer in outcomes if answer]
        told = [(cost, answer) for cost, answer in outcomes if answer and answer.failure is None]
        return Count(
            done=len(found), total=len(items.ids), failed=len(found) - len(told), now=sum(answer.launch == self._launch for answer in found),
            spent=sum(answer.seconds for _, answer in told), spent_now=sum(answer.seconds for _, answer in told if answer.launch == self._launch),
            cost=sum(cost for cost, _ in told), cost_left=sum(cost for cost, answer in outcomes if not answer))

    def _take(self, line: Line) -> None:
        record = line.record
        self._deaths = None
        begun = self._begun.get(line.file)
        if isinstance(record, Header):
            if record.launch == self._launch:
                self._begun[line.file] = Begun()
        elif isinstance(record, Phase):
            known = self.phases.get(record.worker)
            if known is None or known.at <= record.at:
                self.phases[record.worker] = record
        elif isinstance(record, Answer):
            if begun is not None:
                begun.end(record.key)
            self._keep(record, line)
        elif begun is not None:
            self._follow(begun, record)

    def _follow(self, begun: Begun, record: Leased | Returned | Aside | Hung) -> None:
        """What one of this launch's workers did beside answering."""
        match record:
            case Leased():
                begun.lease(record)
            case Hung(keys):
                self._hung.update(keys)
            case Returned(keys):
                for key in keys:
                    begun.end(key)
            case Aside(keys, reason, stage):
                for key in keys:
                    begun.end(key)
                    if stage >= self._stage:
                        self._aside[key] = reason

    def _keep(self, answer: Answer, line: Line) -> None:
        failed = answer.failure is not None
        if answer.epoch != self._epochs.get(answer.benchmark):
            return
        if failed and self._launch is not None and answer.launch != self._launch:
            return
        # A success beats a failure. Then the earliest lease, so that a worker that lost its lease and
        # answered nevertheless changes nothing; of failures the latest launch has the telling reason.
        rank = (failed, -answer.launch if failed else answer.launch, answer.fence, line.file, line.number)
        known = self._best.get(answer.key)
        if known is None or rank < known[0]:
            self._best[answer.key] = rank, answer


def pending(run_root: Path, work: Work, items: Mapping[str, Sequence[Item]] | None = None, settled: bool = False) -> bool:
    """Whether any question of ``work`` is still to be asked. Without ``items`` the saved lists decide; a missing one is pending.

    With ``settled``: to be asked in this stage.
    """
    book = Book.of(run_root, work)
    book.poll()
    known = book.settled if settled else book.__contains__
    for assignment in work.benchmarks:
        if items is not None:
            keys: list[Key] = [item.key for item in items[assignment.key]]
        elif ItemList.path(run_root, assignment.key).exists():
            saved = ItemList.load(run_root, assignment.key)
            if not saved.fits(assignment):
                return True
            keys = [(assignment.key, item) for item in saved.ids]
        else:
            return True
        if not all(known(key) for key in keys):
            return True
    return False
