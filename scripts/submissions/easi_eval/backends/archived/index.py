"""``archive.json``: the form of an archive, and the digest of each file in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ...core.errors import EasiError

SCHEMA = 2
INDEX, MANIFEST, PAYLOAD = "archive.json", "run_manifest.json", "easi_results.json"
FULL, TABLES = "full", "tables"
OLD_FORMS = (FULL, "1", "2")  # of schema 1
ROWS = "rows/"  # folder of the per-question tables
DAMAGED = "it was changed, or it is not an archive of this program"


@dataclass(frozen=True)
class Stored:
    """One file of the archive.

    Attributes:
        sha256: Digest of the archive's member (hexadecimal).
        original: Digest of the backend's file before anything was replaced in it.
        replaced: What was changed, in words.
        old_form: How earlier versions stored it; see ``old_forms``.
    """

    sha256: str
    original: str = ""
    replaced: str = ""
    old_form: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, str]:
        """Return the entry of ``archive.json``."""
        said = {"sha256": self.sha256, "original": self.original, "replaced": self.replaced}
        return {name: value for name, value in said.items() if value}


@dataclass(frozen=True)
class Index:
    """The content of ``archive.json``.

    ``tables`` holds the number of questions and the SHA-256 of each per-question table by name.
    ``inputs`` is a digest of everything the archive was made from; an archive with the same digest
    need not be made again.
    """

    form: str
    files: Mapping[str, Stored]
    tables: Mapping[str, tuple[int, str]]
    inputs: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the content as JSON values."""
        return {
            "schema": SCHEMA,
            "form": self.form,
            "inputs": self.inputs,
            "tables": {
                key: {"rows": rows, "sha256": digest}
                for key, (rows, digest) in sorted(self.tables.items())
            },
            "files": {name: stored.to_json() for name, stored in sorted(self.files.items())},
        }

    @classmethod
    def from_json(cls, value: Any) -> Index:
        """Read what ``to_json`` made, and the index of earlier versions.

        Raises:
            EasiError: It is something else, or lacks a digest.
        """
        try:
            if (schema := value["schema"]) not in (1, SCHEMA):
                raise EasiError(
                    f"the archive has schema {schema}, and this version reads {SCHEMA}",
                    hint="use the version that made it",
                )
            form = str(value["form"]) if schema == SCHEMA else OLD_FORMS[value["rung"]]
            if schema == SCHEMA and form not in (FULL, TABLES):
                raise ValueError(f"unknown form {form!r}")
            return cls(
                form,
                {str(name): _stored(str(name), one) for name, one in value["files"].items()},
                {
                    str(key): (int(one["rows"]), str(one["sha256"]))
                    for key, one in value["tables"].items()
                },
                str(value["inputs"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            raise EasiError(f"{INDEX} is damaged: {error!r}", hint=DAMAGED) from error


def _stored(name: str, value: Any) -> Stored:
    backend_file = "/" in name and not name.startswith(ROWS)
    return Stored(
        str(value["sha256"]),
        str(value["original"]) if backend_file else "",
        str(value.get("replaced", "")),
        dict(value.get("form", {})),
    )
