"""Decide whether a score can be compared with older rows of the leaderboard.

The rules are in ``comparability.toml`` and, under ``comparability``, in the entries of the
benchmarks. This module uses the standard library only.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from ..benchmarks import BACKENDS, BENCHMARKS, Benchmark, by_key
from ..core.errors import EasiError
from . import data_check
from .score_table import BenchmarkScore

SCHEMA = 1
YES, NOTE, NO = "yes", "note", "no"
VERDICTS = (YES, NOTE, NO)  # from best to worst
HEADS = {
    NOTE: "compared with leaderboard rows made with older versions",
    NO: "not comparable with leaderboard rows made with older versions",
}


@dataclass(frozen=True)
class Rule:
    """A reason why a score is, or is not, comparable.

    Empty ``models`` and ``method`` match everything.

    Attributes:
        id: Name of the rule.
        verdict: ``yes``, ``note`` or ``no``.
        why: The reason, shown to users.
        backend: It applies to all benchmarks of this backend; empty for the benchmarks whose
            entries name it.
        models: Model types (lmms-eval) or classes (VLMEvalKit) it applies to.
        excepted: Models it never applies to (``except`` in the file).
        method: Extraction methods it applies to (``exact_matching`` or a judge).
        unless: Benchmark settings; the rule does not apply if any of them has the given value.
        unread: The rule applies only if more than this share of answers (0-1) could not be read.
    """

    id: str
    verdict: str
    why: str
    backend: str = ""
    models: tuple[str, ...] = ()
    excepted: tuple[str, ...] = ()
    method: tuple[str, ...] = ()
    unless: Mapping[str, object] = field(default_factory=dict)
    unread: float | None = None

    def fits(self, score: BenchmarkScore, model: str, settings: Mapping[str, object]) -> bool:
        """Return whether the rule applies to this score of a benchmark that it is about."""
        if model in self.excepted or any(
            settings.get(name) == value for name, value in self.unless.items()
        ):
            return False
        if self.unread is not None and (
            score.unparsed is None or score.unparsed <= self.unread * score.n
        ):
            return False
        return (not self.models or model in self.models) and (
            not self.method or score.method in self.method
        )


def load(text: str) -> tuple[Rule, ...]:
    """Parse the rules from the text of ``comparability.toml``.

    Raises:
        EasiError: A key or value is unknown or a key is missing; the message names it.
    """
    tables = tomllib.loads(text)
    if tables.get("schema") != SCHEMA:
        raise _refuse("comparability.toml", f"schema is {tables.get('schema')}, not {SCHEMA}")
    return tuple(_rule(table, "comparability.toml") for table in tables.get("rule", ()))


def rules_of(bench: Benchmark, backend: str, shared: tuple[Rule, ...]) -> tuple[Rule, ...]:
    """Return the rules about a benchmark: those of its entry, then those of all benchmarks.

    Args:
        bench: The benchmark.
        backend: The backend that runs it.
        shared: The rules of ``comparability.toml``.

    Raises:
        EasiError: The entry names an unknown rule, or has one with an unknown or missing key.
    """
    file, by_id = f"benchmarks/{bench.key}.toml", {rule.id: rule for rule in shared}
    rules = []
    for given in bench.source(backend).comparability:
        if isinstance(given, str) and given not in by_id:
            raise _refuse(file, f"no rule {given!r} in comparability.toml")
        rules.append(by_id[given] if isinstance(given, str) else _rule(given, file))
    # A rule of all benchmarks that the entry names keeps the place that it has there.
    return (*rules, *(rule for rule in shared if rule.backend == backend and rule not in rules))


def _rule(table: Mapping[str, Any], file: str) -> Rule:
    values: dict[str, Any] = {
        "excepted" if name == "except" else name: tuple(value) if isinstance(value, list) else value
        for name, value in table.items()
    }
    name = values.get("id", "?")
    unknown = values.keys() - {known.name for known in fields(Rule)}
    if unknown:
        raise _refuse(file, f"{name}: unknown key {', '.join(sorted(unknown))}")
    if lacking := {"id", "verdict", "why"} - values.keys():
        raise _refuse(file, f"{name}: missing key {', '.join(sorted(lacking))}")
    rule = Rule(**values)
    for what, given, known in (
        ("backend", rule.backend, ("", *BACKENDS)),
        ("verdict", rule.verdict, VERDICTS),
    ):
        if given not in known:
            names = ", ".join(filter(None, known))
            raise _refuse(file, f"{name}: {what} {given!r} is not one of {names}")
    return rule


def _refuse(file: str, problem: str) -> EasiError:
    return EasiError(f"{file}: {problem}", hint="comparability.py documents every key")


TOML = Path(__file__).parents[1] / "benchmarks" / "comparability.toml"
SHARED = load(TOML.read_text(encoding="utf-8"))
RULES = {
    (bench.key, backend): rules_of(bench, backend, SHARED)
    for bench in BENCHMARKS
    for backend in BACKENDS
}


def is_comparison(note: str) -> bool:
    """Return whether a note is about comparability with older rows."""
    return note.startswith(tuple(HEADS.values()))


def with_comparability(
    score: BenchmarkScore,
    backend: str,
    model: str,
    settings: Mapping[str, object],
    cuts: str = "",
    rehearsal: bool = False,
) -> BenchmarkScore:
    """Return ``score`` with a verdict on its comparability and the notes that explain it.

    The verdict is the worst of the rules that apply, the check of the data, and the verdict that
    ``score`` already has. It is at least ``note`` if the model class cuts answers off. A line
    without a score is returned unchanged.

    Args:
        score: The line of the score table.
        backend: The backend that made it.
        model: The model type (lmms-eval) or model class (VLMEvalKit).
        settings: The benchmark's settings from the manifest.
        cuts: A note for users if the model class cuts answers off at stop strings, else "".
        rehearsal: Whether the questions are the made-up ones of ``--smoke``.
    """
    if score.reading.overall is None:
        return score
    if rehearsal:
        return replace(score, comparable=NO, notes=(*score.notes, data_check.REHEARSED))
    fitting = [rule for rule in RULES[score.key, backend] if rule.fits(score, model, settings)]
    of_data = _of_data(score, backend, settings)
    verdicts = (
        score.comparable or YES,
        *(rule.verdict for rule in fitting),
        *(verdict for verdict, _ in of_data),
        NOTE if cuts or score.cut else YES,
    )
    verdict = max(verdicts, key=VERDICTS.index)
    notes = tuple(f"{HEADS[rule.verdict]}: {rule.why}" for rule in fitting if rule.verdict != YES)
    return replace(
        score,
        comparable=verdict,
        notes=(*score.notes, *(note for _, note in of_data), *notes, *filter(None, [cuts])),
    )


def _of_data(
    score: BenchmarkScore, backend: str, settings: Mapping[str, object]
) -> list[tuple[str, str]]:
    """Return verdicts and notes that follow from the number of questions and the data."""
    source = by_key(score.key).source(backend, str(settings.get("task", "")))
    count, content = (
        data_check.count_note(source, score.total),
        data_check.content_note(source, settings.get("data")),
    )
    found = (
        [(NO if data_check.is_other_count(source, score.total) else NOTE, count)] if count else []
    )
    # Data that were not recorded may well be the right ones, so they do not lower the verdict.
    return found + (
        [(YES if content == data_check.UNRECORDED else NOTE, content)] if content else []
    )
