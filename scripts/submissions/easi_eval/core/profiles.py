"""The two sets of libraries ("profiles") that a model can be loaded with.

The base has transformers 4. Profile 5 has transformers 5: an environment in a folder of the base's,
whose own packages come first and the base's after them. ``scripts/setup`` makes both.
"""

from __future__ import annotations

import ast
import functools
import sys
from collections.abc import Mapping
from pathlib import Path

from .errors import EasiError
from .libraries import module_file

BASE, NEWER = "", "5"
_SITE = Path("lib", f"python{sys.version_info[0]}.{sys.version_info[1]}", "site-packages")


def interpreter(profile: str) -> str:
    """Return the Python that has the libraries of a profile."""
    return str(_folder(profile) / "bin" / "python") if profile else sys.executable


def own_packages(profile: str) -> tuple[str, ...]:
    """Return the folders that a profile adds in front of this process's path."""
    return (str(_folder(profile) / _SITE),) if profile else ()


def image_text_types(profile: str) -> Mapping[str, str]:
    """Return the model types that transformers loads for images and text, from its source.

    Each has the name of its class. Empty if the profile has no transformers.

    Raises:
        EasiError: The source has no such list.
    """
    return _table(profile, "modeling_auto", "MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES")


def config_types(profile: str) -> Mapping[str, str]:
    """Return the model types whose configs transformers reads, as ``image_text_types`` does."""
    module = "auto_mappings" if profile else "configuration_auto"
    return _table(profile, module, "CONFIG_MAPPING_NAMES")


def processors(profile: str) -> frozenset[str]:
    """Return the classes of the processors that transformers has, as ``image_text_types`` does."""
    module = "auto_mappings" if profile else "processing_auto"
    return frozenset(_table(profile, module, "PROCESSOR_MAPPING_NAMES").values())


@functools.cache
def _table(profile: str, module: str, table: str) -> Mapping[str, str]:
    where = ("transformers", "models", "auto", module)
    path = module_file(".".join(where)) if not profile else None
    for packages in own_packages(profile):
        path = Path(packages, *where).with_suffix(".py")
    if path is None or not path.is_file():
        return {}
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.Call(args=[pairs])) if (
                name == table
            ):
                return dict(ast.literal_eval(pairs))
    raise EasiError(f"the installed transformers has no {table}", hint="run: bash scripts/setup.sh")


def _folder(profile: str) -> Path:
    """Return the environment of a profile other than the base."""
    return Path(sys.prefix, f"profile{profile}")
