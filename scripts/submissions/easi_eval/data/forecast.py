"""What a run would download, in words: the lines of the plan about data and weights. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .files import gigabytes
from .needs import Need, Size


def forecast(sizes: Mapping[str, Sequence[Size]]) -> list[str]:
    """One line for each name (a benchmark's key, or ``model``) and one for all; what several share counts for the first."""
    first: dict[Need, str] = {}
    lines, to_load, to_unpack, unknown = [], 0, 0, False
    for name, each in sizes.items():
        own = [size for size in each if first.setdefault(size.need, name) == name]
        shared = dict.fromkeys(first[size.need] for size in each if size not in own)
        known = [size for size in own if size.total is not None]
        loading = sum(max(0, size.total - size.present) for size in known if size.total is not None)
        unpacking = sum(size.to_unpack for size in own)
        to_load, to_unpack, unknown = to_load + loading, to_unpack + unpacking, unknown or len(known) < len(own)
        lines.append(f"{name}: {'; '.join([*_words(own, loading, unpacking), *(f'the rest as for {other}' for other in shared)])}")
    least = "at least " if unknown else ""
    return [*lines, f"in all: {least}{gigabytes(to_load)} to download" + (f", {least}{gigabytes(to_unpack)} to unpack" if to_unpack else "")]


def _words(sizes: Sequence[Size], loading: int, unpacking: int) -> list[str]:
    said = []
    if known := [size for size in sizes if size.total is not None]:
        total = sum(size.total or 0 for size in known)
        sources = ", ".join(dict.fromkeys(size.source for size in known))
        said.append(f"{gigabytes(total)}, " + (f"{gigabytes(loading)} of it to download from {sources}" if loading else f"all here (by {sources})"))
    if unpacking:
        said.append(f"{gigabytes(unpacking)} of archives to unpack")
    said += [f"{size.need.repo}: size unknown" + (f" ({size.problem})" if size.problem else f", {gigabytes(size.present)} here")
             for size in sizes if size.total is None]
    return said
