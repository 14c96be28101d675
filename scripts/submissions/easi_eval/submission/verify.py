"""``--verify easi_results.zip``: recompute every score from the archive and compare the payload.

This needs no model, no data and no hub. The archive may come from anybody: nothing in it is
executed or unpickled and nothing is written outside a temporary folder. Archives that are larger
than this program's can be, or of another form, are refused before they are unpacked.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..backends import make_backend
from ..backends.archived.index import FULL, INDEX, MANIFEST, PAYLOAD, ROWS, TABLES, Index
from ..backends.archived.opened import OpenedArchive
from ..backends.archived.proof import ArchivedRun
from ..backends.archived.proven import Proof, count_rows
from ..backends.base import Reader
from ..core.errors import EasiError, ExitCode
from ..data.needs import HubSettings
from ..scores.report import REHEARSAL
from ..scores.score_table import ScoreTable, State, title_of
from .payload import build_payload
from .payload_diff import differences, field_differences, score_lines

MOST_DIFFERENCES = 100  # that are shown


@dataclass
class VerifyReport:
    """The result of a verification.

    Attributes:
        about: Which archive it is, which payload beside it was compared, and that of a rehearsal
            what it is worth.
        lines: The table for users.
        differences: One line per problem.
    """

    about: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    differences: list[str] = field(default_factory=list)


def _reader(name: str) -> Reader:
    return make_backend(name, HubSettings())


def verify(path: Path) -> VerifyReport:
    """Verify an archive, and the ``easi_results.json`` beside it if there is one.

    Raises:
        EasiError: The archive cannot be verified at all.
    """
    opened = OpenedArchive.read(path, _reader)
    source, index = opened.source, opened.index
    inside = opened.json(PAYLOAD)
    verdict = VerifyReport(differences=_tampered(opened.members, index))
    proofs = opened.prove(by_tables=index.form == TABLES)
    for key, proof in proofs.items():
        verdict.differences += _about_rows(key, proof, source, index, opened.tables)
    verdict.differences += [
        f"{title_of(key)}: the manifest calls it complete, and the archive has none of its files"
        for key, state in source.states.items()
        if state.get("state") == State.COMPLETE and key not in proofs
    ]
    scores = [proof.score for proof in proofs.values() if proof.score is not None]
    own = build_payload(
        ScoreTable(tuple(scores), source.model, source.backend.name), source.backend.payload_name
    )
    beside = path.with_name(PAYLOAD)
    verdict.about = [_about(path, opened), f"no {PAYLOAD} beside it"]
    given = [(f"{PAYLOAD} in the archive", inside)]
    if beside.is_file():
        given.append((str(beside), _beside(beside)))
        verdict.differences += field_differences(*given[-1], inside)
        verdict.about[1] = f"compared with {beside}, too"
    verdict.about += [REHEARSAL] if opened.json(MANIFEST)["fields"].get("--smoke") else []
    for where, payload in given:
        verdict.differences += differences(where, payload, own)
    verdict.lines = score_lines(given[-1][1], own, proofs, index)
    return verdict


def _about(path: Path, opened: OpenedArchive) -> str:
    source, digest = opened.source, hashlib.sha256(path.read_bytes()).hexdigest()
    try:
        when = f", evaluated {opened.json(MANIFEST)['launches'][-1]['started'][:10]}"
    except (KeyError, IndexError, TypeError):  # imported results, and earlier versions
        when = ""
    return f"{source.model} on {source.backend.name}{when}, sha256 {digest}"


def _beside(path: Path) -> Any:
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise EasiError(
            f"{path} cannot be read: {error}",
            hint="it is the payload that belongs to the archive; "
            "move it away to check the archive alone",
        ) from error
    if not isinstance(value, dict):
        raise EasiError(f"{path} holds no object", hint="it is not a payload")
    return value


def _tampered(members: Mapping[str, bytes], index: Index) -> list[str]:
    """Return members that do not match the index of the archive."""
    known = {*index.files, INDEX}
    found = [f"{name} is not listed in {INDEX}" for name in sorted(set(members) - known)]
    found += [f"{name} is listed in {INDEX} and not there" for name in sorted(known - set(members))]
    return found + [
        f"{name} was changed after the archive was made"
        for name, stored in sorted(index.files.items())
        if name in members and hashlib.sha256(members[name]).hexdigest() != stored.sha256
    ]


def _about_rows(
    key: str, proof: Proof, source: ArchivedRun, index: Index, tables: Mapping[str, bytes]
) -> list[str]:
    """Return the problems with one benchmark's questions."""
    if proof.problem:
        return [proof.problem]
    title, said = title_of(key), []
    total = (source.states.get(key, {}).get("evidence") or {}).get("total")
    complete = source.states.get(key, {}).get("state") == State.COMPLETE
    for name, own in proof.tables.items():
        rows, (count, digest) = count_rows(own), index.tables.get(name, (None, ""))
        if rows != count or (complete and total is not None and rows != total):
            said.append(
                f"{title}: its files have {rows} questions, "
                f"{count if rows != count else total} are expected"
            )
        elif hashlib.sha256(own).hexdigest() != digest:
            said.append(
                f"{title}: its questions are not those of this run (the table's digest differs)"
            )
        table = tables.get(name)
        if table is None and index.form in (FULL, TABLES):
            said.append(f"{title}: the archive has no {ROWS}{name}.csv")
        elif table is not None and table != own:
            said.append(
                f"{title}: {ROWS}{name}.csv is not what its files "
                f"give{_first_difference(table, own)}"
            )
    return said


def _first_difference(one: bytes, other: bytes) -> str:
    for number, (left, right) in enumerate(
        zip(one.split(b"\n"), other.split(b"\n"), strict=False), start=1
    ):
        if left != right:
            return f" (first in line {number})"
    return ""


# ---- the command ---------------------------------------------------------------------------------


def main(path: Path) -> int:
    """Verify an archive and print which it is, a table, then the differences.

    Returns:
        The exit code: INCOMPLETE if there is a difference.

    Raises:
        EasiError: The archive cannot be verified at all.
    """
    try:
        found = verify(path)
    except OSError as error:
        raise EasiError(
            f"the archive could not be unpacked in {tempfile.gettempdir()}: "
            f"{error.strerror or error}",
            code=ExitCode.INCOMPLETE,
            hint="free some space, or set TMPDIR to another folder; the archive is as it was",
        ) from error
    shown = [
        *found.about,
        *found.lines,
        *(f"DIFFERENT: {difference}" for difference in found.differences[:MOST_DIFFERENCES]),
    ]
    # Some words come from the archive, whose author is unknown: no control characters.
    print(
        "\n".join("".join(char if char.isprintable() else "?" for char in line) for line in shown)
    )
    print(
        f"\n{len(found.differences)} difference(s) found"
        if found.differences
        else "\nevery score follows from the archive's own rows"
    )
    return ExitCode.INCOMPLETE if found.differences else ExitCode.COMPLETE
