"""How a driver's command line ends.

A fault that would be the same at the next start is reported in two lines, and the worker is not
started again.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from easi_eval.core.errors import EasiError
from easi_eval.core.log_lines import telling_line
from easi_eval.engine.driver import DriverOptions, run_role
from easi_eval.engine.processes.keeper import CANNOT_WORK
from easi_vlmevalkit import __main__ as cli


def _fails(error: BaseException) -> int:
    raise error


@pytest.mark.parametrize(("role", "code"), [("work", CANNOT_WORK), ("score", 2), ("keep", 2)])
def test_an_error_for_people_is_two_lines(
    role: str, code: int, capfd: pytest.CaptureFixture[str]
) -> None:
    options = DriverOptions(Path("run"), role)
    assert run_role(options, lambda: _fails(EasiError("no weights", hint="fetch them"))) == code
    assert capfd.readouterr().err == "error: no weights\nhint: fetch them\n"
    assert run_role(options, lambda: _fails(SystemExit(2))) == code


def test_other_ends_stay_what_they_are() -> None:
    options = DriverOptions(role="work")
    assert run_role(options, lambda: 0) == 0
    for end in (SystemExit(1), SystemExit(None), RuntimeError("CUDA error")):
        with pytest.raises(type(end)):
            run_role(options, lambda end=end: _fails(end))


@pytest.mark.parametrize("role", ["work", "score"])
def test_what_ends_a_process_without_a_text_is_told_with_its_place(
    role: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def load() -> int:
        raise AssertionError

    assert run_role(DriverOptions(tmp_path, role), load) == 1
    *trace, last = capfd.readouterr().err.splitlines()
    assert (
        last
        == telling_line([*trace, last])
        == f"AssertionError: no text, at test_driver_entry.py:{load.__code__.co_firstlineno + 1} "
        "in load"
    )
    assert any("Traceback" in line for line in trace)


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ([], "error: the following arguments are required: --data, --model"),
        (
            ["--data", "BLINK", "--model", "m", "--no-such-option"],
            "error: unrecognized arguments: --no-such-option",
        ),
        (["--data", "BLINK", "--model", "m"], "error: --easi-run without --easi-model"),
    ],
)
def test_a_vlmevalkit_worker_with_a_wrong_command_line_cannot_work(
    argv: list[str],
    said: str,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    assert cli.main([*argv, "--easi-run", str(tmp_path), "--easi-role", "work"]) == CANNOT_WORK
    assert said in capfd.readouterr().err
