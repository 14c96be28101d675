"""What the plan says of checkpoints that transformers 5 saved, for both backends."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from easi_eval.backends import make_backend
from easi_eval.backends.base import Backend
from easi_eval.backends.shared import catalog, newer_checkpoints
from easi_eval.config import RunConfig
from easi_eval.core.backend_facts import BACKEND_FACTS
from easi_eval.core.errors import EasiError
from easi_eval.core.model import ModelChoice
from easi_eval.data.local_hub.server import LocalHub
from easi_eval.data.needs import HubSettings
from easi_eval.engine.vlm.transformers5 import translate
from easi_eval.run import prepare

SAMPLES = Path(__file__).parents[2] / "data" / "transformers5"


def saved(folder: Path, family: str = "llava", **text: Any) -> Path:
    folder.mkdir(parents=True)
    config = json.loads((SAMPLES / f"{family}.json").read_text(encoding="utf-8"))
    config["text_config"]["rope_parameters"].update(text)
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


def notes(
    tmp_path: Path, model: ModelChoice, repos: tuple[str, ...] = (), /, **options: Any
) -> tuple[str, ...]:
    settings = HubSettings(endpoint="http://127.0.0.1:1", hf_home=tmp_path / "hf", offline=True)
    return newer_checkpoints.notes(
        RunConfig(**{"model": "org/model", "model_args": "pretrained=org/model", **options}),
        model,
        dict.fromkeys(repos, "main"),
        settings,
    )


def backend(cfg: RunConfig) -> Backend:
    return make_backend(cfg.backend, HubSettings())


def choice(folder: Path, **fields: Any) -> ModelChoice:
    return ModelChoice(folder.name, str(folder), "EasiVLM", "", **fields)


def test_a_folder_of_transformers_5_is_said_in_one_line(tmp_path: Path) -> None:
    (line,) = notes(tmp_path, choice(saved(tmp_path / "tuned")))
    assert line.startswith(
        "tuned was saved by transformers 5, read as: text_config.rope_theta=500000.0, "
    )
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
    assert notes(tmp_path, model, ("org/other",)) == ()  # cannot be read now: left to the worker


def test_the_base_of_an_adapter_is_read(tmp_path: Path) -> None:
    base = saved(tmp_path / "base")
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text(
        json.dumps({"base_model_name_or_path": str(base)}), encoding="utf-8"
    )
    (line,) = notes(tmp_path, choice(adapter))
    assert line.startswith("base was saved by transformers 5")


@pytest.mark.parametrize("backend", ["vlmevalkit", "lmms-eval"])
def test_the_base_of_a_folders_adapter_and_its_tower_are_asked_of_the_hub(
    tmp_path: Path, backend: str
) -> None:
    """At the revisions that will be fetched: the folder's digest is none of the hub's."""
    base = saved(tmp_path / "served" / "models" / "org" / "base")
    named = {**config(base), "model_type": "qwen2_5_vl", "vision_tower": "org/tower"}
    (base / "config.json").write_text(json.dumps(named), encoding="utf-8")
    saved(tmp_path / "served" / "models" / "org" / "tower")
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text(
        json.dumps({"base_model_name_or_path": "org/base"}), encoding="utf-8"
    )
    (adapter / "adapter_model.bin").write_text("weights", encoding="utf-8")
    cfg = RunConfig(
        backend=backend,
        **(
            {"model": str(adapter)}
            if backend == "vlmevalkit"
            else {"model": "qwen2_5_vl", "model_args": f"pretrained={adapter}"}
        ),
    )
    with LocalHub(tmp_path / "served") as running:
        settings = HubSettings(endpoint=running.endpoint, hf_home=tmp_path / "hf", backoff=0.01)
        kit = make_backend(backend, settings)
        model = kit.resolve(cfg)
        assert model.revision
        repos = {need.repo: need.revision for need in kit.weights(model)}
        lines = newer_checkpoints.notes(cfg, model, repos, settings)
    assert {line.partition(" was saved by transformers 5")[0] for line in lines} == {
        "org/base",
        "org/tower",
    }


@pytest.mark.parametrize("backend", ["vlmevalkit", "lmms-eval"])
def test_what_has_no_equivalent_is_refused_before_anything_starts(
    tmp_path: Path, backend: str
) -> None:
    model = choice(saved(tmp_path / "tuned", rope_type="proportional"))
    with pytest.raises(EasiError, match="rope_type is proportional"):
        notes(tmp_path, model, backend=backend)


@pytest.mark.parametrize(("version", "translated"), [("4.58.0", True), ("5.1.0.dev0", False)])
def test_transformers_5_needs_nothing_translated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str, translated: bool
) -> None:
    (tmp_path / "site" / f"transformers-{version}.dist-info").mkdir(parents=True)
    monkeypatch.syspath_prepend(tmp_path / "site")
    plain = choice(saved(tmp_path / "tuned"))
    cfg = RunConfig(model="a/b", model_args="pretrained=a/b", backend="lmms-eval", plain=True)
    assert bool(notes(tmp_path, plain)) is translated
    assert newer_checkpoints.read_as_they_are(cfg, backend(cfg), plain) is translated
    if not translated:
        assert notes(tmp_path, choice(saved(tmp_path / "odd", rope_type="proportional"))) == ()


# ---- folders that stand for them where nothing of ours is at work --------------------------------


@pytest.mark.parametrize(
    ("fields", "options", "as_it_is"),
    [
        ({}, {}, False),
        ({}, {"plain": True}, False),  # goes through our run.py
        ({"engine": "vllm"}, {}, True),
        ({}, {"backend": "lmms-eval"}, False),
        ({}, {"backend": "lmms-eval", "plain": True}, True),
        ({"engine": "sglang"}, {"backend": "lmms-eval"}, True),
        ({}, {"backend": "lmms-eval", "model": "longvila"}, True),
    ],
)
def test_who_reads_a_checkpoint_as_it_is(
    tmp_path: Path, fields: dict[str, Any], options: dict[str, Any], as_it_is: bool
) -> None:
    model = choice(saved(tmp_path / "tuned"), **fields)
    cfg = RunConfig(**{"model": "org/model", "model_args": "pretrained=org/model", **options})
    assert newer_checkpoints.read_as_they_are(cfg, backend(cfg), model) is as_it_is
    assert len(notes(tmp_path, model, **options)) == 1, "said, and not refused"


def test_a_path_that_lmms_evals_own_launch_cannot_take_is_refused(tmp_path: Path) -> None:
    place = {"backend": "lmms-eval", "plain": True, "output_dir": tmp_path / "a,b"}
    with pytest.raises(EasiError, match="converted below .*a,b"):
        notes(tmp_path, choice(saved(tmp_path / "tuned")), **place)
    assert notes(tmp_path, choice(tmp_path / "old"), **place) == ()


def laid_out(
    model: ModelChoice,
    target: Path,
    snapshots: dict[str, Path] | None = None,
    backend: str = "lmms-eval",
) -> ModelChoice:
    return prepare.laid_out(
        model, snapshots or {}, make_backend(backend, HubSettings()), target, translated=True
    )


def config(folder: str | Path, name: str = "config.json") -> dict[str, Any]:
    return json.loads((Path(folder) / name).read_text(encoding="utf-8"))


def theta(folder: str | Path) -> float:
    return config(folder)["text_config"]["rope_theta"]


@pytest.mark.parametrize("backend", ["vlmevalkit", "lmms-eval"])
def test_a_folder_is_laid_out_with_links_and_the_form_of_transformers_4(
    tmp_path: Path, backend: str
) -> None:
    folder = saved(tmp_path / "Llava-2.5")
    settings = {"tokenizer_class": "TokenizersBackend", "extra_special_tokens": ["<image>"]}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    (folder / "model.safetensors").write_bytes(b"weights")
    (folder / "more").mkdir()
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    model = choice(folder, arguments={"pretrained": str(folder)} if backend == "lmms-eval" else {})
    for _ in range(2):  # the second launch finds the first one's
        found = laid_out(model, tmp_path / "run" / "checkpoint", backend=backend)
    made = Path(found.path)
    assert list(found.arguments.values()) == [found.path] * len(model.arguments)
    assert made == tmp_path / "run" / "checkpoint" / folder.relative_to("/"), (
        "classes look for names in the path"
    )
    assert (found.name, theta(made)) == ("Llava-2.5", 500000.0)
    assert config(made, "tokenizer_config.json") == {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "additional_special_tokens": ["<image>"],
    }
    assert {path.name: path.resolve() for path in made.iterdir() if path.is_symlink()} == {
        name: folder / name for name in ("model.safetensors", "more")
    }
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before
    assert (
        prepare.laid_out(model, {}, make_backend(backend, HubSettings()), tmp_path / "other")
        == model
    ), "not where it is translated as it is read"


def test_what_transformers_4_saved_is_used_where_it_lies(tmp_path: Path) -> None:
    for old in SAMPLES.glob("*.old.json"):
        folder = tmp_path / old.name
        folder.mkdir()
        shutil.copy(old, folder / "config.json")
        assert laid_out(choice(folder), tmp_path / "run") == choice(folder)


def test_a_repository_is_laid_out_from_where_it_was_fetched(tmp_path: Path) -> None:
    snapshot = saved(tmp_path / "hub" / "models--org--model" / "snapshots" / ("a" * 40))
    model = ModelChoice(
        "org/model", "org/model", "vllm", "", arguments={"model": "org/model"}, engine="vllm"
    )
    found = laid_out(model, tmp_path / "run", {"org/model": snapshot})
    assert found.arguments["model"] == found.path and found.path.endswith(
        f"models--org--model/snapshots/{'a' * 40}"
    )
    assert theta(found.path) == 500000.0
    assert laid_out(model, tmp_path / "run") == model, (
        "nothing was fetched, as nothing is left to answer"
    )


@pytest.mark.parametrize("hub", [False, True], ids=["a folder", "of the hub"])
def test_an_adapter_is_laid_over_its_base_in_the_form_of_transformers_4(
    tmp_path: Path, hub: bool
) -> None:
    base, adapter = saved(tmp_path / "base"), tmp_path / "adapter"
    adapter.mkdir()
    told = "org/base" if hub else str(base)
    (adapter / "adapter_config.json").write_text(
        json.dumps({"base_model_name_or_path": told}), encoding="utf-8"
    )
    model = choice(adapter, arguments={"pretrained": str(adapter)}, base=told)
    found = laid_out(model, tmp_path / "run", {"org/base": base})
    assert (
        theta(found.path)
        == theta(config(found.path, "adapter_config.json")["base_model_name_or_path"])
        == 500000.0
    )


def test_towers_and_parts_and_what_refers_to_them(tmp_path: Path) -> None:
    tower, untouched = saved(tmp_path / "tower"), tmp_path / "clip"
    untouched.mkdir()
    (untouched / "config.json").write_text(
        json.dumps({"model_type": "clip", "text_tower": str(tmp_path / "whole")}), encoding="utf-8"
    )
    whole = tmp_path / "whole"
    saved(whole / "llm")
    named = {
        "model_type": "llava_llama",
        "mm_vision_tower": "org/tower",
        "other": "org/tower",
        "parts": [{"video_tower": str(untouched)}],
    }
    (whole / "config.json").write_text(json.dumps(named), encoding="utf-8")
    found = laid_out(choice(whole), tmp_path / "run", {"org/tower": tower})
    made = config(found.path)
    assert theta(Path(found.path) / "llm") == theta(made["mm_vision_tower"]) == 500000.0
    assert made["other"] == "org/tower", "no name of a checkpoint"
    assert config(made["parts"][0]["video_tower"])["text_tower"] == found.path, "in a circle"


def test_a_tower_that_has_no_equivalent_is_refused(tmp_path: Path) -> None:
    saved(tmp_path / "tower", rope_type="proportional")
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "config.json").write_text(
        json.dumps({"mm_vision_tower": str(tmp_path / "tower")}), encoding="utf-8"
    )
    with pytest.raises(
        EasiError, match="tower was saved by transformers 5.*rope_type is proportional"
    ):
        laid_out(choice(tmp_path / "m"), tmp_path / "run")


def test_classes_that_open_config_json_themselves_take_what_both_forms_have_alike() -> None:
    """The classes below read a key that is the same in both forms.

    All others read the file through transformers' configs, or only check that it exists.
    """
    opened = {}
    for kind in BACKEND_FACTS.values():
        root = catalog.locate(kind).root
        for path in root.rglob("*.py"):
            text = path.read_text(encoding="utf-8")
            if {"vlm", "models"} & set(path.relative_to(root).parts) and re.search(
                r"""join\(.*['"]config\.json['"]""", text
            ):
                opened[path.relative_to(root).as_posix()] = [
                    key
                    for key in ("architectures", "mm_vision_tower")
                    if re.search(rf"""['"]{key}['"]""", text)
                ]
    assert opened == {
        "vlm/qwen2_vl/model.py": ["architectures"],
        "vlm/yi_vl.py": ["mm_vision_tower"],
        "vlm/video_llm/llama_vid.py": ["mm_vision_tower"],
    }
    for sample in SAMPLES.glob("*.json"):
        config = {**json.loads(sample.read_text(encoding="utf-8")), "mm_vision_tower": "./vit/clip"}
        made = translate(config).config
        assert all(made[key] == config[key] for key in ("architectures", "mm_vision_tower"))
