"""For tests only: on PYTHONPATH it makes "cuda" mean the CPU.

Classes written for GPUs then run without one. ``torch.cuda.is_available()`` stays False; those
classes ask the ``nvidia-smi`` beside this file for free memory.
"""

from __future__ import annotations

import functools
import importlib.abc
import importlib.util
import os
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

os.environ["PATH"] = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PATH", "")])


def on_cpu(place: Any) -> Any:
    return "cpu" if str(place).startswith("cuda") else place


def moved(original: Any) -> Any:
    @functools.wraps(original)
    def to(self: Any, *args: Any, **options: Any) -> Any:
        if "device" in options:
            options["device"] = on_cpu(options["device"])
        return original(
            self,
            *(on_cpu(arg) if type(arg).__name__ in ("str", "device") else arg for arg in args),
            **options,
        )

    return to


def patch_torch(torch: ModuleType) -> None:
    for cls in (torch.Tensor, torch.nn.Module):
        cls.to = moved(cls.to)
        cls.cuda = lambda self, *args, **options: self


def patch_transformers(modeling: ModuleType) -> None:
    load = modeling.PreTrainedModel.from_pretrained.__func__

    def from_pretrained(cls: type, *args: Any, **options: Any) -> Any:
        if "device_map" in options:
            options["device_map"] = on_cpu(options["device_map"])
        return load(cls, *args, **options)

    modeling.PreTrainedModel.from_pretrained = classmethod(from_pretrained)


PATCHES = {"torch": patch_torch, "transformers.modeling_utils": patch_transformers}


class Patched(importlib.abc.MetaPathFinder):
    """An import finder for the modules of ``PATCHES``: patches each once it is loaded."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if name not in PATCHES:
            return None
        sys.meta_path.remove(self)
        try:
            spec = importlib.util.find_spec(name)
        finally:
            sys.meta_path.insert(0, self)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def exec_module(module: ModuleType) -> None:
                execute(module)
                PATCHES[name](module)

            spec.loader.exec_module = exec_module
        return spec


sys.meta_path.insert(0, Patched())
