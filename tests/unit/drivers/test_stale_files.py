"""What VLMEvalKit derives from a dataset's files is deleted when those change, and only then."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from easi_eval.benchmarks import VLMEVALKIT, TsvData, by_key
from easi_vlmevalkit.stale_files import drop_stale


def data_of(key: str) -> TsvData:
    data = by_key(key).source(VLMEVALKIT).data
    assert isinstance(data, TsvData)
    return data


def written(path: Path, text: str, at: int) -> Path:
    """A file whose time of change is ``at`` seconds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    os.utime(path, (at, at))
    return path


def snapshot(cache: Path, data: TsvData, commit: str) -> None:
    written(cache / f"datasets--{data.media_repo.replace('/', '--')}" / "refs" / "main", commit, 1)


def derive(data: TsvData, root: Path, at: int = 200) -> list[Path]:
    """The files VLMEvalKit would leave, in the order in which they are looked for."""
    local = root / f"{Path(data.tsv_local or data.tsv).stem}_local.tsv"
    frame = written(root / "images" / data.dataset / "a.mp4" / "frame-1-of-32.jpg", "pixels", at)
    tables = [root / Path(data.derived_tsv).name, local] if data.derived_tsv else [local]
    return [*(written(path, "derived", at) for path in tables), frame.parents[1]]


@pytest.fixture(params=["site_video", "mmsi_bench"])
def data(request: pytest.FixtureRequest) -> TsvData:
    return data_of(request.param)


def of_the_table(data: TsvData, made: list[Path]) -> list[Path]:
    """Without the frames: those come from the videos, whatever the table says."""
    return made[:-1] if data.media_repo else made


def test_a_changed_table_drops_all_that_came_from_it(data: TsvData, tmp_path: Path) -> None:
    table = written(tmp_path / data.tsv, "one", 100)
    assert drop_stale(data, tmp_path, tmp_path / "hub") == []
    made = derive(data, tmp_path)
    assert drop_stale(data, tmp_path, tmp_path / "hub") == [] and all(
        path.exists() for path in made
    )
    # older than what was derived from the first one: linked from elsewhere
    written(table, "two", 150)
    dropped = of_the_table(data, made)
    assert drop_stale(data, tmp_path, tmp_path / "hub") == dropped and len(dropped) == 2
    assert [path for path in made if path.exists()] == made[len(dropped) :]
    assert sorted(path.name for path in tmp_path.rglob("*") if "stale" in path.name) == []
    made = derive(data, tmp_path)
    assert drop_stale(data, tmp_path, tmp_path / "hub") == [] and all(
        path.exists() for path in made
    )


def test_the_same_content_written_again_drops_nothing(data: TsvData, tmp_path: Path) -> None:
    table = written(tmp_path / data.tsv, "one", 100)
    drop_stale(data, tmp_path, tmp_path / "hub")
    made = derive(data, tmp_path)
    written(table, "one", 300)
    assert drop_stale(data, tmp_path, tmp_path / "hub") == [] and all(
        path.exists() for path in made
    )


def test_other_media_or_another_place_of_them_drop_it_too(tmp_path: Path) -> None:
    data = data_of("site_video")
    written(tmp_path / data.tsv, "one", 100)
    snapshot(tmp_path / "hub", data, "a" * 40)
    drop_stale(data, tmp_path, tmp_path / "hub")
    made = derive(data, tmp_path)
    assert drop_stale(data, tmp_path, tmp_path / "hub") == []
    snapshot(tmp_path / "hub", data, "b" * 40)
    assert (
        drop_stale(data, tmp_path, tmp_path / "hub") == [made[0], made[2]] and made[1].exists()
    ), "not the table without images"
    made = derive(data, tmp_path)
    snapshot(tmp_path / "moved", data, "b" * 40)
    assert drop_stale(data, tmp_path, tmp_path / "moved") == [made[0], made[2]]


def test_without_a_note_only_what_is_older_than_the_table_goes(
    data: TsvData, tmp_path: Path
) -> None:
    written(tmp_path / data.tsv, "one", 100)
    made = derive(data, tmp_path, at=200)
    assert drop_stale(data, tmp_path, tmp_path / "hub") == []
    (tmp_path / f".{data.dataset}.derived.json").unlink()
    written(tmp_path / data.tsv, "one", 300)
    assert drop_stale(data, tmp_path, tmp_path / "hub") == of_the_table(data, made)


@pytest.mark.parametrize("note", ["", "{", "[1]", '{"other": 1}'])
def test_a_damaged_note_says_nothing(note: str, tmp_path: Path) -> None:
    data = data_of("mmsi_bench")
    written(tmp_path / data.tsv, "one", 300)
    written(tmp_path / f".{data.dataset}.derived.json", note, 1)
    assert drop_stale(data, tmp_path, tmp_path / "hub") == []
    made = derive(data, tmp_path, at=400)
    assert drop_stale(data, tmp_path, tmp_path / "hub") == [] and all(
        path.exists() for path in made
    )


def test_other_datasets_files_stay(tmp_path: Path) -> None:
    one, other = data_of("vsi_bench"), data_of("vsi_debiased")
    for data in (one, other):
        written(tmp_path / data.tsv, "one", 100)
        drop_stale(data, tmp_path, tmp_path / "hub")
    kept = derive(other, tmp_path)
    derive(one, tmp_path)
    written(tmp_path / one.tsv, "two", 300)
    assert drop_stale(one, tmp_path, tmp_path / "hub") and all(path.exists() for path in kept)


def test_a_table_that_is_not_there_is_none_of_our_business(tmp_path: Path) -> None:
    data = data_of("mmsi_bench")
    made = derive(data, tmp_path)
    assert drop_stale(data, tmp_path, tmp_path / "hub") == [] and all(
        path.exists() for path in made
    )
