"""Read the result files of lmms-eval 0.7.3.

A launch writes ``<stamp>_results.json`` and one ``<stamp>_samples_<task>.jsonl`` per task.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from ...benchmarks import LMMS_EVAL, Benchmark, Source
from ...core.errors import EasiError
from ...scores.outputs import Outputs, newest_files
from ...scores.row_table import cluster_of, frame
from ...scores.rows import reading
from ...scores.scorer_notes import ScorerNotes, failed_records, notes_file
from ...scores.scores import Reading

AGAIN = "the file is cut off or damaged: run this benchmark again with --rerun"
RESULTS = "_results.json"


def _json(path: Path) -> dict[str, Any]:
    try:
        loaded = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise EasiError(f"{path} cannot be read: {error}", hint=AGAIN) from error
    if not isinstance(loaded, dict) or not isinstance(loaded.get("results"), dict):
        raise EasiError(f"{path} has no results", hint="it is not a results file of lmms-eval")
    return loaded


def find_lmms_outputs(bench: Benchmark, folder: Path, task: str = "") -> Outputs:
    """Return the newest results file of this benchmark and its samples files.

    There is one samples file per subtask. If the newest file is damaged, that is an error; an older
    file is never used in its place.

    Args:
        bench: The benchmark.
        folder: The folder to search.
        task: The task of one variant of the benchmark; "" accepts any variant.

    Raises:
        EasiError: A file is missing or damaged; the message names it.
    """
    main = bench.source(LMMS_EVAL)
    sources = [bench.source(LMMS_EVAL, task)] if task else [main, *main.variants.values()]
    for path in newest_files(folder.rglob(f"*{RESULTS}") if folder.is_dir() else ()):
        results = _json(path)["results"]
        source = next((source for source in sources if source.task in results), None)
        if source is None:
            continue
        stamp = path.name.removesuffix(RESULTS)
        samples = tuple(path.with_name(f"{stamp}_samples_{name}.jsonl") for name in source.tasks)
        lacking = [sample.name for sample in samples if not sample.is_file()]
        if lacking:
            raise EasiError(
                f"{path.parent} lacks {', '.join(lacking)}",
                hint="lmms-eval only warns when it cannot save samples; see the log",
            )
        notes = notes_file(samples[0], folder)
        return Outputs(bench.key, folder, (path,), samples, (notes,) if notes else (), source.task)
    names = " or ".join(source.task for source in sources)
    raise EasiError(
        f"{folder} holds no results of {bench.title} (task {names})",
        hint="scoring did not finish; see the log",
    )


def _sample_task(path: Path) -> str:
    return path.stem.rpartition("_samples_")[2]


def source_of(bench: Benchmark, out: Outputs) -> Source:
    """Return the benchmark's source, or the variant of it, that wrote these files."""
    main = bench.source(LMMS_EVAL)
    task = _sample_task(out.rows[0])
    return main if task in main.tasks else bench.source(LMMS_EVAL, task)


# ---- aggregates


def _value(raw: object) -> float | None:
    """Return a score as a float.

    None for the values that lmms-eval writes where it has no score: ``[]``, ``"N/A"`` and NaN.
    """
    if isinstance(raw, bool) or not isinstance(raw, (int, float)) or not math.isfinite(raw):
        return None
    return float(raw)


def _aggregate(
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


def read_lmms_scores(bench: Benchmark, out: Outputs, rows: pd.DataFrame | None = None) -> Reading:
    """Read the headline and the sub-scores, 0-100.

    Args:
        bench: The benchmark.
        out: Its files.
        rows: The per-question table, if it has been read already. The table is needed for parts
            that have no metric of their own, and to tell a score of 0 from a question type that was
            not asked, which lmms-eval also writes as 0.
    """
    source = source_of(bench, out)
    path = out.scores[0]
    asked = read_lmms_rows(bench, out) if rows is None else rows
    return reading(source, _aggregate(_json(path)["results"], source), asked, str(path))


# ---- rows


def lmms_total(bench: Benchmark, out: Outputs) -> int:
    """Return the number of rows in the dataset, regardless of ``--limit``.

    It is ``n-samples`` in the results file.
    """
    path = out.scores[0]
    counts = _json(path).get("n-samples", {})
    try:
        return sum(int(counts[task]["original"]) for task in source_of(bench, out).tasks)
    except (KeyError, TypeError, ValueError) as error:
        raise EasiError(f"{path} does not say how many rows the dataset has", hint=AGAIN) from error


def _lines(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the place (for error messages) and the content of each sample.

    Raises EasiError at the first damaged line.
    """
    try:
        with path.open(encoding="utf-8", newline="\n") as file:
            for number, line in enumerate(file, start=1):
                where = f"{path}, line {number}"
                if not line.endswith("\n"):
                    raise EasiError(f"{where} is cut off", hint=AGAIN)
                yield where, json.loads(line)
    except (OSError, ValueError) as error:
        raise EasiError(f"{path} cannot be read: {error}", hint=AGAIN) from error


def _first_text(value: Any) -> str:
    """Return the answer of a sample, which lmms-eval puts into nested lists."""
    while isinstance(value, list):
        value = value[0] if value else ""
    return "" if value is None else str(value)


def _entry(sample: Mapping[str, Any], metric: str, where: str) -> Mapping[str, Any]:
    entry = sample.get(metric)
    if isinstance(entry, str):  # lmms-eval writes objects that JSON cannot represent as text
        try:
            entry = json.loads(entry)
        except ValueError as error:
            raise EasiError(f"{where}: {metric} is no JSON", hint=AGAIN) from error
    if not isinstance(entry, dict):
        raise EasiError(
            f"{where} has no {metric}", hint="it is not the samples file this task writes"
        )
    return entry


def record_of(
    bench: Benchmark, source: Source, task: str, sample: Mapping[str, Any], where: str
) -> dict[str, Any]:
    """Return one question's row of the per-question table, made from its sample.

    ``where`` names the sample in error messages.
    """
    rule = source.rows
    entry = _entry(sample, rule.entry, where)
    score = next(
        (value for name in rule.score if (value := entry.get(name)) is not None and value == value),
        None,
    )
    if not isinstance(score, (bool, int, float)):
        raise EasiError(f"{where}: {rule.entry} has no {' or '.join(rule.score)}", hint=AGAIN)
    doc = sample.get(rule.item)
    cluster = _first_text(sample.get(rule.cluster, entry.get(rule.cluster))) if rule.cluster else ""
    return {
        "benchmark": bench.key,
        "item": f"{task}:{doc}",
        "question_type": _question_type(source, task, sample, entry, where),
        "answer": _first_text(
            sample["resps"] if "resps" in sample else sample.get("filtered_resps")
        ),
        "extracted": str(entry[rule.extracted]) if entry.get(rule.extracted) else None,
        "target": str(entry.get(rule.target, "")) if rule.target else str(sample.get("target", "")),
        "score": float(score),
        "parsed": _parsed(rule.unparsed_when, rule.unparsed, entry),
        "cluster": cluster_of(cluster, rule.cluster_chars),
        "options": _options(sample, rule.chance, where) if rule.chance else None,
        # SITE's task draws a random letter for an answer that it cannot read. The samples do not
        # show that, and repeating the task's parsing here would be a second parser that may differ.
        # So the value is unknown unless our scorer recorded the draws.
        "coin_flip": None if source.random_fallback else False,
        "variant": str(entry.get(rule.variant, "")) if rule.variant else "",
        "rule": "letter" if rule.extracted else "",
    }


def _question_type(
    source: Source, task: str, sample: Mapping[str, Any], entry: Mapping[str, Any], where: str
) -> str:
    name = source.rows.question_type
    if name == "@task":
        return task
    if name == "@counted":
        kinds = {kind for part in source.parts for kind in part.types}
        return next(
            (
                kind
                for kind in sorted(kinds)
                if kind in sample and _entry(sample, kind, where).get("total")
            ),
            "",
        )
    return str(entry.get(name, ""))


def _parsed(when: str, name: str, entry: Mapping[str, Any]) -> bool | None:
    match when:
        case "present":
            return name not in entry
        case "empty":
            return entry.get(name) != ""
        case _:
            return None


def _options(sample: Mapping[str, Any], metric: str, where: str) -> int:
    """Return the number of options n, from the metric's ``total`` = 1 - 1/n."""
    total = _entry(sample, metric, where).get("total")
    if not isinstance(total, (int, float)) or not 0 <= total < 1:
        raise EasiError(f"{where}: {metric} has no total between 0 and 1", hint=AGAIN)
    return round(1 / (1 - total))


def lmms_samples(
    bench: Benchmark, out: Outputs
) -> Iterator[tuple[str, dict[str, Any], Mapping[str, Any]]]:
    """Yield the item, the sample and the task's own object of each question.

    That object is the metric that the benchmark's row rule names (``rows.entry``).
    """
    rule = source_of(bench, out).rows
    for path in out.rows:
        for where, sample in _lines(path):
            yield (
                f"{_sample_task(path)}:{sample.get(rule.item)}",
                sample,
                _entry(sample, rule.entry, where),
            )


def sample_entries(bench: Benchmark, out: Outputs) -> dict[str, Mapping[str, Any]]:
    """Return the task's own object of each question by item (see ``lmms_samples``)."""
    return {item: entry for item, _, entry in lmms_samples(bench, out)}


def read_lmms_rows(bench: Benchmark, out: Outputs) -> pd.DataFrame:
    """Return the per-question table with ROW_COLUMNS, sorted by task and doc_id.

    Raises:
        EasiError: A sample is damaged, missing or duplicated.
    """
    source = source_of(bench, out)
    counts = _json(out.scores[0]).get("n-samples", {})
    notes = ScorerNotes.of(out.rows[0], out.folder)
    failed = Counter(one.item.rpartition(":")[0] for one in notes.failed)
    records: list[dict[str, Any]] = []
    for path in out.rows:
        task = _sample_task(path)
        numbered = sorted(
            ((sample.get(source.rows.item), where, sample) for where, sample in _lines(path)),
            key=lambda one: (str(type(one[0])), one[0]),
        )
        if len({doc for doc, _, _ in numbered}) != len(numbered):
            raise EasiError(
                f"{path} has the same question twice",
                hint="two runs wrote into it; run this benchmark again with --rerun",
            )
        expected = counts.get(task, {}).get("effective")
        if expected is not None and expected != len(numbered) + failed[task]:
            raise EasiError(
                f"{path} has {len(numbered)} samples, the results say {expected - failed[task]}",
                hint=AGAIN,
            )
        records += [record_of(bench, source, task, sample, where) for _, where, sample in numbered]
    if not records:
        raise EasiError(f"{out.rows[0]} has no samples", hint=AGAIN)
    for name, items, holds in (
        ("parsed", notes.unparsed, False),
        ("coin_flip", notes.flipped, True),
    ):
        if items is not None:  # our scorer recorded this; the backend's files do not have it
            named = set(items)
            for record in records:
                record[name] = holds == (record["item"] in named)
    return frame([*records, *failed_records(bench.key, notes.failed)])
