"""A display that prints one line per notable event: for pipes, CI logs and ``--no-rich``."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import nullcontext, suppress
from types import TracebackType
from typing import Protocol, Self, TextIO

from ..core.events import (
    BenchmarkScored,
    DataProgress,
    Event,
    Notice,
    PhaseStarted,
    Progress,
    RunStarted,
    Traceback,
    WorkerPhase,
)
from ..core.formats import clock_time, duration, per_time, percent, size
from .progress import RunView, shown

EVERY = 10.0  # seconds between two lines of progress; longer in long runs, see _due
SOONEST = 2.0  # shortest interval, used when a tenth of the work was passed
SAID = {
    "prepare": "preparing the data",
    "start": "starting",
    "answer": "generating",
    "score": "scoring",
    "collect": "collecting results",
    "submit": "submitting",
}


class Display(Protocol):
    """Shows the events of a run.

    On exit it restores the terminal, also when the run ended with an error.
    """

    def on(self, event: Event) -> None:
        """Take in one event and show it."""
        ...

    def stopping(self) -> None:
        """Show that the run is being stopped; may be called by a signal handler."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


class Lines:
    """Says one line per notable event; ``_line`` and ``_write`` say where."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._view = RunView(clock)
        self._last = -EVERY  # when the last line of progress was written
        self._tenths: dict[str, int] = {}
        self._phases: set[str] = set()
        self._visited: dict[str, set[str]] = {}

    def on(self, event: Event) -> None:
        """Write what the event is worth in a log; progress is thinned out (see ``_due``)."""
        self._view.on(event)
        match event:
            case RunStarted():
                self._started(event)
            case PhaseStarted(phase, detail):
                self._line(SAID.get(phase, phase) + (f": {detail}" if detail else ""))
            case DataProgress():
                self._data(event)
            case WorkerPhase(worker, phase):
                self._worker(worker, phase)
            case Progress():
                self._progress(event)
            case BenchmarkScored():
                self._scored(event)
            case Notice(text, level):
                self._line(f"{'warning: ' if level == 'warning' else ''}{text}")
            case Traceback(text):
                self._write(text)

    def _started(self, event: RunStarted) -> None:
        self._line(f"model {event.model} on {event.backend} ({event.model_class})")
        self._line(f"results {event.folder}")
        self._line(f"log {event.log}")
        for note in event.notes:
            self._line(note)
        for key, reason in event.skipped:
            self._line(f"skipped {self._view.title(key)}: {reason}")

    def _data(self, event: DataProgress) -> None:
        total = event.total
        if total is not None and event.done >= total:
            self._tenths.pop(event.what, None)
            self._line(f"fetched {event.what} ({size(total)})")
        elif self._due(event.what, event.done, total):
            of = f" of {size(total)}, {percent(event.done, total)}" if total else ""
            self._line(f"fetching {event.what}: {size(event.done)}{of}")

    def _worker(self, worker: str, phase: str) -> None:
        """Print a phase when the first worker reaches it, and every restart or end of a worker.

        A worker that returns to a phase it has passed was restarted.
        """
        visited = self._visited.setdefault(worker, set())
        if phase in visited and phase != "answering":
            self._line(f"{worker} again: {shown(phase)}")
            visited.clear()
        elif phase not in self._phases or phase.startswith("g"):  # "gone", "gave up"
            self._line(f"{worker}: {shown(phase)}")
        visited.add(phase)
        self._phases.add(phase)

    def _progress(self, event: Progress) -> None:
        if event.total == 0 or event.answered_now == 0:
            return
        whole = event.done >= event.total
        if not self._due(event.benchmark, event.done, event.total) and not whole:
            return
        row = self._view.row(event.benchmark)
        done, total, _ = self._view.totals
        share = percent(event.done, event.total)
        parts = [f"{event.done}/{event.total} questions ({share})"]
        if event.failed:
            parts.append(f"{event.failed} failed")
        if (eta := self._view.eta_of(row)) is not None:
            parts += [per_time(self._view.rate_of(row)), f"ETA {duration(eta)}"]
        text = f"{row.title}: {', '.join(parts)}"
        if len(self._view.rows) > 1:
            text += f"; all {done}/{total} ({percent(done, total)})"
            if (rest := self._view.all_eta) is not None:
                about = "more than" if self._view.uncounted else "about"
                text += f", {per_time(self._view.all_rate)}, ETA {about} {duration(rest)}"
        self._line(text)

    def _scored(self, event: BenchmarkScored) -> None:
        score = "" if event.score is None else f" {event.score:.2f}"
        reason = f": {event.reason}" if event.reason else ""
        self._line(f"{event.state} {self._view.title(event.benchmark)}{score}{reason}")

    def _due(self, what: str, done: int, total: int | None) -> bool:
        """Whether to print a line of progress now.

        The interval is 10 s, or a 60th of the elapsed time in runs of more than ten minutes. A
        passed tenth of the work is printed earlier, but at least 2 s after the last line.
        """
        waited = self._clock() - self._last
        tenth = 10 * done // total if total else 0
        passed = tenth > self._tenths.get(what, 0)
        if waited < (SOONEST if passed else max(EVERY, self._view.elapsed / 60)):
            return False
        self._tenths[what] = tenth
        self._last = self._clock()
        return True

    def _line(self, text: str) -> None:
        """Say the line ``text``."""
        raise NotImplementedError

    def _write(self, text: str) -> None:
        """Say ``text`` as it is."""
        raise NotImplementedError


class PlainDisplay(Lines):
    """Writes one line per event to ``stream``, each with the time since the start."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(clock)
        self._stream = stream

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # After an error the reader of the pipe may be gone; that must not hide the error itself.
        with suppress(OSError) if error is not None else nullcontext():
            self._stream.flush()

    def stopping(self) -> None:
        """Write that the run is being stopped, past the stream's buffer, which may be in use."""
        line = f"[{clock_time(self._view.elapsed)}] {self._view.stopping}\n"
        with suppress(OSError):  # the terminal is gone, or the stream has no file
            os.write(self._stream.fileno(), line.encode())

    def _line(self, text: str) -> None:
        self._write(f"[{clock_time(self._view.elapsed)}] {' '.join(text.split())}")

    def _write(self, text: str) -> None:
        line = f"{text}\n"
        encoding = self._stream.encoding or "utf-8"
        self._stream.write(line.encode(encoding, "backslashreplace").decode(encoding))
        self._stream.flush()
