"""The comparison of two runs as a page: differences, and every question scored differently."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from ..backends import make_backend
from ..config import program
from ..core.formats import plural
from ..core.redact import Redactor
from ..data.needs import HubSettings
from ..scores.paired import Difference
from ..scores.report import between
from ..scores.score_table import title_of
from . import charts
from .compare import AVERAGE, ComparedScore, Comparison
from .compare_text import (
    COLUMNS,
    HOW,
    ComparedRuns,
    agreements,
    counted,
    described,
    letter,
    p_text,
    where_prompts,
)
from .evaluated import EvaluatedRun, questions_of
from .questions import NOT_RECORDED, Columns, read_as
from .shell import Shell, assemble, template
from .subject import BAR, NAME, NUMBER, REPORT, SCORE, axis, html, readable, row, table
from .trust import BAD, GOOD, LOOK, Check, checks_html, verdict

if TYPE_CHECKING:
    import pandas as pd

SHORT = 20  # characters of an answer in the list
_READ = ("extracted", "failed", "parsed")
MARKS = {"r": "▲", "w": "▼"}
NAMES = {"r": "better in B", "w": "worse in B"}
DIRECTIONS = {1: "gain", -1: "loss", 0: ""}  # class of a row by who is certainly ahead
_COLUMNS = (
    ("benchmark", NAME),
    ("", BAR),
    ("A", NUMBER),
    ("B", NUMBER),
    ("B - A", SCORE),
    ("95 % interval", NUMBER),
    ("better", NUMBER),
    ("worse", NUMBER),
    ("p", NUMBER),
    ("verdict", "verdict"),
)


def comparison_page(told: ComparedRuns, folder: Path) -> bytes:
    """Return the page about two runs.

    Args:
        told: The runs.
        folder: Where the page goes; it leads to the report of a run that lies there or below.
    """
    (comparison,) = told.comparisons
    flips = _flips(told)
    names = list(dict.fromkeys(run.manifest.modelName for run in told.runs))
    found = _warnings(comparison)
    values = {
        "title": html(" and ".join(names) if names[1:] else f"{names[0]}, two runs"),
        "runs": "".join(_run(letter(place), run, folder) for place, run in enumerate(told.runs)),
        "average": _average(comparison),
        "verdict": verdict(found),
        "warnings": checks_html(found),
        "scores": _table("benchmark", (line for line in comparison.lines if line.level < 2)),
        "overall": html(comparison.overall),
        "columns": html(COLUMNS),
        "command": html(
            Redactor.from_environ().line(
                shlex.join([*program(), "--compare", *(str(run.path) for run in told.runs)])
            )
        ),
        "how": f'<p class="muted">{html(HOW)}</p>{_why(told)}',
        "categories": "".join(_categories(comparison)),
    }
    parts = {"summary": "Summary", "scores": "Benchmarks", "categories": "Categories"}
    shell = Shell(
        values["title"],
        parts,
        template("compare").substitute(values),
        "Questions scored differently",
        lambda packed: (
            f"{plural(len(flips), 'question')} scored differently. ▲ is better in B, ▼ worse in B. "
            "“Read as”: what was read of A's answer → what was read of B's."
            + (f" {plural(packed.shortened, 'answer')} shortened." if packed.shortened else "")
        ),
        name="EASI comparison",
    )
    keys = [key for key, _ in flips.spans]
    both = [comparison.flips(key)[["first", "second"]] for key in keys]
    extra = {
        "names": NAMES,
        "marks": MARKS,
        "points": [
            f"A {100 * a:.4g}, B {100 * b:.4g} of 100"
            for each in both
            for a, b in each.to_numpy().tolist()
        ],
        "spans": [(key, title_of(key), count, "") for key, count in flips.spans],
        "filters": [
            {"key": key, "title": title_of(key), "spans": [place], "parts": _kinds(comparison, key)}
            for place, key in enumerate(keys)
        ],
    }
    return assemble(shell, flips, extra)


def _flips(told: ComparedRuns) -> Columns:
    """Return the questions that are scored differently, with both answers."""
    import pandas as pd

    (comparison,) = told.comparisons
    columns = Columns()
    for key in comparison.pairs:
        found = comparison.flips(key)
        if found.empty:
            continue
        whys = told.why.get(key) or [""] * len(found)
        both = zip(found["first_answer"], found["second_answer"], whys, strict=True)
        read = zip(*(_read(found, run) for run in ("first", "second")), strict=True)
        empty = pd.Series("", index=found.index, dtype=object)
        texts = {
            "answer": [
                f"Run A: {first}\n\nRun B: {second}" + (f"\n\nWhy: {why}" if why else "")
                for first, second, why in both
            ],
            "extracted": [f"{first} → {second}" for first, second in read],
        }
        columns.add(
            key,
            pd.DataFrame(
                {
                    **{name: found[name] for name in ("item", "question_type", "cluster")},
                    **{
                        name: pd.Series(listed, index=found.index, dtype=object)
                        for name, listed in texts.items()
                    },
                    "target": found["key"],
                    "score": (found["second"] > found["first"]).astype(float),
                    "failed": False,
                    "parsed": True,
                    "question": _asked(comparison, key, found),
                    "media": empty,
                }
            ),
            {},
            comparison.type_titles(key),
        )
    return columns


def _asked(comparison: Comparison, key: str, flips: pd.DataFrame) -> list[str]:
    """Return the texts of questions; empty ones if neither run's folder is at hand."""
    for run, name in ((comparison.first, "item"), (comparison.second, "second_item")):
        if run.folder:
            reader = make_backend(run.backend, HubSettings())
            rows = questions_of(reader, run.benchmarks[key].score, run.folder)
            texts = dict(zip(rows["item"], rows["question"], strict=True))
            return [texts.get(item, "") for item in flips[name]]
    return [""] * len(flips)


def _read(flips: pd.DataFrame, run: str) -> Iterator[str]:
    """Yield what was read of each answer of a run; the answer, quoted, where that is not told."""
    columns = (flips[f"{run}_{name}"].tolist() for name in ("answer", *_READ))
    for text, *told in zip(*columns, strict=True):
        read, said = read_as(*told), " ".join(text.split())
        short = said if len(said) <= SHORT else f"{said[: SHORT - 1]}…"
        yield read if read != NOT_RECORDED or not said else f"“{short}”"


def _kinds(comparison: Comparison, key: str) -> list[tuple[str, str, list[str]]]:
    titles = comparison.type_titles(key)
    kinds = sorted(set(comparison.flips(key)["question_type"]))
    named = [(kind, titles.get(kind) or readable(kind)) for kind in kinds if kind]
    return [(kind, title, [title]) for kind, title in named]


def _average(comparison: Comparison) -> str:
    line = comparison.main
    found = line.difference if line else None
    if line is None or found is None:
        return "No question is in both runs."
    return (
        f"{html(line.title)}, B - A<strong>{found.value:+z.2f}</strong>"
        + (f"<p>95 % interval {between(found.ends)}</p>" if found.ends else "")
        + f'<p class="muted">A {found.first:z.2f}, B {found.second:z.2f}</p>'
    )


def _run(name: str, run: EvaluatedRun, folder: Path) -> str:
    """Return what a run is, with a link to its report if that moves together with the page."""
    said = [html(described(run)), *map(html, run.notes)]
    report = (run.folder.root if run.folder else run.path) / REPORT
    if report.is_file() and report.resolve().is_relative_to(folder.resolve()):
        place = report.resolve().relative_to(folder.resolve()).as_posix()
        said[0] += f' <a href="{html(quote(place))}">its report</a>'
    return f"<dt>{name}</dt><dd>{'<br>'.join(said)}</dd>"


def _warnings(comparison: Comparison) -> list[Check]:
    found = [
        Check(BAD if caution.decides else LOOK, caution.title or "The runs", caution.words)
        for caution in sorted(comparison.cautions, key=lambda each: not each.decides)
    ]
    return found or [Check(GOOD, "Alike", "questions, right answers, protocol and judge")]


def _axis_end(shown: Iterable[Difference]) -> float:
    """Return the end of the axis of a table's bars, which begins at its negative."""
    ends: list[float] = [abs(end) for found in shown for end in (found.value, *(found.ends or ()))]
    return min(100.0, 5.0 * math.ceil(max([1.0, *ends]) / 5))


def _table(title: str, lines: Iterable[ComparedScore]) -> str:
    shown = [(line, line.difference) for line in lines if line.difference]
    most = _axis_end(found for _, found in shown)
    rows = "".join(_row(line, found, most) for line, found in shown)
    marks = axis(f"-{most:g}", 0, f"+{most:g}")
    return table(((title, NAME), *_COLUMNS[1:]), rows, "scores", marks)


def _row(line: ComparedScore, found: Difference, most: float) -> str:
    cells = (
        html(line.title),
        charts.difference_bar(found.value, found.ends, most, f"{line.title}: {found.value:+z.1f}"),
        f"{found.first:z.2f}",
        f"{found.second:z.2f}",
        f"{found.value:+z.2f}",
        between(found.ends),
        f"{found.better:,}",
        f"{found.worse:,}",
        html(p_text(line.p)),
        html(line.verdict()),
    )
    kind = "total" if line.key == AVERAGE else "half" * (line.level == 1)
    return row(cells, _COLUMNS, f"{kind} {DIRECTIONS[line.ahead]}".strip())


def _categories(comparison: Comparison) -> Iterator[str]:
    """Yield one folded table per benchmark; open where runs are told apart in a category."""
    keys = dict.fromkeys(line.key for line in comparison.lines if line.level == 2)
    for key in keys:
        own = [line for line in comparison.lines if line.key == key and line.level == 2]
        lines = [line for line in own if line.difference]
        counted = [line for line in lines if line.category]
        better, worse = (sum(line.ahead == sign for line in counted) for sign in (1, -1))
        yield (
            f"<details{' open' if better or worse else ''}><summary>{html(title_of(key))} "
            f'<span class="muted">{len(counted)} categories: {better} significantly better in B, '
            f"{worse} worse</span></summary>"
            f"{_table('category', lines)}</details>"
        )


def _why(told: ComparedRuns) -> str:
    """Return how one model's scores agree through both backends, and why questions differ."""
    (comparison,) = told.comparisons
    if not (comparison.same_model and comparison.other_backend):
        return ""
    whys = [f"{title_of(key)}: {counted(found)}" for key, found in told.why.items() if any(found)]
    return _listed(
        "One model through both backends: how far its scores are apart (estimates)",
        agreements(comparison),
    ) + _listed("Why its questions are scored differently", [*whys, *where_prompts(told.why)])


def _listed(title: str, said: Sequence[str]) -> str:
    if not said:
        return ""
    listed = "".join(f"<li>{html(each)}</li>" for each in said)
    return f'<h3>{title}</h3><ul class="notes">{listed}</ul>'
