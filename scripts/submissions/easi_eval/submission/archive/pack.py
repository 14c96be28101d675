"""``easi_results.zip``: the files behind the scores, to check and to repeat them.

The same inputs make the same bytes. The archive has one of two forms:

full    the backend's files, and each benchmark's per-question table as ``rows/<benchmark>.csv``
tables  where that does not fit into a request: the backend's aggregates, the tables, and of the
        per-question files only what is counted or corrected beside a score

``archive.json`` names the form and has the digest of each file. ``CHANGES.md`` describes the same
in words.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...backends.archived.index import DAMAGED, FULL, INDEX, ROWS, TABLES, Index, Stored
from ...backends.archived.proven import Proof, count_rows
from ...core.errors import EasiError
from ...scores.outputs import Outputs
from .anonymize import EPOCH, Scrubber

CHANGES, REPRODUCE = "CHANGES.md", "REPRODUCE.md"
PICKLES = (".pkl", ".pickle")
CHUNK = 1 << 20

# Returns what each benchmark's files in a folder prove, by key.
Prove = Callable[[Path], Mapping[str, Proof]]


@dataclass(frozen=True)
class Contents:
    """What an archive is made from.

    ``files`` are the backend's, by ``<benchmark>/<path>``. ``texts`` are this program's, by name;
    paths and secrets are replaced in them, too. ``inputs`` is as in ``Index``.
    """

    files: Mapping[str, Path]
    texts: Mapping[str, str]
    inputs: str = ""


@dataclass(frozen=True)
class Packed:
    """A finished archive; ``fits`` says whether it may be sent."""

    data: bytes
    form: str
    fits: bool


def entries(outputs: Iterable[Outputs]) -> dict[str, Path]:
    """Return the backend's files by their names in the archive, without pickles.

    Raises:
        EasiError: Two different files would have the same name.
    """
    found: dict[str, Path] = {}
    for out in outputs:
        for path in out.files:
            inside = (
                path.relative_to(out.folder).as_posix()
                if path.is_relative_to(out.folder)
                else path.name
            )
            name = f"{out.benchmark}/{inside}"
            if path.suffix in PICKLES:
                continue
            if found.setdefault(name, path) != path:
                raise EasiError(
                    f"{path} and {found[name]} would both be {name} in the archive",
                    hint="remove the one that is not a result",
                )
    return found


def pack(
    contents: Contents, scrubber: Scrubber, prove: Prove, fits: Callable[[int], bool]
) -> Packed:
    """Make the archive in the first form that fits; in form ``tables`` if none does.

    Args:
        contents: What goes into the archive.
        scrubber: Replaces paths and secrets.
        prove: Proves the scores of the files in a folder.
        fits: Whether an archive of so many bytes may be sent.

    Raises:
        EasiError: A file is missing or a link.
    """
    with tempfile.TemporaryDirectory(prefix="easi-archive-") as name:
        clear = {file: Path(name) / file for file in sorted(contents.files)}
        stored = {
            file: _scrubbed(contents.files[file], path, scrubber) for file, path in clear.items()
        }
        proofs = prove(Path(name))
        texts = {
            file: scrubber.lines(text.encode("utf-8", errors="backslashreplace"))
            for file, text in contents.texts.items()
        }
        kept = {
            f"{key}/{path}": (data, _excerpt(stored[f"{key}/{path}"], data))
            for key, proof in proofs.items()
            for path, data in proof.kept.items()
        }
        tables = archive(_members(TABLES, kept, proofs, texts, contents.inputs))
        assert tables is not None
        if not fits(len(tables)):  # nor does the full form, which has the tables and whole files
            return Packed(tables, TABLES, False)
        files = {file: (path, stored[file]) for file, path in clear.items()}
        full = archive(_members(FULL, files, proofs, texts, contents.inputs), fits)
        return Packed(tables, TABLES, True) if full is None else Packed(full, FULL, True)


def read_index(data: bytes) -> Index:
    """Return the index of an archive that this program made; EasiError if there is none."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as zipped:
            return Index.from_json(json.loads(zipped.read(INDEX)))
    except (zipfile.BadZipFile, KeyError, ValueError, RecursionError) as error:
        raise EasiError(f"the archive has no {INDEX}: {error}", hint=DAMAGED) from error


def _scrubbed(path: Path, target: Path, scrubber: Scrubber) -> Stored:
    """Copy a file to ``target`` without paths and secrets."""
    if path.is_symlink() or not path.is_file():
        raise EasiError(
            f"{path} is {'a link' if path.is_symlink() else 'not a file'}",
            hint="run this benchmark again with --rerun",
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    before, after, found = scrubber.copy(path, target)
    return Stored(after, before, str(found))


def _excerpt(stored: Stored, data: bytes) -> Stored:
    """Return the entry of a file that is stored whole, or of what is stored of it."""
    if (digest := _digest(data)) == stored.sha256:
        return stored
    return Stored(
        digest, stored.original, "only fields that are counted or corrected beside the score"
    )


def _members(
    form: str,
    files: Mapping[str, tuple[Path | bytes, Stored]],
    proofs: Mapping[str, Proof],
    texts: Mapping[str, bytes],
    inputs: str,
) -> dict[str, Path | bytes]:
    """Return all members of an archive, with its index."""
    tables = {name: table for proof in proofs.values() for name, table in proof.tables.items()}
    sums = {name: (count_rows(table), _digest(table)) for name, table in tables.items()}
    known = {name: stored for name, (_, stored) in files.items()}
    own = {
        **texts,
        **{f"{ROWS}{name}.csv": table for name, table in tables.items()},
        CHANGES: _changes(form, known, sums).encode("utf-8"),
    }
    index = Index(
        form, {**known, **{name: Stored(_digest(data)) for name, data in own.items()}}, sums, inputs
    )
    text = json.dumps(index.to_json(), indent=1, ensure_ascii=False) + "\n"
    return {
        **{name: data for name, (data, _) in files.items()},
        **own,
        INDEX: text.encode("utf-8"),
    }


def archive(
    members: Mapping[str, bytes | Path], fits: Callable[[int], bool] = lambda size: True
) -> bytes | None:
    """Return the zip: sorted names, fixed times and modes, best deflate; None if it does not fit.

    It is not made further than it fits. Members are deflated at the same time.
    """
    buffer = io.BytesIO()
    pool = ThreadPoolExecutor(os.cpu_count())
    try:
        with zipfile.ZipFile(buffer, "w") as zipped:
            names = sorted(members)
            for one in pool.map(lambda name: _zip_of(name, members[name], fits), names):
                if one is None or not fits(buffer.tell() + len(one)):
                    return None
                _append(zipped, one)
        return buffer.getvalue() if fits(buffer.tell()) else None
    finally:
        pool.shutdown(cancel_futures=True)


def _zip_of(name: str, data: bytes | Path, fits: Callable[[int], bool]) -> bytes | None:
    """Return a zip of one member; None if it does not fit."""
    buffer, info = io.BytesIO(), zipfile.ZipInfo(name, EPOCH)
    info.external_attr = 0o644 << 16
    info.create_system = 3
    info.compress_type, info._compresslevel = zipfile.ZIP_DEFLATED, 9  # type: ignore[attr-defined]
    with (
        zipfile.ZipFile(buffer, "w") as zipped,
        data.open("rb") if isinstance(data, Path) else io.BytesIO(data) as source,
        zipped.open(info, "w") as target,
    ):
        while chunk := source.read(CHUNK):
            target.write(chunk)
            if not fits(buffer.tell()):
                return None
    return buffer.getvalue()


def _append(zipped: Any, one: bytes) -> None:
    """Append the member of a zip of one member to another zip, deflated as it is."""
    with zipfile.ZipFile(io.BytesIO(one)) as other:
        (info,), end = other.infolist(), other.start_dir
    info.header_offset = zipped.start_dir
    zipped.fp.write(one[:end])
    zipped.start_dir = zipped.fp.tell()
    zipped.filelist.append(info)
    zipped.NameToInfo[info.filename] = info
    zipped._didModify = True


def _changes(form: str, files: Mapping[str, Stored], sums: Mapping[str, tuple[int, str]]) -> str:
    said = {
        FULL: "the backend's files as they are, and the per-question tables in rows/",
        TABLES: "the backend's aggregates and the per-question tables in rows/",
    }[form]
    lines = [
        "# What was changed in the backend's files",
        "",
        f"Form {form}: {said}.",
        "",
        "Absolute paths of the machine and secrets are replaced by words in brackets. "
        "Aggregates are never changed otherwise.",
        "`easi-eval --verify easi_results.zip` recomputes every score.",
        "",
        *(f"- `{name}`: {stored.replaced}" for name, stored in files.items() if stored.replaced),
    ]
    if not any(stored.replaced for stored in files.values()):
        lines.append("No file was changed.")
    lines += [
        "",
        "Per-question tables (rows, SHA-256 of the CSV):",
        "",
        *(f"- `{key}`: {rows}, {digest}" for key, (rows, digest) in sorted(sums.items())),
    ]
    return "\n".join(lines) + "\n"


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
