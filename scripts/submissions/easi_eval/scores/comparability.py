"""Decide whether a score can be compared with older rows of the leaderboard.

The rules are in ``comparability.toml``. This module uses the standard library only.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from ..benchmarks import ALL_KEYS, BACKENDS, by_key
from ..core.errors import EasiError
from . import data_check
from .scores import BenchmarkScore

SCHEMA = 1
YES, NOTE, NO = "yes", "note", "no"
VERDICTS = (YES, NOTE, NO)  # from best to worst


@dataclass(frozen=True)
class Rule:
    """One rule of ``comparability.toml``: a reason why a score is, or is not, comparable.

    Empty ``benchmarks``, ``models`` and ``method`` match everything.

    Attributes:
        id: Name of the rule.
        backend: The backend it applies to.
        verdict: ``yes``, ``note`` or ``no``.
        why: The reason, shown to users.
        benchmarks: Keys of the benchmarks it applies to.
        models: Model types (lmms-eval) or classes (VLMEvalKit) it applies to.
        excepted: Models it never applies to (``except`` in the file).
        method: Extraction methods it applies to (``exact_matching`` or a judge).
        unless: Benchmark settings; the rule does not apply if any of them has the given value.
        unread: The rule applies only if more than this share of answers (0-1) could not be read.
    """

    id: str
    backend: str
    verdict: str
    why: str
    benchmarks: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    excepted: tuple[str, ...] = ()
    method: tuple[str, ...] = ()
    unless: Mapping[str, object] = field(default_factory=dict)
    unread: float | None = None

    def fits(
        self, score: BenchmarkScore, backend: str, model: str, settings: Mapping[str, object]
    ) -> bool:
        """Return whether the rule applies to this score."""
        if (
            backend != self.backend
            or model in self.excepted
            or any(settings.get(name) == value for name, value in self.unless.items())
        ):
            return False
        if self.unread is not None and (
            score.unparsed is None or score.unparsed <= self.unread * score.n
        ):
            return False
        return (
            (not self.benchmarks or score.key in self.benchmarks)
            and (not self.models or model in self.models)
            and (not self.method or score.method in self.method)
        )


def load(text: str) -> tuple[Rule, ...]:
    """Parse the rules from the text of ``comparability.toml``.

    Raises:
        EasiError: A key or value is unknown or a key is missing; the message names it.
    """
    tables = tomllib.loads(text)
    if tables.get("schema") != SCHEMA:
        raise _refuse(f"schema is {tables.get('schema')}, not {SCHEMA}")
    return tuple(_rule(table) for table in tables.get("rule", ()))


def _rule(table: Mapping[str, Any]) -> Rule:
    values: dict[str, Any] = {
        "excepted" if name == "except" else name: tuple(value) if isinstance(value, list) else value
        for name, value in table.items()
    }
    name = values.get("id", "?")
    unknown = values.keys() - {known.name for known in fields(Rule)}
    if unknown:
        raise _refuse(f"{name}: unknown key {', '.join(sorted(unknown))}")
    if lacking := {"id", "backend", "verdict", "why"} - values.keys():
        raise _refuse(f"{name}: missing key {', '.join(sorted(lacking))}")
    rule = Rule(**values)
    for what, given, known in (
        ("backend", [rule.backend], BACKENDS),
        ("verdict", [rule.verdict], VERDICTS),
        ("benchmark", rule.benchmarks, ALL_KEYS),
    ):
        if wrong := [value for value in given if value not in known]:
            raise _refuse(f"{name}: {what} {wrong[0]!r} is not one of {', '.join(known)}")
    return rule


def _refuse(problem: str) -> EasiError:
    return EasiError(f"comparability.toml: {problem}", hint="comparability.py documents every key")


TOML = Path(__file__).parents[1] / "benchmarks" / "comparability.toml"
RULES = load(TOML.read_text(encoding="utf-8"))


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
    fitting = [rule for rule in RULES if rule.fits(score, backend, model, settings)]
    of_data = _of_data(score, backend, settings, rehearsal)
    verdicts = (
        score.comparable or YES,
        *(rule.verdict for rule in fitting),
        *(verdict for verdict, _ in of_data),
        NOTE if cuts or score.cut else YES,
    )
    verdict = max(verdicts, key=VERDICTS.index)
    head = {NOTE: "against older rows", NO: "not comparable with older rows"}
    notes = tuple(f"{head[rule.verdict]}: {rule.why}" for rule in fitting if rule.verdict != YES)
    return replace(
        score,
        comparable=verdict,
        notes=(*score.notes, *(note for _, note in of_data), *notes, *filter(None, [cuts])),
    )


def _of_data(
    score: BenchmarkScore, backend: str, settings: Mapping[str, object], rehearsal: bool
) -> list[tuple[str, str]]:
    """Return verdicts and notes that follow from the number of questions and the data."""
    if rehearsal:
        return [(NO, data_check.REHEARSED)]
    source = by_key(score.key).source(backend, str(settings.get("task", "")))
    count, content = (
        data_check.of_count(source, score.total),
        data_check.of_content(source, settings.get("data")),
    )
    found = [(NO if data_check.other_count(source, score.total) else NOTE, count)] if count else []
    # Data that were not recorded may well be the right ones, so they do not lower the verdict.
    return found + (
        [(YES if content == data_check.UNRECORDED else NOTE, content)] if content else []
    )
