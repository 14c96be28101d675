"""What worker and scorer over unmodified lmms-eval share: arguments, main module, item ids.

Both run lmms-eval's own ``cli_evaluate_single`` with its tasks, prompts, filters, metrics and
files. Only the object that answers requests is replaced.
"""

from __future__ import annotations

import argparse
import sys
import traceback
from pathlib import Path
from typing import Any

from easi_eval.benchmarks import LMMS_EVAL
from easi_eval.core.errors import is_full, worded
from easi_eval.core.locks import file_lock, lacks_locks
from easi_eval.core.model_args import unquoted
from easi_eval.engine.driver import load_work, without_gc
from easi_eval.engine.vlm.newer_configs import read_newer_configs
from easi_eval.engine.work import Work


def item_id(request: Any) -> str:
    """Return ``task:row``; every process numbers rows alike, in document order."""
    return f"{request.task_name}:{request.doc_id}"


def benchmark_of(task_name: str, work: Work) -> str:
    """Return the key of the benchmark that a request's task belongs to.

    The subtasks of a group (``blink_counting``) begin with the group's name.

    Raises:
        KeyError: The task was not asked for.
    """
    by_task = {assignment.task: assignment.key for assignment in work.benchmarks}
    if task_name in by_task:
        return by_task[task_name]
    prefixes = [task for task in by_task if task_name.startswith(task + "_")]
    if not prefixes:
        raise KeyError(f"lmms-eval built requests of task {task_name!r}, which was not asked for")
    return by_task[max(prefixes, key=len)]


def asked_work(run_root: Path) -> Work:
    """Return what is to be run, from ``--tasks`` and ``--limit`` in ``sys.argv``.

    It is read before lmms-eval is imported, which takes half a minute.
    """
    options = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    options.add_argument("--tasks", default="")
    options.add_argument("--limit", type=int)
    known, _ = options.parse_known_args()
    return load_work(run_root, LMMS_EVAL, known.tasks.split(","), known.limit)


def lmms_eval_main() -> tuple[Any, argparse.Namespace]:
    """Import lmms-eval with our fixes.

    Its logger writes to stdout, as lmms-eval sets it up itself.

    Returns:
        Its main module, and its options from ``sys.argv``.
    """
    with without_gc():
        from lmms_eval import __main__ as main

    read_newer_configs()
    read_yaml_fast()
    _allow_anonymous()
    _find_offline()
    _lock_anywhere()
    _take_off_quotes()
    _, args = main.parse_eval_args()
    main.eval_logger.remove()
    main.eval_logger.add(sys.stdout, level=args.verbosity)
    return main, args


def read_yaml_fast() -> None:
    """Read YAML with libyaml.

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


def _take_off_quotes() -> None:
    """Remove the quotes around a model argument with commas, which lmms-eval leaves in place.

    A path with commas must be quoted among the model arguments.
    """
    from lmms_eval import utils

    value_of = utils.handle_arg_string

    def handle_arg_string(arg: str) -> Any:
        return unquoted(arg) if "," in arg else value_of(arg)

    utils.handle_arg_string = handle_arg_string


def _allow_anonymous() -> None:
    """Read public data anonymously if there is no token.

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


def _find_offline() -> None:
    """Read datasets from the hub's cache when the hub does not answer.

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


def _lock_anywhere() -> None:
    """Use ``easi_eval.core.locks`` on a file system without locks.

    There the datasets library fails, or waits for the lock file that a real lock left behind.
    """
    from datasets import builder

    own = builder.FileLock
    builder.FileLock = lambda path: (
        file_lock(path) if lacks_locks(Path(path).absolute().parent) else own(path)
    )


def _hub_answers() -> bool:
    """Return whether the hub answers one request within five seconds."""
    from huggingface_hub import constants
    from huggingface_hub.utils import get_session

    try:
        answer = get_session().head(constants.ENDPOINT, timeout=5)
    except OSError:  # a connection error; huggingface_hub also raises one in offline mode
        return False
    return answer.status_code < 500  # a proxy answers 5xx for a hub that it cannot reach


def why_unreadable(error: BaseException) -> str:
    """Return in words why a task's data cannot be read.

    lmms-eval's error says only that it retried, and the datasets library's that it failed; the
    reason is in the cause of both.
    """
    full = (
        "a disk took no more while its data were prepared "
        "(HF_DATASETS_CACHE chooses another place): "
        if is_full(error)
        else ""
    )
    while (
        type(error).__name__ in ("RetryError", "DatasetGenerationError")
        and error.__cause__ is not None
    ):
        error = error.__cause__
    return f"{full}{worded(error)}"


def skip_unreadable() -> dict[str, str]:
    """Let a launch go on without the tasks that cannot be read.

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
