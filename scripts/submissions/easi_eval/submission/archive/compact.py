"""lmms-eval's samples with every repeated column stored once, and how to restore them.

A column is one member of the samples (``doc_id``) or of one of their objects
(``vsibench_overall.question``). lmms-eval repeats the whole sample under each of its metrics: at
full size 97 % of the bytes. A compact file is JSON lines like the original, with only the columns
that carry information. The *key* describes the other columns: those with one value in all samples,
those equal to another column, and those that exist only in samples that name them and equal
another column there.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from graphlib import CycleError, TopologicalSorter
from typing import Any

from ...core.errors import EasiError

Path = tuple[str, ...]  # (member,) or (member, member of it)
Column = list[str | None]  # JSON by sample; None where the sample does not have it
# Kept even where they repeat, for readers of the file who do not have its key.
ALWAYS = (
    ("doc_id",),
    ("target",),
    ("filtered_resps",),
)
LARGEST = 1 << 30  # characters of one file; SPAR-Bench at full size has a ninth of it
MOST_NAMES = 200  # a column with more values than this names no other


@dataclass(frozen=True)
class Key:
    """What ``restore`` needs.

    Attributes:
        order: All columns, in the order in which the samples have them.
        constant: Columns with one value, and its JSON.
        same: Columns equal to another column, and that column.
        named: Columns that only some samples have. For each: the column whose value tells those
            samples, that value, and the column it equals there.
        left_out: Columns that cannot be restored.
    """

    order: tuple[Path, ...]
    constant: Mapping[Path, str]
    same: Mapping[Path, Path]
    named: Mapping[Path, tuple[Path, str, Path]]
    left_out: tuple[Path, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The key as JSON values."""
        return {
            "order": [list(path) for path in self.order],
            "constant": [[list(path), json.loads(value)] for path, value in self.constant.items()],
            "same": [[list(path), list(other)] for path, other in self.same.items()],
            "named": [
                [list(path), list(by), name, list(base)]
                for path, (by, name, base) in self.named.items()
            ],
            "left_out": [list(path) for path in self.left_out],
        }

    @classmethod
    def from_json(cls, value: Any) -> Key:
        """Read what ``to_json`` made; EasiError for anything else."""
        try:
            return cls(
                tuple(_path(path) for path in value["order"]),
                {_path(path): dumps(one) for path, one in value["constant"]},
                {_path(path): _path(other) for path, other in value["same"]},
                {
                    _path(path): (_path(by), str(name), _path(base))
                    for path, by, name, base in value["named"]
                },
                tuple(_path(path) for path in value["left_out"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise EasiError(
                f"the archive's key to a samples file is damaged: {error!r}",
                hint="it was changed, or cut off",
            ) from error


def compact(
    lines: Sequence[str], leave_out: Callable[[Path], bool] = lambda path: False
) -> tuple[list[str], Key] | None:
    """The compact lines and their key; None if the lines could not be restored exactly.

    Exactly means that ``restore`` returns the same lines, except for the columns for which
    ``leave_out`` is true.
    """
    try:
        parsed = [_leaves(json.loads(line)) for line in lines]
    except ValueError:
        return None
    gone = [
        path
        for path in dict.fromkeys(path for sample in parsed for path in sample)
        if leave_out(path)
    ]
    samples = (
        [{path: value for path, value in sample.items() if path not in gone} for sample in parsed]
        if gone
        else parsed
    )
    order = _order(samples)
    if order is None:
        return None
    columns: dict[Path, Column] = {path: [sample.get(path) for sample in samples] for path in order}
    constant, same, named = _repeated(columns)
    kept = [
        path for path in order if path not in constant and path not in same and path not in named
    ]
    made = [
        _text({path: columns[path][place] for path in kept}, kept, ",", ":")
        for place in range(len(lines))
    ]
    key = Key(tuple(order), constant, same, named, tuple(gone))
    expected = lines if not gone else [_text(sample, order) for sample in samples]
    return (made, key) if restore(made, key) == expected else None


def restore(lines: Iterable[str], key: Key, largest: int = LARGEST) -> list[str]:
    """Restore the lines that ``compact`` was given.

    Raises:
        EasiError: The lines do not fit the key, or would have more than ``largest`` characters.
    """
    restored: list[str] = []
    size = 0
    for number, line in enumerate(lines, start=1):
        try:
            sample: dict[Path, str | None] = dict(_leaves(json.loads(line)))
            sample |= key.constant
            # ``same`` always refers to a column restored above, never to another one of ``same``.
            sample |= {path: sample.get(other) for path, other in key.same.items()}
            sample |= {
                path: sample[base]
                for path, (by, name, base) in key.named.items()
                if sample.get(by) == dumps(name)
            }
            restored.append(_text(sample, key.order))
        except (ValueError, KeyError, AttributeError, RecursionError) as error:
            raise EasiError(
                f"compact samples, line {number}: {error!r}",
                hint="the archive was changed, or cut off",
            ) from error
        size += len(restored[-1])
        if size > largest:  # an untrusted key could repeat values without limit
            raise EasiError(
                f"compact samples would come to more than {largest:,} characters",
                hint="the archive was changed",
            )
    return restored


def _leaves(sample: Mapping[str, Any]) -> dict[Path, str]:
    """The JSON of each member of the sample and of its objects; an empty object is a value."""
    if not isinstance(sample, dict):
        raise ValueError("no object")
    found: dict[Path, str] = {}
    for name, value in sample.items():
        if isinstance(value, dict) and value:
            found |= {(name, inner): dumps(each) for inner, each in value.items()}
        else:
            found[(name,)] = dumps(value)
    return found


def _text(
    sample: Mapping[Path, str | None], order: Sequence[Path], comma: str = ", ", colon: str = ": "
) -> str:
    """The sample's JSON from that of its leaves.

    The members of one object are written together, at the place of the first of them.
    """
    members: dict[str, str | list[str]] = {}
    for path in order:
        value = sample.get(path)
        if value is None:
            continue
        if len(path) == 1:
            members[path[0]] = value
        else:
            inner = members.setdefault(path[0], [])
            assert isinstance(inner, list)
            inner.append(f"{_name(path[1])}{colon}{value}")
    return (
        "{"
        + comma.join(
            f"{_name(name)}{colon}"
            f"{value if isinstance(value, str) else '{' + comma.join(value) + '}'}"
            for name, value in members.items()
        )
        + "}"
    )


def _order(samples: Sequence[Mapping[Path, str]]) -> list[Path] | None:
    """An order of all columns that fits every sample; None if there is none."""
    sorter: TopologicalSorter[Path] = TopologicalSorter()
    sequences = {tuple(sample) for sample in samples}
    for sequence in sorted(sequences, key=lambda one: (-len(one), one)):
        for place, path in enumerate(sequence):
            sorter.add(path, *sequence[max(0, place - 1) : place])
    try:
        return list(sorter.static_order())
    except CycleError:
        return None


def _repeated(
    columns: Mapping[Path, Column],
) -> tuple[dict[Path, str], dict[Path, Path], dict[Path, tuple[Path, str, Path]]]:
    """The columns that need not be stored: constant, same and named, as in ``Key``."""
    constant: dict[Path, str] = {}
    same: dict[Path, Path] = {}
    first: dict[tuple[str | None, ...], Path] = {}
    sparse: dict[Path, Column] = {}
    for path, column in columns.items():
        value = column[0] if column else None
        if value is not None and path not in ALWAYS and column.count(value) == len(column):
            constant[path] = value
        elif (other := first.setdefault(tuple(column), path)) != path and path not in ALWAYS:
            same[path] = other
        elif None in column:
            sparse[path] = column
    names = _naming(
        {
            path: column
            for path, column in columns.items()
            if path not in constant and path not in same and path not in sparse
        }
    )
    named = {
        path: how
        for path, column in sparse.items()
        if (how := _named(path, column, columns, names, sparse)) is not None
    }
    # A column equal to a named column becomes a named column itself, because ``restore`` fills in
    # named columns after equal ones.
    for path, other in list(same.items()):
        if other in named:
            named[path] = named[other]
            del same[path]
    return constant, same, named


def _naming(dense: Mapping[Path, Column]) -> dict[Path, dict[str, int]]:
    """Columns with few distinct values, and how often each value occurs."""
    found: dict[Path, dict[str, int]] = {}
    for path, column in dense.items():
        values = set(column)
        if len(values) <= MOST_NAMES:
            found[path] = {value: column.count(value) for value in values if value is not None}
    return found


def _named(
    path: Path,
    column: Column,
    columns: Mapping[Path, Column],
    names: Mapping[Path, Mapping[str, int]],
    sparse: Mapping[Path, Column],
) -> tuple[Path, str, Path] | None:
    """How to restore a column that only some samples have, as in ``Key.named``; else None."""
    there = [place for place, value in enumerate(column) if value is not None]
    for name in dict.fromkeys((path[0], path[-1])):
        said = dumps(name)
        for by, counts in names.items():
            if counts.get(said) != len(there) or any(columns[by][place] != said for place in there):
                continue
            for base, other in columns.items():
                if base not in sparse and all(other[place] == column[place] for place in there):
                    return by, name, base
    return None


def _path(value: Any) -> Path:
    if (
        not isinstance(value, list)
        or not 1 <= len(value) <= 2
        or not all(isinstance(part, str) for part in value)
    ):
        raise ValueError(f"{value!r} is no column")
    return tuple(value)


def dumps(value: Any) -> str:
    """JSON as lmms-eval writes it; lone surrogates become backslash escapes.

    See ``save_results_samples`` in lmms_eval/loggers/evaluation_tracker.py.
    """
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "backslashreplace").decode("utf-8")


@lru_cache(maxsize=4096)
def _name(text: str) -> str:
    return dumps(text)
