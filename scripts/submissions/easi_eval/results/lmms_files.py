"""lmms-eval's result files (0.7.3): ``<stamp>_results.json`` and ``<stamp>_samples_<task>.jsonl``."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from ..benchmarks import LMMS_EVAL, Benchmark, Source
from ..errors import EasiError
from .notes import ScorerNotes, notes_file
from .outputs import Outputs
from .rows import cluster_of, failed_records, frame, newest_files, reading
from .scores import Reading

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
    """The newest results file below ``folder`` that has this benchmark, and its samples files, one per subtask.

    ``task`` asks for one variant; empty takes whichever is newest. Raises EasiError naming what is not there; a damaged
    newest file is an error and never makes an older one count.
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
    """The source or variant whose files these are."""
    main = bench.source(LMMS_EVAL)
    task = _sample_task(out.rows[0])
    return main if task in main.tasks else bench.source(LMMS_EVAL, task)


# ---- aggregates


def _value(raw: object) -> float | None:
    """A score; None for what lmms-eval writes where it has none: ``[]``, ``"N/A"``, NaN."""
    if isinstance(raw, bool) or not isinstance(raw, (int, float)) or not math.isfinite(raw):
        return None
    return float(raw)


def _aggregate(
    results: Mapping[str, Mapping[str, object]], source: Source
) -> dict[str, float | None]:
    """Every metric of the task in its own scale, by name; those of subtasks as ``subtask|metric``."""
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
    """Headline and sub-scores, 0-100. ``rows`` saves reading them again: parts without a metric of their own need them,
    and so does telling a score of 0 from a kind of question nobody asked, which lmms-eval also writes as 0.
    """
    source = source_of(bench, out)
    path = out.scores[0]
    asked = read_lmms_rows(bench, out) if rows is None else rows
    return reading(source, _aggregate(_json(path)["results"], source), asked, str(path))


# ---- rows


def lmms_total(bench: Benchmark, out: Outputs) -> int:
    """How many rows the dataset has, whatever ``--limit`` left of them: ``n-samples`` of the results file."""
    path = out.scores[0]
    counts = _json(path).get("n-samples", {})
    try:
        return sum(int(counts[task]["original"]) for task in source_of(bench, out).tasks)
    except (KeyError, TypeError, ValueError) as error:
        raise EasiError(f"{path} does not say how many rows the dataset has", hint=AGAIN) from error


def _lines(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Place and content of each sample; EasiError at the first line that is not one."""
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
    """The one answer of a sample, however deep lmms-eval nests it."""
    while isinstance(value, list):
        value = value[0] if value else ""
    return "" if value is None else str(value)


def _entry(sample: Mapping[str, Any], metric: str, where: str) -> Mapping[str, Any]:
    entry = sample.get(metric)
    if isinstance(entry, str):  # objects that JSON does not know are written as text
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
    """One question's row from its sample; ``where`` names it in errors."""
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
        # The letter drawn for an answer SITE's task cannot read leaves no trace in the samples, and doing its parsing over
        # again here would be a second parser: unknown unless the scorer counts the draws.
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
    """Number of options n from the metric's ``total`` = 1 - 1/n."""
    total = _entry(sample, metric, where).get("total")
    if not isinstance(total, (int, float)) or not 0 <= total < 1:
        raise EasiError(f"{where}: {metric} has no total between 0 and 1", hint=AGAIN)
    return round(1 / (1 - total))


def lmms_samples(
    bench: Benchmark, out: Outputs
) -> Iterator[tuple[str, dict[str, Any], Mapping[str, Any]]]:
    """Each question's item and sample, and the object that the task left of it (the row rule's metric)."""
    rule = source_of(bench, out).rows
    for path in out.rows:
        for where, sample in _lines(path):
            yield (
                f"{_sample_task(path)}:{sample.get(rule.item)}",
                sample,
                _entry(sample, rule.entry, where),
            )


def sample_entries(bench: Benchmark, out: Outputs) -> dict[str, Mapping[str, Any]]:
    """Those objects by item."""
    return {item: entry for item, _, entry in lmms_samples(bench, out)}


def read_lmms_rows(bench: Benchmark, out: Outputs) -> pd.DataFrame:
    """ROW_COLUMNS, one row per question, by task and doc_id; EasiError if a sample is damaged, lacking or there twice."""
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
        if items is not None:  # our scorer watched, and the files do not say
            named = set(items)
            for record in records:
                record[name] = holds == (record["item"] in named)
    return frame([*records, *failed_records(bench.key, notes.failed)])
