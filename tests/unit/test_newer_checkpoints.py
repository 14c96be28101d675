"""What the plan says of checkpoints that transformers 5 saved, for both backends."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from easi_eval.backends import newer_checkpoints
from easi_eval.config import RunConfig
from easi_eval.data.needs import HubSettings
from easi_eval.errors import EasiError
from easi_eval.model import ModelChoice

SAMPLES = Path(__file__).parents[1] / "data" / "transformers5"


def saved(folder: Path, family: str = "llava", **text: Any) -> Path:
    folder.mkdir(parents=True)
    config = json.loads((SAMPLES / f"{family}.json").read_text(encoding="utf-8"))
    config["text_config"]["rope_parameters"].update(text)
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


def notes(tmp_path: Path, model: ModelChoice, repos: tuple[str, ...] = (), **options: Any) -> tuple[str, ...]:
    hub = HubSettings(endpoint="http://127.0.0.1:1", hf_home=tmp_path / "hf", offline=True)
    return newer_checkpoints.notes(RunConfig(**{"model": "org/model", "model_args": "pretrained=org/model", **options}), model, repos, hub)


def choice(folder: Path, **fields: Any) -> ModelChoice:
    return ModelChoice(folder.name, str(folder), "EasiVLM", "", **fields)


def test_a_folder_of_transformers_5_is_said_in_one_line(tmp_path: Path) -> None:
    (line,) = notes(tmp_path, choice(saved(tmp_path / "tuned")))
    assert line.startswith("tuned was saved by transformers 5, read as: text_config.rope_theta=500000.0, ")
    assert "'rope_type':'llama3'" in line


def test_nothing_is_said_of_transformers_4_and_of_served_models(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    shutil.copy(SAMPLES / "llava.old.json", tmp_path / "old" / "config.json")
    assert notes(tmp_path, choice(tmp_path / "old")) == ()
    assert notes(tmp_path, choice(saved(tmp_path / "new"), served=True)) == ()


def test_a_repository_is_read_in_the_hubs_cache(tmp_path: Path) -> None:
    repo = tmp_path / "hf" / "hub" / "models--org--model"
    saved(repo / "snapshots" / ("a" * 40))
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text("a" * 40, encoding="utf-8")
    model = ModelChoice("org/model", "org/model", "EasiVLM", "")
    (line,) = notes(tmp_path, model, ("org/model",))
    assert line.startswith("org/model was saved by transformers 5")
    assert notes(tmp_path, model, ("org/other",)) == ()      # cannot be read now: left to the worker


def test_the_base_of_an_adapter_is_read(tmp_path: Path) -> None:
    base = saved(tmp_path / "base")
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(base)}), encoding="utf-8")
    (line,) = notes(tmp_path, choice(adapter))
    assert line.startswith("base was saved by transformers 5")


@pytest.mark.parametrize("backend", ["vlmevalkit", "lmms-eval"])
def test_what_has_no_equivalent_is_refused_before_anything_starts(tmp_path: Path, backend: str) -> None:
    model = choice(saved(tmp_path / "tuned", rope_type="proportional"))
    with pytest.raises(EasiError, match="rope_type is proportional"):
        notes(tmp_path, model, backend=backend)


def test_engines_and_lmms_evals_own_command_read_it_themselves(tmp_path: Path) -> None:
    folder = saved(tmp_path / "tuned")
    with pytest.raises(EasiError, match="vllm reads its config.json"):
        notes(tmp_path, choice(folder, engine="vllm"))
    with pytest.raises(EasiError, match="python -m lmms_eval"):
        notes(tmp_path, choice(folder), backend="lmms-eval", plain=True)
    assert notes(tmp_path, choice(folder), backend="vlmevalkit", plain=True)      # goes through our run.py
