"""VLMEvalKit's datasets, built once per process and addressed by item."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from easi_eval.answering.cost import VIDEO_FRAMES, count_parts, expected
from easi_eval.answering.work import Assignment, Item, ItemList, Work
from easi_eval.benchmarks import BENCHMARKS, VLMEVALKIT, TsvData
from easi_eval.locks import file_lock

from .derived import drop_stale

TEXTS = (
    "question",
    "hint",
    "prompt",
    "candidates",
    "options",
)  # columns of text that is shown, beside the options A, B ...


def drop_stale_files(task: str) -> None:
    """Remove what VLMEvalKit derived from another version of this dataset's data than the one that is here; say so.

    Datasets that are no EASI benchmark are left alone.
    """
    from huggingface_hub.constants import HF_HUB_CACHE
    from vlmeval.smp import LMUDataRoot

    for source in (bench.source(VLMEVALKIT) for bench in BENCHMARKS):
        if source.task == task and isinstance(source.data, TsvData):
            for path in drop_stale(source.data, Path(LMUDataRoot()), Path(HF_HUB_CACHE)):
                print(f"{path} was made from other data than these and is made anew")


class Loaded:
    """One dataset in memory: VLMEvalKit's object and where each item stands in its table."""

    def __init__(self, source: Any, limit: int | None) -> None:
        if limit:
            source.data = source.data.iloc[:limit]
        self.source = source
        self.rows = {str(index): row for row, index in enumerate(source.data["index"])}

    def costs(self) -> tuple[float, ...]:
        """What each question is expected to take: its images or frames, and its text."""
        data = self.source.data
        texts = [column for column in data if column in TEXTS or len(str(column)) == 1]
        if self.source.MODALITY == "VIDEO":
            frames = max(getattr(self.source, "nframe", 0) or 0, 0) or VIDEO_FRAMES
            media = [expected(frames=frames)] * len(data)
        else:
            column = next((name for name in ("image", "image_path") if name in data), None)
            media = (
                [expected(images=count_parts(cell)) for cell in data[column]]
                if column
                else [expected()] * len(data)
            )
        lengths = [
            sum(len(cell) for cell in row if isinstance(cell, str))
            for row in data[texts].itertuples(index=False)
        ]
        return tuple(
            cost + expected(characters=length) for cost, length in zip(media, lengths, strict=True)
        )


class Datasets:
    """Datasets by benchmark. Tables hold their images, so only the two used last stay in memory."""

    def __init__(self, run_root: Path, work: Work) -> None:
        self.run_root = run_root
        self.launch = work.launch
        self.get = functools.lru_cache(maxsize=2)(self._load)

    def items(self, assignment: Assignment) -> list[Item]:
        """All items of one benchmark; the list is made once per run, by the first worker that needs it."""
        if (known := self._known(assignment)) is None:
            with self._lock(assignment):
                if (known := self._known(assignment)) is None:
                    total, loaded = self._build(assignment)
                    known = ItemList(
                        assignment.key, total, tuple(loaded.rows), assignment.limit, loaded.costs()
                    )
                    known.save(self.run_root)
        return known.items()

    def _known(self, assignment: Assignment) -> ItemList | None:
        if not ItemList.path(self.run_root, assignment.key).exists():
            return None
        known = ItemList.load(self.run_root, assignment.key)
        return known if known.fits(assignment) else None

    def _load(self, assignment: Assignment) -> Loaded:
        with self._lock(assignment, "built"):
            return self._build(assignment)[1]

    def _build(self, assignment: Assignment) -> tuple[int, Loaded]:
        from vlmeval.dataset import build_dataset

        drop_stale_files(assignment.task)
        source = build_dataset(assignment.task)
        if source is None:
            raise RuntimeError(f"VLMEvalKit has no dataset {assignment.task}")
        return len(source.data), Loaded(source, assignment.limit)

    @contextlib.contextmanager
    def _lock(self, assignment: Assignment, mark: str = "") -> Iterator[None]:
        """Let one process at a time build a dataset: VLMEvalKit moves, derives and unpacks files then.

        With ``mark``, once one has built it in this launch there is nothing left to make, and the others read together:
        tables of a gigabyte, read by one worker after the other, would leave the GPUs waiting.
        """
        done, built = f"{self.launch} {assignment.key} {mark}\n", self.run_root / "datasets.built"
        with file_lock(self.run_root / "datasets.lock"):
            if not (mark and _says(built, done)):
                yield
                if mark:
                    with built.open("a", encoding="utf-8") as file:
                        file.write(done)
                return
        yield


def _says(path: Path, line: str) -> bool:
    return path.exists() and line in path.read_text(encoding="utf-8").splitlines(keepends=True)
