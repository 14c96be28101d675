"""Worker over unmodified lmms-eval.

lmms-eval loads a subclass of the real model class, which takes its requests from EASI's queue in
chunks.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from easi_eval.core.errors import EasiError
from easi_eval.engine.generation import Generation
from easi_eval.engine.journal import Journal
from easi_eval.engine.vlm.cuts import Decoded
from easi_eval.engine.work import Item, ItemList, Work
from easi_eval.engine.worker import open_journal, work_loop

from .costs import costs
from .prefetch_media import media_ahead, prompts_ahead, read_in_turn
from .session import asked_work, benchmark_of, item_id, lmms_eval_main, skip_unreadable

# Beginnings of the texts that classes of served models return when every retry failed, and for
# questions that they did not send because the tokens of --max_tokens are used up
# (lmms_eval/models/chat/openai.py).
NO_ANSWER = ("[LMMS_EVAL_REQUEST_FAILED", "[LMMS_EVAL_BUDGET_EXCEEDED")
BATCHES = ("batch_size", "batch_size_per_gpu")
# How many requests a client keeps open, by either of its names; num_cpus is async_openai's.
OPEN_REQUESTS = ("num_concurrent", "num_cpus")
ROUNDS = 4  # chunk size of such a client, in multiples of its open requests
# The one client that several threads may call, also through its subclasses. Others may not: gemini,
# for one, ends each call by deleting every uploaded file, those of other calls too.
THREADED = "lmms_eval.models.simple.openai"


class _Answered(BaseException):
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
    journal = open_journal(run_root, work)
    journal.phase("importing lmms-eval")
    main, args = lmms_eval_main()
    from lmms_eval import models

    # lmms-eval writes nothing here; the scorer makes its files from all workers' journals.
    real_get_model = models.get_model
    unreadable = skip_unreadable()

    def get_model(name: str, force_simple: bool = False) -> type:
        journal.phase("loading the model")
        return _queue_model(real_get_model(name, force_simple), run_root, work, journal, unreadable)

    models.get_model = get_model
    try:
        main.cli_evaluate_single(args)
    except _Answered:
        return 0
    except Exception:
        if not unreadable:
            raise
        traceback.print_exc()
    if unreadable:
        journal.phase("nothing can be read")
        why = "; ".join(f"{task}: {reason}" for task, reason in unreadable.items())
        raise EasiError(
            f"lmms-eval can read none of what is asked: {why}", hint="the log has the whole story"
        )
    raise RuntimeError("lmms-eval ended without asking the model for answers")


def _queue_model(
    cls: type, run_root: Path, work: Work, journal: Journal, unreadable: Mapping[str, str]
) -> type:
    """Return a subclass of the model class that answers what the queue gives it.

    Benchmarks with a task in ``unreadable`` are left out.
    """
    from easi_eval.engine.vlm.loading import made_with, refuse_spilled
    from easi_eval.engine.vlm.missing_weights import refusing_missing_weights

    from .generic import EasiVLM

    def generate_until(self: Any, requests: Sequence[Any]) -> list[Any]:
        lost = {benchmark_of(task, work) for task in unreadable}
        work_left = replace(
            work, benchmarks=tuple(one for one in work.benchmarks if one.key not in lost)
        )
        if not work_left.benchmarks:
            raise LookupError("no benchmark is left that can be read")
        requests = [
            request for request in requests if benchmark_of(request.task_name, work) not in lost
        ]
        by_id = {item_id(request): request for request in requests}
        items = _list_items(run_root, work_left, requests, self.task_dict)

        of_id = {item.id: item for group in items.values() for item in group}
        piece, at_once, ahead = _piece(self), _open_requests(self), None
        decoded = Decoded()
        if isinstance(self, EasiVLM):
            ahead = prompts_ahead(self, by_id, of_id)
        elif at_once > 1:
            read_in_turn(by_id.values())
            # It would read each question's media once more, only to order a single question.
            self.prefix_aware_queue = False
        elif hasattr(self, "num_cpus"):
            # One event loop for all chunks: an asynchronous client loses its connections with it.
            asyncio.run = asyncio.Runner().run
        elif piece == 1:  # classes that answer several at once may read with threads of their own
            ahead = media_ahead(self, by_id, of_id)

        def answer_chunk(chunk: Sequence[Item]) -> list[Generation | Exception]:
            batch = [by_id[item.id] for item in chunk]
            stops = _stops(batch[0])  # before the call: the class takes them out of the request
            decoded.forget()
            outputs = cls.generate_until(self, batch)
            padded = len(batch) > 1 and _equally_long(outputs)
            made = [
                _generation(request, output, padded)
                for request, output in zip(batch, outputs, strict=False)
            ]
            # Our generic class records more than lmms-eval's result holds, and it cuts no answer.
            return list(self.last) if isinstance(self, EasiVLM) else with_cuts(made, decoded, stops)

        work_loop(
            run_root,
            work_left,
            items,
            answer_chunk,
            journal=journal,
            chunk=piece,
            prepare=ahead.prepare if ahead else None,
            at_once=at_once,
        )
        if ahead:
            print(ahead.summary(), flush=True)
        raise _Answered

    @functools.wraps(cls.__init__)
    def __init__(self: Any, *args: Any, **options: Any) -> None:
        with refusing_missing_weights():
            cls.__init__(self, *args, **options)
        refuse_spilled(self)
        journal.loaded(made_with(self))
        journal.phase("building the questions")

    return type(
        cls.__name__,
        (cls,),
        {"__init__": __init__, "generate_until": generate_until, "__module__": cls.__module__},
    )


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


def _list_items(
    run_root: Path, work: Work, requests: Sequence[Any], task_dict: Mapping[str, Any]
) -> dict[str, list[Item]]:
    """Group requests by benchmark and save the list of item ids in the run's folder.

    Progress, scoring and the check for completeness read that list.
    """
    items: dict[str, list[Item]] = {assignment.key: [] for assignment in work.benchmarks}
    rows: dict[str, dict[str, int]] = {key: {} for key in items}
    for request, cost in zip(requests, costs(requests, task_dict), strict=True):
        key = benchmark_of(request.task_name, work)
        items[key].append(Item(key, item_id(request), cost))
        rows[key][request.task_name] = len(task_dict[request.task_name][request.metadata["split"]])
    for key, found in items.items():
        limit = next(assignment.limit for assignment in work.benchmarks if assignment.key == key)
        ItemList(
            key,
            sum(rows[key].values()),
            tuple(item.id for item in found),
            limit,
            tuple(item.cost for item in found),
        ).save(run_root)
    return items


def _equally_long(outputs: Sequence[Any]) -> bool:
    """Return whether all outputs report the same number of tokens.

    Classes that pad a batch report the length of its longest answer for each.
    """
    from lmms_eval.api.instance import unwrap_generation_output

    counts = [
        counted.output_tokens if counted else None
        for _, counted in map(unwrap_generation_output, outputs)
    ]
    return len(set(counts)) == 1


def _stops(request: Any) -> Sequence[str]:
    """Return the stop strings that the task gives to the class."""
    until = next((arg for arg in request.args if isinstance(arg, dict)), {}).get("until")
    return [
        stop
        for stop in ([until] if isinstance(until, str) else until or [])
        if isinstance(stop, str) and stop
    ]


def with_cuts(
    made: Sequence[Generation | Exception], decoded: Decoded, stops: Sequence[str]
) -> list[Generation | Exception]:
    """Add to each answer the stop string at which it was cut, if the decoded text shows one.

    Args:
        made: Answers in the order of the requests.
        decoded: The texts that tokenizers decoded during the call.
        stops: The task's stop strings.
    """
    texts = [
        one.text if isinstance(one, Generation) and isinstance(one.text, str) else ""
        for one in made
    ]
    return [
        replace(one, cut=cut) if cut and isinstance(one, Generation) else one
        for one, cut in zip(made, decoded.cuts(texts, stops), strict=True)
    ]


def _generation(request: Any, output: Any, padded: bool) -> Generation | Exception:
    """Return the class's output for one request as our own type.

    Args:
        request: lmms-eval's request.
        output: What the class returned for it.
        padded: Whether the token count may be that of the longest answer of the batch. If so, a
            count at the limit does not show that this answer was cut off.

    Returns:
        A ConnectionError if the server never answered or was not asked.
    """
    from lmms_eval.api.instance import unwrap_generation_output

    text, counts = unwrap_generation_output(output)
    if text is None:  # lmms-eval takes it for an empty answer
        text = ""
    if isinstance(text, str) and text.startswith(NO_ANSWER):
        return ConnectionError(text)
    prompt = request.args[0] if isinstance(request.args[0], str) else ""
    options = next((arg for arg in request.args if isinstance(arg, dict)), {})
    tokens = counts.output_tokens if counts is not None else None
    limit = options.get("max_new_tokens")
    finish = None
    if tokens is not None and isinstance(limit, int) and (tokens < limit or not padded):
        # An answer that ends exactly at the limit counts as cut off.
        finish = "length" if tokens >= limit else "stop"
    return Generation(
        text, tokens=tokens, finish=finish, prompt=hashlib.sha256(prompt.encode()).hexdigest()[:16]
    )
