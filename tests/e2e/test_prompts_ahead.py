"""The real drivers find most prompts ready.

The answers are those of the backend's own loop (see test_whole_runs).
"""

from __future__ import annotations

import re

import pytest

from conftest import Runs

pytestmark = [pytest.mark.slow, pytest.mark.e2e]


def test_most_prompts_are_made_while_the_question_before_is_answered(
    runs: Runs, backend: str
) -> None:
    whole = runs.alone(backend)
    log = "".join(path.read_text(encoding="utf-8") for path in whole.launch.logs)
    (ready,) = re.findall(r"(\d+) prompts were ready when they were asked for", log)
    assert int(ready) > len(whole.folder.answers) / 2
