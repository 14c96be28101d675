"""GPUs that this process may use, and their distribution over its workers.

Does not import torch.
"""

from __future__ import annotations

import ctypes
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ..errors import EasiError
from . import supervisor

VARIABLE = "CUDA_VISIBLE_DEVICES"


@dataclass(frozen=True)
class Gpu:
    """One physical GPU.

    Attributes:
        memory: Bytes, or None if unknown.
        mig: Whether MIG is on; then only the MIG instances can be used.
        slices: UUIDs of its MIG instances.
    """

    uuid: str
    name: str = ""
    memory: int | None = None  # bytes
    mig: bool = False
    slices: tuple[str, ...] = ()


def visible_gpus(environ: Mapping[str, str] | None = None) -> tuple[str, ...]:
    """The devices that this environment grants, one CUDA_VISIBLE_DEVICES entry each.

    Empty without a GPU. ``environ`` defaults to the environment of this process.
    """
    setting = (os.environ if environ is None else environ).get(VARIABLE)
    machine = installed_gpus()
    return visible(setting, machine) if machine else _counted(setting)


def visible(setting: str | None, machine: Sequence[Gpu]) -> tuple[str, ...]:
    """The devices that a value of CUDA_VISIBLE_DEVICES selects, read as CUDA reads it.

    Entries are numbers or (shortened) UUIDs. The list ends at the first entry that names no device.
    A device named twice invalidates the whole list.

    Args:
        setting: The value; None if the variable is not set. Then every device is selected: by
            number, or by UUID where MIG is on, because a MIG instance has no number.
        machine: The GPUs of the machine.
    """
    if setting is None:
        if not any(gpu.mig for gpu in machine):
            return tuple(str(number) for number in range(len(machine)))
        return tuple(uuid for gpu in machine for uuid in (gpu.slices if gpu.mig else (gpu.uuid,)))
    tokens: list[str] = []
    devices: list[str] = []
    for token in (part.strip() for part in setting.split(",")):
        device = _device(token, machine)
        if device is None:
            break
        tokens.append(token)
        devices.append(device)
    return tuple(tokens) if len(set(devices)) == len(devices) else ()


def _device(token: str, machine: Sequence[Gpu]) -> str | None:
    """The UUID that one entry of CUDA_VISIBLE_DEVICES names, or None if it names no device."""
    if token.isdecimal():
        number = int(token)
        return machine[number].uuid if number < len(machine) else None
    if token.startswith("MIG-GPU-"):  # the older form MIG-GPU-<uuid>/<instance>/<instance>
        return token if any(token[4:].startswith(gpu.uuid) for gpu in machine) else None
    if not token.startswith(("GPU-", "MIG-")):
        return None
    known = [uuid for gpu in machine for uuid in (gpu.uuid, *gpu.slices) if uuid.startswith(token)]
    return known[0] if len(known) == 1 else None


def share(gpus: Sequence[str], rank: int, nproc: int) -> str:
    """The CUDA_VISIBLE_DEVICES of local rank ``rank`` of ``nproc``; "" without a GPU.

    Each rank gets the same number of consecutive devices. A remainder stays unused, so that all
    workers have the same memory.

    Raises:
        EasiError: There are fewer devices than processes.
    """
    if not 0 <= rank < nproc:
        raise ValueError(f"rank {rank} of {nproc}")
    if not gpus:
        return ""
    if nproc > len(gpus):
        raise EasiError(
            f"{nproc} processes for {len(gpus)} visible GPU{'s' if len(gpus) > 1 else ''}",
            hint=f"use --nproc {len(gpus)}, or show more in {VARIABLE}",
        )
    each = len(gpus) // nproc
    return ",".join(gpus[rank * each : (rank + 1) * each])


def installed_gpus() -> tuple[Gpu, ...]:
    """The GPUs of the machine, independent of CUDA_VISIBLE_DEVICES.

    Read from the driver's NVML, else from ``nvidia-smi -L``, which does not tell the memory.
    """
    try:
        library = ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        listing = supervisor.capture(("nvidia-smi", "-L"))
        return parse_listing(listing) if listing else ()
    return _from_nvml(library)


def parse_listing(text: str) -> tuple[Gpu, ...]:
    """The GPUs in the output of ``nvidia-smi -L``.

    An indented line is a MIG instance of the GPU above it.
    """
    gpus: list[Gpu] = []
    for line in text.splitlines():
        if match := re.match(r"GPU \d+: (.*) \(UUID: (GPU-[^)]+)\)", line):
            gpus.append(Gpu(match[2], match[1]))
        elif gpus and (match := re.match(r"\s+MIG .*\(UUID: (MIG-[^)]+)\)", line)):
            last = gpus[-1]
            gpus[-1] = Gpu(last.uuid, last.name, last.memory, True, (*last.slices, match[1]))
    return tuple(gpus)


class _Memory(ctypes.Structure):
    _fields_ = [
        ("total", ctypes.c_ulonglong),
        ("free", ctypes.c_ulonglong),
        ("used", ctypes.c_ulonglong),
    ]


def _from_nvml(library: ctypes.CDLL) -> tuple[Gpu, ...]:
    """The GPUs as NVML lists them.

    NVML calls return 0 on success. A GPU that does not answer (for example because it has fallen
    off the bus) is left out.
    """
    if library.nvmlInit_v2() != 0:
        return ()
    try:
        count = ctypes.c_uint()
        if library.nvmlDeviceGetCount_v2(ctypes.byref(count)) != 0:
            return ()
        found = (_one(library, number) for number in range(count.value))
        return tuple(gpu for gpu in found if gpu is not None)
    finally:
        library.nvmlShutdown()


def _counted(setting: str | None) -> tuple[str, ...]:
    """The visible devices as CUDA counts them, for systems without NVML and nvidia-smi.

    Such systems are containers with the compute libraries only. CUDA counts what
    CUDA_VISIBLE_DEVICES of this process grants, so only that many entries of ``setting`` are valid.
    """
    try:
        library = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return ()
    count = ctypes.c_int()
    if library.cuInit(0) != 0 or library.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return ()
    named = range(count.value) if setting is None else setting.split(",")
    return tuple(str(token).strip() for token in named)[: count.value]


def _one(library: ctypes.CDLL, number: int) -> Gpu | None:
    """GPU number ``number`` with its MIG instances, or None if it does not answer."""
    device = ctypes.c_void_p()
    if library.nvmlDeviceGetHandleByIndex_v2(number, ctypes.byref(device)) != 0:
        return None
    uuid = _text(library.nvmlDeviceGetUUID, device)
    if not uuid:
        return None
    memory = _Memory()
    known = library.nvmlDeviceGetMemoryInfo(device, ctypes.byref(memory)) == 0
    now, later = ctypes.c_uint(), ctypes.c_uint()
    mig = (
        library.nvmlDeviceGetMigMode(device, ctypes.byref(now), ctypes.byref(later)) == 0
        and now.value == 1
    )
    slices: list[str] = []
    most = ctypes.c_uint()
    if mig and library.nvmlDeviceGetMaxMigDeviceCount(device, ctypes.byref(most)) == 0:
        for place in range(most.value):
            part = ctypes.c_void_p()
            if library.nvmlDeviceGetMigDeviceHandleByIndex(device, place, ctypes.byref(part)) == 0:
                slices.append(_text(library.nvmlDeviceGetUUID, part))
    return Gpu(
        uuid,
        _text(library.nvmlDeviceGetName, device),
        memory.total if known else None,
        mig,
        tuple(filter(None, slices)),
    )


def _text(call: Callable[..., int], device: ctypes.c_void_p) -> str:
    buffer = ctypes.create_string_buffer(96)
    return buffer.value.decode(errors="replace") if call(device, buffer, 96) == 0 else ""
