"""What the code of a VLMEvalKit class does, read from its source without importing it.

That is the engine it needs, sampling settings it hard-codes, and whether it lets remote code run.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence

from ...core.model import ModelChoice
from ..shared.class_source import ClassSource
from ..shared.signature import is_plain, signature
from ..shared.stand_ins import evaluate

# The settings that decide how tokens are sampled, under the names used by VLMEvalKit's classes.
SAMPLING = (
    "do_sample",
    "temperature",
    "top_p",
    "top_k",
    "num_beams",
    "repetition_penalty",
    "presence_penalty",
    "max_new_tokens",
    "max_tokens",
    "max_completion_tokens",
)
ENGINES = {"use_vllm": "vllm", "use_lmdeploy": "lmdeploy"}
# Calls that are made only when an engine answers. What is written into them (sampling settings,
# trust_remote_code) counts only then.
ENGINE_CALLS = {
    "LLM": "vllm",
    "SamplingParams": "vllm",
    "pipeline": "lmdeploy",
    "GenerationConfig": "lmdeploy",
}
ANSWERING = ("generate", "chat")


def attribute(classes: Sequence[ClassSource], name: str) -> object:
    """Return a literal attribute of the class or of the nearest base that has it, else None."""
    for source in classes:
        for node in source.node.body:
            if isinstance(node, ast.Assign):
                targets, given = node.targets, node.value
            elif isinstance(node, ast.AnnAssign) and node.value:
                targets, given = [node.target], node.value
            else:
                continue
            if any(isinstance(target, ast.Name) and target.id == name for target in targets):
                value = evaluate(given)
                return value if is_plain(value) else None
    return None


def engine(classes: Sequence[ClassSource], arguments: Mapping[str, object]) -> tuple[str, str]:
    """Return (package, argument) of the engine that the class needs with these arguments.

    ``argument`` is the one that turns the engine off, or "" if there is none. The result is ("",
    "") if the class runs on transformers.
    """
    for package in ENGINES.values():
        if any(
            _always_imports(source.init, package)
            for source in classes[:1]
            if source.init is not None
        ):
            return package, ""
    effective = {**signature(classes).defaults, **arguments}
    return next(
        ((package, name) for name, package in ENGINES.items() if effective.get(name) is True),
        ("", ""),
    )


def _always_imports(init: ast.FunctionDef, package: str) -> bool:
    for statement in init.body:
        if (
            isinstance(statement, ast.ImportFrom)
            and (statement.module or "").split(".")[0] == package
        ):
            return True
        if isinstance(statement, ast.Import) and any(
            alias.name.split(".")[0] == package for alias in statement.names
        ):
            return True
    return False


def hard_coded(classes: Sequence[ClassSource], engine_name: str) -> dict[str, object]:
    """Return the sampling settings that the class writes into its calls to the model.

    Several different values of one setting are joined by "/". ``engine_name`` selects the calls to
    that engine; "" selects those to transformers.
    """
    found: dict[str, list[object]] = {}
    for call in _calls(classes):
        name = _called(call)
        if ENGINE_CALLS.get(name) == engine_name if engine_name else name in ANSWERING:
            for word in call.keywords:
                if (
                    word.arg in SAMPLING
                    and isinstance(word.value, ast.Constant)
                    and word.value.value is not None
                ):
                    found.setdefault(word.arg, []).append(word.value.value)
    unique = {name: list(dict.fromkeys(values)) for name, values in found.items()}
    return {
        name: values[0] if len(values) == 1 else "/".join(map(str, values))
        for name, values in unique.items()
    }


def trusts_remote_code(classes: Sequence[ClassSource], engine_name: str) -> bool:
    """Return whether the class sets ``trust_remote_code=True``, in a call or as a default."""
    for source in classes:
        for node in source.code():
            if isinstance(node, ast.Call) and (_called(node) != "LLM" or engine_name == "vllm"):
                words: dict[object, ast.expr] = {word.arg: word.value for word in node.keywords}
                if _called(node) in ("setdefault", "pop", "get") and len(node.args) == 2:
                    words |= (
                        {node.args[0].value: node.args[1]}
                        if isinstance(node.args[0], ast.Constant)
                        else {}
                    )
                if _true(words.get("trust_remote_code")):
                    return True
            elif isinstance(node, ast.Dict) and any(
                isinstance(key, ast.Constant) and key.value == "trust_remote_code" and _true(value)
                for key, value in zip(node.keys, node.values, strict=True)
            ):
                return True
    return False


def asks_flash_attention(classes: Sequence[ClassSource]) -> bool:
    """Return whether ``flash_attention_2`` is written into the class."""
    return any(
        isinstance(node, ast.Constant) and node.value == "flash_attention_2"
        for source in classes
        for node in source.code()
    )


def fails_to_parse(classes: Sequence[ClassSource]) -> bool:
    """Return whether the class parses answers without their prompt, which transformers 5 refuses.

    Only transformers 5 has ``parse_response``, so such a class is one for its models.
    """
    return any(
        _called(call) == "parse_response" and all(each.arg != "prefix" for each in call.keywords)
        for call in _calls(classes)
    )


def _calls(classes: Sequence[ClassSource]) -> Iterator[ast.Call]:
    for source in classes:
        yield from (node for node in ast.walk(source.node) if isinstance(node, ast.Call))


def _called(call: ast.Call) -> str:
    function = call.func
    return (
        function.attr
        if isinstance(function, ast.Attribute)
        else function.id
        if isinstance(function, ast.Name)
        else ""
    )


def _true(node: ast.expr | None) -> bool:
    return isinstance(node, ast.Constant) and node.value is True


def native_video(model: ModelChoice, classes: Sequence[ClassSource]) -> bool:
    """Return whether VLMEvalKit gives the class whole videos instead of frames."""
    if model.served:
        return bool({**signature(classes).defaults, **model.arguments}.get("video_llm"))
    return attribute(classes, "VIDEO_LLM") is True
