"""Find finished results of lmms-eval in a folder (``--import-results``).

Each launch writes ``<stamp>_results.json`` and the samples files.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...benchmarks import LMMS_EVAL, Benchmark, by_key
from ...core.errors import EasiError
from ...scores.outputs import Candidate, Survey, newest_files, taken_note

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
class _ResultsFile:
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
    def version(self) -> str:
        """What it says of lmms-eval's version.

        lmms-eval writes the branch and commit of the git repository that its package lies in, which
        is another project's where it is installed in an environment inside a clone.
        """
        told = str(self.content.get("lmms_eval_version") or "")
        if told == "unknown@unknown":
            return ""
        return f"of an unknown release (git {told})" if "@" in told else told

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


def _launches(folder: Path) -> Iterator[_ResultsFile]:
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
                raise TypeError("its results are no JSON object")
        except (OSError, ValueError, KeyError, TypeError) as error:
            yield _ResultsFile(
                path,
                stamp,
                {},
                f"{path.name} is damaged ({error}) and cannot be assigned to a run: move it away",
            )
        else:
            yield _ResultsFile(path, stamp, content)


def survey(folder: Path, keys: Iterable[str]) -> Survey | None:
    """Return what ``folder`` holds of lmms-eval and the benchmarks ``keys``; None if nothing."""
    launches = list(_launches(folder))
    chosen: dict[str, tuple[_ResultsFile | None, Candidate]] = {}
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
        version=first.version,
    )


def _refuse_mixed(folder: Path, used: Mapping[str, _ResultsFile]) -> None:
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
    bench: Benchmark, launches: Sequence[_ResultsFile]
) -> tuple[_ResultsFile | None, Candidate] | None:
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
            *((f"a newer one made with --limit was ignored: {limited}",) if limited else ()),
            *((taken_note(launch.path.name, left),) if left else ()),
        )
        return launch, Candidate(bench.key, (launch.path, *samples), notes=notes)
    if limited:
        return None, Candidate(bench.key, problem=limited)
    return None
