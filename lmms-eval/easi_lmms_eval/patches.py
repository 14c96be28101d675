"""Everything that is replaced in the imported packages, with the reason beside each name.

First what every process needs, then what workers need, then the scorer. Nothing of a package is
changed on disk.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import functools
import random
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from easi_eval.core.locks import file_lock, lacks_locks
from easi_eval.core.model_args import unquoted
from easi_eval.engine.vlm.newer_configs import read_newer_configs

from .tasks import why_unreadable


def import_main() -> tuple[Any, argparse.Namespace]:
    """Import lmms-eval and apply the patches that every process over it needs.

    Returns:
        Its main module, and its options from ``sys.argv``.
    """
    read_newer_configs()
    from lmms_eval import __main__ as main

    apply()
    _, args = main.parse_eval_args()
    log_to_stdout(args.verbosity)
    return main, args


def log_to_stdout(level: str) -> None:
    """``loguru.logger``: it writes to stdout, where each line is given the time by its reader."""
    from loguru import logger

    logger.remove()
    logger.add(sys.stdout, level=level, format="{level} {name}:{line} {message}")


def apply() -> None:
    """Apply the patches that every process over lmms-eval needs, whatever its role."""
    read_yaml_fast()
    allow_anonymous()
    find_offline()
    lock_anywhere()
    take_off_quotes()


def read_yaml_fast() -> None:
    """``yaml.full_load``: YAML is read with libyaml.

    lmms-eval's index of tasks is built from some 1,800 files, which takes PyYAML's own parser three
    seconds. A file that libyaml cannot read is left to that parser, and so are its errors.
    """
    import yaml

    if not yaml.__with_libyaml__:
        return

    class Loader(yaml.CFullLoader):
        def __init__(self, stream: Any) -> None:
            super().__init__(stream)
            # lmms-eval looks for a task's functions beside its file.
            self.name = getattr(stream, "name", "<file>")

    full_load = yaml.full_load

    def load(stream: Any) -> Any:
        # Copied for every file: lmms-eval registers its tags with FullLoader anew for each one.
        Loader.yaml_constructors = yaml.FullLoader.yaml_constructors
        try:
            return yaml.load(stream, Loader)
        except yaml.YAMLError:
            if hasattr(stream, "seek"):
                stream.seek(0)
            return full_load(stream)

    yaml.full_load = load


def allow_anonymous() -> None:
    """``datasets.load_dataset``: public data is read anonymously if there is no token.

    Some tasks of public data insist on one (``token: True``).
    """
    import datasets
    import huggingface_hub

    if huggingface_hub.get_token():
        return
    load = datasets.load_dataset

    def load_dataset(*args: Any, **options: Any) -> Any:
        if options.get("token") is True:
            options["token"] = None
        return load(*args, **options)

    datasets.load_dataset = load_dataset


def find_offline() -> None:
    """``datasets.load_dataset``: data is read from the hub's cache when the hub does not answer.

    datasets 5 asks the hub for the files of a data set that it has not prepared before. If the hub
    does not answer, it waits half a minute for each file.
    """
    import datasets
    import huggingface_hub
    from huggingface_hub.errors import LocalEntryNotFoundError

    load = datasets.load_dataset

    def load_dataset(path: str, *args: Any, **options: Any) -> Any:
        if Path(path).exists() or _hub_answers():
            return load(path, *args, **options)
        try:
            folder = huggingface_hub.snapshot_download(
                path, repo_type="dataset", local_files_only=True
            )
        except LocalEntryNotFoundError:
            # Prepared by an earlier run; if not, its error says what is wrong.
            return load(path, *args, **options)
        return load(folder, *args, **options)

    datasets.load_dataset = load_dataset


def _hub_answers() -> bool:
    """Return whether the hub answers one request within five seconds."""
    from huggingface_hub import constants
    from huggingface_hub.utils import get_session

    try:
        answer = get_session().head(constants.ENDPOINT, timeout=5)
    # Of which library a connection's error is depends on the version of huggingface_hub, which also
    # raises one in offline mode.
    except Exception:
        return False
    return answer.status_code < 500  # a proxy answers 5xx for a hub that it cannot reach


def lock_anywhere() -> None:
    """``datasets.builder.FileLock``: ``easi_eval.core.locks`` on a file system without locks.

    There the datasets library fails, or waits for the lock file that a real lock left behind.
    """
    from datasets import builder

    own = builder.FileLock
    builder.FileLock = lambda path: (
        file_lock(path) if lacks_locks(Path(path).absolute().parent) else own(path)
    )


def take_off_quotes() -> None:
    """``lmms_eval.utils.handle_arg_string``: a model argument with commas loses its quotes.

    A path with commas must be quoted among the model arguments; lmms-eval leaves the quotes in
    place.
    """
    from lmms_eval import utils

    value_of = utils.handle_arg_string

    def handle_arg_string(arg: str) -> Any:
        return unquoted(arg) if "," in arg else value_of(arg)

    utils.handle_arg_string = handle_arg_string


def wrap_model(make: Callable[[Callable[[], type]], type]) -> None:
    """``lmms_eval.models.get_model``: the model class is what ``make`` returns.

    The loop of lmms-eval asks everything that is asked before it writes anything. ``make`` gets a
    function that imports and returns the real class.
    """
    from lmms_eval import models

    real = models.get_model
    models.get_model = lambda name, force_simple=False: make(
        functools.partial(real, name, force_simple)
    )


def skip_unreadable() -> dict[str, str]:
    """``evaluator.get_task_dict``, ``Task.build_all_requests``: leave out unreadable tasks.

    Stock lmms-eval loads all tasks before the first question, and one failure ends the launch.

    Returns:
        A mapping that will hold the reason by task (or group) name, for a task whose data cannot be
        loaded or whose questions cannot be built.
    """
    from lmms_eval import evaluator
    from lmms_eval.api.task import Task

    unreadable: dict[str, str] = {}
    load, build = evaluator.get_task_dict, Task.build_all_requests

    def note(name: str, error: Exception) -> None:
        traceback.print_exc()
        unreadable[name] = " ".join(why_unreadable(error).split())

    def get_task_dict(names: list[str], *args: Any, **options: Any) -> dict[Any, Any]:
        found: dict[Any, Any] = {}
        for name in names:
            try:
                found |= load([name], *args, **options)
            except Exception as error:  # whatever the task's own code raises
                note(name, error)
        return found

    def build_all_requests(self: Any, **options: Any) -> None:
        try:
            build(self, **options)
        except Exception as error:
            self._instances = []
            note(self.config.task, error)

    evaluator.get_task_dict, Task.build_all_requests = get_task_dict, build_all_requests
    return unreadable


def keep_event_loop() -> None:
    """``asyncio.run``: one event loop for all calls of the model class.

    An asynchronous client loses its connections with the loop.
    """
    asyncio.run = asyncio.Runner().run


def replace_reader(
    request: Any, wrap: Callable[[Callable[..., Any]], Callable[..., Any]]
) -> Callable[..., Any] | None:
    """``Instance.arguments``: wrap the function that reads a request's media.

    Model classes read media with the only function among the arguments (``doc_to_visual`` or
    ``doc_to_messages``), one question at a time and only when they are asked.

    Returns:
        That function, or None if there is not exactly one.
    """
    places = [place for place, argument in enumerate(request.arguments) if callable(argument)]
    if len(places) != 1:
        return None
    place = places[0]
    own: Callable[..., Any] = request.arguments[place]
    request.arguments = (*request.arguments[:place], wrap(own), *request.arguments[place + 1 :])
    return own


def index_tasks_once(main: Any) -> None:
    """``lmms_eval.__main__.TaskManager``: one index of tasks serves all benchmarks.

    Building it reads some thousand YAML files.
    """
    main.TaskManager = functools.cache(main.TaskManager)


def replay(cls: type) -> None:
    """``lmms_eval.models.get_model``: lmms-eval evaluates the model class ``cls``."""
    from lmms_eval import models

    models.get_model = lambda name, force_simple=False: cls


def write_any_character() -> None:
    """``evaluation_tracker.open``: lone surrogates are JSON escapes in lmms-eval's samples file.

    Stock lmms-eval writes UTF-8 without escapes; it would lose that file, and with it the
    benchmark. The task still scores the exact text.
    """
    from lmms_eval.loggers import evaluation_tracker

    evaluation_tracker.open = functools.partial(open, errors="backslashreplace")


@contextlib.contextmanager
def forgiving_aggregation(wanted: bool) -> Iterator[None]:
    """``TaskOutput.calculate_aggregate_metric``: a metric that fails on few questions is NaN.

    VSI-Bench, for example, needs questions of all its directions, and ``--limit`` leaves some out.
    Stock lmms-eval would lose every file of the benchmark. Without a limit (``wanted`` is false) it
    still does, and the benchmark fails.
    """
    from lmms_eval.evaluator_utils import TaskOutput

    calculate = TaskOutput.calculate_aggregate_metric

    def forgiving(self: Any, *args: Any, **options: Any) -> None:
        aggregation = {
            name: _or_nan(function) for name, function in self.task.aggregation().items()
        }
        self.task.aggregation = lambda: aggregation
        calculate(self, *args, **options)

    if wanted:
        TaskOutput.calculate_aggregate_metric = forgiving
    try:
        yield
    finally:
        TaskOutput.calculate_aggregate_metric = calculate


def _or_nan(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def aggregate(*args: Any, **options: Any) -> Any:
        try:
            return function(*args, **options)
        except Exception:  # whatever a task's own code raises
            traceback.print_exc()
            return float("nan")

    return aggregate


@contextlib.contextmanager
def choosing_requests(keep: Callable[[Any, list[Any]], list[Any]]) -> Iterator[None]:
    """``Task.build_all_requests``: inside the context ``keep`` chooses a task's requests.

    lmms-eval has no way to leave out single questions; it skips rows without a request.

    Args:
        keep: Gets a task and all its requests.
    """
    from lmms_eval.api.task import Task

    build = Task.build_all_requests

    def build_all_requests(self: Any, *args: Any, **options: Any) -> None:
        build(self, *args, **options)
        self._instances = keep(self, self._instances)

    Task.build_all_requests = build_all_requests
    try:
        yield
    finally:
        Task.build_all_requests = build


Choose = Callable[[Sequence[Any]], Any]


@contextlib.contextmanager
def wrapped_scoring(
    choice: Callable[[Choose, Sequence[Any]], Any], process_document: Callable[..., Any]
) -> Iterator[None]:
    """``random.choice``, ``evaluator._process_document_results``: wrapped inside the context.

    lmms-eval's files do not say which letters were drawn at random, nor what could not be parsed.

    Args:
        choice: Gets ``random.choice`` itself and the options.
        process_document: Gets the function of the evaluator itself and its arguments.
    """
    from lmms_eval import evaluator

    choose, process = random.choice, evaluator._process_document_results
    random.choice = functools.partial(choice, choose)
    evaluator._process_document_results = functools.partial(process_document, process)
    try:
        yield
    finally:
        random.choice, evaluator._process_document_results = choose, process
