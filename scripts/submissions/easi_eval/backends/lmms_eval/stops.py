"""Whether a model class of lmms-eval truncates answers at stop strings, told from its source.

lmms-eval passes stop strings as the generation argument ``until``.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ..shared.class_source import ClassSource
from ..shared.stop_strings import shown

# The stop string of a task that names none: its few-shot delimiter (lmms_eval/api/task.py). No
# task of EASI names one.
INHERITED = "\n\n"
UNTIL = "until"
# A stop string that occurs in no answer, for users who want whole answers.
NEVER = "__none__"
_FINDS = ("split", "partition", "index", "find")
Function = ast.FunctionDef | ast.AsyncFunctionDef
Loop = ast.For | ast.ListComp | ast.SetComp | ast.GeneratorExp


@dataclass(frozen=True)
class Cutting:
    """A class that truncates answers at the stop strings it is given, except ``dropped``."""

    dropped: frozenset[str] = frozenset()

    def stops(self, until: Sequence[str]) -> tuple[str, ...]:
        """Return those of ``until`` at which the class truncates."""
        return tuple(stop for stop in until if stop and stop not in self.dropped)


def cutting(classes: Sequence[ClassSource], method: str = "generate_until") -> Cutting | None:
    """Return how a class truncates answers at ``until``; None if it does not.

    Some classes read ``until`` and never use it. So ``method`` is examined together with all it
    calls in the class, its bases, and their files.

    Args:
        classes: The class and its bases, see ``lineage``.
        method: The method that answers.
    """
    reached = list(_reached(classes, method))
    if not any(_cuts(function) for function in reached):
        return None
    return Cutting(frozenset(dropped for function in reached for dropped in _dropped(function)))


def _reached(classes: Sequence[ClassSource], method: str) -> Iterator[Function]:
    """Yield ``method`` and the functions it calls, directly or indirectly, each once.

    A method is looked up by name in the nearest class, a function in the same file.
    """
    waiting, known = [found for found in [_method(classes, method)] if found], set()
    while waiting:
        source, function = waiting.pop()
        if function in known:
            continue
        known.add(function)
        yield function
        own = {node.name: node for node in source.tree.body if isinstance(node, Function)}
        for node in ast.walk(function):
            if isinstance(node, ast.Attribute) and (found := _method(classes, node.attr)):
                waiting.append(found)
            elif isinstance(node, ast.Name) and node.id in own:
                waiting.append((source, own[node.id]))


def _method(classes: Sequence[ClassSource], name: str) -> tuple[ClassSource, Function] | None:
    return next(
        (
            (source, node)
            for source in classes
            for node in source.node.body
            if isinstance(node, Function) and node.name == name
        ),
        None,
    )


def _cuts(function: Function) -> bool:
    """Return whether a function searches a text for stop strings, or passes them to the model."""
    named = _named(function)
    for node in ast.walk(function):
        if (
            isinstance(node, Loop)
            and (term := _runs_through(node, named))
            and any(
                isinstance(call, ast.Call)
                and isinstance(call.func, ast.Attribute)
                and call.func.attr in _FINDS
                and call.args
                and _is(call.args[0], term)
                for call in ast.walk(node)
            )
        ):
            return True
        if (
            isinstance(node, ast.keyword)
            and (node.arg or "").startswith("stop")
            and _holds(node.value, named)
        ):
            return True
    return False


def _dropped(function: Function) -> Iterator[str]:
    """Yield the stop strings that are filtered out: ``[x for x in until if x != "..."]``."""
    named = _named(function)
    for node in ast.walk(function):
        if isinstance(node, ast.ListComp) and (term := _runs_through(node, named)):
            for test in node.generators[0].ifs:
                if (
                    isinstance(test, ast.Compare)
                    and isinstance(test.ops[0], ast.NotEq)
                    and _is(test.left, term)
                ):
                    yield from (
                        each.value
                        for each in test.comparators
                        if isinstance(each, ast.Constant) and isinstance(each.value, str)
                    )


def _named(function: Function) -> set[str]:
    """Return the variables that hold stop strings: ``until`` and those derived from it."""
    names = {UNTIL}
    assignments = [node for node in ast.walk(function) if isinstance(node, ast.Assign)]
    while True:
        made = {
            target.id
            for node in assignments
            if _holds(node.value, names)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        if made <= names:
            return names
        names |= made


def _holds(value: ast.expr, names: set[str]) -> bool:
    """Return whether an expression uses one of the names, or the key ``until``."""
    return any(
        (isinstance(node, ast.Name) and node.id in names)
        or (isinstance(node, ast.Constant) and node.value == UNTIL)
        for node in ast.walk(value)
    )


def _runs_through(node: Loop, names: set[str]) -> str:
    """Return the variable of a loop over one of the names; "" for another loop."""
    loop = node if isinstance(node, ast.For) else node.generators[0]
    return loop.target.id if isinstance(loop.target, ast.Name) and _holds(loop.iter, names) else ""


def _is(node: ast.expr, name: str) -> bool:
    return isinstance(node, ast.Name) and node.id == name


# ---- texts ---------------------------------------------------------------------------------------


def said(model_type: str, cls: str, stops: Sequence[str], asked: bool) -> str:
    """Return one line about a class that truncates at ``stops``.

    ``asked``: whether the user gave them (``--gen_kwargs``).
    """
    where = " or ".join(map(shown, stops))
    if asked:
        return f"{model_type} ({cls}) cuts every answer at {where}, as --gen_kwargs until says"
    return (
        f"{model_type} ({cls}) cuts every answer at {where}, the default stop string of "
        f"lmms-eval's tasks; text after it, such as the answer after the reasoning, is lost: '-- "
        f"--gen_kwargs until={NEVER}' keeps whole answers, in a run of its own"
    )
