"""Families of checkpoints: the VLMEvalKit class that runs each, and the settings it is given."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from ..shared.catalog import Entry

ENGINES = ("use_vllm", "use_lmdeploy")
# Words in a name that mark variants with settings of their own. A model without the word does not
# take the settings of such an entry.
VARIANTS = ("thinking", "mpo", "chat-v1")
ALIKE = 0.6  # difflib's default cutoff for a close match


@dataclass(frozen=True)
class Family:
    """A family of checkpoints.

    Attributes:
        cls: The VLMEvalKit class that runs it.
        names: Regular expression that matches the names of its checkpoints.
        required: Arguments without which the class cannot run.
    """

    cls: str
    names: str
    required: tuple[str, ...] = ()


# By ``model_type`` in config.json. The class is the one that VLMEvalKit's own entries of that
# family name (vlmeval/config.py). Types that several classes share (minicpmv, llava_next,
# glm4v ...) are not listed: only an entry's name tells which class is right.
FAMILIES = {
    "qwen2_vl": Family("Qwen2VLChat", r"qwen2-?vl"),
    "qwen2_5_vl": Family("Qwen2VLChat", r"qwen2\.5-?vl"),
    "qwen3_vl": Family("Qwen3VLChat", r"qwen3-?vl"),
    "qwen3_vl_moe": Family("Qwen3VLChat", r"qwen3-?vl"),
    "internvl_chat": Family("InternVLChat", r"internvl", required=("version",)),
    "llava_onevision": Family("LLaVA_OneVision_HF", r"llava-onevision"),
    "smolvlm": Family("SmolVLM2", r"smolvlm2"),
    "idefics3": Family("SmolVLM", r"smolvlm(?!2)"),
    "gemma3": Family("Gemma3", r"gemma-?3"),
    "paligemma": Family("PaliGemma", r"paligemma"),
    "mllama": Family("llama_vision", r"llama-3\.2"),
    "llama4": Family("llama4", r"llama-4"),
    "idefics2": Family("IDEFICS2", r"idefics2"),
    "chameleon": Family("Chameleon", r"chameleon"),
    "kosmos-2": Family("Kosmos2", r"kosmos-2"),
    "lfm2_vl": Family("LFM2VL", r"lfm2"),
    "molmo": Family("molmo", r"molmo"),
    "phi4mm": Family("Phi4Multimodal", r"phi-4"),
    "kimi_vl": Family("KimiVL", r"kimi-vl"),
}


@dataclass(frozen=True)
class Settings:
    """Arguments for a class, taken from the entry ``source``.

    ``dropped`` are arguments of that entry that were left out because they ask for an engine.
    """

    source: str
    arguments: dict[str, object]
    dropped: tuple[str, ...] = ()


def family_settings(family: Family, name: str, entries: Iterable[Entry]) -> Settings | None:
    """Return the arguments of the family's entry whose name is most like the checkpoint's.

    If no name is close, the arguments that most entries share are taken. Three kinds of entries are
    used only if there are no others: those that run on an engine, variants that ``name`` does not
    mention, and special forms of a model (the entry's name is not the checkpoint's).

    Args:
        family: The checkpoint's family.
        name: The checkpoint's name, without its organisation.
        entries: All entries of VLMEvalKit's registry.

    Returns:
        The settings, or None if the family has no entry.
    """
    fitting = [
        entry
        for entry in entries
        if entry.cls == family.cls
        and not entry.unread
        and re.search(family.names, _checkpoint(entry), re.IGNORECASE)
    ]
    if not fitting:
        return None
    fitting = [entry for entry in fitting if not _engines(entry)] or fitting
    fitting = [entry for entry in fitting if _variants(entry.name) == _variants(name)] or fitting
    fitting = [
        entry for entry in fitting if entry.name.lower() == _checkpoint(entry).lower()
    ] or fitting
    nearest = _nearest(fitting, name)
    if _likeness(nearest, name) < ALIKE:
        usual = Counter(map(_text, fitting)).most_common(1)[0][0]
        nearest = _nearest([entry for entry in fitting if _text(entry) == usual], name)
    dropped = _engines(nearest)
    return Settings(
        nearest.name,
        {key: value for key, value in _arguments(nearest).items() if key not in dropped},
        dropped,
    )


def _checkpoint(entry: Entry) -> str:
    return (entry.model_path or entry.name).rstrip("/").rpartition("/")[2]


def _engines(entry: Entry) -> tuple[str, ...]:
    return tuple(name for name in ENGINES if entry.kwargs.get(name))


def _variants(name: str) -> set[str]:
    return {word for word in VARIANTS if word in name.lower()}


def _nearest(entries: Sequence[Entry], name: str) -> Entry:
    """Return the entry whose name is most like ``name``; of equal ones the last, the newest."""
    return max(reversed(entries), key=lambda entry: _likeness(entry, name))


def _likeness(entry: Entry, name: str) -> float:
    return SequenceMatcher(None, name.lower(), _checkpoint(entry).lower()).ratio()


def _arguments(entry: Entry) -> dict[str, object]:
    return {key: value for key, value in entry.kwargs.items() if key != "model_path"}


def _text(entry: Entry) -> str:
    return json.dumps(_arguments(entry), sort_keys=True)
