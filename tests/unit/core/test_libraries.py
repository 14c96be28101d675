"""Which versions are installed, by folder names.

Also what differs from the locks, and between two runs of one benchmark.
"""

from __future__ import annotations

import importlib.metadata
import sys
from pathlib import Path

import pytest

from easi_eval.core.libraries import (
    LOCKS,
    MOST_NAMED,
    decisive,
    installed,
    lock_note,
    mixed,
    normal,
    pinned,
    short,
)
from easi_eval.core.profiles import BASE

ROOT = Path(__file__).resolve().parents[3]


def packages(folder: Path, *names: str) -> str:
    for name in names:
        (folder / name).mkdir(parents=True)
    return str(folder)


def test_the_first_folder_that_has_a_package_wins(tmp_path: Path) -> None:
    first = packages(
        tmp_path / "first",
        "transformers-5.1.0.dist-info",
        "Some_Package-1.0.dev3.egg-info",
        "no_version.egg-info",
        "torch",
    )
    second = packages(
        tmp_path / "second", "transformers-4.57.6.dist-info", "torch-2.9.1+cu128.dist-info"
    )
    found = installed((first, str(tmp_path / "not there"), second))
    assert found == {"transformers": "5.1.0", "some-package": "1.0.dev3", "torch": "2.9.1+cu128"}


def test_folder_names_tell_what_the_metadata_say() -> None:
    found = installed(tuple(sys.path))
    for name in ("transformers", "torch", "huggingface_hub", "ms-vlmeval", "lmms-eval", "pandas"):
        assert found[normal(name)] == importlib.metadata.version(name)


@pytest.mark.parametrize(
    ("version", "said"),
    [
        ("4.57.6", "4.57"),
        ("5.0.0.dev0", "5.0"),
        ("0.11.0+cu128", "0.11"),
        ("10.2", "10.2"),
        ("", ""),
        ("not installed", ""),
    ],
)
def test_major_and_minor(version: str, said: str) -> None:
    assert short(version) == said


def test_what_differs_from_the_locks_is_one_line_and_what_decides_answers_comes_first(
    tmp_path: Path,
) -> None:
    names = [f"a{number}" for number in range(MOST_NAMED + 1)]
    (tmp_path / LOCKS).mkdir(parents=True)
    (tmp_path / LOCKS / "base.lock").write_text(
        "".join(f"{name}==1 \\\n    --hash=sha256:00\n" for name in (*names, "transformers"))
    )
    (tmp_path / LOCKS / "vllm.lock").write_text("vllm==0.11.0\n")
    as_pinned = {
        **dict.fromkeys(names, "1"),
        "transformers": "1+cu128",
        "vllm": "0.11.0",
        "of-the-users": "7",
    }
    assert lock_note(tmp_path, as_pinned, BASE) == ()
    assert lock_note(tmp_path / "no checkout", as_pinned, BASE) == ()
    [note] = lock_note(tmp_path, {**as_pinned, "transformers": "5.1.0", "a0": "2"}, BASE)
    assert (
        note
        == "versions differ from the pinned ones: transformers 5.1.0 (pinned 1), a0 2 (pinned 1)"
    )
    [note] = lock_note(tmp_path, dict.fromkeys(as_pinned, "9"), BASE)
    assert note.startswith(
        "versions differ from the pinned ones: transformers 9 (pinned 1), "
        "vllm 9 (pinned 0.11.0), a0 9"
    )
    assert note.endswith(" and 3 more (bash scripts/setup.sh --check names them)")


def test_this_environment_is_as_pinned() -> None:
    assert len(pinned(ROOT, "*.lock")) > len(pinned(ROOT, "base.lock")) > 100
    assert lock_note(ROOT, installed(tuple(sys.path)), BASE) == ()


def test_what_is_not_known_differs_from_nothing() -> None:
    assert decisive({"transformers": "4.57.6", "torch": "not installed", "pandas": "2"}) == {
        "transformers": "4.57.6"
    }
    assert mixed([{"torch": "2.9.1"}, {}, {"torch": "2.9.1", "attention": "sdpa"}]) == []
    assert mixed(
        [{"torch": "2.9.1", "attention": "eager"}, {"torch": "2.9.0", "attention": "sdpa"}]
    ) == ["torch 2.9.0, 2.9.1", "attention eager, sdpa"]
