"""Model arguments as text: ``name=value,...``, with quotes and escaped commas."""

from __future__ import annotations

import ast
from collections.abc import Mapping

from .errors import EasiError


def parse_model_args(text: str) -> dict[str, str]:
    """Parse ``a=b,c={"x":1,"y":2}`` into {"a": "b", "c": '{"x":1,"y":2}'}; values stay text.

    Commas inside braces, brackets, parentheses and quotes belong to the value, as do further ``=``.
    A trailing comma is allowed, as in lmms-eval's own parser.

    Raises:
        EasiError: A part has no ``=``, a key is empty or repeated, or a bracket or quote is not
            closed.
    """
    hint = (
        "write key=value,key=value, for example "
        "pretrained=Qwen/Qwen3-VL-8B-Instruct,attn_implementation=sdpa"
    )
    arguments: dict[str, str] = {}
    for part in _split_commas(text):
        if not part.strip():
            continue
        key, equals, value = part.partition("=")
        key = key.strip()
        if not equals:
            raise EasiError(f"--model-args: {part.strip()!r} has no '='", hint=hint)
        if not key:
            raise EasiError(f"--model-args: {part.strip()!r} has no name before '='", hint=hint)
        if key in arguments:
            raise EasiError(f"--model-args: {key} is given twice", hint="keep one of them")
        arguments[key] = value.strip()
    return arguments


def format_model_args(arguments: Mapping[str, str]) -> str:
    """Invert ``parse_model_args``; a value that contains a separating comma is quoted."""
    return ",".join(f"{key}={_quoted(value)}" for key, value in arguments.items())


def unquoted(value: str) -> str:
    """Return a value without surrounding quotes, which a path with commas needs."""
    return value[1:-1] if len(value) > 1 and value[0] in "\"'" and value[-1] == value[0] else value


def _quoted(value: str) -> str:
    try:
        if len(_split_commas(value)) < 2:
            return value
    except EasiError:
        # In a path, a quote or bracket that is never closed is an ordinary character.
        pass
    quote = '"' if "'" in value else "'"
    return f"{quote}{value}{quote}"


def _split_commas(text: str) -> list[str]:
    """Split at the commas outside brackets and quotes."""
    closing = {"{": "}", "[": "]", "(": ")"}
    parts, start, awaited, quote, before = [], 0, [], "", "="
    for at, char in enumerate(text):
        if quote:
            if char == quote and text[at - 1] != "\\":
                quote = ""
        # Only a quote at the beginning of a value opens a quotation; elsewhere it is an apostrophe.
        elif char in "\"'" and before in "=,:{[(":
            quote = char
        elif char in closing:
            awaited.append(closing[char])
        elif awaited and char == awaited[-1]:
            awaited.pop()
        elif char == "," and not awaited:
            parts.append(text[start:at])
            start = at + 1
        if not char.isspace():
            before = char
    if quote or awaited:
        raise EasiError(
            f"--model-args: {quote or awaited[-1]} missing at the end of {text[start:]!r}",
            hint="close it, and put the whole value in single quotes "
            "so that the shell leaves it alone",
        )
    return [*parts, text[start:]]


def literal(text: str) -> object:
    """Return the value of a ``--model-args`` part: a Python or JSON literal, else the text."""
    words = {"true": True, "false": False, "null": None, "none": None}
    if text.lower() in words:
        return words[text.lower()]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def check_number(name: str, value: str, default: object, whose: str) -> None:
    """Refuse a text where the class's own default is a number.

    ``batch_size`` is left out, because backends accept words such as ``auto`` there.

    Raises:
        EasiError: If the value is not a number.
    """
    if (
        isinstance(default, int | float)
        and not isinstance(default, bool)
        and not name.startswith("batch_size")
        and isinstance(literal(value), str)
    ):
        raise EasiError(
            f"--model-args {name}={value} is not a number",
            hint=f"{whose} has {name}={default} by default",
        )
