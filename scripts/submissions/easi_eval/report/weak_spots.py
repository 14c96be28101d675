"""The report's section on categories: which are lowest, and all of them."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence

from ..benchmarks import GROUPS, group_by_key, part_title
from ..scores.score_table import title_of
from .categories import Category, categories
from .score_section import SCORES, axis_start, bar, score_axis
from .subject import NAME, Subject, html, points, questions_link, row, table

Sizes = Mapping[tuple[str, str], int]  # questions by benchmark and sub-score
WEAKEST = 12  # categories in the list of the weakest ones
FEW = 30  # questions below which the rank of a category is mostly noise
CATEGORIES = (("category", NAME), *SCORES[1:6])


def spans_of(key: str, spans: Sequence[str]) -> list[int]:
    """Return the places of the rows of a benchmark, or of all members of a group."""
    members = next((group_by_key(key).members for group in GROUPS if group.key == key), (key,))
    return [spans.index(member) for member in members if member in spans]


def weakest_html(subject: Subject, sizes: Sizes) -> str:
    """Return which categories are lowest, in a sentence and as a table; "" if there are none.

    Where chance is known, the score above chance counts. Those of few questions come last.
    """
    few = _few(subject, sizes)

    def rank(one: Category) -> tuple[bool, float]:
        return one in few, _above(one.value, subject.chance(one.key, one.part))

    found = sorted((one for one in categories(subject) if one.ranked), key=rank)
    if not found:
        return ""
    rows = (_category_row(subject, one, sizes, few, html(one.title)) for one in found[:WEAKEST])
    first = found[0]
    name = f"{part_title(first.key, first.part)} of {first.title}"
    lowest = f"{name}, {_beside_chance(first.value, subject.chance(first.key, first.part))}"
    if sizes[first.key, first.part] < FEW:
        said = (
            f"Every category has fewer than {FEW} questions, too few to call one weak. Lowest, "
            f"measured against chance: {lowest}."
        )
    else:
        among = f" of {FEW} questions or more" if few else ""
        said = f"Weakest category{among}, measured against chance: {lowest}."
    if len(subject.table.headlines) > 1:
        said += f" Weakest benchmark by the same measure: {weakest_benchmark(subject)}."
    how = (
        "The measure is (score - chance) / (100 - chance); a category without a chance level "
        "(numbers, scored by MRA) counts as if it were 0."
        + f" Categories of fewer than {FEW} questions come last, in grey: their order is mostly "
        "noise." * bool(few) + " A name leads to its questions."
    )
    shown = table(CATEGORIES, "".join(rows), "categories", score_axis(subject))
    return f'<p>{html(said)}</p><p class="muted">{html(how)}</p>{shown}'


def _few(subject: Subject, sizes: Sizes) -> set[Category]:
    """Return the categories of too few questions; none if all are, so that none stands out."""
    sized = [one for one in categories(subject) if one.ranked]
    few = {one for one in sized if sizes[one.key, one.part] < FEW}
    return few if len(few) < len(sized) else set()


def _beside_chance(score: float, chance: float | None) -> str:
    return points(score) + ("" if chance is None else f" (chance {points(chance)})")


def _above(score: float, chance: float | None) -> float:
    """Share of what chance leaves (1: all right, 0: chance, negative: below chance)."""
    return (score - (chance or 0.0)) / (100.0 - (chance or 0.0))


def weakest_benchmark(subject: Subject) -> str:
    """Return the benchmark that is lowest against chance, with its score, in words."""
    scores = {row.key: row.reading.overall for row in subject.table.headlines}
    known = {key: score for key, score in scores.items() if score is not None}
    key = min(known, key=lambda each: _above(known[each], subject.chance(each)))
    return f"{title_of(key)}, {_beside_chance(known[key], subject.chance(key))}"


def categories_html(subject: Subject, sizes: Sizes) -> str:
    """Return one folded table of categories per benchmark, lowest scores first."""
    few, made = _few(subject, sizes), []
    for score in subject.table.headlines:
        own = [one for one in categories(subject) if one.key == score.key]
        lines = "".join(
            _category_row(subject, one, sizes, few)
            for one in sorted(own, key=lambda one: one.value)
        )
        if own:
            made.append(
                f"<details><summary>{html(title_of(score.key))} "
                f'<span class="muted">{len(own)} categories, {min(c.value for c in own):.1f} to '
                f"{max(c.value for c in own):.1f}</span></summary>"
                f"{table(CATEGORIES, lines, 'categories', score_axis(subject))}</details>"
            )
    return "".join(made)


def _category_row(
    subject: Subject, one: Category, sizes: Sizes, few: Container[Category], benchmark: str = ""
) -> str:
    name = part_title(one.key, one.part)
    interval = subject.table.intervals.get(one.key, {}).get(one.part)
    cells = (
        questions_link(one.key, one.part)
        + (f' <span class="muted">{benchmark}</span>' if benchmark else ""),
        bar(subject, one.key, one.part, one.value, axis_start(subject), name),
        points(one.value),
        subject.span(one.key, one.part),
        points(subject.chance(one.key, one.part)),
        f"{interval.n:,}" if interval else "",
    )
    return row(cells, CATEGORIES, "muted" if one in few else "")
