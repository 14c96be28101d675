"""Finds the source of a backend's class and of its bases, without importing them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from ...core.libraries import module_file
from .catalog import Package, parsed
from .class_source import ClassSource


def lineage(package: Package, class_path: str) -> list[ClassSource]:
    """Return ``module.Class`` and its bases inside the same package, nearest first.

    As in Python's method resolution, a base that several classes share comes after all of them. The
    user's own files (``Package.own``) are looked up after those of the package's ``vlm``, as they
    are on import.

    Returns:
        The classes; [] if the file of the class is not found.
    """
    found = {
        (source.module, source.name): source
        for source in reversed(list(_lineage(package, class_path, ())))
    }
    return list(reversed(found.values()))


def _lineage(package: Package, class_path: str, below: tuple[str, ...]) -> Iterator[ClassSource]:
    """Yield a class and its bases, depth first.

    ``below`` are the classes on the way to this one, because imports may be circular.
    """
    module, _, name = class_path.rpartition(".")
    path = source_file(package, module)
    if path is None:
        return
    tree = parsed(path)
    cls = next(
        (node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name), None
    )
    if cls is None:  # a module that only re-exports the class
        origins = [_origin(tree, name, module, path)]
    else:
        yield ClassSource(module, path, cls, tree)
        origins = [_base(tree, base, module, path) for base in cls.bases]
    for origin in origins:
        if origin not in (class_path, *below) and origin.split(".")[0] == module.split(".")[0]:
            yield from _lineage(package, origin, (class_path, *below))


def source_file(package: Package, module: str) -> Path | None:
    """Return the file of a module; None if there is none.

    A module of the package is looked up in its folder and among the user's own models, any other
    where Python would find it.
    """
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
    """Return where a file gets ``name`` from, as a dotted path."""
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
