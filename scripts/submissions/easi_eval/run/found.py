"""Survey a folder with results that were made without this program (``--import-results``).

It finds out which backend and model the results belong to, and the files of each benchmark.

Folder layouts: VLMEvalKit writes its files flat (this version), into ``T<date>-<time>/`` (its API
mode), or into ``T<date>_G<commit>/`` with links beside that folder (older versions). lmms-eval
writes ``<stamp>_results.json`` and the samples files, one set per launch.

Nothing in the folder is imported or unpickled, and links are followed only to regular files.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..backends.lmms_eval import survey as lmms_eval
from ..backends.vlmevalkit import survey as vlmevalkit
from ..benchmarks import ALL_KEYS
from ..core.errors import EasiError
from ..scores.outputs import Survey


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
        one
        for one in (vlmevalkit.survey(folder, keys, judge), lmms_eval.survey(folder, keys))
        if one is not None
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
