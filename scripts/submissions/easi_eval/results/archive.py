"""``easi_results.zip``: the files the scores came from and the manifest. The same files make the same bytes."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from ..errors import EasiError
from .outputs import Outputs

MANIFEST = "run_manifest.json"
EPOCH = (1980, 1, 1, 0, 0, 0)     # the earliest time a zip can hold
PICKLES = (".pkl", ".pickle")


def entries(outputs: Iterable[Outputs], manifest: Path) -> dict[str, Path]:
    """What goes in, by name: ``<benchmark>/<file>`` and the manifest. Two different files of one name are an EasiError."""
    found = {MANIFEST: manifest}
    for out in outputs:
        for path in out.files:
            name = f"{out.benchmark}/{path.name}"
            if found.setdefault(name, path) != path:
                raise EasiError(f"{path} and {found[name]} would both be {name} in the archive", hint="remove the one that is not a result")
    return found


def archive(files: Mapping[str, Path]) -> bytes:
    """The zip: sorted names, fixed times and modes, best deflate. Raises EasiError for links, pickles and missing files."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as zipped:
        for name in sorted(files):
            path = files[name]
            if path.suffix in PICKLES:
                raise EasiError(f"{path} is a pickle, which nobody should have to open", hint="it does not belong into the archive")
            if path.is_symlink() or not path.is_file():
                raise EasiError(f"{path} is {'a link' if path.is_symlink() else 'not a file'}", hint="run this benchmark again with --rerun")
            info = zipfile.ZipInfo(name, EPOCH)
            info.external_attr = 0o644 << 16
            info.create_system = 3
            zipped.writestr(info, path.read_bytes(), zipfile.ZIP_DEFLATED, compresslevel=9)
    return buffer.getvalue()
