"""What can be refused before any work starts, from this machine: packages, folders, GPUs. Nothing here imports torch."""

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

# Results of cuInit that deserve a sentence of their own (cuda.h, CUresult).
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


# ---- packages, folders, token -------------------------------------------------------------------------------------


def check_dependencies(repository: Path) -> None:
    """Refuse an interpreter that lacks what every run needs."""
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
    """Refuse what the machine alone shows, whatever the model turns out to be."""
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
                _existing(cfg.dataset_dir, "--dataset-dir")  # a complete one may be read-only
    if cfg.submit:
        with refusals.noted():
            endpoint(environ)
        with refusals.noted():
            check_token(HubSettings.from_env(environ).token)


def check_output_dir(folder: Path) -> None:
    """Refuse a folder that could not be written to, without making it."""
    there = _existing(folder, "--output-dir")
    if not os.access(there, os.W_OK | os.X_OK):
        raise EasiError(
            f"--output-dir {folder}: {there} is not writable", hint="give another --output-dir"
        )


def _existing(folder: Path, option: str) -> Path:
    """What is there of ``folder``, itself or the nearest above it. Refuses what is no folder."""
    there = folder.absolute()
    while not there.exists() and not there.is_symlink():
        there = there.parent
    if not there.is_dir():
        raise EasiError(
            f"{option} {folder}: {there} is not a folder", hint=f"give another {option}"
        )
    return there


def flash_attn_imports() -> bool:
    """Whether flash_attn can be imported: one built for another torch is there and fails. Takes seconds, in a process of its own."""
    return capture([sys.executable, "-c", "import flash_attn"], seconds=120) is not None


def check_attention(cfg: RunConfig, has_flash_attn: bool, imports: Callable[[], bool]) -> None:
    """Refuse flash_attention_2 where the package is not there or does not import, or on the CPU, where it cannot run.

    ``imports`` is asked only where all else is well.
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
    """What a run is made on, for who repeats it: GPUs by name, processes, Python. Nothing that tells whose machine it is."""
    from collections import Counter

    from .execution.gpus import installed_gpus

    gpus = Counter(gpu.name or "unnamed GPU" for gpu in installed_gpus())
    said = ", ".join(f"{count} x {name}" for name, count in sorted(gpus.items())) or "no GPU"
    mask = os.environ.get("CUDA_VISIBLE_DEVICES")
    seen = f" (CUDA_VISIBLE_DEVICES={mask})" if gpus and mask is not None else ""
    return f"{said}{seen}, {nproc} process{'' if nproc == 1 else 'es'}, Python {'.'.join(map(str, sys.version_info[:3]))}"


# ---- GPUs ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Machine:
    """What the NVIDIA driver says, without torch. ``present`` counts boards, ``visible`` what CUDA shows this process.

    ``shared`` counts what workers are given: also the MIG instances, of which CUDA shows each process only one.
    """

    present: int = 0
    visible: int = 0
    driver_cuda: tuple[int, int] | None = None  # the newest CUDA the driver speaks
    trouble: str = ""  # why ``visible`` GPUs cannot be counted or used
    mask: str | None = None  # CUDA_VISIBLE_DEVICES
    shared: int = 0


@dataclass(frozen=True)
class TorchBuild:
    """What the installed torch was built for; ``cuda`` and ``hip`` are None in a CPU build."""

    version: str
    cuda: tuple[int, int] | None
    hip: str | None = None


def probe_machine(environ: Mapping[str, str] = os.environ) -> Machine:
    """Ask the driver through libcuda. Respects CUDA_VISIBLE_DEVICES, makes no context and takes no GPU memory."""
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
    hidden = result == NO_DEVICE  # none there, or all masked: not a fault
    trouble = (
        ""
        if hidden
        else f"the driver answers {result}: {CUDA_ERRORS.get(result, 'see CUresult in cuda.h')}"
    )
    return Machine(present, 0, spoken, trouble, mask)


def read_torch_build() -> TorchBuild:
    """Read torch/version.py as text: importing torch takes seconds."""
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
    """Refuse a run that its device cannot carry; otherwise lines worth saying. ``needs_gpu``: ModelChoice's.

    Pure. ``--smoke`` with its own model may run on the CPU without being asked to.
    """
    if cfg.device in ("cpu", "mps") or not needs_gpu:
        return ()
    if build.hip:
        return ("torch is built for ROCm: GPUs are not counted beforehand",)
    if machine.visible == 0 and not (machine.present and machine.trouble):
        return _without_gpus(cfg, machine)
    cpu = f"to run on the CPU: {replace(cfg, device='cpu').command()}"
    seen = f"{max(machine.present, machine.visible)} GPU(s) are here, but torch {build.version} cannot use them"
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
    if machine.driver_cuda < build.cuda:  # one major version is compatible within itself
        return (
            f"the driver speaks CUDA {spoken} and torch is built for {built}: this works, but kernels compiled at run time may not",
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
