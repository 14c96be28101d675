"""What a report is about, and the words that its parts share."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from ..backends.base import Reader
from ..benchmarks import part_title
from ..core.manifest import Manifest
from ..core.run_folder import RunPaths
from ..scores import report
from ..scores.score_table import ScoreTable

REPORT = "report.html"
Columns = Sequence[tuple[str, str]]  # title and class of each column of a table
NAME, BAR, NUMBER, SCORE = "name", "bar", "num", "num score"  # classes

# What browsers show in odd ways or not at all: control characters, half a character, and marks
# that turn the direction of the text around them.
_ODD = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


@dataclass(frozen=True)
class Subject:
    """A run whose report is made.

    Attributes:
        table: Its scores.
        manifest: How they were made.
        paths: Its folder.
        output_dir: The folder that users know.
        reader: Reads its files.
        rehearsal: Whether it is a rehearsal on made-up data.
        media: Folders below which images may be (``thumbnails.media_roots``).
    """

    table: ScoreTable
    manifest: Manifest
    paths: RunPaths
    output_dir: Path
    reader: Reader
    rehearsal: bool = False
    media: tuple[Path, ...] = ()

    def interval(self, key: str, part: str = "") -> tuple[float, float] | None:
        """Return the 95 % interval of a score, None if there is none or it says nothing."""
        found = self.table.intervals.get(key, {}).get(part)
        return found.ends if found else None

    def span(self, key: str, part: str = "") -> str:
        """Return the interval as it is shown."""
        return report.span(self.table.intervals.get(key, {}).get(part))

    def chance(self, key: str, part: str = "") -> float | None:
        """Return what guessing gives, None if that is not known."""
        found = self.table.intervals.get(key, {}).get(part)
        return found.chance if found else None


def html(text: object) -> str:
    """Return a text for HTML, without characters that browsers do not show."""
    return escape(_ODD.sub("\ufffd", str(text)))


def readable(name: str) -> str:
    """Return the name of a sub-score or a kind of question as words."""
    words = re.sub(r"_(accuracy|acc|mra|caa)$", "", name).replace("_", " ").strip()
    return words[:1].upper() + words[1:]


def type_titles(key: str, types: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Return what the types of a benchmark's questions are called: as the score that counts them.

    One of several types that a score counts has its own name in brackets.

    Args:
        key: The benchmark, or a group.
        types: The types that each sub-score counts.
    """
    listed = [(part_title(key, part), kinds) for part, kinds in types.items()]
    shared = {kind: f"{title} ({readable(kind)})" for title, kinds in listed for kind in kinds}
    return shared | {kinds[0]: title for title, kinds in reversed(listed) if len(kinds) == 1}


def questions_link(key: str, part: str) -> str:
    """Return the name of a sub-score, which leads to its questions in the page."""
    return (
        f'<a href="#questions" data-key="{html(key)}" data-part="{html(part)}">'
        f"{html(part_title(key, part))}</a>"
    )


def row(cells: Iterable[str], columns: Columns, cls: str = "") -> str:
    """Return a row of a table from cells that are HTML.

    Each cell has its column's title, which stands before it where the window is too narrow for
    columns (``page.css``).
    """
    made = "".join(
        f'<td class="{kind}" data-title="{title}">{cell}</td>'
        for cell, (title, kind) in zip(cells, columns, strict=True)
    )
    return f'<tr class="{cls}">{made}</tr>' if cls else f"<tr>{made}</tr>"


def table(columns: Columns, rows: str, cls: str, axis: str = "") -> str:
    """Return a table with its heads; ``axis`` are the marks above the bars."""
    heads = "".join(
        f'<th class="{kind}">{axis if kind == BAR else title}</th>' for title, kind in columns
    )
    return (
        f'<div class="wide"><table class="{cls}"><thead><tr>{heads}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
    )


def axis(*marks: object) -> str:
    """Return the marks of an axis, from its beginning to its end."""
    shown = "".join(f"<span>{html(mark)}</span>" for mark in marks)
    return f'<span class="axis">{shown}</span>'


def points(value: float | None) -> str:
    """Return a score as it is shown: two decimals, or a dash."""
    return "\u2013" if value is None else f"{value:.2f}"


def share(count: int | None, total: int) -> str:
    """Return a count with its share, for a table cell."""
    if count is None:
        return "?"
    return f"{count:,}" if not count or not total else f"{count:,} ({100 * count / total:.1f} %)"
