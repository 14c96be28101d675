"""Find finished results of VLMEvalKit in a folder (``--import-results``).

VLMEvalKit writes its files flat (this version), into ``T<date>-<time>/`` (its API mode), or into
``T<date>_G<commit>/`` with links beside that folder (older versions).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from ...benchmarks import GROUPS, VLMEVALKIT, Benchmark, by_key
from ...core.errors import EasiError
from ...scores.outputs import Candidate, Outputs, Survey, taken_note
from .result_files import find_vlmevalkit_outputs, score_files


def survey(folder: Path, keys: Iterable[str], judge: str) -> Survey | None:
    """Return what ``folder`` holds of VLMEvalKit and the benchmarks ``keys``; None if nothing.

    ``judge``: if given, only results read by this judge, or by rules (``exact_matching``), count.
    """
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
        (taken_note(_below(out.scores[0].parent, folder), [_below(each, folder) for each in left]),)
        if left
        else ()
    )
    return Candidate(bench.key, out.files, method=_method(bench, out), notes=notes)


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
        "its halves are scored differently: "
        f"{', '.join(f'{half.key} by {half.method}' for half in halves)}"
    )
    return {half.key: Candidate(half.key, problem=problem) for half in halves}


def _below(place: Path, folder: Path) -> str:
    return (
        place.name
        if place == folder or not place.is_relative_to(folder)
        else place.relative_to(folder).as_posix()
    )
