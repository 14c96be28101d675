"""The parts of the report that need no script: tables and charts of scores and answers."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .. import benchmarks
from ..benchmarks import GROUPS
from ..core.formats import duration, percent
from ..scores.report import between, footnotes
from ..scores.score_table import AVERAGE, BenchmarkScore, State, title_of
from . import charts
from .questions import AnswerFacts
from .subject import (
    BAR,
    NAME,
    NUMBER,
    SCORE,
    Subject,
    axis,
    html,
    points,
    row,
    share,
    table,
)

LANES = 32  # workers in the timeline
SCORES = (
    ("benchmark", NAME),
    ("", BAR),
    ("score", SCORE),
    ("95 % interval", NUMBER),
    ("chance", NUMBER),
    ("questions", NUMBER),
    ("unparsed", NUMBER),
    ("failed", NUMBER),
    ("cut off", NUMBER),
    ("time", NUMBER),
    ("comparable", ""),
)
TIMES = (("benchmark", NAME), ("time", NUMBER), ("share", NUMBER), ("per question", NUMBER))
LENGTHS = (
    ("benchmark", NAME),
    ("", BAR),
    ("median", NUMBER),
    ("95 %", NUMBER),
    ("longest", NUMBER),
    ("cut off", NUMBER),
)


# ---- scores --------------------------------------------------------------------------------------


def scores_html(subject: Subject) -> str:
    """Return the score table: one row per benchmark with its bar, SITE's halves below SITE."""
    members = {group.key: group.members for group in GROUPS}
    lowest = axis_start(subject)
    lines = []
    for score in subject.table.headlines:
        lines.append(_score_row(subject, score, title_of(score.key), lowest))
        for key in members.get(score.key, ()):
            if half := subject.table.row(key):
                lines.append(_score_row(subject, half, title_of(key), lowest, "half"))
    average = subject.table.easi8_average
    if average is not None:
        cells: tuple[str, ...] = (
            "EASI-8 average",
            bar(subject, AVERAGE, "", average, lowest, "EASI-8 average"),
            points(average),
            subject.span(AVERAGE),
            points(subject.chance(AVERAGE)),
            *[""] * 6,
        )
        lines.append(row(cells, SCORES, "total"))
    return table(SCORES, "".join(lines), "scores", score_axis(subject))


def score_axis(subject: Subject) -> str:
    """Return the marks above the bars of scores."""
    low = axis_start(subject)
    return axis(f"{low:g}", 100) if low < 0 else axis(0, 25, 50, 75, 100)


def _score_row(
    subject: Subject, score: BenchmarkScore, title: str, lowest: float, cls: str = ""
) -> str:
    value = score.reading.overall
    ran = score.n > 0
    questions = f"{score.n:,}" + (
        f" of {score.total:,}" if score.total not in (None, score.n) else ""
    )
    state = "" if score.state is State.COMPLETE else f' <span class="tag">{score.state}</span>'
    cells = (
        html(title) + state,
        bar(subject, score.key, "", value, lowest, title),
        points(value),
        subject.span(score.key),
        points(subject.chance(score.key)) if ran else "",
        questions if ran else "",
        share(score.unparsed, score.n) if ran else "",
        share(score.failed, score.n) if ran else "",
        share(score.truncated, score.n) if ran else "",
        "" if score.seconds is None else html(duration(score.seconds)),
        html(score.comparable),
    )
    return row(cells, SCORES, cls)


def bar(
    subject: Subject, key: str, part: str, value: float | None, lowest: float, title: str
) -> str:
    """Return a score's bar with its interval and chance; "" if there is no score."""
    if value is None:
        return ""
    interval, chance = subject.interval(key, part), subject.chance(key, part)
    said = f"{title}: {value:.1f}" + (f", 95 % interval {between(interval)}" if interval else "")
    return charts.score_bar(value, interval, chance, lowest, said)


def axis_start(subject: Subject) -> float:
    """Return where the axis of all bars begins: 0, or below what is negative of a headline."""
    rows = (*subject.table.headlines, *subject.table.rows)
    lows = [interval[0] for row in rows if (interval := subject.interval(row.key))]
    values = [*lows, *(value for row in rows if (value := row.reading.overall) is not None)]
    return max(-50.0, min([0.0, *(10.0 * (value // 10) for value in values)]))


def notes_html(subject: Subject) -> str:
    """Return the remarks beside the scores."""
    return "".join(f"<li>{html(note)}</li>" for note in footnotes(subject.table))


# ---- published rows ------------------------------------------------------------------------------


def published_html(subject: Subject) -> str:
    """Return published scores beside ours, for benchmarks whose scores compare; "" if none do."""
    keys = [
        score.key
        for score in subject.table.headlines
        if score.comparable == "yes" and score.reading.overall is not None
    ]
    path = Path(benchmarks.__file__).with_name("published_rows.tsv")
    lines = [
        line for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith("#")
    ]
    listed = list(csv.DictReader(lines, delimiter="\t"))
    keys = [key for key in keys if key in listed[0]]
    if not keys:
        return ""
    own = {score.key: score.reading.overall for score in subject.table.headlines}
    columns = (("model", NAME), *((html(title_of(key)), NUMBER) for key in keys))
    name = f"<b>{html(subject.table.model)}</b> (this run)"
    lines = [row([name, *(points(own[key]) for key in keys)], columns)]
    lines += [
        row([html(one["model"]), *(html(one[key]) for key in keys)], columns) for one in listed
    ]
    return table(columns, "".join(lines), "published")


# ---- answers -------------------------------------------------------------------------------------


def timeline_html(told: Mapping[str, Mapping[str, AnswerFacts]], keys: Sequence[str]) -> str:
    """Return when which worker answered, as a table; "" if that is not recorded."""
    answers = [
        (one.worker, one.at, one.seconds, number)
        for number, key in enumerate(keys)
        for one in told.get(key, {}).values()
        if one.at
    ]
    if not answers:
        return ""
    lanes, end = charts.lanes_of(answers, LANES)
    drawn = charts.timeline(lanes, end, "When questions were answered")
    count = len({worker for worker, *_ in answers})
    more = [f"{count - LANES} more workers are not shown", ""] if count > LANES else []
    columns = (("worker", NAME), ("", BAR))
    lines = "".join(
        row((html(name), svg), columns) for name, svg in [*drawn, *filter(None, [more])]
    )
    return table(columns, lines, "lanes", axis(0, duration(end)))


def time_html(subject: Subject, keys: Sequence[str]) -> str:
    """Return where the time went, longest first, as a table; "" if it is not recorded."""
    spent = {row.key: row for row in subject.table.rows if row.seconds}
    total = sum(one.seconds or 0.0 for one in spent.values())
    if not total:
        return ""
    order = sorted(spent, key=lambda key: -(spent[key].seconds or 0.0))
    lines = []
    for key in order:
        seconds, count = spent[key].seconds or 0.0, spent[key].n
        number = keys.index(key) if key in keys else 0
        cells = (
            f'<i class="key k{number % charts.HUES}"></i>{html(title_of(key))}',
            html(duration(seconds)),
            percent(round(seconds), round(total)),
            f"{seconds / count:.2f} s" if count else "",
        )
        lines.append(row(cells, TIMES))
    return table(TIMES, "".join(lines), "narrow")


@dataclass(frozen=True)
class Lengths:
    """The lengths of a benchmark's answers, in tokens or characters."""

    key: str
    values: Sequence[int]
    truncated: int | None


def lengths_html(listed: Iterable[Lengths]) -> str:
    """Return how long answers are, as a table; "" if there are none."""
    known = [one for one in listed if one.values]
    if not known:
        return ""
    longest = max(max(one.values) for one in known)
    return table(
        LENGTHS, "".join(_lengths_rows(known, longest)), "categories", axis(1, f"{longest:,}")
    )


def _lengths_rows(known: Iterable[Lengths], longest: int) -> Iterator[str]:
    for one in known:
        ordered, count = sorted(one.values), len(one.values)
        middle, high = ordered[count // 2], ordered[min(int(0.95 * count), count - 1)]
        title = title_of(one.key)
        cells = (
            html(title),
            charts.lengths(one.values, longest, f"Lengths of answers: {title}"),
            f"{middle:,}",
            f"{high:,}",
            f"{ordered[-1]:,}",
            share(one.truncated, count),
        )
        yield row(cells, LENGTHS)
