"""Refusal of models with weights that were in no file of the checkpoint.

transformers fills such weights with random numbers and continues.
"""

from __future__ import annotations

import contextlib
import gc
import importlib.util
import math
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.weak import WeakIdKeyDictionary
from transformers import PreTrainedModel

from ...core.errors import EasiError

NAMED = 3  # weights named in a message
SAMPLE = 64  # values of a weight that are compared
# Encoders of text and images have a pooling layer that a generating model does not use. Many
# checkpoints lack its weights.
UNUSED = "pooler"


@dataclass(frozen=True)
class _Missing:
    """A weight that was in none of a checkpoint's files, as transformers left it.

    Attributes:
        version: torch's counter of writes in place.
        sample: The first values, to detect whether the weight was written since.
    """

    checkpoint: str
    model: weakref.ref[torch.nn.Module]
    name: str
    weight: weakref.ref[torch.Tensor]
    version: int
    sample: tuple[float, ...]

    def is_missing(self) -> bool:
        """Whether the weight is still in use and nothing was loaded into it."""
        model, old = self.model(), self.weight()
        weight = old if model is None else _weights(model).get(self.name, old)
        if weight is None:
            return False
        alike = _alike(_sample(weight), self.sample)
        if weight is old:
            return alike and weight._version == self.version
        # It was moved to another device, or replaced by a loaded one. If all values are equal
        # (zeros or ones) the comparison cannot tell which; then it is not refused.
        return alike and len(set(self.sample)) > 1


@contextlib.contextmanager
def refusing_missing_weights() -> Iterator[None]:
    """Check the transformers models that are loaded inside the block for missing weights.

    Put it around a constructor. The check is made at the end of the block. A weight is not missing
    if it was loaded from elsewhere by then, was dropped, is tied to a loaded weight, or may be
    missing by the model's own rules. Buffers are not checked.

    Raises:
        EasiError: A model, or a LoRA adapter, has weights that were in no file.
    """
    missing: list[_Missing] = []
    loaded = WeakIdKeyDictionary()  # weights that came from a file
    base: Any = PreTrainedModel  # no precise type allows a method to be replaced
    own = base.__dict__["from_pretrained"]

    def from_pretrained(cls: type, *args: Any, **options: Any) -> Any:
        wants_report = options.pop("output_loading_info", False)
        model, report = own.__func__(cls, *args, output_loading_info=True, **options)
        if report is not None:  # None: from another framework's files
            # Weights of another shape than the model's (ignore_mismatched_sizes) are missing too.
            # In transformers 5 each entry is a tuple with the shapes.
            other = (key if isinstance(key, str) else key[0] for key in report["mismatched_keys"])
            where = args[0] if args else options.get("pretrained_model_name_or_path")
            missing.extend(_found(str(where), model, {*report["missing_keys"], *other}, loaded))
        return (model, report) if wants_report else model

    base.from_pretrained = classmethod(from_pretrained)
    try:
        with _watching_adapters() as of_adapters:
            yield
    finally:
        base.from_pretrained = own
    if missing:
        gc.collect()  # drop models of which only a part is used
    still = [weight for weight in missing if weight.is_missing()]
    if still:
        _refuse(
            still[0].checkpoint,
            {weight.name for weight in still if weight.checkpoint == still[0].checkpoint},
        )
    if of_adapters:
        _refuse("an adapter", set(of_adapters))


@contextlib.contextmanager
def _watching_adapters() -> Iterator[list[str]]:
    """Collect the LoRA weights that are not in the file of an adapter loaded inside the block."""
    missing: list[str] = []
    if importlib.util.find_spec("peft") is None:
        yield missing
        return
    import peft.peft_model
    import peft.utils

    places: tuple[Any, ...] = (peft.peft_model, peft.utils)  # what PEFT and transformers call
    load: Callable[..., Any] = peft.utils.set_peft_model_state_dict

    def set_peft_model_state_dict(
        model: Any, weights: Any, adapter_name: str = "default", **options: Any
    ) -> Any:
        result = load(model, weights, adapter_name, **options)
        absent = result.missing_keys if result is not None else ()
        missing.extend(key for key in absent if "lora_" in key and f".{adapter_name}" in key)
        return result

    for place in places:
        place.set_peft_model_state_dict = set_peft_model_state_dict
    try:
        yield missing
    finally:
        for place in places:
            place.set_peft_model_state_dict = load


def _found(
    checkpoint: str, model: torch.nn.Module, absent: set[str], loaded: WeakIdKeyDictionary
) -> list[_Missing]:
    """The missing weights of ``model``; adds the other ones to ``loaded``.

    Args:
        checkpoint: Name of the checkpoint, for messages.
        model: The loaded model.
        absent: Names of weights that transformers reports as missing.
        loaded: Weights that came from a file.
    """
    weights = _weights(model)
    for name, weight in weights.items():
        if name not in absent:
            loaded[weight] = True
    return [
        _Missing(
            checkpoint,
            weakref.ref(model),
            name,
            weakref.ref(weight),
            weight._version,
            _sample(weight),
        )
        for name, weight in weights.items()
        if name in absent and weight not in loaded and UNUSED not in name.split(".")
    ]


def _refuse(checkpoint: str, names: set[str]) -> None:
    raise EasiError(
        f"{checkpoint} lacks {len(names)} of its model's weights: {listed(names)}",
        hint="transformers would fill them with random numbers: download the checkpoint again, "
        "save it from the model class that loads it, or merge an adapter into its base first",
    )


def listed(names: set[str]) -> str:
    """The first names in alphabetical order, for a message."""
    return ", ".join(sorted(names)[:NAMED]) + (", ..." if len(names) > NAMED else "")


def _weights(model: torch.nn.Module) -> dict[str, torch.nn.Parameter]:
    """The model's parameters by name; a tied parameter has several names."""
    return dict(model.named_parameters(remove_duplicate=False))


def _sample(weight: torch.Tensor) -> tuple[float, ...]:
    """The first values of a weight.

    Empty if they are not in memory (device "meta") or are packed in a special format.
    """
    try:
        return tuple(weight.detach().flatten()[:SAMPLE].to("cpu", torch.float32).tolist())
    except RuntimeError:
        return ()


def _alike(one: Sequence[float], other: Sequence[float]) -> bool:
    """Whether the values are equal apart from a change of the number format."""
    pairs = zip(one, other, strict=False)
    return len(one) == len(other) and all(
        math.isclose(a, b, rel_tol=0.01, abs_tol=1e-6) or (math.isnan(a) and math.isnan(b))
        for a, b in pairs
    )
