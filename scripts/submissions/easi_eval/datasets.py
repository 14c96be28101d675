"""Benchmark data, fetched and unpacked before any worker starts; ``fetch`` is the way in.

Everything is compared with what the hub says about it, and is there whole or not at all. huggingface_hub is loaded
only when ``fetch`` or ``size_of`` is called: a plan names its needs within milliseconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .benchmarks import LMMS_EVAL, VLMEVALKIT, Benchmark, HubData, TsvData
from .data.needs import Fetched, FileRecord, HubSettings, Kind, Need, Size, Unpack
from .display.events import Emit

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
    """Meet every need, in the order given; raises EasiError if one cannot be met.

    Emits DataProgress per need (bytes there and checked; ``what`` + ", unpacking" for its archives), a Notice for
    what is worth knowing. Interrupted, it continues next time where it was. Without an answer from the hub it goes
    on with what is on disk if that is complete, and else says so once.
    """
    from .data.fetching import fetch as run

    return run(needs, emit, settings or HubSettings.from_env())


def size_of(needs: Sequence[Need], settings: HubSettings | None = None) -> list[Size]:
    """What fetching would download and what is here already, in the order given; downloads and writes nothing.

    A hub that cannot be asked is no error: the size is not known, and why.
    """
    from .data.fetching import size_of as run

    return run(needs, settings or HubSettings.from_env())


def fetch_model_file(settings: HubSettings, model: str, name: str, revision: str = "") -> Path:
    """One small file (``config.json``) of a model at ``revision`` ("": main), in the hub cache; its folder is named by the commit.

    Offline, or where the hub cannot be reached, the cached one. Raises EasiError where there is none, or the hub
    refuses the model.
    """
    from .data.fetching import model_file

    return model_file(settings, model, name, revision)


def vlmevalkit_needs(bench: Benchmark, dataset_dir: Path) -> list[Need]:
    """The TSV, into ``dataset_dir`` (the LMUData of the run), and the media snapshot unpacked in the hub cache."""
    data = bench.source(VLMEVALKIT).data
    assert isinstance(data, TsvData)
    derived = [Path(data.derived_tsv).name] if data.derived_tsv else []
    name = data.tsv_local or data.tsv
    # A TSV above 1 GB is rewritten by the package as <name>_local.tsv; it must not outlive the TSV it came from.
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
    """The task's repo in the hub cache; where its videos are read from a folder below ``hf_home``, that folder."""
    data = bench.source(LMMS_EVAL, task).data
    assert isinstance(data, HubData)
    media = data.cache_dir.startswith("{HF_HOME}/")
    folder = hf_home / data.cache_dir.removeprefix("{HF_HOME}/")
    return [Need(what=bench.title, repo=data.repo, unpack=Unpack(into=folder) if media else None)]
