"""Files that are written only if they change."""

from __future__ import annotations

from pathlib import Path

from easi_eval.core.atomic_files import update


def test_a_file_that_is_the_same_is_not_written_again(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "scores.csv"
    update(path, "a\n")
    before = path.stat().st_ino
    update(path, b"a\n")
    assert path.stat().st_ino == before
    update(path, "b\n")
    assert path.read_text() == "b\n" and path.stat().st_ino != before
