"""Run tasks in a few threads while the calling thread reports; the first error stops all."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence


class Stopped(Exception):
    """Raised inside a task to stop it after another task failed; ``run_all`` never raises it."""


class Pulse:
    """State shared by tasks and reporting thread: the time of the last progress, and a stop flag.

    Attributes:
        stop: Set to end all tasks.
        beats: Number of calls of ``beat``.
    """

    def __init__(self) -> None:
        self.stop = threading.Event()
        self.beats = 0
        self._last = time.monotonic()

    def beat(self) -> None:
        """Record progress.

        Raises:
            Stopped: The tasks are to end.
        """
        self.beats += 1
        self._last = time.monotonic()
        if self.stop.is_set():
            raise Stopped

    def silence(self) -> float:
        """Return the seconds since the last progress."""
        return time.monotonic() - self._last

    def wait(self, seconds: float) -> None:
        """Sleep.

        Raises:
            Stopped: The tasks are to end.
        """
        if self.stop.wait(seconds):
            raise Stopped


def run_all(
    tasks: Sequence[Callable[[], None]],
    workers: int,
    pulse: Pulse,
    tick: Callable[[], None],
    interval: float = 0.2,
) -> None:
    """Run every task in at most ``workers`` threads.

    ``tick`` is called in the calling thread about every ``interval`` seconds and once at the end.
    The first error of a task or of ``tick`` is raised. The threads are daemons, so that a download
    that hangs in a library delays neither Ctrl-C nor the end of the program.
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
            except BaseException as error:  # raised in the calling thread
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
