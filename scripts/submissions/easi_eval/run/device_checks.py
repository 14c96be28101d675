"""Checks of the GPUs: the machine's driver against torch's build and against the options."""

from __future__ import annotations

from dataclasses import replace
from enum import Enum

from ..config import RunConfig
from ..core.errors import EasiError
from ..engine.processes.gpus import SETUP, Machine, TorchBuild

WORKS_BUT = "this works, but kernels compiled at run time may not"


class DriverFit(Enum):
    """How the CUDA version that the driver supports fits the one that torch is built for."""

    FITS = "at least as new, or not known"
    # CUDA's minor-version compatibility: within one major version an older driver works.
    OLDER_MINOR = "older, of the same major version"
    TOO_OLD = "of an older major version"


def driver_fit(machine: Machine, build: TorchBuild) -> DriverFit:
    """Judge the driver against torch's build; a side that is not known fits."""
    if not machine.driver_cuda or not build.cuda or machine.driver_cuda >= build.cuda:
        return DriverFit.FITS
    older_major = machine.driver_cuda[0] < build.cuda[0]
    return DriverFit.TOO_OLD if older_major else DriverFit.OLDER_MINOR


def dotted(version: tuple[int, int] | None) -> str:
    """Return a version for users; ``?`` if it is not known."""
    return ".".join(map(str, version)) if version else "?"


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
    cpu = f"or run on the CPU (slow): {replace(cfg, device='cpu').command()}"
    seen = (
        f"{max(machine.present, machine.visible)} GPU(s) are here, "
        f"but torch {build.version} cannot use them"
    )
    if machine.trouble:
        raise EasiError(f"{seen}: {machine.trouble}", hint=f"repair the driver; {cpu}")
    if build.cuda is None:
        raise EasiError(
            f"{seen}: it is built without CUDA", hint=f"rm -rf .venv and run: {SETUP}; {cpu}"
        )
    most = machine.shared or machine.visible
    if cfg.nproc > most:
        raise EasiError(
            f"--nproc {cfg.nproc} is more than the {most} visible GPU(s)",
            hint=f"use --nproc {most}, or make more visible with CUDA_VISIBLE_DEVICES",
        )
    supported, built = dotted(machine.driver_cuda), dotted(build.cuda)
    fit = driver_fit(machine, build)
    if fit is DriverFit.TOO_OLD:
        raise EasiError(
            f"{seen}: it is built for CUDA {built}, and the driver supports up to {supported}",
            hint=f"install a newer NVIDIA driver; {cpu}",
        )
    if fit is DriverFit.OLDER_MINOR:
        return (f"the driver supports CUDA {supported}, torch is built for {built}: {WORKS_BUT}",)
    return ()


def _without_gpus(cfg: RunConfig, machine: Machine) -> tuple[str, ...]:
    if cfg.smoke and cfg.device is None:
        return ()
    masked = f" (CUDA_VISIBLE_DEVICES is {machine.mask!r})" if machine.mask is not None else ""
    raise EasiError(
        f"no GPU is visible{masked}",
        hint=f"check with {SETUP} --check, or run on the CPU (slow): "
        f"{replace(cfg, device='cpu').command()}",
    )
