"""Download and unpack benchmark data before any worker starts; ``fetch`` is the entry point.

Every file is compared with what the hub reports about it; a file is either complete or absent.
huggingface_hub is loaded only when ``fetch`` or ``size_of`` is called, so a plan can list its needs
within milliseconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..benchmarks import LMMS_EVAL, VLMEVALKIT, Benchmark, HubData, TsvData
from ..core.events import Emit
from .needs import Fetched, FileRecord, HubSettings, Kind, Need, Size, Unpack

__all__ = [
    "Fetched",
    "FileRecord",
    "HubSettings",
    "Kind",
    "Need",
    "Size",
    "Unpack",
    "fetch",
    "fetch_model_file",
    "lmms_needs",
    "size_of",
    "vlmevalkit_needs",
]


def fetch(needs: Sequence[Need], emit: Emit, settings: HubSettings | None = None) -> list[Fetched]:
    """Fetch every need, in the order given; an interrupted download is continued next time.

    Emits DataProgress for each need (bytes present and verified; while archives are unpacked,
    ``what`` ends in ", unpacking") and a Notice for other remarks. If the hub does not answer,
    complete data on disk is used; otherwise one error says what is missing.

    Raises:
        EasiError: A need cannot be met.
    """
    from .fetch import fetch as run

    return run(needs, emit, settings or HubSettings.from_env())


def size_of(needs: Sequence[Need], settings: HubSettings | None = None) -> list[Size]:
    """Return what fetching would download and what is present, in the order given.

    Downloads and writes nothing. If the hub does not answer, the size is unknown and the result
    says why; this is not an error.
    """
    from .fetch import size_of as run

    return run(needs, settings or HubSettings.from_env())


def fetch_model_file(settings: HubSettings, model: str, name: str, revision: str = "") -> Path:
    """Return one small file (``config.json``) of a model, from the hub or its cache.

    Offline, or if the hub cannot be reached, the cached file is used.

    Args:
        settings: Hub and cache.
        model: Model id.
        name: File name in the repository.
        revision: Revision of the model; empty means main.

    Returns:
        Its path in the hub cache. The name of its folder is the commit.

    Raises:
        EasiError: There is no cached file either, or the hub denies access to the model.
    """
    from .fetch import model_file

    return model_file(settings, model, name, revision)


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
