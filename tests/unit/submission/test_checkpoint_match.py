"""A model folder against the repository that is said to hold it, on a local hub."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from easi_eval.core.errors import EasiError
from easi_eval.data.local_hub.server import LocalHub
from easi_eval.data.needs import HubSettings
from easi_eval.submission.checkpoint_match import match_checkpoint

FILES = {
    "config.json": b'{"model_type": "x"}',
    "model-00001.safetensors": bytes(range(256)) * 100,
    "model-00002.safetensors": b"more",
    "tokenizer.json": b"{}",
    "README.md": b"# read me",
}


@pytest.fixture
def settings(tmp_path: Path) -> Iterator[HubSettings]:
    for name, content in {**FILES, "pytorch_model.bin": b"the same in another format"}.items():
        path = tmp_path / "hub" / "models" / "org" / "Model" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    with LocalHub(tmp_path / "hub") as running:
        yield HubSettings(
            endpoint=running.endpoint, hf_home=tmp_path / "home", retries=1, backoff=0.01
        )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    here = tmp_path / "mine"
    here.mkdir()
    for name, content in FILES.items():
        (here / name).write_bytes(content)
    return here


def test_a_copy_is_the_same(folder: Path, settings: HubSettings) -> None:
    found = match_checkpoint(folder, "org/Model", "main", settings)
    assert found.differs == () and len(found.commit) == 40
    (folder / "README.md").write_text("mine")  # neither config nor weights
    assert match_checkpoint(folder, "org/Model", found.commit, settings) == found


@pytest.mark.parametrize(
    "change, differs",
    [
        (
            lambda folder: (folder / "config.json").write_bytes(b'{"model_type": "y"}'),
            ("config.json",),
        ),
        (
            lambda folder: (folder / "model-00001.safetensors").write_bytes(bytes(25600)),
            ("model-00001.safetensors",),
        ),
        (
            lambda folder: (folder / "model-00002.safetensors").unlink(),
            ("model-00002.safetensors",),
        ),
        (
            lambda folder: (folder / "adapter_config.json").write_bytes(b"{}"),
            ("adapter_config.json",),
        ),
    ],
    ids=["config", "weights of one size", "a part is missing", "an adapter"],
)
def test_other_weights_are_others(
    change: object, differs: tuple[str, ...], folder: Path, settings: HubSettings
) -> None:
    change(folder)  # type: ignore[operator]
    assert match_checkpoint(folder, "org/Model", "main", settings).differs == differs


def test_what_cannot_be_asked_is_an_error(folder: Path, settings: HubSettings) -> None:
    with pytest.raises(EasiError, match="no model org/Other"):
        match_checkpoint(folder, "org/Other", "main", settings)
    with pytest.raises(EasiError, match="HF_HUB_OFFLINE"):
        match_checkpoint(
            folder, "org/Model", "main", HubSettings(endpoint=settings.endpoint, offline=True)
        )
