"""A comparison as lines for the terminal, and as Markdown."""

from __future__ import annotations

import math
import string
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..core.backend_facts import BACKEND_FACTS
from ..scores.interval import SCALE
from ..scores.report import between, wrapped
from .compare import (
    AVERAGE,
    NEAR,
    OWN_SCORE,
    ComparedScore,
    Comparison,
    agreement,
    own_scores,
)
from .compare_reasons import PROMPT
from .compare_settings import CHANCE, chance_cautions
from .evaluated import EvaluatedRun
from .subject import readable

MOST_FLIPS = 200  # questions of a benchmark that the Markdown file lists
LONGEST = 100  # characters of an answer in it
COLUMNS = (
    "B - A is over the questions in both runs. Better and worse are questions that B scores higher "
    "and lower. p is how often a difference as large would come by chance between equally good "
    "runs, adjusted for the number of benchmarks or of sub-scores (the average stands alone); up "
    "to 0.05 is significant. A difference that would often be missed is missed in more than one of "
    "five such comparisons (80 % power)."
)
HOW = (
    "The 95 % interval and error of B - A are those of paired scores with questions about one "
    "scene as one cluster (Miller 2024). p is the larger one of Student's t and McNemar's exact "
    "test (Benjamini and Hochberg over the benchmarks; sub-scores among themselves)."
)
DAGGER = "†"
SEEN = 0.1  # points by which a difference that is shown with one decimal is seen to be another
FURTHEST = 3  # sub-scores of a benchmark on the terminal


@dataclass(frozen=True)
class ComparedRuns:
    """Comparisons of a first run with each other one, and why questions differ.

    Attributes:
        comparisons: The first run with the second, with the third, and so on.
        why: The reason of each flip by benchmark, for two runs of one model; else empty.
    """

    comparisons: Sequence[Comparison]
    why: Mapping[str, Sequence[str]]

    @property
    def runs(self) -> list[EvaluatedRun]:
        """All runs, in order."""
        return [self.comparisons[0].first, *(one.second for one in self.comparisons)]


def letter(number: int) -> str:
    """Return the name of a run: A, B, ..."""
    return string.ascii_uppercase[number]


def head_lines(runs: Sequence[EvaluatedRun]) -> Iterator[str]:
    """Yield which run each letter is."""
    for number, run in enumerate(runs):
        yield f"{letter(number)}: {described(run)}"
        yield from (f"   {note}" for note in run.notes)


def described(run: EvaluatedRun) -> str:
    """Return which run it is: model, backend, identity and where it was read."""
    version = str(run.manifest.fields.get("backend version", ""))
    title = BACKEND_FACTS[run.backend].versioned(version)
    return f"{run.manifest.modelName} on {title}, run {run.manifest.identity[:8]} ({run.path})"


def overall(comparisons: Sequence[Comparison]) -> str:
    """Return what is said first: the result of two runs; of many which are not comparable."""
    if len(comparisons) == 1:
        return comparisons[0].overall
    apart = [f"{one.name} ({one.apart})" for one in comparisons if one.apart]
    return f"Not comparable with A: {', '.join(apart)}." if apart else ""


def warnings(comparisons: Sequence[Comparison]) -> list[str]:
    """Return all warnings; of many runs one for each kind, with the pairs and benchmarks."""
    if len(comparisons) == 1:
        return [f"warning: {said}" for said in comparisons[0].warnings]
    found: dict[str, dict[str, list[str]]] = {}
    for comparison in comparisons:
        for caution in comparison.cautions:
            if caution.kind not in (OWN_SCORE, CHANCE):  # the table has both scores
                about = found.setdefault(caution.kind if caution.title else caution.words, {})
                about.setdefault(f"A and {comparison.name}", []).append(caution.title)
    tables = {"A": comparisons[0].first.table} | {one.name: one.second.table for one in comparisons}
    told = [f"{said}: {_where(about)}" for said, about in found.items()]
    return [f"warning: {said}" for said in (*told, *map(str, chance_cautions(tables)))]


def _where(about: Mapping[str, Sequence[str]]) -> str:
    """Return pairs of runs with their benchmarks; pairs with the same ones share the list."""
    shared: dict[str, list[str]] = {}
    for runs, titles in about.items():
        shared.setdefault(", ".join(filter(None, titles)), []).append(runs)
    return "; ".join(
        ", ".join(pairs) + (f" in {titles}" if titles else "") for titles, pairs in shared.items()
    )


def screen_lines(told: ComparedRuns, width: int) -> list[str]:
    """Return what the terminal shows."""
    lines = [part for line in head_lines(told.runs) for part in wrapped(line, width, "", "   ")]
    if first := overall(told.comparisons):
        lines += ["", *wrapped(first, width, "", "  ")]
    if suspicious := warnings(told.comparisons):
        lines += ["", *(part for said in suspicious for part in wrapped(said, width, "", "  "))]
    lines.append("")
    if len(told.comparisons) > 1:
        lines += [*_columns(many_cells(told.comparisons), width), ""]
        return [*lines, *(part for said in footnotes(told) for part in wrapped(said, width, ""))]
    (only,) = told.comparisons
    lines += _two_runs(only, width)
    lines += wrapped(COLUMNS, width, "", "")
    if only.same_model and only.other_backend:
        lines += ["", "One model through both backends, how far its scores are apart (estimates):"]
        lines += [part for said in agreements(only) for part in wrapped(said, width)]
    if any(told.why.values()):
        lines += ["", "Why questions of this one model are scored differently:"]
        lines += [
            part
            for key, found in told.why.items()
            if found
            for part in wrapped(f"{_title(only, key)}: {counted(found)}", width)
        ]
        lines += [part for said in where_prompts(told.why) for part in wrapped(said, width)]
    return lines


def agreements(comparison: Comparison) -> list[str]:
    """Return which scores agree how well, one line for each word of the scale."""
    found: dict[str, list[str]] = {agreement(points): [] for points in (0.0, NEAR, math.inf)}
    for line in comparison.lines:
        if line.level == 0 and line.difference:
            found[agreement(line.difference.value)].append(line.title)
    return [f"{word}: {', '.join(titles)}" for word, titles in found.items() if titles]


def counted(found: Iterable[str]) -> str:
    """Return reasons with their numbers, the most frequent first."""
    numbers = Counter(filter(None, found))
    return "; ".join(f"{number:,} {reason}" for reason, number in numbers.most_common())


def where_prompts(why: Mapping[str, Sequence[str]]) -> list[str]:
    """Return where to see prompts that differ, as a line if there are some."""
    if not any(PROMPT in found for found in why.values()):
        return []
    return [
        "Of prompts only digests are recorded; report.html of each run has the text of its "
        "questions as far as the backend writes it."
    ]


def _title(comparison: Comparison, key: str) -> str:
    return comparison.first.benchmarks[key].bench.title


# ---- two runs

_HEAD = ("benchmark", "A", "B", "B - A", "95 % interval", "better", "worse", "p")


_INTERVAL = _HEAD.index("95 % interval")


def _cells(line: ComparedScore) -> tuple[str, ...]:
    found = line.difference
    if found is None:
        return ("  " * line.level + line.title, "-", "-", "-", "", "", "", "")
    return (
        "  " * line.level + line.title,
        _number(found.first),
        _number(found.second),
        f"{found.value:+z.2f}",
        between(found.ends),
        f"{found.better:,}",
        f"{found.worse:,}",
        p_text(line.p),
    )


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:z.2f}"


def p_text(p: float) -> str:
    """Return a p-value with three digits, "<0.001" for less."""
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def _two_runs(comparison: Comparison, width: int) -> list[str]:
    """Return benchmarks, and of each those sub-scores in which the runs are furthest apart."""
    furthest = _furthest(comparison)
    shown = [line for line in comparison.lines if line.level < 2 or line in furthest]
    rows = [_HEAD, *map(_cells, shown)]
    sizes = [max(len(row[place]) for row in rows) for place in range(len(_HEAD))]
    if sum(sizes) + 2 * (len(sizes) - 1) > width:  # no room for intervals
        rows = [row[:_INTERVAL] + row[_INTERVAL + 1 :] for row in rows]
        del sizes[_INTERVAL]
    sizes[0] = min(sizes[0], width - sum(sizes[1:]) - 2 * (len(sizes) - 1))
    texts = [_row(row, sizes) for row in rows]
    verdicts = ["verdict", *(line.verdict() for line in shown)]
    beside = max(map(len, texts)) + 2 + max(map(len, verdicts)) <= width
    if beside:
        lines = [
            f"{text.ljust(max(map(len, texts)))}  {verdict}"
            for text, verdict in zip(texts, verdicts, strict=True)
        ]
    else:
        lines = [texts[0]]
        for text, verdict in zip(texts[1:], verdicts[1:], strict=True):
            lines += [text, f"    {verdict}"]
    lines.insert(1, "-" * max(map(len, lines)))
    if comparison.average:
        lines.insert(-1 if beside else -2, lines[1])
    if hidden := len(comparison.lines) - len(shown):
        lines.append(f"{hidden} {'more ' * bool(furthest)}sub-scores are in the Markdown file")
    return lines


def _furthest(comparison: Comparison) -> list[ComparedScore]:
    """Return the sub-scores with the largest certain differences, a few of each benchmark."""
    found: dict[str, list[ComparedScore]] = {}
    for line in comparison.lines:
        if line.level == 2 and line.certain:
            found.setdefault(line.key, []).append(line)
    return [
        line
        for lines in found.values()
        for line in sorted(
            lines, key=lambda one: -abs(one.difference.value if one.difference else 0)
        )[:FURTHEST]
    ]


def _row(cells: Sequence[str], sizes: Sequence[int]) -> str:
    first = cells[0] if len(cells[0]) <= sizes[0] else cells[0][: sizes[0] - 1] + "…"
    numbers = [cell.rjust(size) for cell, size in zip(cells[1:], sizes[1:], strict=True)]
    return "  ".join((first.ljust(sizes[0]), *numbers)).rstrip()


# ---- many runs


def many_cells(comparisons: Sequence[Comparison]) -> list[list[str]]:
    """Return the table of many runs, heading first: scores, and differences from the first run.

    The scores are those of the runs' own tables, differences are over the questions in both.
    """
    first = own_scores(comparisons[0].first)
    seconds = [own_scores(comparison.second) for comparison in comparisons]
    table = [["benchmark", *(letter(number) for number in range(len(comparisons) + 1))]]
    titles = {
        line.key: "  " * line.level + line.title
        for comparison in comparisons
        for line in comparison.lines
        if line.level < 2 and not line.part
    }
    if any(own[AVERAGE] is None for own in (first, *seconds)):
        titles.pop(AVERAGE, None)
    for key in sorted(titles, key=lambda name: name == AVERAGE):
        cells = [
            _against(comparison, key, own.get(key))
            for comparison, own in zip(comparisons, seconds, strict=True)
        ]
        table.append([titles[key], _number(first.get(key)), *cells])
    return table


def _against(comparison: Comparison, key: str, own: float | None) -> str:
    line = next((one for one in comparison.lines if one.key == key and not one.part), None)
    if line is None or line.difference is None:
        return _number(own)
    marks = "*" * line.certain + DAGGER * (line in _elsewhere(comparison))
    return f"{_number(own)} ({line.difference.value:+z.1f}{marks})"


def _elsewhere(comparison: Comparison) -> list[ComparedScore]:
    """Return the lines whose difference is not that of the scores in the runs' own tables."""
    first, second = own_scores(comparison.first), own_scores(comparison.second)
    found = []
    for line in comparison.lines:
        one, other = first.get(line.key), second.get(line.key)
        if line.part or line.difference is None or one is None or other is None:
            continue
        if abs(other - one - line.difference.value) > SEEN:
            found.append(line)
    return found


def footnotes(told: ComparedRuns) -> Iterator[str]:
    """Yield what the table of many runs shows, and the scores that its differences are of."""
    yield (
        "Scores are over all questions of a run. In brackets: difference from A over the questions "
        "that both runs have; * where the two are told apart."
    )
    odd = {comparison.name: _elsewhere(comparison) for comparison in told.comparisons}
    if not any(odd.values()):
        return
    yield f"{DAGGER} not the difference of the scores shown. Over the questions in both:"
    for name, lines in odd.items():
        scores = (
            f"{line.title} {line.difference.first:z.2f} and {line.difference.second:z.2f}"
            for line in lines
            if line.difference
        )
        if lines:
            yield f"A and {name}: {', '.join(scores)}"


def _columns(table: Sequence[Sequence[str]], width: int) -> list[str]:
    """Return a table; one that is too wide is shown in several pieces."""
    sizes = [max(len(row[place]) for row in table) for place in range(len(table[0]))]
    fitting = max(1, (width - sizes[0] - sizes[1] - 2) // (max(sizes[2:]) + 2))
    lines: list[str] = []
    for start in range(2, len(sizes), fitting):
        places = [0, 1, *range(start, min(start + fitting, len(sizes)))]
        texts = [_row([row[at] for at in places], [sizes[at] for at in places]) for row in table]
        rule = "-" * max(map(len, texts))
        lines += ([""] if lines else []) + [texts[0], rule, *texts[1:]]
    return lines


# ---- Markdown


def markdown_text(told: ComparedRuns) -> str:
    """Return the whole comparison as Markdown."""
    lines = ["# Comparison of runs", "", *(f"- {_plain(line)}" for line in head_lines(told.runs))]
    if first := overall(told.comparisons):
        lines += ["", f"**{_plain(first)}**"]
    if suspicious := warnings(told.comparisons):
        lines += ["", *(f"- {_plain(said)}" for said in suspicious)]
    if len(told.comparisons) > 1:
        table = many_cells(told.comparisons)
        lines += ["", *_markdown(table[0], table[1:])]
        lines += [part for said in footnotes(told) for part in ("", _plain(said))]
    for comparison in told.comparisons:
        lines += ["", f"## A and {comparison.name}", ""]
        if len(told.comparisons) > 1 and comparison.warnings:
            lines += [*(f"- {_plain(said)}" for said in comparison.warnings), ""]
        lines += _pair_table(comparison)
    lines += ["", f"{COLUMNS} {HOW}", *(f"\n{said}" for said in where_prompts(told.why))]
    if len(told.comparisons) == 1:
        lines += _flip_tables(told.comparisons[0], told.why)
    return "\n".join(lines) + "\n"


def _pair_table(comparison: Comparison) -> list[str]:
    name = comparison.name
    scale = comparison.same_model and comparison.other_backend
    heading = ["benchmark", "sub-score", "questions", "A", name, f"{name} - A", "95 % interval"]
    heading += ["better", "worse", "McNemar p", "adjusted p", "detectable", "verdict"]
    heading += ["apart"] if scale else []
    rows = []
    for line in comparison.lines:
        found = line.difference
        title = ["", line.title] if line.level else [line.title, ""]
        if found is None:
            row = [*title, *[""] * 9, line.verdict(("A", name))]
        else:
            row = [
                *title,
                f"{found.n:,}",
                _number(found.first),
                _number(found.second),
                f"{found.value:+z.2f}",
                between(found.ends),
                f"{found.better:,}",
                f"{found.worse:,}",
                "" if found.exact is None else p_text(found.exact),
                p_text(line.p),
                f"{found.detectable:.2f}" if found.detectable <= SCALE and found.changed else "",
                line.verdict(("A", name)),
            ]
        if scale:
            row.append(agreement(found.value) if found and line.level == 0 else "")
        rows.append(row)
    return _markdown(heading, rows)


def _flip_tables(comparison: Comparison, why: Mapping[str, Sequence[str]]) -> list[str]:
    """Return the questions that are scored differently, benchmark by benchmark."""
    lines: list[str] = []
    for key in comparison.pairs:
        flips = comparison.flips(key)
        if not len(flips):
            continue
        titles = comparison.type_titles(key)
        said = list(why.get(key, ())) or [""] * len(flips)
        lines += ["", f"## {_title(comparison, key)}: {len(flips):,} scored differently", ""]
        if counts := counted(said):
            lines += [f"{counts}.", ""]
        rows = [
            [
                str(row["item"]),
                titles.get(row["question_type"]) or readable(str(row["question_type"])),
                str(row["key"]),
                *(_answer(row, run) for run in ("first", "second")),
                f"{row['first']:g} → {row['second']:g}",
                reason,
            ]
            for row, reason in zip(flips.head(MOST_FLIPS).to_dict("records"), said, strict=False)
        ]
        heading = ["question", "kind", "right answer", "A's answer", "B's answer", "score", "why"]
        lines += _markdown(heading, rows)
        if len(flips) > MOST_FLIPS:
            lines += ["", f"{len(flips) - MOST_FLIPS:,} more are not listed."]
    return lines


def _answer(row: Mapping[Hashable, Any], run: str) -> str:
    if row[f"{run}_failed"]:
        return "(failed)"
    text = str(row[f"{run}_answer"])
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


def _markdown(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [
        f"| {' | '.join(heading)} |",
        f"|{'---|' * len(heading)}",
        *(f"| {' | '.join(map(_plain, row))} |" for row in rows),
    ]


def _plain(text: str) -> str:
    """Return the text as one line that is safe in a Markdown table: answers may hold anything."""
    shown = "".join(char if char.isprintable() else " " for char in text)
    for char in "\\|<>`*_[]":
        shown = shown.replace(char, f"\\{char}") if char in "\\|`*_[]" else shown
    return " ".join(shown.replace("<", "&lt;").replace(">", "&gt;").split())
