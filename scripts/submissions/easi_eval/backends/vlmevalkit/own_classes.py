"""Model classes that the user put into ``VLMEvalKit/vlmeval/vlm/``.

They are found and read there, and never imported in this process.
"""

from __future__ import annotations

import ast
import contextlib
import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ...core.errors import EasiError
from ...core.places import REPOSITORY
from ..shared.catalog import Package, parsed
from ..shared.class_source import ClassSource
from ..shared.lineage import lineage, source_file

VARIABLE = "EASI_VLM_DIR"  # names another folder to use instead
ROOT_CLASSES = ("BaseModel", "BaseAPI")


def folder(environ: Mapping[str, str] = os.environ) -> Path:
    """Return the folder of the user's files."""
    return (
        Path(environ.get(VARIABLE) or REPOSITORY / "VLMEvalKit" / "vlmeval" / "vlm")
        .expanduser()
        .absolute()
    )


@dataclass(frozen=True)
class OwnClass:
    """A model class of the user's own.

    Attributes:
        stem: Name of its file, or of its folder with an ``__init__.py``.
        name: Name of the class.
        path: The file.
        sources: The class and its bases.
    """

    stem: str
    name: str
    path: Path
    sources: tuple[ClassSource, ...]

    @property
    def cls(self) -> str:
        """The class as ``ModelChoice.cls`` names it: ``file.Class``."""
        return f"{self.stem}.{self.name}"

    @property
    def served(self) -> bool:
        """Whether it is the client of a server: it derives from ``BaseAPI``."""
        return any(source.name == "BaseAPI" for source in self.sources)

    def digest(self, own: Path) -> str:
        """Return 16 hex digits over the code of the class.

        Included are its file, all files of its folder if it is a folder, and the neighbours it
        imports. ``own`` is the folder of the user's files.
        """
        total = hashlib.sha256()
        for path in sorted(_files(self.path, own)):
            total.update(f"{path.relative_to(own).as_posix()}\0".encode())
            total.update(hashlib.sha256(path.read_bytes()).digest())
        return total.hexdigest()[:16]


def find(package: Package, wanted: str) -> OwnClass | None:
    """Return the class that ``--model`` names; None if there is none of that name.

    The name is ``file.Class``, ``Class``, or ``file`` (``file.py``) with one model class in it. A
    model class derives from ``BaseModel`` or ``BaseAPI``. If the classes of a file derive from each
    other, ``file`` means the last.

    Raises:
        EasiError: If a file has no model class or does not parse, if several classes fit, or if
            VLMEvalKit has a module of the file's name, which Python would load instead.
    """
    if package.own is None or "/" in wanted:
        return None
    modules = _modules(package.own)
    stem = wanted.removesuffix(".py")
    if stem in modules:
        fitting = _last(_classes(package, stem, modules[stem]))
        if not fitting:
            raise EasiError(
                f"{modules[stem]} has no class that derives from VLMEvalKit's BaseModel",
                hint="write `from .base import BaseModel` and `class MyModel(BaseModel)`; "
                "VLMEvalKit/vlmeval/vlm/README.md has an example",
            )
    else:
        fitting = _named(package, modules, wanted)
    if len(fitting) > 1:
        raise EasiError(
            f"--model {wanted} may mean {len(fitting)} classes of {package.own}",
            hint=f"name one: {', '.join(found.cls for found in fitting)}",
        )
    return fitting[0] if fitting else None


def _named(package: Package, modules: dict[str, Path], wanted: str) -> list[OwnClass]:
    """Return the classes that ``file.Class`` or ``Class`` means."""
    stem, _, name = wanted.rpartition(".")
    if stem:
        return (
            [found for found in _classes(package, stem, modules[stem]) if found.name == name]
            if stem in modules
            else []
        )
    fitting = []
    for stem, path in modules.items():
        # Another file that does not parse is no reason to refuse this one.
        with contextlib.suppress(EasiError):
            if name in _names(parsed(path), path):
                fitting += [found for found in _classes(package, stem, path) if found.name == name]
    return fitting


def _last(classes: list[OwnClass]) -> list[OwnClass]:
    """Return the classes from which no other of them derives."""
    bases = {(base.path, base.name) for cls in classes for base in cls.sources[1:]}
    return [cls for cls in classes if (cls.sources[0].path, cls.sources[0].name) not in bases]


def names(package: Package) -> list[str]:
    """Return the names of files and classes that ``find`` knows, for suggestions."""
    found: list[str] = []
    for stem, path in (_modules(package.own) if package.own is not None else {}).items():
        with contextlib.suppress(EasiError):
            found += [stem, *(cls.name for cls in _classes(package, stem, path))]
    return found


def _modules(own: Path) -> dict[str, Path]:
    """Return the files of the folder by the names they are imported by."""
    if not own.is_dir():
        return {}
    files = {path.stem: path for path in sorted(own.glob("*.py")) if path.stem != "__init__"}
    return files | {path.parent.name: path for path in sorted(own.glob("*/__init__.py"))}


def _classes(package: Package, stem: str, path: Path) -> list[OwnClass]:
    """Return the model classes of a file.

    Raises:
        EasiError: If it does not parse, or Python would load VLMEvalKit's module of that name.
    """
    module = f"{package.kind.package}.vlm.{stem}"
    if source_file(package, module) != path:
        raise EasiError(
            f"{path} would never be loaded: VLMEvalKit has its own module {stem}",
            hint="give the file another name",
        )
    lineages = {
        name: tuple(lineage(package, f"{module}.{name}")) for name in _names(parsed(path), path)
    }
    return [
        OwnClass(stem, name, path, sources)
        for name, sources in lineages.items()
        if name not in ROOT_CLASSES and any(source.name in ROOT_CLASSES for source in sources)
    ]


def _names(tree: ast.Module, path: Path) -> list[str]:
    """Return the classes that a file defines, or imports if it is an ``__init__.py``."""
    here = [node.name for node in tree.body if isinstance(node, ast.ClassDef)]
    if path.name == "__init__.py":
        here += [
            alias.asname or alias.name
            for node in tree.body
            if isinstance(node, ast.ImportFrom) and node.level == 1
            for alias in node.names
        ]
    return here


def _files(path: Path, own: Path, seen: frozenset[Path] = frozenset()) -> Iterator[Path]:
    """Yield the files that a file of the folder consists of, some more than once."""
    inside = [path] if path.name != "__init__.py" else sorted(path.parent.rglob("*.py"))
    yield from inside
    for file in inside:
        for node in ast.walk(parsed(file)):
            for name in _neighbours(node):
                other = _modules(own).get(name)
                if other is not None and other not in {*seen, *inside}:
                    yield from _files(other, own, seen | {*inside})


def _neighbours(node: ast.AST) -> list[str]:
    """Return the modules of the folder that an import may mean.

    Recognised are ``from .x import y``, ``from . import x`` and ``import vlmeval.vlm.x``.
    """
    if isinstance(node, ast.ImportFrom):
        module = (node.module or "").removeprefix("vlmeval.vlm").lstrip(".")
        return [module.split(".")[0]] if module else [alias.name for alias in node.names]
    if isinstance(node, ast.Import):
        return [
            alias.name.removeprefix("vlmeval.vlm.").split(".")[0]
            for alias in node.names
            if alias.name.startswith("vlmeval.vlm.")
        ]
    return []
