"""The registry of benchmarks: names, data, score columns and row formats for both backends.

Everything is read from ``<key>.toml``, one file per benchmark; a new benchmark is one new file. The
facts are those of ms-vlmeval 0.0.20 and lmms-eval 0.7.3. The module imports only the standard
library and small modules of this package, so it loads fast.
"""

from __future__ import annotations

import difflib
import re
import shlex
import tomllib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ..core.backend_facts import BACKEND_FACTS
from ..core.errors import EasiError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

_Entry = TypeVar("_Entry", bound="DataclassInstance")

VLMEVALKIT = "vlmevalkit"
LMMS_EVAL = "lmms-eval"
BACKENDS = tuple(BACKEND_FACTS)
LAYOUTS = ("wide", "wide_last_row", "key_value", "comma", "settings")
UNPARSED_RULES = ("", "not_extracted", "log", "present", "empty")
RECOMPUTES = ("mean", "type_mean", "part_mean", "caa")
GROUPINGS = ("", "flip", "circular", "flip_circular")
TSV_REPO = "lmms-lab-si/EASI-Leaderboard-Data"  # has the tables of all benchmarks for VLMEvalKit


@dataclass(frozen=True)
class Part:
    """One sub-score of a benchmark.

    Attributes:
        name: The leaderboard's name for it.
        key: Name of the number in the backend's aggregate file (``task|metric`` or
            ``setting|column`` where there are several tables). Without it the sub-score is
            recomputed from the rows whose question type is in ``types``.
        types: Question types it covers; empty means all.
        scale: Factor that converts the backend's number to 0-100.
        group: Count sets of questions instead of single ones (see ``scores/recompute.py``).
        extra: The leaderboard has no such sub-score: it is shown and archived, not submitted.
    """

    name: str
    key: str = ""
    types: tuple[str, ...] = ()
    scale: float = 1.0
    group: str = ""
    extra: bool = False

    @property
    def is_category(self) -> bool:
        """Whether it is of single questions of some kind, not another reading of the benchmark."""
        return bool(self.types) and not self.group


@dataclass(frozen=True)
class RowRule:
    """Where each fact about a question is found in the backend's per-question file.

    Names are columns of the table for VLMEvalKit and keys of a sample for lmms-eval.

    Attributes:
        item: The question's id.
        question_type: Its type; ``@task`` takes the subtask's name and ``@counted`` the metric
            whose entry counts this row.
        score: Candidate names; the first one with a value is the row's score, 0-1.
        entry: lmms-eval: the metric whose object holds the score and the other facts.
        target: The correct answer (lmms-eval: a key of ``entry``; empty takes the sample's own
            target).
        extracted: What the backend extracted from the answer.
        options: VLMEvalKit: the column with the list of options.
        chance: lmms-eval: the metric whose ``total`` is 1 - 1/n for n options.
        cluster: What questions about one scene or image have in common; empty if the file lacks it.
        cluster_chars: Number of leading characters of ``cluster`` that count; 0 means all.
        variant: Which variant of its question a row is (3DSRBench's qid).
        unparsed: The column or key that shows whether the backend could read the answer.
        unparsed_when: How ``unparsed`` marks an answer that could not be read. ``not_extracted``:
            it is False, or empty for a number; ``log``: the log column says so; ``present``: it has
            a value; ``empty``: it has none.
        unparsed_why: Without ``unparsed_when``: why unreadable answers cannot be recognised.
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
class Readable:
    """lmms-eval: how our scorer finds out whether the task could parse an answer.

    Attributes:
        check: Name of the check in ``easi_lmms_eval/scoring_probe.py``.
        column: ``letters``: Column with the right answer.
        values: ``letters``: Values that the column can have.
    """

    check: str = "letters"
    column: str = ""
    values: tuple[str | int, ...] = ()


@dataclass(frozen=True)
class Content:
    """One known version of a benchmark's table, identified by the MD5 sum of the file.

    Attributes:
        md5: Hexadecimal MD5 sum.
        name: Name of this version in messages.
        expected: This version is the benchmark; exactly one of a table's contents is.
    """

    md5: str
    name: str = ""
    expected: bool = False


@dataclass(frozen=True)
class TsvData:
    """The data that VLMEvalKit reads: a TSV and, for some benchmarks, a media repository.

    Attributes:
        dataset: Name of the dataset in the package.
        tsv: File name of the table in ``repo``.
        contents: Known versions of the table, exactly one of them expected.
        columns: Columns of the table.
        repo: Hub repository of the table.
        tsv_local: Name that the package gives the downloaded table, if it renames it.
        media_repo: Hub repository of the media; empty if the table contains them.
        media_sentinel: File in the media snapshot that is written after all ``*.zip`` archives at
            its root were unpacked.
        media_allow: Glob patterns of the media files to download; empty means all.
        media_ignore: Glob patterns of media files to leave out.
        derived_tsv: A table that the package derives from ``tsv``; it is deleted when ``tsv``
            changes.
        gb: Gigabytes to download; None if not known.
    """

    dataset: str
    tsv: str
    contents: tuple[Content, ...]
    columns: tuple[str, ...]
    repo: str = TSV_REPO
    tsv_local: str = ""
    media_repo: str = ""
    media_sentinel: str = ""
    media_allow: tuple[str, ...] = ()
    media_ignore: tuple[str, ...] = ()
    derived_tsv: str = ""
    gb: float | None = None


@dataclass(frozen=True)
class HubData:
    """The data that lmms-eval reads: a dataset repository on the hub.

    Attributes:
        repo: Hub repository.
        configs: Configurations to load; empty means the default one.
        split: Split to load.
        columns: Columns and their types.
        asked: Columns whose text is part of the prompt, in prompt order.
        truth: Columns with the correct answer, which the model never sees.
        cache_dir: Folder that videos are unpacked into unless it exists; a relative one is where
            the ``datasets`` library puts its cache.
        gb: Gigabytes to download; None if not known.
    """

    repo: str
    configs: tuple[str, ...]
    split: str
    columns: Mapping[str, str]
    asked: tuple[str, ...]
    truth: tuple[str, ...]
    cache_dir: str = ""
    gb: float | None = None


@dataclass(frozen=True)
class Source:
    """One benchmark as one backend implements it.

    Attributes:
        task: Name given to the backend.
        overall: Key of the headline score in the aggregate file.
        scale: Factor that converts the headline score to 0-100.
        recompute: How the score follows from the rows (see ``scores/recompute.py``).
        parts: Sub-scores.
        rows: Format of the per-question file.
        data: The data it reads.
        decimals: Digits to which the backend rounds its own numbers, on their own scale; None if it
            does not round.
        questions: Number of questions of the benchmark; None if unknown.
        family: VLMEvalKit: which naming scheme the result files follow.
        layout: VLMEvalKit: shape of the aggregate table.
        subtasks: lmms-eval: the tasks of a group.
        absent: Sub-scores that this task does not produce, with the reason; they are never 0.
        random_fallback: The backend replaces an unreadable answer by a random letter.
        vsi_input: VLMEvalKit: ``--vsi-input`` decides how its videos are shown.
        readable: lmms-eval: How to find out which answers the task could parse; None if its
            samples file says it.
        caveat: Name of the function that counts a peculiarity of this task's scoring
            (``caveats.py`` of the backend); empty for none.
        corrections: Ids of the corrections of its scores (``corrections.py`` of the backend).
        comparability: Which scores may be compared with older ones: ids of rules in
            ``comparability.toml``, and rules of its own (see ``scores/comparability.py``).
        archive_bytes: Bytes of a question without its answer in the smallest archive; None if it
            is as large as others (see ``size_forecast.py``).
        variants: Other tasks of the same backend that run this benchmark, by name.
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
    vsi_input: bool = False
    readable: Readable | None = None
    caveat: str = ""
    corrections: tuple[str, ...] = ()
    comparability: tuple[str | Mapping[str, Any], ...] = ()
    archive_bytes: float | None = None
    variants: Mapping[str, Source] = field(default_factory=dict)

    @property
    def tasks(self) -> tuple[str, ...]:
        """Tasks that write rows: the subtasks of a group, otherwise the task itself."""
        return self.subtasks or (self.task,)


@dataclass(frozen=True)
class Benchmark:
    """One entry of the registry.

    Attributes:
        key: Name on the command line and in the files of a run.
        order: Its place in the order in which benchmarks are listed and run.
        title: Name in messages and tables.
        core: It is one of the EASI-8 benchmarks.
        group: Key of the group that it is one half of; empty for none.
        aliases: Further names on the command line.
        sources: Its definition for each backend.
        reasons: Its prompt asks the model to reason before it answers.
        chance: Published score of guessing, 0-100; None if none is known.
        guess: Per cent that a guess gets right, by question type; "" is the key for all other
            types, and one number stands for all. A type without it has no options to guess from.
            Not needed where the rows have the number of options (``RowRule.options``).
        titles: Names of its sub-scores in tables, where their key is not readable enough.
        rehearsal: ``--smoke`` has questions for it, which a module of
            ``tests/rehearsal_data/benchmarks`` makes.
    """

    key: str
    order: int
    title: str
    core: bool
    group: str
    sources: Mapping[str, Source]
    aliases: tuple[str, ...] = ()
    reasons: bool = False
    chance: float | None = None
    guess: Mapping[str, float] = field(default_factory=dict)
    titles: Mapping[str, str] = field(default_factory=dict)
    rehearsal: bool = False

    @property
    def name(self) -> str:
        """The key, or the first alias if a shell would not take the key as one word."""
        return self.key if shlex.quote(self.key) == self.key else self.aliases[0]

    @property
    def data_gb(self) -> str:
        """Gigabytes to download for each backend, such as ``5.7 / ?``."""
        return " / ".join(str(source.data.gb or "?") for source in self.sources.values())

    def source(self, backend: str, task: str = "") -> Source:
        """Return the definition for one backend, or its variant that runs ``task``.

        Raises:
            EasiError: The backend has no such task for this benchmark.
        """
        source = self.sources[backend]
        if not task or task == source.task:
            return source
        if task in source.variants:
            return source.variants[task]
        known = ", ".join((source.task, *source.variants))
        raise EasiError(f"{self.title} has no task {task} on {backend}", hint=f"it has {known}")


@dataclass(frozen=True)
class Group:
    """A benchmark of the leaderboard that the backends run as several.

    Its score and sub-scores are computed from the rows of all members together. It is defined in
    the entry of one of them.
    """

    key: str
    title: str
    members: tuple[str, ...]
    parts: tuple[Part, ...]
    aliases: tuple[str, ...] = ()


def _refuse(where: str, problem: str) -> EasiError:
    return EasiError(
        f"benchmarks/{where}: {problem}", hint="benchmarks/__init__.py documents every key"
    )


def _make(cls: type[_Entry], table: Mapping[str, Any], where: str) -> _Entry:
    """Build a dataclass instance from a TOML table; lists become tuples.

    Unknown and missing keys raise an EasiError that names them.
    """
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
    data = _make(TsvData, values, where)
    return data


def _source(backend: str, table: Mapping[str, Any], where: str) -> Source:
    """Read one source; its variants are sources of the same backend."""
    values = dict(table)
    for name in ("rows", "data", "task", "scale"):
        if name not in values:
            raise _refuse(where, f"missing key {name}")
    if backend == VLMEVALKIT:
        values["data"] = _tsv_data(values["data"], f"{where}.data")
    else:
        values["data"] = _make(HubData, values["data"], f"{where}.data")
    values["rows"] = _make(RowRule, values["rows"], f"{where}.rows")
    if "readable" in values:
        values["readable"] = _make(Readable, values["readable"], f"{where}.readable")
    values["parts"] = _parts(values.get("parts", {}), values["scale"], f"{where}.parts")
    values["variants"] = {
        name: _source(backend, variant, f"{where}.variants.{name}")
        for name, variant in values.get("variants", {}).items()
    }
    source = _make(Source, values, where)
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


def _benchmark(key: str, table: Mapping[str, Any], group: str) -> Benchmark:
    file = f"{key}.toml"
    values = {name: value for name, value in table.items() if name not in (*BACKENDS, "group")}
    for backend in BACKENDS:
        if backend not in table:
            raise _refuse(file, f"missing key {backend}")
    values["sources"] = {name: _source(name, table[name], f"{file}, {name}") for name in BACKENDS}
    if not isinstance(guess := values.get("guess", {}), dict):
        values["guess"] = {"": guess}
    bench = _make(Benchmark, {**values, "key": key, "group": group}, file)
    named = {
        name
        for one in bench.sources.values()
        for name in (*(p.name for p in one.parts), *one.absent)
    }
    if unknown := sorted(bench.titles.keys() - named):
        raise _refuse(file, f"titles of no sub-score: {', '.join(unknown)}")
    return bench


def _group(key: str, table: Mapping[str, Any], known: Collection[str]) -> Group:
    where = f"{key}.toml, group"
    group = _make(
        Group, {**table, "parts": _parts(table.get("parts", {}), 100, f"{where}.parts")}, where
    )
    for member in group.members:
        if member not in known:
            raise _refuse(where, f"unknown member {member}")
    return group


def load(texts: Mapping[str, str]) -> tuple[tuple[Benchmark, ...], tuple[Group, ...]]:
    """Read the registry from the text of each benchmark's file, by key.

    Raises:
        EasiError: A key is unknown or missing, or a value is not allowed.
    """
    tables = {key: tomllib.loads(text) for key, text in texts.items()}
    groups = tuple(
        _group(key, table["group"], tables) for key, table in tables.items() if "group" in table
    )
    member_of = {member: group.key for group in groups for member in group.members}
    benchmarks = (_benchmark(key, table, member_of.get(key, "")) for key, table in tables.items())
    return tuple(sorted(benchmarks, key=lambda bench: (bench.order, bench.key))), groups


TEXTS = {
    path.stem: path.read_text(encoding="utf-8")
    for path in sorted(Path(__file__).parent.glob("*.toml"))
    if path.stem != "comparability"
}
BENCHMARKS, GROUPS = load(TEXTS)
ALL_KEYS = tuple(bench.key for bench in BENCHMARKS)
CORE_KEYS = tuple(bench.key for bench in BENCHMARKS if bench.core)
REHEARSED_KEYS = tuple(bench.key for bench in BENCHMARKS if bench.rehearsal)  # what --smoke runs
_BY_KEY = {bench.key: bench for bench in BENCHMARKS}
_GROUP_BY_KEY = {group.key: group for group in GROUPS}


def by_key(key: str) -> Benchmark:
    """Return the benchmark with this exact key.

    Raises:
        EasiError: There is none; the hint names the nearest key.
    """
    if key not in _BY_KEY:
        raise _unknown([key])
    return _BY_KEY[key]


def group_by_key(key: str) -> Group:
    """Return the group with this exact key (``site``)."""
    return _GROUP_BY_KEY[key]


def part_title(key: str, part: str) -> str:
    """Return the readable name of a sub-score of a benchmark or group."""
    members = _GROUP_BY_KEY[key].members if key in _GROUP_BY_KEY else (key,)
    for member in members:
        if part in _BY_KEY[member].titles:
            return _BY_KEY[member].titles[part]
    words = re.sub("_(accuracy|caa)$", "", part).replace("_", " ")
    return words[:1].upper() + words[1:]


def not_submitted(key: str) -> frozenset[str]:
    """Return the sub-scores of a benchmark or group that the leaderboard has no name for."""
    sources = by_key(key).sources.values() if key in _BY_KEY else ()
    return frozenset(part.name for source in sources for part in source.parts if part.extra)


def headline_keys(keys: Iterable[str] = CORE_KEYS) -> tuple[str, ...]:
    """Return the leaderboard's keys for the given benchmarks, in registry order.

    The members of a group are replaced by the group's key, once.
    """
    wanted = set(keys)
    names = (bench.group or bench.key for bench in BENCHMARKS if bench.key in wanted)
    return tuple(dict.fromkeys(names))


def _names() -> dict[str, tuple[str, ...]]:
    """Map every name a user may type to the keys it stands for."""
    names: dict[str, tuple[str, ...]] = {}
    for bench in BENCHMARKS:
        names |= dict.fromkeys((bench.key, *bench.aliases), (bench.key,))
    for group in GROUPS:
        names |= dict.fromkeys((group.key, *group.aliases), group.members)
    return names


def _unknown(typed: Sequence[str]) -> EasiError:
    """Build the error for all unknown names at once, with the nearest known ones."""
    known = "known: " + ", ".join(
        (*(bench.name for bench in BENCHMARKS), *(group.key for group in GROUPS))
    )
    if "all" in typed:
        return EasiError(
            "unknown benchmark all",
            hint="leave out --benchmarks for EASI-8, and add --include-extra for all "
            f"{len(BENCHMARKS)}",
        )
    near = [
        found[0]
        for name in typed
        if (found := [known for known in _names() if known.startswith(name)])
        or (found := difflib.get_close_matches(name, _names(), n=1, cutoff=0.5))
    ]
    hint = f"did you mean {','.join(near)}? " if near else ""
    return EasiError(
        f"unknown benchmark{'s' if len(typed) > 1 else ''} {', '.join(typed)}", hint=hint + known
    )


def parse_keys(text: str | None, include_extra: bool = False) -> tuple[str, ...]:
    """Return the keys named by a comma or space separated list, in registry order.

    Args:
        text: The list; None stands for the core benchmarks.
        include_extra: Add the benchmarks outside EASI-8.

    Raises:
        EasiError: A name is unknown, or the list names nothing.
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
