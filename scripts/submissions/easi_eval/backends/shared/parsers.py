"""A backend's own command line, read from its source without importing the package."""

from __future__ import annotations

import argparse
import ast
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from ...core.errors import EasiError
from ...core.suggest import nearest
from .catalog import parsed

# Types that the copied parser converts to. A value of any other type is left to the backend.
TYPES = {"int": int, "float": float, "str": str}


class _Replica(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise EasiError(
            f"after --: {message.removeprefix('argument ')}",
            hint=f"these arguments go to {self.prog}'s own command line",
        )


def read_parser(path: Path, function: str, backend: str) -> argparse.ArgumentParser:
    """Return a parser with the options that ``function`` in the file ``path`` adds.

    Options that were not given are absent from its result. The parser raises EasiError instead of
    leaving the program.

    Raises:
        EasiError: If the file cannot be read.
    """
    replica = _Replica(prog=backend, add_help=False, argument_default=argparse.SUPPRESS)
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.FunctionDef) and node.name == function:
            for call in ast.walk(node):
                if isinstance(call, ast.Call) and ast.unparse(call.func).endswith(".add_argument"):
                    _add(replica, call)
    return replica


def _add(replica: argparse.ArgumentParser, call: ast.Call) -> None:
    names = [
        word.value
        for word in call.args
        if isinstance(word, ast.Constant) and isinstance(word.value, str)
    ]
    if not names or not names[0].startswith("-"):
        return
    options: dict[str, Any] = {}
    computed: set[str] = set()
    for keyword in call.keywords:
        if keyword.arg == "type":
            options["type"] = TYPES.get(ast.unparse(keyword.value), str)
        elif keyword.arg in ("action", "nargs", "choices", "dest", "const"):
            try:
                options[keyword.arg] = _value(keyword.value)
            except (ValueError, TypeError):  # computed at run time: only the backend's parser knows
                computed.add(keyword.arg)
    if computed & {"action", "nargs"}:  # any number of words may follow
        options["nargs"] = "*"
    replica.add_argument(*names, **options)


def _value(node: ast.expr) -> Any:
    """Return the value written in a call: a literal, or a constant of argparse (``REMAINDER``).

    Raises:
        ValueError: If it is neither.
        TypeError: If it is neither.
    """
    own = getattr(argparse, ast.unparse(node).rpartition(".")[2], None)
    return ast.literal_eval(node) if own is None else own


def options_of(parser: argparse.ArgumentParser) -> list[str]:
    """Return all option strings of a parser."""
    return [name for action in parser._actions for name in action.option_strings]


def check_words(
    words: Sequence[str],
    parser: argparse.ArgumentParser,
    ours: Mapping[str, str],
    without_effect: Mapping[str, str],
) -> dict[str, object]:
    """Return what ``words`` set, by the parser's names (``dest``).

    Args:
        words: The arguments after ``--``.
        parser: The backend's parser.
        ours: Options that this program sets, each with its own option to use instead.
        without_effect: Options that would do nothing here, each with the reason.

    Raises:
        EasiError: For options in either mapping, and for words that the parser does not know.
    """
    found, unknown = parser.parse_known_args(list(words))
    given = vars(found)
    if unknown:
        near = [
            f"{word} (did you mean {match[0]}?)"
            if (match := nearest(word.partition("=")[0], options_of(parser), n=1))
            else word
            for word in unknown
        ]
        raise EasiError(
            f"after --: {parser.prog} knows no {', '.join(near)}",
            hint=f"arguments after a bare -- go to {parser.prog}'s own command line",
        )
    for name in given:
        word = next((word for word in words if _names(parser, word) == name), f"--{name}")
        if name in ours:
            raise EasiError(f"after --: {word} is set by this program", hint=f"use {ours[name]}")
        if name in without_effect:
            raise EasiError(
                f"after --: {word} has no effect here: {without_effect[name]}",
                hint=f"leave out {word}",
            )
    return given


def _names(parser: argparse.ArgumentParser, word: str) -> str | None:
    """Return the ``dest`` of the option that a word names."""
    option = word.partition("=")[0]
    return next(
        (action.dest for action in parser._actions if option in action.option_strings), None
    )
