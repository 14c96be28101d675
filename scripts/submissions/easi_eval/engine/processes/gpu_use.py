"""Memory and use of a run's GPUs, as the driver reports them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress

from .gpus import VARIABLE, device_uuid, installed_gpus, visible


def gpu_use(nproc: int) -> Iterator[str]:
    """Yield memory and use of the GPUs that ``nproc`` workers are given, as of now.

    For example ``0: 71/80 GiB, 98 %; 1: ...``, with the numbers of nvidia-smi. MIG instances report
    no use and are left out. Ends at the first failure, and at once without GPUs or ``pynvml``.
    """
    machine = installed_gpus()
    tokens = visible(os.environ.get(VARIABLE), machine)
    given = tokens[: len(tokens) // nproc * nproc]  # as ``gpus.share`` deals them out
    boards = [uuid for uuid in (device_uuid(token, machine) for token in given) if uuid]
    boards = [uuid for uuid in boards if uuid.startswith("GPU-")]
    if not boards:
        return
    try:
        import pynvml as nvml  # takes a tenth of a second
    except ImportError:
        return
    with suppress(nvml.NVMLError):
        nvml.nvmlInit()
        devices = [nvml.nvmlDeviceGetHandleByUUID(uuid) for uuid in boards]
        while True:
            said = []
            for device in devices:
                memory = nvml.nvmlDeviceGetMemoryInfo(device)
                busy = nvml.nvmlDeviceGetUtilizationRates(device).gpu
                number = nvml.nvmlDeviceGetIndex(device)
                used, total = (count / 2**30 for count in (memory.used, memory.total))
                said.append(f"{number}: {used:.0f}/{total:.0f} GiB, {busy} %")
            yield "; ".join(said)
