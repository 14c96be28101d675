"""Tiny data of all rehearsed benchmarks for both backends, as the real repositories hold theirs."""

from __future__ import annotations

import pkgutil
from importlib import import_module
from pathlib import Path

from easi_eval.benchmarks import BENCHMARKS, VLMEVALKIT

from . import benchmarks, media

MODULES = [
    import_module(f"{benchmarks.__name__}.{found.name}")
    for found in pkgutil.iter_modules(benchmarks.__path__)
]
# By benchmark: the function that makes its questions from a seed.
ASKED = {key: asked for module in MODULES for key, asked in module.ASKED.items()}


def build(root: Path, seed: int = 0) -> None:
    """Write every repository below ``root/datasets/<org>/<name>``, ready for ``LocalHub(root)``.

    The same seed gives the same bytes.  Both backends get the same questions and the same media.
    """
    datasets = root / "datasets"
    for module in MODULES:
        module.vlmevalkit(datasets, seed)
        module.lmms_eval(datasets, seed)
    for repo in {bench.source(VLMEVALKIT).data.repo for bench in BENCHMARKS if bench.rehearsal}:
        text = f"# {Path(repo).name}\n\nMade-up data in the layout of the dataset of this name.\n"
        media.write(datasets / repo / "README.md", text)
