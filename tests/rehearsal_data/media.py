"""Tiny pictures, videos and the files that hold them; the same arguments give the same bytes."""

from __future__ import annotations

import base64
import csv
import functools
import io
import json
import random
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, ImageDraw, ImageOps

FRAME_RATE = 6
_SIZES = ((64, 48), (56, 56), (84, 56), (56, 84))
_VIDEO_SIZE = (64, 48)
_ZIP_TIME = (2024, 1, 1, 0, 0, 0)  # a zip stores times; a fixed one keeps its bytes the same


def _scene(
    key: str, size: tuple[int, int]
) -> tuple[Image.Image, list[tuple[str, tuple[int, int, int], int, int, int]]]:
    """A room in two plain colours, and the shapes standing in it: kind, colour, x, y and size."""
    rng = random.Random(key)
    width, height = size
    wall = tuple(rng.randrange(256) for _ in range(3))
    floor = tuple(rng.randrange(256) for _ in range(3))
    image = Image.new("RGB", size, wall)
    ImageDraw.Draw(image).rectangle(
        (0, rng.randrange(height // 3, height), width, height), fill=floor
    )
    shapes = []
    for _ in range(rng.randrange(2, 5)):
        colour = (rng.randrange(256), rng.randrange(256), rng.randrange(256))
        shapes.append(
            (
                rng.choice(("box", "ball")),
                colour,
                rng.randrange(width),
                rng.randrange(height),
                rng.randrange(8, 24),
            )
        )
    return image, shapes


def _draw(
    image: Image.Image,
    shapes: Iterable[tuple[str, tuple[int, int, int], int, int, int]],
    shift: int,
) -> Image.Image:
    image = image.copy()
    draw = ImageDraw.Draw(image)
    for kind, colour, x, y, size in shapes:
        left = (x + shift) % image.width - size // 2
        box = (left, y - size // 2, left + size, y + size // 2)
        (draw.rectangle if kind == "box" else draw.ellipse)(box, fill=colour)
    return image


def picture(key: str, kind: str = "PNG", mirrored: bool = False) -> bytes:
    """The picture that belongs to ``key``, as PNG or JPEG; ``mirrored`` left to right."""
    size = random.Random(f"{key}|size").choice(_SIZES)
    image = _draw(*_scene(key, size), 0)
    if mirrored:
        image = ImageOps.mirror(image)
    out = io.BytesIO()
    image.save(out, kind)
    return out.getvalue()


def frames(key: str, count: int) -> list[Image.Image]:
    """``count`` frames of a room whose shapes move from frame to frame."""
    image, shapes = _scene(key, _VIDEO_SIZE)
    return [_draw(image, shapes, 2 * number) for number in range(count)]


@functools.cache
def video(key: str, count: int) -> bytes:
    """An H.264 mp4 of ``count`` frames, 64x48."""
    out = io.BytesIO()
    with av.open(out, "w", format="mp4", options={"fflags": "+bitexact"}) as container:
        # One thread and no encoder's signature: the bytes must not depend on the machine.
        options = {"preset": "ultrafast", "flags": "+bitexact", "x264-params": "threads=1"}
        stream = container.add_stream("libx264", rate=FRAME_RATE, options=options)
        stream.width, stream.height = _VIDEO_SIZE
        stream.pix_fmt = "yuv420p"
        for image in frames(key, count):
            container.mux(
                stream.encode(av.VideoFrame.from_ndarray(np.asarray(image), format="rgb24"))
            )
        container.mux(stream.encode())
    return out.getvalue()


def jpeg(image: Image.Image) -> bytes:
    """The image as JPEG."""
    out = io.BytesIO()
    image.save(out, "JPEG")
    return out.getvalue()


def as_base64(data: bytes) -> str:
    """The data as base64 text."""
    return base64.b64encode(data).decode()


def write(path: Path, data: bytes | str) -> None:
    """Write a file, and create its folder if missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data.encode() if isinstance(data, str) else data)


def write_zip(path: Path, members: Mapping[str, bytes]) -> None:
    """A zip of the members by their name inside it, sorted."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name in sorted(members):
            archive.writestr(zipfile.ZipInfo(name, _ZIP_TIME), members[name])
    write(path, out.getvalue())


def write_tsv(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    """A table with the first row's columns; a missing value or None is an empty cell."""
    out = io.StringIO()
    table = csv.DictWriter(out, list(rows[0]), delimiter="\t", lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    write(path, out.getvalue())


# Column types for parquet. The datasets library stores an image as a struct of bytes and path.
TEXT, INT, BYTES, TEXTS = pa.string(), pa.int64(), pa.binary(), pa.list_(pa.string())
IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
IMAGES = pa.list_(IMAGE)


def image_value(data: bytes | None) -> dict[str, Any] | None:
    """The value of an image column; None stays None."""
    return None if data is None else {"bytes": data, "path": None}


def _feature(kind: pa.DataType) -> Any:
    """The datasets library's own description of a column type."""
    if kind == IMAGE:
        return {"_type": "Image"}
    if pa.types.is_list(kind):
        return {"feature": _feature(kind.value_type), "_type": "List"}
    if pa.types.is_struct(kind):
        return {field.name: _feature(field.type) for field in kind}
    return {"dtype": str(kind), "_type": "Value"}


def write_parquet(
    path: Path, columns: Mapping[str, pa.DataType], rows: Sequence[Mapping[str, Any]]
) -> None:
    """A parquet file that the datasets library reads with its image columns decoded."""
    features = json.dumps(
        {"info": {"features": {name: _feature(kind) for name, kind in columns.items()}}}
    )
    schema = pa.schema(list(columns.items()), metadata={"huggingface": features})
    table = pa.Table.from_pylist(
        [{name: row.get(name) for name in columns} for row in rows], schema=schema
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path)
