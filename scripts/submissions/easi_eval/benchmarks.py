"""The benchmarks as data: what each is called, where its numbers are, what its rows look like, for both backends.

Everything is read from ``benchmarks.toml``; a new benchmark is one entry there. Stdlib only, so that ``--help`` stays fast.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any

from .errors import EasiError

SCHEMA = 1
VLMEVALKIT = "vlmevalkit"
LMMS_EVAL = "lmms-eval"
BACKENDS = (VLMEVALKIT, LMMS_EVAL)
LAYOUTS = ("wide", "wide_last_row", "key_value", "comma", "settings")
UNPARSED_RULES = ("", "not_extracted", "log", "present", "empty")
RECOMPUTES = ("mean", "type_mean", "part_mean", "caa")
GROUPINGS = ("", "flip", "circular", "flip_circular")


@dataclass(frozen=True)
class Part:
    """One sub-score.

    ``key`` names the number in the backend's aggregate; without it the part is recomputed from the rows whose question type
    is in ``types``. ``types`` are the question types it is about (empty: all); ``scale`` brings the number to 0-100.
    ``group``: it counts sets of questions instead (see ``results/recompute.py``). ``extra``: the leaderboard has no such
    name; shown and archived, not submitted.
    """

    name: str
    key: str = ""
    types: tuple[str, ...] = ()
    scale: float = 1.0
    group: str = ""
    extra: bool = False


@dataclass(frozen=True)
class RowRule:
    """Where one question's facts stand in the per-question file (columns for VLMEvalKit, sample keys for lmms-eval).

    ``score``: the first of these that has a value is the row's score, 0-1. ``entry``: the lmms-eval metric whose object holds
    them. ``target``: the right answer (lmms-eval: in ``entry``; empty takes the sample's own). ``question_type`` may be ``@task`` (name of the subtask) or ``@counted`` (the metric whose object counts this row).
    ``options``/``chance``: column with the list of options, or metric whose ``total`` is 1 - 1/n.
    ``variant``: which form of its question a row is (3DSRBench's qid). ``cluster``: what questions of one scene or image share, cut to ``cluster_chars``; empty if the file does not tell.
    ``unparsed_when``: how ``unparsed`` marks an answer the backend could not read (``not_extracted``: False, or empty for a
    number; ``log``: the log column says so; ``present``; ``empty``); without a rule ``unparsed_why`` says why there is none.
    """

    item: str
    question_type: str
    score: tuple[str, ...]
    entry: str = ""
    target: str = ""
    extracted: str = ""
    options: str = ""
    chance: str = ""
    cluster: str = ""
    cluster_chars: int = 0
    variant: str = ""
    unparsed: str = ""
    unparsed_when: str = ""
    unparsed_why: str = ""


@dataclass(frozen=True)
class Content:
    """One known content of a benchmark's table, by the MD5 sum of the file. ``expected``: it is the benchmark; ``name``: for people."""

    md5: str
    name: str = ""
    expected: bool = False


@dataclass(frozen=True)
class TsvData:
    """What VLMEvalKit reads: a TSV of the leaderboard's data repository and, for some, a media repository on the hub.

    ``dataset``/``frames``/``cls``/``module`` say how the package builds it. ``tsv_local`` is the name the package moves the TSV to.
    All ``*.zip`` at the root of the media snapshot are unpacked in it; ``media_sentinel`` there says that this was done.
    ``contents``: the known contents of the TSV, one of them the expected one.
    """

    dataset: str
    cls: str
    module: str
    modality: str
    tsv: str
    contents: tuple[Content, ...]
    columns: tuple[str, ...]
    repo: str
    columns_optional: tuple[str, ...] = ()
    tsv_local: str = ""
    frames: int = 0
    media_repo: str = ""
    media_sentinel: str = ""
    media_allow: tuple[str, ...] = ()
    media_ignore: tuple[str, ...] = ()
    derived_tsv: str = ""
    frame_cache: str = ""


@dataclass(frozen=True)
class HubData:
    """What lmms-eval reads: a dataset repository on the hub, by configuration (none: the default one) and split.

    ``cache_dir`` is where videos are unpacked (only if it does not exist) or, when relative, where the datasets cache lands.
    ``asked``: the columns whose texts stand in the prompt, in this order. ``truth``: those that a model never sees, with the right answer.
    """

    repo: str
    configs: tuple[str, ...]
    split: str
    needs_token: bool
    columns: Mapping[str, str]
    asked: tuple[str, ...]
    truth: tuple[str, ...]
    cache_dir: str = ""
    media_path: tuple[str, ...] = ()


@dataclass(frozen=True)
class Source:
    """One benchmark as one backend knows it.

    ``task``: the name given to the backend. ``overall``: key of the headline score, ``scale`` brings it to 0-100.
    ``family``/``layout`` (VLMEvalKit): which file names and which table shape. ``subtasks`` (lmms-eval): the tasks of a group.
    ``recompute``: how the score follows from the rows (``results/recompute.py``); ``decimals``: what the backend rounds its own
    numbers to, in their own scale, None if it does not. ``absent``: sub-scores this task does not have, with the reason. ``random_fallback``: an answer that cannot be read is
    replaced by a random letter. ``max_new_tokens``: the task's own limit, None if the model class decides.
    ``questions``: how many the benchmark has, None if that is not known.
    """

    task: str
    overall: str
    scale: float
    recompute: str
    parts: tuple[Part, ...]
    rows: RowRule
    data: TsvData | HubData
    decimals: int | None = None
    questions: int | None = None
    family: str = ""
    layout: str = ""
    subtasks: tuple[str, ...] = ()
    absent: Mapping[str, str] = field(default_factory=dict)
    random_fallback: bool = False
    max_new_tokens: int | None = None
    variants: Mapping[str, Source] = field(default_factory=dict)

    @property
    def tasks(self) -> tuple[str, ...]:
        """Tasks that leave rows: the subtasks of a group, else the task itself."""
        return self.subtasks or (self.task,)


@dataclass(frozen=True)
class Benchmark:
    """One registry entry. ``group`` is the key of the benchmark it is one half of, or empty; ``reasons``: its prompt asks to reason."""

    key: str
    title: str
    core: bool
    media: str
    group: str
    aliases: tuple[str, ...]
    sources: Mapping[str, Source]
    reasons: bool = False

    def source(self, backend: str, task: str = "") -> Source:
        """The entry for one backend, or the variant of it that runs ``task``."""
        source = self.sources[backend]
        if not task or task == source.task:
            return source
        if task in source.variants:
            return source.variants[task]
        known = ", ".join((source.task, *source.variants))
        raise EasiError(f"{self.title} has no task {task} on {backend}", hint=f"it has {known}")


@dataclass(frozen=True)
class Group:
    """One benchmark for the leaderboard that the backends run as several. Parts are pooled from the rows of all members."""

    key: str
    title: str
    members: tuple[str, ...]
    parts: tuple[Part, ...]
    aliases: tuple[str, ...]


def _refuse(where: str, problem: str) -> EasiError:
    return EasiError(
        f"benchmarks.toml, {where}: {problem}", hint="every key is documented in benchmarks.py"
    )


def _make(cls: type, table: Mapping[str, Any], where: str) -> Any:
    """An instance of a dataclass from a table; unknown and missing keys are refused by name, lists become tuples."""
    known = {f.name: f for f in fields(cls)}
    for name in table:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            raise _refuse(
                where, f"unknown key {name}" + (f", did you mean {near[0]}?" if near else "")
            )
    for name, entry in known.items():
        if name not in table and entry.default is MISSING and entry.default_factory is MISSING:
            raise _refuse(where, f"missing key {name}")
    return cls(
        **{
            name: tuple(value) if isinstance(value, list) else value
            for name, value in table.items()
        }
    )


def _parts(table: Mapping[str, Mapping[str, Any]], scale: float, where: str) -> tuple[Part, ...]:
    parts = tuple(
        _make(Part, {"scale": scale, **entry, "name": name}, f"{where}.{name}")
        for name, entry in table.items()
    )
    for part in parts:
        if not part.key and not part.types:
            raise _refuse(f"{where}.{part.name}", "missing key: it needs key or types")
        if part.group not in GROUPINGS:
            raise _refuse(
                f"{where}.{part.name}",
                f"group is {part.group!r}, not one of {', '.join(GROUPINGS[1:])}",
            )
    return parts


def _tsv_data(table: Mapping[str, Any], where: str) -> TsvData:
    values = dict(table)
    if "contents" in values:
        values["contents"] = [
            _make(Content, content, f"{where}.contents") for content in values["contents"]
        ]
        if sum(content.expected for content in values["contents"]) != 1:
            raise _refuse(where, "one of contents has to be expected")
    data: TsvData = _make(TsvData, values, where)
    return data


def _source(backend: str, table: Mapping[str, Any], tsv_repo: str, where: str) -> Source:
    """One source; its variants are sources of the same backend."""
    values = dict(table)
    for name in ("rows", "data", "task", "scale"):
        if name not in values:
            raise _refuse(where, f"missing key {name}")
    if backend == VLMEVALKIT:
        values["data"] = _tsv_data({"repo": tsv_repo, **values["data"]}, f"{where}.data")
    else:
        values["data"] = _make(HubData, values["data"], f"{where}.data")
    values["rows"] = _make(RowRule, values["rows"], f"{where}.rows")
    values["parts"] = _parts(values.get("parts", {}), values["scale"], f"{where}.parts")
    values["variants"] = {
        name: _source(backend, variant, tsv_repo, f"{where}.variants.{name}")
        for name, variant in values.get("variants", {}).items()
    }
    source: Source = _make(Source, values, where)
    if backend == VLMEVALKIT and source.layout not in LAYOUTS:
        raise _refuse(where, f"layout is {source.layout!r}, not one of {', '.join(LAYOUTS)}")
    if source.recompute not in RECOMPUTES:
        raise _refuse(
            where, f"recompute is {source.recompute!r}, not one of {', '.join(RECOMPUTES)}"
        )
    if source.rows.unparsed_when not in UNPARSED_RULES:
        raise _refuse(f"{where}.rows", f"unparsed_when is {source.rows.unparsed_when!r}")
    if bool(source.rows.unparsed_when) == bool(source.rows.unparsed_why):
        raise _refuse(f"{where}.rows", "needs either unparsed_when or unparsed_why")
    return source


def _benchmark(key: str, table: Mapping[str, Any], group: str, tsv_repo: str) -> Benchmark:
    values = {name: value for name, value in table.items() if name not in BACKENDS}
    for backend in BACKENDS:
        if backend not in table:
            raise _refuse(key, f"missing key {backend}")
    values["sources"] = {
        name: _source(name, table[name], tsv_repo, f"{key}.{name}") for name in BACKENDS
    }
    return _make(Benchmark, {"aliases": (), **values, "key": key, "group": group}, key)


def load(text: str) -> tuple[tuple[Benchmark, ...], tuple[Group, ...]]:
    """The registry from the text of ``benchmarks.toml``. Raises EasiError naming what is unknown or missing."""
    tables = tomllib.loads(text)
    known = ("schema", "tsv_repo", "benchmark", "group")
    for name in (*tables, *known):
        if name not in known or name not in tables:
            raise _refuse("top level", f"{'missing' if name in known else 'unknown'} key {name}")
    if tables["schema"] != SCHEMA:
        raise _refuse("top level", f"schema is {tables['schema']}, not {SCHEMA}")
    groups = tuple(
        _make(
            Group,
            {
                "aliases": (),
                **table,
                "key": key,
                "parts": _parts(table.get("parts", {}), 100, f"{key}.parts"),
            },
            key,
        )
        for key, table in tables["group"].items()
    )
    member_of = {member: group.key for group in groups for member in group.members}
    for member in member_of:
        if member not in tables["benchmark"]:
            raise _refuse(member_of[member], f"unknown member {member}")
    benchmarks = tuple(
        _benchmark(key, table, member_of.get(key, ""), tables["tsv_repo"])
        for key, table in tables["benchmark"].items()
    )
    return benchmarks, groups


TOML = Path(__file__).with_name("benchmarks.toml")
BENCHMARKS, GROUPS = load(TOML.read_text(encoding="utf-8"))
ALL_KEYS = tuple(bench.key for bench in BENCHMARKS)
CORE_KEYS = tuple(bench.key for bench in BENCHMARKS if bench.core)
_BY_KEY = {bench.key: bench for bench in BENCHMARKS}
_GROUP_BY_KEY = {group.key: group for group in GROUPS}


def by_key(key: str) -> Benchmark:
    """The entry of one exact key. Raises EasiError naming the nearest."""
    if key not in _BY_KEY:
        raise _unknown([key])
    return _BY_KEY[key]


def group_by_key(key: str) -> Group:
    """The group of one exact key (``site``)."""
    return _GROUP_BY_KEY[key]


def not_submitted(key: str) -> frozenset[str]:
    """Sub-scores of a benchmark or group that the leaderboard has no name for."""
    sources = by_key(key).sources.values() if key in _BY_KEY else ()
    return frozenset(part.name for source in sources for part in source.parts if part.extra)


def headline_keys(keys: Iterable[str] = CORE_KEYS) -> tuple[str, ...]:
    """The leaderboard's own keys for some benchmarks, in registry order: the members of a group become the group, once."""
    wanted = set(keys)
    names = (bench.group or bench.key for bench in BENCHMARKS if bench.key in wanted)
    return tuple(dict.fromkeys(names))


def _names() -> dict[str, tuple[str, ...]]:
    """Every name a user may type, with the keys it stands for."""
    names: dict[str, tuple[str, ...]] = {}
    for bench in BENCHMARKS:
        names |= dict.fromkeys((bench.key, *bench.aliases), (bench.key,))
    for group in GROUPS:
        names |= dict.fromkeys((group.key, *group.aliases), group.members)
    return names


def _unknown(typed: Sequence[str]) -> EasiError:
    """All that is mistyped at once, each with the nearest name."""
    known = "known: " + ", ".join((*ALL_KEYS, *(group.key for group in GROUPS)))
    if "all" in typed:
        return EasiError(
            "there is no benchmark all",
            hint="leave out --benchmarks for EASI-8, and add --include-extra for all 13",
        )
    near = [
        found[0]
        for name in typed
        if (found := difflib.get_close_matches(name, _names(), n=1, cutoff=0.5))
    ]
    hint = f"did you mean {','.join(near)}? " if near else ""
    return EasiError(
        f"unknown benchmark{'s' if len(typed) > 1 else ''} {', '.join(typed)}", hint=hint + known
    )


def parse_keys(text: str | None, include_extra: bool = False) -> tuple[str, ...]:
    """The keys a comma or space separated list names, in registry order; None stands for the core benchmarks.

    Raises EasiError for an unknown name (the nearest is named) and for a list that names nothing.
    """
    wanted: set[str] = set(CORE_KEYS) if text is None else set()
    if text is not None:
        names = _names()
        typed = text.replace(",", " ").lower().split()
        if not typed:
            raise EasiError(
                "--benchmarks names no benchmark", hint="leave it out to run all EASI-8 benchmarks"
            )
        if unknown := [name for name in typed if name not in names]:
            raise _unknown(unknown)
        for name in typed:
            wanted.update(names[name])
    if include_extra:
        wanted.update(bench.key for bench in BENCHMARKS if not bench.core)
    return tuple(key for key in ALL_KEYS if key in wanted)
