"""The append-only record of what each worker was given, what it answered, and what failed.

Each attempt of a worker writes one file with one JSON line per record. Every line is passed to the
system at once, so a kill loses at most the line that is being written. The files of all attempts
together are the state of a run; nothing else is needed to resume it.
"""

from __future__ import annotations

import json
import os
import socket
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from operator import itemgetter
from pathlib import Path

from ..core.errors import EasiError
from .work import SCHEMA, Item, Key


@dataclass(frozen=True)
class Answer:
    """The outcome of one question: either ``text`` or ``failure`` is set.

    Attributes:
        epoch: Epoch of the benchmark (``Assignment.epoch``).
        seconds: The question's share of the time of the call that answered it.
        tokens: Generated tokens.
        finish: "stop" or "length".
        frames: Images and video frames that the model saw.
        prompt: The first 16 hex digits of the prompt's SHA-256.
        failure: "Type: message" of a question that was given up.
        fence: Grows with each new lease of the question within one launch.
        launch: Number of the launch.
        cut: The stop string at which the model class cut off the rest of the model's text; "" if no
            cut was seen.
        at: Unix time at which it was journalled; 0: an earlier version did not record it.
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
    at: float = 0.0

    def __post_init__(self) -> None:
        if (self.text is None) == (self.failure is None):
            raise ValueError(
                f"{self.benchmark}/{self.item}: an answer has either a text or a failure"
            )

    @property
    def key(self) -> Key:
        """The question: benchmark and item id."""
        return self.benchmark, self.item


SERVERS_GONE = "the servers are gone"  # last phase of a worker that no server answers


@dataclass(frozen=True)
class Phase:
    """What a worker does now.

    Attributes:
        phase: For example "loading the model", "answering", "done".
        at: Unix time.
    """

    worker: str
    attempt: int
    phase: str
    at: float


@dataclass(frozen=True)
class Leased:
    """Questions that were leased to a worker.

    The first step of a file that was neither answered nor returned is what its worker is at, or was
    at when it died.

    Attributes:
        keys: The questions, in the order in which they are answered.
        step: Questions that are answered at a time; 0: all of them.
        now: Whether the worker begins with them, or answers what it already holds first.
        back: Whether another worker gave them back, died over them or was killed over them.
    """

    keys: tuple[Key, ...]
    step: int = 0
    now: bool = True
    back: bool = False

    def steps(self) -> list[list[Key]]:
        """The questions in groups of ``step``."""
        size = self.step or len(self.keys)
        return (
            [list(self.keys[at : at + size]) for at in range(0, len(self.keys), size)]
            if self.keys
            else []
        )


@dataclass(frozen=True)
class Returned:
    """Questions that a worker could not answer and gave back to be tried elsewhere.

    Attributes:
        reason: "Type: message", as in a failure.
    """

    keys: tuple[Key, ...]
    reason: str


@dataclass(frozen=True)
class Aside:
    """Questions for which a worker lacked memory.

    They wait for a stage with fewer workers.

    Attributes:
        reason: "Type: message", as in a failure.
        stage: The stage that lacked memory (``Work.stage``).
    """

    keys: tuple[Key, ...]
    reason: str
    stage: int = 0


@dataclass(frozen=True)
class Hung:
    """The questions of a worker that was killed after ``seconds`` without an answer."""

    keys: tuple[Key, ...]
    seconds: float = 0.0


@dataclass(frozen=True)
class Header:
    """The first line of a file; ``at`` is Unix time."""

    worker: str
    attempt: int
    launch: int
    host: str
    pid: int
    at: float


@dataclass(frozen=True)
class Loaded:
    """What the answers of this file were made with.

    Attributes:
        made_with: Versions of libraries by name, and the attention in use under "attention".
    """

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
# Fields of an answer that was not cut; "cut" is written only if it is set.
_USUAL = tuple(name for name in _FIELDS[Answer] if name != "cut")
_ANSWER = itemgetter(*_USUAL)


class Journal:
    """Writer of the file of one attempt of a worker; not shared between processes.

    Args:
        folder: Folder of the journals.
        worker: Name of the worker.
        attempt: Number of the attempt.
        launch: Number of the launch.
        host: The worker's machine, "" for this one.
        pid: The worker's process, 0 for this one.
    """

    def __init__(
        self,
        folder: Path,
        worker: str,
        attempt: int,
        launch: int = 0,
        host: str = "",
        pid: int = 0,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.worker, self.attempt, self.launch = worker, attempt, launch
        self.path = folder / f"{worker}.{attempt}.{uuid.uuid4().hex}.jsonl"
        self._file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o644)
        self._size = 0
        self._write(
            Header(
                worker,
                attempt,
                launch,
                host or socket.gethostname(),
                pid or os.getpid(),
                time.time(),
            )
        )

    def answer(self, answer: Answer) -> None:
        """Record the outcome of a question."""
        self._write(answer)

    def phase(self, text: str) -> None:
        """Record that the worker begins another phase."""
        self._write(Phase(self.worker, self.attempt, text, time.time()))

    def loaded(self, made_with: Mapping[str, str]) -> None:
        """Record what the answers are made with."""
        self._write(Loaded(dict(made_with)))

    def leased(
        self, items: Iterable[Item], step: int = 0, now: bool = True, back: bool = False
    ) -> None:
        """Record questions that were leased to this worker; see ``Leased``."""
        self._write(Leased(tuple(item.key for item in items), step, now, back))

    def returned(self, items: Iterable[Item], reason: str) -> None:
        """Record questions that this worker gives back."""
        self._write(Returned(tuple(item.key for item in items), reason))

    def aside(self, items: Iterable[Item], reason: str, stage: int) -> None:
        """Record questions that lacked memory."""
        self._write(Aside(tuple(item.key for item in items), reason, stage))

    def hung(self, keys: Iterable[Key], seconds: float) -> None:
        """Record questions over which the worker was silent, before it is killed."""
        self._write(Hung(tuple(keys), seconds))

    def sync(self) -> None:
        """Write everything to the disk, which makes it visible to other machines too."""
        os.fsync(self._file)

    def close(self) -> None:
        """Close the file; may be called again."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _write(self, record: Record) -> None:
        line = encode(record)
        try:
            rest = memoryview(line)
            while rest:  # a full disk takes a part of the line and refuses the rest
                rest = rest[os.write(self._file, rest) :]
        except OSError as error:
            # Remove the part that was written: a half line would damage the file.
            os.ftruncate(self._file, self._size)
            raise EasiError(
                f"the answer could not be written to {self.path}: {error.strerror}",
                hint="free space there and run the same command again; saved answers are kept",
            ) from error
        self._size += len(line)


def encode(record: Record) -> bytes:
    """One line of JSON in UTF-8.

    Lone surrogates are kept as they are: JSON's escapes would join two neighbouring ones into one
    character.
    """
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
    """The inverse of ``encode``; unknown fields are ignored.

    Raises:
        ValueError: The line is no record, or of another version.
    """
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
        record: Record = kind(**{name: data[name] for name in _FIELDS[kind] if name in data})
    except TypeError as error:
        raise ValueError(f"not a journal line: {error}") from error
    return record


def _answer(data: Mapping[str, object]) -> Answer:
    """Construct an answer in a third of the constructor's time.

    Nearly all lines are answers, and each worker reads the answers of all workers.
    """
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
    """A record and its place.

    Attributes:
        file: Name of the file.
        number: Line number; 1 is the header.
    """

    record: Record
    file: str
    number: int  # 1 is the header


class Tail:
    """Reads what was appended to journals since the last call, file by file in order of names.

    Hidden files are ignored, because some systems leave such companions when a folder is copied.
    Lines with a NUL byte, which JSON does not contain, are skipped: after a loss of power or of the
    file server, blocks that never reached the disk are read as zeros.

    Args:
        folder: Folder of the journals.
        names: Pattern of the file names.
    """

    def __init__(self, folder: Path, names: str = "*.jsonl") -> None:
        self._folder, self._names = folder, names
        self._places: dict[str, tuple[int, int]] = {}  # file -> (bytes, lines) read so far

    def poll(self) -> Iterator[Line]:
        """Yield new complete lines, one in memory at a time.

        An unreadable last line of a file is left for a later call: its writer may still be writing
        it, or be dead.

        Raises:
            EasiError: An unreadable line is followed by another one; the message names file and
                line.
        """
        for path in sorted(self._folder.glob(self._names)):
            if path.name.startswith("."):
                continue
            offset, number = self._places.get(path.name, (0, 0))
            if path.stat().st_size > offset:
                yield from self._read(path, offset, number)

    def _read(self, path: Path, offset: int, number: int) -> Iterator[Line]:
        with path.open("rb") as file:
            file.seek(offset)
            while (piece := file.readline()).endswith(b"\n"):
                offset += len(piece)
                if b"\0" in piece and number:
                    number += 1
                    self._places[path.name] = offset, number
                    continue
                try:
                    record = decode(piece[:-1])
                    if (number == 0) != isinstance(record, Header):
                        missing = "the header is missing" if number == 0 else "a second header"
                        raise ValueError(missing)
                except ValueError as error:
                    if not file.readline().endswith(b"\n"):
                        break
                    raise EasiError(
                        f"{path} is damaged in line {number + 1}: {error}",
                        hint="remove that line to keep the other answers, or use --rerun",
                    ) from error
                number += 1
                self._places[path.name] = offset, number
                yield Line(record, path.name, number)
