"""``events.jsonl``: the events of all launches of a run, one JSON object per line.

Each line has the UTC ``time``, the ``event`` (the name of its class) and the fields of the event. A
launch begins with ``RunStarted``.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

from .events import DataProgress, Event, Progress, RunStarted
from .redact import Redactor

STARTED = b'"event": "RunStarted"'
RECENT = 1000  # last lines of which every count is read
EVERY = 1.0  # seconds between two written counts of one benchmark, or of one download
_KINDS: dict[str, type] = {kind.__name__: kind for kind in get_args(Event)}


class EventLog:
    """Appends events to a file, without secrets.

    Of several counts within ``EVERY`` seconds the latest is written. What the disk refuses is
    dropped: it must not end the run.

    Args:
        path: The file.
        redactor: Removes secrets.
        clock: Returns Unix time.
    """

    def __init__(
        self, path: Path, redactor: Redactor, clock: Callable[[], float] = time.time
    ) -> None:
        self._path, self._redactor, self._clock = path, redactor, clock
        self._waiting: dict[str, Event] = {}  # counts that are not written yet
        self._written: dict[str, float] = {}  # when a count was last written
        self._torn = False  # the last line may be incomplete

    def on(self, event: Event) -> None:
        """Write an event, or keep a count until the next one, another event or ``flush``."""
        match event:
            case Progress(benchmark=what) | DataProgress(what=what):
                self._waiting[what] = event
                self.flush(EVERY)
            case _:
                self.flush()
                self._write(event)

    def flush(self, every: float = 0.0) -> None:
        """Write the counts of what was last written at least ``every`` seconds ago."""
        now = self._clock()
        for what in [*self._waiting]:
            if abs(now - self._written.get(what, 0.0)) >= every:  # a clock may be set back
                self._written[what] = now
                self._write(self._waiting.pop(what))

    def _write(self, event: Event) -> None:
        values = {
            name: str(value) if isinstance(value, Path) else value
            for name, value in asdict(event).items()
        }
        line = {"time": stamp(self._clock()), "event": type(event).__name__}
        data = json.dumps({**line, **self._redactor.within(values)}).encode() + b"\n"
        try:
            with self._path.open("ab", buffering=0) as file:
                data = b"\n" * self._torn + data
                self._torn = True
                self._torn = file.write(data) < len(data)
        except OSError:
            return


def stamp(at: float) -> str:
    """Return a Unix time as UTC with milliseconds."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def last_launch(path: Path) -> Iterator[tuple[float, Event]]:
    """Yield the events of the last launch, each with its Unix time; none if there is no file.

    Counts that a later one replaces are left out, but for the latest ones, which tell a rate. So
    are incomplete lines, and events of other versions of this program.
    """
    try:
        data = path.read_bytes()
    except OSError:
        return
    began = data.rfind(b"\n", 0, max(data.rfind(STARTED), 0)) + 1
    for line in _needed(data[began:].splitlines()):
        with contextlib.suppress(ValueError, TypeError, KeyError):
            yield _decode(line)


def _needed(lines: Sequence[bytes]) -> list[bytes]:
    kept, counted = list[bytes](), set[bytes]()
    for age, line in enumerate(reversed(lines)):
        if b'"event": "Progress"' in line:
            benchmark = line.partition(b'"benchmark": ')[2].partition(b",")[0]
            if benchmark in counted and age > RECENT:
                continue
            counted.add(benchmark)
        kept.append(line)
    return kept[::-1]


def _decode(line: bytes) -> tuple[float, Event]:
    values: dict[str, Any] = json.loads(line)
    at = datetime.fromisoformat(values.pop("time")).timestamp()
    kind = _KINDS[values.pop("event")]
    if kind is RunStarted:
        values |= {name: Path(values[name]) for name in ("folder", "log")}
        values |= {name: tuple(map(tuple, values[name])) for name in ("benchmarks", "skipped")}
        values["notes"] = tuple(values["notes"])
    return at, kind(**values)
