"""What two rehearsals in one output folder do to each other."""

from __future__ import annotations

from pathlib import Path

import pytest

from easi_eval.run.smoke import place


def test_of_two_trees_made_at_once_the_first_stays(tmp_path: Path) -> None:
    root = tmp_path / "hub"
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "made-by").write_text(name)
        place(tmp_path / name, root)
    assert [path.name for path in tmp_path.iterdir()] == ["hub"]
    assert (root / "made-by").read_text() == "first"


def test_a_tree_that_cannot_be_placed_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "made").mkdir()
    with pytest.raises(FileNotFoundError):
        place(tmp_path / "made", tmp_path / "nowhere" / "hub")
