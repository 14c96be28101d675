"""Write an archive's files for the readers, as those of earlier versions' forms 1 and 2 were.

Form 1 stored repeated columns of lmms-eval's samples once, and of VLMEvalKit's exact answers only
those that the workbook beside them does not hold. A *key* in ``archive.json`` tells how each column
of the samples is restored. Form 2 also left out columns that repeat the dataset.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...core.errors import EasiError
from .index import ROWS, Index

LARGEST = 1 << 30  # bytes of one file; an untrusted key could repeat values without limit
DAMAGED = "the archive was changed, or cut off"


def unfold(members: Mapping[str, bytes], index: Index, folder: Path) -> None:
    """Write the backend's files below ``folder`` in the form that the readers understand."""
    for name, stored in index.files.items():
        if "/" not in name or name.startswith(ROWS):
            continue
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(restore(members[name], stored.old_form, members))


def restore(data: bytes, form: Mapping[str, Any], members: Mapping[str, bytes]) -> bytes:
    """Return a file as the backend's readers understand it.

    Args:
        data: The member of the archive.
        form: How it is stored, as ``archive.json`` tells it.
        members: All members of the archive.

    Raises:
        EasiError: The file does not fit the form, or earlier versions made no such form.
    """
    try:
        match form.get("name", ""):
            case "samples":
                return _samples(data, form["key"])
            case "rest":
                return _answers(data, members[form["beside"]])
            case "" | "workbook":
                return data
    except (KeyError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise EasiError(f"a file of the archive is damaged: {error!r}", hint=DAMAGED) from error
    raise EasiError(f"the archive has a file in a form {form!r} that is not known", hint=DAMAGED)


def _samples(data: bytes, key: Mapping[str, Any]) -> bytes:
    constant = {tuple(path): value for path, value in key["constant"]}
    same = [(tuple(path), tuple(other)) for path, other in key["same"]]
    named = [(tuple(path), tuple(by), name, tuple(base)) for path, by, name, base in key["named"]]
    made = []
    room = LARGEST
    for line in data.decode("utf-8").split("\n")[:-1]:
        columns = _columns(json.loads(line)) | constant
        # ``same`` always refers to a stored or constant column.
        columns |= {path: columns[other] for path, other in same if other in columns}
        columns |= {
            path: columns[base] for path, by, name, base in named if columns.get(by) == name
        }
        sample: dict[str, Any] = {}
        for path in map(tuple, key["order"]):
            if path in columns and len(path) == 1:
                sample[path[0]] = columns[path]
            elif path in columns:
                sample.setdefault(path[0], {})[path[1]] = columns[path]
        made.append(json.dumps(sample, ensure_ascii=False).encode("utf-8", "backslashreplace"))
        room -= len(made[-1])
        if room < 0:
            raise ValueError(f"it would come to more than {LARGEST:,} bytes")
    return b"".join(line + b"\n" for line in made)


def _columns(sample: Mapping[str, Any]) -> dict[tuple[str, ...], Any]:
    """Return each member of a sample and of its objects; an empty object is a value."""
    found: dict[tuple[str, ...], Any] = {}
    for name, value in sample.items():
        if isinstance(value, dict) and value:
            found |= {(name, inner): each for inner, each in value.items()}
        else:
            found[(name,)] = value
    return found


def _answers(data: bytes, workbook: bytes) -> bytes:
    from ..vlmevalkit.sheets import cell_text, read_sheet  # loads openpyxl

    with tempfile.TemporaryDirectory(prefix="easi-verify-") as folder:
        path = Path(folder) / "beside.xlsx"
        path.write_bytes(workbook)
        header, rows = read_sheet(path)
    index, prediction = header.index("index"), header.index("prediction")
    answers = {cell_text(row[index]): cell_text(row[prediction]) for row in rows}
    answers |= {
        str(line["index"]): str(line["prediction"])
        for line in map(json.loads, data.decode("utf-8").splitlines())
    }
    return b"".join(
        json.dumps({"index": item, "prediction": text}).encode() + b"\n"
        for item, text in answers.items()
    )
