"""Which arguments a class of a backend takes by name, read from its file without importing it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from .catalog import Package, module_file, parsed


def parameters(package: Package, class_path: str) -> frozenset[str]:
    """The names that ``__init__`` of ``module.Class`` takes: its own, and its base's where it hands ``**kwargs`` on.

    Bases are followed inside the class's own package. Empty for a class whose file is not found.
    """
    return frozenset(_parameters(package, class_path, {class_path}))


def _parameters(package: Package, class_path: str, seen: set[str]) -> Iterator[str]:
    module, _, name = class_path.rpartition(".")
    path = _file(package, module)
    if path is None:
        return
    tree = parsed(path)
    cls = next((node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name), None)
    if cls is None:      # a package that only passes the class on
        origins = [_origin(tree, name, module, path)]
    else:
        init = next((node for node in cls.body if isinstance(node, ast.FunctionDef) and node.name == "__init__"), None)
        if init is not None:
            yield from (arg.arg for arg in (*init.args.posonlyargs, *init.args.args, *init.args.kwonlyargs) if arg.arg != "self")
            if not _hands_on(init):
                return
        origins = [_origin(tree, base.id, module, path) for base in cls.bases if isinstance(base, ast.Name)]
    for origin in origins:
        if origin not in seen and origin.split(".")[0] == module.split(".")[0]:
            seen.add(origin)
            yield from _parameters(package, origin, seen)


def _file(package: Package, module: str) -> Path | None:
    top, *rest = module.split(".")
    if top != package.kind.package:
        return module_file(module)
    base = package.root.joinpath(*rest)
    return next((path for path in (base.with_suffix(".py"), base / "__init__.py") if path.is_file()), None)


def _hands_on(init: ast.FunctionDef) -> bool:
    """Whether ``super().__init__(..., **kwargs)`` is called with the function's own ``**kwargs``."""
    if init.args.kwarg is None:
        return False
    calls = (node for node in ast.walk(init) if isinstance(node, ast.Call) and ast.unparse(node.func) == "super().__init__")
    return any(word.arg is None and ast.unparse(word.value) == init.args.kwarg.arg for call in calls for word in call.keywords)


def _origin(tree: ast.Module, name: str, module: str, path: Path) -> str:
    """Where a file has ``name`` from, as a dotted path."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    parents = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
                    above = parents[:len(parents) - node.level + 1] if node.level else []
                    return ".".join([*above, *filter(None, [node.module]), alias.name])
    return f"{module}.{name}"
