"""The report's first answer: whether the scores can be trusted, as a list of checks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from ..benchmarks import CORE_KEYS, headline_keys
from ..core.formats import plural
from ..scores.score_table import AVERAGE, BenchmarkScore, State, title_of
from .categories import categories
from .subject import Subject, html, points, questions_link, share

GOOD, LOOK, BAD = "good", "look", "bad"
_MARKS = {GOOD: ("✓", "passed"), LOOK: ("!", "look at this"), BAD: ("✗", "problem")}
CONSTANT = 100  # questions from which on a category of 0 or 100 is pointed out
NAMED = 3  # categories of a check; of more only the number is said
MANY_UNPARSED, MANY_CUT = 0.05, 0.02  # shares from which on they are pointed out


@dataclass(frozen=True)
class Check:
    """One line of the list: how it ended, what was checked, what was found, and where.

    ``links`` are benchmarks and sub-scores, of which a few are linked to their questions.
    """

    verdict: str
    name: str
    found: str
    links: Sequence[tuple[str, str]] = ()


def checks(subject: Subject) -> list[Check]:
    """Return what speaks for and against the scores, problems first."""
    rows = [row for row in subject.table.rows if row.n]
    found = [
        *_rehearsal(subject),
        _complete(subject),
        *(
            Check(BAD, "Suspicious answers", f"{title_of(row.key)}: {warning}")
            for row in subject.table.rows
            for warning in row.warnings
        ),
        *_chance(subject),
        *_constant(subject),
        _counted(
            rows,
            "Unparsed answers",
            "could not be read",
            MANY_UNPARSED,
            [row.unparsed for row in rows],
        ),
        _counted(
            rows,
            "Cut off answers",
            "ended at the token limit",
            MANY_CUT,
            [row.truncated for row in rows],
        ),
        _failed(rows),
        Check(
            GOOD,
            "Recomputed",
            "each score follows from its questions: recomputed here and equal to the backend's own",
        ),
        _comparable(subject),
    ]
    return sorted(found, key=lambda check: (BAD, LOOK, GOOD).index(check.verdict))


def verdict(found: Iterable[Check]) -> str:
    """Return the list in one sentence."""
    kinds = Counter(check.verdict for check in found)
    look = f"{plural(kinds[LOOK], 'thing')} to look at"
    if kinds[BAD]:
        problems = plural(kinds[BAD], "problem")
        return f"Not as they stand: {problems}" + (f", {look}." if kinds[LOOK] else ".")
    return f"Yes, with {look}." if kinds[LOOK] else "Yes: nothing speaks against them."


def against_chance(subject: Subject, key: str) -> str:
    """Return whether a score is above chance, as HTML; "" if its chance level is not known."""
    chance, interval = subject.chance(key), subject.interval(key)
    if chance is None:
        return ""
    known = f"guessing gives {points(chance)}"
    if interval is None:
        return f'<p class="muted">{known.capitalize()}.</p>'
    if interval[0] > chance:
        return f'<p class="good">Above chance: {known}.</p>'
    where = "Below chance" if interval[1] < chance else "No better than chance"
    return f'<p class="bad">{where}: {known}.</p>'


def checks_html(found: Iterable[Check]) -> str:
    """Return the checks as a list."""
    return "".join(
        f'<li class="{check.verdict}"><span class="mark" aria-label="{_MARKS[check.verdict][1]}">'
        f"{_MARKS[check.verdict][0]}</span><b>{html(check.name)}</b> "
        f"<span>{html(check.found)}{_links(check.links)}</span></li>"
        for check in found
    )


def _links(links: Sequence[tuple[str, str]]) -> str:
    shown = ", ".join(
        f"{questions_link(key, part)} ({html(title_of(key))})" for key, part in links[:NAMED]
    )
    return shown + (f" and {len(links) - NAMED} more" if len(links) > NAMED else "")


def _rehearsal(subject: Subject) -> Iterator[Check]:
    if subject.rehearsal:
        yield Check(BAD, "Rehearsal", "made-up data and a tiny model: the numbers mean nothing")


def _complete(subject: Subject) -> Check:
    table = subject.table
    asked = sum(row.n for row in table.rows)
    open_ones = [row for row in table.rows if row.state is not State.COMPLETE]
    if open_ones:
        named = ", ".join(f"{title_of(row.key)} ({row.reason or row.state})" for row in open_ones)
        return Check(BAD, "Not complete", named)
    of = f" of {len(table.headlines)} benchmarks" if len(table.headlines) > 1 else ""
    return Check(GOOD, "Complete", f"all {asked:,} questions{of} were asked and scored")


def _chance(subject: Subject) -> Iterator[Check]:
    rows = subject.table.headlines
    known = [(row, subject.interval(row.key), subject.chance(row.key)) for row in rows]
    told = [
        (row, interval, chance)
        for row, interval, chance in known
        if interval and chance is not None
    ]
    if not told:
        return
    average, guess = subject.interval(AVERAGE), subject.chance(AVERAGE)
    if average and guess is not None and average[0] <= guess:
        where = "inside" if guess <= average[1] else "above"
        found = f"chance, {guess:.1f}, lies {where} the 95 % interval of the average"
        yield Check(BAD, "Average no better than chance", found)
    at = [row for row, (low, high), chance in told if low <= chance <= high]
    below = [row for row, (_, high), chance in told if high < chance]
    lines = ((at, "cannot be told apart from chance"), (below, "below chance"))
    if at or below:
        said = [
            f"{_named(rows, len(told), 'benchmarks')}: {where}" for rows, where in lines if rows
        ]
        yield Check(LOOK, "No better than guessing", "; ".join(said))
    else:
        which = f"all {len(told)} intervals lie" if told[1:] else "the interval lies"
        yield Check(GOOD, "Better than guessing", f"{which} above chance")


def _constant(subject: Subject) -> Iterator[Check]:
    """Yield what a fixed answer or a fault of the scoring looks like."""
    found = [
        (one.key, one.part)
        for one in categories(subject)
        if one.ranked and one.value in (0.0, 100.0)
        if (interval := subject.table.intervals[one.key].get(one.part)) and interval.n >= CONSTANT
    ]
    if found:
        count = f"{len(found)} categories score" if found[1:] else "1 category scores"
        said = (
            f"{count} exactly 0 or 100 over {CONSTANT} or more questions; look at "
            f"{'their' if found[1:] else 'its'} answers: "
        )
        yield Check(LOOK, "All wrong or all right", said, found)


def _named(rows: list[BenchmarkScore], every: int, what: str) -> str:
    if len(rows) == every > 1:
        return f"all {every} {what}"
    return ", ".join(title_of(row.key) for row in rows)


def _counted(
    rows: list[BenchmarkScore], name: str, what: str, many: float, counts: list[int | None]
) -> Check:
    known = [(row, count) for row, count in zip(rows, counts, strict=True) if count is not None]
    if not known:
        return Check(LOOK, name, "not known: the result files do not tell")
    total = sum(row.n for row, _ in known)
    high = [
        f"{title_of(row.key)} {100 * count / row.n:.0f} %"
        for row, count in known
        if count > many * row.n
    ]
    said = f"{share(sum(count for _, count in known), total)} of {total:,} answers {what}"
    if high:
        said += f"; most: {', '.join(high[:5])}"
    if unknown := [row for row, count in zip(rows, counts, strict=True) if count is None]:
        said += f"; not recorded: {', '.join(title_of(row.key) for row in unknown)}"
    return Check(LOOK if high or unknown else GOOD, name, said)


def _failed(rows: list[BenchmarkScore]) -> Check:
    failed, total = sum(row.failed for row in rows), sum(row.n for row in rows)
    if not failed:
        return Check(GOOD, "Failed questions", "none")
    return Check(LOOK, "Failed questions", f"{share(failed, total)}: they count as wrong")


def _comparable(subject: Subject) -> Check:
    rows = [row for row in subject.table.headlines if row.n]
    by = {
        verdict: [title_of(row.key) for row in rows if row.comparable == verdict]
        for verdict in ("yes", "note", "no")
    }
    if not any(by.values()):
        return Check(LOOK, "Comparable", "not determined for these results")
    if len(by["no"]) == len(rows):
        none = "no score is comparable with older rows of the leaderboard"
        return Check(LOOK, "Not comparable", f"{none}; the notes below the table say why")
    eight = {row.comparable for row in rows if row.key in headline_keys(CORE_KEYS)}
    average = (
        "the average is not"
        if "no" in eight
        else f"the average only with {'these notes' if by['note'][1:] else 'that note'}"
        if "note" in eight
        else "and so is the average"
    )
    said = [
        f"{len(by['yes'])} of {len(rows)} scores are comparable with older rows of the leaderboard",
        f"with a note: {', '.join(by['note'])}" if by["note"] else "",
        f"not: {', '.join(by['no'])}" if by["no"] else "",
        average if subject.table.easi8_average is not None else "",
    ]
    verdict = LOOK if by["no"] or by["note"] else GOOD
    return Check(verdict, "Comparable", "; ".join(filter(None, said)))
