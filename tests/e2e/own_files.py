"""The backends' own result files, read directly: what the program's numbers are compared with."""

from __future__ import annotations

import csv
import json
from pathlib import Path

from easi_eval.benchmarks import LMMS_EVAL, REHEARSED_KEYS, VLMEVALKIT, by_key
from genuine import facts

KEYS = REHEARSED_KEYS
CORE = tuple(key for key in KEYS if by_key(key).core)


def headline(backend: str, key: str, folder: Path) -> float:
    """The headline score, 0-100, that the backend wrote below ``folder``."""
    return _vlmevalkit(key, folder) if backend == "vlmevalkit" else _lmms(key, folder)


def lmms_headline(key: str) -> tuple[str, str, float]:
    """The task's name in lmms-eval's results file, its headline metric, and its factor to 0-100."""
    known = facts(key)[LMMS_EVAL]
    return by_key(key).source(LMMS_EVAL).task, known["headline"], known["headline_scale"]


def _lmms(key: str, folder: Path) -> float:
    task, metric, scale = lmms_headline(key)
    (path,) = folder.glob("*/*_results.json")
    return json.loads(path.read_text(encoding="utf-8"))["results"][task][f"{metric},none"] * scale


def _vlmevalkit(key: str, folder: Path) -> float:
    scale = facts(key)[VLMEVALKIT]["headline_scale"]
    if key == "3dsrbench":
        (path,) = folder.glob("*_results.tsv")
        return scale * float(
            next(line for line in _lines(path, "\t") if line["setting"] == "vanilla")["Overall"]
        )
    (path,) = (
        path for path in folder.glob("*_acc.csv") if not path.name.endswith("_subset_acc.csv")
    )
    if key == "blink":
        return scale * float(_lines(path, ",")[0]["Overall"])
    lines = _lines(path, "\t")
    if by_key(key).group:
        return float(next(line for line in lines if line["metric"] == "overall_caa")["value"])
    return float(lines[-1]["overall"]) * scale


def _lines(path: Path, delimiter: str) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter=delimiter))
