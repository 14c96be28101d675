"""The interface of an evaluation backend, in three parts.

Each backend implements them in a folder of its own; no other module knows which one runs. A caller
takes the narrowest part that serves it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import pandas as pd

    from ..benchmarks import Benchmark
    from ..config import RunConfig
    from ..core.errors import EasiError
    from ..core.model import ModelChoice
    from ..core.run_folder import RunPaths
    from ..data.needs import Need
    from ..engine.processes.jobs import Job
    from ..engine.work import ItemList
    from ..scores.outputs import Outputs, Survey
    from ..scores.score_table import BenchmarkScore, Reading


@dataclass(frozen=True)
class DatasetMatch:
    """The dataset that a benchmark's results agree with.

    Attributes:
        items: Its questions; None if no copy of the dataset is available.
        data: The version of the dataset, for the benchmark's settings.
        notes: Remarks to show beside the score.
    """

    items: ItemList | None = None
    data: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


class Resolver(Protocol):
    """Decides which model runs, from files.

    No method imports the backend's own package. Only ``resolve`` may send requests to the hub.
    """

    name: str  # as given to ``--backend``

    def version(self, cfg: RunConfig) -> str:
        """Return the version of the package that the run uses."""
        ...

    def check(self, cfg: RunConfig) -> None:
        """Refuse what is known to fail before any work starts.

        Raises:
            EasiError: Says what is wrong and what to do.
        """
        ...

    def offers(self, name: str) -> str:
        """Return a hint how to run ``name`` on this backend; "" if it is not a model name here."""
        ...

    def own_options(self) -> list[str]:
        """Return the options of the backend's own command line."""
        ...

    def resolve(self, cfg: RunConfig) -> ModelChoice:
        """Choose the model class and the weights for ``--model`` and ``--model-args``.

        Raises:
            EasiError: If no class fits, several fit, or the chosen one would fail.
        """
        ...

    def ready(self, cfg: RunConfig, model: ModelChoice) -> None:
        """Refuse a model that cannot answer on this machine.

        Not called if all questions are answered already.

        Raises:
            EasiError: If an engine, a package or a key is missing.
        """
        ...

    def weights(self, model: ModelChoice) -> list[Need]:
        """Return the checkpoints of the hub that the model reads.

        Empty for local folders and for models behind a server.
        """
        ...

    def localise(self, model: ModelChoice, repo: str, path: Path) -> ModelChoice:
        """Return the choice with the weights of ``repo`` in the folder ``path``."""
        ...


class Launcher(Protocol):
    """Builds the commands that answer and score. No method imports the backend's own package."""

    name: str

    def settings(self, cfg: RunConfig, bench: Benchmark) -> dict[str, object]:
        """Return what changes this benchmark's answers or scores, apart from the model.

        That is the task, the judge, and the corrections.
        """
        ...

    def needs(self, cfg: RunConfig, bench: Benchmark) -> list[Need]:
        """Return the data this benchmark reads, to be fetched before anything is launched."""
        ...

    def answer_job(
        self,
        cfg: RunConfig,
        model: ModelChoice,
        todo: Sequence[Benchmark],
        paths: RunPaths,
        port: int,
    ) -> Job:
        """Return the launch whose workers answer all items of ``todo`` into the journal.

        ``port`` is a free port for the launcher.
        """
        ...

    def import_job(self, cfg: RunConfig, model: ModelChoice) -> Job:
        """Return the process that imports the model's class as a worker does, and loads nothing."""
        ...

    def score_job(
        self,
        cfg: RunConfig,
        model: ModelChoice,
        todo: Sequence[Benchmark],
        paths: RunPaths,
        judge: str = ...,
    ) -> Job:
        """Return the process that scores each benchmark of ``todo`` once it is answered.

        It reads the answers from the journal and scores by rules, unless ``judge`` names a model.
        Only a backend whose ``BackendFacts`` take a judge is given one.
        """
        ...

    def plain_job(
        self, cfg: RunConfig, model: ModelChoice, bench: Benchmark, folder: Path, port: int
    ) -> Job:
        """Return the backend's own, unmodified launch of one benchmark (``--plain``).

        Its files go into ``folder``; ``port`` is a free port for the launcher.
        """
        ...

    def reads_unmodified(self, cfg: RunConfig, model: ModelChoice) -> bool:
        """Return whether a process that this program does not modify reads the checkpoint.

        That is an engine's process, or the backend's own program.
        """
        ...

    def probe_judge(self, cfg: RunConfig, judge: str) -> EasiError | None:
        """Send the judge one short question.

        Returns:
            Why it cannot be used; None if it can.

        Raises:
            EasiError: A setting for all judges is wrong.
        """
        ...


class Reader(Protocol):
    """Reads what a backend wrote."""

    name: str
    payload_name: str  # as written into the payload

    def outputs(
        self, bench: Benchmark, folder: Path, judge: str = "", *, whole: bool = True
    ) -> Outputs:
        """Find the files of one benchmark in ``folder``, those made with ``judge``.

        Without ``whole`` the per-question files may be missing, as in a small archive.

        Raises:
            EasiError: Names a file that is not there.
        """
        ...

    def rows(self, bench: Benchmark, out: Outputs) -> pd.DataFrame:
        """Return one row per question, with the columns of ``scores.row_table.ROW_COLUMNS``."""
        ...

    def questions(self, bench: Benchmark, out: Outputs) -> pd.DataFrame:
        """Return ``rows()`` with what was asked: ``scores.row_table.ASKED_COLUMNS``."""
        ...

    def scored_rows(
        self, cfg: RunConfig, bench: Benchmark, out: Outputs, rows: pd.DataFrame
    ) -> pd.DataFrame:
        """Return ``rows`` with the scores that count: where ``annotate`` corrects, other ones."""
        ...

    def excerpts(self, bench: Benchmark, out: Outputs, rows: pd.DataFrame) -> dict[Path, bytes]:
        """Return what ``annotate`` reads of the per-question files besides the table ``rows``.

        By file: a much shorter one that it can read in its place.
        """
        ...

    def read(self, bench: Benchmark, out: Outputs, rows: pd.DataFrame) -> Reading:
        """Return headline score and sub-scores (0-100) from the aggregate files.

        ``rows`` are those of ``rows()``.
        """
        ...

    def annotate(
        self,
        cfg: RunConfig,
        bench: Benchmark,
        out: Outputs,
        rows: pd.DataFrame,
        score: BenchmarkScore,
        scorer_notes: Mapping[str, Any],
    ) -> BenchmarkScore:
        """Return ``score`` with the notes and corrections that are reported beside it.

        Corrections carry both values, caveats are counted. ``scorer_notes`` are the notes that
        this program's scorer wrote.
        """
        ...

    def total(self, cfg: RunConfig, bench: Benchmark, out: Outputs) -> int:
        """Return the dataset's number of rows, for a launch that left no list of questions."""
        ...

    def survey(self, folder: Path, keys: Iterable[str], judge: str = "") -> Survey | None:
        """Return what ``folder`` holds of this backend, made without this program.

        Only results of the benchmarks ``keys`` count and, on a backend with judges, those read by
        ``judge`` if it is given. Nothing in the folder is imported or unpickled, and links are
        followed only to regular files.

        Returns:
            None if the folder holds nothing of this backend.

        Raises:
            EasiError: It holds results of several models.
        """
        ...

    def check_adopted(
        self, cfg: RunConfig, bench: Benchmark, folder: Path, method: str
    ) -> DatasetMatch:
        """Check what only files need that were made without this program.

        They must be about the questions of the dataset, and be what they seem to be.

        Args:
            cfg: The import.
            bench: The benchmark.
            folder: Its files.
            method: How answers were read, as the files' names tell it.

        Raises:
            EasiError: The results are of other data, or were not made as they seem.
        """
        ...


class Backend(Resolver, Launcher, Reader, Protocol):
    """One evaluation backend."""
