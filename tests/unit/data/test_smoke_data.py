"""The rehearsal's data: what the registry names is there, and the datasets library reads it."""

from __future__ import annotations

import ast
import io
import json
import os
import re
import subprocess
import sys
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from easi_eval.benchmarks import (
    LMMS_EVAL,
    REHEARSED_KEYS,
    VLMEVALKIT,
    Benchmark,
    HubData,
    TsvData,
    by_key,
)
from easi_eval.data import hub_tables
from easi_eval.data.local_hub.server import LocalHub
from easi_eval.data.needs import HubSettings
from easi_eval.data.rehearsal import unpack
from genuine import facts
from rehearsal_data.benchmarks import mmsi_video, three_d
from rehearsal_data.build import SEED
from rehearsal_data.layouts import VIDEO_FRAMES
from rehearsal_data.questions import LETTERS, Question
from rehearsal_data.repositories import ASKED

REHEARSED = [by_key(key) for key in REHEARSED_KEYS]
by_benchmark = pytest.mark.parametrize("benchmark", REHEARSED, ids=lambda benchmark: benchmark.key)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return unpack(tmp_path_factory.mktemp("smoke"))


def table(root: Path, benchmark: Benchmark) -> pd.DataFrame:
    tsv: TsvData = benchmark.sources[VLMEVALKIT].data
    return pd.read_csv(root / "datasets" / tsv.repo / tsv.tsv, sep="\t")


@by_benchmark
def test_the_table_has_what_the_registry_names(root: Path, benchmark: Benchmark) -> None:
    source = benchmark.sources[VLMEVALKIT]
    rows = table(root, benchmark)
    assert {
        *source.data.columns,
        *facts(benchmark.key)[VLMEVALKIT].get("columns_optional", ()),
    } <= set(rows.columns)
    assert rows["index"].is_unique
    wanted = {kind for part in source.parts for kind in part.types}
    kinds = set(rows[source.rows.question_type])
    assert kinds == wanted if wanted else kinds
    assert len(rows) == len(ASKED[benchmark.key](SEED)) >= 12
    texts = rows.drop(columns="image", errors="ignore").astype(object).fillna("").astype(str)
    assert any(not text.isascii() for text in texts.to_numpy().ravel())


def media_paths(rows: pd.DataFrame) -> Iterator[str]:
    for column in ("image_path", "ref_images", "video_path", "video"):
        for value in rows.get(column, ()):
            paths = ast.literal_eval(value) if value.startswith("[") else [value]
            yield from (
                path for item in paths for path in ([item] if isinstance(item, str) else item)
            )


@pytest.mark.parametrize(
    "benchmark",
    [b for b in REHEARSED if b.sources[VLMEVALKIT].data.media_repo],
    ids=lambda b: b.key,
)
def test_every_path_in_the_table_is_in_the_zips(root: Path, benchmark: Benchmark) -> None:
    tsv: TsvData = benchmark.sources[VLMEVALKIT].data
    zips = [
        path
        for path in (root / "datasets" / tsv.media_repo).glob("*.zip")
        if path.name not in tsv.media_ignore
    ]
    inside = {
        name.removeprefix("OmniSpatial-test/")
        for path in zips
        for name in zipfile.ZipFile(path).namelist()
    }
    paths = {path for path in media_paths(table(root, benchmark)) if not path.startswith("videos/")}
    assert paths and paths <= inside


def test_what_the_backends_leave_out_is_there_to_be_left_out(root: Path) -> None:
    assert (root / "datasets/rbler/MMSI-Video-Bench/videos.zip").is_file()


LOAD = """
import json, sys
import datasets
datasets.disable_progress_bars()
loaded = {}
for repo, config in json.load(sys.stdin):
    for split, rows in datasets.load_dataset(repo, config or None, token=True).items():
        plain = [column for column, kind in rows.features.items() if "image" not in column or column == "image_path"]
        pictures = [column for column, kind in rows.features.items() if "Image" in str(kind)]
        loaded[f"{repo}|{config}|{split}"] = {
            "columns": rows.column_names, "rows": [dict(row) for row in rows.select_columns(plain)],
            "pictures": sum(len(row[c]) if isinstance(row[c], list) else row[c] is not None for c in pictures for row in rows),
        }
print(json.dumps(loaded))
"""  # noqa: E501 -- lines of a program in a string


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def loaded(root: Path, home: Path) -> dict[str, Any]:
    """Every configuration that lmms-eval's tasks load, by 'repo|config|split'.

    Each with columns, rows, and how many pictures were decoded.
    """
    sources = [benchmark.sources[LMMS_EVAL] for benchmark in REHEARSED]
    every = [*sources, *(variant for source in sources for variant in source.variants.values())]
    wanted = sorted(
        {(source.data.repo, config) for source in every for config in source.data.configs or ("",)}
    )
    with LocalHub(root) as running:
        env = {
            **os.environ,
            "HF_ENDPOINT": running.endpoint,
            "HF_HOME": str(home),
            "HF_TOKEN": "placeholder",
            "HF_HUB_DISABLE_XET": "1",
            "NO_PROXY": "127.0.0.1",
        }
        for name in ("HF_HUB_CACHE", "HF_DATASETS_CACHE", "HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"):
            env.pop(name, None)
        done = subprocess.run(
            [sys.executable, "-c", LOAD],
            input=json.dumps(wanted),
            env=env,
            capture_output=True,
            text=True,
        )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def hub_rows(loaded: dict[str, Any], hub_data: HubData) -> list[dict[str, Any]]:
    return [
        row
        for config in hub_data.configs or ("",)
        for row in loaded[f"{hub_data.repo}|{config}|{hub_data.split}"]["rows"]
    ]


@by_benchmark
def test_an_import_reads_the_rows_of_the_datasets_library_from_its_cache(
    loaded: dict[str, Any], home: Path, benchmark: Benchmark
) -> None:
    source = benchmark.sources[LMMS_EVAL]
    for wanted in (source.data, *(variant.data for variant in source.variants.values())):
        (folder,), main = hub_tables.snapshots(wanted, HubSettings(hf_home=home))
        found = hub_tables.rows_of(wanted, folder)
        assert (
            folder.name == main
            and found is not None
            and [row for rows in found for row in rows]
            == [
                {name: row[name] for name in (*wanted.asked, *wanted.truth)}
                for row in hub_rows(loaded, wanted)
            ]
        )


@by_benchmark
def test_the_datasets_library_reads_what_the_registry_names(
    loaded: dict[str, Any], benchmark: Benchmark
) -> None:
    source = benchmark.sources[LMMS_EVAL]
    for config in source.data.configs or ("",):
        part = loaded[f"{source.data.repo}|{config}|{source.data.split}"]
        assert set(source.data.columns) <= set(part["columns"])
        assert part["rows"]
        if "Image" in " ".join(source.data.columns.values()) and benchmark.key != "mmsi_bench":
            assert part["pictures"] >= len(part["rows"])


def right_option(row: dict[str, Any]) -> str:
    """The right letter (or open answer), from whichever column and form the dataset keeps it in."""
    answer = next(
        row[name] for name in ("ground_truth", "gt_answer", "gt", "answer") if name in row
    )
    if isinstance(answer, int):
        return LETTERS[answer]
    letter = re.fullmatch(r"\(?([A-F])\)?(\. .*)?", answer)
    return letter[1] if letter else answer


@by_benchmark
def test_both_backends_ask_the_same(
    root: Path, loaded: dict[str, Any], benchmark: Benchmark
) -> None:
    source = benchmark.sources[LMMS_EVAL]
    # the variant of 3DSRBench has the rows that VLMEvalKit has
    source = next(iter(source.variants.values()), source)
    theirs, ours = hub_rows(loaded, source.data), table(root, benchmark)
    asked = ASKED[benchmark.key](SEED)
    assert len(theirs) == len(ours) == len(asked)
    for question, row, (_, line) in zip(asked, theirs, ours.iterrows(), strict=True):
        assert question.text in row.get("question", row.get("user_prompt"))
        assert question.text in line["question"]
        assert right_option(row) == question.answer
        if question.options:
            assert line["answer"] == question.answer
        else:
            assert str(line["answer"]).removesuffix(".0") == question.answer.removesuffix(".0")


@pytest.mark.parametrize("key", [key for key in ASKED if key not in ("3dsrbench", "vsi_debiased")])
def test_right_letters_are_spread_evenly(key: str) -> None:
    asked = [question for question in ASKED[key](SEED) if question.options]
    for count in {len(question.options) for question in asked}:
        dealt = Counter(question.answer for question in asked if len(question.options) == count)
        dealt.update(dict.fromkeys(LETTERS[:count], 0))
        assert max(dealt.values()) - min(dealt.values()) <= 1


def test_3dsrbench_has_every_rotation_of_each_question_and_of_its_mirror_image() -> None:
    rows = ASKED["3dsrbench"](SEED)
    groups: dict[str, list[Question]] = {}
    for row in rows:
        groups.setdefault(row.extra["qid"][:8], []).append(row)
    assert len(groups) == 12
    for qid, group in groups.items():
        count = len(group[0].options)
        ends = {
            end + turn
            for end in ("", "-flip")
            for turn in ("", *(f"-{n}" for n in range(1, count)))
        }
        assert {row.extra["qid"] for row in group} == {qid + end for end in ends}
        for flip in ("", "-flip"):
            turned = [row for row in group if ("-flip" in row.extra["qid"]) == bool(flip)]
            assert (
                len({row.options for row in turned}) == len({row.answer for row in turned}) == count
            )
            assert len({row.options[LETTERS.index(row.answer)] for row in turned}) == 1
    straight, mirrored = (
        np.asarray(Image.open(io.BytesIO(three_d.three_d_picture(rows[i])))) for i in (0, 2)
    )
    assert (straight[:, ::-1] == mirrored).all() and (straight != mirrored).any()


def test_mmsi_video_has_a_placeholder_for_every_segment_and_reference_image() -> None:
    lengths = []
    for question in ASKED["mmsi_video_bench"](SEED):
        prompt = "".join(mmsi_video.mmsi_video_prompts(question).values())
        frames = mmsi_video.mmsi_video_frames(question)
        assert prompt.count("<video>") == len(frames)
        assert prompt.count("<image>") == len(mmsi_video.mmsi_video_references(question))
        lengths.append((len(frames), sum(map(len, frames))))
    assert any(segments > 1 and frames > 50 for segments, frames in lengths)
    assert any(segments == 1 and frames > 50 for segments, frames in lengths)
    assert any(frames < 50 for _, frames in lengths)


def test_site_has_placeholders_for_pictures_only_where_all_have_one() -> None:
    placed = [
        " ".join((question.text, *question.options)).count("<image>")
        for question in ASKED["site_image"](SEED)
    ]
    assert all(
        count in (0, len(question.views))
        for count, question in zip(placed, ASKED["site_image"](SEED), strict=True)
    )
    assert any(placed)


def test_videos_decode_with_the_decoder_that_the_backends_use(root: Path, tmp_path: Path) -> None:
    import decord

    decoded = []
    for repo in ("nyu-visionx/VSI-Bench", "franky-veteran/SITE-Bench"):
        for path in (root / "datasets" / repo).glob("*.zip"):
            zipfile.ZipFile(path).extractall(tmp_path / repo)
        decoded += [
            decord.VideoReader(str(path)) for path in sorted((tmp_path / repo).rglob("*.mp4"))
        ]
    assert Counter(len(video) for video in decoded) == Counter([*VIDEO_FRAMES, *VIDEO_FRAMES[:5]])
    first, last = (decoded[0][number].asnumpy().astype(int) for number in (0, len(decoded[0]) - 1))
    assert first.shape == (48, 64, 3) and abs(first - last).max() > 50
    assert len({int(video[0].asnumpy().mean()) for video in decoded}) > 6
