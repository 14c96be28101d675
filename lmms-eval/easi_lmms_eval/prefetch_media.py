"""Reads the next request's images and videos while a model class answers the current one."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from easi_eval.engine.prefetch import Prefetcher
from easi_eval.engine.work import Item

from .patches import replace_reader
from .tasks import item_id


def prefetch_prompts(
    model: Any, requests: Mapping[str, Any], items: Mapping[str, Item]
) -> Prefetcher[Any]:
    """Make our own class's prompts ahead, videos decoded, by replacing its ``prompt``.

    Args:
        model: An ``EasiVLM``.
        requests: lmms-eval's requests by item id.
        items: The queue's items by item id.
    """
    make = model.prompt
    prefetcher: Prefetcher[Any] = Prefetcher(lambda item: make(requests[item.id]))
    model.prompt = lambda request: prefetcher.take(items[item_id(request)])
    return prefetcher


def prefetch_media(
    model: Any, requests: Mapping[str, Any], items: Mapping[str, Item]
) -> Prefetcher[Any]:
    """Read media ahead for lmms-eval's own classes.

    Such a class reads a request's media with the function among the request's arguments
    (``doc_to_visual`` or ``doc_to_messages``). That function is replaced by one that returns what a
    thread has read.

    Args:
        model: A model class of lmms-eval.
        requests: lmms-eval's requests by item id.
        items: The queue's items by item id.
    """
    reads: dict[str, Callable[..., Any]] = {}

    def read(item: Item) -> Any:
        request = requests[item.id]
        if item.id not in reads:
            raise LookupError("its images are read in another way")
        return reads[item.id](
            model.task_dict[request.task_name][request.metadata["split"]][request.doc_id]
        )

    prefetcher: Prefetcher[Any] = Prefetcher(read)
    for name, request in requests.items():
        if (
            own := replace_reader(request, functools.partial(_first_from, prefetcher, items[name]))
        ) is not None:
            reads[name] = own
    return prefetcher


def read_in_turn(requests: Iterable[Any]) -> None:
    """Let one thread at a time read a request's media, for classes that several threads ask.

    The tasks' code that unpacks and decodes media is not written for several threads.
    """
    lock = threading.Lock()
    for request in requests:
        replace_reader(request, functools.partial(_locked, lock))


def read_first_alone(requests: Iterable[Any]) -> None:
    """Let the first request of each task that is read finish before others are.

    Tasks unpack archives and index folders when their media are first read. Afterwards each request
    reads files of its own, which several threads may do.
    """
    locks: dict[str, threading.Lock] = {}
    read_before: set[str] = set()
    for request in requests:
        task = request.task_name
        lock = locks.setdefault(task, threading.Lock())
        replace_reader(request, functools.partial(_first_alone, task, lock, read_before))


def _first_alone(
    task: str, lock: threading.Lock, read_before: set[str], read: Callable[..., Any]
) -> Callable[..., Any]:
    @functools.wraps(read)
    def alone(*args: Any, **options: Any) -> Any:
        if task in read_before:
            return read(*args, **options)
        with lock:
            result = read(*args, **options)
        read_before.add(task)
        return result

    return alone


def _locked(lock: threading.Lock, read: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(read)
    def locked(*args: Any, **options: Any) -> Any:
        with lock:
            return read(*args, **options)

    return locked


def _first_from(
    prefetcher: Prefetcher[Any], item: Item, read: Callable[..., Any]
) -> Callable[..., Any]:
    """Wrap ``read`` so that its first plain call returns what was read ahead.

    Later calls, and calls with other arguments, read again: a class may change what it was given.
    """
    given = False

    def first(*args: Any, **options: Any) -> Any:
        nonlocal given
        if given or len(args) != 1 or options:
            return read(*args, **options)
        given = True
        return prefetcher.take(item, lambda: read(*args))

    return first
