"""Where a class of a backend and its bases are written. Nothing is imported."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .catalog import Package, module_file, parsed


@dataclass(frozen=True)
class ClassSource:
    """One class where it is written. ``tree`` is the whole file, ``module`` its dotted name."""

    module: str
    path: Path
    node: ast.ClassDef
    tree: ast.Module

    @property
    def name(self) -> str:
        return self.node.name

    @property
    def init(self) -> ast.FunctionDef | None:
        return next(
            (
                node
                for node in self.node.body
                if isinstance(node, ast.FunctionDef) and node.name == "__init__"
            ),
            None,
        )


def lineage(package: Package, class_path: str) -> list[ClassSource]:
    """``module.Class`` and its bases inside the same package, nearest first; [] for a class whose file is not found.

    As for Python, a base that several share comes after all of them. Files of the user's own (``Package.own``) stand beside those of the package's ``vlm``, which win, as for Python.
    """
    found = {
        (source.module, source.name): source
        for source in reversed(list(_lineage(package, class_path, ())))
    }
    return list(reversed(found.values()))


def _lineage(package: Package, class_path: str, below: tuple[str, ...]) -> Iterator[ClassSource]:
    """One way up after the other; ``below`` are the names on the way to this class, which may lead in a circle."""
    module, _, name = class_path.rpartition(".")
    path = source_file(package, module)
    if path is None:
        return
    tree = parsed(path)
    cls = next(
        (node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name), None
    )
    if cls is None:  # a package that only passes the class on
        origins = [_origin(tree, name, module, path)]
    else:
        yield ClassSource(module, path, cls, tree)
        origins = [_base(tree, base, module, path) for base in cls.bases]
    for origin in origins:
        if origin not in (class_path, *below) and origin.split(".")[0] == module.split(".")[0]:
            yield from _lineage(package, origin, (class_path, *below))


def source_file(package: Package, module: str) -> Path | None:
    """The file of a module of the package or of the user's own models beside it, else where Python would find it."""
    top, *rest = module.split(".")
    if top != package.kind.package:
        return module_file(module)
    bases = [package.root.joinpath(*rest)]
    if package.own is not None and len(rest) > 1 and rest[0] == "vlm":
        bases.append(package.own.joinpath(*rest[1:]))
    return next(
        (
            path
            for base in bases
            for path in (base / "__init__.py", base.with_name(f"{base.name}.py"))
            if path.is_file()
        ),
        None,
    )


def _base(tree: ast.Module, base: ast.expr, module: str, path: Path) -> str:
    if isinstance(base, ast.Attribute):  # vlm.BaseModel: where vlm is from, then its BaseModel
        return f"{_base(tree, base.value, module, path)}.{base.attr}"
    return _origin(tree, base.id, module, path) if isinstance(base, ast.Name) else ""


def _origin(tree: ast.Module, name: str, module: str, path: Path) -> str:
    """Where a file has ``name`` from, as a dotted path."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    parents = (
                        module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
                    )
                    above = parents[: len(parents) - node.level + 1] if node.level else []
                    return ".".join([*above, *filter(None, [node.module]), alias.name])
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if (alias.asname or alias.name.partition(".")[0]) == name:
                    return alias.name if alias.asname else name
    return f"{module}.{name}"
