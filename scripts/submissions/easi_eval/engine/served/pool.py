"""Several servers of one model: who is asked next, how many questions at once, who is gone."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from ...core.errors import EasiError, ExitCode, ServersGone
from .replies import ServerBusy, ServerDown

VARIABLE = "EASI_SERVER_SECONDS"
PATIENCE = 900.0  # seconds without any answering server after which a run ends
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 30.0  # seconds until a server in trouble is asked again
LOOK_EVERY = 1.0
DROPS = 5  # a question over which a server that was well ended so often is failed

Answer = TypeVar("Answer")


class _Named(Protocol):
    @property
    def url(self) -> str: ...


ServerT = TypeVar("ServerT", bound=_Named)


@dataclass
class _State(Generic[ServerT]):
    """A server, as this process knows it.

    Attributes:
        limit: How many questions it may have at once; grows by one per so many answers.
        trouble: Why it is not asked as usual; empty: it is.
        down_since: When the trouble began.
        retry_at: When one question tries whether the trouble is over.
        changed: When ``limit`` was halved or ``retry_at`` was set. Requests that began earlier
            tell nothing new.
    """

    server: ServerT
    limit: float
    open: int = 0
    trouble: str = ""
    down_since: float = 0.0
    retry_at: float = 0.0
    pause: float = FIRST_PAUSE
    changed: float = float("-inf")

    def free(self, now: float) -> bool:
        """Whether it may be asked one question more."""
        if self.trouble:
            return now >= self.retry_at
        return self.open < int(self.limit)


class ServerPool(Generic[ServerT]):
    """Asks the server with the fewest open questions; several threads may call ``ask``.

    Args:
        servers: The servers.
        start: Open questions of each server at first.
        most: The most open questions of each server.
        patience: See ``PATIENCE``.
        clock: Gives seconds.
        every: Seconds between two looks at the clock while none is free.
    """

    def __init__(
        self,
        servers: Sequence[ServerT],
        start: int,
        most: int,
        patience: float = PATIENCE,
        clock: Callable[[], float] = time.monotonic,
        every: float = LOOK_EVERY,
    ) -> None:
        self._states = [_State(server, float(start)) for server in servers]
        self._most, self._patience, self._clock = max(most, start), patience, clock
        self._every = every
        self._changed = threading.Condition()

    @property
    def width(self) -> int:
        """How many questions all servers may have at once now."""
        with self._changed:
            return sum(int(state.limit) for state in self._states)

    def waiting(self) -> str:
        """Return what this process waits for, if no server answers; else ""."""
        with self._changed:
            if not all(state.trouble for state in self._states):
                return ""
            return "waiting for " + "; ".join(
                f"{state.server.url}: {state.trouble}" for state in self._states
            )

    def ask(self, question: Callable[[ServerT], Answer]) -> Answer:
        """Return what ``question`` returns for a server; waits until one is free.

        A question whose server goes away is asked of another one, or of the same one later.

        Raises:
            ServersGone: All servers have been in trouble for longer than ``patience``.
            RuntimeError: Servers end over this question again and again.
            Exception: Any other error of ``question``.
        """
        drops = 0
        while True:
            state, began, trial = self._take()
            try:
                answer = question(state.server)
            except ServerDown as error:
                self._in_trouble(state, str(error), began)
                drops += error.asked and not trial
                if drops >= DROPS:
                    raise RuntimeError(
                        f"{drops} times a server failed while answering this: {error}"
                    ) from error
            except ServerBusy as error:
                self._in_trouble(state, str(error), began, error.seconds, halve=True)
            except TimeoutError:
                self._halve(state, began)
                raise
            else:
                self._well(state, began)
                return answer
            finally:
                self._release(state)

    def _take(self) -> tuple[_State[ServerT], float, bool]:
        """Wait for a server; returns it, the time, and whether this tries one in trouble."""
        with self._changed:
            while True:
                now = self._clock()
                free = [state for state in self._states if state.free(now)]
                if free:
                    # One that is to be tried again comes first.
                    state = min(free, key=lambda each: (not each.trouble, each.open))
                    state.retry_at = now + state.pause
                    state.open += 1
                    return state, now, bool(state.trouble)
                self._check_gone(now)
                self._changed.wait(self._every)

    def _check_gone(self, now: float) -> None:
        if not all(state.trouble for state in self._states):
            return
        if now - max(state.down_since for state in self._states) > self._patience:
            told = "; ".join(f"{state.server.url}: {state.trouble}" for state in self._states)
            raise ServersGone(
                f"no server has answered for {self._patience:g} s ({told})",
                hint="start them again; the same command, also with another --base-url, resumes",
                code=ExitCode.INCOMPLETE,
            )

    def _release(self, state: _State[ServerT]) -> None:
        with self._changed:
            state.open -= 1
            self._changed.notify_all()

    def _well(self, state: _State[ServerT], began: float) -> None:
        with self._changed:
            if began < state.changed:
                return
            if state.open >= int(state.limit):
                state.limit = min(self._most, state.limit + 1 / int(state.limit))
            state.trouble, state.pause = "", FIRST_PAUSE

    def _in_trouble(
        self,
        state: _State[ServerT],
        why: str,
        began: float,
        seconds: float | None = None,
        halve: bool = False,
    ) -> None:
        with self._changed:
            now = self._clock()
            if not state.trouble:
                state.down_since = now
            state.trouble = why
            if began < state.changed:
                return
            if halve:
                state.limit = max(1.0, state.limit / 2)
            state.retry_at = now + (state.pause if seconds is None else seconds)
            state.pause = min(2 * state.pause, LONGEST_PAUSE)
            state.changed = now

    def _halve(self, state: _State[ServerT], began: float) -> None:
        with self._changed:
            if began >= state.changed:
                state.limit, state.changed = max(1.0, state.limit / 2), self._clock()


def patience() -> float:
    """Return the seconds that a run waits for its servers (``EASI_SERVER_SECONDS``).

    Raises:
        EasiError: The variable is no number of seconds.
    """
    text = os.environ.get(VARIABLE, "").strip()
    try:
        seconds = float(text) if text else PATIENCE
    except ValueError:
        seconds = -1.0
    if not 0 < seconds < 1e6:
        raise EasiError(
            f"{VARIABLE} is {text!r}", hint="write a number of seconds, for example 900"
        )
    return seconds
