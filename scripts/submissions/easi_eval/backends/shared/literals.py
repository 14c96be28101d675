"""Evaluate the literal statements of a Python module from its text, without importing it.

Supported are literals, names, attributes of classes, arithmetic, f-strings, ``partial(...)``,
``dict``/``list`` calls and their updating methods, comprehensions, loops and small functions over
such values. Everything else is ``UNKNOWN``. An expression with an unknown operand is unknown, too;
collections may hold ``UNKNOWN``, and the caller drops it.
"""

from __future__ import annotations

import ast
import operator
from collections import ChainMap
from collections.abc import Callable, Iterable, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Any


class _Unknown:
    """A value that cannot be known without running the module."""

    def __repr__(self) -> str:
        return "UNKNOWN"


UNKNOWN = _Unknown()
Scope = MutableMapping[str, object]


@dataclass(frozen=True)
class Dotted:
    """A name without a known value, such as an imported one, by its text: ``vlm.Qwen2VLChat``."""

    text: str


@dataclass(frozen=True)
class Partial:
    """``functools.partial(func, **kwargs)``; values inside ``kwargs`` may be UNKNOWN."""

    func: str
    kwargs: dict[str, object]


@dataclass(frozen=True)
class Function:
    """A function that the module defines, and the scope it was defined in."""

    node: ast.FunctionDef
    scope: Scope


@dataclass(eq=False)
class Class:
    """A class by its literal attributes and its methods.

    ``bases`` are looked up in ``scope``, the scope the class was defined in.
    """

    name: str
    bases: tuple[str, ...]
    scope: Scope
    members: dict[str, object] = field(default_factory=dict)

    def lookup(self, name: str, seen: frozenset[int] = frozenset()) -> object:
        """The attribute here or in the first base that has it, else UNKNOWN."""
        if name in self.members:
            return self.members[name]
        for base in self.bases:
            parent = self.scope.get(base)
            if isinstance(parent, Class) and id(parent) not in seen:
                value = parent.lookup(name, seen | {id(self)})
                if value is not UNKNOWN:
                    return value
        return UNKNOWN


class _Return(Exception):
    def __init__(self, value: object) -> None:
        self.value = value


_BINARY: Mapping[type, Callable[[object, object], object]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
    ast.BitOr: operator.or_,
}
_UNARY: Mapping[type, Callable[[Any], object]] = {
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
    ast.Not: operator.not_,
}
_BUILDERS: Mapping[str, Callable[..., object]] = {
    "dict": dict,
    "list": list,
    "tuple": tuple,
    "set": set,
    "sorted": sorted,
    "range": range,
    "str": str,
    "int": int,
    "float": float,
    "len": len,
    "zip": zip,
    "enumerate": enumerate,
    "OrderedDict": dict,
}
_METHODS = (
    "update",
    "copy",
    "items",
    "keys",
    "values",
    "get",
    "extend",
    "append",
    "insert",
    "add",
    "pop",
    "format",
    "lower",
    "upper",
    "replace",
    "split",
    "join",
    "strip",
    "startswith",
    "endswith",
)
_WRONG = (
    TypeError,
    ValueError,
    KeyError,
    IndexError,
    AttributeError,
    ZeroDivisionError,
    OverflowError,
)


def read_module(tree: ast.Module, scope: Scope | None = None) -> ChainMap[str, object]:
    """The module's names and values.

    ``maps[0]`` of the result holds the module's own names. Names it imports are looked up in
    ``scope``.
    """
    names: ChainMap[str, object] = ChainMap({}, scope if scope is not None else {})
    _run(tree.body, names, inside=False)
    return names


# ---- statements


def _run(body: Iterable[ast.stmt], scope: Scope, inside: bool) -> None:
    """Run statements in ``scope``.

    Where the condition of an ``if`` is unknown, a function (``inside``) returns UNKNOWN; in a
    module both branches are run.
    """
    for statement in body:
        match statement:
            case ast.Assign(targets=targets, value=node):
                value = evaluate(node, scope)
                for target in targets:
                    _assign(target, value, scope)
            case ast.AnnAssign(target=target, value=ast.expr() as node):
                _assign(target, evaluate(node, scope), scope)
            case ast.AugAssign(target=target, op=op, value=node):
                both = evaluate(target, scope), evaluate(node, scope)
                _assign(target, _attempt(_BINARY.get(type(op)), *both), scope)
            case ast.Expr(value=node):
                evaluate(node, scope)
            case ast.For(target=target, iter=node):
                for value in _iterate(evaluate(node, scope)):
                    _assign(target, value, scope)
                    _run(statement.body, scope, inside)
            case ast.If(test=node):
                test = evaluate(node, scope)
                if test is UNKNOWN or isinstance(test, Dotted):
                    if inside:
                        raise _Return(UNKNOWN)
                    _run([*statement.body, *statement.orelse], scope, inside)
                else:
                    _run(statement.body if test else statement.orelse, scope, inside)
            case ast.Try() | ast.With():
                _run(statement.body, scope, inside)
            case ast.FunctionDef(name=name):
                scope[name] = Function(statement, scope)
            case ast.ClassDef(name=name, bases=bases):
                made = Class(
                    name, tuple(ast.unparse(base).rpartition(".")[2] for base in bases), scope
                )
                _run(statement.body, ChainMap(made.members, scope), inside=False)
                scope[name] = made
            case ast.Return(value=node):
                raise _Return(evaluate(node, scope) if node else None)


def _assign(target: ast.expr, value: object, scope: Scope) -> None:
    match target:
        case ast.Name(id=name):
            scope[name] = value
        case ast.Tuple(elts=targets) | ast.List(elts=targets):
            values = list(_iterate(value))
            for at, inner in enumerate(targets):
                _assign(inner, values[at] if len(values) == len(targets) else UNKNOWN, scope)
        case ast.Subscript(value=node, slice=key):
            holder, index = evaluate(node, scope), evaluate(key, scope)
            if isinstance(holder, dict) and index is not UNKNOWN:
                _attempt(holder.__setitem__, index, value)


def _iterate(value: object) -> Iterable[object]:
    if isinstance(value, str):
        return tuple(value)
    return tuple(value) if isinstance(value, Iterable) else ()


# ---- expressions


def evaluate(node: ast.expr, scope: Scope) -> object:
    """The expression's value, or UNKNOWN."""
    match node:
        case ast.Constant(value=value):
            return value
        case ast.Name(id=name):
            return scope.get(name, Dotted(name))
        case ast.Attribute(value=inner, attr=name):
            holder = evaluate(inner, scope)
            if isinstance(holder, Class):
                return holder.lookup(name)
            return Dotted(f"{holder.text}.{name}") if isinstance(holder, Dotted) else UNKNOWN
        case ast.Dict(keys=keys, values=values):
            return _dict(keys, values, scope)
        case ast.List(elts=elements):
            return _elements(elements, scope)
        case ast.Tuple(elts=elements):
            return tuple(_elements(elements, scope))
        case ast.Set(elts=elements):
            return _attempt(set, _elements(elements, scope))
        case ast.BinOp(left=left, op=op, right=right):
            return _attempt(_BINARY.get(type(op)), evaluate(left, scope), evaluate(right, scope))
        case ast.UnaryOp(op=op, operand=operand):
            return _attempt(_UNARY.get(type(op)), evaluate(operand, scope))
        case ast.Subscript(value=inner, slice=key):
            return _attempt(operator.getitem, evaluate(inner, scope), evaluate(key, scope))
        case ast.JoinedStr(values=values):
            parts = [evaluate(value, scope) for value in values]
            texts = [part for part in parts if isinstance(part, str)]
            return "".join(texts) if len(texts) == len(parts) else UNKNOWN
        case ast.FormattedValue(value=inner, format_spec=None):
            filled = evaluate(inner, scope)
            return str(filled) if isinstance(filled, str | int | float) else UNKNOWN
        case (
            ast.ListComp(elt=elt, generators=generators)
            | ast.GeneratorExp(elt=elt, generators=generators)
        ):
            return [evaluate(elt, inner) for inner in _comprehend(generators, scope)]
        case ast.SetComp(elt=elt, generators=generators):
            return _attempt(set, [evaluate(elt, inner) for inner in _comprehend(generators, scope)])
        case ast.DictComp(key=key, value=value, generators=generators):
            pairs = [
                (evaluate(key, inner), evaluate(value, inner))
                for inner in _comprehend(generators, scope)
            ]
            return _attempt(dict, [pair for pair in pairs if pair[0] is not UNKNOWN])
        case ast.Call():
            return _call(node, scope)
    return UNKNOWN


def _dict(keys: list[ast.expr | None], values: list[ast.expr], scope: Scope) -> object:
    made: dict[object, object] = {}
    for key, node in zip(keys, values, strict=True):
        value = evaluate(node, scope)
        if key is None:
            made.update(value if isinstance(value, dict) else {})
        elif (name := evaluate(key, scope)) is not UNKNOWN:
            _attempt(made.__setitem__, name, value)
    return made


def _elements(nodes: list[ast.expr], scope: Scope) -> list[object]:
    made: list[object] = []
    for node in nodes:
        if isinstance(node, ast.Starred):
            made.extend(_iterate(evaluate(node.value, scope)))
        else:
            made.append(evaluate(node, scope))
    return made


def _comprehend(generators: list[ast.comprehension], scope: Scope) -> Iterable[Scope]:
    first, *others = generators
    for value in _iterate(evaluate(first.iter, scope)):
        inner: Scope = ChainMap({}, scope)
        _assign(first.target, value, inner)
        tests = [evaluate(test, inner) for test in first.ifs]
        if all(test is UNKNOWN or bool(test) for test in tests):
            yield from _comprehend(others, inner) if others else (inner,)


def _call(node: ast.Call, scope: Scope) -> object:
    args = _elements(node.args, scope)
    kwargs: dict[str, object] = {}
    for keyword in node.keywords:
        value = evaluate(keyword.value, scope)
        if keyword.arg is None:
            kwargs.update(value if isinstance(value, dict) else {})
        else:
            kwargs[keyword.arg] = value
    if isinstance(node.func, ast.Attribute) and node.func.attr in _METHODS:
        holder = evaluate(node.func.value, scope)
        if isinstance(holder, dict | list | set | str):
            return _attempt(getattr(holder, node.func.attr, None), *args, **kwargs)
    function = evaluate(node.func, scope)
    if isinstance(function, Function):
        owner = evaluate(node.func.value, scope) if isinstance(node.func, ast.Attribute) else None
        return _invoke(function, [owner, *args] if isinstance(owner, Class) else args, kwargs)
    if isinstance(function, Dotted):
        name = function.text.rpartition(".")[2]
        if name == "partial" and args:
            return _partial(args[0], kwargs)
        if name in ("deepcopy", "copy") and len(args) == 1:
            return args[0]  # nothing here is changed in place afterwards
        if function.text in _BUILDERS:
            return _attempt(_BUILDERS[function.text], *args, **kwargs)
    return UNKNOWN


def _partial(target: object, kwargs: dict[str, object]) -> object:
    match target:
        case Dotted(text=text):
            return Partial(text, kwargs)
        case Class(name=name):
            return Partial(name, kwargs)
        case Partial(func=func, kwargs=inner):
            return Partial(func, {**inner, **kwargs})
    return UNKNOWN


def _invoke(function: Function, args: list[object], kwargs: dict[str, object]) -> object:
    spec = function.node.args
    names = [arg.arg for arg in spec.args]
    defaults = [evaluate(node, function.scope) for node in spec.defaults]
    inner: Scope = ChainMap(
        dict(zip(names[len(names) - len(defaults) :], defaults, strict=True)), function.scope
    )
    inner.update(zip(names, args, strict=False))
    inner.update(kwargs)
    try:
        _run(function.node.body, inner, inside=True)
    except _Return as returned:
        return returned.value
    except RecursionError:
        return UNKNOWN
    return None


def _attempt(function: Callable[..., object] | None, *args: object, **kwargs: object) -> object:
    """The function's result; UNKNOWN if the first operand is unknown or the call fails."""
    if function is None or any(value is UNKNOWN or isinstance(value, Dotted) for value in args[:1]):
        return UNKNOWN
    try:
        return function(*args, **kwargs)
    except _WRONG:
        return UNKNOWN
