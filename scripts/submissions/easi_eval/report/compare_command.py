"""``--compare``: the comparison on the terminal and as a file; what ``--max-drop`` decides."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from ..backends import make_backend
from ..core.atomic_files import write_atomic
from ..core.errors import EasiError, ExitCode
from ..data.needs import HubSettings
from ..scores import paired
from ..scores.report import wrapped
from .compare import Comparison, adjusted, compare
from .compare_page import comparison_page
from .compare_reasons import reasons
from .compare_text import ComparedRuns, letter, markdown_text, screen_lines
from .load_run import load_run

FILE, PAGE = "easi_comparison.md", "easi_comparison.html"
NARROW, WIDE = 80, 140


def main(paths: Sequence[Path], max_drop: float | None, folder: Path) -> int:
    """Compare the first run with each other one.

    Args:
        paths: Run folders, output folders or archives.
        max_drop: Points that the second of two runs may be worse; None if that is not asked.
        folder: Where the Markdown file goes, and of two runs the page.

    Returns:
        The exit code: COMPLETE, or what ``decide`` says.

    Raises:
        EasiError: One of the paths holds no finished run.
    """
    runs = [load_run(path, lambda name: make_backend(name, HubSettings())) for path in paths]
    pairs = [compare(runs[0], other, letter(place)) for place, other in enumerate(runs[1:], 1)]
    told = told_of(adjusted(pairs))
    width = min(max(shutil.get_terminal_size((NARROW, 24)).columns, NARROW), WIDE)
    lines = screen_lines(told, width)
    code, text = ExitCode.COMPLETE, markdown_text(told)
    if max_drop is not None:
        code, said = decide(told.comparisons[0], max_drop)
        lines += ["", *wrapped(said, width, "", "  ")]
        text += f"\n{said}\n"
    # Words of answers and archives may hold anything: no control characters.
    shown = ["".join(c if c.isprintable() else "?" for c in line) for line in lines]
    shown += ["", _written(folder / FILE, lambda: text)]
    if len(runs) == 2:
        shown.append(_written(folder / PAGE, lambda: comparison_page(told, folder)))
    try:
        print("\n".join(shown), flush=True)
    except BrokenPipeError:  # the decision stands, whoever reads the table
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return code


def _written(path: Path, make: Callable[[], str | bytes]) -> str:
    """Write a file and return the line that says so, or why it could not be written."""
    try:
        write_atomic(path, make())
    except (OSError, EasiError) as error:
        return f"Not written: {path} ({error})"
    return f"Written: {path}"


def told_of(comparisons: Sequence[Comparison]) -> ComparedRuns:
    """Return comparisons with the reasons of flips, if there are two runs of one model."""
    only = comparisons[0]
    if len(comparisons) > 1 or not only.same_model:
        return ComparedRuns(comparisons, {})
    flips = {key: only.flips(key) for key in only.pairs}
    return ComparedRuns(comparisons, reasons(only.first, only.second, flips))


def decide(comparison: Comparison, points: float) -> tuple[ExitCode, str]:
    """Return whether the second run is at most so many points worse, and why.

    A drop is what is certain: of the average, or of one benchmark when all are looked at
    (Benjamini and Hochberg over their one-sided p-values). It is a go if the interval of the
    average excludes such a drop, and no benchmark of the first run is missing. Nothing is decided
    about runs that were not asked the same in the same way.
    """
    if comparison.apart:
        said = f"cannot be told: the runs are not comparable, {comparison.apart}"
        return ExitCode.CANNOT_TELL, said
    heads = comparison.compared
    overall = comparison.main
    if overall is None or overall.difference is None:
        return ExitCode.CANNOT_TELL, "cannot be told: no question is in both runs"
    found = overall.difference
    tests = [
        line.difference.beyond(-points)
        if line.difference and line.difference.value < -points
        else 1
        for line in heads
    ]
    dropped = [
        line.title
        for line, p in zip(heads, paired.adjusted(tests), strict=True)
        if p <= paired.LEVEL / 2
    ]
    between = f" ({found.ends[0]:z.2f} to {found.ends[1]:z.2f})" if found.ends else ""
    ends = f"{overall.title} {found.value:+z.2f}{between}"
    if found.high < -points:
        return ExitCode.INCOMPLETE, f"drop: B is more than {points:g} worse, {ends}"
    if dropped:
        return ExitCode.INCOMPLETE, f"drop: B is more than {points:g} worse in {', '.join(dropped)}"
    if comparison.lacking:
        names = ", ".join(
            comparison.first.benchmarks[key].bench.title for key in comparison.lacking
        )
        return ExitCode.CANNOT_TELL, f"cannot be told: B lacks {names}"
    if found.low >= -points:
        return ExitCode.COMPLETE, f"go: B is at most {points:g} worse, {ends}"
    return (
        ExitCode.CANNOT_TELL,
        f"cannot be told: whether B is more than {points:g} worse is within the error, {ends}",
    )
