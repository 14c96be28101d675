"""``easi_results.zip``: the files behind the scores, to check and to repeat them.

The same inputs make the same bytes. The archive is tried in forms ("rungs"), each smaller than the
one before, until one fits into a request:

0  the backend's files as they are, and each benchmark's per-question table as
   ``rows/<benchmark>.csv``
1  repeated columns stored once: samples without what they repeat (``compact.py``), workbooks
   rewritten plainly, texts that a workbook holds not stored again beside it; no tables, because
   they can be made from the files
2  as 1, without the columns that only repeat the dataset (question, options, media): the manifest
   names its revision

If none fits, the archive is rung 1, which loses nothing. ``archive.json`` names the rung and the
form of each file, so that ``unfold`` can restore files that the readers understand. ``CHANGES.md``
describes the same in words.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...core.errors import EasiError
from ...scores.outputs import Outputs
from . import forms
from .anonymize import EPOCH, Scrubber
from .forms import Form, Leave

SCHEMA = 1
INDEX, CHANGES, MANIFEST, PAYLOAD, REPRODUCE = (
    "archive.json",
    "CHANGES.md",
    "run_manifest.json",
    "easi_results.json",
    "REPRODUCE.md",
)
TABLES = "rows"  # folder of the per-question tables
RUNGS = 3
PICKLES = (".pkl", ".pickle")
DAMAGED = "it was changed, or it is not an archive of this program"

# Makes the per-question tables (CSV, see ``row_table.py``) of the benchmarks whose files lie in a
# folder, by benchmark key.
MakeTables = Callable[[Path], Mapping[str, bytes]]


@dataclass(frozen=True)
class Stored:
    """One file of the archive.

    ``sha256`` is the digest of the archive's member, ``original`` that of the file before anything
    was replaced in it (both hexadecimal); ``replaced`` describes the replacements.
    """

    sha256: str
    original: str = ""
    replaced: str = ""
    form: Form = Form()

    def to_json(self) -> dict[str, Any]:
        """The entry of ``archive.json``."""
        said = {"sha256": self.sha256, "original": self.original, "replaced": self.replaced}
        return {name: value for name, value in said.items() if value} | (
            {"form": self.form.to_json()} if self.form.name else {}
        )

    @classmethod
    def from_json(cls, value: Any) -> Stored:
        """Read what ``to_json`` made."""
        return cls(
            str(value["sha256"]),
            str(value.get("original", "")),
            str(value.get("replaced", "")),
            Form.from_json(value.get("form", {})),
        )


@dataclass(frozen=True)
class Index:
    """The content of ``archive.json``.

    ``tables`` holds the number of questions and the SHA-256 of each benchmark's per-question table,
    whether it is stored or not. ``inputs`` is a digest of everything the archive was made from; an
    archive with the same digest need not be made again.
    """

    rung: int
    files: Mapping[str, Stored]
    tables: Mapping[str, tuple[int, str]]
    inputs: str = ""

    def to_json(self) -> dict[str, Any]:
        """The content as JSON values."""
        return {
            "schema": SCHEMA,
            "rung": self.rung,
            "inputs": self.inputs,
            "tables": {
                key: {"rows": rows, "sha256": digest}
                for key, (rows, digest) in sorted(self.tables.items())
            },
            "files": {name: stored.to_json() for name, stored in sorted(self.files.items())},
        }

    @classmethod
    def from_json(cls, value: Any) -> Index:
        """Read what ``to_json`` made; EasiError for anything else."""
        try:
            if value["schema"] != SCHEMA:
                raise EasiError(
                    f"the archive has schema {value['schema']}, and this version reads {SCHEMA}",
                    hint="use the version that made it",
                )
            return cls(
                int(value["rung"]),
                {str(name): Stored.from_json(one) for name, one in value["files"].items()},
                {
                    str(key): (int(one["rows"]), str(one["sha256"]))
                    for key, one in value["tables"].items()
                },
                str(value.get("inputs", "")),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise EasiError(f"{INDEX} is damaged: {error!r}", hint=DAMAGED) from error


@dataclass(frozen=True)
class Contents:
    """What an archive is made from.

    ``files`` are the backend's, by ``<benchmark>/<path>``. ``texts`` are this program's, by name;
    paths and secrets are replaced in them, too. ``leave`` says what rung 2 leaves out of each
    benchmark's files. ``inputs`` is as in ``Index``.
    """

    files: Mapping[str, Path]
    texts: Mapping[str, str]
    leave: Mapping[str, Leave] = field(default_factory=dict)
    inputs: str = ""


@dataclass(frozen=True)
class Packed:
    """A finished archive; ``fits`` says whether it may be sent."""

    data: bytes
    rung: int
    fits: bool


def entries(outputs: Iterable[Outputs]) -> dict[str, Path]:
    """The backend's files by their names in the archive, without pickles.

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
    contents: Contents, scrubber: Scrubber, tables: MakeTables, fits: Callable[[int], bool]
) -> Packed:
    """Make the archive in the first rung that fits.

    Args:
        contents: What goes into the archive.
        scrubber: Replaces paths and secrets.
        tables: Makes the per-question tables from a folder of files.
        fits: Whether an archive of so many bytes may be sent.

    Raises:
        EasiError: A file is missing or a link.
    """
    with (
        tempfile.TemporaryDirectory(prefix="easi-archive-") as name,
        contextlib.ExitStack() as stack,
    ):
        stack.callback(forms.forget)
        plain = Path(name) / "plain"
        stored = {
            file: _scrubbed(path, plain / file, scrubber)
            for file, path in sorted(contents.files.items())
        }
        made = dict(tables(plain))
        texts = {
            file: scrubber.lines(text.encode("utf-8", errors="backslashreplace"))
            for file, text in contents.texts.items()
        }
        sums = {key: (table.count(b"\n") - 1, _digest(table)) for key, table in made.items()}
        kept: Packed | None = None
        for rung in range(RUNGS):
            # Benchmarks whose tables cannot be restored from this rung.
            as_they_are: frozenset[str] = frozenset()
            while True:
                folded = _folded(plain, stored, rung, contents.leave, as_they_are)
                beside = {
                    key: table for key, table in made.items() if rung == 0 or key in as_they_are
                }
                data = _zip(folded, beside, texts, sums, rung, contents.inputs)
                fit = fits(len(data))
                wrong = (
                    _not_restored(data, made, tables, Path(name)) - as_they_are
                    if fit and rung
                    else frozenset()
                )
                if not wrong:
                    break
                as_they_are |= wrong
            if fit:
                return Packed(data, rung, True)
            kept = Packed(data, rung, False) if rung < 2 else kept
        assert kept is not None
        return kept


def read_index(data: bytes) -> Index:
    """The index of an archive that this program made; EasiError if there is none."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as zipped:
            return Index.from_json(json.loads(zipped.read(INDEX)))
    except (zipfile.BadZipFile, KeyError, ValueError, RecursionError) as error:
        raise EasiError(f"the archive has no {INDEX}: {error}", hint=DAMAGED) from error


def unfold(members: Mapping[str, bytes], index: Index, folder: Path) -> None:
    """Write the backend's files below ``folder`` in the form that the readers understand."""
    for name, stored in index.files.items():
        if "/" not in name or name.startswith(f"{TABLES}/"):
            continue
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(forms.unfold(members[name], stored.form, lambda other: members[other]))


def _scrubbed(path: Path, target: Path, scrubber: Scrubber) -> Stored:
    """Copy a file to ``target`` without paths and secrets."""
    if path.is_symlink() or not path.is_file():
        raise EasiError(
            f"{path} is {'a link' if path.is_symlink() else 'not a file'}",
            hint="run this benchmark again with --rerun",
        )
    data = path.read_bytes()
    cleared, found = scrubber.file(path.name, data)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(cleared)
    return Stored(_digest(cleared), _digest(data), str(found))


def _folded(
    plain: Path,
    stored: Mapping[str, Stored],
    rung: int,
    leave: Mapping[str, Leave],
    as_they_are: frozenset[str],
) -> dict[str, tuple[bytes, Stored]]:
    """The members of one rung, with what is known of them."""
    members: dict[str, tuple[bytes, Stored]] = {}
    for name, one in stored.items():
        bench, data = name.partition("/")[0], (plain / name).read_bytes()
        form = Form()
        if rung and bench not in as_they_are:
            data, form = forms.fold(
                name,
                data,
                lambda other: (plain / other).read_bytes(),
                stored,
                leave.get(bench, Leave()) if rung > 1 else Leave(),
            )
        members[name] = (data, Stored(_digest(data), one.original, one.replaced, form))
    return members


def _zip(
    folded: Mapping[str, tuple[bytes, Stored]],
    tables: Mapping[str, bytes],
    texts: Mapping[str, bytes],
    sums: Mapping[str, tuple[int, str]],
    rung: int,
    inputs: str,
) -> bytes:
    members = {
        **{name: data for name, (data, _) in folded.items()},
        **{f"{TABLES}/{key}.csv": table for key, table in tables.items()},
        **texts,
    }
    known = {name: stored for name, (_, stored) in folded.items()}
    members[CHANGES] = _changes(rung, known, sums).encode("utf-8")
    index = Index(
        rung,
        {name: known.get(name) or Stored(_digest(data)) for name, data in members.items()},
        sums,
        inputs,
    )
    members[INDEX] = (json.dumps(index.to_json(), indent=1, ensure_ascii=False) + "\n").encode(
        "utf-8"
    )
    return archive(members)


def archive(members: Mapping[str, bytes]) -> bytes:
    """The zip: sorted names, fixed times and modes, best deflate."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as zipped:
        for name in sorted(members):
            info = zipfile.ZipInfo(name, EPOCH)
            info.external_attr = 0o644 << 16
            info.create_system = 3
            zipped.writestr(info, members[name], zipfile.ZIP_DEFLATED, compresslevel=9)
    return buffer.getvalue()


def _not_restored(
    data: bytes, tables: Mapping[str, bytes], make: MakeTables, scratch: Path
) -> frozenset[str]:
    """The benchmarks whose tables cannot be restored from the archive."""
    with (
        tempfile.TemporaryDirectory(dir=scratch) as name,
        zipfile.ZipFile(io.BytesIO(data)) as zipped,
    ):
        members = {file: zipped.read(file) for file in zipped.namelist()}
        unfold(members, read_index(data), Path(name))
        again = make(Path(name))
    return frozenset(key for key, table in tables.items() if again.get(key) != table)


def _changes(rung: int, files: Mapping[str, Stored], sums: Mapping[str, tuple[int, str]]) -> str:
    forms_said = (
        "the backend's files as they are, and the per-question tables in rows/",
        "repeated columns stored once; nothing is lost",
        "repeated columns stored once; columns that only repeat the dataset are left out "
        "(run_manifest.json has its revision)",
    )
    lines = [
        "# What was changed in the backend's files",
        "",
        f"Form {rung}: {forms_said[rung]}.",
        "",
        "Absolute paths of the machine and secrets are replaced by words in brackets. "
        "Aggregates are never changed otherwise.",
        "`easi-eval --verify easi_results.zip` restores the per-question tables "
        "and recomputes every score.",
        "",
    ]
    for name, stored in files.items():
        said = [text for text in (stored.replaced, stored.form.said()) if text]
        if said:
            lines.append(f"- `{name}`: {'; '.join(said)}")
    if not any(stored.replaced or stored.form.name for stored in files.values()):
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
