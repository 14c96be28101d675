"""Whether a row may stand beside the leaderboard's older ones, from the rules in ``comparability.toml``. Stdlib only."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from ..benchmarks import ALL_KEYS, BACKENDS
from ..errors import EasiError
from .scores import BenchmarkScore

SCHEMA = 1
YES, NOTE, NO = "yes", "note", "no"
VERDICTS = (YES, NOTE, NO)                  # from good to bad


@dataclass(frozen=True)
class Rule:
    """One reason. Empty ``benchmarks``, ``models`` and ``method`` fit everything; ``excepted`` models never fit."""

    id: str
    backend: str
    verdict: str
    why: str
    benchmarks: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    excepted: tuple[str, ...] = ()
    method: str = ""

    def fits(self, backend: str, key: str, model: str, method: str) -> bool:
        return (backend == self.backend and (not self.benchmarks or key in self.benchmarks) and model not in self.excepted
                and (not self.models or model in self.models) and self.method in ("", method))


def load(text: str) -> tuple[Rule, ...]:
    """The rules. Raises EasiError naming what is unknown, missing or misspelt."""
    tables = tomllib.loads(text)
    if tables.get("schema") != SCHEMA:
        raise _refuse(f"schema is {tables.get('schema')}, not {SCHEMA}")
    return tuple(_rule(table) for table in tables.get("rule", ()))


def _rule(table: Mapping[str, Any]) -> Rule:
    values = {"excepted" if name == "except" else name: tuple(value) if isinstance(value, list) else value for name, value in table.items()}
    name = values.get("id", "?")
    unknown = values.keys() - {field.name for field in fields(Rule)}
    if unknown:
        raise _refuse(f"{name}: unknown key {', '.join(sorted(unknown))}")
    if lacking := {"id", "backend", "verdict", "why"} - values.keys():
        raise _refuse(f"{name}: missing key {', '.join(sorted(lacking))}")
    rule = Rule(**values)
    for what, given, known in (("backend", [rule.backend], BACKENDS), ("verdict", [rule.verdict], VERDICTS), ("benchmark", rule.benchmarks, ALL_KEYS)):
        if wrong := [value for value in given if value not in known]:
            raise _refuse(f"{name}: {what} {wrong[0]!r} is not one of {', '.join(known)}")
    return rule


def _refuse(problem: str) -> EasiError:
    return EasiError(f"comparability.toml: {problem}", hint="comparability.py documents every key")


TOML = Path(__file__).parents[1] / "comparability.toml"
RULES = load(TOML.read_text(encoding="utf-8"))


def compared(score: BenchmarkScore, backend: str, model: str) -> BenchmarkScore:
    """The line with its verdict; ``model`` is the model type (lmms-eval) or class (VLMEvalKit). A line without a score gets none.

    What is not plainly comparable is a note too.
    """
    if score.reading.overall is None:
        return score
    fitting = [rule for rule in RULES if rule.fits(backend, score.key, model, score.method)]
    verdict = max((rule.verdict for rule in fitting), key=VERDICTS.index, default=YES)
    head = {NOTE: "against older rows", NO: "not comparable with older rows"}
    notes = tuple(f"{head[rule.verdict]}: {rule.why}" for rule in fitting if rule.verdict != YES)
    return replace(score, comparable=verdict, notes=(*score.notes, *notes))
