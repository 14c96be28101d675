"""Whether a class can load a checkpoint, told from the code of the class."""

from __future__ import annotations

import ast
import fnmatch
from collections.abc import Sequence
from pathlib import Path

from ...core.errors import EasiError
from ...core.model import ModelChoice
from ...core.profiles import BASE, NEWER, image_text_types
from .class_source import ClassSource
from .generic_check import AUTO_CLASS
from .model_paths import CHECKPOINT_KEYS, LOADABLE
from .references import ADAPTER, CONFIG, read_object

MULTIMODAL = "AutoModelForMultimodalLM"  # as AUTO_CLASS, with types that have sound, too
GENERIC = "GenericVLM"  # loads with AUTO_CLASS
# Types whose weights the class of another type loads as well.
ALSO = {
    "smolvlm": "Idefics3ForConditionalGeneration",
    "llava_next_video": "LlavaNextForConditionalGeneration",
}
# By what a processor is made of, patterns of the files that hold it.
PROCESSOR = {
    "image processor (preprocessor_config.json)": ("preprocessor_config.json", "processor_config*"),
    "tokenizer (tokenizer.json)": ("tokenizer*", "vocab*", "*.model"),
}


def names_in(classes: Sequence[ClassSource]) -> set[str]:
    """Return the names that occur in the code of a class and its bases; {} if that is not known."""
    found: set[str] = set()
    for node in (node for each in classes for node in each.code()):
        match node:
            case ast.ImportFrom(names=aliases):
                found.update(alias.name for alias in aliases)
            case ast.Name(id=name) | ast.Attribute(attr=name):
                found.add(name)
    return found | {AUTO_CLASS} if GENERIC in found else found


def check_type(
    model: ModelChoice, names: set[str], kind: str, profile: str, otherwise: str
) -> None:
    """Refuse a class that loads models of other types only.

    Args:
        model: The choice.
        names: ``names_in`` its class.
        kind: The checkpoint's model_type.
        profile: The libraries that load it.
        otherwise: The hint how the checkpoint can be run.

    Raises:
        EasiError: The class uses neither the type's own class of transformers nor a general one.
    """
    loaders = image_text_types(profile)
    if not names or kind not in loaders:
        return
    if names & {AUTO_CLASS, MULTIMODAL, loaders[kind], ALSO.get(kind, "")}:
        return
    # Code for transformers 4 also loads through other general classes, or by means of its own.
    if profile == BASE and (
        names.isdisjoint(loaders.values()) or any(name.startswith("AutoModel") for name in names)
    ):
        return
    raise EasiError(
        f"{model.cls} cannot load {model.name}: transformers {profile or 4} loads model_type "
        f"{kind} with {AUTO_CLASS} or {loaders[kind]}, which the class does not use",
        hint=otherwise,
    )


def check_processor(model: ModelChoice, classes: Sequence[ClassSource]) -> None:
    """Refuse a folder without the processor that the class reads from it.

    An adapter, which may use its base's, is not checked, nor are types with code of their own.

    Args:
        model: The choice.
        classes: Its class and that class's bases.

    Raises:
        EasiError: A processor or tokenizer is missing.
    """
    folder = Path(model.path)
    names = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    whole = CONFIG in names and ADAPTER not in names
    weights = any(name.endswith(LOADABLE) for name in names)
    config = read_object(folder / CONFIG) if whole and weights else {}
    known = {*image_text_types(BASE), *image_text_types(NEWER)}
    plain = config.get("model_type") in known and "auto_map" not in config
    if not plain or not _reads_processor(classes):
        return
    for part, patterns in PROCESSOR.items():
        if not any(fnmatch.filter(names, pattern) for pattern in patterns):
            raise EasiError(
                f"{folder} has weights and no {part}",
                hint="copy the files of the processor from the model that it was trained from, or "
                "save them beside it: processor.save_pretrained(FOLDER)",
            )


def _reads_processor(classes: Sequence[ClassSource]) -> bool:
    """Return whether the class loads a processor from the checkpoint's folder."""
    return GENERIC in names_in(classes) or any(
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "from_pretrained"
        and ast.unparse(node.func.value).endswith("Processor")
        and bool(node.args)
        and ast.unparse(node.args[0]).removeprefix("self.") in CHECKPOINT_KEYS
        for each in classes
        for node in each.code()
    )
