"""The report of ``bash scripts/setup.sh --check``: packages, GPUs, and what is missing.

It only looks and changes nothing. Exit status 1 if a run could not start.
"""

from __future__ import annotations

import importlib
import os
import platform
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from ..core.errors import EasiError, worded
from ..core.libraries import installed, other_than_pinned, pinned
from ..core.places import REPOSITORY
from ..core.profiles import NEWER, own_packages
from ..engine.processes.gpus import Machine, TorchBuild, probe_machine, read_torch_build
from .device_checks import WORKS_BUT, DriverFit, dotted, driver_fit

PROJECTS = ("easi-eval", "easi-vlmevalkit", "easi-lmms-eval")
SHOWN = (
    "easi-eval",
    "ms-vlmeval",
    "lmms-eval",
    "torch",
    "transformers",
    "accelerate",
    "datasets",
    "huggingface-hub",
    "decord",
)
OPTIONAL = ("vllm", "flash-attn", "polygon3")
# Distribution -> module that a run imports from it. Those that use shared libraries of the system
# fail at import if one is missing.
IMPORTED = {
    "torch": "torch",
    "decord": "decord",
    "opencv-python-headless": "cv2",
    "av": "av",
    "pillow": "PIL.Image",
    "pandas": "pandas",
    "openpyxl": "openpyxl",
    "accelerate": "accelerate",
    "python-dotenv": "dotenv",
    "rich": "rich",
}


class Level(Enum):
    """How serious a finding is: a NOTE deserves a look, MISSING prevents a run."""

    FINE = "ok"
    NOTE = "note"
    MISSING = "missing"


@dataclass(frozen=True)
class Finding:
    """One line of the report."""

    level: Level
    text: str


@dataclass(frozen=True)
class TorchView:
    """What torch itself reports; ``trouble`` says why it could not be imported or queried."""

    usable: int = 0
    names: tuple[str, ...] = ()
    trouble: str = ""


def judge_packages(pins: Mapping[str, str], versions: Mapping[str, str]) -> list[Finding]:
    """Compare the installed versions with the locks.

    Returns one finding with the main versions, one for missing packages, one for versions that
    differ from the lock, and one for each optional package. A pure function.

    Args:
        pins: Pinned version by normalised name.
        versions: Installed version by normalised name.
    """
    findings = [
        Finding(
            Level.FINE, ", ".join(f"{name} {versions[name]}" for name in SHOWN if name in versions)
        )
    ]
    missing = sorted({*PROJECTS, *SHOWN, *pins} - set(versions))
    if missing:
        findings.append(Finding(Level.MISSING, f"not installed: {', '.join(missing)}"))
    if differing := other_than_pinned(pins, versions):
        findings.append(Finding(Level.NOTE, f"other than pinned: {', '.join(differing)}"))
    for name in OPTIONAL:
        there = (
            f"{name} {versions[name]}"
            if name in versions
            else f"{name} is not installed (optional)"
        )
        findings.append(Finding(Level.FINE, there))
    return findings


def judge_newer(pins: Mapping[str, str], versions: Mapping[str, str]) -> Finding:
    """Compare what profile 5 holds with its lock. Most models do not need it. A pure function."""
    lacking = sorted(pins.keys() - versions.keys())
    if lacking or not versions:
        what = ", ".join(lacking) or "everything"
        return Finding(Level.NOTE, f"no models that need transformers 5: it lacks {what}")
    if differing := other_than_pinned(pins, versions):
        return Finding(Level.NOTE, f"profile 5, other than pinned: {', '.join(differing)}")
    return Finding(Level.FINE, f"for models that need it: transformers {versions['transformers']}")


def judge_imports(modules: Mapping[str, str]) -> list[Finding]:
    """Import what a run imports, because a missing system library only shows then."""
    findings = []
    for distribution, module in modules.items():
        try:
            importlib.import_module(module)
        # A broken package may raise anything, and the report has to name it.
        except Exception as error:
            findings.append(
                Finding(Level.MISSING, f"{distribution} cannot be imported: {_one_line(error)}")
            )
    return findings or [Finding(Level.FINE, f"imports: {', '.join(modules)}")]


def judge_gpus(machine: Machine, build: TorchBuild | None, view: TorchView) -> list[Finding]:
    """Compare the driver's GPUs with those that torch can use. A pure function.

    GPUs that torch cannot use are MISSING; no GPU at all is a NOTE, because ``--device cpu`` works.

    Args:
        machine: What the driver reports.
        build: What torch was built for; None if it is not installed.
        view: What torch itself reports.
    """
    if build is None:
        return [Finding(Level.MISSING, "torch is not installed")]
    target = f"CUDA {dotted(build.cuda)}" if build.cuda else "ROCm" if build.hip else "the CPU only"
    built = f"torch {build.version} is built for {target}"
    if view.trouble:
        return [Finding(Level.MISSING, f"{built} and does not start: {view.trouble}")]
    findings = [Finding(Level.FINE, built)]
    newest = f", supports up to CUDA {dotted(machine.driver_cuda)}" if machine.driver_cuda else ""
    masked = f" (CUDA_VISIBLE_DEVICES={machine.mask})" if machine.mask is not None else ""
    if not machine.present and not machine.visible and not machine.driver_cuda:
        findings.append(
            Finding(
                Level.NOTE, "no NVIDIA driver: models run with --device cpu only; --smoke works"
            )
        )
        return findings
    findings.append(
        Finding(
            Level.FINE,
            f"the driver has {machine.present} GPU(s), shows {machine.visible}{masked}{newest}",
        )
    )
    if machine.trouble and machine.present:
        findings.append(Finding(Level.MISSING, f"the GPUs cannot be used: {machine.trouble}"))
    elif (fit := driver_fit(machine, build)) is not DriverFit.FITS:
        older = (
            f"the driver is older than torch's CUDA build ({dotted(machine.driver_cuda)} < "
            f"{dotted(build.cuda)})"
        )
        findings.append(
            Finding(Level.MISSING, f"{older}: install a newer NVIDIA driver")
            if fit is DriverFit.TOO_OLD
            else Finding(Level.NOTE, f"{older}: {WORKS_BUT}")
        )
    if view.usable < machine.visible:
        findings.append(
            Finding(
                Level.MISSING,
                f"torch can use {view.usable} of the {machine.visible} visible GPU(s)",
            )
        )
    elif machine.visible:
        findings.append(
            Finding(Level.FINE, f"torch can use {view.usable}: {', '.join(view.names)}")
        )
    else:
        findings.append(
            Finding(
                Level.NOTE,
                f"no GPU is visible{masked}: models run with --device cpu only; --smoke works",
            )
        )
    return findings


def ask_torch() -> TorchView:
    """Import torch, which takes seconds, and list the GPUs that it can use."""
    try:
        import torch

        usable = torch.cuda.device_count() if torch.cuda.is_available() else 0
        return TorchView(
            usable, tuple(torch.cuda.get_device_name(ordinal) for ordinal in range(usable))
        )
    except (ImportError, OSError, RuntimeError) as error:
        return TorchView(trouble=_one_line(error))


def examine() -> list[Finding]:
    """Examine this environment and return all findings."""
    findings = [Finding(Level.FINE, f"Python {platform.python_version()} in {sys.prefix}")]
    findings += judge_packages(pinned(REPOSITORY, "base.lock"), installed(tuple(sys.path)))
    newer = installed(own_packages(NEWER))
    findings.append(judge_newer(pinned(REPOSITORY, f"profile{NEWER}.lock"), newer))
    findings += judge_imports(IMPORTED)
    try:
        build = read_torch_build()
    except EasiError:
        build = None
    return findings + judge_gpus(probe_machine(os.environ), build, ask_torch())


def main() -> int:
    """Print the report and return the exit status."""
    findings = examine()
    for finding in findings:
        print(f"{finding.level.value:8}{finding.text}")
    if any(finding.level is Level.MISSING for finding in findings):
        print("a run could not start; for packages: bash scripts/setup.sh")
        return 1
    print("ready")
    return 0


def _one_line(error: BaseException) -> str:
    return " ".join(worded(error).split())[:240]


if __name__ == "__main__":
    sys.exit(main())
