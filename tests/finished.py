"""A run whose benchmarks are all complete on disk.

It is made of the genuine result files in ``data/``; nothing is evaluated for it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from easi_eval.backends import make_backend
from easi_eval.backends.completeness import checked
from easi_eval.backends.evidence import Evidence
from easi_eval.benchmarks import CORE_KEYS, LMMS_EVAL, by_key
from easi_eval.config import RunConfig
from easi_eval.core.manifest import Manifest
from easi_eval.core.run_folder import RunPaths
from easi_eval.data.needs import HubSettings
from easi_eval.scores.intervals import with_intervals
from easi_eval.scores.rows import summarise
from easi_eval.scores.score_table import BenchmarkScore, State
from evaluations import plan_of
from genuine import files_of


@dataclass(frozen=True)
class FinishedRun:
    cfg: RunConfig
    paths: RunPaths
    scores: dict[str, BenchmarkScore]

    @property
    def root(self) -> Path:
        return self.paths.root


def config(backend: str, folder: Path) -> RunConfig:
    """A run of a model folder below ``folder``, into ``folder/out``."""
    model = folder / "Some Model"
    model.mkdir()
    (model / "config.json").write_text('{"model_type": "qwen2_5_vl"}', encoding="utf-8")
    if backend == LMMS_EVAL:
        return RunConfig(
            backend=backend,
            model="qwen2_5_vl",
            model_args=f"pretrained={model}",
            output_dir=folder / "out",
            device="cpu",
        )
    return RunConfig(model=str(model), output_dir=folder / "out", device="cpu")


def copy(key: str, files: Path, target: Path) -> None:
    """Copy a benchmark's genuine files."""
    shutil.copytree(files, target)


def finish(
    cfg: RunConfig,
    keys: Iterable[str] = CORE_KEYS,
    put: Callable[[str, Path, Path], object] = copy,
) -> FinishedRun:
    """Put the files of these benchmarks where a run under ``cfg`` leaves them.

    They are accepted as such a run accepts them. ``put`` makes a new folder with a benchmark's
    files of the genuine ones.
    """
    backend = make_backend(cfg.backend, HubSettings())
    wanted = tuple(keys)
    plan = plan_of(dataclasses.replace(cfg, benchmarks=wanted), backend)
    manifest = plan.manifest(
        None, {"easi-eval": "test", "torch": "2"}, [cfg.command()], {"some/data": "c" * 40}
    )
    scores = {}
    for todo in plan.todo:
        key, folder = todo.bench.key, plan.paths.output(todo.bench.key)
        put(key, files_of(key, cfg.backend), folder)
        out = backend.outputs(todo.bench, folder)
        rows = backend.rows(todo.bench, out)
        score = summarise(
            todo.bench,
            checked(backend, todo.bench, out, rows),
            rows,
            total=len(rows),
            state=State.COMPLETE,
        )
        score = with_intervals(score, todo.bench, todo.bench.source(cfg.backend, out.task), rows)
        scores[key] = backend.annotate(cfg, todo.bench, out, rows, score, {})
        files = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in out.files}
        Evidence(todo.fingerprint, scores[key], files).save(folder)
        manifest = manifest.with_state(
            key, state=str(State.COMPLETE), evidence={"rows": len(rows), "total": len(rows)}
        )
    manifest.save(plan.paths.manifest)
    assert Manifest.load(plan.paths.manifest) is not None and set(scores) == set(
        map(str, wanted)
    ) == {by_key(key).key for key in wanted}
    return FinishedRun(cfg, plan.paths, scores)
