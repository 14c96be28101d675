"""Recompute the scores of an archived run from its files, for ``--verify`` and the archive."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..backends.base import Reader
from ..backends.completeness import checked
from ..benchmarks import ALL_KEYS, by_key
from ..config import RunConfig
from ..core.backend_facts import BACKEND_FACTS
from ..core.errors import EasiError
from ..scores import judging
from ..scores.outputs import JUDGED
from ..scores.score_table import BenchmarkScore, State, title_of
from .archive.pack import MANIFEST
from .archive.safe_zip import REFUSED


@dataclass(frozen=True)
class ArchivedRun:
    """The run that an archive belongs to, as described by its manifest."""

    backend: Reader
    cfg: RunConfig
    model: str
    states: Mapping[str, Mapping[str, Any]]

    @classmethod
    def of(cls, manifest: Any, make: Callable[[str], Reader]) -> ArchivedRun:
        """Read the content of ``run_manifest.json``; ``make`` returns the backend by its name.

        Raises:
            EasiError: It is not a manifest.
        """
        try:
            name, states = str(manifest["fields"]["backend"]), dict(manifest["benchmarks"])
            unknown = [key for key in states if key not in ALL_KEYS]
            if name not in BACKEND_FACTS or unknown:
                raise ValueError(f"unknown {', '.join(unknown) or f'backend {name!r}'}")
            stock = any(
                (state.get("settings") or {}).get("corrections") == [] for state in states.values()
            )
            cfg = RunConfig(
                model="verified",
                model_args="verified=verified",
                backend=name,
                no_corrections=stock and BACKEND_FACTS[name].takes_no_corrections,
            )
            return cls(make(name), cfg, str(manifest["modelName"]), states)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise EasiError(f"{MANIFEST} is damaged: {error!r}", hint=REFUSED) from error


@dataclass
class Proof:
    """What an archive proves about one benchmark.

    Attributes:
        table: The per-question table as CSV.
        rows: Number of its rows.
        score: The recomputed score, or None.
        problem: Why there is none.
    """

    table: bytes = b""
    rows: int = 0
    score: BenchmarkScore | None = None
    problem: str = ""


def prove(source: ArchivedRun, key: str, folder: Path) -> Proof:
    """Recompute one benchmark's score from its files in ``folder``.

    Raises nothing for bad files: the problem is recorded in the result.
    """
    proof = Proof()
    try:
        proof.score = _score(source, key, folder, "", proof)
        judge = str((source.states.get(key, {}).get("evidence") or {}).get("method") or "")
        # With a judge, its score counts: computing it last stores its table in the proof.
        if (folder / JUDGED).is_dir():
            proof.score = judging.judged(
                proof.score, _score(source, key, folder / JUDGED, judge, proof), judge
            )
    except (EasiError, ValueError, KeyError, TypeError, RecursionError, AssertionError) as error:
        said = (
            error.message.replace(f"{folder}/", "")
            if isinstance(error, EasiError)
            else f"its files cannot be read ({error!r})"
        )
        proof.problem = said if said.startswith(title_of(key)) else f"{title_of(key)}: {said}"
    return proof


def _score(source: ArchivedRun, key: str, folder: Path, judge: str, proof: Proof) -> BenchmarkScore:
    """Compute the score of the files in one folder, as ``completeness.gather`` does.

    The table of its questions is stored in ``proof``.
    """
    from ..scores.row_table import rows_csv
    from ..scores.rows import summarise  # loads pandas

    bench, backend, state = by_key(key), source.backend, source.states.get(key, {})
    out = backend.outputs(bench, folder, judge)
    rows = backend.rows(bench, out)
    proof.table, proof.rows = rows_csv(rows), len(rows)
    reading = checked(backend, bench, out, rows)
    score = summarise(
        bench,
        reading,
        rows,
        total=(state.get("evidence") or {}).get("total"),
        state=State(state.get("state") or State.INCOMPLETE),
    )
    return backend.annotate(source.cfg, bench, out, rows, score, {})


def tables(source: ArchivedRun, folder: Path) -> dict[str, bytes]:
    """Return the per-question table of each benchmark in ``folder``, by key.

    Benchmarks whose files do not prove their score are left out.
    """
    proofs = {key: prove(source, key, folder / key) for key in ALL_KEYS if (folder / key).is_dir()}
    return {key: proof.table for key, proof in proofs.items() if not proof.problem}
