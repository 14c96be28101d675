"""``extraction_report.json``: how many answers the rules could not read, and what a judge changed.

Each benchmark's part is kept in its own folder as ``extraction.json``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..benchmarks import Benchmark, Source
from ..core.atomic_files import read_json, write_json
from ..core.errors import EasiError
from .judging import Policy, rate
from .score_table import BenchmarkScore

if TYPE_CHECKING:
    import pandas as pd

SCHEMA = 1
REPORT = "extraction_report.json"
ENTRY = "extraction.json"  # one benchmark's part, in that benchmark's folder


@dataclass(frozen=True)
class JudgeChanges:
    """The questions whose score a judge changed.

    Attributes:
        up: Number of scores that rose.
        down: Number of scores that fell.
        rows: One (item, score by rules, judged score) per changed question; scores are 0-1.
        only_unread: The headline (0-100) if the judge had read only those answers that the rules
            could not read. It is for diagnosis and is never used as a score.
    """

    up: int
    down: int
    rows: tuple[tuple[str, float, float], ...]
    only_unread: float | None


def judge_changes(
    bench: Benchmark, source: Source, rules: pd.DataFrame, judged: pd.DataFrame
) -> JudgeChanges:
    """Compare the scores by rules with the judged scores of the same questions.

    Both tables have ROW_COLUMNS.
    """
    from .recompute import recompute

    after = judged.set_index("item")["score"].reindex(rules["item"]).to_numpy()
    rows = tuple(
        (str(item), float(before), float(now))
        for item, before, now in zip(rules["item"], rules["score"], after, strict=True)
        if before != now
    )
    mixed = rules.assign(
        score=rules["score"].where(rules["parsed"].fillna(True).astype(bool).to_numpy(), after)
    )
    return JudgeChanges(
        sum(now > before for _, before, now in rows),
        sum(now < before for _, before, now in rows),
        rows,
        recompute(bench, source, mixed).overall,
    )


def make_entry(
    policy: Policy, rules: BenchmarkScore, score: BenchmarkScore, change: JudgeChanges | None = None
) -> dict[str, Any]:
    """Return one benchmark's part of the report; scores are 0-100, ``rate`` is 0-1.

    Args:
        policy: Who judges, and above which share of unreadable answers.
        rules: The score by rules, before any judging.
        score: The score that counts.
        change: What the judge changed; None if no judge read the answers.
    """
    share = rate(rules)
    return {
        "total": rules.n - rules.failed,
        "failed": rules.unparsed,
        "rate": share,
        "threshold": None if policy.named else policy.threshold,
        "method": score.method,
        "scores": {name: reading.overall for name, reading in score.by_method.items()},
        "state": str(score.state),
        "reason": score.reason,
        "why_not_judged": policy.why_none if policy.wants(share) and not policy.judge else "",
        "moved": None
        if change is None
        else {
            "up": change.up,
            "down": change.down,
            "rows": [
                dict(zip(("item", "before", "after"), row, strict=True)) for row in change.rows
            ],
        },
        "diagnosis": None if change is None else {"only_unread_judged": change.only_unread},
    }


def save_entry(folder: Path, found: dict[str, Any]) -> None:
    """Write one benchmark's part of the report into its folder."""
    write_json(folder / ENTRY, {"schema": SCHEMA, **found})


def make_report(folders: Iterable[tuple[str, Path]]) -> dict[str, Any]:
    """Combine the parts of all benchmarks that have one into the whole report.

    Args:
        folders: The key and folder of each benchmark.
    """
    found: dict[str, Any] = {}
    for key, folder in folders:
        if (folder / ENTRY).is_file():
            try:
                value = read_json(folder / ENTRY)
            except EasiError:
                # The entry only explains a score. A damaged one is left out; the score stays valid.
                continue
            if isinstance(value, dict) and value.pop("schema", None) == SCHEMA:
                found[key] = value
    return {"schema": SCHEMA, "benchmarks": found}
