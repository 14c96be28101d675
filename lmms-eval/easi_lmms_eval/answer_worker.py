"""Worker over unmodified lmms-eval.

lmms-eval loads a subclass of the real model class, which takes its requests from EASI's queue in
chunks.
"""

from __future__ import annotations

import functools
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from PIL import Image

from easi_eval.backends.lmms_eval.resolve import SERVED_TYPES
from easi_eval.core.errors import EasiError
from easi_eval.engine.bars import silence_bars
from easi_eval.engine.dispatch_client import connect
from easi_eval.engine.driver import without_gc
from easi_eval.engine.generation import Generation
from easi_eval.engine.lease import DispatcherClient
from easi_eval.engine.prefetch import Prefetcher
from easi_eval.engine.vlm.cuts import Decoded
from easi_eval.engine.work import Item, Work
from easi_eval.engine.worker import work_loop

from . import patches
from .model_outputs import equally_long, generation, stop_strings, with_cuts
from .prefetch_media import prefetch_media, prefetch_prompts, read_first_alone, read_in_turn
from .tasks import asked_work, benchmark_of, item_id, list_items

BATCHES = ("batch_size", "batch_size_per_gpu")
# How many requests a client keeps open, by either of its names; num_cpus is async_openai's.
OPEN_REQUESTS = ("num_concurrent", "num_cpus")
ROUNDS = 4  # chunk size of such a client, in multiples of its open requests
# The one client that several threads may call, also through its subclasses. Others may not: gemini,
# for one, ends each call by deleting every uploaded file, those of other calls too.
THREADED = "lmms_eval.models.simple.openai"

# Modules of classes that ask a server or have no model; "served" is that of --base-url.
CLIENTS = SERVED_TYPES | {"served"}


class _QueueEmpty(BaseException):
    """Leaves lmms-eval once the queue is empty.

    It is not an Exception, so that no handler of lmms-eval catches it.
    """


def answer(run_root: Path) -> int:
    """Load the model once, then answer items until none is left.

    Args:
        run_root: Folder of the run.

    Returns:
        The exit code.

    Raises:
        EasiError: lmms-eval can read none of the benchmarks.
    """
    work = asked_work(run_root)
    dispatcher = connect(run_root, work)
    dispatcher.phase("importing lmms-eval")
    with without_gc():
        main, args = patches.import_main()
    unreadable = patches.skip_unreadable()
    launch = _AnswerRun(run_root, work, dispatcher, unreadable, args.verbosity == "DEBUG")

    def queue_model(load: Callable[[], type]) -> type:
        dispatcher.phase("loading the model")
        return _queue_model(load(), launch)

    # lmms-eval writes nothing here; the scorer makes its files from all workers' journals.
    patches.wrap_model(queue_model)
    try:
        main.cli_evaluate_single(args)
    except _QueueEmpty:
        return 0
    except Exception:
        if not unreadable:
            raise
        traceback.print_exc()
    if unreadable:
        dispatcher.phase("nothing can be read")
        why = "; ".join(f"{task}: {reason}" for task, reason in unreadable.items())
        raise EasiError(f"lmms-eval can load none of the benchmarks: {why}", hint="see the log")
    raise RuntimeError("lmms-eval ended without asking the model for answers")


@dataclass(frozen=True)
class _AnswerRun:
    """What the model class of this process answers.

    Attributes:
        unreadable: The reason by task (or group) name; filled while tasks are loaded.
        verbose: Whether lmms-eval's lines on each question are wanted.
    """

    run_root: Path
    work: Work
    dispatcher: DispatcherClient
    unreadable: Mapping[str, str]
    verbose: bool

    def readable(self) -> Work:
        """Return the work without the benchmarks that have a task that cannot be read."""
        lost = {benchmark_of(task, self.work) for task in self.unreadable}
        left = tuple(one for one in self.work.benchmarks if one.key not in lost)
        if not left:
            raise LookupError("no benchmark is left that can be loaded")
        return replace(self.work, benchmarks=left)


def _queue_model(cls: type, launch: _AnswerRun) -> type:
    """Return a subclass of the model class that answers what the queue gives it."""
    from easi_eval.engine.vlm.finite import refuse_noise, refuse_nonfinite
    from easi_eval.engine.vlm.loading import made_with, refuse_spilled
    from easi_eval.engine.vlm.missing_weights import refusing_missing_weights

    def generate_until(self: Any, requests: Sequence[Any]) -> list[Any]:
        _answer_all(self, cls, requests, launch)
        raise _QueueEmpty

    @functools.wraps(cls.__init__)
    def __init__(self: Any, *args: Any, **options: Any) -> None:
        with refusing_missing_weights():
            cls.__init__(self, *args, **options)
        silence_bars()
        refuse_nonfinite(self)
        refuse_spilled(self)
        if not _is_client(cls):
            refuse_noise(self, functools.partial(_ask_canary, self, cls))
        launch.dispatcher.loaded(made_with(self))
        launch.dispatcher.phase("building the questions")

    return type(
        cls.__name__,
        (cls,),
        {"__init__": __init__, "generate_until": generate_until, "__module__": cls.__module__},
    )


def _is_client(cls: type) -> bool:
    """Return whether the class asks a server, or has no model at all."""
    modules = {base.__module__.rpartition(".")[2] for base in cls.__mro__}
    return not CLIENTS.isdisjoint(modules)


def _ask_canary(model: Any, cls: Any, picture: Image.Image, question: str) -> str:
    """Ask the model about a picture, as a task of one question."""
    from lmms_eval.api.instance import Instance, unwrap_generation_output

    name, settings = "easi_canary", {"max_new_tokens": 16, "temperature": 0, "do_sample": False}
    parts = [{"type": "image", "url": picture}, {"type": "text", "text": question}]
    arguments: tuple[Any, ...] = (
        (question, settings, lambda doc: [picture], 0, name, name)
        if cls.is_simple
        else (question, lambda doc: [{"role": "user", "content": parts}], settings, 0, name, name)
    )
    about = {"task": name, "doc_id": 0, "repeats": 1, "split": name}
    model.task_dict[name] = {name: [{}]}
    try:
        outputs = cls.generate_until(model, [Instance("generate_until", arguments, 0, about)])
    finally:
        del model.task_dict[name]
    return str(unwrap_generation_output(outputs[0])[0] or "")


def _answer_all(model: Any, cls: type, requests: Sequence[Any], launch: _AnswerRun) -> None:
    """Answer what the queue gives to this process until every question has an outcome.

    Args:
        model: An instance of the queue's subclass.
        cls: The model class itself.
        requests: All requests of lmms-eval.
        launch: What is to be answered.
    """
    from .generic import EasiVLM
    from .served import EasiServed

    if not launch.verbose:
        patches.log_to_stdout("WARNING")  # classes and tasks have lines for each question
    work = launch.readable()
    keys = {assignment.key for assignment in work.benchmarks}
    requests = [
        request for request in requests if benchmark_of(request.task_name, launch.work) in keys
    ]
    by_id = {item_id(request): request for request in requests}
    items = list_items(launch.run_root, work, requests, model.task_dict)
    decoded = Decoded()

    def answer_chunk(chunk: Sequence[Item]) -> list[Generation | Exception]:
        batch = [by_id[item.id] for item in chunk]
        stops = stop_strings(batch[0])  # before the call: the class takes them out of the request
        decoded.forget()
        outputs = cls.generate_until(model, batch)
        padded = len(batch) > 1 and equally_long(outputs)
        made = [
            generation(request, output, padded)
            for request, output in zip(batch, outputs, strict=False)
        ]
        # Our generic class records more than lmms-eval's result holds, and it cuts no answer.
        return list(model.last) if isinstance(model, EasiVLM) else with_cuts(made, decoded, stops)

    if isinstance(model, EasiServed):
        read_first_alone(requests)
        work_loop(
            launch.run_root,
            work,
            items,
            lambda chunk: [model.answer(by_id[item.id]) for item in chunk],
            dispatcher=launch.dispatcher,
            at_once=lambda: model.client.at_once,
            waiting=model.client.waiting,
        )
        return
    of_id = {item.id: item for group in items.values() for item in group}
    prefetcher = _prefetcher(model, by_id, of_id)
    work_loop(
        launch.run_root,
        work,
        items,
        answer_chunk,
        dispatcher=launch.dispatcher,
        chunk=_piece(model),
        prepare=prefetcher.prepare if prefetcher else None,
        at_once=_open_requests(model),
    )
    if prefetcher:
        print(prefetcher.summary(), flush=True)


def _prefetcher(
    model: Any, requests: Mapping[str, Any], items: Mapping[str, Item]
) -> Prefetcher[Any] | None:
    """Return what reads the next questions ahead; None for a class that reads for itself."""
    from .generic import EasiVLM

    if isinstance(model, EasiVLM):
        return prefetch_prompts(model, requests, items)
    if _open_requests(model) > 1:
        read_in_turn(requests.values())
        # It would read each question's media once more, only to order a single question.
        model.prefix_aware_queue = False
    elif hasattr(model, "num_cpus"):
        patches.keep_event_loop()
    elif _piece(model) == 1:
        # Classes that answer several questions at once may read with threads of their own.
        return prefetch_media(model, requests, items)
    return None


def _open_requests(model: Any) -> int:
    """Return how many threads call a client of a server at once.

    It is as many as the client would keep requests open by itself. Each thread asks one question. A
    paid answer is thus in the journal as soon as it arrives, and no question waits for the slowest
    one of a batch. A client that adapts the number to the server's errors, and any client that is
    not thread-safe, gets 1 and is asked in chunks.
    """
    if getattr(model, "adaptive_concurrency", None) is not False or all(
        base.__module__ != THREADED for base in type(model).__mro__
    ):
        return 1
    return min(int(model.num_concurrent), int(model.adaptive_config.max_concurrency))


def _piece(model: Any) -> int:
    """Return how many questions one call of the model class is given.

    It is the class's batch size, or several rounds of the requests that it keeps open.
    """
    batch, several = (
        max(int(getattr(model, name, 1) or 1) for name in names)
        for names in (BATCHES, OPEN_REQUESTS)
    )
    return batch if several == 1 or _open_requests(model) > 1 else max(batch, ROUNDS * several)
