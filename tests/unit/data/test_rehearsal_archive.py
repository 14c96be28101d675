"""The archive that ``--smoke`` ships is what the generators build, and is unpacked whole."""

from __future__ import annotations

import base64
import hashlib
import io
import os
import re
import shutil
import tarfile
import zipfile
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow.parquet as pq
import pytest
import safetensors.numpy
from PIL import Image

from easi_eval.core.errors import EasiError
from easi_eval.data.rehearsal import ARCHIVE, unpack
from rehearsal_data import build, media, repositories

# Mean difference per number. Encoders of pictures and videos that lose something may lose another
# thing in another version, and sums of floats depend on the processor.
TOLERANCE = {"jpeg": 2.0, "mp4": 2.0, "safetensors": 1e-6}


def parts(name: str, data: bytes) -> Iterator[tuple[str, Any]]:
    """What a file holds, by a name that ends with the kind: arrays, or values to be equal."""
    if name.endswith(".zip"):
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for member in archive.infolist():
                yield from parts(f"{name}/{member.filename}", archive.read(member))
    elif name.endswith(".parquet"):
        table = pq.read_table(io.BytesIO(data))
        yield f"{name}:schema", table.schema.to_string(show_schema_metadata=True)
        yield from cells(name, table.to_pylist())
    elif name.endswith(".tsv"):
        cut = [re.split(r"([\w+/=]{200,})", line) for line in data.decode().splitlines()]
        yield from cells(name, [[*line[::2], *map(base64.b64decode, line[1::2])] for line in cut])
    elif name.endswith(".safetensors"):
        for tensor, values in safetensors.numpy.load(data).items():
            yield f"{name}:{tensor}:safetensors", values
    elif name.endswith(".mp4"):
        with av.open(io.BytesIO(data)) as video:
            frames = [frame.to_ndarray(format="rgb24") for frame in video.decode(video=0)]
        yield f"{name}:mp4", np.array(frames)
    elif data.startswith((b"\x89PNG", b"\xff\xd8")):
        picture = Image.open(io.BytesIO(data))
        yield f"{name}:{picture.format.lower()}", np.asarray(picture.convert("RGB"))
    else:
        yield name, data


def cells(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict | list):
        for key, each in value.items() if isinstance(value, dict) else enumerate(value):
            yield from cells(f"{name}:{key}", each)
    elif isinstance(value, bytes):
        yield from parts(name, value)
    else:
        yield name, value


def contents(root: Path) -> dict[str, Any]:
    return {
        part: value
        for path in root.rglob("*")
        if path.is_file()
        for part, value in parts(path.relative_to(root).as_posix(), path.read_bytes())
    }


def same(name: str, one: Any, other: Any) -> bool:
    if not isinstance(one, np.ndarray):
        return type(one) is type(other) and one == other
    if one.shape != other.shape:
        return False
    difference = np.abs(one.astype(float) - other.astype(float)).mean()
    return bool(difference <= TOLERANCE.get(name.rpartition(":")[2], 0.0))


def differences(one: Path, other: Path) -> list[str]:
    here, there = contents(one), contents(other)
    return sorted(here.keys() ^ there.keys()) + [
        name for name in here.keys() & there.keys() if not same(name, here[name], there[name])
    ]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build.tree(tmp_path_factory.mktemp("built"))


def test_the_shipped_tree_is_what_the_generators_build(built: Path, tmp_path: Path) -> None:
    shipped = unpack(tmp_path)
    kinds = {name.rpartition(":")[2] for name in contents(shipped)}
    assert {"png", "jpeg", "mp4", "safetensors", "schema"} <= kinds
    assert differences(built, shipped) == []


def test_what_differs_in_a_tree_is_found(built: Path, tmp_path: Path) -> None:
    shutil.copytree(built, tmp_path / "other")
    datasets = tmp_path / "other" / "datasets"
    (datasets / "oscarqjh/MMSI-Video-Bench_lmmseval/README.md").unlink()
    (weights,) = tmp_path.rglob("*.safetensors")
    tensors = safetensors.numpy.load_file(weights)
    tensors["lm_head.weight"] += 0.01
    safetensors.numpy.save_file(tensors, weights, metadata={"format": "pt"})
    table = datasets / "lmms-lab-si/EASI-Leaderboard-Data/BLINK.tsv"
    table.write_bytes(table.read_bytes().replace(b"\tCounting\n", b"\tcounting\n", 1))
    (drawn, *_) = (datasets / "pangyyyyy/OmniSpatial").rglob("*.png")
    picture = Image.open(drawn)
    picture.putpixel((0, 0), (1, 2, 3))
    picture.save(drawn)
    media.write_zip(
        datasets / "nyu-visionx/VSI-Bench/arkitscenes.zip",
        {f"arkitscenes/{name}.mp4": media.video(name, 12) for name in ("41069025", "42446540")},
    )
    found = differences(built, tmp_path / "other")
    assert {re.split(r"[/:]", name, maxsplit=3)[2] for name in found} == {
        "MMSI-Video-Bench_lmmseval",
        "Tiny-VLM",
        "EASI-Leaderboard-Data",
        "OmniSpatial",
        "VSI-Bench",
    }


def digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
    }


def test_a_seed_gives_the_same_bytes_and_another_seed_others(built: Path, tmp_path: Path) -> None:
    media.video.cache_clear()
    build.tree(tmp_path / "again")
    repositories.build(tmp_path / "other", seed=1)
    first, again, other = digests(built), digests(tmp_path / "again"), digests(tmp_path / "other")
    assert first == again
    data = {name for name in first if name.startswith("datasets/")}
    assert data == other.keys()
    assert all(first[name] != other[name] for name in data if not name.endswith("README.md"))


def written(root: Path, names: Iterable[str]) -> Path:
    for name in names:
        media.write(root / name, name)
    return root


def test_an_archive_depends_on_names_and_bytes_alone(tmp_path: Path) -> None:
    names, packed = [f"datasets/org/{n}/file" for n in range(20)], []
    for root in (written(tmp_path / "one", names), written(tmp_path / "other", reversed(names))):
        build.pack(root, tmp_path / "packed.tar.xz")
        packed.append((tmp_path / "packed.tar.xz").read_bytes())
    for path in (tmp_path / "one").rglob("*"):
        os.utime(path, (1, 1))
        path.chmod(0o700)
    build.pack(tmp_path / "one", tmp_path / "packed.tar.xz")
    assert packed == [(tmp_path / "packed.tar.xz").read_bytes()] * 2


def test_the_archive_holds_plain_files_that_belong_to_nobody() -> None:
    with tarfile.open(ARCHIVE) as tar:
        members = tar.getmembers()
    names = [member.name for member in members]
    assert names == sorted(names) and all(re.match("(datasets|models)/", name) for name in names)
    assert not any(".." in name.split("/") for name in names)
    assert {
        (member.isreg(), member.mtime, member.uid, member.gid, member.uname, member.mode)
        for member in members
    } == {(True, build.TIME, 0, 0, "", 0o644)}
    assert ARCHIVE.stat().st_size < 500_000, "each version stays in every clone"


def test_several_that_unpack_at_once_leave_one_whole_tree(built: Path, tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        (root,) = set(pool.map(unpack, [tmp_path] * 4))
    assert list(tmp_path.iterdir()) == [root]
    assert digests(root).keys() == digests(built).keys()


def test_a_tree_is_unpacked_once_and_another_archive_anew(tmp_path: Path) -> None:
    roots = []
    for name in ("first", "second"):
        build.pack(written(tmp_path / name, [name]), tmp_path / "hub.tar.xz")
        roots.append(unpack(tmp_path / "home", tmp_path / "hub.tar.xz"))
        (roots[-1] / "mine").touch()
        assert unpack(tmp_path / "home", tmp_path / "hub.tar.xz") == roots[-1]
    assert [sorted(path.name for path in root.iterdir()) for root in roots] == [
        ["first", "mine"],
        ["mine", "second"],
    ]


def test_what_cannot_be_unpacked_leaves_nothing(tmp_path: Path) -> None:
    cut, home = tmp_path / "cut.tar.xz", tmp_path / "home"
    cut.write_bytes(ARCHIVE.read_bytes()[:-100_000])
    noise = tmp_path / "noise.tar.xz"
    noise.write_bytes(ARCHIVE.read_bytes()[:100] + os.urandom(1000))
    (tmp_path / "empty.tar.xz").touch()
    for name in ("cut", "noise", "empty"):
        with pytest.raises(EasiError, match=f"{name}.tar.xz is damaged: ") as caught:
            unpack(home, tmp_path / f"{name}.tar.xz")
        assert caught.value.hint.startswith("git checkout ")
        assert list(home.iterdir()) == []
    with tarfile.open(tmp_path / "outside.tar.xz", "w:xz") as tar:
        tar.addfile(tarfile.TarInfo("../../outside"))
    with pytest.raises(EasiError, match="would be extracted to"):
        unpack(home, tmp_path / "outside.tar.xz")
    assert list(home.iterdir()) == [] and not (tmp_path / "outside").exists()


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "home").touch()
    with pytest.raises(FileExistsError):
        unpack(tmp_path / "home")
