"""Text for the plan on what a run would download. No file or network access."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .disk import gigabytes
from .needs import Download, Need, Size


def forecast(sizes: Mapping[str, Sequence[Size]]) -> Download:
    """Describe the downloads of each name in ``sizes``, and of all together.

    Args:
        sizes: Sizes of the needs by name: a benchmark's key, or ``model``. A need of several names
            is counted for the first.
    """
    first: dict[Need, str] = {}
    lines: dict[str, str] = {}
    to_load, to_unpack, unknown = 0, 0, False
    for name, each in sizes.items():
        own = [size for size in each if first.setdefault(size.need, name) == name]
        shared = dict.fromkeys(first[size.need] for size in each if size not in own)
        known = [size for size in own if size.total is not None]
        loading = sum(max(0, size.total - size.present) for size in known if size.total is not None)
        unpacking = sum(size.to_unpack for size in own)
        to_load, to_unpack, unknown = (
            to_load + loading,
            to_unpack + unpacking,
            unknown or len(known) < len(own),
        )
        lines[name] = "; ".join(
            [
                *_words(own, loading, unpacking),
                *(f"the rest shared with {other}" for other in shared),
            ]
        )
    least = "at least " if unknown else ""
    if unknown and not to_load + to_unpack:
        return Download(lines, "size unknown", _problems(sizes))
    return Download(
        lines,
        f"{least}{gigabytes(to_load)} to download"
        + (f", {least}{gigabytes(to_unpack)} to unpack" if to_unpack else ""),
        _problems(sizes),
    )


def _problems(sizes: Mapping[str, Sequence[Size]]) -> tuple[str, ...]:
    return tuple(
        dict.fromkeys(size.problem for each in sizes.values() for size in each if size.problem)
    )


def _words(sizes: Sequence[Size], loading: int, unpacking: int) -> list[str]:
    said = []
    if known := [size for size in sizes if size.total is not None]:
        total = sum(size.total or 0 for size in known)
        sources = ", ".join(dict.fromkeys(size.source for size in known))
        said.append(
            f"{gigabytes(total)}, "
            + (
                f"{gigabytes(loading)} of it to download from {sources}"
                if loading
                else f"all here (by {sources})"
            )
        )
    if unpacking:
        said.append(f"{gigabytes(unpacking)} of archives to unpack")
    said += [
        f"{size.need.repo}: size unknown"
        + (f", {gigabytes(size.present)} here" if size.present else "")
        for size in sizes
        if size.total is None
    ]
    return said
