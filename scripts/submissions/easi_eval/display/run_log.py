"""What a run leaves to follow it by: its lines in the log, and ``events.jsonl``."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from ..core.event_log import EVERY, EventLog
from ..core.events import DataProgress, Emit, Event, Progress, RunEnded, Traceback
from ..core.formats import duration, per_time, size
from ..core.log_lines import stamped
from ..core.redact import Redactor
from .plain import SAID, Lines
from .progress import RunView, Stage

MINUTE = 60.0


class RunLog(Lines):
    """Writes each event to ``events``, what is notable to the log, and passes it on to ``shown``.

    While the context is open, the log has one line of progress a minute. What the disk refuses is
    dropped: it must not end the run.
    """

    def __init__(
        self, log: Path, events: Path, shown: Emit, clock: Callable[[], float] = time.time
    ) -> None:
        super().__init__(clock)
        self._log, self._shown = log, shown
        self._redactor = Redactor.from_environ()
        self._events = EventLog(events, self._redactor, clock)
        self._next = clock() + MINUTE
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._tick, name="progress in the log", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        self._thread.join()
        interrupted = isinstance(error, KeyboardInterrupt)
        ended = RunEnded("interrupted" if interrupted else str(error or ""))
        with self._lock:
            self._events.on(ended)
            if ended.error:
                self._line(ended.error)

    def on(self, event: Event) -> None:
        """Take in one event."""
        with self._lock:
            self._events.on(event)
            if not isinstance(event, Traceback):  # the log has those of the workers
                super().on(event)
        self._shown(event)

    def tick(self) -> None:
        """Write what is due; called every second."""
        with self._lock:
            self._events.flush(EVERY)
            if (now := self._clock()) >= self._next:
                self._next = now + MINUTE
                self._line(progress_line(self._view))

    def _tick(self) -> None:
        while not self._over.wait(1.0):
            self.tick()

    def _progress(self, event: Progress) -> None:
        """Leave it to the line of the minute."""

    def _data(self, event: DataProgress) -> None:
        if event.total is not None and event.done >= event.total:
            super()._data(event)

    def _line(self, text: str) -> None:
        self._write(" ".join(text.split()))

    def _write(self, text: str) -> None:
        data = b"".join(
            stamped(self._redactor.line(line), self._clock()) for line in text.splitlines()
        )
        with suppress(OSError), self._log.open("ab", buffering=0) as file:
            file.write(data)


def progress_line(view: RunView) -> str:
    """Return how far the run is.

    For example "1,204/38,187 questions, 3.3/s, ETA 3 h 05 min, 2 failed; VSI-Bench 1,204/5,130".
    """
    done, total, failed = view.totals
    if view.phase != "answer" or not total:
        data = ", ".join(
            f"{what} {size(got.done)}" + (f" of {size(got.total)}" if got.total else "")
            for what, got in view.data.items()
        )
        if view.phase == "score":
            about = ", ".join(row.title for row in view.rows.values() if not row.state)
        else:
            about = data or view.worker_summary or view.detail
        return ": ".join(filter(None, [SAID.get(view.phase, "beginning"), about]))
    left = view.all_eta
    parts = [
        f"{done:,}/{total:,} questions",
        per_time(view.all_rate),
        "" if left is None else f"ETA {duration(left)}",
        f"{failed:,} failed" if failed else "",
    ]
    now = [
        f"{row.title} {row.done:,}/{row.total:,}"
        for row in view.rows.values()
        if view.stage(row) == Stage.ANSWERING
    ]
    return "; ".join(", ".join(filter(None, some)) for some in (parts, now) if some)
