"""What the generic class cannot load, told from ``config.json`` before anything is fetched."""

from __future__ import annotations

import ast
import functools
from collections.abc import Mapping

from ...core.errors import EasiError
from ...core.libraries import module_file
from ..shared.catalog import parsed

AUTO_CLASS = "AutoModelForImageTextToText"
MODELING = "transformers.models.auto.modeling_auto"
NAMES = "MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES"


def refuse_unloadable(
    name: str, config: Mapping[str, object], trusted: bool, otherwise: str
) -> None:
    """Refuse a checkpoint that the generic class cannot load.

    Args:
        name: The checkpoint's name, for messages.
        config: Its ``config.json``; nothing is refused if it is empty.
        trusted: Whether ``--trust-remote-code`` was given.
        otherwise: The hint where that option does not help.

    Raises:
        EasiError: If the checkpoint needs its own Python code, or is not a model of images and
            text.
    """
    kind = config.get("model_type")
    if kind is None or kind in native_types():
        return
    remote = config.get("auto_map")
    remote = remote if isinstance(remote, Mapping) else {}
    if AUTO_CLASS in remote:
        if not trusted:
            raise EasiError(
                f"{name} brings its own Python code (model_type {kind}), which would run on "
                "this machine",
                hint="read it, then add --trust-remote-code",
            )
        return
    if remote:
        classes = (
            ", ".join(sorted(word for word in remote if word.startswith("AutoModel")))
            or "other parts"
        )
        raise EasiError(
            f"{name} brings its own Python code (model_type {kind}) for {classes}, and the "
            f"generic class loads {AUTO_CLASS}",
            hint=otherwise,
        )
    raise EasiError(
        f"{name} is of model_type {kind}, which the installed transformers does not load as a "
        "model of images and text",
        hint=otherwise,
    )


@functools.cache
def native_types() -> frozenset[str]:
    """Return the model types that the installed transformers loads for images and text.

    The list is read from the source of transformers.

    Raises:
        EasiError: If the source has no such list.
    """
    path = module_file(MODELING)
    for node in parsed(path).body if path is not None else ():
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.Call(args=[pairs])) if (
                name == NAMES
            ):
                return frozenset(dict(ast.literal_eval(pairs)))
    raise EasiError(f"the installed transformers has no {NAMES}", hint="run: bash scripts/setup.sh")
