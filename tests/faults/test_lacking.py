"""Offline with an incomplete cache: what is missing is named before a worker is started."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from huggingface_hub import constants
from huggingface_hub.utils._http import reset_sessions

from easi_eval.backends.shared.model_files import weights_need
from easi_eval.benchmarks import BENCHMARKS, LMMS_EVAL, REHEARSED_KEYS, VLMEVALKIT, by_key
from easi_eval.config import TINY_MODEL
from easi_eval.core.errors import EasiError
from easi_eval.data.benchmark_needs import lmms_needs, vlmevalkit_needs
from easi_eval.data.fetch import fetch
from easi_eval.data.lacking import refuse_lacking
from easi_eval.data.local_hub.server import LocalHub
from easi_eval.data.needs import HubSettings, Need
from program import User
from rehearsal_data import checkpoint, repositories

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalHub]:
    root = tmp_path_factory.mktemp("hub") / "served"
    repositories.build(root, seed=1)
    checkpoint.build(root / "models" / TINY_MODEL)
    shards = root / "models" / "easi-smoke" / "Sharded"
    shutil.copytree(root / "models" / TINY_MODEL, shards)
    (shards / "model.safetensors").rename(shards / "model-00001-of-00002.safetensors")
    (shards / "model-00002-of-00002.safetensors").write_bytes(b"2")
    with LocalHub(root) as running:
        yield running


@pytest.fixture(autouse=True)
def online_again() -> Iterator[None]:
    """The client is told to be offline for the whole process."""
    yield
    constants.HF_HUB_OFFLINE = False
    reset_sessions()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """HF_HOME; the TSV tables lie beside it."""
    return tmp_path / "huggingface"


def needs(key: str, backend: str, home: Path, task: str = "") -> list[Need]:
    return (
        vlmevalkit_needs(by_key(key), home.parent / "datasets")
        if backend == VLMEVALKIT
        else lmms_needs(by_key(key), home, task)
    )


def as_others_would(wanted: list[Need], served: LocalHub, home: Path) -> HubSettings:
    """Fill the cache without our notes and unpacked media; the settings of who is offline then."""
    settings = HubSettings(endpoint=served.endpoint, hf_home=home)
    fetch([replace(need, unpack=None) for need in wanted], lambda event: None, settings)
    shutil.rmtree(settings.records)
    return replace(settings, offline=True)


def remove(home: Path, name: str) -> None:
    (found,) = home.glob(f"hub/*/snapshots/*/{name}")
    found.unlink()


CASES = [
    (bench.key, backend, source.task)
    for bench in BENCHMARKS
    if bench.key in REHEARSED_KEYS
    for backend, each in bench.sources.items()
    for source in (each, *each.variants.values())
]


@pytest.mark.parametrize(("key", "backend", "task"), CASES)
def test_a_whole_cache_is_never_refused(
    served: LocalHub, home: Path, key: str, backend: str, task: str
) -> None:
    wanted = needs(key, backend, home, task)
    offline = as_others_would(wanted, served, home)
    refuse_lacking(
        by_key(key).source(backend, task), fetch(wanted, lambda event: None, offline), offline
    )
    for archive in home.glob("hub/*/snapshots/*/*.zip"):  # many remove them once they are unpacked
        archive.unlink()
    if any(need.unpack and need.unpack.into for need in wanted):
        refuse_lacking(
            by_key(key).source(backend, task), fetch(wanted, lambda event: None, offline), offline
        )


@pytest.mark.parametrize(
    ("key", "backend", "gone", "said"),
    [
        (
            "vsi_bench",
            VLMEVALKIT,
            "scannet.zip",
            "scannet (for one scannet/scene0011_00) of nyu-visionx/VSI-Bench",
        ),
        (
            "vsi_bench",
            LMMS_EVAL,
            "scannetpp.zip",
            "scannetpp (for one scannetpp/09c1414f1b) of nyu-visionx/VSI-Bench",
        ),
        ("vsi_bench", LMMS_EVAL, "test.parquet", "test.parquet of nyu-visionx/VSI-Bench"),
        ("vsi_bench", LMMS_EVAL, "README.md", "README.md of nyu-visionx/VSI-Bench"),
        (
            "site_image",
            VLMEVALKIT,
            "VStar.zip",
            "VStar (for one VStar/images/0000_0.png) of franky-veteran/SITE-Bench",
        ),
        (
            "site_video",
            LMMS_EVAL,
            "MVBench.zip",
            "MVBench (for one MVBench/clip_0001.mp4) of franky-veteran/SITE-Bench",
        ),
        (
            "mmsi_video_bench",
            LMMS_EVAL,
            "frames.zip",
            "0000_0 (for one 0000_0/0000.jpg) of oscarqjh/MMSI-Video-Bench_lmmseval",
        ),
        (
            "blink",
            LMMS_EVAL,
            "Counting/val-00000-of-00001.parquet",
            "Counting/val-* of BLINK-Benchmark/BLINK",
        ),
    ],
)
def test_what_is_not_there_is_named(
    served: LocalHub, home: Path, key: str, backend: str, gone: str, said: str
) -> None:
    wanted = needs(key, backend, home)
    offline = as_others_would(wanted, served, home)
    remove(home, gone)
    with pytest.raises(EasiError) as refused:
        refuse_lacking(
            by_key(key).source(backend), fetch(wanted, lambda event: None, offline), offline
        )
    assert said in refused.value.message and str(home) in refused.value.hint


@pytest.mark.parametrize("inside", ["", "a"])
def test_media_behind_links_are_there(served: LocalHub, home: Path, inside: str) -> None:
    """As on clusters: media folders link to one folder on another disk, which links back."""
    wanted = needs("vsi_bench", LMMS_EVAL, home)
    offline = as_others_would(wanted, served, home)
    fetch(wanted, lambda event: None, offline)
    shared, media = home.parent / "shared" / inside, wanted[0].unpack.into
    shutil.rmtree(offline.records)
    for folder in [path for path in media.iterdir() if path.is_dir()]:
        shutil.copytree(folder, shared, dirs_exist_ok=True)
        shutil.rmtree(folder)
        folder.symlink_to(shared)
    (shared / "back").symlink_to(media)
    source = by_key("vsi_bench").source(LMMS_EVAL)
    refuse_lacking(source, fetch(wanted, lambda event: None, offline), offline)


def test_a_benchmark_that_reads_nothing_of_it_goes_on(served: LocalHub, home: Path) -> None:
    wanted = needs("site_image", LMMS_EVAL, home)
    offline = as_others_would(wanted, served, home)
    remove(home, "MVBench.zip")  # videos
    refuse_lacking(
        by_key("site_image").source(LMMS_EVAL), fetch(wanted, lambda event: None, offline), offline
    )


@pytest.mark.parametrize(
    ("model", "gone", "said"),
    [
        (
            "easi-smoke/Sharded",
            "model-00001-of-00002.safetensors",
            "model-00001-of-00002.safetensors of easi-smoke/Sharded",
        ),
        (
            "easi-smoke/Sharded",
            "model-00002-of-00002.safetensors",
            "model-00002-of-00002.safetensors of easi-smoke/Sharded",
        ),
        (TINY_MODEL, "model.safetensors", f"the weights of {TINY_MODEL}"),
    ],
)
def test_weights_that_are_not_there_are_named(
    served: LocalHub, home: Path, model: str, gone: str, said: str
) -> None:
    offline = as_others_would([weights_need(model)], served, home)
    fetch([weights_need(model)], lambda event: None, offline)
    remove(home, gone)
    with pytest.raises(EasiError, match=said):
        fetch([weights_need(model)], lambda event: None, offline)


INDEX = (
    '{"weight_map": {"a": "model-00001-of-00002.safetensors", '
    '"b": "model-00002-of-00002.safetensors"}}'
)
SAFE = {"config.json": "{}", "model.safetensors.index.json": INDEX}
SHARDS = dict.fromkeys(
    ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"), "w"
)
ONE_BIN = {"pytorch_model-00001-of-00003.bin": "left over"}


@pytest.mark.parametrize(
    ("kind", "files", "said"),
    [
        ("model", SAFE | SHARDS | ONE_BIN, ""),
        ("model", {"config.json": "{}", "model.safetensors": "w"} | ONE_BIN, ""),
        ("model", SAFE | SHARDS | {"checkpoint-5/model.safetensors.index.json": INDEX}, ""),
        ("model", SAFE | dict(list(SHARDS.items())[:1]), "model-00002-of-00002.safetensors of"),
        ("model", {"config.json": "{}"} | ONE_BIN, "pytorch_model-00002-of-00003.bin of"),
        (
            "model",
            {"llm/config.json": "{}", "llm/model.safetensors.index.json": INDEX},
            "llm/model-00001-of-00002.safetensors of",
        ),
        ("dataset", {f"test-0000{n}-of-00002.parquet": "w" for n in (0, 1)}, ""),
        ("dataset", {f"test-0000{n}-of-00002.parquet": "w" for n in (1, 2)}, ""),
        ("dataset", {"test-00001-of-00002.parquet": "w"}, "-of-00002.parquet of"),
        ("dataset", {"test-00002-of-00002.parquet": "w"}, "test-00001-of-00002.parquet of"),
    ],
)
def test_shards_are_judged_in_the_set_that_is_loaded(
    home: Path, kind: str, files: dict[str, str], said: str
) -> None:
    folder = home / "hub" / f"{kind}s--some--repo" / "snapshots" / ("1" * 40)
    (home / "blobs").mkdir(parents=True)
    for name, text in files.items():
        path, blob = folder / name, home / "blobs" / name.replace("/", "_")
        path.parent.mkdir(parents=True, exist_ok=True)
        blob.write_text(text)
        path.symlink_to(blob)
    ref = home / "hub" / f"{kind}s--some--repo" / "refs" / "main"
    ref.parent.mkdir()
    ref.write_text("1" * 40)
    need = weights_need("some/repo") if kind == "model" else Need("data", "some/repo")
    offline = HubSettings(hf_home=home, offline=True)
    if said:
        with pytest.raises(EasiError) as refused:
            fetch([need], lambda event: None, offline)
        assert said in refused.value.message
    else:
        fetch([need], lambda event: None, offline)


@pytest.mark.slow
@pytest.mark.e2e
@pytest.mark.parametrize(
    ("recorded", "said"),
    [
        (True, "scannet.zip of nyu-visionx/VSI-Bench"),
        (False, "scannet (for one scannet/scene0011_00)"),
    ],
)
def test_one_benchmark_fails_in_preparation_and_the_rest_is_done(
    served: LocalHub, home: Path, recorded: bool, said: str
) -> None:
    wanted = [
        weights_need(TINY_MODEL),
        *needs("vsi_bench", VLMEVALKIT, home),
        *needs("embspatial", VLMEVALKIT, home),
    ]
    if recorded:
        fetch(wanted, lambda event: None, HubSettings(endpoint=served.endpoint, hf_home=home))
    else:
        as_others_would(wanted, served, home)
    remove(home, "scannet.zip")
    done = User(home.parent).run(
        "--model",
        TINY_MODEL,
        "--model-args",
        "min_pixels=784,max_pixels=3136",
        "--device",
        "cpu",
        "--benchmarks",
        "vsi_bench,embspatial",
        "--dataset-dir",
        home.parent / "datasets",
        "--output-dir",
        home.parent / "out",
        "--no-rich",
        HF_HUB_OFFLINE="1",
    )
    assert done.code == 1 and "complete EmbSpatial" in done.out, done.said
    assert said in done.out and done.out.index(said) < done.out.index("complete EmbSpatial")
