"""Whether two runs may be compared: the same questions, right answers, protocol and judge."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ..core.libraries import short
from ..scores import judging
from ..scores.score_table import AVERAGE, ScoreTable, title_of
from .evaluated import EvaluatedBenchmark, EvaluatedRun

# Identity fields that tell which model it is, not how it was asked, or that only name the rule.
_OF_MODEL = (
    "model",
    "revision",
    "model class",
    "registry entry",
    "class file",
    "refers to",
    "identity version",
    "imported",
    "--smoke",
    "--device",
)
_NOT_PROTOCOL = (
    "pretrained",
    "model",
    "model_path",
    "model_name",
    "model_version",
    "peft",
    "revision",
    "device",
    "device_map",
)


PROTOCOL, CHANCE = "not the same protocol", "no better than chance"


@dataclass(frozen=True)
class Caution:
    """Why two runs may not be comparable.

    Attributes:
        kind: What differs, in the same words for every benchmark.
        detail: How it differs.
        title: The benchmark; "" if it is about the runs as a whole.
        decides: Whether a difference of the runs need not be the model's, so that nothing follows.
    """

    kind: str
    detail: str = ""
    title: str = ""
    decides: bool = True

    @property
    def words(self) -> str:
        """What differs, and how."""
        return (
            f"{self.kind}{': ' if not self.title else ', '}{self.detail}"
            if self.detail
            else self.kind
        )

    def __str__(self) -> str:
        return f"{self.title}: {self.words}" if self.title else self.words


def run_cautions(first: EvaluatedRun, second: EvaluatedRun, name: str) -> Iterator[Caution]:
    """Yield what differs between the runs as a whole, other than the model."""
    if differing := _differing(_protocol(first), _protocol(second)):
        yield Caution(PROTOCOL, differing)
    smoke = [bool(run.manifest.fields.get("--smoke")) for run in (first, second)]
    if any(smoke):
        which = "both are rehearsals" if all(smoke) else "one is a rehearsal"
        yield Caution(which, "made-up questions, whose scores mean nothing", decides=not all(smoke))
    adopted = [bool(run.manifest.fields.get("imported")) for run in (first, second)]
    if any(adopted):
        which = "both are" if all(adopted) else "one is"
        yield Caution(f"{which} imported", "how it was asked is not recorded", decides=False)
    yield from chance_cautions({"A": first.table, name: second.table})
    for run, other_run, letter in ((first, second, "A"), (second, first, name)):
        lacking = [
            one.bench.title
            for key, one in run.benchmarks.items()
            if key not in other_run.benchmarks
        ]
        if lacking:
            yield Caution(f"only {letter} has {', '.join(lacking)}", decides=False)


def chance_cautions(tables: Mapping[str, ScoreTable]) -> Iterator[Caution]:
    """Yield the scores of the runs' own tables no better than chance, the average first."""
    found: dict[str, list[str]] = {}
    keys = dict.fromkeys(row.key for table in tables.values() for row in table.headlines)
    for key in (AVERAGE, *keys):
        shown = ((letter, table.intervals.get(key, {}).get("")) for letter, table in tables.items())
        at = [letter for letter, one in shown if one and one.ends and not one.above_chance]
        if at:
            title = "EASI-8 average" if key == AVERAGE else title_of(key)
            found.setdefault(" and ".join(at), []).append(title)
    for letters, titles in found.items():
        yield Caution(CHANCE, f"in {letters}", ", ".join(titles), decides=False)


def _protocol(run: EvaluatedRun) -> dict[str, Any]:
    """Return how a model was asked, by readable names."""
    known = run.manifest.fields
    version = short(str(run.manifest.versions.get("transformers", "")))
    found: dict[str, Any] = {}
    if version and not run.manifest.model.get("served"):
        found["transformers"] = version
    found |= {name: value for name, value in known.items() if name not in _OF_MODEL}
    for name in ("class arguments", "--model-args"):
        arguments = found.pop(name, None)
        if isinstance(arguments, Mapping):
            found |= {key: value for key, value in arguments.items() if key not in _NOT_PROTOCOL}
    return {name: value for name, value in found.items() if value not in ("", None, {}, [], False)}


def _differing(one: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """Return the values that differ; as arguments, some are numbers in one and texts in another."""
    shown = {
        name: (_shown(one.get(name)), _shown(other.get(name)))
        for name in dict.fromkeys((*one, *other))
    }
    return "; ".join(f"{name} {a} / {b}" for name, (a, b) in shown.items() if a != b)


def _shown(value: object) -> str:
    if value is None:
        return "not given"
    return " ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def benchmark_cautions(
    first: EvaluatedBenchmark, second: EvaluatedBenchmark, name: str, *, same_source: bool
) -> Iterator[Caution]:
    """Yield what differs between two results of one benchmark.

    Settings are compared if both are of the same backend and task.
    """
    title = first.bench.title
    if same_source and (what := _other_data(first.settings, second.settings)):
        yield Caution("not the same data", what, title)
    differing = _differing(_settings(first.settings), _settings(second.settings))
    if differing and same_source:
        yield Caution(PROTOCOL, differing, title)
    judges = [_judge(one) for one in (first, second)]
    if judges[0] != judges[1]:
        yield Caution("not read by the same judge", " / ".join(judges), title)
    failed = [
        f"{count:,} in {letter}"
        for letter, count in (("A", first.score.failed), (name, second.score.failed))
        if count
    ]
    if failed:
        yield Caution(
            "questions that failed count as wrong", " and ".join(failed), title, decides=False
        )


# Settings that say who reads the answers, which the score's method tells, and the data.
_ELSEWHERE = ("data", "judge", "judge model", "extraction threshold", "task")


def _settings(settings: Mapping[str, object]) -> dict[str, object]:
    return {name: value for name, value in settings.items() if name not in _ELSEWHERE}


def _other_data(one: Mapping[str, object], other: Mapping[str, object]) -> str:
    """Return what differs between the recorded digests of the data: what is asked, or the key."""
    left, right = one.get("data"), other.get("data")
    if not isinstance(left, Mapping) or not isinstance(right, Mapping):
        return ""
    names = {"questions": "the questions were changed", "truth": "right answers were changed"}
    return " and ".join(
        said
        for name, said in names.items()
        if left.get(name) and right.get(name) and left[name] != right[name]
    )


def _judge(one: EvaluatedBenchmark) -> str:
    """Return who read the answers: rules, or a judge by its name."""
    method = one.score.method
    return "rules" if method in ("", "corrected", "stock", *judging.BY_RULES) else method
