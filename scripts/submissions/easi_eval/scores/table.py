"""The score table as files: ``easi_scores.csv`` and ``easi_scores.md``.

The CSV file has all digits of the scores and the values needed to check them. The Markdown file is
for people.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict

from ..benchmarks import GROUPS, part_title
from ..core.formats import duration
from .interval import Interval
from .report import SCALE, footnotes, span, warning_lines
from .score_table import AVERAGE, BenchmarkScore, ScoreTable, State, title_of

COLUMNS = (
    "benchmark",
    "part",
    "score",
    "error",
    "low",
    "high",
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
# Further columns: for checking the scores (the size of the dataset, and the sums that SITE is
# pooled from) and their intervals, and what the rows of many runs differ by.
EXTRA_COLUMNS = ("total", "points", "weight", "clusters", "chance")
RUN_COLUMNS = ("model", "backend", "identity", "versions", "date")
ALL_COLUMNS = (*COLUMNS, *EXTRA_COLUMNS, *RUN_COLUMNS)


def _cell(value: object) -> str:
    return "" if value is None else repr(value) if isinstance(value, float) else str(value)


def _line(name: str, part: str, value: float | None, interval: Interval | None) -> dict[str, str]:
    """Return the row of a score with what every row has; other columns are empty."""
    found: dict[str, object] = asdict(interval) if interval else {}
    if interval:
        found["low"], found["high"] = interval.ends or (None, None)
        found["error"] = interval.error if interval.ends else None
    sure = ("error", "low", "high", "n", "clusters", "chance")
    return {
        **dict.fromkeys(ALL_COLUMNS, ""),
        "benchmark": name,
        "part": part,
        "score": _cell(value),
        **{column: _cell(found.get(column)) for column in sure},
    }


def _record(name: str, part: str, score: BenchmarkScore) -> dict[str, str]:
    """Return the headline row of a benchmark, a group or a member of a group."""
    pool = score.pools.get("")
    return {
        **_line(name, part, score.reading.overall, score.intervals.get("")),
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
                **_line(name, f"{prefix}[{method}]", reading.overall, None),
                "method": method,
                "reason": reading.why_missing.get("", ""),
            }


def _part_records(name: str, prefix: str, score: BenchmarkScore) -> Iterator[dict[str, str]]:
    for part, value in score.reading.parts.items():
        pool = score.pools.get(part)
        yield {
            **_line(name, prefix + part, value, score.intervals.get(part)),
            "reason": score.reading.why_missing.get(part, ""),
            "points": _cell(pool.points if pool else None),
            "weight": _cell(pool.weight if pool else None),
        }


def records(table: ScoreTable) -> list[dict[str, str]]:
    """Return every row of the table as text cells.

    These are each benchmark and its parts, SITE's halves below SITE, and the average at the end.
    """
    lines: list[dict[str, str]] = []
    for score in table.headlines:
        for prefix, shown in _shown(table, score):
            lines += [
                _record(score.key, prefix.rstrip("/"), shown),
                *_method_records(score.key, prefix, shown),
                *_part_records(score.key, prefix, shown),
            ]
    average, lacking = table.easi8_average, table.lacking()
    lines.append(
        {
            **_line(AVERAGE, "", average, table.average_interval),
            "state": str(State.MISSING if average is None else State.COMPLETE),
            "reason": f"needs {', '.join(lacking)}" if lacking else "",
        }
    )
    run = {
        "model": table.model,
        "backend": table.backend,
        "identity": table.identity,
        "versions": "; ".join(f"{name} {version}" for name, version in table.versions.items()),
        "date": table.date,
    }
    return [{**line, **run} for line in lines]


def _shown(table: ScoreTable, score: BenchmarkScore) -> Iterator[tuple[str, BenchmarkScore]]:
    """Yield a headline, then the members of a group, each with the prefix of its parts."""
    yield "", score
    for key in {group.key: group.members for group in GROUPS}.get(score.key, ()):
        if half := table.row(key):
            yield f"{key}/", half


def csv_text(table: ScoreTable) -> str:
    """Return ``easi_scores.csv``; scores have all their digits."""
    text = io.StringIO()
    writer = csv.DictWriter(text, ALL_COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(records(table))
    return text.getvalue()


# ---- for people


HEADLINES = {
    "benchmark": "---",
    "score": "---:",
    "95 % interval": "---:",
    "questions": "---:",
    "chance": "---:",
    "unparsed": "---:",
    "failed": "---:",
    "truncated": "---:",
    "coin flips": "---:",
    "time": "---:",
    "method": "---",
    "comparable": "---",
    "state": "---",
}
MOST_NAMED = 3  # sub-scores without a score that are named


def markdown_text(table: ScoreTable) -> str:
    """Return ``easi_scores.md``: warnings, one line per benchmark, notes, then the sub-scores."""
    heads = [
        _headline(title_of(shown.key), shown)
        for score in table.headlines
        for _, shown in _shown(table, score)
    ]
    average = ("EASI-8 average", *_sure(table.easi8_average, table.average_interval))
    lines = [
        f"# EASI scores: {_plain(table.model)}",
        *_list(warning_lines(table)),
        "",
        _made(table),
        "",
        SCALE,
        "",
        *_rows(HEADLINES, [*heads, (*average, *[""] * (len(HEADLINES) - len(average)))]),
        *_list([*_reasons(table), *footnotes(table)]),
    ]
    for score in table.headlines:
        for _, shown in _shown(table, score):
            if shown.reading.parts or len(shown.by_method) > 1:
                lines += ["", f"## {_plain(title_of(shown.key))}", *_sections(shown)]
    return "\n".join(lines) + "\n"


def _made(table: ScoreTable) -> str:
    """Return what the scores were made with, and when."""
    versions = ", ".join(f"{name} {version}" for name, version in table.versions.items())
    parts = (
        f"Backend: {table.backend}",
        f"started {table.date}" if table.date else "",
        f"identity {table.identity[:8]}" if table.identity else "",
        versions,
    )
    return _plain("; ".join(filter(None, parts))) + "."


def _sure(value: float | None, interval: Interval | None) -> tuple[str, str, str, str]:
    """Return score, interval, number of questions and chance level as they are shown."""
    chance = "" if interval is None or interval.chance is None else f"{interval.chance:.1f}"
    at_chance = interval is not None and interval.at_chance
    return (
        "" if value is None else f"{value:.2f}",
        span(interval),
        "" if interval is None else f"{interval.n:,}",
        f"{chance}, at chance" if at_chance else chance,
    )


def _headline(title: str, score: BenchmarkScore) -> tuple[str, ...]:
    value, interval, _, chance = _sure(score.reading.overall, score.intervals.get(""))
    counts = (score.unparsed, score.failed, score.truncated, score.coin_flips)
    n = f"{score.n:,}" if score.total in (None, score.n) else f"{score.n:,} of {score.total:,}"
    return (
        title,
        value,
        interval,
        n,
        chance,
        *(_cell(count) for count in counts),
        "" if score.seconds is None else duration(score.seconds),
        score.method,
        score.comparable,
        str(score.state),
    )


def _reasons(table: ScoreTable) -> list[str]:
    """Return why benchmarks are not complete or have no score."""
    whys = {row.key: row.reason or row.reading.why_missing.get("", "") for row in table.headlines}
    lines = [f"{title_of(key)}: {why}" for key, why in whys.items() if why]
    if table.easi8_average is None and (lacking := table.lacking()):
        lines.append(f"EASI-8 average: needs {', '.join(map(title_of, lacking))}")
    return lines


def _sections(score: BenchmarkScore) -> list[str]:
    """Return the sub-scores of a benchmark; those without a score together, by reason."""
    rows = [
        (f"all, by {method}", *_sure(reading.overall, None))
        for method, reading in score.by_method.items()
        if method != score.method
    ]
    missing: dict[str, list[str]] = {}
    for part, value in score.reading.parts.items():
        if value is None:
            why = score.reading.why_missing.get(part, "no score")
            missing.setdefault(why, []).append(part_title(score.key, part))
        else:
            title = part_title(score.key, part)
            rows.append((title, *_sure(value, score.intervals.get(part))))
    names = {"category": "---", **dict(list(HEADLINES.items())[1:5])}
    without = [
        f"{', '.join(parts) if len(parts) <= MOST_NAMED else f'{len(parts)} categories'}: {why}"
        for why, parts in missing.items()
    ]
    return [*(["", *_rows(names, rows)] if rows else []), *_list(without)]


def _rows(columns: Mapping[str, str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return a Markdown table; ``columns`` has the alignment of each."""
    lines = (columns, columns.values(), *rows)
    return [f"| {' | '.join(map(_plain, cells))} |" for cells in lines]


def _list(lines: Sequence[str]) -> list[str]:
    return ["", *(f"- {_plain(line)}" for line in lines)] if lines else []


def _plain(text: str) -> str:
    """Return the text as one line that is safe in a Markdown table."""
    return " ".join(text.split()).replace("|", "\\|")
