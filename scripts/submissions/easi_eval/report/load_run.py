"""Read a finished run from its run folder, its output folder or its archive."""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..backends.archived.index import INDEX, MANIFEST, ROWS, Index
from ..backends.archived.opened import OpenedArchive
from ..backends.archived.proof import ArchivedRun
from ..backends.archived.proven import REFUSED
from ..backends.base import Reader
from ..backends.evidence import Evidence
from ..benchmarks import ALL_KEYS, by_key
from ..core.atomic_files import read_json
from ..core.errors import EasiError
from ..core.manifest import Manifest
from ..core.run_folder import RunPaths
from ..core.run_lock import is_locked
from ..scores.outputs import JUDGED
from ..scores.score_table import State
from .evaluated import EvaluatedBenchmark, EvaluatedRun

if TYPE_CHECKING:
    import pandas as pd

Make = Callable[[str], Reader]  # returns the backend by its name

ARCHIVE = "easi_results.zip"
HINT = "name a run folder (runs/BACKEND/MODEL-ID), an output folder, or an easi_results.zip"


@dataclass(frozen=True)
class Located:
    """Where a run is, by what the user named.

    Attributes:
        path: What the user named.
        root: Its run folder; None for an archive.
        archive: Its archive, or None.
        notes: Which run it is, where there are several.
    """

    path: Path
    root: Path | None = None
    archive: Path | None = None
    notes: tuple[str, ...] = ()


def locate(path: Path) -> Located:
    """Find a run: a run folder, an output folder (its latest run) or an archive.

    Raises:
        EasiError: There is no run, or it still goes on.
    """
    if not path.exists():
        raise EasiError(f"{path} does not exist", hint=HINT)
    if path.is_file():
        return Located(path, archive=path)
    found = sorted(path.glob(f"runs/*/*/{RunPaths(path).manifest.name}"))
    if RunPaths(path).manifest.is_file():
        place = Located(path, path)
    elif found:
        root, others = max(found, key=_began).parent, len(found) - 1
        note = f"{root} is the latest of {len(found)} runs there"
        place = Located(path, root, notes=(note,) if others else ())
    elif (path / ARCHIVE).is_file():
        return Located(path, archive=path / ARCHIVE)
    else:
        raise EasiError(f"{path} holds no run", hint=HINT)
    if place.root and is_locked(RunPaths(place.root).lock):
        raise EasiError(
            f"the run in {place.root} is still going on",
            hint="wait for its end; --status tells how far it is",
        )
    return place


def load_run(path: Path, make: Make) -> EvaluatedRun:
    """Read a finished run; see ``locate``.

    Raises:
        EasiError: There is no finished run, or it still goes on, or its files are damaged.
    """
    place = locate(path)
    if place.root is None:
        return _from_archive(place, make)
    return _from_folder(place, place.root, make)


def _began(path: Path) -> tuple[str, float]:
    """Return when the last launch of a run was started; copies of a folder keep that."""
    launches = Manifest.of(read_json(path), str(path)).launches
    return (launches[-1].get("started", "") if launches else "", path.stat().st_mtime)


def _refuse_empty(run: EvaluatedRun, lacking: Mapping[str, str]) -> EvaluatedRun:
    if not run.benchmarks:
        why = "; ".join(f"{by_key(key).title}: {reason}" for key, reason in lacking.items())
        raise EasiError(
            f"{run.folder.root if run.folder else run.path} has no finished benchmark"
            + (f" ({why})" if why else ""),
            hint="only finished benchmarks can be read; --status tells what a run is at",
        )
    return run


# ---- from a run folder


def _from_folder(place: Located, root: Path, make: Make) -> EvaluatedRun:
    paths = RunPaths(root)
    value = read_json(paths.manifest)
    manifest, source = Manifest.of(value, str(paths.manifest)), ArchivedRun.of(value, make)
    found, lacking = {}, {}
    tables = _Tables.of(paths.root / ARCHIVE)
    for key, state in _states(manifest):
        evidence = Evidence.load(paths.output(key))
        if evidence is None or evidence.fingerprint != state:
            lacking[key] = "not finished, or its files were changed"
        else:
            found[key] = _from_files(source, manifest, key, evidence, paths.output(key), tables)
    return _refuse_empty(
        EvaluatedRun(place.path, manifest, found, paths, (*place.notes, *_left_out(lacking))),
        lacking,
    )


@dataclass(frozen=True)
class _Tables:
    """The per-question tables in the archive beside a run, which are quick to read."""

    files: Mapping[str, str]  # digest of each of the backend's files, by <benchmark>/<path>
    tables: Mapping[str, bytes]

    @classmethod
    def of(cls, path: Path) -> _Tables:
        """Read an archive of this program; there are no tables if it is missing or damaged."""
        try:
            with zipfile.ZipFile(path) as zipped:
                index = Index.from_json(json.loads(zipped.read(INDEX)))
                tables = {name: zipped.read(f"{ROWS}{name}.csv") for name in index.tables}
        except (OSError, EasiError, zipfile.BadZipFile, zlib.error, KeyError, ValueError):
            return cls({}, {})
        files = {name: stored.original for name, stored in index.files.items()}
        return cls(files, tables)

    def rows(self, key: str, evidence: Evidence) -> pd.DataFrame | None:
        """Return a benchmark's table if it was made from the files that ``evidence`` names."""
        from ..scores.row_table import rows_from_csv

        if key not in self.tables or any(
            self.files.get(f"{key}/{name}") != digest for name, digest in evidence.files.items()
        ):
            return None
        return rows_from_csv(self.tables[key])


def _states(manifest: Manifest) -> Iterator[tuple[str, str]]:
    for key in ALL_KEYS:
        if key in manifest.benchmarks:
            yield key, manifest.benchmarks[key].fingerprint


def _left_out(lacking: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(f"{by_key(key).title} is left out: {why}" for key, why in lacking.items())


def _from_files(
    source: ArchivedRun,
    manifest: Manifest,
    key: str,
    evidence: Evidence,
    folder: Path,
    tables: _Tables,
) -> EvaluatedBenchmark:
    backend, bench = source.backend, by_key(key)
    judged = any(name.startswith(f"{JUDGED}/") for name in evidence.files)
    rows = tables.rows(key, evidence)
    out = backend.outputs(
        bench,
        folder / JUDGED if judged else folder,
        evidence.score.method if judged else "",
        whole=rows is None,
    )
    rows = backend.rows(bench, out) if rows is None else rows
    rows = backend.scored_rows(source.cfg, bench, out, rows)
    return EvaluatedBenchmark(
        bench,
        bench.source(backend.name, out.task),
        evidence.score,
        rows,
        manifest.benchmarks[key].settings,
    )


# ---- from an archive


def _checked(manifest: Manifest, path: Path) -> Manifest:
    """Return the manifest of an archive, whose author is unknown, if it has the types it needs."""
    mappings = (manifest.fields, manifest.model, manifest.versions)
    settings = (state.settings for state in manifest.benchmarks.values())
    if (
        not all(isinstance(value, dict) for value in (*mappings, *settings))
        or not isinstance(manifest.modelName, str)
        or not isinstance(manifest.identity, str)
    ):
        raise EasiError(f"{path}: {MANIFEST} is damaged", hint=REFUSED)
    return manifest


def _from_archive(place: Located, make: Make) -> EvaluatedRun:
    from ..scores.intervals import with_intervals

    path = place.archive or place.path
    opened = OpenedArchive.read(path, make)
    manifest = _checked(Manifest.of(opened.json(MANIFEST), f"{path}, {MANIFEST}"), path)
    found, lacking = {}, {}
    # The tables are digested in the index, and far quicker to read than the backend's files.
    for key, proof in opened.prove(by_tables=bool(opened.tables)).items():
        state = manifest.benchmarks.get(key)
        if proof.score is None or proof.questions is None or state is None:
            lacking[key] = proof.problem or "the manifest does not have it"
        elif proof.score.state in (State.COMPLETE, State.PARTIAL):
            task = str(state.settings.get("task") or "")
            bench, rows = by_key(key), proof.questions
            source = bench.source(opened.source.backend.name, task)
            score = with_intervals(proof.score, bench, source, rows)  # archives have none
            found[key] = EvaluatedBenchmark(bench, source, score, rows, state.settings)
        else:
            lacking[key] = f"it is {proof.score.state}"
    return _refuse_empty(
        EvaluatedRun(place.path, manifest, found, None, _left_out(lacking)), lacking
    )
