"""The backends' own result files, read directly: what the program's numbers are compared with."""

from __future__ import annotations

import csv
import json
from pathlib import Path

# lmms-eval 0.7.3: the task's name in its results file, its headline metric, and the factor that
# brings the metric to 0-100.
LMMS_HEADLINES = {
    "vsi_bench": ("vsibench_multiimage", "vsibench_overall", 100),
    "mmsi_bench": ("mmsi_bench", "average", 100),
    "mindcube_tiny": ("mindcube_tiny", "overall_accuracy", 100),
    "viewspatial": ("viewspatial", "overall_accuracy", 100),
    "site_image": ("site_bench_image", "chance_adjusted_acc", 1),
    "site_video": ("site_bench_video_multiimage", "chance_adjusted_acc", 1),
    "blink": ("blink", "blink_acc", 100),
    "3dsrbench": ("3dsrbench", "vanilla_accuracy", 100),
    "embspatial": ("embspatial", "embspatial_acc", 100),
    "mmsi_video_bench": ("mmsi_video_u50", "overall_accuracy", 1),
    "omnispatial_(manual_cot)": ("omnispatial_test", "omnispatial", 100),
    "spar_bench": ("sparbench", "sparbench_score", 1),
    "vsi_debiased": ("vsibench_debiased_multiimage", "vsibench_overall", 100),
}
KEYS = tuple(LMMS_HEADLINES)
CORE = KEYS[:9]
FRACTIONS = ("blink", "3dsrbench", "spar_bench")  # which headlines VLMEvalKit writes as 0-1


def headline(backend: str, key: str, folder: Path) -> float:
    """The headline score, 0-100, that the backend wrote below ``folder``."""
    return _vlmevalkit(key, folder) if backend == "vlmevalkit" else _lmms(key, folder)


def _lmms(key: str, folder: Path) -> float:
    task, metric, scale = LMMS_HEADLINES[key]
    (path,) = folder.glob("*/*_results.json")
    return json.loads(path.read_text(encoding="utf-8"))["results"][task][f"{metric},none"] * scale


def _vlmevalkit(key: str, folder: Path) -> float:
    if key == "3dsrbench":
        (path,) = folder.glob("*_results.tsv")
        return 100 * float(
            next(line for line in _lines(path, "\t") if line["setting"] == "vanilla")["Overall"]
        )
    (path,) = (
        path for path in folder.glob("*_acc.csv") if not path.name.endswith("_subset_acc.csv")
    )
    if key == "blink":
        return 100 * float(_lines(path, ",")[0]["Overall"])
    lines = _lines(path, "\t")
    if key.startswith("site_"):
        return float(next(line for line in lines if line["metric"] == "overall_caa")["value"])
    return float(lines[-1]["overall"]) * (100 if key in FRACTIONS else 1)


def _lines(path: Path, delimiter: str) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter=delimiter))
