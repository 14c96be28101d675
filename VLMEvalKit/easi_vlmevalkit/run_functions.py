"""What takes the place of functions of ``vlmeval.run``; ``patches`` says why.

The first argument of each is the function that it replaces.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from easi_eval.benchmarks import BENCHMARKS, VLMEVALKIT
from easi_eval.config import RULES

from . import judge
from .datasets import drop_stale_files


def number_or_name(text: str) -> int | str:
    """Return the number of a GPU, or its name (UUID, MIG)."""
    try:
        return int(text)
    except ValueError:
        return text


def build_dataset(build: Callable[..., Any], name: str, **options: Any) -> Any:
    """Build a dataset of ``--data``, without options if it is one of videos; apply ``--limit``."""
    from vlmeval.dataset.video_dataset_config import supported_video_datasets

    drop_stale_files(name)
    source = build(name) if name in supported_video_datasets else build(name, **options)
    if source is not None and options.get("limit"):
        source.data = source.data.iloc[: options["limit"]]
    return source


def build_dataset_from_config(
    build: Callable[..., Any], original: Callable[..., Any], cfg: dict[str, Any], name: str
) -> Any:
    """Build a dataset of ``--config`` by its name if only ``class`` and ``dataset`` are given."""
    given = cfg[name]
    return build(given["dataset"]) if set(given) == {"class", "dataset"} else original(cfg, name)


def build_judged_dataset(
    build: Callable[..., Any], judges: Sequence[judge.Judge], name: str, **options: Any
) -> Any:
    """Build a dataset whose evaluation is repeated until the judge's refusals are explained."""
    source = build(name, **options)
    if source is not None:
        evaluate = source.evaluate
        source.evaluate = lambda eval_file, **kwargs: judge.evaluate_settled(
            judges, Path(eval_file), lambda: evaluate(eval_file, **kwargs)
        )
    return source


def judge_options(
    original: Callable[..., dict[str, Any]], dataset: str, kind: str, args: argparse.Namespace
) -> dict[str, Any]:
    """Score EASI's datasets by rules if there is no ``--judge``."""
    easis = {bench.source(VLMEVALKIT).task for bench in BENCHMARKS if VLMEVALKIT in bench.sources}
    given = original(dataset, kind, args)
    return {**given, "model": RULES} if args.judge is None and dataset in easis else given


def keeping_world_size(original: Callable[..., Any]) -> Callable[..., Any]:
    """Restore WORLD_SIZE after a model of ``--config`` is built."""

    def build(*args: Any, **options: Any) -> Any:
        before = os.environ.get("WORLD_SIZE")
        try:
            return original(*args, **options)
        finally:
            if before is not None:
                os.environ["WORLD_SIZE"] = before

    return build


def build_served(cls: type, options: Mapping[str, object], **_: object) -> Any:
    """Build the client of a server.

    The options that the loop adds for local models are dropped: they would go to the server.
    """
    return cls(**options)


def init_process_group(
    original: Callable[..., None], backend: str | None = None, **options: Any
) -> None:
    """Use gloo instead of NCCL on a machine without GPUs."""
    import torch

    original("gloo" if backend == "nccl" and not torch.cuda.is_available() else backend, **options)


def infer_videos(
    original: Callable[..., Any], complete: Callable[..., bool], model: Any, **options: Any
) -> Any:
    """Return the model at once on every rank if all videos are answered."""
    indices = list(options["dataset"].data["index"])
    done = complete(
        options["result_file"], dataset_indices=indices, retry_failed=options["retry_failed"]
    )
    return model if done else original(model, **options)


def infer_rank(original: Callable[..., Any], **options: Any) -> Any:
    """Write the result file of a rank whose share of videos is already answered."""
    model = original(**options)
    mine = Path(options["out_file"])
    earlier = Path(
        options["work_dir"], f"{options['model_name']}_{options['dataset'].dataset_name}_PREV.pkl"
    )
    if not mine.exists() and earlier.exists():
        shutil.copyfile(earlier, mine)
    return model


def copy_older_prediction(
    original: Callable[[str, str], bool], src_file: str, dst_file: str
) -> bool:
    """Copy a prediction of an earlier run unless the current one is as new; return whether."""
    source, target = Path(src_file), Path(dst_file)
    if target.exists() and (
        target.samefile(source) or target.stat().st_mtime >= source.stat().st_mtime
    ):
        print(f"{target} is kept: {source} is not newer", flush=True)
        return False
    return original(src_file, dst_file)


def starting_fresh(original: Callable[..., Any]) -> Callable[..., Any]:
    """Set earlier answers aside if ``--reuse`` is not given."""

    def prepare_reuse_files(**options: Any) -> Any:
        if not options["reuse"]:
            set_aside(Path(options["result_file"]), options["model_name"], options["dataset_name"])
        return original(**options)

    return prepare_reuse_files


def set_aside(result: Path, model: str, dataset: str) -> None:
    """Move an earlier run's files of one dataset into a T-folder, where ``--reuse`` finds them."""
    from vlmeval.smp.file import fetch_aux_files

    if not result.parent.is_dir():
        return
    ranks = re.compile(rf"\d+_({re.escape(model)}_)?{re.escape(dataset)}\.pkl")
    found = {Path(path) for path in fetch_aux_files(str(result))} | {
        path for path in result.parent.iterdir() if ranks.fullmatch(path.name)
    }
    if not found:
        return
    latest = max(path.lstat().st_mtime for path in found)
    folder = result.parent / time.strftime("T%Y%m%d-%H%M%S", time.localtime(latest))
    folder.mkdir(exist_ok=True)
    for path in sorted(found):
        path.rename(folder / path.name)
    print(f"{dataset} starts fresh, without --reuse; earlier files are in {folder}", flush=True)
