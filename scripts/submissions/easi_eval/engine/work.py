"""The work of a run: its assignments, each benchmark's questions, and the seed of each question."""

from __future__ import annotations

import hashlib
import json
import random
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from ..benchmarks import BENCHMARKS
from ..core.atomic_files import read_json, write_json
from ..core.errors import EasiError
from ..core.run_folder import RunPaths

SCHEMA = 1
# Up to one in this many questions of a benchmark may fail; they count as wrong. With more failures
# the benchmark is not complete.
FAILED_ONE_IN = 200

Key = tuple[str, str]  # (benchmark, item id): identifies a question in journal and queue
Chunk = tuple[int, ...]  # places in the list of all items


@dataclass(frozen=True)
class Item:
    """One question as the queue sees it.

    Attributes:
        cost: Expected time, in any unit that all benchmarks share.
    """

    benchmark: str
    id: str
    cost: float = 1.0

    @property
    def key(self) -> Key:
        """Benchmark and item id."""
        return self.benchmark, self.id


@dataclass(frozen=True)
class Assignment:
    """One benchmark of this run.

    Attributes:
        key: Key in the registry of benchmarks.
        task: The backend's name of the benchmark.
        epoch: Answers of another epoch are ignored; ``--rerun`` starts a new one.
        limit: Number of questions (``--limit``), or None for all.
    """

    key: str
    task: str  # the backend's own name
    epoch: int = 0
    limit: int | None = None


@dataclass(frozen=True)
class Work:
    """What all workers of one launch must agree on.

    Attributes:
        benchmarks: The assignments, in serving order.
        seed: Seed of the run.
        launch: Number of the launch. A question that failed for good in an earlier launch is asked
            again in a new one; workers restarted within a launch do not ask it again.
        stage: Number of the stage within the launch. A further stage has fewer workers with more
            memory each, for questions that lacked memory.
        final: Whether no further stage follows, so that a question that lacks memory fails.
    """

    benchmarks: tuple[Assignment, ...]
    fingerprints: dict[str, str] = field(default_factory=dict)
    seed: int = 0
    launch: int = 0
    stage: int = 0
    final: bool = True
    schema: int = SCHEMA

    @property
    def epochs(self) -> dict[str, int]:
        """The epoch of each benchmark."""
        return {assignment.key: assignment.epoch for assignment in self.benchmarks}

    def save(self, run_root: Path) -> Path:
        """Write the work file; returns its path."""
        path = RunPaths(run_root).work
        write_json(path, asdict(self))
        return path

    @classmethod
    def load(cls, run_root: Path) -> Work:
        """Read the work file.

        Raises:
            EasiError: The file is missing, damaged or of another version.
        """
        path = RunPaths(run_root).work
        data = _load(path)
        try:
            assignments = tuple(Assignment(**entry) for entry in data.pop("benchmarks"))
            return cls(benchmarks=assignments, **data)
        except (KeyError, TypeError) as error:
            raise _damaged(path, str(error)) from error


@dataclass(frozen=True)
class ItemList:
    """The questions of one benchmark.

    The meaning of a limit depends on the backend: lmms-eval applies it to each subtask of a group.

    Attributes:
        total: Rows in the data set.
        ids: Item ids in document order, after the limit was applied.
        costs: Expected time of each question (``cost.py``); empty if unknown.
    """

    key: str
    total: int
    ids: tuple[str, ...]
    limit: int | None = None
    costs: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if len(set(self.ids)) != len(self.ids):
            twice = next(item for item in self.ids if self.ids.count(item) > 1)
            raise EasiError(
                f"{self.key} has two questions with the id {twice!r}",
                hint="the data is damaged; fetch it again",
            )
        if len(self.ids) > self.total:
            raise EasiError(
                f"{self.key} lists {len(self.ids)} questions of {self.total}",
                hint="the data is damaged; fetch it again",
            )

    def fits(self, assignment: Assignment) -> bool:
        """Whether this list belongs to ``assignment`` and not to another ``--limit``."""
        return self.key == assignment.key and self.limit == assignment.limit

    def expected(self) -> tuple[float, ...]:
        """The expected time of each question; all 1 if unknown."""
        return self.costs if len(self.costs) == len(self.ids) else (1.0,) * len(self.ids)

    def items(self) -> list[Item]:
        """The questions with their expected times."""
        return [
            Item(self.key, item, cost) for item, cost in zip(self.ids, self.expected(), strict=True)
        ]

    def save(self, run_root: Path) -> Path:
        """Write the list; returns its path."""
        path = RunPaths(run_root).item_list(self.key)
        write_json(path, {**asdict(self), "schema": SCHEMA})
        return path

    @classmethod
    def load(cls, run_root: Path, key: str) -> ItemList:
        """Read the list of a benchmark.

        Raises:
            EasiError: The file is missing, damaged or of another version.
        """
        path = RunPaths(run_root).item_list(key)
        data = _load(path)
        try:
            return cls(
                key=data["key"],
                total=data["total"],
                ids=tuple(data["ids"]),
                limit=data["limit"],
                costs=tuple(data.get("costs", ())),
            )
        except (KeyError, TypeError) as error:
            raise _damaged(path, str(error)) from error


def tolerable(failed: int, total: int) -> bool:
    """Whether a benchmark with so many failed questions is complete.

    At most one question in ``FAILED_ONE_IN`` may fail.
    """
    return failed * FAILED_ONE_IN <= total


def load_work(run_root: Path, backend: str, tasks: Sequence[str], limit: int | None) -> Work:
    """The part of the run's work that a command line asks for.

    An answered benchmark is included: it is not asked again, but scored. Without ``work.json`` (the
    command was pasted, not started by a run) all of ``tasks`` are asked and the file is written; a
    task that is not in the registry of benchmarks is used as its own key.

    Args:
        run_root: Folder of the run.
        backend: Name of the backend.
        tasks: The backend's names of the benchmarks.
        limit: Questions per benchmark (``--limit``), used without ``work.json``.
    """
    if RunPaths(run_root).work.exists():
        work = Work.load(run_root)
        return replace(
            work,
            benchmarks=tuple(
                assignment for assignment in work.benchmarks if assignment.task in tasks
            ),
        )
    keys = {bench.source(backend).task: bench.key for bench in BENCHMARKS}
    work = Work(tuple(Assignment(keys.get(task, task), task, limit=limit) for task in tasks))
    run_root.mkdir(parents=True, exist_ok=True)
    work.save(run_root)
    return work


def item_seed(run_seed: int, benchmark: str, item: str) -> int:
    """The seed of one question, 0 <= seed < 2**31; it depends on the arguments only."""
    name = json.dumps([run_seed, benchmark, item]).encode()
    return int.from_bytes(hashlib.sha256(name).digest()[:4], "big") >> 1


def seed_everything(seed: int) -> None:
    """Seed the generators of random, and of numpy and torch (CPU and CUDA) if imported."""
    random.seed(seed)
    if (numpy := sys.modules.get("numpy")) is not None:
        numpy.random.seed(seed)
    if (torch := sys.modules.get("torch")) is not None:
        # Not torch.manual_seed: for devices that are not in use it formats and keeps a stack trace
        # at every call.
        torch.default_generator.manual_seed(seed)
        if torch.cuda.is_initialized():
            torch.cuda.manual_seed_all(seed)


def _load(path: Path) -> dict[str, Any]:
    data = read_json(path)
    if not isinstance(data, dict) or data.get("schema") != SCHEMA:
        raise _damaged(
            path,
            f"schema {data.get('schema') if isinstance(data, dict) else None!r} is not {SCHEMA}",
        )
    return data


def _damaged(path: Path, what: str) -> EasiError:
    return EasiError(
        f"{path} cannot be used: {what}",
        hint="remove it and start the run again; answers are kept in the journal",
    )
