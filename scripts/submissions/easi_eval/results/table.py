"""The score table as files: ``easi_scores.csv``, read back to add later runs to it, and ``easi_scores.md`` for people."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from pathlib import Path

from ..benchmarks import ALL_KEYS, GROUPS
from ..errors import EasiError
from .scores import BenchmarkScore, Pool, Reading, ScoreTable, State, title_of

COLUMNS = ("benchmark", "part", "score", "n", "unparsed", "failed", "truncated", "coin_flips", "state", "reason")
# After the columns for people, what adding a later run needs: the dataset's size, and what SITE is pooled from.
EXTRA_COLUMNS = ("total", "points", "weight")
AVERAGE = "easi8_average"


def _cell(value: object) -> str:
    return "" if value is None else repr(value) if isinstance(value, float) else str(value)


def _record(name: str, part: str, score: BenchmarkScore) -> dict[str, str]:
    """The headline line of a benchmark, a group or one of its members."""
    pool = score.pools.get("")
    return {
        "benchmark": name, "part": part, "score": _cell(score.reading.overall), "n": _cell(score.n), "unparsed": _cell(score.unparsed),
        "failed": _cell(score.failed), "truncated": _cell(score.truncated), "coin_flips": _cell(score.coin_flips),
        "state": str(score.state), "reason": score.reason or score.reading.why_missing.get("", ""), "total": _cell(score.total),
        "points": _cell(pool.points if pool else None), "weight": _cell(pool.weight if pool else None),
    }


def _part_records(name: str, prefix: str, score: BenchmarkScore) -> Iterator[dict[str, str]]:
    for part, value in score.reading.parts.items():
        pool = score.pools.get(part)
        yield {
            **dict.fromkeys((*COLUMNS, *EXTRA_COLUMNS), ""), "benchmark": name, "part": prefix + part, "score": _cell(value),
            "reason": score.reading.why_missing.get(part, ""), "points": _cell(pool.points if pool else None),
            "weight": _cell(pool.weight if pool else None),
        }


def records(table: ScoreTable) -> list[dict[str, str]]:
    """Every line of the table as text cells: each benchmark, its parts, SITE's halves below SITE, the average at the end."""
    members = {group.key: group.members for group in GROUPS}
    lines: list[dict[str, str]] = []
    for score in table.headlines:
        lines += [_record(score.key, "", score), *_part_records(score.key, "", score)]
        for key in members.get(score.key, ()):
            half = table.row(key)
            if half:
                lines += [_record(score.key, key, half), *_part_records(score.key, f"{key}/", half)]
    average = table.easi8_average
    lacking = table.lacking()
    lines.append({
        **dict.fromkeys((*COLUMNS, *EXTRA_COLUMNS), ""), "benchmark": AVERAGE, "score": _cell(average),
        "state": str(State.MISSING if average is None else State.COMPLETE),
        "reason": f"needs {', '.join(lacking)}" if lacking else "",
    })
    return lines


def csv_text(table: ScoreTable) -> str:
    """``easi_scores.csv``: all digits of every score; reads back with :func:`read_csv`."""
    text = io.StringIO()
    writer = csv.DictWriter(text, (*COLUMNS, *EXTRA_COLUMNS), lineterminator="\n")
    writer.writeheader()
    writer.writerows(records(table))
    return text.getvalue()


def read_csv(path: Path, model: str, backend: str, identity: str = "") -> ScoreTable | None:
    """The table a former run of the same identity left at ``path``; None if there is none, EasiError if it is damaged."""
    if not path.exists():
        return None
    again = f"delete {path}; the scores are read again from the results"
    try:
        text = path.read_text(encoding="utf-8")
        lines = list(csv.DictReader(io.StringIO(text)))
        if not text.endswith("\n") or not lines or set(lines[0]) != {*COLUMNS, *EXTRA_COLUMNS} or lines[-1]["benchmark"] != AVERAGE:
            raise ValueError("it is cut off or no score table")
        return ScoreTable(tuple(_scores(lines)), model, backend, identity)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise EasiError(f"{path} cannot be read: {error}", hint=again) from error


def _scores(lines: list[dict[str, str]]) -> Iterator[BenchmarkScore]:
    """The benchmarks in the lines of a table. What can be derived (groups, the average) is not read."""
    member_of = {key: group.key for group in GROUPS for key in group.members}
    for key in ALL_KEYS:
        name, own, prefix = (member_of[key], key, f"{key}/") if key in member_of else (key, "", "")
        of_bench = {line["part"]: line for line in lines if line["benchmark"] == name}
        if own not in of_bench:
            continue
        head = of_bench[own]
        below = {part.removeprefix(prefix): line for part, line in of_bench.items() if part != own and part.startswith(prefix)}
        score = _float(head["score"])
        why = {part: line["reason"] for part, line in below.items() if line["reason"]}
        if score is None:
            why[""] = head["reason"]
        yield BenchmarkScore(
            key=key, reading=Reading(score, {part: _float(line["score"]) for part, line in below.items()}, why),
            n=int(head["n"]), total=_int(head["total"]), state=State(head["state"]), reason=head["reason"], unparsed=_int(head["unparsed"]),
            failed=int(head["failed"]), truncated=_int(head["truncated"]), coin_flips=_int(head["coin_flips"]),
            pools={part: pool for part, line in {"": head, **below}.items() if (pool := _pool(line))},
        )


def _float(text: str) -> float | None:
    return float(text) if text else None


def _int(text: str) -> int | None:
    return int(text) if text else None


def _pool(line: Mapping[str, str]) -> Pool | None:
    return Pool(float(line["points"]), float(line["weight"])) if line["weight"] else None


def markdown_text(table: ScoreTable) -> str:
    """``easi_scores.md``: scores with two decimals, parts indented below their benchmark."""
    lines = [
        f"# EASI scores: {_plain(table.model)}", "", f"Backend: {table.backend}. Scores are 0-100; SITE is chance-adjusted and may be negative.", "",
        "| benchmark | part | score | n | unparsed | failed | truncated | coin flips | state | reason |",
        "|---|---|---:|---:|---:|---:|---:|---:|---|---|",
    ]
    for record in records(table):
        name = record["benchmark"]
        title = "EASI-8 average" if name == AVERAGE else "" if record["part"] else title_of(name)
        score = f"{float(record['score']):.2f}" if record["score"] else ""
        cells = (title, record["part"], score, *(record[column] for column in COLUMNS[3:]))
        lines.append("| " + " | ".join(_plain(cell) for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def _plain(text: str) -> str:
    """One line that breaks no markdown table."""
    return " ".join(text.split()).replace("|", "\\|")
