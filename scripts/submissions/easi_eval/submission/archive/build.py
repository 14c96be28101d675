"""Collect the content of a run's archive and build ``easi_results.zip``.

An archive whose inputs have not changed since the last time is reused.
"""

from __future__ import annotations

import io
import os
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ... import __version__
from ...backends.archived.index import MANIFEST, PAYLOAD, SCHEMA
from ...backends.archived.proof import ArchivedRun, proofs
from ...backends.base import Reader
from ...backends.evidence import Evidence
from ...config import RunConfig
from ...core.atomic_files import digest, read_json
from ...core.errors import EasiError, ExitCode
from ...core.manifest import Manifest
from ...core.places import REPOSITORY
from ...core.redact import Redactor
from ...core.run_folder import RunPaths
from ...data.needs import HubSettings
from ...scores.extraction import REPORT
from ...scores.outputs import Outputs
from ..payload import payload_text
from .anonymize import Scrubber
from .pack import REPRODUCE, Contents, Packed, entries, pack, read_index
from .reproduce import reproduce


@dataclass(frozen=True)
class Places:
    """Folders of this machine that the archive shows under a neutral name instead of their path."""

    cfg: RunConfig
    hub: HubSettings
    model: str

    def named(self) -> list[tuple[str, Path]]:
        """Return (name, folder) pairs; where two names fit one folder, the first one is used.

        Each folder is also listed with its symbolic links resolved.
        """
        folders = [
            ("output-dir", self.cfg.output_dir.absolute()),
            ("dataset-dir", self.cfg.dataset_dir.absolute()),
            ("hf-home", self.hub.hf_home),
            ("hf-cache", self.hub.hub_cache),
            ("repository", REPOSITORY),
            ("python", Path(sys.prefix)),
            ("home", Path.home()),
            ("here", Path.cwd()),
        ]
        if Path(self.model).is_absolute():
            folders.insert(0, ("model", Path(self.model)))
        for name, folder in (
            ("backend", self.cfg.backend_path),
            ("imported", self.cfg.import_results),
        ):
            if folder is not None:
                folders.insert(0, (name, folder.expanduser().absolute()))
        return [
            *folders,
            *((name, folder.resolve()) for name, folder in folders if folder.resolve() != folder),
        ]

    def scrubber(self) -> Scrubber:
        """Return a scrubber that removes these folders, other absolute paths and secrets."""
        return Scrubber(Redactor.from_environ(os.environ), self.named())


def make(
    paths: RunPaths,
    keys: Sequence[str],
    backend: Reader,
    scrubber: Scrubber,
    payload: Mapping[str, Any],
    fits: Callable[[int], bool],
    copy: Path | None = None,
) -> Packed:
    """Build the archive of one run, or return the existing one if its inputs are the same.

    Args:
        paths: Folder of the run.
        keys: Benchmarks to include; one without accepted files is left out.
        backend: The backend that produced the files.
        scrubber: Removes local paths and secrets from the archived files.
        payload: Content of ``easi_results.json``.
        fits: Whether an archive of that many bytes fits into one request.
        copy: Where a copy of the existing archive may be.

    Raises:
        EasiError: The manifest is missing, or the archive cannot be written (no space left).
    """
    manifest = Manifest.load(paths.manifest)
    if manifest is None:
        raise EasiError(f"{paths.manifest} is gone", hint="run the same command again")
    found = {
        key: evidence for key in keys if (evidence := Evidence.load(paths.output(key))) is not None
    }
    value = read_json(paths.manifest)
    texts = {
        MANIFEST: paths.manifest.read_text(encoding="utf-8"),
        PAYLOAD: payload_text(payload),
        REPRODUCE: reproduce(
            manifest, {key: evidence.adopted for key, evidence in found.items() if evidence.adopted}
        ),
    }
    if (report := paths.root / REPORT).is_file():
        texts[REPORT] = report.read_text(encoding="utf-8")
    inputs = digest(
        {
            "program": __version__,
            "schema": SCHEMA,
            "texts": texts,
            "files": {key: dict(evidence.files) for key, evidence in found.items()},
        }
    )
    old = paths.root / "easi_results.zip"
    if (known := _known(old, copy, inputs, fits)) is not None:
        return known
    outputs = [
        Outputs(
            key, paths.output(key), (), tuple(paths.output(key) / name for name in evidence.files)
        )
        for key, evidence in found.items()
    ]
    source = ArchivedRun.of(value, lambda name: backend)
    try:
        return pack(
            Contents(entries(outputs), texts, inputs),
            scrubber,
            lambda folder: proofs(source, folder),
            fits,
        )
    except OSError as error:
        raise EasiError(
            f"the archive could not be made: {error.strerror or error}",
            code=ExitCode.INCOMPLETE,
            hint=f"free some space in {tempfile.gettempdir()}, or set TMPDIR to another folder; "
            "then the same command makes it",
        ) from error


def _known(
    path: Path, copy: Path | None, inputs: str, fits: Callable[[int], bool]
) -> Packed | None:
    """Return the archive made earlier from the same inputs, or None if it is missing or damaged."""
    if not path.is_file():
        return None
    data = path.read_bytes()
    try:
        index = read_index(data)
        with zipfile.ZipFile(io.BytesIO(data)) as zipped:
            # To inflate all of a large one takes longer than all else at a start of a finished run.
            same_twice = copy is not None and copy.is_file() and copy.read_bytes() == data
            whole = same_twice or zipped.testzip() is None
    except (EasiError, zipfile.BadZipFile, zlib.error, EOFError, ValueError):
        return None
    same = whole and index.inputs == inputs
    # The file does not record whether it fits into a request; its size decides that.
    return Packed(data, index.form, fits(len(data))) if same else None
