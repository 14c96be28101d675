"""For tests only: on PYTHONPATH it makes "cuda" mean the CPU.

Classes written for GPUs then run without one. ``torch.cuda.is_available()`` stays False; those
classes ask the ``nvidia-smi`` beside this file for free memory.

``CPU_AS_CUDA_DEVICES`` is the number of devices that the driver (libcuda) reports, none by default.
``CPU_AS_CUDA_TOKENS`` is the number of tokens of a prompt for which their memory is too small.
"""

from __future__ import annotations

import ctypes
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


def patch_generation(generation: ModuleType) -> None:
    generate = generation.GenerationMixin.generate

    def in_memory(self: Any, *args: Any, **options: Any) -> Any:
        if options["input_ids"].shape[-1] > int(os.environ["CPU_AS_CUDA_TOKENS"]):
            raise sys.modules["torch"].OutOfMemoryError("CUDA out of memory.")
        return generate(self, *args, **options)

    generation.GenerationMixin.generate = in_memory


class Driver:
    """The functions of libcuda.so.1 that count devices; each returns CUDA_SUCCESS."""

    def cuInit(self, flags: int) -> int:
        return 0

    def cuDeviceGetCount(self, count: Any) -> int:
        count._obj.value = int(os.environ["CPU_AS_CUDA_DEVICES"])
        return 0

    def cuDriverGetVersion(self, version: Any) -> int:
        version._obj.value = 13000
        return 0


def load_library(name: Any, *args: Any, **options: Any) -> Any:
    return Driver() if name == "libcuda.so.1" else CDLL(name, *args, **options)


PATCHES = {"torch": patch_torch, "transformers.modeling_utils": patch_transformers}
if "CPU_AS_CUDA_TOKENS" in os.environ:
    PATCHES["transformers.generation.utils"] = patch_generation
if "CPU_AS_CUDA_DEVICES" in os.environ:
    CDLL = ctypes.CDLL
    ctypes.CDLL = load_library


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
