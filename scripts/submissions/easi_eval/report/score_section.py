"""The report's section on scores: the table with its bars, notes, and published scores."""

from __future__ import annotations

import csv
from pathlib import Path

from .. import benchmarks
from ..benchmarks import GROUPS
from ..core.formats import duration
from ..scores.report import between, footnotes
from ..scores.score_table import AVERAGE, BenchmarkScore, State, title_of
from . import charts
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
