"""VLMEvalKit's datasets, built once per process, with access to single items."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from easi_eval.benchmarks import BENCHMARKS, VLMEVALKIT, TsvData
from easi_eval.core.locks import file_lock
from easi_eval.core.run_folder import RunPaths
from easi_eval.engine.cost import VIDEO_FRAMES, count_parts, expected
from easi_eval.engine.work import Assignment, Item, ItemList, Work

from .stale_files import drop_stale

# Columns whose text the model sees, besides the columns of the options A, B ...
TEXTS = (
    "question",
    "hint",
    "prompt",
    "candidates",
    "options",
)


def drop_stale_files(task: str) -> None:
    """Remove files that VLMEvalKit derived from another version of a dataset's data; print each.

    Datasets that belong to no EASI benchmark are not touched.
    """
    from huggingface_hub.constants import HF_HUB_CACHE
    from vlmeval.smp import LMUDataRoot

    for source in (bench.source(VLMEVALKIT) for bench in BENCHMARKS):
        if source.task == task and isinstance(source.data, TsvData):
            for path in drop_stale(source.data, Path(LMUDataRoot()), Path(HF_HUB_CACHE)):
                print(f"{path} was made from other data and is made again")


class LoadedDataset:
    """One dataset in memory.

    Attributes:
        source: VLMEvalKit's dataset object, cut to ``limit`` rows if there is a limit.
        rows: The row number in the table by the item's index.
    """

    def __init__(self, source: Any, limit: int | None) -> None:
        if limit:
            source.data = source.data.iloc[:limit]
        self.source = source
        self.rows = {str(index): row for row, index in enumerate(source.data["index"])}

    def costs(self) -> tuple[float, ...]:
        """Return the expected cost of each question, from its images or frames and its text.

        The unit is that of ``easi_eval.engine.cost``.
        """
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
    """Datasets by benchmark.

    Tables contain their images, so only the two most recently used stay in memory.
    """

    def __init__(self, run_root: Path, work: Work) -> None:
        self.run_root = run_root
        self.launch = work.launch
        self.get = functools.lru_cache(maxsize=2)(self._load)

    def items(self, assignment: Assignment) -> list[Item]:
        """Return all items of one benchmark.

        The first worker that needs the list makes it, once per run; the others read its file.
        """
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
        if not RunPaths(self.run_root).item_list(assignment.key).exists():
            return None
        known = ItemList.load(self.run_root, assignment.key)
        return known if known.fits(assignment) else None

    def _load(self, assignment: Assignment) -> LoadedDataset:
        with self._lock(assignment, "built"):
            return self._build(assignment)[1]

    def _build(self, assignment: Assignment) -> tuple[int, LoadedDataset]:
        from vlmeval.dataset import build_dataset

        drop_stale_files(assignment.task)
        source = build_dataset(assignment.task)
        if source is None:
            raise RuntimeError(f"VLMEvalKit has no dataset {assignment.task}")
        return len(source.data), LoadedDataset(source, assignment.limit)

    @contextlib.contextmanager
    def _lock(self, assignment: Assignment, mark: str = "") -> Iterator[None]:
        """Let one process at a time build a dataset, because VLMEvalKit writes files while it does.

        With ``mark``, only the first process of a launch holds the lock. Once it has built the
        dataset, no files are left to write, and the others read in parallel: reading tables of a
        gigabyte one worker after the other would leave the GPUs idle.
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
