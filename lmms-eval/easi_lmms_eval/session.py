"""What both roles over unmodified lmms-eval share: what is asked, its own main module, and how an item is called.

Both run lmms-eval's own ``cli_evaluate_single``: its tasks, prompts, filters, metrics and files. The only thing
replaced is the object that answers requests.
"""

from __future__ import annotations

import argparse
import sys
import traceback
from pathlib import Path
from typing import Any

from easi_eval.answering.driver import importing, load_work
from easi_eval.answering.newer_configs import read_newer_configs
from easi_eval.answering.work import Work
from easi_eval.benchmarks import LMMS_EVAL
from easi_eval.config import unquoted
from easi_eval.errors import is_full, worded
from easi_eval.locks import file_lock, lacks_locks


def item_id(request: Any) -> str:
    """``task:row``; rows are numbered in document order by every process alike."""
    return f"{request.task_name}:{request.doc_id}"


def benchmark_of(task_name: str, work: Work) -> str:
    """The benchmark a request belongs to: a group's subtasks (``blink_counting``) begin with the group's name."""
    by_task = {assignment.task: assignment.key for assignment in work.benchmarks}
    if task_name in by_task:
        return by_task[task_name]
    prefixes = [task for task in by_task if task_name.startswith(task + "_")]
    if not prefixes:
        raise KeyError(f"lmms-eval built requests of task {task_name!r}, which was not asked for")
    return by_task[max(prefixes, key=len)]


def asked_work(run_root: Path) -> Work:
    """What is to be run, read before lmms-eval, whose import takes half a minute."""
    options = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    options.add_argument("--tasks", default="")
    options.add_argument("--limit", type=int)
    known, _ = options.parse_known_args()
    return load_work(run_root, LMMS_EVAL, known.tasks.split(","), known.limit)


def lmms_eval_main() -> tuple[Any, argparse.Namespace]:
    """lmms-eval's main module and its options from ``sys.argv``, with its logger on stdout as it sets it up itself."""
    with importing():
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
    """Read YAML with libyaml: lmms-eval's index of its tasks is made of some 1,800 files, three seconds in PyYAML's own parser.

    What libyaml cannot read is left to that parser, and so are its errors.
    """
    import yaml

    if not yaml.__with_libyaml__:
        return

    class Loader(yaml.CFullLoader):
        def __init__(self, stream: Any) -> None:
            super().__init__(stream)
            self.name = getattr(
                stream, "name", "<file>"
            )  # lmms-eval looks for a task's functions beside its file

    full_load = yaml.full_load

    def load(stream: Any) -> Any:
        # lmms-eval registers its tags with FullLoader, anew for each file.
        Loader.yaml_constructors = yaml.FullLoader.yaml_constructors
        try:
            return yaml.load(stream, Loader)
        except yaml.YAMLError:
            if hasattr(stream, "seek"):
                stream.seek(0)
            return full_load(stream)

    yaml.full_load = load


def _take_off_quotes() -> None:
    """A path with commas stands in quotes among the model arguments, and lmms-eval leaves them around it."""
    from lmms_eval import utils

    value_of = utils.handle_arg_string

    def handle_arg_string(arg: str) -> Any:
        return unquoted(arg) if "," in arg else value_of(arg)

    utils.handle_arg_string = handle_arg_string


def _allow_anonymous() -> None:
    """Some tasks of public data insist on a token (``token: True``); without one they are read as anybody may."""
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
    """Without a hub (offline, or it went away) data that lies in the hub's cache is read from its folder there.

    datasets 5 asks the hub for a data set's files unless it has prepared them before, and of a hub that does not answer it asks
    each of them for half a minute.
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
            return load(
                path, *args, **options
            )  # prepared by an earlier run, or its error says what is wrong
        return load(folder, *args, **options)

    datasets.load_dataset = load_dataset


def _lock_anywhere() -> None:
    """On a file system without locks the datasets library fails, or waits for a file that a real lock left behind."""
    from datasets import builder

    own = builder.FileLock
    builder.FileLock = lambda path: (
        file_lock(path) if lacks_locks(Path(path).absolute().parent) else own(path)
    )


def _hub_answers() -> bool:
    """One question, at most five seconds."""
    from huggingface_hub import constants
    from huggingface_hub.utils import get_session

    try:
        answer = get_session().head(constants.ENDPOINT, timeout=5)
    except OSError:  # of the connection; also what huggingface_hub raises offline
        return False
    return answer.status_code < 500  # a proxy has its own words for a hub that is gone


def why_unreadable(error: BaseException) -> str:
    """In words. lmms-eval tells that it tried again, the datasets library that it failed; what went wrong is behind both."""
    full = (
        "a disk took no more while its data were prepared (HF_DATASETS_CACHE chooses another place): "
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
    """Let a launch go on without the tasks that cannot be read: stock lmms-eval reads all before the first question, and one ends it.

    Returns what will hold the reason by task name: a task (or group) whose data cannot be loaded, or whose questions cannot be built.
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
