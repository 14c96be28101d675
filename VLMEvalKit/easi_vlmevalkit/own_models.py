"""Loads the user's own model classes as modules of ``vlmeval.vlm``.

They lie in ``VLMEvalKit/vlmeval/vlm/`` unless the environment names another folder.
"""

from __future__ import annotations

import functools
import importlib
import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from easi_eval.backends.vlmevalkit.own_classes import folder
from easi_eval.core.errors import EasiError, worded

PROJECT = Path(__file__).resolve().parents[1]


def checked_folder() -> Path:
    """Return the user's folder.

    Raises:
        EasiError: An ``__init__.py`` would make it a package that hides the installed one.
    """
    where = folder()
    for file in (where / "__init__.py", PROJECT / "vlmeval" / "__init__.py"):
        if file.is_file():
            raise EasiError(
                f"{file} would shadow the installed vlmeval",
                hint="remove it; your files need none",
            )
    return where


def ignored_files(where: Path, package: str) -> list[str]:
    """Return a message for each file below ``where`` whose name the package has a module of.

    Args:
        where: The user's folder.
        package: The folder of the installed ``vlmeval.vlm``.
    """
    return [
        f"{path} is ignored: VLMEvalKit has a vlmeval.vlm.{path.stem} of its own; rename it"
        for path in sorted(where.glob("*"))
        if _installed(path.stem, package)
        and (path.suffix == ".py" or (path / "__init__.py").is_file())
    ]


def _installed(module: str, root: str) -> bool:
    return Path(root, f"{module}.py").is_file() or Path(root, module, "__init__.py").is_file()


def load(name: str) -> type:
    """Return the class ``file.Class`` from one of the user's files (``patches.add_own_folder``).

    Raises:
        EasiError: The file cannot be imported, has no such class, or the class is not a model class
            of VLMEvalKit.
    """
    from vlmeval import api, vlm

    module_name, _, class_name = name.rpartition(".")
    where = folder()
    try:
        module = importlib.import_module(f"vlmeval.vlm.{module_name}")
    except Exception as error:  # whatever the user's code raises while it is imported
        raise EasiError(
            f"your {where / module_name} cannot be imported: {worded(error)}",
            hint=f"fix it; {where / 'README.md'} has an example",
        ) from error
    if not Path(module.__file__ or "").is_relative_to(where):
        raise EasiError(
            f"vlmeval.vlm.{module_name} is VLMEvalKit's own, not your file",
            hint="give your file another name",
        )
    cls = getattr(module, class_name, None)
    if not isinstance(cls, type):
        raise EasiError(
            f"{module.__file__} has no class {class_name}", hint="is it spelt as in the file?"
        )
    if not issubclass(cls, vlm.BaseModel | api.base.BaseAPI):
        raise EasiError(
            f"{class_name} in {module.__file__} is no BaseModel",
            hint=f"from .base import BaseModel; class {class_name}(BaseModel)",
        )
    return cls


def factory(name: str, path: str, arguments: Mapping[str, object]) -> Callable[..., Any]:
    """Return a callable that builds a model of the user's class ``file.Class``.

    ``path`` becomes its ``model_path`` if the constructor takes one.
    """
    cls = load(name)
    given = dict(arguments)
    if (
        path
        and path not in (name, cls.__name__)
        and "model_path" in inspect.signature(cls).parameters
    ):
        given.setdefault("model_path", path)
    return functools.partial(cls, **given)
