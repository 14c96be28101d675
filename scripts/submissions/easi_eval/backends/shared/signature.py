"""Which arguments a class of a backend takes, with defaults, read without importing it."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .class_source import ClassSource
from .stand_ins import MARK, evaluate


@dataclass(frozen=True)
class Signature:
    """What ``__init__`` takes by name.

    Attributes:
        names: All parameters.
        required: Those without a default.
        defaults: The defaults that are literals, by name.
        open: Whether any other name is accepted. It is False for a class that asserts that its
            ``**kwargs`` are empty, as most of lmms-eval's do.
    """

    names: frozenset[str]
    required: frozenset[str]
    defaults: Mapping[str, object]
    open: bool


def signature(classes: Sequence[ClassSource]) -> Signature:
    """Return the signature of the first class of a lineage.

    It includes the base's parameters if ``**kwargs`` are passed on to the base's ``__init__``.
    """
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
    """Return a function's literal defaults, and the names that have no default at all."""
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
    return {arg.arg: value for arg, node in pairs if is_plain(value := evaluate(node))}, needed


def _of_kwargs(init: ast.FunctionDef) -> dict[str, object]:
    """Return the defaults of what is taken from ``**kwargs``.

    Recognised are ``kwargs.get("x", 1)``, ``kwargs.pop("x", 1)``, and a dict ``{"x": 1}`` that is
    updated with ``kwargs``.
    """
    if init.args.kwarg is None:
        return {}
    name = init.args.kwarg.arg
    found: dict[str, object] = {}
    tables: dict[str, dict[str, object]] = {}
    # Updated dicts win: they are what is passed to generate, while a ``get`` may serve another
    # purpose.
    passed: dict[str, object] = {}
    for node in ast.walk(init):
        match node:
            case ast.Assign(targets=[ast.Name(id=target)], value=ast.Dict() | ast.Call() as value):
                table = evaluate(value)
                if isinstance(table, dict):
                    tables[target] = table
            case ast.Call(
                func=ast.Attribute(value=ast.Name(id=holder), attr="get" | "pop"),
                args=[ast.Constant(value=str(key)), default],
            ) if holder == name:
                found[key] = evaluate(default)
            case ast.Call(
                func=ast.Attribute(value=ast.Name(id=holder), attr="update"),
                args=[ast.Name(id=given)],
            ) if given == name:
                passed |= tables.get(holder, {})
    return {key: value for key, value in (found | passed).items() if is_plain(value)}


def _popped(init: ast.FunctionDef) -> set[str]:
    """Return the names that are popped from ``**kwargs``."""
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
    """Return whether a value is known and can be shown: None, a bool, a number or a text."""
    if isinstance(value, str):
        return MARK not in value
    return value is None or isinstance(value, bool | int | float)


def _hands_on(init: ast.FunctionDef) -> bool:
    """Return whether ``super().__init__`` is called with the function's own ``**kwargs``."""
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
