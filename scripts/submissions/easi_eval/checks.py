"""Checks of this machine before a run starts: packages, folders, GPUs.

Nothing here imports torch, because that takes seconds.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from .backends.catalog import locate
from .config import RunConfig, format_model_args
from .data.connection import refuse_unusable
from .data.needs import HubSettings
from .errors import EasiError, Refusals
from .execution.supervisor import capture
from .submission.endpoint import check_token, endpoint

NEEDED = (
    "rich",
    "pandas",
    "openpyxl",
    "huggingface_hub",
    "requests",
    "dotenv",
    "torch",
    "accelerate",
)
SETUP = "run: bash scripts/setup.sh"

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


# ---- packages, folders, token --------------------------------------------------------------------


def check_dependencies(repository: Path) -> None:
    """Raise EasiError if this Python lacks a package that every run needs."""
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        ready = (repository / ".venv" / "bin" / "python").exists()
        raise EasiError(
            f"this Python lacks {', '.join(missing)}",
            hint="source .venv/bin/activate (if that does not help, run: bash scripts/setup.sh)"
            if ready
            else SETUP,
        )


def check_setup(
    cfg: RunConfig, refusals: Refusals, environ: Mapping[str, str] = os.environ
) -> None:
    """Check everything that depends on the machine and the options, but not on the model.

    The failed checks raise EasiError, or are collected in ``refusals`` in a dry run.
    """
    with refusals.noted():
        locate(cfg.kind, cfg.backend_path)
    with refusals.noted():
        check_attention(cfg, importlib.util.find_spec("flash_attn") is not None, flash_attn_imports)
    with refusals.noted():
        check_output_dir(cfg.output_dir)
    if not cfg.smoke:
        with refusals.noted():
            refuse_unusable(HubSettings.from_env(environ), environ)
        if cfg.kind.takes_dataset_dir and not cfg.import_results:
            with refusals.noted():
                # Only existence is checked: a complete dataset folder may be read-only.
                _existing(cfg.dataset_dir, "--dataset-dir")
    if cfg.submit:
        with refusals.noted():
            endpoint(environ)
        with refusals.noted():
            check_token(HubSettings.from_env(environ).token)


def check_output_dir(folder: Path) -> None:
    """Raise EasiError if the folder cannot be written to. Does not create it."""
    there = _existing(folder, "--output-dir")
    if not os.access(there, os.W_OK | os.X_OK):
        raise EasiError(
            f"--output-dir {folder}: {there} is not writable", hint="give another --output-dir"
        )


def _existing(folder: Path, option: str) -> Path:
    """Return the folder or its nearest existing parent; EasiError if that is not a folder."""
    there = folder.absolute()
    while not there.exists() and not there.is_symlink():
        there = there.parent
    if not there.is_dir():
        raise EasiError(
            f"{option} {folder}: {there} is not a folder", hint=f"give another {option}"
        )
    return there


def flash_attn_imports() -> bool:
    """Whether flash_attn can be imported.

    A build for another torch version is installed and still fails to import. The test takes seconds
    and runs in a separate process.
    """
    return capture([sys.executable, "-c", "import flash_attn"], seconds=120) is not None


def check_attention(cfg: RunConfig, has_flash_attn: bool, imports: Callable[[], bool]) -> None:
    """Raise EasiError if flash_attention_2 is requested and cannot be used.

    Args:
        cfg: The run; its model arguments may name an attention implementation.
        has_flash_attn: The package is installed.
        imports: Slow test whether it can be imported; called only if everything else is fine.
    """
    asked = {
        key
        for key, value in cfg.model_arguments.items()
        if value.strip("\"'") == "flash_attention_2"
    }
    if not asked:
        return
    if not has_flash_attn:
        why = "flash_attn is not installed"
    elif cfg.device == "cpu":
        why = "it does not run on the CPU"
    elif not imports():
        why = "flash_attn does not import (was it built for another torch?)"
    else:
        return
    arguments = {
        key: "sdpa" if key in asked else value for key, value in cfg.model_arguments.items()
    }
    raise EasiError(
        f"{min(asked)}=flash_attention_2, but {why}",
        hint=replace(cfg, model_args=format_model_args(arguments)).command(),
    )


def machine_line(nproc: int) -> str:
    """Describe the hardware in one line, for people who want to repeat the run.

    It names GPU models, processes and the Python version, and nothing that identifies the machine.
    """
    from collections import Counter

    from .execution.gpus import installed_gpus

    gpus = Counter(gpu.name or "unnamed GPU" for gpu in installed_gpus())
    said = ", ".join(f"{count} x {name}" for name, count in sorted(gpus.items())) or "no GPU"
    mask = os.environ.get("CUDA_VISIBLE_DEVICES")
    seen = f" (CUDA_VISIBLE_DEVICES={mask})" if gpus and mask is not None else ""
    return (
        f"{said}{seen}, {nproc} process{'' if nproc == 1 else 'es'}, "
        f"Python {'.'.join(map(str, sys.version_info[:3]))}"
    )


# ---- GPUs ----------------------------------------------------------------------------------------


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
        from .execution.gpus import visible_gpus

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
        raise EasiError("torch is not installed", hint=SETUP)
    text = (Path(spec.origin).parent / "version.py").read_text(encoding="utf-8")

    def value(name: str) -> str | None:
        found = re.search(rf"^{name}\b[^=\n]*=\s*'([^']*)'", text, re.MULTILINE)
        return found[1] if found else None

    cuda = value("cuda")
    major, minor = [*cuda.split("."), "0"][:2] if cuda else ("0", "0")
    return TorchBuild(
        value("__version__") or "?", (int(major), int(minor)) if cuda else None, value("hip")
    )


def check_device(
    cfg: RunConfig, needs_gpu: bool, machine: Machine, build: TorchBuild
) -> tuple[str, ...]:
    """Check that the requested device can run the model, and return notes for the user.

    ``--smoke`` with its own model may run on the CPU without ``--device cpu``. A pure function.

    Args:
        cfg: The run.
        needs_gpu: ``ModelChoice.needs_gpu``.
        machine: What the driver reports.
        build: What torch was built for.

    Raises:
        EasiError: The device, the driver or the number of GPUs does not suffice.
    """
    if cfg.device in ("cpu", "mps") or not needs_gpu:
        return ()
    if build.hip:
        return ("torch is built for ROCm: GPUs are not counted beforehand",)
    if machine.visible == 0 and not (machine.present and machine.trouble):
        return _without_gpus(cfg, machine)
    cpu = f"to run on the CPU: {replace(cfg, device='cpu').command()}"
    seen = (
        f"{max(machine.present, machine.visible)} GPU(s) are here, "
        f"but torch {build.version} cannot use them"
    )
    if machine.trouble:
        raise EasiError(f"{seen}: {machine.trouble}", hint=f"repair the driver; {cpu}")
    if build.cuda is None:
        raise EasiError(
            f"{seen}: it is built without CUDA", hint=f"rm -rf .venv and {SETUP}; {cpu}"
        )
    most = machine.shared or machine.visible
    if cfg.nproc > most:
        raise EasiError(
            f"--nproc {cfg.nproc} is more than the {most} visible GPU(s)",
            hint=f"use --nproc {most}, or make more visible with CUDA_VISIBLE_DEVICES",
        )
    if machine.driver_cuda is None:
        return ()
    spoken, built = (f"{major}.{minor}" for major, minor in (machine.driver_cuda, build.cuda))
    if machine.driver_cuda[0] < build.cuda[0]:
        raise EasiError(
            f"{seen}: it is built for CUDA {built}, and the driver speaks up to {spoken}",
            hint=f"install a newer NVIDIA driver; {cpu}",
        )
    # CUDA's minor-version compatibility: within one major version an older driver works.
    if machine.driver_cuda < build.cuda:
        return (
            f"the driver speaks CUDA {spoken} and torch is built for {built}: this works, "
            "but kernels compiled at run time may not",
        )
    return ()


def _without_gpus(cfg: RunConfig, machine: Machine) -> tuple[str, ...]:
    if cfg.smoke and cfg.device is None:
        return ()
    masked = f" (CUDA_VISIBLE_DEVICES is {machine.mask!r})" if machine.mask is not None else ""
    what = (
        "--device cuda, but no GPU is visible"
        if cfg.device
        else "no GPU is visible, and the CPU must be asked for"
    )
    raise EasiError(
        what + masked, hint=f"on the CPU (slow): {replace(cfg, device='cpu').command()}"
    )
