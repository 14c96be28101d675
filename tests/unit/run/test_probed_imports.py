"""When a model class is imported beside a download, and what is made of how that ends."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from easi_eval.core.errors import EasiError
from easi_eval.core.events import DataProgress, Emit, Notice
from easi_eval.engine.processes.jobs import Job
from easi_eval.run.import_probe import import_probe

MISSING, PRESENT = DataProgress("questions", 1, 9), DataProgress("questions", 9, 9)


def context(tmp_path: Path, code: str, smoke: bool = False) -> Any:
    """A context whose backend imports a class by running ``code``."""
    pid = f"import os; open({str(tmp_path / 'pid')!r}, 'w').write(f'{{os.getpid()}}.')"
    job = Job("import", (sys.executable, "-I", "-S", "-c", f"{pid}\n{code}"))
    return SimpleNamespace(
        cfg=SimpleNamespace(smoke=smoke),
        model=SimpleNamespace(cls="Some"),
        backend=SimpleNamespace(import_job=lambda cfg, model: job),
        log=tmp_path / "run.log",
    )


def emit_until(emit: Emit, file: Path, text: str) -> None:
    """Download until ``file`` has ``text``."""
    while not (file.exists() and text in file.read_text()):
        emit(MISSING)
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("events", "smoke"),
    [([PRESENT, PRESENT], False), ([Notice("a line")], False), ([MISSING, MISSING], True)],
)
def test_nothing_is_started_without_a_download(
    tmp_path: Path, events: list[Any], smoke: bool
) -> None:
    seen: list[object] = []
    with import_probe(context(tmp_path, "", smoke), seen.append) as emit:
        for event in events:
            emit(event)
    assert seen == events
    assert not (tmp_path / "run.log").exists()


@pytest.mark.parametrize(
    ("code", "message", "hint"),
    [
        (
            "import no_such.part",
            "Some imports no_such, and no such module is installed",
            "python -m pip install no_such ",
        ),
        (
            "from os import no_such_name",
            "Some cannot be imported: ImportError: cannot import name 'no_such_name' from 'os'",
            "run.log",
        ),
        (
            "raise OSError('own.py: ModuleNotFoundError: No module named \\'far.off\\'')",
            "Some imports far.off, and no such module is installed",
            "python -m pip install far ",
        ),
    ],
)
def test_a_failed_import_ends_the_download(
    tmp_path: Path, code: str, message: str, hint: str
) -> None:
    with (
        pytest.raises(EasiError) as told,
        import_probe(context(tmp_path, code), lambda event: None) as emit,
    ):
        emit_until(emit, tmp_path / "never", "")
    assert told.value.message.startswith(message)
    assert hint in told.value.hint


def test_another_error_proves_nothing(tmp_path: Path) -> None:
    code = "raise RuntimeError('no GPU')"
    with import_probe(context(tmp_path, code), lambda event: None) as emit:
        emit_until(emit, tmp_path / "run.log", "RuntimeError: no GPU")
        for _ in range(20):
            emit(MISSING)
            time.sleep(0.05)


def test_an_import_that_outlasts_the_download_is_ended(tmp_path: Path) -> None:
    code = "import time; time.sleep(600)"
    with import_probe(context(tmp_path, code), lambda event: None) as emit:
        emit_until(emit, tmp_path / "pid", ".")
    assert not Path("/proc", (tmp_path / "pid").read_text().rstrip(".")).exists()
