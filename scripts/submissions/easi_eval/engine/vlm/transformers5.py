"""Translates a ``config.json`` from the form of transformers 5 to that of the pinned 4.57.

transformers 5 keeps all settings of rotary position embeddings in ``rope_parameters``. 4.57 does
not know that key: it uses its class's default frequencies, and the answers are wrong without an
error. The rules here follow the sources of both versions. From a translated file 4.57 computes the
same logits as from the old form (tests/unit/test_transformers5.py). This module does not import
torch.
"""

from __future__ import annotations

import functools
import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...core.errors import EasiError

ROPE = "rope_parameters"
# The types and keys of rotary embeddings that 4.57 knows, with the same meaning as in 5.
ROPE_TYPES = frozenset({"default", "linear", "dynamic", "yarn", "longrope", "llama3"})
ROPE_KEYS = frozenset(
    {
        "rope_theta",
        "rope_type",
        "type",
        "partial_rotary_factor",
        "factor",
        "original_max_position_embeddings",
        "attention_factor",
        "beta_fast",
        "beta_slow",
        "short_factor",
        "long_factor",
        "low_freq_factor",
        "high_freq_factor",
        "mscale",
        "mscale_all_dim",
        "truncate",
        "mrope_section",
        "mrope_interleaved",
        "interleaved",
    }
)
# The base that 4.57's vision encoders hard-code; that of pixtral reads it from its config.
VISION_THETA = 10000.0
THETA_FROM_CONFIG = frozenset({"pixtral"})
# Model types with different bases per layer: 4.57's keys for the base of layers with full attention
# and of those with sliding attention ("": the same base for both).
BY_LAYER = {
    "gemma3_text": ("rope_theta", "rope_local_base_freq"),
    "gemma3n_text": ("rope_theta", "rope_local_base_freq"),
    "modernbert": ("global_rope_theta", "local_rope_theta"),
    "modernbert-decoder": ("global_rope_theta", "local_rope_theta"),
    "olmo3": ("rope_theta", ""),
}
FULL, SLIDING = "full_attention", "sliding_attention"
# transformers 5's default of mrope_section, which 4.57 requires in the file.
MROPE = {
    **dict.fromkeys(
        ("qwen2_vl_text", "qwen2_5_vl_text", "qwen2_5_omni_text", "qwen2_5_omni_talker"),
        (16, 24, 24),
    ),
    **dict.fromkeys(("glm4v_text", "glm4v_moe_text"), (8, 12, 12)),
    **dict.fromkeys(
        ("qwen3_vl_text", "qwen3_vl_moe_text", "qwen3_omni_moe_text", "qwen3_omni_moe_talker_text"),
        (24, 20, 20),
    ),
}
# Model types whose config in 4.57 accepts a rope_scaling only of these types, and with only these
# keys beside ``type``.
BY_TYPE = {
    **dict.fromkeys(("phi3", "phi4_multimodal"), (("longrope",), ("short_factor", "long_factor"))),
    **dict.fromkeys(("chameleon", "olmo", "olmo2"), (("linear", "dynamic"), ("factor",))),
}
# Model types with other keys in 4.57 for the base and for the share of a head that is rotated.
OTHER_NAMES = {
    kind: {"rope_theta": "rotary_emb_base", "partial_rotary_factor": "rotary_pct"}
    for kind in ("gpt_neox", "gpt_neox_japanese")
}
# By model_type: a key of 5 and the key of 4.57 for the same value.
RENAMED = {
    "vipllava": ("vision_feature_layer", "vision_feature_layers"),
    **dict.fromkeys(
        ("qwen3_vl_moe_text", "qwen3_omni_moe_text", "qwen3_omni_moe_talker_text"),
        ("num_local_experts", "num_experts"),
    ),
}
# transformers 5's names in tokenizer_config.json for its generic fast tokenizer, and 4.57's name.
FAST_TOKENIZERS = frozenset({"TokenizersBackend", "TokenizersBackendFast"})
FAST_TOKENIZER = "PreTrainedTokenizerFast"
# Keys that only transformers 5 knows and that change what is computed.
NO_EQUIVALENT = ("per_layer_config",)
HINT = (
    "save it with transformers 4.57 (load it there with the values set by hand), or use a "
    "checkpoint in the form of transformers 4"
)


@dataclass(frozen=True)
class Translation:
    """The result of ``translate``.

    Attributes:
        config: The config as 4.57 reads it.
        changed: What is different, for example ``text_config.rope_theta=1e6``.
        unknown: Keys that 4.57 does not read.
        refused: What has no equivalent in 4.57.
    """

    config: dict[str, Any]
    changed: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()

    def check(self, name: object) -> None:
        """Refuse a config with something that changes the computation and has no equivalent.

        Args:
            name: The checkpoint or file, for the message.

        Raises:
            EasiError: Names what has no equivalent in 4.57.
        """
        if self.refused:
            raise EasiError(
                f"{name} was saved by transformers 5, and the installed 4.57 would compute "
                f"different outputs: {'; '.join(self.refused)}",
                hint=HINT,
            )

    def said(self) -> list[str]:
        """Return the lines for plan and manifest."""
        changed = (
            f"saved by transformers 5, read as: {', '.join(self.changed)}" if self.changed else ""
        )
        unknown = (
            (
                "saved by transformers 5; keys that the installed transformers does not read: "
                f"{', '.join(self.unknown)}"
            )
            if self.unknown
            else ""
        )
        return [line for line in (changed, unknown) if line]


@dataclass
class _Found:
    """What ``translate`` collects, see ``Translation``."""

    # The checkpoint has its own code, which may read rope_parameters in a form of its own.
    own_code: bool = False
    changed: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)


def translate(config: Mapping[str, Any], output_head: bool | None = None) -> Translation:
    """Return a ``config.json`` in 4.57's form; one written by transformers 4 is unchanged.

    Args:
        config: The content of the file.
        output_head: Whether the weights contain a separate output head, see ``has_output_head``.
    """
    if not written_by_5(config):
        return Translation(dict(config))
    found = _Found(own_code=bool(config.get("auto_map")))
    kind = str(config.get("model_type", ""))
    made = _part(config, "", kind, found)
    _tie(made, output_head, found)
    if not found.own_code:  # that code may read any key
        _list_unknown(config, "", kind, found)
    return Translation(made, tuple(found.changed), tuple(found.unknown), tuple(found.refused))


def translate_tokenizer(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return a ``tokenizer_config.json`` in 4.57's form.

    transformers 5 has another class name, and another key for the list of further special tokens.
    """
    made = dict(settings)
    if made.get("tokenizer_class") in FAST_TOKENIZERS:
        made["tokenizer_class"] = FAST_TOKENIZER
    if isinstance(made.get("extra_special_tokens"), list):
        made["additional_special_tokens"] = [
            *(made.get("additional_special_tokens") or ()),
            *made.pop("extra_special_tokens"),
        ]
    return made


def of_5(version: str) -> bool:
    """Return whether this version of transformers is 5 or later, so that nothing is translated."""
    major = re.match(r"(\d+)\.", version)
    return major is not None and int(major[1]) >= 5


def written_by_5(config: Mapping[str, Any]) -> bool:
    """Return whether transformers 5 wrote a config.

    This is told from its version, or from ``rope_parameters``, which no other version writes. The
    key is ignored in a config that names an older version and belongs to a checkpoint with its own
    code (``auto_map``), because that code may have written it.
    """
    version = str(config.get("transformers_version") or "")
    return of_5(version) or (not (version and config.get("auto_map")) and _has_rope(config))


def _has_rope(config: Mapping[str, Any]) -> bool:
    return isinstance(config.get(ROPE), Mapping) or any(
        _has_rope(value) for value in config.values() if isinstance(value, Mapping)
    )


def _part(config: Mapping[str, Any], where: str, above: str, found: _Found) -> dict[str, Any]:
    """Translate one config and those nested in it.

    Args:
        config: The config.
        where: Its path inside the file, for messages.
        above: The model_type to assume if it names none.
        found: Collects what is changed or refused.
    """
    kind = str(config.get("model_type") or above)
    made = {
        key: _part(value, f"{where}{key}.", f"{kind}_{key.removesuffix('_config')}", found)
        if isinstance(value, Mapping) and key != ROPE
        else value
        for key, value in config.items()
    }
    for key in NO_EQUIVALENT:
        if config.get(key):
            found.refused.append(f"{where}{key}")
    if isinstance(config.get(ROPE), Mapping):
        # transformers 5 also reads rope_scaling, and prefers it to rope_parameters.
        parameters = (
            config["rope_scaling"]
            if isinstance(config.get("rope_scaling"), Mapping)
            else config[ROPE]
        )
        if found.own_code:
            own = _Found()
            values = _rope(config, parameters, kind, where, own)
            lacking = {key: value for key, value in values.items() if made.get(key) is None}
            _set(made, {} if own.refused else lacking, where, found)
        else:
            del made[ROPE]
            _set(made, _rope(config, parameters, kind, where, found), where, found)
    if kind in RENAMED and RENAMED[kind][0] in made and RENAMED[kind][1] not in made:
        _set(made, {RENAMED[kind][1]: made[RENAMED[kind][0]]}, where, found)
    return made


def _tie(made: dict[str, Any], output_head: bool | None, found: _Found) -> None:
    """Set whether the output head shares the weights of the embeddings.

    transformers 5 reads this from the outermost config, 4.57 from that of the text model. If the
    checkpoint contains a separate output head, 5 uses it whatever the key says, and 4.57 would
    overwrite it.
    """
    tied = made.get("tie_word_embeddings")
    if tied is True and output_head is not None:
        tied = not output_head
    elif tied is not False:
        return
    text = made.get("text_config")
    inner, where = (text, "text_config.") if isinstance(text, dict) else (made, "")
    _set(inner, {"tie_word_embeddings": tied}, where, found)


def has_output_head(folder: Path) -> bool | None:
    """Return whether the weights in ``folder`` contain a separate output head.

    None if the names of the tensors cannot be read.
    """
    for name in ("model.safetensors.index.json", "pytorch_model.bin.index.json"):
        try:
            return _names_head(
                json.loads((folder / name).read_text(encoding="utf-8"))["weight_map"]
            )
        except (OSError, ValueError, KeyError, TypeError):
            continue
    try:
        path = folder / "model.safetensors"
        # A damaged file may claim any length: no more than its size is read.
        with path.open("rb") as file:
            return _names_head(
                json.loads(
                    file.read(min(int.from_bytes(file.read(8), "little"), path.stat().st_size))
                )
            )
    except (OSError, ValueError):
        return None


def _names_head(names: Iterable[str]) -> bool:
    return any(name.endswith("lm_head.weight") for name in names)


def _set(made: dict[str, Any], values: Mapping[str, Any], where: str, found: _Found) -> None:
    for key, value in values.items():
        if key not in made or made[key] != value:
            made[key] = value
            if value is not None:
                found.changed.append(f"{where}{key}={value}".replace(" ", ""))


def _rope(
    config: Mapping[str, Any], parameters: Mapping[str, Any], kind: str, where: str, found: _Found
) -> dict[str, Any]:
    """Return 4.57's keys for one ``rope_parameters``.

    What they cannot express goes into ``found.refused``.
    """
    place = f"{where}{ROPE}"
    layers = config.get("layer_types")
    nested = {key: value for key, value in parameters.items() if isinstance(value, Mapping)}
    if not nested:
        return _flat(config, parameters, kind, place, found)
    used = {key: value for key, value in nested.items() if not layers or key in layers} or nested
    if kind not in BY_LAYER:
        first, *others = used.values()
        if any(other != first for other in others):
            found.refused.append(f"{place} differs between {' and '.join(sorted(used))}")
            return {}
        return _flat(config, first, kind, place, found)
    full, sliding = nested.get(FULL, {}), nested.get(SLIDING, {})
    theta, local = BY_LAYER[kind]
    made = _flat(config, full, kind, f"{place}.{FULL}", found) if full else {}
    if "rope_theta" in made:
        made[theta] = made.pop("rope_theta")
    if theta != "rope_theta" and made.get("rope_scaling"):
        found.refused.append(f"{place}.{FULL} of rope_type {full.get('rope_type')}")
    if not sliding:
        return made
    if (
        set(sliding) - {"rope_theta", "rope_type", "type"}
        or sliding.get("rope_type", "default") != "default"
    ):
        found.refused.append(f"{place}.{SLIDING}: {dict(sliding)}")
    elif local and "rope_theta" in sliding:
        made[local] = sliding["rope_theta"]
    elif full and sliding.get("rope_theta") != full.get("rope_theta"):
        found.refused.append(f"{place} has another rope_theta for {SLIDING}")
    return made


def _flat(
    config: Mapping[str, Any], parameters: Mapping[str, Any], kind: str, place: str, found: _Found
) -> dict[str, Any]:
    """Return 4.57's keys for rotary parameters that are the same for all layers."""
    known = dict(parameters)
    form = str(known.pop("rope_type", None) or known.get("type") or "default")
    known.pop("type", None)
    form = {"mrope": "default", "su": "longrope"}.get(form, form)
    theta = known.pop("rope_theta", config.get("rope_theta"))
    partial = known.pop("partial_rotary_factor", config.get("partial_rotary_factor"))
    if form == "axial":  # used by vision encoders
        if theta not in (None, VISION_THETA) and kind not in THETA_FROM_CONFIG:
            found.refused.append(f"{place}.rope_theta is {theta}, {VISION_THETA} there")
        return {"rope_theta": theta} if kind in THETA_FROM_CONFIG and theta is not None else {}
    if form not in ROPE_TYPES:
        found.refused.append(f"{place}.rope_type is {form}")
        return {}
    words = known_words(kind)
    foreign = sorted(
        key
        for key, value in known.items()
        if value is not None and key not in ROPE_KEYS and words and key not in words
    )
    found.refused += [f"{place}.{key}" for key in foreign]
    made = {} if theta is None else {"rope_theta": theta}
    if partial is not None:
        made["partial_rotary_factor"] = partial
    scaling = {key: value for key, value in known.items() if value is not None}
    if kind in MROPE:
        scaling.setdefault("mrope_section", list(MROPE[kind]))
    if form == "default":
        scaling = {
            key: value
            for key, value in scaling.items()
            if key not in ("factor", "original_max_position_embeddings")
        }
    elif form in ("yarn", "longrope"):
        _ratio(config, scaling, form, made)
    made["rope_scaling"] = {"rope_type": form, **scaling} if scaling or form != "default" else None
    if kind in BY_TYPE and form != "default":
        forms, keys = BY_TYPE[kind]
        if form not in forms or "attention_factor" in scaling:
            found.refused.append(
                f"{place}: {kind} has no {form if form not in forms else 'attention_factor'} there"
            )
        made["rope_scaling"] = {"type": form, **{key: scaling.get(key) for key in keys}}
    return {OTHER_NAMES.get(kind, {}).get(key, key): value for key, value in made.items()}


def _ratio(
    config: Mapping[str, Any], scaling: dict[str, Any], form: str, made: dict[str, Any]
) -> None:
    """Set the factor and the original context length where 4.57 looks for them.

    4.57's longrope reads the original length from the config; if it is there, the factor is the
    ratio of both lengths.
    """
    longest = config.get("max_position_embeddings")
    first = (
        config.get("original_max_position_embeddings")
        or scaling.get("original_max_position_embeddings")
        or longest
    )
    if not longest or not first:
        return
    ratio = longest / first
    factor = scaling.get("factor") or ratio
    if form == "yarn":
        scaling |= {"factor": factor, "original_max_position_embeddings": first}
        return
    made["original_max_position_embeddings"] = first
    if scaling.get("attention_factor") is None and factor != ratio:
        scaling["attention_factor"] = (
            1.0 if factor <= 1.0 else math.sqrt(1 + math.log(factor) / math.log(first))
        )


def _list_unknown(config: Mapping[str, Any], where: str, above: str, found: _Found) -> None:
    """Collect the keys that 4.57 does not read in ``found.unknown``."""
    kind = str(config.get("model_type") or above)
    words = known_words(kind) or known_words(above)
    for key, value in config.items():
        renamed = kind in RENAMED and key == RENAMED[kind][0]
        if key == ROPE or renamed or value is None:
            continue
        if words and key not in words and key not in NO_EQUIVALENT:
            found.unknown.append(f"{where}{key}")
        elif isinstance(value, Mapping) and key.endswith("_config"):
            _list_unknown(value, f"{where}{key}.", above, found)


@functools.cache
def known_words(kind: str) -> frozenset[str]:
    """Return every name in the installed transformers' source for this model_type.

    The source of the shared config code is included. A key that is not among these names is
    certainly not read; one that is may still not be. Empty if there is no source for the
    model_type.
    """
    from ...core.libraries import module_file

    auto = module_file("transformers.models.auto.configuration_auto")
    if auto is None or not kind:
        return frozenset()
    name = kind.replace("-", "_")
    special = re.search(
        rf'\("{re.escape(kind)}", "(\w+)"\)',
        auto.read_text(encoding="utf-8").partition("SPECIAL_MODEL_TYPE_TO_MODULE_NAME")[2],
    )
    folders = [special[1]] if special else []
    while name:
        folders.append(name)
        name = name.rpartition("_")[0]
    models = auto.parents[1]
    folder = next((models / each for each in folders if (models / each).is_dir()), None)
    if folder is None:
        return frozenset()
    return (
        _words(folder)
        | _words(models.parent / "configuration_utils.py")
        | _words(models.parent / "modeling_rope_utils.py")
    )


@functools.cache
def _words(place: Path) -> frozenset[str]:
    files = place.glob("*.py") if place.is_dir() else [place]
    return frozenset(
        word for file in files for word in re.findall(r"\w+", file.read_text(encoding="utf-8"))
    )
