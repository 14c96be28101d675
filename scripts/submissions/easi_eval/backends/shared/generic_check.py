"""What the generic class of a backend cannot load, told from ``config.json``."""

from __future__ import annotations

from collections.abc import Mapping

from ...core.errors import EasiError
from ...core.profiles import BASE, NEWER, image_text_types
from ...core.suggest import nearest

AUTO_CLASS = "AutoModelForImageTextToText"
ALIKE = 0.75  # similarity (difflib) from which one type is another form of the same family


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
    known = {*image_text_types(BASE), *image_text_types(NEWER)}
    kind = config.get("model_type")
    remote = config.get("auto_map")
    remote = remote if isinstance(remote, Mapping) else {}
    if trusted and kind in known and "AutoConfig" in remote and AUTO_CLASS not in remote:
        raise EasiError(
            f"{name} has its own Python code (auto_map in config.json) for its config and not "
            f"for {AUTO_CLASS}, which the generic class loads",
            hint=f"leave out --trust-remote-code: transformers itself has model_type {kind}",
        )
    if kind is None or kind in known:
        return
    if near := nearest(str(kind), known, n=1, cutoff=ALIKE):
        otherwise = f"a checkpoint of it saved as model_type {near[0]} loads; else {otherwise}"
    otherwise += "; or serve it with an engine and give --base-url"
    if not image_text_types(NEWER):
        otherwise = f"bash scripts/setup.sh (transformers 5 may load it), or {otherwise}"
    if AUTO_CLASS in remote:
        if not trusted:
            raise EasiError(
                f"{name} has its own Python code (model_type {kind}), which would run on this "
                f"machine",
                hint="read it, then add --trust-remote-code",
            )
        return
    if remote:
        classes = (
            ", ".join(sorted(word for word in remote if word.startswith("AutoModel")))
            or "other parts"
        )
        raise EasiError(
            f"{name} has its own Python code (model_type {kind}) for {classes}, but the generic "
            f"class loads {AUTO_CLASS}",
            hint=otherwise,
        )
    raise EasiError(
        f"{name} is of model_type {kind}, which the installed transformers does not load as a "
        "model of images and text",
        hint=otherwise,
    )
