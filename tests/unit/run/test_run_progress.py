"""What is shown of a run while its workers answer."""

from __future__ import annotations

from pathlib import Path

import pytest

from easi_eval.core.events import Event, Traceback
from easi_eval.engine.work import Assignment, Work
from easi_eval.engine.worker_errors import ErrorPrinter
from easi_eval.run.run_progress import Watch


def raised(text: str) -> Exception:
    try:
        raise ValueError(text)
    except ValueError as error:
        return error


@pytest.mark.parametrize("verbose", [False, True])
def test_verbose_shows_each_traceback_once(tmp_path: Path, verbose: bool) -> None:
    shown: list[Event] = []
    watch = Watch(tmp_path, Work((Assignment("blink", "BLINK"),), launch=2), shown.append, verbose)
    for worker in range(2):  # each of them is another process with the same trouble
        for item in range(3):
            ErrorPrinter(tmp_path, launch=2).report(
                f"w{worker}: blink {item}", raised(f"item {item} has no picture")
            )
            watch.tick()
    traces = [event.text for event in shown if isinstance(event, Traceback)]
    assert len(traces) == (1 if verbose else 0)
    assert all(
        "raise ValueError(text)" in text and text.endswith("ValueError: item 0 has no picture")
        for text in traces
    )
