"""What a benchmark needs on disk, from its registry entry."""

from __future__ import annotations

from pathlib import Path

from ..benchmarks import LMMS_EVAL, VLMEVALKIT, Benchmark, HubData, TsvData
from .needs import Kind, Need, Unpack


def vlmevalkit_needs(bench: Benchmark, dataset_dir: Path) -> list[Need]:
    """Return the needs of a benchmark on VLMEvalKit: its TSV and its media.

    The TSV is stored in ``dataset_dir``, which is LMUData in the run; the media snapshot is
    unpacked in the hub cache.
    """
    data = bench.source(VLMEVALKIT).data
    assert isinstance(data, TsvData)
    derived = [Path(data.derived_tsv).name] if data.derived_tsv else []
    name = data.tsv_local or data.tsv
    # The package rewrites a TSV above 1 GB as <name>_local.tsv, which is invalid once the TSV
    # changes.
    derived.append(f"{Path(name).stem}_local.tsv")
    needs = [
        Need(
            what=f"{bench.title} questions",
            repo=data.repo,
            kind=Kind.FILE,
            files=(data.tsv,),
            where=dataset_dir,
            save_as=data.tsv_local,
            derived=tuple(derived),
        )
    ]
    if data.media_repo:
        needs.append(
            Need(
                what=f"{bench.title} media",
                repo=data.media_repo,
                allow=data.media_allow,
                ignore=data.media_ignore,
                unpack=Unpack(sentinel=data.media_sentinel),
            )
        )
    return needs


def lmms_needs(bench: Benchmark, hf_home: Path, task: str = "") -> list[Need]:
    """Return the need of a benchmark on lmms-eval: the task's repository in the hub cache.

    If the task reads videos from a folder below ``hf_home``, they are unpacked there.
    """
    data = bench.source(LMMS_EVAL, task).data
    assert isinstance(data, HubData)
    media = data.cache_dir.startswith("{HF_HOME}/")
    folder = hf_home / data.cache_dir.removeprefix("{HF_HOME}/")
    return [Need(what=bench.title, repo=data.repo, unpack=Unpack(into=folder) if media else None)]
