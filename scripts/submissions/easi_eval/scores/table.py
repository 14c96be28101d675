"""The score table as files: ``easi_scores.csv`` and ``easi_scores.md``.

The CSV file has all digits of the scores and the values needed to check them. The Markdown file is
for people.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator

from ..benchmarks import GROUPS
from ..core.formats import duration
from .report import footnotes, warning_lines
from .score_table import BenchmarkScore, ScoreTable, State, title_of

COLUMNS = (
    "benchmark",
    "part",
    "score",
    "n",
    "unparsed",
    "failed",
    "truncated",
    "coin_flips",
    "time",
    "method",
    "comparable",
    "state",
    "reason",
)
# Further columns, for checking the scores: the size of the dataset, and the sums that SITE is
# pooled from.
EXTRA_COLUMNS = ("total", "points", "weight")
AVERAGE = "easi8_average"


def _cell(value: object) -> str:
    return "" if value is None else repr(value) if isinstance(value, float) else str(value)


def _record(name: str, part: str, score: BenchmarkScore) -> dict[str, str]:
    """Return the headline row of a benchmark, a group or a member of a group."""
    pool = score.pools.get("")
    return {
        "benchmark": name,
        "part": part,
        "score": _cell(score.reading.overall),
        "n": _cell(score.n),
        "unparsed": _cell(score.unparsed),
        "failed": _cell(score.failed),
        "truncated": _cell(score.truncated),
        "coin_flips": _cell(score.coin_flips),
        "time": "" if score.seconds is None else f"{score.seconds:.1f}",
        "method": score.method,
        "comparable": score.comparable,
        "state": str(score.state),
        "reason": score.reason or score.reading.why_missing.get("", ""),
        "total": _cell(score.total),
        "points": _cell(pool.points if pool else None),
        "weight": _cell(pool.weight if pool else None),
    }


def _method_records(name: str, prefix: str, score: BenchmarkScore) -> Iterator[dict[str, str]]:
    """Yield the headline by each method that is not the one that counts, as part ``[method]``."""
    for method, reading in score.by_method.items():
        if method != score.method:
            yield {
                **dict.fromkeys((*COLUMNS, *EXTRA_COLUMNS), ""),
                "benchmark": name,
                "part": f"{prefix}[{method}]",
                "score": _cell(reading.overall),
                "method": method,
                "reason": reading.why_missing.get("", ""),
            }


def _part_records(name: str, prefix: str, score: BenchmarkScore) -> Iterator[dict[str, str]]:
    for part, value in score.reading.parts.items():
        pool = score.pools.get(part)
        yield {
            **dict.fromkeys((*COLUMNS, *EXTRA_COLUMNS), ""),
            "benchmark": name,
            "part": prefix + part,
            "score": _cell(value),
            "reason": score.reading.why_missing.get(part, ""),
            "points": _cell(pool.points if pool else None),
            "weight": _cell(pool.weight if pool else None),
        }


def records(table: ScoreTable) -> list[dict[str, str]]:
    """Return every row of the table as text cells.

    These are each benchmark and its parts, SITE's halves below SITE, and the average at the end.
    """
    members = {group.key: group.members for group in GROUPS}
    lines: list[dict[str, str]] = []
    for score in table.headlines:
        lines += [
            _record(score.key, "", score),
            *_method_records(score.key, "", score),
            *_part_records(score.key, "", score),
        ]
        for key in members.get(score.key, ()):
            half = table.row(key)
            if half:
                lines += [
                    _record(score.key, key, half),
                    *_method_records(score.key, f"{key}/", half),
                    *_part_records(score.key, f"{key}/", half),
                ]
    average = table.easi8_average
    lacking = table.lacking()
    lines.append(
        {
            **dict.fromkeys((*COLUMNS, *EXTRA_COLUMNS), ""),
            "benchmark": AVERAGE,
            "score": _cell(average),
            "state": str(State.MISSING if average is None else State.COMPLETE),
            "reason": f"needs {', '.join(lacking)}" if lacking else "",
        }
    )
    return lines


def csv_text(table: ScoreTable) -> str:
    """Return ``easi_scores.csv``; scores have all their digits."""
    text = io.StringIO()
    writer = csv.DictWriter(text, (*COLUMNS, *EXTRA_COLUMNS), lineterminator="\n")
    writer.writeheader()
    writer.writerows(records(table))
    return text.getvalue()


def markdown_text(table: ScoreTable) -> str:
    """Return ``easi_scores.md``: warnings, the table with two decimals, and notes.

    Parts are listed below their benchmark.
    """
    suspicious = warning_lines(table)
    lines = [
        f"# EASI scores: {_plain(table.model)}",
        "",
        f"Backend: {table.backend}. Scores are 0-100; SITE is chance-adjusted and may be negative.",
        "",
        *(f"- {_plain(warning)}" for warning in suspicious),
        *([""] if suspicious else []),
        (
            "| benchmark | part | score | n | unparsed | failed | truncated | coin flips | time "
            "| method | comparable | state | reason |"
        ),
        "|---|---|---:|---:|---:|---:|---:|---:|---:|---|---|---|---|",
    ]
    for record in records(table):
        name = record["benchmark"]
        title = "EASI-8 average" if name == AVERAGE else "" if record["part"] else title_of(name)
        score = f"{float(record['score']):.2f}" if record["score"] else ""
        took = duration(float(record["time"])) if record["time"] else ""
        shown = {**record, "score": score, "time": took}
        cells = (title, *(shown[column] for column in COLUMNS[1:]))
        lines.append("| " + " | ".join(_plain(cell) for cell in cells) + " |")
    if notes := footnotes(table):
        lines += ["", *(f"- {_plain(note)}" for note in notes)]
    return "\n".join(lines) + "\n"


def _plain(text: str) -> str:
    """Return the text as one line that is safe in a Markdown table."""
    return " ".join(text.split()).replace("|", "\\|")
