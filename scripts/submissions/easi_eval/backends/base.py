"""What a backend must be able to do. One file per backend implements it; nothing else knows which one runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import pandas as pd

    from ..benchmarks import Benchmark
    from ..config import RunConfig
    from ..datasets import Need
    from ..execution.jobs import Job
    from ..model import ModelChoice
    from ..results.outputs import Outputs
    from ..results.scores import BenchmarkScore, Reading
    from ..state import RunPaths


class Backend(Protocol):
    """One evaluation backend. No method imports the backend itself; only ``resolve`` may ask the hub."""

    name: str  # as given to ``--backend``
    payload_name: str  # as written into the payload
    package: str  # import name of the real package

    def version(self, cfg: RunConfig) -> str: ...

    def check(self, cfg: RunConfig) -> None:
        """Refuse (EasiError) what can be known to fail before any work starts."""
        ...

    def offers(self, name: str) -> str:
        """How to run ``name`` on this backend, for a hint; "" where it is none of its names for models."""
        ...

    def own_options(self) -> list[str]:
        """The options of the backend's own command line."""
        ...

    def resolve(self, cfg: RunConfig) -> ModelChoice: ...

    def ready(self, cfg: RunConfig, model: ModelChoice) -> None:
        """Refuse (EasiError) a model that cannot answer here: an engine or a key is missing. Not asked where all is answered."""
        ...

    def settings(self, cfg: RunConfig, bench: Benchmark) -> dict[str, object]:
        """What, beside the model, changes this benchmark's answers or scores (task, judge, corrections)."""
        ...

    def needs(self, cfg: RunConfig, bench: Benchmark) -> list[Need]:
        """The data this benchmark reads, to be fetched before anything is launched."""
        ...

    def weights(self, model: ModelChoice) -> list[Need]:
        """The checkpoints of the hub that the model reads; none for folders and for models behind a server."""
        ...

    def localise(self, model: ModelChoice, repo: str, path: Path) -> ModelChoice:
        """The same choice with the weights of ``repo`` in the folder ``path``."""
        ...

    def answer_job(
        self,
        cfg: RunConfig,
        model: ModelChoice,
        todo: Sequence[Benchmark],
        paths: RunPaths,
        port: int,
    ) -> Job:
        """The one launch whose workers answer all items of ``todo`` into the journal; ``port`` is free for its launcher."""
        ...

    def score_job(
        self,
        cfg: RunConfig,
        model: ModelChoice,
        todo: Sequence[Benchmark],
        paths: RunPaths,
        judge: str = ...,
    ) -> Job:
        """The one process that scores each benchmark of ``todo`` from the journal as soon as it is answered.

        By rules, unless ``judge`` is a model; one is named to a backend only whose ``Kind`` takes a judge.
        """
        ...

    def judge_model(self, cfg: RunConfig, judge: str) -> str:
        """The model that the endpoint is asked for under a judge's name."""
        ...

    def plain_job(
        self, cfg: RunConfig, model: ModelChoice, bench: Benchmark, folder: Path, port: int
    ) -> Job:
        """The backend's own launch of one benchmark into ``folder``, untouched (``--plain``)."""
        ...

    def outputs(self, bench: Benchmark, folder: Path, judge: str = "") -> Outputs:
        """Find the files of one benchmark in ``folder`` (those made with ``judge``); EasiError naming what is not there."""
        ...

    def rows(self, bench: Benchmark, out: Outputs) -> pd.DataFrame:
        """Per question: see ``results.readers.ROW_COLUMNS``."""
        ...

    def read(self, bench: Benchmark, out: Outputs, rows: pd.DataFrame) -> Reading:
        """Headline and sub-scores, 0-100, from the aggregate files; ``rows`` are those of ``rows()``."""
        ...

    def told(
        self,
        cfg: RunConfig,
        bench: Benchmark,
        out: Outputs,
        rows: pd.DataFrame,
        score: BenchmarkScore,
        scorer_notes: Mapping[str, Any],
    ) -> BenchmarkScore:
        """``score`` with what has to stand beside it: corrections with both values, counted oddities. ``scorer_notes``: our scorer's."""
        ...

    def total(self, cfg: RunConfig, bench: Benchmark, out: Outputs) -> int:
        """How many rows the dataset has, for a launch that left no list of questions."""
        ...
