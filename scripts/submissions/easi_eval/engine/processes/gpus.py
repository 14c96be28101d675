"""GPUs that this process may use, and their distribution over its workers.

Does not import torch.
"""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import os
import re
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...core.errors import EasiError

VARIABLE = "CUDA_VISIBLE_DEVICES"


@dataclass(frozen=True)
class Gpu:
    """One physical GPU.

    Attributes:
        mig: Whether MIG is on; then only the MIG instances can be used.
        slices: UUIDs of its MIG instances.
    """

    uuid: str
    name: str = ""
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
        device = device_uuid(token, machine)
        if device is None:
            break
        tokens.append(token)
        devices.append(device)
    return tuple(tokens) if len(set(devices)) == len(devices) else ()


def device_uuid(token: str, machine: Sequence[Gpu]) -> str | None:
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
            f"{nproc} workers for {len(gpus)} visible GPU{'s' if len(gpus) > 1 else ''}",
            hint=f"use --nproc {len(gpus)}, or show more in {VARIABLE}",
        )
    each = len(gpus) // nproc
    return ",".join(gpus[rank * each : (rank + 1) * each])


@functools.cache
def installed_gpus() -> tuple[Gpu, ...]:
    """The GPUs of the machine as NVML lists them, independent of CUDA_VISIBLE_DEVICES.

    A GPU that does not answer (for example because it has fallen off the bus) is left out.
    """
    try:
        ctypes.CDLL("libnvidia-ml.so.1")  # first: it costs less than the import
        import pynvml as nvml
    except (OSError, ImportError):
        return ()
    found: list[Gpu] = []
    with suppress(nvml.NVMLError):
        nvml.nvmlInit()
        for number in range(nvml.nvmlDeviceGetCount()):
            with suppress(nvml.NVMLError):
                found.append(_gpu(nvml, nvml.nvmlDeviceGetHandleByIndex(number)))
        nvml.nvmlShutdown()
    return tuple(found)


def _gpu(nvml: Any, device: Any) -> Gpu:
    """A GPU with its MIG instances."""
    mig, slices = False, []
    with suppress(nvml.NVMLError):  # it knows no MIG
        mig = nvml.nvmlDeviceGetMigMode(device)[0] == nvml.NVML_DEVICE_MIG_ENABLE
        for place in range(nvml.nvmlDeviceGetMaxMigDeviceCount(device) if mig else 0):
            with suppress(nvml.NVMLError):  # nothing is at this place
                part = nvml.nvmlDeviceGetMigDeviceHandleByIndex(device, place)
                slices.append(nvml.nvmlDeviceGetUUID(part))
    return Gpu(nvml.nvmlDeviceGetUUID(device), nvml.nvmlDeviceGetName(device), mig, tuple(slices))


def _counted(setting: str | None) -> tuple[str, ...]:
    """The visible devices as CUDA counts them, for systems without NVML.

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


# Frequent error codes of cuInit in words (``CUresult`` in cuda.h).
CUDA_ERRORS = {
    1: "invalid value",
    2: "out of memory",
    3: "not initialised",
    34: "stub library",
    46: "device unavailable",
    100: "no device",
    101: "invalid device",
    227: "cannot be used",
    802: "system not yet initialised (is the fabric manager running?)",
    803: "driver and its library are of different versions (reboot, or reload the driver)",
    804: "forward compatibility is not possible on this hardware",
    999: "unknown error (often a driver that needs a reboot)",
}


NO_DEVICE = 100
SETUP = "bash scripts/setup.sh"


def machine_line(nproc: int) -> str:
    """Describe the hardware in one line, for people who want to repeat the run.

    It names GPU models, workers and the Python version, and nothing that identifies the machine.
    """
    gpus = Counter(gpu.name for gpu in installed_gpus())
    said = ", ".join(f"{count} x {name}" for name, count in sorted(gpus.items())) or "no GPU"
    mask = os.environ.get("CUDA_VISIBLE_DEVICES")
    seen = f" (CUDA_VISIBLE_DEVICES={mask})" if gpus and mask is not None else ""
    return (
        f"{said}{seen}, {nproc} worker{'' if nproc == 1 else 's'}, "
        f"Python {'.'.join(map(str, sys.version_info[:3]))}"
    )


@dataclass(frozen=True)
class Machine:
    """What the NVIDIA driver reports, without torch.

    Attributes:
        present: Number of boards in the machine.
        visible: Number of devices that CUDA shows this process.
        driver_cuda: The newest CUDA version that the driver supports.
        trouble: Why ``visible`` devices cannot be counted or used.
        mask: Value of CUDA_VISIBLE_DEVICES.
        shared: Number of devices that workers can be given. It includes all MIG instances, of which
            CUDA shows only one to each process.
    """

    present: int = 0
    visible: int = 0
    driver_cuda: tuple[int, int] | None = None
    trouble: str = ""
    mask: str | None = None
    shared: int = 0


@dataclass(frozen=True)
class TorchBuild:
    """What the installed torch was built for; ``cuda`` and ``hip`` are None in a CPU build."""

    version: str
    cuda: tuple[int, int] | None
    hip: str | None = None


def probe_machine(environ: Mapping[str, str] = os.environ) -> Machine:
    """Query the driver through libcuda.

    Respects CUDA_VISIBLE_DEVICES, creates no CUDA context and uses no GPU memory.
    """
    boards = Path("/proc/driver/nvidia/gpus")
    present = len(list(boards.iterdir())) if boards.is_dir() else 0
    mask = environ.get("CUDA_VISIBLE_DEVICES")
    try:
        cuda = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return Machine(
            present,
            trouble="the driver's library libcuda.so.1 is not here" if present else "",
            mask=mask,
        )
    number = ctypes.c_int()
    spoken = (
        (number.value // 1000, number.value % 1000 // 10)
        if cuda.cuDriverGetVersion(ctypes.byref(number)) == 0
        else None
    )
    result = cuda.cuInit(0)
    if result == 0:
        result = cuda.cuDeviceGetCount(ctypes.byref(number))
    if result == 0:
        return Machine(
            max(present, number.value),
            number.value,
            spoken,
            mask=mask,
            shared=len(visible_gpus(environ)),
        )
    # No device, or all of them masked by CUDA_VISIBLE_DEVICES: not a fault of the driver.
    hidden = result == NO_DEVICE
    trouble = (
        ""
        if hidden
        else f"the driver answers {result}: {CUDA_ERRORS.get(result, 'see CUresult in cuda.h')}"
    )
    return Machine(present, 0, spoken, trouble, mask)


def read_torch_build() -> TorchBuild:
    """Read the build from ``torch/version.py`` as text, because importing torch takes seconds.

    Raises:
        EasiError: torch is not installed.
    """
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        raise EasiError("torch is not installed", hint=f"run: {SETUP}")
    text = (Path(spec.origin).parent / "version.py").read_text(encoding="utf-8")

    def value(name: str) -> str | None:
        found = re.search(rf"^{name}\b[^=\n]*=\s*'([^']*)'", text, re.MULTILINE)
        return found[1] if found else None

    cuda = value("cuda")
    major, minor = [*cuda.split("."), "0"][:2] if cuda else ("0", "0")
    return TorchBuild(
        value("__version__") or "?", (int(major), int(minor)) if cuda else None, value("hip")
    )
