"""Survey a folder with results that were made without this program (``--import-results``).

It finds out which backend and model the results belong to, and the files of each benchmark.

Folder layouts: VLMEvalKit writes its files flat (this version), into ``T<date>-<time>/`` (its API
mode), or into ``T<date>_G<commit>/`` with links beside that folder (older versions). lmms-eval
writes ``<stamp>_results.json`` and the samples files, one set per launch.

Nothing in the folder is imported or unpickled, and links are followed only to regular files.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..benchmarks import ALL_KEYS, GROUPS, LMMS_EVAL, VLMEVALKIT, Benchmark, by_key
from ..errors import EasiError
from .outputs import Outputs
from .rows import newest_files
from .vlmevalkit_files import find_vlmevalkit_outputs, score_files

# The name of a results file of lmms-eval starts with the time of the launch.
_STAMP = re.compile(r"(?P<stamp>\d{8}_\d{6})_results\.json")
# Model arguments that do not affect answers.
_HOW = frozenset(
    {
        "device",
        "device_map",
        "batch_size",
        "num_processes",
        "tensor_parallel_size",
        "gpu_memory_utilization",
        "base_url",
    }
)


@dataclass(frozen=True)
class Candidate:
    """The files of one benchmark, all from the same run.

    Attributes:
        key: Key of the benchmark.
        files: The files.
        problem: Why they cannot be imported; "" if they can.
        method: How answers were read (``exact_matching`` or a judge); "" on a backend without a
            choice.
        notes: Remarks for users, for example which other results were left out.
    """

    key: str
    files: tuple[Path, ...] = ()
    problem: str = ""
    method: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Survey:
    """What a folder holds.

    Attributes:
        backend: The backend that wrote the files.
        model: The checkpoint as the files name it.
        candidates: One entry per benchmark found.
        cls: The model class or type that ran it; "" if the files do not say.
        arguments: Model arguments that affect answers.
        version: Version of lmms-eval; "" if unknown.
    """

    backend: str
    model: str
    candidates: tuple[Candidate, ...]
    cls: str = ""
    arguments: Mapping[str, object] = field(default_factory=dict)
    version: str = ""


def survey(folder: Path, keys: Sequence[str] = ALL_KEYS, judge: str = "") -> Survey:
    """Survey ``folder`` for results of the benchmarks ``keys``.

    Args:
        folder: The folder with the results.
        keys: The benchmarks to look for.
        judge: If given, only VLMEvalKit results read by this judge, or by rules
            (``exact_matching``), are considered.

    Raises:
        EasiError: The folder holds no results, or results of both backends or of several models.
    """
    if not folder.is_dir():
        raise EasiError(
            f"{folder} is {'not a folder' if folder.exists() else 'not there'}",
            hint="name the folder that holds the results",
        )
    found = [
        one for one in (_vlmevalkit(folder, keys, judge), _lmms(folder, keys)) if one is not None
    ]
    if not found:
        raise EasiError(
            f"{folder} holds no results of VLMEvalKit or lmms-eval for any EASI benchmark",
            hint="name the folder their files are in: *_acc.csv with *.xlsx, "
            "or *_results.json with *_samples_*.jsonl",
        )
    if len(found) > 1:
        raise EasiError(
            f"{folder} holds results of both backends", hint="name the folder of one of them"
        )
    return found[0]


# ---- VLMEvalKit


def _vlmevalkit(folder: Path, keys: Iterable[str], judge: str) -> Survey | None:
    candidates = {
        key: found
        for key in keys
        if (found := _vlmevalkit_candidate(by_key(key), folder, judge)) is not None
    }
    if not candidates:
        return None
    models = sorted({name for key in candidates for _, name, _ in score_files(by_key(key), folder)})
    if len(models) > 1:
        raise EasiError(
            f"{folder} holds results of several models: {', '.join(models)}",
            hint="name the folder of one of them",
        )
    for group in GROUPS:
        candidates |= _alike(
            [candidates[key] for key in group.members if key in candidates], folder
        )
    return Survey(
        VLMEVALKIT, models[0].replace("-->", "/") if models else "", tuple(candidates.values())
    )


def _vlmevalkit_candidate(bench: Benchmark, folder: Path, judge: str = "") -> Candidate | None:
    """Return the files of one benchmark, or None if the folder has nothing about it."""
    scored = score_files(bench, folder)
    if not scored:
        task = re.escape(bench.source(VLMEVALKIT).task)
        answered = [
            path
            for path in folder.rglob(f"*_{bench.source(VLMEVALKIT).task}*")
            if re.fullmatch(rf".+_{task}\.(xlsx|tsv|json)", path.name) and path.is_file()
        ]
        return (
            Candidate(
                bench.key, problem="answered, but not scored: run VLMEvalKit on it with --mode eval"
            )
            if answered
            else None
        )
    try:
        out = find_vlmevalkit_outputs(bench, folder, judge)
    except EasiError as error:
        return Candidate(bench.key, problem=error.message)
    left = (
        dict.fromkeys(path.parent for path, _, _ in scored if path.parent != out.scores[0].parent)
        if out.scores
        else {}
    )
    notes = (
        (_taken(_below(out.scores[0].parent, folder), [_below(each, folder) for each in left]),)
        if left
        else ()
    )
    return Candidate(bench.key, out.files, method=_method(bench, out), notes=notes)


def _below(place: Path, folder: Path) -> str:
    return (
        place.name
        if place == folder or not place.is_relative_to(folder)
        else place.relative_to(folder).as_posix()
    )


def _taken(chosen: str, left: Sequence[str]) -> str:
    """Return the note for a benchmark that has several results in the folder."""
    return f"taken from {chosen}; left: {', '.join(left)}"


def _method(bench: Benchmark, out: Outputs) -> str:
    """Return the extraction method, as the names of the files tell it.

    The names of 3DSRBench's result files do not tell it, but the names of its cache files
    (``*_result.pkl``) do. Returns "" if the caches of several methods are there.
    """
    tags = [tag for path, _, tag in score_files(bench, out.folder) if path in out.scores and tag]
    beside = [out.rows[0].name, *(path.name for path in out.rows[0].parent.glob("*_result.pkl"))]
    pattern = re.compile(rf".+_{re.escape(bench.source(VLMEVALKIT).task)}_(.+)_result\.\w+")
    named = {match[1] for name in beside if (match := pattern.fullmatch(name))}
    if (own := pattern.fullmatch(out.rows[0].name)) is not None:
        named = {own[1]}
    tag = tags[0] if tags else named.pop() if len(named) == 1 else ""
    return (
        "exact_matching"
        if tag in ("extract_matching", "exact_matching")
        else tag.removeprefix("llm_")
    )


def _alike(halves: Sequence[Candidate], folder: Path) -> dict[str, Candidate]:
    """Return the members of a group, all read by the same method.

    If their newest results differ in method, the first of these methods that all members have
    results of is used. If there is none, every member is marked with a problem.
    """
    if len({half.method for half in halves}) < 2 or any(half.problem for half in halves):
        return {half.key: half for half in halves}
    methods = dict.fromkeys(half.method for half in halves)
    for method in methods:
        again = {
            half.key: _vlmevalkit_candidate(by_key(half.key), folder, method) for half in halves
        }
        if all(half is not None and not half.problem for half in again.values()):
            return {key: half for key, half in again.items() if half is not None}
    problem = (
        "its halves are read differently: "
        f"{', '.join(f'{half.key} by {half.method}' for half in halves)}"
    )
    return {half.key: Candidate(half.key, problem=problem) for half in halves}


# ---- lmms-eval


@dataclass(frozen=True)
class _Launch:
    """One results file of lmms-eval; ``problem`` says why it cannot be read."""

    path: Path
    stamp: str
    content: Mapping[str, Any]
    problem: str = ""

    @property
    def config(self) -> Mapping[str, Any]:
        found = self.content.get("config")
        return found if isinstance(found, dict) else {}

    @property
    def limited(self) -> bool:
        return self.config.get("limit") is not None or bool(self.config.get("offset"))

    @property
    def model(self) -> str:
        return str(self.content.get("model_name") or "")

    @property
    def arguments(self) -> dict[str, str]:
        """The model arguments that affect answers."""
        given = self.config.get("model_args")
        pairs = (
            given.items()
            if isinstance(given, dict)
            else (part.partition("=")[::2] for part in str(given or "").split(","))
        )
        return {
            str(name).strip(): str(value)
            for name, value in pairs
            if str(name).strip() and str(name).strip() not in _HOW
        }

    @property
    def settings(self) -> tuple[object, ...]:
        """What is equal in all launches that belong to one evaluation."""
        return (
            self.model,
            self.content.get("model_source") or self.config.get("model"),
            tuple(sorted(self.arguments.items())),
            str(self.config.get("gen_kwargs") or ""),
        )


def _launches(folder: Path) -> Iterator[_Launch]:
    """Yield all launches, newest first.

    They are ordered by the time in the file name, since copying a folder may lose modification
    times.
    """
    named = [
        (match["stamp"], path)
        for path in newest_files(folder.rglob("*_results.json"))
        if (match := _STAMP.fullmatch(path.name))
    ]
    for stamp, path in sorted(named, key=lambda one: one[0], reverse=True):
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if not isinstance(content["results"], dict):
                raise TypeError("its results are no object")
        except (OSError, ValueError, KeyError, TypeError) as error:
            yield _Launch(
                path,
                stamp,
                {},
                f"{path.name} is damaged ({error}), and nobody knows what it was about: "
                "move it away",
            )
        else:
            yield _Launch(path, stamp, content)


def _lmms(folder: Path, keys: Iterable[str]) -> Survey | None:
    launches = list(_launches(folder))
    chosen: dict[str, tuple[_Launch | None, Candidate]] = {}
    for key in keys:
        if (picked := _lmms_candidate(by_key(key), launches)) is not None:
            chosen[key] = picked
    if not chosen:
        return None
    used = {key: launch for key, (launch, _) in chosen.items() if launch is not None}
    _refuse_mixed(folder, used)
    first = next(iter(used.values()), None)
    candidates = tuple(candidate for _, candidate in chosen.values())
    if first is None:
        return Survey(
            LMMS_EVAL, next((launch.model for launch in launches if launch.model), ""), candidates
        )
    return Survey(
        LMMS_EVAL,
        first.model,
        candidates,
        cls=str(first.config.get("model") or ""),
        arguments=first.arguments,
        version=str(first.content.get("lmms_eval_version") or ""),
    )


def _refuse_mixed(folder: Path, used: Mapping[str, _Launch]) -> None:
    """Raise EasiError unless all results are of one model with one set of arguments."""
    by: dict[tuple[object, ...], list[str]] = {}
    for key, launch in used.items():
        by.setdefault(launch.settings, []).append(key)
    if len(by) > 1:
        models = sorted({launch.model for launch in used.values()})
        what = (
            f"several models: {', '.join(models)}"
            if len(models) > 1
            else "one model under several settings"
        )
        groups = "; ".join(",".join(keys) for keys in by.values())
        raise EasiError(
            f"{folder} holds results of {what} ({groups})",
            hint="name the folder of one of them, or some of its benchmarks with --benchmarks",
        )


def _lmms_candidate(
    bench: Benchmark, launches: Sequence[_Launch]
) -> tuple[_Launch | None, Candidate] | None:
    """Return the newest launch that ran the whole benchmark, and its files.

    Launches under ``--limit`` are never used. Returns None if no launch ran the benchmark.
    """
    main = bench.source(LMMS_EVAL)
    damaged, limited = "", ""
    for launch in launches:
        damaged = damaged or launch.problem
        source = next(
            (
                one
                for one in (main, *main.variants.values())
                if one.task in launch.content.get("results", {})
            ),
            None,
        )
        if source is None:
            continue
        if launch.limited:
            limited = (
                limited or f"{launch.path.name} was made under --limit {launch.config.get('limit')}"
            )
            continue
        if damaged:  # the damaged file is newer and may be the one to import
            return None, Candidate(bench.key, problem=damaged)
        samples = tuple(
            launch.path.with_name(f"{launch.stamp}_samples_{task}.jsonl") for task in source.tasks
        )
        if lacking := [path.name for path in samples if not path.is_file()]:
            return None, Candidate(
                bench.key,
                problem=f"{launch.path.parent} lacks {', '.join(lacking)}: "
                "--log_samples writes them",
            )
        tasks = {one.task for one in (main, *main.variants.values())}
        left = [
            older.path.name
            for older in launches
            if older is not launch
            and not older.limited
            and tasks & set(older.content.get("results", {}))
        ]
        notes = (
            *((f"a newer one under --limit was passed over: {limited}",) if limited else ()),
            *((_taken(launch.path.name, left),) if left else ()),
        )
        return launch, Candidate(bench.key, (launch.path, *samples), notes=notes)
    if limited:
        return None, Candidate(bench.key, problem=limited)
    return None
