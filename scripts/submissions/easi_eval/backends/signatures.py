"""Which arguments a class of a backend takes by name, with their defaults, read from its file without importing it."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .literals import evaluate
from .sources import ClassSource


@dataclass(frozen=True)
class Signature:
    """What ``__init__`` takes by name. ``defaults``: those of its values that are literal; ``open``: it takes any other name.

    A class that asserts that nothing is left of its ``**kwargs``, as most of lmms-eval's do, takes no other.
    """

    names: frozenset[str]
    required: frozenset[str]
    defaults: Mapping[str, object]
    open: bool


def signature(classes: Sequence[ClassSource]) -> Signature:
    """Of the first class of a lineage: its own ``__init__``, and its base's where it hands ``**kwargs`` on."""
    names: set[str] = set()
    required: set[str] = set()
    defaults: dict[str, object] = {}
    for source in classes:
        init = source.init
        if init is None:
            continue
        found, needed = _arguments(init)
        required |= needed - names
        defaults = {**found, **_of_kwargs(init), **defaults}
        names |= {
            arg.arg for arg in (*init.args.posonlyargs, *init.args.args, *init.args.kwonlyargs)
        } - {"self"}
        if not _hands_on(init):
            closed = init.args.kwarg is None or _asserts_nothing_left(init)
            return Signature(
                frozenset(names | _popped(init) if closed else names),
                frozenset(required),
                defaults,
                not closed,
            )
    return Signature(frozenset(names), frozenset(required), defaults, open=not classes)


def _arguments(init: ast.FunctionDef) -> tuple[dict[str, object], set[str]]:
    """The literal defaults of a function, and the names that have no default at all."""
    spec = init.args
    by_place = [*spec.posonlyargs, *spec.args]
    pairs = [
        *zip(by_place[len(by_place) - len(spec.defaults) :], spec.defaults, strict=True),
        *(
            (arg, node)
            for arg, node in zip(spec.kwonlyargs, spec.kw_defaults, strict=True)
            if node is not None
        ),
    ]
    given = {arg.arg for arg, _ in pairs}
    needed = {arg.arg for arg in (*by_place, *spec.kwonlyargs)} - given - {"self"}
    return {arg.arg: value for arg, node in pairs if is_plain(value := evaluate(node, {}))}, needed


def _of_kwargs(init: ast.FunctionDef) -> dict[str, object]:
    """Defaults of what comes through ``**kwargs``: ``kwargs.get("x", 1)``, ``kwargs.pop(...)`` and ``{"x": 1}.update(kwargs)``."""
    if init.args.kwarg is None:
        return {}
    name = init.args.kwarg.arg
    found: dict[str, object] = {}
    tables: dict[str, dict[str, object]] = {}
    passed: dict[str, object] = {}  # what generates; a plain get may only size something
    for node in ast.walk(init):
        match node:
            case ast.Assign(targets=[ast.Name(id=target)], value=ast.Dict() | ast.Call() as value):
                table = evaluate(value, {})
                if isinstance(table, dict):
                    tables[target] = table
            case ast.Call(
                func=ast.Attribute(value=ast.Name(id=holder), attr="get" | "pop"),
                args=[ast.Constant(value=str(key)), default],
            ) if holder == name:
                found[key] = evaluate(default, {})
            case ast.Call(
                func=ast.Attribute(value=ast.Name(id=holder), attr="update"),
                args=[ast.Name(id=given)],
            ) if given == name:
                passed |= tables.get(holder, {})
    return {key: value for key, value in (found | passed).items() if is_plain(value)}


def _popped(init: ast.FunctionDef) -> set[str]:
    """The names that are taken out of ``**kwargs``."""
    return {
        str(call.args[0].value)
        for call in ast.walk(init)
        if isinstance(call, ast.Call)
        and isinstance(call.func, ast.Attribute)
        and call.func.attr == "pop"
        and init.args.kwarg is not None
        and ast.unparse(call.func.value) == init.args.kwarg.arg
        and call.args
        and isinstance(call.args[0], ast.Constant)
    }


def _asserts_nothing_left(init: ast.FunctionDef) -> bool:
    if init.args.kwarg is None:
        return False
    nothing = (
        f"{init.args.kwarg.arg} == {{}}",
        f"not {init.args.kwarg.arg}",
        f"len({init.args.kwarg.arg}) == 0",
    )
    return any(
        isinstance(line, ast.Assert) and ast.unparse(line.test) in nothing for line in init.body
    )


def is_plain(value: object) -> bool:
    """Whether a value is known and can stand in a line."""
    return value is None or isinstance(value, bool | int | float | str)


def _hands_on(init: ast.FunctionDef) -> bool:
    """Whether ``super().__init__(..., **kwargs)`` is called with the function's own ``**kwargs``."""
    if init.args.kwarg is None:
        return False
    calls = (
        node
        for node in ast.walk(init)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "super().__init__"
    )
    return any(
        word.arg is None and ast.unparse(word.value) == init.args.kwarg.arg
        for call in calls
        for word in call.keywords
    )
