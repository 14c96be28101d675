"""What a score is the mean of, by the question types that were asked.

A score is the weighted mean of ratios, each over the questions of some types together. Which ones
is decided by ``recompute`` of the source (see ``recompute.py``).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from ..benchmarks import Part, Source

Ratios = Sequence[tuple[float, Sequence[str]]]  # weight, question types


def headline_ratios(source: Source, asked: Collection[str]) -> Ratios:
    """Return what the headline is the mean of; ``asked`` are the types in the table.

    In ``part_mean`` a part counts as one if questions of all its types were asked; else each type
    that was asked counts as one, as VLMEvalKit does it.
    """
    match source.recompute:
        case "type_mean":
            return [(1, [kind]) for kind in asked]
        case "part_mean":
            found = [
                (part, [kind for kind in part.types if kind in asked]) for part in source.parts
            ]
            return [
                (1 / len(kinds) if len(kinds) == len(part.types) else 1, [kind])
                for part, kinds in found
                for kind in kinds
            ]
        case _:
            return [(1, [*asked])] if asked else []


def part_ratios(source: Source, part: Part, asked: Collection[str]) -> Ratios:
    """Return what a part is the mean of.

    Empty if none of its questions was asked, or if its mean is over types that were not all asked.
    """
    kinds = [kind for kind in part.types or asked if kind in asked]
    if part.group or source.recompute in ("mean", "caa"):
        return [(1, kinds)] if kinds else []
    whole = source.recompute == "type_mean" or len(kinds) == len(part.types)
    return [(1, [kind]) for kind in kinds] if whole else []
