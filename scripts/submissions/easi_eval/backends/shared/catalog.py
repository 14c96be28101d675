"""The models, tasks and datasets that a backend's package offers, read without importing it."""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.util
import json
import os
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ...core.backend_facts import BackendFacts
from ...core.errors import EasiError
from ...core.libraries import module_file
from ...core.suggest import did_you_mean
from .stand_ins import MARK, evaluate, is_known, run

SOURCES = (".py", ".yaml", ".yml", ".json")
PLUGIN_GROUP = "lmms_eval.models"


@dataclass(frozen=True)
class Entry:
    """One name of VLMEvalKit's registry.

    Attributes:
        name: The name.
        cls: The class's own name, "" where the registry computes it.
        kwargs: The literal arguments as JSON values.
        model_path: The argument of that name, if it is a string.
        unread: Names of the arguments that are not literal.
        api: Whether the model asks a server and loads no weights.
    """

    name: str
    cls: str
    kwargs: dict[str, object] = field(default_factory=dict)
    model_path: str | None = None
    unread: tuple[str, ...] = ()
    api: bool = False


@dataclass(frozen=True)
class LmmsModel:
    """One name of lmms-eval's registry.

    ``name`` may be an alias of ``model_id``. ``simple`` and ``chat`` are paths of classes, "" where
    there is none.
    """

    name: str
    model_id: str
    simple: str = ""
    chat: str = ""

    @property
    def cls(self) -> str:
        """The class that lmms-eval uses unless ``--force_simple`` is given."""
        return self.chat or self.simple


@dataclass(frozen=True)
class LmmsModels:
    """The models of lmms-eval by name.

    ``unread`` lists plug-ins whose model names cannot be read without importing them; a name that
    is missing here may be one of theirs.
    """

    models: Mapping[str, LmmsModel]
    unread: tuple[str, ...] = ()


@dataclass(frozen=True)
class Package:
    """Where a backend's package is.

    Attributes:
        kind: The backend.
        root: The folder that holds ``__init__.py``.
        checkout: Whether it is not an installed wheel, so that its files may change without a
            change of version.
        own: The folder of the user's model files, which the driver appends to the path of the
            package's ``vlm``.
    """

    kind: BackendFacts
    root: Path
    checkout: bool
    own: Path | None = None

    @property
    def version(self) -> str:
        """The declared version; a checkout's is followed by ``+`` and a digest of its sources."""
        return (
            f"{_declared(self)}+{content_digest(self.root)}" if self.checkout else _declared(self)
        )


def locate(kind: BackendFacts, backend_path: Path | None = None) -> Package:
    """Find a backend's package.

    Args:
        kind: The backend.
        backend_path: Root of a checkout, which holds the package directly or in ``src``, or the
            package itself. By default the package is searched where Python would import it from.

    Raises:
        EasiError: It is not there.
    """
    if backend_path is not None:
        for root in (
            backend_path / kind.package,
            backend_path / "src" / kind.package,
            backend_path,
        ):
            if root.name == kind.package and (root / "__init__.py").is_file():
                return Package(kind, root.resolve(), checkout=True)
        raise EasiError(
            f"--backend-path {backend_path} has no {kind.package} package",
            hint=f"give the folder that contains {kind.package}/__init__.py",
        )
    spec = importlib.util.find_spec(kind.package)
    # The origin is None for an empty folder of that name, which Python takes for a namespace.
    if spec is None or spec.origin is None:
        raise EasiError(
            f"the backend {kind.name} is not installed", hint="run: bash scripts/setup.sh"
        )
    root = Path(spec.origin).resolve().parent
    return Package(kind, root, checkout=not {"site-packages", "dist-packages"} & set(root.parts))


def _declared(package: Package) -> str:
    if not package.checkout:
        from importlib.metadata import PackageNotFoundError, version

        try:
            return version(package.kind.distribution)
        except PackageNotFoundError:
            return "0"
    for file in (
        package.root.parent / "pyproject.toml",
        package.root.parent / "setup.py",
        package.root / "__init__.py",
    ):
        if file.is_file():
            found = re.search(
                r"""^\s*(?:__version__|version)\s*=\s*["']([^"']+)["']""",
                file.read_text(encoding="utf-8"),
                re.MULTILINE,
            )
            if found:
                return found[1]
    return "0"


@functools.cache  # half a second for a big checkout, and asked for several times in a run
def content_digest(root: Path) -> str:
    """12 hex digits over the names and contents of all sources of a package."""
    total = hashlib.sha256()
    for path in _walk(root, SOURCES):
        total.update(f"{path.relative_to(root)}\0".encode(errors="surrogateescape"))
        total.update(hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()[:12]


# ---- VLMEvalKit


def vlmeval_entries(package: Package) -> Mapping[str, Entry]:
    """The registry ``supported_VLM`` of ``config.py``, by name and in its order."""
    return _entries(package.root / "config.py")


@functools.cache  # asked for several times in a run, as _read_lmms_models is
def _entries(path: Path) -> Mapping[str, Entry]:
    registry = _module(path).get("supported_VLM")
    if not isinstance(registry, dict) or not registry:
        raise EasiError(f"{path} has no supported_VLM", hint="is this a VLMEvalKit checkout?")
    return {
        name: _entry(name, value)
        for name, value in registry.items()
        if isinstance(name, str) and MARK not in name
    }


def _entry(name: str, value: object) -> Entry:
    if not isinstance(value, functools.partial):
        return Entry(name, "")
    # A class that the file defines itself has no module here.
    module, _, cls = str(getattr(value.func, "__name__", value.func)).rpartition(".")
    kwargs = {
        key: json.loads(json.dumps(word)) for key, word in value.keywords.items() if is_known(word)
    }
    path = kwargs.get("model_path")
    return Entry(
        name,
        cls.removeprefix(MARK),
        kwargs,
        path if isinstance(path, str) else None,
        tuple(key for key in value.keywords if key not in kwargs),
        "api" in module.split("."),
    )


# ---- lmms-eval


def lmms_models(package: Package) -> LmmsModels:
    """All names that ``--model`` accepts: lmms-eval's types and aliases, and those of plug-ins.

    Where both define a name, the installed plug-in wins.
    """
    models = {model.name: model for model in _read_lmms_models(package.root / "models/__init__.py")}
    plugins, unread = _plugins()
    return LmmsModels(models | plugins, unread)


@functools.cache
def _read_lmms_models(path: Path) -> list[LmmsModel]:
    module = _module(path)
    simple, chat = (
        _classes(module.get(name), kind)
        for name, kind in (
            ("AVAILABLE_SIMPLE_MODELS", "simple"),
            ("AVAILABLE_CHAT_TEMPLATE_MODELS", "chat"),
        )
    )
    if not simple and not chat:
        raise EasiError(
            f"{path} lists no models", hint="is this an lmms-eval checkout of version 0.5 or newer?"
        )
    aliases = module.get("MODEL_ALIASES")
    return [
        model
        for model_id in sorted({*simple, *chat})
        for model in _named(
            model_id,
            simple.get(model_id, ""),
            chat.get(model_id, ""),
            aliases.get(model_id, ()) if isinstance(aliases, dict) else (),
        )
    ]


def _classes(table: object, kind: str) -> dict[str, str]:
    if not isinstance(table, dict):
        return {}
    return {
        model: name if "." in name else f"lmms_eval.models.{kind}.{model}.{name}"
        for model, name in table.items()
        if isinstance(model, str) and isinstance(name, str)
    }


def _named(model_id: str, simple: str, chat: str, aliases: Iterable[str]) -> list[LmmsModel]:
    return [LmmsModel(name, model_id, simple, chat) for name in dict.fromkeys((model_id, *aliases))]


def _plugins() -> tuple[dict[str, LmmsModel], tuple[str, ...]]:
    """Model types of installed plug-ins, and the plug-ins that could not be read.

    They are read from the ``ModelManifest(...)`` calls in the modules of the entry points.
    """
    from importlib.metadata import entry_points

    found: dict[str, LmmsModel] = {}
    unread = (
        [f"LMMS_EVAL_PLUGINS={os.environ['LMMS_EVAL_PLUGINS']}"]
        if os.environ.get("LMMS_EVAL_PLUGINS")
        else []
    )
    for point in entry_points(group=PLUGIN_GROUP):
        path = module_file(point.module)
        models = read_manifests(path) if path else []
        found.update({model.name: model for model in models})
        if not models:
            unread.append(point.name)
    return found, tuple(unread)


def read_manifests(path: Path) -> list[LmmsModel]:
    """The models of every literal ``ModelManifest(...)`` call in a file."""
    models = []
    for node in ast.walk(parsed(path)):
        if (
            isinstance(node, ast.Call)
            and ast.unparse(node.func).rpartition(".")[2] == "ModelManifest"
        ):
            names = [
                *("model_id", "simple_class_path", "chat_class_path", "aliases")[: len(node.args)],
                *(word.arg for word in node.keywords),
            ]
            values = dict(
                zip(
                    names,
                    (
                        evaluate(value)
                        for value in (*node.args, *(word.value for word in node.keywords))
                    ),
                    strict=True,
                )
            )
            model_id = values.get("model_id")
            if isinstance(model_id, str):
                simple, chat = (
                    value if isinstance(value := values.get(name), str) else ""
                    for name in ("simple_class_path", "chat_class_path")
                )
                aliases = values.get("aliases")
                models += _named(
                    model_id,
                    simple,
                    chat,
                    aliases if isinstance(aliases, tuple | list) else (),
                )
    return models


# ---- both


def check_known(option: str, name: str, names: Iterable[str], otherwise: str) -> None:
    """Raise EasiError, with the nearest known name, if the backend does not have ``name``."""
    names = list(names)
    if name not in names:
        raise EasiError(
            f"{option} {name}: no such name in this backend",
            hint=did_you_mean(name, names, otherwise),
        )


def _walk(root: Path, endings: tuple[str, ...]) -> Iterator[Path]:
    """The files below ``root`` with one of these endings, in a fixed order."""
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(name for name in folders if name != "__pycache__")
        yield from (Path(folder, name) for name in sorted(files) if name.endswith(endings))


def parsed(path: Path) -> ast.Module:
    """The syntax tree of a backend's file; EasiError if it cannot be read."""
    try:
        with warnings.catch_warnings():
            # The backend's own invalid string escapes; the user cannot do anything about them.
            warnings.simplefilter("ignore")
            return ast.parse(path.read_text(encoding="utf-8"))
    except (OSError, SyntaxError, ValueError) as error:
        raise EasiError(
            f"{path} cannot be read: {error}",
            hint="is the backend complete? bash scripts/setup.sh installs it",
        ) from error


def _module(path: Path) -> dict[str, object]:
    """The names of a file that was run with stand-ins for its imports."""
    tree = parsed(path)
    try:
        return run(tree)
    except (Exception, SystemExit) as error:
        raise EasiError(
            f"{path} cannot be read: {type(error).__name__}: {error}",
            hint="it is run without the modules that it imports, and must not need them",
        ) from error
