"""Run tasks in a few threads while the calling thread reports; the first error ends it all."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence


class Stopped(Exception):
    """Raised inside a task when the others have already failed; never leaves ``run_all``."""


class Pulse:
    """Shared by tasks and reporter: has anything moved lately, and is it time to stop?"""

    def __init__(self) -> None:
        self.stop = threading.Event()
        self.beats = 0
        self._last = time.monotonic()

    def beat(self) -> None:
        self.beats += 1
        self._last = time.monotonic()
        if self.stop.is_set():
            raise Stopped

    def silence(self) -> float:
        """Seconds since anything moved."""
        return time.monotonic() - self._last

    def wait(self, seconds: float) -> None:
        if self.stop.wait(seconds):
            raise Stopped


def run_all(
    tasks: Sequence[Callable[[], None]],
    workers: int,
    pulse: Pulse,
    tick: Callable[[], None],
    interval: float = 0.2,
) -> None:
    """Run every task; ``tick`` is called in this thread about every ``interval`` seconds and once at the end.

    Raises the first error of a task or of ``tick``. The threads are daemons: a download that hangs in a library
    can keep neither Ctrl-C nor the end of the program waiting.
    """
    todo: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
    ended: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()
    for task in tasks:
        todo.put(task)

    def work() -> None:
        while not pulse.stop.is_set():
            try:
                task = todo.get_nowait()
            except queue.Empty:
                return
            try:
                task()
            except BaseException as error:  # handed to the caller, who raises it
                ended.put(error)
            else:
                ended.put(None)

    for _ in range(min(workers, len(tasks))):
        threading.Thread(target=work, daemon=True).start()
    left, last_tick = len(tasks), 0.0
    try:
        while left:
            try:
                error = ended.get(timeout=interval)
            except queue.Empty:
                pass
            else:
                left -= 1
                if error is not None:
                    raise error
            if time.monotonic() - last_tick >= interval:
                last_tick = time.monotonic()
                tick()
        tick()
    except BaseException:
        pulse.stop.set()
        raise
