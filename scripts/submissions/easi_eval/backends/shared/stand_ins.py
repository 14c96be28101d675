"""Run a backend's registry, or one expression of its source, without importing what it imports.

All that the text takes from outside is a ``StandIn``: modules (but for a few that only compute),
names that are not defined, and builtins that read, write or ask. So nothing outside is touched.
"""

from __future__ import annotations

import ast
import builtins
import importlib
import json
import warnings
from collections.abc import Iterator
from types import CodeType

MARK = "\0"  # begins the text of a stand-in, so that it is noticed inside a longer text
# os is not among them: a key in the environment must not become a setting that is shown.
REAL = ("collections", "copy", "functools", "itertools", "re")
OUTSIDE = ("open", "print", "input", "exec", "eval", "compile", "breakpoint", "exit", "quit")


class StandIn:
    """A value that is not known, by its dotted name: ``vlmeval.vlm.Qwen2VLChat``.

    Whatever is done with it gives another one. It is false and empty.
    """

    def __init__(self, name: str, *_: object) -> None:
        """``_`` are bases and members, where it is made as a class derived from a stand-in."""
        self._name = name

    def __getattr__(self, name: str) -> StandIn:
        if name.startswith("__"):
            raise AttributeError(name)
        return StandIn(f"{self._name}.{name}")

    def __call__(self, *_: object, **__: object) -> StandIn:
        """Return a stand-in for the result."""
        return StandIn(f"{self._name}()")

    __getitem__ = __setitem__ = __enter__ = __exit__ = __call__
    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __call__
    __truediv__ = __rtruediv__ = __floordiv__ = __mod__ = __or__ = __ror__ = __call__
    __lt__ = __le__ = __gt__ = __ge__ = __neg__ = __call__

    def __iter__(self) -> Iterator[object]:
        return iter(())

    def __bool__(self) -> bool:
        return False

    def __str__(self) -> str:
        return f"{MARK}{self._name}"


class _Names(dict[str, object]):
    def __missing__(self, name: str) -> StandIn:
        if name in _BUILTINS:
            raise KeyError(name)  # Python then looks there
        return StandIn(name)


def _import(
    name: str,
    _globals: object = None,
    _locals: object = None,
    fromlist: object = (),
    level: int = 0,
) -> object:
    if name in REAL and not level:
        return importlib.import_module(name)
    return StandIn(name if fromlist else name.partition(".")[0])


_BUILTINS = {
    **{name: value for name, value in vars(builtins).items() if name not in OUTSIDE},
    "__import__": _import,
}


def run(tree: ast.Module) -> dict[str, object]:
    """Run a module and return its names; whatever it raises is raised here."""
    names = _Names(__builtins__=_BUILTINS)
    exec(_compiled(tree, "exec"), names)
    return names


def evaluate(node: ast.expr) -> object:
    """Return the value of an expression; a ``StandIn`` where it cannot be known."""
    try:
        return eval(_compiled(ast.Expression(node), "eval"), _Names(__builtins__=_BUILTINS))
    except Exception:
        return StandIn("")


def is_known(value: object) -> bool:
    """Return whether a value is one of JSON's, and no part of it comes from a stand-in."""
    try:
        return "\\u0000" not in json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        return False


def _compiled(tree: ast.Module | ast.Expression, mode: str) -> CodeType:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the user cannot do anything about the backend's code
        return compile(tree, "<a backend's source>", mode)
