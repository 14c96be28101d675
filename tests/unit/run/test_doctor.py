"""--check: packages against the lock, the driver's GPUs against torch's."""

from __future__ import annotations

from pathlib import Path

import pytest

from easi_eval.engine.processes.gpus import Machine, TorchBuild
from easi_eval.run.doctor import (
    PROJECTS,
    REPOSITORY,
    SHOWN,
    Finding,
    Level,
    TorchView,
    judge_gpus,
    judge_imports,
    judge_packages,
    pinned,
)

EVERYTHING = dict.fromkeys((*PROJECTS, *SHOWN), "1.0")
BUILD = TorchBuild("2.9.1+cu128", (12, 8))


def worst(findings: list[Finding]) -> Level:
    levels = {finding.level for finding in findings}
    return next(level for level in (Level.MISSING, Level.NOTE, Level.FINE) if level in levels)


def said(findings: list[Finding], level: Level) -> str:
    return "; ".join(finding.text for finding in findings if finding.level is level)


def test_everything_as_pinned_is_fine() -> None:
    assert worst(judge_packages({"torch": "1.0"}, EVERYTHING)) is Level.FINE


def test_a_missing_package_stops_a_run_and_a_differing_one_does_not() -> None:
    findings = judge_packages({"torch": "2.9.1", "timm": "1.0"}, EVERYTHING)
    assert said(findings, Level.MISSING) == "not installed: timm"
    assert said(findings, Level.NOTE) == "other than pinned: torch 1.0 (pinned 2.9.1)"


def test_a_missing_project_is_said() -> None:
    versions = {name: version for name, version in EVERYTHING.items() if name != "easi-lmms-eval"}
    assert said(judge_packages({}, versions), Level.MISSING) == "not installed: easi-lmms-eval"


def test_an_import_that_fails_is_said_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "lacks_a_library.py").write_text(
        "raise OSError('libGL.so.1: cannot open shared object file\\nNo such file')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    findings = judge_imports({"json": "json", "broken": "lacks_a_library"})
    assert [finding.level for finding in findings] == [Level.MISSING]
    assert (
        findings[0].text
        == "broken cannot be imported: OSError: libGL.so.1: cannot open shared object file No "
        "such file"
    )


@pytest.mark.parametrize(
    ("machine", "view", "level", "text"),
    [
        (Machine(8, 8, (12, 8)), TorchView(8, ("H200",) * 8), Level.FINE, ""),
        (Machine(8, 8, (13, 0)), TorchView(8, ("H200",) * 8), Level.FINE, ""),
        (
            Machine(8, 8, (12, 4)),
            TorchView(8, ("A100",) * 8),
            Level.NOTE,
            "driver is older than torch's CUDA build (12.4 < 12.8)",
        ),
        (
            Machine(8, 8, (11, 4)),
            TorchView(0),
            Level.MISSING,
            "driver is older than torch's CUDA build (11.4 < 12.8)",
        ),
        (
            Machine(8, 8, (12, 8)),
            TorchView(0),
            Level.MISSING,
            "torch can use 0 of the 8 visible GPU(s)",
        ),
        (
            Machine(8, 0, (12, 8), trouble="the driver answers 803: reboot"),
            TorchView(0),
            Level.MISSING,
            "803",
        ),
        (
            Machine(8, 0, (12, 8), mask=""),
            TorchView(0),
            Level.NOTE,
            "no GPU is visible (CUDA_VISIBLE_DEVICES=)",
        ),
        (
            Machine(8, 0, None, trouble="libcuda.so.1 is not here"),
            TorchView(0),
            Level.MISSING,
            "libcuda.so.1",
        ),
        (Machine(), TorchView(0), Level.NOTE, "no NVIDIA driver"),
        (
            Machine(),
            TorchView(trouble="ImportError: libcudart"),
            Level.MISSING,
            "does not start: ImportError: libcudart",
        ),
    ],
)
def test_gpus_of_the_driver_against_those_of_torch(
    machine: Machine, view: TorchView, level: Level, text: str
) -> None:
    findings = judge_gpus(machine, BUILD, view)
    assert worst(findings) is level and text in said(findings, level)


def test_no_torch_is_missing() -> None:
    assert worst(judge_gpus(Machine(), None, TorchView())) is Level.MISSING


def test_the_lock_is_read() -> None:
    assert pinned(REPOSITORY, "base.lock")["torch"] == "2.9.1"
