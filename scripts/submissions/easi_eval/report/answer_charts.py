"""The report's section on answers: where the time went, which worker answered when, lengths."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from ..core.formats import duration, percent
from ..scores.score_table import title_of
from . import charts
from .questions import AnswerFacts
from .subject import BAR, NAME, NUMBER, Subject, axis, html, row, share, table

LANES = 32  # workers in the timeline
TIMES = (("benchmark", NAME), ("time", NUMBER), ("share", NUMBER), ("per question", NUMBER))
LENGTHS = (
    ("benchmark", NAME),
    ("", BAR),
    ("median", NUMBER),
    ("95 %", NUMBER),
    ("longest", NUMBER),
    ("cut off", NUMBER),
)


def answers_html(
    subject: Subject,
    lengths: Sequence[Lengths],
    unit: str,
    told: Mapping[str, Mapping[str, AnswerFacts]],
    keys: Sequence[str],
) -> str:
    """Return the section.

    Args:
        subject: The run.
        lengths: The lengths of its answers.
        unit: What they are counted in.
        told: What the journal tells of each answer, by benchmark and item.
        keys: The benchmarks, in the order of their colours.
    """
    parts = []
    if time := _times(subject, keys):
        parts.append(f"<h3>Where the time went</h3>{time}")
    if lanes := _timeline(told, keys):
        parts.append(
            "<h3>Which worker answered when</h3>"
            '<p class="muted">Coloured by benchmark; gaps are waiting. Pauses of over 10 minutes '
            f"in which no worker answered are left out.</p>{lanes}"
        )
    if lines := _lengths(lengths):
        parts.append(
            "<h3>Length of answers</h3>"
            f'<p class="muted">In {unit}, on a logarithmic axis: the middle half as a box, the '
            f"median as a mark, 5 to 95 % as a line.</p>{lines}"
        )
    return "".join(parts) or '<p class="muted">There are no answers yet.</p>'


def _timeline(told: Mapping[str, Mapping[str, AnswerFacts]], keys: Sequence[str]) -> str:
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
    legend = "".join(
        f"<span>{_swatch(number)}{html(title_of(keys[number]))}</span>"
        for number in sorted({number for *_, number in answers})
    )
    shown = table(columns, lines, "lanes", axis(0, duration(end)))
    return f'{shown}<p class="legend">{legend}</p>'


def _swatch(number: int) -> str:
    return f'<i class="key k{number % charts.HUES}"></i>'


def _times(subject: Subject, keys: Sequence[str]) -> str:
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
            f"{_swatch(number)}{html(title_of(key))}",
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


def _lengths(listed: Iterable[Lengths]) -> str:
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
