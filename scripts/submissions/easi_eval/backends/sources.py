"""What the source of a backend's class says about it: its parents, its defaults, the engine it needs. Nothing is imported."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from .catalog import Package, module_file, parsed
from .literals import evaluate

# The settings that decide how tokens are chosen, by the names that the classes of VLMEvalKit give them.
SAMPLING = ("do_sample", "temperature", "top_p", "top_k", "num_beams", "repetition_penalty", "presence_penalty",
            "max_new_tokens", "max_tokens", "max_completion_tokens")
ENGINES = {"use_vllm": "vllm", "use_lmdeploy": "lmdeploy"}
# Calls that only an engine's way of answering makes; the settings and the trust written into them hold for that way alone.
ENGINE_CALLS = {"LLM": "vllm", "SamplingParams": "vllm", "pipeline": "lmdeploy", "GenerationConfig": "lmdeploy"}
ANSWERING = ("generate", "chat")


@dataclass(frozen=True)
class ClassSource:
    """One class where it is written. ``tree`` is the whole file, ``module`` its dotted name."""

    module: str
    path: Path
    node: ast.ClassDef
    tree: ast.Module

    @property
    def name(self) -> str:
        return self.node.name

    @property
    def init(self) -> ast.FunctionDef | None:
        return next((node for node in self.node.body if isinstance(node, ast.FunctionDef) and node.name == "__init__"), None)


def lineage(package: Package, class_path: str) -> list[ClassSource]:
    """``module.Class`` and its bases inside the same package, nearest first; [] for a class whose file is not found.

    Files of the user's own (``Package.own``) stand beside those of the package's ``vlm``, which win, as for Python.
    """
    return list(_lineage(package, class_path, {class_path}))


def _lineage(package: Package, class_path: str, seen: set[str]) -> Iterator[ClassSource]:
    module, _, name = class_path.rpartition(".")
    path = source_file(package, module)
    if path is None:
        return
    tree = parsed(path)
    cls = next((node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name), None)
    if cls is None:      # a package that only passes the class on
        origins = [_origin(tree, name, module, path)]
    else:
        yield ClassSource(module, path, cls, tree)
        origins = [_base(tree, base, module, path) for base in cls.bases]
    for origin in origins:
        if origin not in seen and origin.split(".")[0] == module.split(".")[0]:
            seen.add(origin)
            yield from _lineage(package, origin, seen)


def source_file(package: Package, module: str) -> Path | None:
    """The file of a module of the package or of the user's own models beside it, else where Python would find it."""
    top, *rest = module.split(".")
    if top != package.kind.package:
        return module_file(module)
    bases = [package.root.joinpath(*rest)]
    if package.own is not None and len(rest) > 1 and rest[0] == "vlm":
        bases.append(package.own.joinpath(*rest[1:]))
    return next((path for base in bases for path in (base / "__init__.py", base.with_name(f"{base.name}.py")) if path.is_file()), None)


def _base(tree: ast.Module, base: ast.expr, module: str, path: Path) -> str:
    if isinstance(base, ast.Attribute):      # vlm.BaseModel: where vlm is from, then its BaseModel
        return f"{_base(tree, base.value, module, path)}.{base.attr}"
    return _origin(tree, base.id, module, path) if isinstance(base, ast.Name) else ""


def _origin(tree: ast.Module, name: str, module: str, path: Path) -> str:
    """Where a file has ``name`` from, as a dotted path."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    parents = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
                    above = parents[:len(parents) - node.level + 1] if node.level else []
                    return ".".join([*above, *filter(None, [node.module]), alias.name])
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if (alias.asname or alias.name.partition(".")[0]) == name:
                    return alias.name if alias.asname else name
    return f"{module}.{name}"


# ---- arguments ------------------------------------------------------------------------------------------------------

@dataclass(frozen=True)
class Signature:
    """What ``__init__`` takes by name. ``defaults``: those of its values that are literal; ``open``: it takes any other name."""

    names: frozenset[str]
    required: frozenset[str]
    defaults: Mapping[str, object]
    open: bool


def signature(classes: list[ClassSource]) -> Signature:
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
        names |= {arg.arg for arg in (*init.args.posonlyargs, *init.args.args, *init.args.kwonlyargs)} - {"self"}
        if not _hands_on(init):
            return Signature(frozenset(names), frozenset(required), defaults, init.args.kwarg is not None)
    return Signature(frozenset(names), frozenset(required), defaults, open=not classes)


def _arguments(init: ast.FunctionDef) -> tuple[dict[str, object], set[str]]:
    """The literal defaults of a function, and the names that have no default at all."""
    spec = init.args
    by_place = [*spec.posonlyargs, *spec.args]
    pairs = [*zip(by_place[len(by_place) - len(spec.defaults):], spec.defaults, strict=True),
             *((arg, node) for arg, node in zip(spec.kwonlyargs, spec.kw_defaults, strict=True) if node is not None)]
    given = {arg.arg for arg, _ in pairs}
    needed = {arg.arg for arg in (*by_place, *spec.kwonlyargs)} - given - {"self"}
    return {arg.arg: value for arg, node in pairs if _plain(value := evaluate(node, {}))}, needed


def _of_kwargs(init: ast.FunctionDef) -> dict[str, object]:
    """Defaults of what comes through ``**kwargs``: ``kwargs.get("x", 1)``, ``kwargs.pop(...)`` and ``{"x": 1}.update(kwargs)``."""
    if init.args.kwarg is None:
        return {}
    name = init.args.kwarg.arg
    found: dict[str, object] = {}
    tables: dict[str, dict[str, object]] = {}
    passed: dict[str, object] = {}      # what generates; a plain get may only size something
    for node in ast.walk(init):
        match node:
            case ast.Assign(targets=[ast.Name(id=target)], value=ast.Dict() | ast.Call() as value):
                table = evaluate(value, {})
                if isinstance(table, dict):
                    tables[target] = table
            case ast.Call(func=ast.Attribute(value=ast.Name(id=holder), attr="get" | "pop"), args=[ast.Constant(value=str(key)), default]) if holder == name:
                found[key] = evaluate(default, {})
            case ast.Call(func=ast.Attribute(value=ast.Name(id=holder), attr="update"), args=[ast.Name(id=given)]) if given == name:
                passed |= tables.get(holder, {})
    return {key: value for key, value in (found | passed).items() if _plain(value)}


def _plain(value: object) -> bool:
    return value is None or isinstance(value, bool | int | float | str)


def _hands_on(init: ast.FunctionDef) -> bool:
    """Whether ``super().__init__(..., **kwargs)`` is called with the function's own ``**kwargs``."""
    if init.args.kwarg is None:
        return False
    calls = (node for node in ast.walk(init) if isinstance(node, ast.Call) and ast.unparse(node.func) == "super().__init__")
    return any(word.arg is None and ast.unparse(word.value) == init.args.kwarg.arg for call in calls for word in call.keywords)


# ---- what its code does ---------------------------------------------------------------------------------------------

def attribute(classes: list[ClassSource], name: str) -> object:
    """A literal attribute of the class or of the nearest base that has it, else None."""
    for source in classes:
        for node in source.node.body:
            targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) and node.value else []
            if any(isinstance(target, ast.Name) and target.id == name for target in targets):
                value = evaluate(node.value, {})
                return value if _plain(value) else None
    return None


def engine(classes: list[ClassSource], arguments: Mapping[str, object]) -> tuple[str, str]:
    """(package, argument) of the engine that this class needs under these arguments; the argument is "" if none turns it off.

    ("", "") where it runs on transformers.
    """
    for package in ENGINES.values():
        if any(_always_imports(source.init, package) for source in classes[:1] if source.init is not None):
            return package, ""
    effective = {**signature(classes).defaults, **arguments}
    return next(((package, name) for name, package in ENGINES.items() if effective.get(name) is True), ("", ""))


def _always_imports(init: ast.FunctionDef, package: str) -> bool:
    for statement in init.body:
        if isinstance(statement, ast.ImportFrom) and (statement.module or "").split(".")[0] == package:
            return True
        if isinstance(statement, ast.Import) and any(alias.name.split(".")[0] == package for alias in statement.names):
            return True
    return False


def hard_coded(classes: list[ClassSource], engine_name: str) -> dict[str, object]:
    """Sampling settings written into the class's calls to the model; of several different ones all, joined by "/"."""
    found: dict[str, list[object]] = {}
    for call in _calls(classes):
        name = _called(call)
        if ENGINE_CALLS.get(name) == engine_name if engine_name else name in ANSWERING:
            for word in call.keywords:
                if word.arg in SAMPLING and isinstance(word.value, ast.Constant) and word.value.value is not None:
                    found.setdefault(word.arg, []).append(word.value.value)
    unique = {name: list(dict.fromkeys(values)) for name, values in found.items()}
    return {name: values[0] if len(values) == 1 else "/".join(map(str, values)) for name, values in unique.items()}


def trusts_remote_code(classes: list[ClassSource], engine_name: str) -> bool:
    """Whether the class writes ``trust_remote_code=True`` into what it loads, or has it as its default."""
    for source in classes:
        for node in _code(source):
            if isinstance(node, ast.Call) and (_called(node) != "LLM" or engine_name == "vllm"):
                words = {word.arg: word.value for word in node.keywords}
                if _called(node) in ("setdefault", "pop", "get") and len(node.args) == 2:
                    words |= {node.args[0].value: node.args[1]} if isinstance(node.args[0], ast.Constant) else {}
                if _true(words.get("trust_remote_code")):
                    return True
            elif isinstance(node, ast.Dict):
                if any(isinstance(key, ast.Constant) and key.value == "trust_remote_code" and _true(value) for key, value in zip(node.keys, node.values, strict=True)):
                    return True
    return False


def asks_flash_attention(classes: list[ClassSource]) -> bool:
    """Whether ``flash_attention_2`` is written into the class."""
    return any(isinstance(node, ast.Constant) and node.value == "flash_attention_2" for source in classes for node in _code(source))


def _code(source: ClassSource) -> Iterator[ast.AST]:
    """The class, and the functions and statements of its file outside other classes. The root of all classes loads nothing."""
    if source.name == "BaseModel":
        return
    for statement in source.tree.body:
        if statement is source.node or not isinstance(statement, ast.ClassDef):
            yield from ast.walk(statement)


def _calls(classes: list[ClassSource]) -> Iterator[ast.Call]:
    for source in classes:
        yield from (node for node in ast.walk(source.node) if isinstance(node, ast.Call))


def _called(call: ast.Call) -> str:
    function = call.func
    return function.attr if isinstance(function, ast.Attribute) else function.id if isinstance(function, ast.Name) else ""


def _true(node: ast.expr | None) -> bool:
    return isinstance(node, ast.Constant) and node.value is True
