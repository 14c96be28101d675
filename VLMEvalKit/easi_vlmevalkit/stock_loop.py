"""Fixes for ``vlmeval.run``; each function says which behaviour it fixes."""

from __future__ import annotations

import argparse
import dataclasses
import functools
import hashlib
import importlib.util
import json
import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from easi_eval.backends.shared import catalog
from easi_eval.backends.vlmevalkit import own_classes
from easi_eval.benchmarks import BENCHMARKS, VLMEVALKIT
from easi_eval.config import RULES
from easi_eval.core.atomic_files import write_atomic
from easi_eval.core.backend_facts import BACKEND_FACTS
from easi_eval.engine.processes import gpus

from . import judge, own_models
from .datasets import drop_stale_files
from .shims import build_whole

# Reasons of vlmeval/run.py to skip a dataset that are no failure.
INTENDED = (
    "mode_infer",
    "official_submission_only_mmmu_test",
    "official_submission_only_mmt_bench",
    "evaluation_not_supported_for_dataset",
    "external_submission_required",
    "test_split_without_ground_truth",
)


def cure(run: ModuleType, outcomes: Outcomes, resume: bool) -> None:
    """Apply all fixes to an imported ``vlmeval.run``.

    Args:
        run: The module.
        outcomes: Receives how each dataset ended.
        resume: Continue with the files of an earlier run, whatever ``--reuse`` says.
    """
    from vlmeval import inference_api, inference_video

    run.build_dataset = functools.partial(build_dataset, run.build_dataset)
    run.build_dataset_from_config = functools.partial(
        build_dataset_from_config, run.build_dataset, run.build_dataset_from_config
    )
    run.get_judge_kwargs = functools.partial(judge_options, run.get_judge_kwargs)
    run.build_model_from_config = keeping_world_size(
        functools.partial(build_whole, run.build_model_from_config)
    )
    run.infer_data_job_video = functools.partial(
        infer_videos, run.infer_data_job_video, run.is_prediction_complete
    )
    inference_video.infer_data = functools.partial(infer_rank, inference_video.infer_data)
    keep_newer_predictions()
    if not resume:
        run.prepare_reuse_files = starting_fresh(run.prepare_reuse_files)
    replaced: tuple[Any, ...] = (run, inference_api)
    for module in replaced:
        module.upsert_dataset_status = outcomes.watching(module.upsert_dataset_status)
    use_gloo_without_gpus()


def import_run() -> ModuleType:
    """Import ``vlmeval.run`` with the GPUs already shared out.

    The module assigns GPUs to local ranks while it is imported, but it reads neither GPU names
    (UUID, MIG) nor an empty list. So the GPUs are shared out here, LOCAL_WORLD_SIZE is hidden
    during the import, and the module's ``int()`` accepts names.
    """
    local = int(os.environ.get("LOCAL_WORLD_SIZE") or 1)
    if local > 1 and (visible := gpus.visible_gpus()):
        os.environ[gpus.VARIABLE] = gpus.share(
            visible, int(os.environ.get("LOCAL_RANK") or 0), local
        )
    spec = importlib.util.find_spec("vlmeval.run")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    module.int = _number_or_name
    sys.modules["vlmeval.run"] = module
    hidden = os.environ.pop("LOCAL_WORLD_SIZE", None)
    try:
        spec.loader.exec_module(module)
    finally:
        if hidden is not None:
            os.environ["LOCAL_WORLD_SIZE"] = hidden
    del module.int
    return module


def _number_or_name(text: str) -> int | str:
    try:
        return int(text)
    except ValueError:
        return text


# ---- datasets and models ---------------------------------------------------------------------


def build_dataset(build: Callable[..., Any], name: str, **options: Any) -> Any:
    """Build a dataset of ``--data`` and apply ``--limit``.

    run.py passes all its options to the constructor of a video dataset, which rejects them. It
    ignores ``--limit`` for videos and with ``--mode eval``.
    """
    from vlmeval.dataset.video_dataset_config import supported_video_datasets

    drop_stale_files(name)
    source = build(name) if name in supported_video_datasets else build(name, **options)
    if source is not None and options.get("limit"):
        source.data = source.data.iloc[: options["limit"]]
    return source


def build_dataset_from_config(
    build: Callable[..., Any], original: Callable[..., Any], cfg: dict[str, Any], name: str
) -> Any:
    """Build a dataset of ``--config`` that is given as ``class`` and ``dataset`` only.

    If the constructor takes ``**kwargs``, run.py drops ``dataset`` and builds another dataset.
    """
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
    """Score EASI's datasets by rules if there is no ``--judge``.

    run.py would let gpt-4o-mini judge most of them and score the others by rules.
    """
    easis = {bench.source(VLMEVALKIT).task for bench in BENCHMARKS if VLMEVALKIT in bench.sources}
    given = original(dataset, kind, args)
    return {**given, "model": RULES} if args.judge is None and dataset in easis else given


def keeping_world_size(original: Callable[..., Any]) -> Callable[..., Any]:
    """Restore WORLD_SIZE after a model of ``--config`` is built.

    For a bare model name run.py leaves it unset, and every rank then answers every question.
    """

    def build(*args: Any, **options: Any) -> Any:
        before = os.environ.get("WORLD_SIZE")
        try:
            return original(*args, **options)
        finally:
            if before is not None:
                os.environ["WORLD_SIZE"] = before

    return build


def name_served_models(run: ModuleType, args: argparse.Namespace) -> None:
    """Rename served models (``--base-url``) like ``org/model`` to a name that files can carry.

    Requests to the server keep the original name.
    """
    if not any("/" in name for name in args.model):
        return
    served = {
        name.replace("/", "--"): {**run.build_model_from_base_url(args), "model": name}
        for name in args.model
    }
    for name, options in served.items():
        run.supported_VLM[name] = functools.partial(_served, run.LMDeployAPI, options)
    args.model, args.base_url = list(served), None


def _served(cls: type, options: Mapping[str, object], **_: object) -> Any:
    # The options that the loop adds for local models are dropped: they would go to the server.
    return cls(**options)


def offer_own_classes(config: str) -> None:
    """Make the user's own classes known as the ``class`` of a model in ``--config``."""
    from vlmeval import api, vlm

    models = json.loads(Path(config).read_text(encoding="utf-8")).get("model", {})
    package = dataclasses.replace(
        catalog.locate(BACKEND_FACTS["vlmevalkit"]), own=own_models.folder()
    )
    for wanted in {given["class"] for given in models.values() if "class" in given}:
        if (
            not hasattr(vlm, wanted)
            and not hasattr(api, wanted)
            and (found := own_classes.find(package, wanted)) is not None
        ):
            setattr(vlm, wanted, own_models.load(found.cls))


# ---- ranks -----------------------------------------------------------------------------------


def use_gloo_without_gpus() -> None:
    """Use gloo instead of NCCL on a machine without GPUs.

    run.py always asks for NCCL under torchrun.
    """
    import torch
    from torch import distributed

    original = distributed.init_process_group

    def init_process_group(backend: str | None = None, **options: Any) -> None:
        original(
            "gloo" if backend == "nccl" and not torch.cuda.is_available() else backend, **options
        )

    distributed.init_process_group = init_process_group


def infer_videos(
    original: Callable[..., Any], complete: Callable[..., bool], model: Any, **options: Any
) -> Any:
    """Return the model at once on every rank if all videos are answered.

    run.py returns at once on rank 0 only, and the other ranks wait for it.
    """
    indices = list(options["dataset"].data["index"])
    done = complete(
        options["result_file"], dataset_indices=indices, retry_failed=options["retry_failed"]
    )
    return model if done else original(model, **options)


def infer_rank(original: Callable[..., Any], **options: Any) -> Any:
    """Write the result file of a rank whose share of videos is already answered.

    When only some videos failed, such a rank writes none, but rank 0 reads one per rank.
    """
    model = original(**options)
    mine = Path(options["out_file"])
    earlier = Path(
        options["work_dir"], f"{options['model_name']}_{options['dataset'].dataset_name}_PREV.pkl"
    )
    if not mine.exists() and earlier.exists():
        shutil.copyfile(earlier, mine)
    return model


# ---- files of earlier runs -------------------------------------------------------------------


def keep_newer_predictions() -> None:
    """Keep a prediction that is newer than the one that ``--reuse`` would copy over it.

    ``--reuse`` copies the prediction of the newest T-folder over the current one even if the
    current one is newer, and fails if one is a link to the other.
    """
    from vlmeval.smp import file

    original = file.copy_prediction_file

    def copy_prediction_file(src_file: str, dst_file: str) -> bool:
        source, target = Path(src_file), Path(dst_file)
        if target.exists() and (
            target.samefile(source) or target.stat().st_mtime >= source.stat().st_mtime
        ):
            print(f"{target} is kept: {source} is not newer", flush=True)
            return False
        return original(src_file, dst_file)

    file.copy_prediction_file = copy_prediction_file


def starting_fresh(original: Callable[..., Any]) -> Callable[..., Any]:
    """Set earlier answers aside if ``--reuse`` is not given.

    run.py says that it starts fresh, but continues with the answers it finds.
    """

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
    print(f"{dataset} starts fresh, without --reuse; what was there is in {folder}", flush=True)


def drop_old_scores(prediction: Path) -> None:
    """Remove cached scores if the answers have changed since.

    BLINK, 3DSRBench and others cache scores by a question's index alone and apply them to new
    answers. A digest of the scored answers is kept beside the prediction file.
    """
    from vlmeval.smp import load

    if not prediction.is_file():
        return
    table = load(str(prediction))
    answers = [
        [str(index), str(answer)]
        for index, answer in zip(table["index"], table["prediction"], strict=True)
    ]
    now = hashlib.sha256(json.dumps(sorted(answers)).encode("utf-8", "surrogatepass")).hexdigest()
    record = prediction.with_name(f"{prediction.stem}_scored_answers.sha256")
    if record.is_file() and record.read_text(encoding="ascii") == now:
        return
    judge.drop_caches(prediction)
    write_atomic(record, now)


# ---- the end ---------------------------------------------------------------------------------


class Outcomes:
    """How each dataset ended, as run.py itself reports it; run.py's exit code is always 0."""

    def __init__(self) -> None:
        self._ended: dict[tuple[str, str], str] = {}
        self._folders: dict[str, Path] = {}

    def watching(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap run.py's ``upsert_dataset_status`` to record each dataset's end.

        Before a dataset is scored, cached scores of other answers are removed.
        """

        def upsert_dataset_status(
            run_dir: Any, model_name: str, dataset_name: str, **fields: Any
        ) -> Any:
            self._folders[model_name] = Path(run_dir)
            if fields.get("status") == "eval":
                from vlmeval.smp import get_pred_file_path

                drop_old_scores(
                    Path(
                        get_pred_file_path(
                            str(run_dir), model_name, dataset_name, use_env_format=True
                        )
                    )
                )
            elif fields.get("status") == "done":
                self._ended[model_name, dataset_name] = _reason(fields)
            return original(
                run_dir=run_dir, model_name=model_name, dataset_name=dataset_name, **fields
            )

        return upsert_dataset_status

    def exit_code(self, models: str | Sequence[str], datasets: Sequence[str]) -> int:
        """Return 1 if any dataset has no score or has unanswered questions, and print these.

        Ranks other than 0 have no outcomes and return 0.
        """
        if int(os.environ.get("RANK") or 0) != 0:
            return 0
        names = [models.replace("/", "--")] if isinstance(models, str) else models
        pairs = [(model, dataset) for model in names for dataset in datasets]
        troubles = {pair: self._ended.get(pair, "it was not reached") for pair in pairs}
        troubles.update(
            {pair: lost for pair, lost in self._unanswered().items() if not troubles.get(pair)}
        )
        failed = {pair: reason for pair, reason in troubles.items() if reason}
        for (model, dataset), reason in failed.items():
            print(f"error: {model} on {dataset}: {' '.join(reason.split())}", file=sys.stderr)
        if failed:
            print(
                f"hint: {len(failed)} of {len(pairs)} failed; "
                "with --reuse the same command goes on where it stopped",
                file=sys.stderr,
            )
        return 1 if failed else 0

    def _unanswered(self) -> dict[tuple[str, str], str]:
        """Return the datasets with unanswered questions.

        VLMEvalKit scores its text for a failed request like an answer.
        """
        from vlmeval.smp import collect_run_benchmark_report

        return {
            (
                model,
                row["benchmark"],
            ): f"{row['infer_failed']} of {row['infer_total']} questions have no answer"
            for model, folder in self._folders.items()
            for row in collect_run_benchmark_report(folder)
            if row.get("infer_failed")
        }


def _reason(fields: dict[str, Any]) -> str:
    if fields.get("error_message") is not None:
        return fields["error_message"] or "an exception without a message"
    skipped = fields.get("skip_reason") or ""
    return "" if skipped in INTENDED else skipped
