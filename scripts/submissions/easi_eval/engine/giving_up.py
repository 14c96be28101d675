"""Decide when to stop asking a model that does not work. Pure: the input is the run's events.

A benchmark is set aside if none of its questions was answered and either its first questions all
raised the same type of exception or several workers died over it.

The run ends if two benchmarks failed in the same way and no question of any benchmark was answered,
or if every worker failed twice to load the model with the same exception. A lack of memory is never
a reason: fewer workers are tried instead.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

FIRST = 20  # questions that all have to raise the same type; all of a smaller benchmark
DEATHS = 3  # of workers over one benchmark
LOADS = 2  # failed loads of each worker

_TYPE = re.compile(r"(?:\w+\.)*(\w+)(?::|$)")
_MEMORY = re.compile(
    r"OutOfMemoryError|MemoryError|out of memory|can't allocate memory", re.IGNORECASE
)
_VARIES = re.compile(r"0x[0-9a-fA-F]+|\d+")


@dataclass(frozen=True)
class Started:
    """A launch with this number of workers begins."""

    workers: int


@dataclass(frozen=True)
class Joined:
    """Another machine has started this number of workers in this launch."""

    workers: int


@dataclass(frozen=True)
class Listed:
    """The questions of a benchmark are known.

    Attributes:
        benchmark: Its key.
        questions: Number of questions.
        left: Number of questions without an answer at that time.
    """

    benchmark: str
    questions: int
    left: int


@dataclass(frozen=True)
class Answered:
    """A question of the benchmark was answered."""

    benchmark: str


@dataclass(frozen=True)
class Raised:
    """A question raised an exception; ``error`` is "Type: message"."""

    benchmark: str
    item: str
    error: str


@dataclass(frozen=True)
class Died:
    """A worker died while it was answering a question of the benchmark.

    Attributes:
        benchmark: Its key.
        how: The signal or exit code, for example ``SIGSEGV``.
        line: The most informative of its last lines of output.
    """

    benchmark: str
    how: str
    line: str = ""


@dataclass(frozen=True)
class LoadFailed:
    """A worker ended before it asked anything, for a reason unrelated to a benchmark."""

    worker: str
    how: str
    line: str = ""


Event = Started | Joined | Listed | Answered | Raised | Died | LoadFailed


@dataclass(frozen=True)
class Reason:
    """Why something was given up: ``text`` in words, ``error`` as the worker reported it."""

    text: str
    error: str


@dataclass(frozen=True)
class Decision:
    """What to stop; the default continues everything.

    Attributes:
        aside: Benchmarks whose questions are no longer asked, with the reason.
        end: Why the whole run ends, or None.
    """

    aside: dict[str, Reason] = field(default_factory=dict)
    end: Reason | None = None


def decide(events: Sequence[Event]) -> Decision:
    """Return what to give up after all ``events`` of this run."""
    lists = {event.benchmark: event for event in events if isinstance(event, Listed)}
    # Answers of earlier launches count: they show that the model can answer.
    answered = {event.benchmark for event in events if isinstance(event, Answered)}
    answered |= {key for key, event in lists.items() if event.left < event.questions}
    aside: dict[str, tuple[str, Reason]] = {}
    for listed in lists.values():
        if listed.benchmark in answered:
            continue
        if failed := _raised(listed, events) or _died(listed, events):
            aside[listed.benchmark] = failed
    end = _cannot_load(events)
    alike = Counter(kind for kind, _ in aside.values())
    if end is None and not answered:
        for kind, reason in aside.values():
            if alike[kind] > 1:
                names = ", ".join(key for key, (its, _) in aside.items() if its == kind)
                end = Reason(
                    f"not asked: {names} failed in the same way, and no question was answered",
                    reason.error,
                )
    return Decision({key: reason for key, (_, reason) in aside.items()}, end)


def lacked_memory(events: Sequence[Event]) -> bool:
    """Whether every worker of the last launch failed to load the model for lack of memory."""
    workers, failed = _loads(events)
    return 0 < workers <= len(failed) and all(
        lacks_memory(end.line) for ends in failed.values() for end in ends
    )


def lacks_memory(error: str) -> bool:
    """Whether an error message reports a lack of memory."""
    return bool(_MEMORY.search(error))


def like(error: str) -> str:
    """Return the message with numbers and addresses masked, to compare similar errors."""
    return _VARIES.sub("#", error)


def _raised(listed: Listed, events: Sequence[Event]) -> tuple[str, Reason] | None:
    raised: dict[str, str] = {}
    for event in events:
        if (
            isinstance(event, Raised)
            and event.benchmark == listed.benchmark
            and not lacks_memory(event.error)
        ):
            raised.setdefault(event.item, event.error)
    first = list(raised.values())[:FIRST]
    kinds = {_type(error) for error in first}
    if not first or len(first) < min(FIRST, listed.questions) or len(kinds) > 1:
        return None
    (kind,) = kinds
    return kind, Reason(
        f"set aside: its first {len(first)} questions raised {kind}, none was answered", first[0]
    )


def _died(listed: Listed, events: Sequence[Event]) -> tuple[str, Reason] | None:
    deaths = [
        event
        for event in events
        if isinstance(event, Died)
        and event.benchmark == listed.benchmark
        and not lacks_memory(event.line)
    ]
    if len(deaths) < DEATHS:
        return None
    last = deaths[-1]
    return _type(last.line) if last.how.startswith("exit code") else last.how, Reason(
        f"set aside: {len(deaths)} workers died over it, none of its questions was answered",
        f"{last.how}: {last.line}",
    )


def _cannot_load(events: Sequence[Event]) -> Reason | None:
    workers, failed = _loads(events)
    if not 0 < workers <= len(failed):
        return None
    errors: set[str] = set()
    for ends in failed.values():
        told = Counter(
            like(end.line)
            for end in ends
            if end.how.startswith("exit code") and not lacks_memory(end.line)
        )
        error, count = told.most_common(1)[0] if told else ("", 0)
        if count < LOADS:
            return None
        errors.add(error)
    if len(errors) > 1:
        return None
    last = next(iter(failed.values()))[-1]
    return Reason("the model could not be loaded", f"{last.how} after {LOADS} starts: {last.line}")


def _loads(events: Sequence[Event]) -> tuple[int, dict[str, list[LoadFailed]]]:
    """Return the number of workers of the last launch and their failed loads, by worker."""
    workers, failed = 0, dict[str, list[LoadFailed]]()
    for event in events:
        if isinstance(event, Started):
            workers, failed = event.workers, {}
        elif isinstance(event, Joined):
            workers += event.workers
        elif isinstance(event, LoadFailed):
            failed.setdefault(event.worker, []).append(event)
    return workers, failed


def _type(error: str) -> str:
    found = _TYPE.match(error)
    return found[1] if found else error
