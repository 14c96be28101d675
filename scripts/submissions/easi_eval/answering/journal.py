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
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from operator import itemgetter
from pathlib import Path
from types import TracebackType

from ..errors import EasiError
from .work import SCHEMA, Item, Key


@dataclass(frozen=True)
class Answer:
    """The outcome of one question: ``text`` or, if it was given up, ``failure`` ("Type: message"); never both.

    ``seconds`` is its share of the time its call took, ``tokens`` the generated ones, ``finish`` "stop" or "length",
    ``frames`` the images or video frames the model saw, ``prompt`` the first 16 hex digits of the prompt's SHA-256.
    ``cut`` is the stop string at which the model class was seen to cut off the rest of what the model wrote ("": nothing was seen).
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
    cut: str = ""

    def __post_init__(self) -> None:
        if (self.text is None) == (self.failure is None):
            raise ValueError(
                f"{self.benchmark}/{self.item}: an answer has either a text or a failure"
            )

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
    answered nor returned is what its worker is at, or was when it died. ``back``: another worker gave them back, died over them
    or was killed over them.
    """

    keys: tuple[Key, ...]
    step: int = 0
    now: bool = True
    back: bool = False

    def steps(self) -> list[list[Key]]:
        size = self.step or len(self.keys)
        return (
            [list(self.keys[at : at + size]) for at in range(0, len(self.keys), size)]
            if self.keys
            else []
        )


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


@dataclass(frozen=True)
class Loaded:
    """What the answers of this file come from: versions of the libraries, and under ``attention`` how that is really computed."""

    made_with: Mapping[str, str]


Record = Header | Answer | Phase | Loaded | Leased | Returned | Aside | Hung
_KINDS: dict[str, type] = {
    "header": Header,
    "answer": Answer,
    "phase": Phase,
    "loaded": Loaded,
    "lease": Leased,
    "return": Returned,
    "aside": Aside,
    "hung": Hung,
}
_DECODER = json.JSONDecoder()
_NAMES = {kind: name for name, kind in _KINDS.items()}
_FIELDS = {kind: tuple(field.name for field in fields(kind)) for kind in _NAMES}
_USUAL = tuple(
    name for name in _FIELDS[Answer] if name != "cut"
)  # only an answer that was cut says so
_ANSWER = itemgetter(*_USUAL)


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

    def loaded(self, made_with: Mapping[str, str]) -> None:
        self._write(Loaded(dict(made_with)))

    def leased(
        self, items: Iterable[Item], step: int = 0, now: bool = True, back: bool = False
    ) -> None:
        self._write(Leased(tuple(item.key for item in items), step, now, back))

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

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _write(self, record: Record) -> None:
        line = encode(record)
        try:
            rest = memoryview(line)
            while rest:  # a full disk takes a part of the line and refuses the rest
                rest = rest[os.write(self._file, rest) :]
        except OSError as error:
            os.ftruncate(self._file, self._size)
            raise EasiError(
                f"the answer could not be written to {self.path}: {error.strerror}",
                hint="make room there and start the same command again; what is in the journal is kept",
            ) from error
        self._size += len(line)


def encode(record: Record) -> bytes:
    """One line. Strings keep every code point, lone surrogates too (JSON's own escapes would join neighbouring ones)."""
    data = {"kind": _NAMES[type(record)], **vars(record)}
    if isinstance(record, Answer) and not record.cut:
        data.pop("cut", None)
    if isinstance(record, Header):
        data["schema"] = SCHEMA
    return (
        json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")
        + b"\n"
    )


def decode(line: bytes) -> Record:
    """The inverse of :func:`encode`. Raises ValueError for a line that is none; unknown fields are ignored."""
    text = line.decode("utf-8", "surrogatepass")
    data, end = _DECODER.raw_decode(text)
    if end != len(text) or not isinstance(data, dict) or data.get("kind") not in _KINDS:
        raise ValueError("not a journal line")
    kind = _KINDS[data["kind"]]
    if kind is Answer and len(data) == len(_USUAL) + 1 and "cut" not in data:
        return _answer(data)
    if kind is Header and data.get("schema") != SCHEMA:
        raise ValueError(f"journal version {data.get('schema')!r}, this program reads {SCHEMA}")
    if "keys" in data:
        data["keys"] = tuple((benchmark, item) for benchmark, item in data["keys"])
    try:
        return kind(**{name: data[name] for name in _FIELDS[kind] if name in data})
    except TypeError as error:
        raise ValueError(f"not a journal line: {error}") from error


def _answer(data: Mapping[str, object]) -> Answer:
    """As the constructor, in a third of its time: nearly all lines are answers, and each worker reads all of them."""
    try:
        values = _ANSWER(data)
    except KeyError as error:
        raise ValueError(f"not a journal line: it has no {error}") from error
    if (data["text"] is None) == (data["failure"] is None):
        raise ValueError("not a journal line: an answer has either a text or a failure")
    answer = object.__new__(Answer)
    vars(answer).update(zip(_USUAL, values, strict=True), cut="")
    return answer


@dataclass(frozen=True)
class Line:
    """A record and where it stands."""

    record: Record
    file: str
    number: int  # 1 is the header


class Tail:
    """Reads what was appended to the journals (``names``, a pattern) since the last call, file by file in the order of their names.

    Hidden files are none (some systems leave such companions when a folder is copied). A line with a NUL byte is left out, as
    JSON has none: where a machine lost its power or a file server died, blocks that never reached the disk are read as zeros.
    """

    def __init__(self, folder: Path, names: str = "*.jsonl") -> None:
        self._folder, self._names = folder, names
        self._places: dict[str, tuple[int, int]] = {}  # file -> (bytes, lines) read so far

    def poll(self) -> list[Line]:
        """New complete lines. An unreadable last line is left for later (its writer may be at it or dead);
        once something follows it, it raises EasiError naming file and line.
        """
        lines: list[Line] = []
        for path in sorted(self._folder.glob(self._names)):
            if path.name.startswith("."):
                continue
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
            if b"\0" in piece and number:
                number, offset = number + 1, offset + len(piece) + 1
                continue
            try:
                record = decode(piece)
                if (number == 0) != isinstance(record, Header):
                    raise ValueError("the header is missing" if number == 0 else "a second header")
            except ValueError as error:
                if place == len(pieces) - 1:
                    break
                raise EasiError(
                    f"{path} is damaged in line {number + 1}: {error}",
                    hint="remove that line to keep the other answers, or use --rerun",
                ) from error
            number += 1
            offset += len(piece) + 1
            lines.append(Line(record, path.name, number))
        self._places[path.name] = offset, number
        return lines
