"""How our process over lmms-eval reads lmms-eval's own task files.

lmms-eval itself is not imported.
"""

from __future__ import annotations

import errno
import gc
import importlib.util
import os
from pathlib import Path
from typing import Any

import pytest
import tenacity
import yaml

from easi_eval.engine.driver import without_gc
from easi_lmms_eval.patches import read_yaml_fast
from easi_lmms_eval.tasks import why_unreadable


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> Any:
    """PyYAML's own parser; ``yaml.full_load`` is the fast one until the test ends."""
    own = yaml.full_load
    monkeypatch.setattr(yaml, "full_load", own)
    read_yaml_fast()
    assert yaml.full_load is not own, "the pinned PyYAML comes with libyaml"
    return own


@pytest.fixture
def tagged(monkeypatch: pytest.MonkeyPatch) -> None:
    """lmms-eval's tag, as what it is called with: the file's name and the text."""
    monkeypatch.setattr(
        yaml.FullLoader, "yaml_constructors", dict(yaml.FullLoader.yaml_constructors)
    )
    yaml.add_constructor(
        "!function",
        lambda loader, node: (loader.name, loader.construct_scalar(node)),
        yaml.FullLoader,
    )


@pytest.mark.slow
def test_every_task_file_of_lmms_eval_reads_alike(fast: Any, tagged: None) -> None:
    spec = importlib.util.find_spec("lmms_eval")
    assert spec is not None and spec.submodule_search_locations
    tasks = Path(next(iter(spec.submodule_search_locations))) / "tasks"
    files = [path for path in tasks.rglob("*yaml*") if path.is_file()]
    assert len(files) > 1900
    for path in files:
        assert _read(path, yaml.full_load) == _read(path, fast), path


def _read(path: Path, load: Any) -> str:
    with path.open("rb") as file:
        try:
            return repr(load(file))
        except yaml.YAMLError as error:
            return type(error).__name__


def test_a_file_that_cannot_be_read_is_refused_in_the_same_words(fast: Any, tmp_path: Path) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text("task: [x\n")
    with bad.open("rb") as file, pytest.raises(yaml.YAMLError) as told:
        yaml.full_load(file)
    with bad.open("rb") as file, pytest.raises(yaml.YAMLError) as own:
        fast(file)
    assert str(told.value) == str(own.value) and "bad.yaml" in str(told.value)
    assert yaml.full_load("a: 1") == {"a": 1}


def test_the_collector_is_back_after_an_import_that_fails_and_leaves_what_was_imported_alone() -> (
    None
):
    before = gc.get_freeze_count()
    try:
        with pytest.raises(ImportError), without_gc():
            assert not gc.isenabled()
            raise ImportError("no such backend")
        assert gc.isenabled() and gc.get_freeze_count() > before
    finally:
        gc.unfreeze()


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (
            errno.ENOSPC,
            "the disk is full: its data could not be prepared (set HF_DATASETS_CACHE to another "
            "folder): OSError: [Errno 28]",
        ),
        (errno.EIO, "OSError: [Errno 5]"),
    ],
)
def test_what_went_wrong_with_the_data_is_told_and_not_that_it_was_tried_again(
    number: int, said: str
) -> None:
    class DatasetGenerationError(Exception):
        """As the datasets library raises it, whose import takes seconds."""

    def prepare() -> None:
        try:
            raise OSError(number, os.strerror(number))
        except OSError as error:
            raise DatasetGenerationError(
                "An error occurred while generating the dataset"
            ) from error

    with pytest.raises(tenacity.RetryError) as raised:
        tenacity.Retrying(stop=tenacity.stop_after_attempt(2))(prepare)
    assert why_unreadable(raised.value).startswith(said)
