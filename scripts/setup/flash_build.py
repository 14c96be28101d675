"""Builds flash-attn where this is possible.

It has no wheel for the pinned torch, and compiling it needs nvcc and a GPU to compile for.
"""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

LIMIT_SECONDS = 45 * 60
_GIB_PER_JOB = 5  # one compiler of flash-attn's templates was seen to take up to 4 GiB


@dataclass(frozen=True)
class Machine:
    """What decides whether flash-attn can be built here.

    Attributes:
        capabilities: Compute capability of each GPU as (major, minor).
        nvcc: CUDA version of the compiler as (major, minor); None if there is none.
        compiler: Path of the C++ compiler.
        torch_cuda: CUDA version of the installed torch; None if it is built without CUDA.
        cpus: CPU cores that this process may use.
        memory_gib: Physical memory.
    """

    capabilities: tuple[tuple[int, int], ...]
    nvcc: tuple[int, int] | None
    compiler: str | None
    torch_cuda: tuple[int, int] | None
    cpus: int
    memory_gib: int


def why_not(machine: Machine) -> str | None:
    """Return one line on why flash-attn cannot be built, or None if it can."""
    if not machine.capabilities:
        return "no CUDA GPU here"
    if min(machine.capabilities) < (8, 0):
        return "it needs GPUs of compute capability 8.0 or newer"
    if machine.torch_cuda is None:
        return "this torch is built without CUDA"
    if machine.nvcc is None:
        return "no CUDA compiler (nvcc) here"
    if machine.nvcc[0] != machine.torch_cuda[0] or machine.nvcc < (12, 3):
        return (
            f"nvcc is of CUDA {_dotted(machine.nvcc)}, torch of CUDA {_dotted(machine.torch_cuda)}"
        )
    if machine.compiler is None:
        return "no C++ compiler (g++) here"
    return None


def build_variables(machine: Machine) -> dict[str, str]:
    """Return the environment variables of the build.

    It compiles the pinned source for the GPUs of this machine only. By default, flash-attn's set-up
    would download an unpinned binary.
    """
    jobs = max(1, min(machine.cpus, machine.memory_gib // _GIB_PER_JOB))
    return {
        "FLASH_ATTENTION_FORCE_BUILD": "TRUE",
        "FLASH_ATTN_CUDA_ARCHS": ";".join(
            sorted({_architecture(capability) for capability in machine.capabilities})
        ),
        "MAX_JOBS": str(jobs),
        "NVCC_THREADS": "1",
    }


def look(venv: Path) -> Machine:
    """Describe this machine; GPUs are found through the CUDA driver, without importing torch."""
    said = "".join(
        file.read_text("utf-8")
        for file in venv.glob("lib/python3.*/site-packages/torch/version.py")
    )
    found = re.search(r"^cuda[^=]*= *'(\d+)\.(\d+)", said, re.MULTILINE)
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return Machine(
        capabilities=_capabilities(),
        nvcc=_nvcc_version(),
        compiler=shutil.which("g++") or shutil.which("c++"),
        torch_cuda=(int(found[1]), int(found[2])) if found else None,
        cpus=len(os.sched_getaffinity(0)),
        memory_gib=pages // 2**30,
    )


def build(
    argv: Sequence[str], environment: Mapping[str, str], log: Path, limit: float = LIMIT_SECONDS
) -> str | None:
    """Run the install command; end its whole process group if it takes too long.

    Args:
        argv: The command.
        environment: All its environment variables.
        log: File for its output.
        limit: The most seconds that it may take.

    Returns:
        None on success, else one line on the failure.
    """
    with log.open("wb") as out:
        process = subprocess.Popen(
            argv,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            code = process.wait(timeout=limit)
        except subprocess.TimeoutExpired:
            return f"its build took more than {limit / 60:.0f} minutes (log: {log})"
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    return None if code == 0 else f"its build failed (log: {log})"


def _capabilities() -> tuple[tuple[int, int], ...]:
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return ()
    count, device, major, minor = (ctypes.c_int() for _ in range(4))
    if driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)):
        return ()
    found = []
    for ordinal in range(count.value):
        driver.cuDeviceGet(ctypes.byref(device), ordinal)
        # 75 and 76: CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and ..._MINOR.
        driver.cuDeviceGetAttribute(ctypes.byref(major), 75, device)
        driver.cuDeviceGetAttribute(ctypes.byref(minor), 76, device)
        found.append((major.value, minor.value))
    return tuple(found)


def _nvcc_version() -> tuple[int, int] | None:
    homes = [os.environ.get("CUDA_HOME"), os.environ.get("CUDA_PATH"), "/usr/local/cuda"]
    places = [shutil.which("nvcc"), *(str(Path(home, "bin", "nvcc")) for home in homes if home)]
    for nvcc in places:
        if nvcc and os.access(nvcc, os.X_OK):
            said = subprocess.run(
                [nvcc, "--version"], capture_output=True, text=True, stdin=subprocess.DEVNULL
            ).stdout
            if found := re.search(r"release (\d+)\.(\d+)", said):
                return int(found[1]), int(found[2])
    return None


def _architecture(capability: tuple[int, int]) -> str:
    major, _ = capability
    return f"{major}0" if major in (8, 9, 10, 11, 12) else f"{major}{capability[1]}"


def _dotted(version: tuple[int, int]) -> str:
    return ".".join(map(str, version))
