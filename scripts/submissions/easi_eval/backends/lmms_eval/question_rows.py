"""The per-question table of a benchmark, from the samples files of lmms-eval."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

import pandas as pd

from ...benchmarks import Benchmark, Source
from ...core.errors import EasiError
from ...scores.outputs import Outputs
from ...scores.row_table import cluster_of, frame
from ...scores.scorer_notes import ScorerNotes, failed_records
from .result_files import read_results
from .samples import AGAIN, entry_of, read_samples, sample_task, source_of


def _first_text(value: Any) -> str:
    """Return the answer of a sample, which lmms-eval puts into nested lists."""
    while isinstance(value, list):
        value = value[0] if value else ""
    return "" if value is None else str(value)


def record_of(
    bench: Benchmark, source: Source, task: str, sample: Mapping[str, Any], where: str
) -> dict[str, Any]:
    """Return one question's row of the per-question table, made from its sample.

    ``where`` names the sample in error messages.
    """
    rule = source.rows
    entry = entry_of(sample, rule.entry, where)
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
                if kind in sample and entry_of(sample, kind, where).get("total")
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
    total = entry_of(sample, metric, where).get("total")
    if not isinstance(total, (int, float)) or not 0 <= total < 1:
        raise EasiError(f"{where}: {metric} has no total between 0 and 1", hint=AGAIN)
    return round(1 / (1 - total))


def asked_of(sample: Mapping[str, Any]) -> dict[str, str]:
    """Return the prompt, and the names of the media as far as the sample has them."""
    media = sample.get("input_media") or []
    named = [str(each) for each in media] if isinstance(media, list) else [str(media)]
    return {"question": _prompt(sample.get("input")), "media": "\n".join(named)}


def _prompt(value: Any) -> str:
    """Return the texts of a prompt: a text, or the messages of a chat as JSON in a text."""
    if isinstance(value, str):
        if value[:1] not in ("[", '"'):
            return value
        try:
            inner = json.loads(value)
        except ValueError:
            return value
        return inner if isinstance(inner, str) else _prompt(inner)
    if isinstance(value, Mapping):
        return _prompt(value.get("text") or value.get("content") or "")
    return "\n".join(filter(None, map(_prompt, value))) if isinstance(value, list) else ""


def read_lmms_rows(bench: Benchmark, out: Outputs, asked: bool = False) -> pd.DataFrame:
    """Return the per-question table with ROW_COLUMNS, sorted by task and doc_id.

    With ``asked`` it has ASKED_COLUMNS too.

    Raises:
        EasiError: A sample is damaged, missing or duplicated.
    """
    source = source_of(bench, out)
    counts = read_results(out.scores[0]).get("n-samples", {})
    notes = ScorerNotes.of(out.rows[0], out.folder)
    failed = Counter(one.item.rpartition(":")[0] for one in notes.failed)
    records: list[dict[str, Any]] = []
    for path in out.rows:
        task = sample_task(path)
        # One sample at a time: together they have more than a hundred megabytes.
        numbered = sorted(
            (
                (
                    sample.get(source.rows.item),
                    record_of(bench, source, task, sample, where)
                    | (asked_of(sample) if asked else {}),
                )
                for where, sample in read_samples(path, source.rows)
            ),
            key=lambda one: (str(type(one[0])), one[0]),
        )
        if len({doc for doc, _ in numbered}) != len(numbered):
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
        records += [record for _, record in numbered]
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
    return frame([*records, *failed_records(bench.key, notes.failed)], asked)
