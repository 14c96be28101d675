"""When a model that cannot run is given up. Pure: told what happened in this run, it decides what is left out.

A benchmark is set aside when its first questions all raised the same type of exception, or when several workers died over it,
and none of its questions was answered. The run ends when two benchmarks failed alike and no question of any was answered, or
when each worker failed to load the model twice with the same exception. Lack of memory is no reason: fewer workers are tried.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

FIRST = 20  # questions, or all of a smaller benchmark
DEATHS = 3
LOADS = 2

_TYPE = re.compile(r"(?:\w+\.)*(\w+)(?::|$)")
_MEMORY = re.compile(
    r"OutOfMemoryError|MemoryError|out of memory|can't allocate memory", re.IGNORECASE
)
_VARIES = re.compile(r"0x[0-9a-fA-F]+|\d+")


@dataclass(frozen=True)
class Started:
    """A launch of so many workers begins."""

    workers: int


@dataclass(frozen=True)
class Listed:
    """A benchmark's questions are known, and how many of them had no answer when it began."""

    benchmark: str
    questions: int
    left: int


@dataclass(frozen=True)
class Answered:
    """A question of the benchmark was answered."""

    benchmark: str


@dataclass(frozen=True)
class Raised:
    """A question raised ``error`` ("Type: message")."""

    benchmark: str
    item: str
    error: str


@dataclass(frozen=True)
class Died:
    """A worker died while it had a question of the benchmark in hand: ``how`` ("SIGSEGV"), and its last telling line."""

    benchmark: str
    how: str
    line: str = ""


@dataclass(frozen=True)
class LoadFailed:
    """A worker ended before it could ask anything, for a reason that no benchmark can have."""

    worker: str
    how: str
    line: str = ""


Event = Started | Listed | Answered | Raised | Died | LoadFailed


@dataclass(frozen=True)
class Reason:
    """Why something was given up: in words, and the ``error`` as the worker told it."""

    text: str
    error: str


@dataclass(frozen=True)
class Decision:
    """``aside``: the benchmarks that are not asked any more; ``end``: why no more is asked at all. Nothing of both: continue."""

    aside: dict[str, Reason] = field(default_factory=dict)
    end: Reason | None = None


def decide(events: Sequence[Event]) -> Decision:
    """What is to be given up after all ``events`` of this run."""
    lists = {event.benchmark: event for event in events if isinstance(event, Listed)}
    # Answers of earlier launches count: such a model can answer.
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
                    f"not asked: {names} failed alike, and nothing was answered", reason.error
                )
    return Decision({key: reason for key, (_, reason) in aside.items()}, end)


def lacked_memory(events: Sequence[Event]) -> bool:
    """Whether every worker of the last launch failed to load the model for want of memory."""
    workers, failed = _loads(events)
    return 0 < workers <= len(failed) and all(
        lacks_memory(end.line) for ends in failed.values() for end in ends
    )


def lacks_memory(error: str) -> bool:
    return bool(_MEMORY.search(error))


def like(error: str) -> str:
    """What equal errors have in common: numbers and addresses may differ."""
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
    """The last launch: how many workers it has, and which of them failed to load how."""
    workers, failed = 0, dict[str, list[LoadFailed]]()
    for event in events:
        if isinstance(event, Started):
            workers, failed = event.workers, {}
        elif isinstance(event, LoadFailed):
            failed.setdefault(event.worker, []).append(event)
    return workers, failed


def _type(error: str) -> str:
    found = _TYPE.match(error)
    return found[1] if found else error
