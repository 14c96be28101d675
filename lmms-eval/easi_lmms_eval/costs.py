"""Expected cost of lmms-eval's requests.

It is computed from prompts, generation limits and the datasets' columns, without decoding images.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from easi_eval.engine.cost import VIDEO_FRAMES, expected, limit_of


def costs(requests: Sequence[Any], task_dict: Mapping[str, Any]) -> list[float]:
    """Return the expected cost of each request, in the order of ``requests``.

    The unit is that of ``easi_eval.engine.cost.expected``: thousands of tokens read.
    """
    media: dict[tuple[str, str], list[float]] = {}
    found = []
    for request in requests:
        task, split = request.task_name, request.metadata["split"]
        if (task, split) not in media:
            media[task, split] = shown(task_dict[task][split])
        rows = media[task, split]
        prompt = request.args[0] if isinstance(request.args[0], str) else ""
        settings = next((arg for arg in request.args if isinstance(arg, dict)), {})
        found.append(
            rows[request.doc_id] + expected(characters=len(prompt), limit=limit_of(settings))
        )
    return found


def shown(dataset: Any) -> list[float]:
    """Return the media's part of the cost for each row of a ``datasets.Dataset``.

    A table without images is taken for one of videos.
    """
    counts = [
        _counts(dataset, name, feature)
        for name, feature in (getattr(dataset, "features", None) or {}).items()
    ]
    columns = [column for column in counts if column is not None]
    if not columns:
        return [expected(frames=VIDEO_FRAMES)] * len(dataset)
    return [expected(images=sum(row)) for row in zip(*columns, strict=True)]


def _counts(dataset: Any, name: str, feature: Any) -> list[int] | None:
    """Return how many images each row holds in this column; None if the column holds none."""
    if _is_image(feature):
        return [1] * len(dataset)
    if not _is_image(
        feature[0] if isinstance(feature, list) and feature else getattr(feature, "feature", None)
    ):
        return None
    import pyarrow.compute

    lengths = [
        length or 0
        for length in pyarrow.compute.list_value_length(dataset.data.column(name)).to_pylist()
    ]
    chosen = getattr(dataset, "_indices", None)  # set if the table was filtered or shuffled
    return [lengths[row] for row in chosen.column(0).to_pylist()] if chosen is not None else lengths


def _is_image(feature: Any) -> bool:
    """Return whether a column's type is the hub's ``Image`` or plain bytes (MMSI-Bench)."""
    return type(feature).__name__ == "Image" or getattr(feature, "dtype", None) in (
        "binary",
        "large_binary",
    )
