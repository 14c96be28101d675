"""The names a backend's package offers (models, tasks, datasets), read from its files without importing it."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
from dataclasses import dataclass
from pathlib import Path

from ..errors import EasiError
from .kinds import Kind

SOURCES = (".py", ".yaml", ".yml", ".json")


@dataclass(frozen=True)
class Package:
    """Where a backend's package lies. ``checkout``: it is not an installed wheel, so its files may change under one version."""

    kind: Kind
    root: Path          # the folder that holds __init__.py
    checkout: bool

    @property
    def version(self) -> str:
        """The declared version; a checkout's is followed by ``+`` and a digest of its sources."""
        return f"{_declared(self)}+{_content(self.root)}" if self.checkout else _declared(self)


def locate(kind: Kind, backend_path: Path | None = None) -> Package:
    """Find the package: in ``backend_path`` (the checkout's root, its ``src`` or the package itself), else where Python would.

    Raises EasiError if it is not there.
    """
    if backend_path is not None:
        for root in (backend_path / kind.package, backend_path / "src" / kind.package, backend_path):
            if root.name == kind.package and (root / "__init__.py").is_file():
                return Package(kind, root.resolve(), checkout=True)
        raise EasiError(f"--backend-path {backend_path} holds no {kind.package} package",
                        hint=f"give the folder that contains {kind.package}/__init__.py")
    spec = importlib.util.find_spec(kind.package)
    if spec is None or spec.origin is None:      # None origin: an empty namespace folder of that name
        raise EasiError(f"the backend {kind.name} is not installed", hint="run: bash scripts/setup.sh")
    root = Path(spec.origin).resolve().parent
    return Package(kind, root, checkout=not {"site-packages", "dist-packages"} & set(root.parts))


def _declared(package: Package) -> str:
    if not package.checkout:
        from importlib.metadata import PackageNotFoundError, version

        try:
            return version(package.kind.distribution)
        except PackageNotFoundError:
            return "0"
    for file in (package.root.parent / "pyproject.toml", package.root.parent / "setup.py", package.root / "__init__.py"):
        if file.is_file():
            found = re.search(r"""^\s*(?:__version__|version)\s*=\s*["']([^"']+)["']""", file.read_text(encoding="utf-8"), re.MULTILINE)
            if found:
                return found[1]
    return "0"


def _content(root: Path) -> str:
    """12 hex digits over the names and contents of all sources of a package."""
    total = hashlib.sha256()
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(name for name in folders if name != "__pycache__")
        for name in sorted(files):
            if name.endswith(SOURCES):
                path = Path(folder, name)
                total.update(f"{path.relative_to(root)}\0".encode(errors="surrogateescape"))
                total.update(hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()[:12]
