"""Read the result files of lmms-eval 0.7.3.

A launch writes ``<stamp>_results.json`` and one ``<stamp>_samples_<task>.jsonl`` per task.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...benchmarks import LMMS_EVAL, Benchmark, Source
from ...core.errors import EasiError
from ...scores.outputs import Outputs, newest_files
from ...scores.scorer_notes import notes_file
from .samples import AGAIN, source_of

RESULTS = "_results.json"


def read_results(path: Path) -> dict[str, Any]:
    """Return the content of a results file.

    Raises:
        EasiError: It is damaged, or no results file.
    """
    try:
        loaded = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise EasiError(f"{path} cannot be read: {error}", hint=AGAIN) from error
    if not isinstance(loaded, dict) or not isinstance(loaded.get("results"), dict):
        raise EasiError(f"{path} has no results", hint="it is not a results file of lmms-eval")
    return loaded


def find_lmms_outputs(
    bench: Benchmark, folder: Path, task: str = "", *, whole: bool = True
) -> Outputs:
    """Return the newest results file of this benchmark and its samples files.

    There is one samples file per subtask. If the newest file is damaged, that is an error; an older
    file is never used in its place.

    Args:
        bench: The benchmark.
        folder: The folder to search.
        task: The task of one variant of the benchmark; "" accepts any variant.
        whole: Whether all samples files must be there.

    Raises:
        EasiError: A file is missing or damaged; the message names it.
    """
    main = bench.source(LMMS_EVAL)
    sources = [bench.source(LMMS_EVAL, task)] if task else [main, *main.variants.values()]
    for path in newest_files(folder.rglob(f"*{RESULTS}") if folder.is_dir() else ()):
        results = read_results(path)["results"]
        source = next((source for source in sources if source.task in results), None)
        if source is None:
            continue
        stamp = path.name.removesuffix(RESULTS)
        samples = tuple(path.with_name(f"{stamp}_samples_{name}.jsonl") for name in source.tasks)
        lacking = [sample.name for sample in samples if not sample.is_file()]
        if lacking and whole:
            raise EasiError(
                f"{path.parent} lacks {', '.join(lacking)}",
                hint="lmms-eval could not save samples, which it only warns about; see the log",
            )
        notes = notes_file(path, folder)
        present = tuple(sample for sample in samples if sample.name not in lacking)
        return Outputs(bench.key, folder, (path,), present, (notes,) if notes else (), source.task)
    names = " or ".join(source.task for source in sources)
    raise EasiError(
        f"{folder} holds no results of {bench.title} (task {names})",
        hint="scoring did not finish; see the log",
    )


def _value(raw: object) -> float | None:
    """Return a score as a float.

    None for the values that lmms-eval writes where it has no score: ``[]``, ``"N/A"`` and NaN.
    """
    if isinstance(raw, bool) or not isinstance(raw, (int, float)) or not math.isfinite(raw):
        return None
    return float(raw)


def aggregate(
    results: Mapping[str, Mapping[str, object]], source: Source
) -> dict[str, float | None]:
    """Return every metric of the task by name, in the metric's own scale.

    Metrics of subtasks are named ``subtask|metric``.
    """
    found: dict[str, float | None] = {}
    for task in (source.task, *source.subtasks):
        for name, raw in results.get(task, {}).items():
            metric = name.removesuffix(",none")
            if metric != name and not metric.endswith(
                ("_stderr", "_stderr_clt", "_stderr_clustered")
            ):
                found[metric if task == source.task else f"{task}|{metric}"] = _value(raw)
    return found


def lmms_total(bench: Benchmark, out: Outputs) -> int:
    """Return the number of rows in the dataset, regardless of ``--limit``.

    It is ``n-samples`` in the results file.
    """
    path = out.scores[0]
    counts = read_results(path).get("n-samples", {})
    try:
        return sum(int(counts[task]["original"]) for task in source_of(bench, out).tasks)
    except (KeyError, TypeError, ValueError) as error:
        raise EasiError(
            f"{path} does not give the number of rows of the dataset", hint=AGAIN
        ) from error
