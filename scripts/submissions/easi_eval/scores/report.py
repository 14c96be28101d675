"""The text printed at the end of a run: score table, failures with reasons, and the retry command.

The text is a list of plain lines that fit a given width.
"""

from __future__ import annotations

import shlex
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..benchmarks import GROUPS
from ..core.formats import duration, large, per_time, plural, short_duration
from .comparability import is_comparison
from .interval import Interval
from .score_table import AVERAGE, BenchmarkScore, ScoreTable, State, sum_known, title_of

UNKNOWN = "?"
REHEARSAL = "rehearsal: made-up questions; the numbers say nothing about a model"
MOST_NOTES = 5  # lines of notes below the table; easi_scores.md has all
TITLE = 16  # characters of a title that the table has room for
SCALE = (
    "Scores go from 0 to 100; SITE is adjusted for chance: 0 is what guessing gives, and it may be "
    "negative. Intervals are of 95 %, over the scenes that questions share: Wilson's for shares of "
    "right answers, else a bootstrap; with few questions those of SITE reach beyond 0 and 100. "
    "Chance is what guessing among the options gives; questions that ask for a number count as 0 "
    "in it. MRA is mean relative accuracy: the nearer the number, the more points; it has no "
    "chance level."
)
SPARED = ("time", "flips", "cut off")  # columns to leave out on a narrow screen, first to last


@dataclass(frozen=True)
class Trouble:
    """Why a benchmark, or the whole run (empty ``key``), is not complete; shown to users.

    Attributes:
        key: Key of the benchmark; "" for the run.
        reason: The reason in words.
        line: The line of ``log`` that shows the error.
        log: The log file.
    """

    key: str
    reason: str
    line: str = ""
    log: Path | None = None


def command_lines(argv: Sequence[str], width: int) -> list[str]:
    """Return a command ready to paste, broken between words with backslashes.

    A word longer than ``width`` gets a line of its own.
    """
    lines: list[str] = []
    line = "  "
    for word in (shlex.quote(word) for word in argv):
        if line.strip() and len(line) + len(word) + 3 > width:
            lines.append(line.rstrip() + " \\")
            line = "    "
        line += word + " "
    return [*lines, line.rstrip()]


def wrapped(text: str, width: int, indent: str = "  ", hanging: str = "    ") -> list[str]:
    """Return a text as lines of at most ``width`` characters, but for words that are longer."""
    # Command-line options and paths contain hyphens; keep them whole, so that they can be copied.
    lines = textwrap.wrap(
        " ".join(text.split()),
        max(width, 20),
        initial_indent=indent,
        subsequent_indent=hanging,
        break_on_hyphens=False,
        break_long_words=False,
    )
    return lines or [indent.rstrip()]


TOO_FEW = "too few questions"


def _count(value: int | None, asked: bool) -> str:
    return "" if not asked else UNKNOWN if value is None else str(value)


def span(interval: Interval | None) -> str:
    """Return an interval as it is shown; "" if there is none."""
    if interval is None:
        return ""
    return between(interval.ends) or TOO_FEW


def between(ends: tuple[float, float] | None) -> str:
    """Return the ends of an interval as they are shown; "" if there are none."""
    return "" if ends is None else f"{ends[0]:z.1f} to {ends[1]:z.1f}"


def _margin(interval: Interval | None, wide: bool) -> str:
    """Return an interval, or where there is no room for both ends the longer side of it."""
    if interval is None or wide:
        return span(interval)
    if interval.ends is None:
        return "too few"
    low, high = interval.ends
    return f"±{max(high - interval.value, interval.value - low):.1f}"


def _cells(score: BenchmarkScore, title: str, wide: bool) -> tuple[str, ...]:
    """Return one row of the table.

    Counts of a benchmark that did not run are empty; ``?`` is a count that the files do not give,
    and ``-`` a time that nobody recorded (``--plain``, results that were imported).
    """
    number = "-" if score.reading.overall is None else f"{score.reading.overall:.2f}"
    ran = score.n > 0
    n = str(score.n) if score.total in (None, score.n) else f"{score.n}/{score.total}"
    counts = (score.unparsed, score.failed, score.truncated, score.coin_flips)
    return (
        title,
        number,
        _margin(score.intervals.get(""), wide),
        n if ran else "",
        *(_count(value, ran) for value in counts),
        "" if not ran else "-" if score.seconds is None else short_duration(score.seconds),
        score.comparable,
        str(score.state),
    )


HEAD = (
    "benchmark",
    "score",
    "95 %",
    "n",
    "unparsed",
    "failed",
    "cut off",
    "flips",
    "time",
    "comp",
    "state",
)


def table_lines(table: ScoreTable, width: int = 80) -> list[str]:
    """Return the score table as lines, with SITE's halves below SITE.

    ``95 %`` is the interval of the score. Optional columns without a count above zero are left out.
    ``comp`` tells whether the score may be compared with older rows of the leaderboard; it is left
    out if that was not determined. Where titles would be cut, the interval is its longer side
    alone, then times and counts that the files have too are left out.
    """
    for wide, left_out in ((True, 0), *((False, count) for count in range(len(SPARED) + 1))):
        cells = _shown_cells(table, wide, SPARED[:left_out])
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        room = width - sum(widths[1:]) - 2 * (len(widths) - 1)
        if room >= min(TITLE, widths[0]):
            break
    widths[0] = max(8, min(widths[0], room))
    lines = []
    for row in cells:
        first = row[0] if len(row[0]) <= widths[0] else row[0][: widths[0] - 1] + "…"
        numbers = [cell.rjust(size) for cell, size in zip(row[1:-1], widths[1:-1], strict=True)]
        lines.append("  ".join((first.ljust(widths[0]), *numbers, row[-1])).rstrip())
    rule = "-" * min(width, max(len(line) for line in lines))
    return [lines[0], rule, *lines[1:-1], rule, lines[-1]]


def _shown_cells(table: ScoreTable, wide: bool, left_out: Sequence[str]) -> list[list[str]]:
    """Return the head and all rows, without columns that say nothing."""
    members = {group.key: group.members for group in GROUPS}
    rows: list[tuple[str, ...]] = []
    for score in table.headlines:
        rows.append(_cells(score, title_of(score.key), wide))
        halves = (table.row(key) for key in members.get(score.key, ()))
        rows += [_cells(half, "  " + half.key.partition("_")[2], wide) for half in halves if half]
    average = table.easi8_average
    rows.append(
        (
            "EASI-8 average",
            "-" if average is None else f"{average:.2f}",
            _margin(table.average_interval, wide),
            *[""] * (len(HEAD) - 4),
            "" if average is not None else str(State.MISSING),
        )
    )
    optional = ("95 %", "failed", "cut off", "flips", "time", "comp")
    shown = [
        place
        for place, name in enumerate(HEAD)
        if name not in left_out
        and (name not in optional or any(row[place] not in ("", "0", "-", UNKNOWN) for row in rows))
    ]
    return [[row[place] for place in shown] for row in (HEAD, *rows)]


def effort(table: ScoreTable, place: str) -> str:
    """Return how long the answers took, or "" if that is not known of every benchmark.

    For example "38,187 questions in 3 h 12 min on 8 GPUs, 3.3/s, 1.2 M tokens".

    Args:
        table: The scores.
        place: What the model ran on.
    """
    rows = [row for row in table.rows if row.n]
    seconds = sum_known(row.seconds for row in rows)
    if not seconds:
        return ""
    count, tokens = sum(row.n for row in rows), sum_known(row.tokens for row in rows)
    parts = [
        f"{count:,} questions in {duration(seconds)}" + (f" on {place}" if place else ""),
        per_time(count / seconds),
        f"{large(tokens)} tokens" if tokens else "",
    ]
    return ", ".join(filter(None, parts))


def footnotes(table: ScoreTable) -> list[str]:
    """Return the notes to show below the table, one line each; those on comparability come last.

    A note that several benchmarks share is printed once, with all their titles.
    """
    whose: dict[str, list[str]] = {}
    for row in (*table.rows, *(row for row in table.headlines if row not in table.rows)):
        for note in row.notes:
            whose.setdefault(note, []).append(title_of(row.key))
    every = {title_of(row.key) for row in table.rows if row.n}
    return [
        f"{'All benchmarks' if len(titles) > 2 and every <= set(titles) else ', '.join(titles)}: "
        f"{note}"
        for note, titles in sorted(whose.items(), key=lambda each: is_comparison(each[0]))
    ]


def _note_lines(notes: Sequence[str], width: int) -> list[str]:
    """Return the first of the notes as at most ``MOST_NOTES`` lines, and how many are left out."""
    lines: list[str] = []
    for place, note in enumerate(notes):
        more = wrapped(note, width, "", "  ")
        last = place == len(notes) - 1
        if len(lines) + len(more) + (0 if last else 1) > MOST_NOTES:
            left = len(notes) - place
            return [*lines, f"{plural(left, 'more note')}: see easi_scores.md"]
        lines += more
    return lines


def warning_lines(table: ScoreTable) -> list[str]:
    """Return the warnings to show above the table, one line each.

    They are that of a rehearsal, those of ``canaries.py``, and one that names the scores that a
    guess may have too.
    """
    lines = [REHEARSAL] * table.rehearsal
    lines += [
        f"warning: {title_of(row.key)}: {warning}" for row in table.rows for warning in row.warnings
    ]
    titles = {AVERAGE: "EASI-8 average", **{row.key: title_of(row.key) for row in table.headlines}}
    guessed = [
        f"{titles[key]} (chance {found[''].chance:.1f})"
        for key, found in table.intervals.items()
        if key in titles and "" in found and found[""].at_chance
    ]
    if guessed:
        lines.append(f"warning: cannot be told apart from guessing: {', '.join(guessed)}")
    return lines


def _troubles(troubles: Sequence[Trouble], width: int) -> list[str]:
    """Return the lines that say why benchmarks are not complete.

    Benchmarks with the same error line (or, without one, the same reason) are reported together.
    """
    alike: dict[tuple[str, Path | None], list[Trouble]] = {}
    for trouble in troubles:
        alike.setdefault(
            (trouble.line or trouble.reason, trouble.log) if trouble.key else ("", None), []
        ).append(trouble)
    lines: list[str] = []
    for (said, log), group in alike.items():
        if len(group) > 1 and said:
            names = (
                f"all {len(group)} benchmarks"
                if len(group) == len(troubles)
                else ", ".join(title_of(trouble.key) for trouble in group)
            )
            lines += wrapped(f"{names}: {said}" + (f" (log: {log})" if log else ""), width)
            reasons = dict.fromkeys(trouble.reason for trouble in group if trouble.reason != said)
            lines += wrapped("; ".join(reasons), width, "    ", "    ") if reasons else []
            continue
        for trouble in group:
            lines += wrapped(
                f"{title_of(trouble.key)}: {trouble.reason}" if trouble.key else trouble.reason,
                width,
            )
            lines += wrapped(trouble.line, width, "    ", "    ") if trouble.line else []
            lines += [f"    log: {trouble.log}"] if trouble.log else []
    return lines


def summary(
    table: ScoreTable,
    troubles: Sequence[Trouble] = (),
    *,
    width: int = 80,
    retry: Sequence[str] = (),
    purpose: str = "To complete the run:",
    files: Sequence[Path] = (),
    notes: Sequence[str] = (),
    place: str = "",
) -> list[str]:
    """Return the whole text as lines of at most ``width`` characters.

    Paths and unbreakable words may be longer than that.

    Args:
        table: The scores.
        troubles: What is not complete, and why.
        width: Width of the terminal, 80 or more.
        retry: The command (argv) that runs what is not complete.
        purpose: What that command is for.
        files: The files that were written.
        notes: Remarks below the table.
        place: What the model ran on.
    """
    lines = [f"{table.model} on {table.backend}", ""]
    if suspicious := warning_lines(table):
        lines += [
            *(part for warning in suspicious for part in wrapped(warning, width, "", "  ")),
            "",
        ]
    lines += table_lines(table, width)
    if took := effort(table, place):
        lines += wrapped(took, width, "", "  ")
    if table.easi8_average is None and (lacking := table.lacking()):
        lines += wrapped(
            f"The average needs all of EASI-8; not complete: {', '.join(lacking)}", width, "", ""
        )
    lines += _note_lines(footnotes(table), width)
    for note in notes:
        lines += wrapped(note, width, "", "  ")
    if troubles:
        lines += ["", "Not complete:", *_troubles(troubles, width)]
    if retry:
        lines += ["", purpose, *command_lines(retry, width)]
    if files:
        lines += ["", "Written:", *(f"  {path}" for path in files)]
    return lines
