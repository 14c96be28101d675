"""Recompute the scores of an archived run from its files, for ``--verify`` and the archive."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...benchmarks import ALL_KEYS, by_key
from ...config import RunConfig
from ...core.backend_facts import BACKEND_FACTS
from ...core.errors import EasiError
from ...scores import judging
from ...scores.outputs import JUDGED, Outputs
from ...scores.score_table import BenchmarkScore, State, title_of
from ..base import Reader
from ..completeness import checked
from .proven import REFUSED, Proof

BY_RULES = ".by_rules"  # in the name of the table of a judged benchmark by rules


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
            raise EasiError(f"run_manifest.json is damaged: {error!r}", hint=REFUSED) from error


@dataclass(frozen=True)
class _Benchmark:
    """One benchmark of an archive: its files, and its tables if they replace per-question files."""

    source: ArchivedRun
    key: str
    folder: Path
    tables: Mapping[str, bytes] | None
    proof: Proof


def prove(
    source: ArchivedRun, key: str, folder: Path, tables: Mapping[str, bytes] | None = None
) -> Proof:
    """Recompute one benchmark's score.

    Raises nothing for bad files: the problem is recorded in the result.

    Args:
        source: The run.
        key: The benchmark.
        folder: Its files.
        tables: Per-question tables by name, in place of the per-question files.
    """
    proof = Proof()
    one = _Benchmark(source, key, folder, tables, proof)
    judged = (folder / JUDGED).is_dir()
    try:
        proof.score = _score(one, folder, "", f"{key}{BY_RULES}" if judged else key)
        if judged:  # its score counts
            judge = str((source.states.get(key, {}).get("evidence") or {}).get("method") or "")
            proof.score = judging.judged(
                proof.score, _score(one, folder / JUDGED, judge, key), judge
            )
    except (EasiError, ValueError, KeyError, TypeError, RecursionError, AssertionError) as error:
        said = (
            error.message.replace(f"{folder}/", "")
            if isinstance(error, EasiError)
            else f"its files cannot be read ({error!r})"
        )
        proof.problem = said if said.startswith(title_of(key)) else f"{title_of(key)}: {said}"
    return proof


def _score(one: _Benchmark, folder: Path, judge: str, name: str) -> BenchmarkScore:
    """Compute the score of the files in one folder, as ``completeness.gather`` does.

    The table of its questions, called ``name``, and what it needs are stored in the proof.
    """
    from ...scores.row_table import rows_csv, rows_from_csv
    from ...scores.rows import summarise  # loads pandas

    source, backend, bench = one.source, one.source.backend, by_key(one.key)
    state = source.states.get(one.key, {})
    out = backend.outputs(bench, folder, judge, whole=one.tables is None)
    if one.tables is None:
        rows = backend.rows(bench, out)
        one.proof.tables[name] = rows_csv(rows)
        _keep(one, out, backend.excerpts(bench, out, rows))
    else:
        if name not in one.tables:
            raise EasiError(f"the archive has no table {name}.csv of it", hint=REFUSED)
        rows = rows_from_csv(one.tables[name])
        one.proof.tables[name] = one.tables[name]
        if not out.scores and not rows["failed"].any():
            raise EasiError("the archive has no aggregate of it", hint=REFUSED)
    score = summarise(
        bench,
        checked(backend, bench, out, rows),
        rows,
        total=(state.get("evidence") or {}).get("total"),
        state=State(state.get("state") or State.INCOMPLETE),
    )
    one.proof.questions = backend.scored_rows(source.cfg, bench, out, rows)
    return backend.annotate(source.cfg, bench, out, rows, score, {})


def _keep(one: _Benchmark, out: Outputs, excerpts: Mapping[Path, bytes]) -> None:
    files = {path: path.read_bytes() for path in (*out.scores, *out.notes)} | dict(excerpts)
    one.proof.kept |= {
        path.relative_to(one.folder).as_posix(): data for path, data in files.items()
    }


def proofs(source: ArchivedRun, folder: Path) -> dict[str, Proof]:
    """Return what the files of each benchmark in ``folder`` prove, by key.

    Benchmarks whose files do not prove their score are left out.
    """
    found = {key: prove(source, key, folder / key) for key in ALL_KEYS if (folder / key).is_dir()}
    return {key: proof for key, proof in found.items() if not proof.problem}
