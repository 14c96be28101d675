"""Video frames for a model, evenly spaced from the first frame to the last."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from ...core.errors import EasiError, worded

# The fields of Frames.
Parts = tuple[tuple[Image.Image, ...], tuple[int, ...], int, float]


@dataclass(frozen=True)
class Frames:
    """RGB frames of a video.

    Attributes:
        indices: Numbers of the frames in the video.
        total: Length of the video in frames.
        fps: Frames per second of the video.
    """

    images: tuple[Image.Image, ...]
    indices: tuple[int, ...]
    total: int
    fps: float


def sample_frames(video: str | os.PathLike[str] | Sequence[Image.Image], count: int) -> Frames:
    """Read ``count`` frames of a video file, or fewer if it has fewer.

    A sequence of frames is used whole, as a video with two frames per second.

    Raises:
        EasiError: The file has no readable frame; the message names it.
    """
    if not isinstance(video, (str, os.PathLike)):
        images = tuple(
            frame.convert("RGB")
            if isinstance(frame, Image.Image)
            else Image.fromarray(np.asarray(frame))
            for frame in video
        )
        return Frames(images, tuple(range(len(images))), len(images), 2.0)
    path = os.fspath(video).removeprefix("file://")
    try:
        return Frames(*_read(path, count))
    except (OSError, RuntimeError, ValueError, IndexError) as error:  # what decord and PyAV raise
        reason = str(error).strip().splitlines() or [worded(error)]
        raise EasiError(
            f"{path} cannot be read as a video: {reason[0]}",
            hint="fetch the benchmark's videos again",
        ) from error


def spread(total: int, count: int) -> tuple[int, ...]:
    """Numbers of up to ``count`` evenly spaced frames, first and last included.

    Raises:
        ValueError: ``total`` is 0.
    """
    if total < 1:
        raise ValueError("it has no frames")
    return tuple(int(n) for n in np.linspace(0, total - 1, min(count, total)).astype(int))


def _read(path: str, count: int) -> Parts:
    if importlib.util.find_spec("decord") is None:  # no wheels for some platforms
        return _read_with_av(path, count)
    return _read_with_decord(path, count)


def _read_with_decord(path: str, count: int) -> Parts:
    import decord

    reader = decord.VideoReader(path, num_threads=1)
    indices = spread(len(reader), count)
    frames = reader.get_batch(list(indices)).asnumpy()
    return (
        tuple(Image.fromarray(frame) for frame in frames),
        indices,
        len(reader),
        float(reader.get_avg_fps()) or 1.0,
    )


def _read_with_av(path: str, count: int) -> Parts:
    """Decode with PyAV.

    The frames are counted by decoding first, because the length in a container may be wrong.
    """
    import av

    with av.open(path) as container:
        stream = container.streams.video[0]
        total = sum(1 for _ in container.decode(stream))
        fps = float(stream.average_rate or 1)
    wanted = set(spread(total, count))
    with av.open(path) as container:
        frames = {
            n: frame.to_image() for n, frame in enumerate(container.decode(video=0)) if n in wanted
        }
    return tuple(frames[n] for n in sorted(frames)), tuple(sorted(frames)), total, fps
