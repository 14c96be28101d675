"""The tools that keep the code in shape find nothing, and the structure keeps within its bounds."""

from __future__ import annotations

import pytest

import structure


@pytest.mark.parametrize("tool", structure.TOOLS)
def test_nothing_is_found(tool: str) -> None:
    done = structure.run(tool)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_structure_is_within_its_bounds() -> None:
    assert [str(figure) for figure in structure.figures() if figure.value > figure.bound] == []
