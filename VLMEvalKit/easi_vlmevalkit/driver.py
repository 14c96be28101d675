"""Two roles over the installed ``vlmeval``: answer items from the shared queue, and score answers from the journal.

Datasets, prompts, model classes and evaluation are VLMEvalKit's. Ours is the loop between them: which item is
answered next, where the answer is kept, and when a dataset is scored.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import functools
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from easi_eval.answering.driver import load_work
from easi_eval.answering.journal import Answer
from easi_eval.answering.scorer import score_loop
from easi_eval.answering.work import Assignment, Item, ItemList, Work
from easi_eval.answering.worker import Generation, open_journal, work_loop
from easi_eval.model import ModelChoice
from easi_eval.benchmarks import VLMEVALKIT

# What VLMEvalKit's API classes return when every retry failed; it is no answer.
API_FAILURE = "Failed to obtain answer via API"


def answer(run_root: Path, model_choice: ModelChoice, args: argparse.Namespace) -> int:
    """Be a worker: load the model once, answer items until none is left. Returns the exit code."""
    work = load_work(run_root, VLMEVALKIT, args.data, args.limit)
    journal = open_journal(run_root, work)
    journal.phase("importing VLMEvalKit")
    from . import shims

    shims.apply()
    journal.phase("building the questions")
    datasets = Datasets(run_root, work)
    items = {assignment.key: datasets.items(assignment) for assignment in work.benchmarks}
    journal.phase("loading the model")
    from easi_eval.answering.loading import refuse_spilled

    model = shims.model_factory(model_choice)()
    refuse_spilled(model)
    by_key = {assignment.key: assignment for assignment in work.benchmarks}

    def answer_chunk(chunk: Sequence[Item]) -> list[Generation]:
        return [answer_one(model, datasets.get(by_key[item.benchmark]), args.model, item.id) for item in chunk]

    work_loop(run_root, work, items, answer_chunk, journal=journal)
    return 0


def answer_one(model: Any, dataset: Any, model_name: str, item: str) -> Generation:
    """Build the prompt of one row as VLMEvalKit's own loop does, and generate."""
    row = dataset.rows[item]
    source, name = dataset.source, dataset.source.dataset_name
    if source.MODALITY == "VIDEO":
        match_frames(model, source)
        if _custom_prompt(model, name):
            message = model.build_prompt(source.data.iloc[row], dataset=source, video_llm=getattr(model, "VIDEO_LLM", False))
        else:
            message = source.build_prompt(row, video_llm=getattr(model, "VIDEO_LLM", False))
    else:
        if hasattr(model, "set_dump_image"):
            model.set_dump_image(source.dump_image)
        line = source.data.iloc[row]
        if not getattr(source, "force_use_dataset_prompt", False) and _custom_prompt(model, name):
            message = model.build_prompt(line, dataset=name)
        else:
            message = source.build_prompt(line)
    if message is None:
        raise ValueError(f"{source.dataset_name} made no prompt of {item}")
    answered = model.generate(message=message, dataset=name)
    _free_cache()
    if answered is None:
        raise ValueError(f"the model gave no answer to {item}")
    text = str(answered)
    if API_FAILURE in text:
        raise RuntimeError(text)
    last = getattr(model, "last", None)
    return Generation(
        text,
        tokens=getattr(last, "tokens", None),
        finish=getattr(last, "finish", None),
        frames=sum(part["type"] == "image" for part in message) if isinstance(message, list) else None,
        prompt=prompt_hash(message),
    )


def _free_cache() -> None:
    """As VLMEvalKit's own loop does after every answer; models at the edge of the memory rely on it."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _custom_prompt(model: Any, dataset_name: str) -> bool:
    return hasattr(model, "use_custom_prompt") and model.use_custom_prompt(dataset_name)


def match_frames(model: Any, source: Any) -> None:
    """Set a video model's frame count or rate to the dataset's, as VLMEvalKit does before every video item."""
    for own, other in (("nframe", "fps"), ("fps", "nframe")):
        if (getattr(model, own, None) or 0) > 0:
            wanted = getattr(source, own)
            if wanted > 0:
                setattr(model, own, wanted)
            elif (getattr(model, other, 0) or 0) == 0:
                raise ValueError(f"the model samples video by {own}, {source.dataset_name} does not")
            else:
                setattr(model, own, None)


def prompt_hash(message: Any) -> str:
    """First 16 hex digits of the SHA-256 of the text parts of a message."""
    parts = message if isinstance(message, list) else [{"type": "text", "value": str(message)}]
    text = "\n".join(str(part["value"]) for part in parts if part["type"] == "text")
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def score(run_root: Path, args: argparse.Namespace) -> int:
    """Score every benchmark from the journal as soon as it is answered. Returns the exit code."""
    work = load_work(run_root, VLMEVALKIT, args.data, args.limit)
    from . import shims

    shims.apply()
    datasets = Datasets(run_root, work)
    score_loop(run_root, work, functools.partial(score_one, datasets, args))
    return 0


def score_one(datasets: Datasets, args: argparse.Namespace, assignment: Assignment, answers: Mapping[str, Answer], folder: Path) -> None:
    """Write VLMEvalKit's prediction file for one dataset, a lossless copy beside it, and run its own evaluation."""
    from vlmeval.smp import dump

    dataset = datasets.get(assignment)
    source = dataset.source
    table = source.data.copy()
    table["prediction"] = [answers[item].text for item in dataset.rows]
    if "image" in table:
        table.pop("image")
    prediction = folder / f"{args.model}_{assignment.task}.xlsx"
    with prediction.with_suffix(".jsonl").open("w", encoding="utf-8") as lossless:
        for item in dataset.rows:
            lossless.write(json.dumps({"index": item, "prediction": answers[item].text}) + "\n")
    dump(table, str(prediction))
    source.evaluate(str(prediction), **judge_options(args))


def judge_options(args: argparse.Namespace) -> dict[str, object]:
    """The keyword arguments VLMEvalKit's run.py passes to a dataset's evaluation."""
    return {
        "model": args.judge,
        "nproc": args.api_nproc,
        "verbose": args.verbose,
        "retry": args.retry,
        "timeout": args.judge_timeout,
        **json.loads(args.judge_args),
    }


class Loaded:
    """One dataset in memory: VLMEvalKit's object and where each item stands in its table."""

    def __init__(self, source: Any, limit: int | None) -> None:
        if limit:
            source.data = source.data.iloc[:limit]
        self.source = source
        self.rows = {str(index): row for row, index in enumerate(source.data["index"])}


class Datasets:
    """Datasets by benchmark. Tables hold their images, so only the two used last stay in memory."""

    def __init__(self, run_root: Path, work: Work) -> None:
        self.run_root = run_root
        self.get = functools.lru_cache(maxsize=2)(self._load)

    def items(self, assignment: Assignment) -> list[Item]:
        """All items of one benchmark; the list is made once per run, by the first worker that needs it."""
        with self._lock():
            known = self._known(assignment)
            if known is None:
                total, loaded = self._build(assignment)
                known = ItemList(assignment.key, total, tuple(loaded.rows), assignment.limit)
                known.save(self.run_root)
        return [Item(assignment.key, item) for item in known.ids]

    def _known(self, assignment: Assignment) -> ItemList | None:
        if not ItemList.path(self.run_root, assignment.key).exists():
            return None
        known = ItemList.load(self.run_root, assignment.key)
        return known if known.fits(assignment) else None

    def _load(self, assignment: Assignment) -> Loaded:
        with self._lock():
            return self._build(assignment)[1]

    def _build(self, assignment: Assignment) -> tuple[int, Loaded]:
        from vlmeval.dataset import build_dataset

        source = build_dataset(assignment.task)
        if source is None:
            raise RuntimeError(f"VLMEvalKit has no dataset {assignment.task}")
        return len(source.data), Loaded(source, assignment.limit)

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        """VLMEvalKit's datasets move, derive and unpack files when they are built; one process at a time."""
        with (self.run_root / "datasets.lock").open("w") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
