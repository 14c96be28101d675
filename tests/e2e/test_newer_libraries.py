"""What the drivers do for the libraries of profile 5, in processes of its Python."""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from easi_eval.backends.shared import catalog
from easi_eval.backends.shared.class_source import ClassSource
from easi_eval.backends.shared.lineage import lineage
from easi_eval.backends.shared.profile_choice import with_profile
from easi_eval.config import RunConfig
from easi_eval.core.backend_facts import BACKEND_FACTS
from easi_eval.core.errors import EasiError
from easi_eval.core.model import ModelChoice
from easi_eval.core.profiles import NEWER, interpreter
from easi_eval.data.needs import HubSettings
from program import REPOSITORY

pytestmark = [pytest.mark.slow, pytest.mark.e2e]

IMPORTS = {
    "vlmevalkit": "from easi_vlmevalkit import patches; patches.apply()",
    "lmms-eval": "import sys; sys.argv[1:] = ['--model', 'easi_vlm', '--tasks', 'blink']\n"
    "from easi_lmms_eval import patches; patches.import_main()",
}
DECODE = """
import sys, decord
from transformers.image_utils import load_image_as_tensor
print(tuple(load_image_as_tensor({picture!r}).shape))
"""
LOAD = "import datasets; print(datasets.load_dataset('org/questions')['train']['asked'])"
LOADED = """
import functools, sys
from easi_eval.core.errors import EasiError
from easi_eval.engine.vlm.finite import refuse_noise
from easi_vlmevalkit.generic import EasiVLM
from easi_vlmevalkit.models import build_whole
from easi_vlmevalkit.prompts import ask_canary
for path in sys.argv[1:]:
    try:
        model = build_whole(functools.partial(EasiVLM, path, device="cpu"))
        refuse_noise(model, functools.partial(ask_canary, model))
        print(path, "asked", flush=True)
    except EasiError as error:
        print(path, error.message, flush=True)
"""
NAN = float("nan")
# By harm, the ends of the tensors' names, their value, and what is said.
HARMS = {
    "clean": ((), 0.0, "asked"),
    "weight": (("layers.0.mlp.up_proj.weight",), NAN, "of the model's weights hold NaN"),
    "buffer": (("layers.0.layer_scalar",), NAN, "of the model's buffers hold NaN"),
    "logits": (("q_norm.weight", "k_norm.weight"), 1e30, "the model computes NaN"),
}
COMMIT = "0" * 40
# The files that import names from transformers which the installed one does not have.
GONE = """
import ast, pathlib, sys, transformers
has = {*dir(transformers), "*"}
for path in pathlib.Path(sys.argv[1]).rglob("*.py"):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    instead = {
        each
        for node in ast.walk(tree)
        if isinstance(node, ast.Try)
        and any(isinstance(each, ast.ImportFrom) for other in node.handlers for each in other.body)
        for each in node.body
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "transformers":
            if node not in instead and not {each.name for each in node.names} <= has:
                print("gone", path)
"""


def output(tmp_path: Path, code: str, *arguments: object) -> list[str]:
    """What a process of profile 5 printed, to which the hub does not answer."""
    done = subprocess.run(
        [interpreter(NEWER), "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "HF_HOME": str(tmp_path / "hf"), "HF_ENDPOINT": "http://127.0.0.1:9"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.splitlines()


@pytest.mark.parametrize("backend", IMPORTS)
def test_pictures_given_by_path_are_decoded_beside_decord(tmp_path: Path, backend: str) -> None:
    picture = tmp_path / "picture.png"
    Image.new("RGB", (30, 20), "red").save(picture)
    said = output(tmp_path, IMPORTS[backend] + DECODE.format(picture=str(picture)))
    assert said[-1] == "(3, 20, 30)"


def test_a_task_reads_its_data_from_the_cache_without_a_network(tmp_path: Path) -> None:
    repo = tmp_path / "hf" / "hub" / "datasets--org--questions"
    snapshot = repo / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (snapshot / "train.json").write_text(json.dumps([{"asked": "Where?"}]), encoding="utf-8")
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text(COMMIT, encoding="utf-8")
    said = output(tmp_path, f"{IMPORTS['lmms-eval']}\n{LOAD}")
    assert "Where?" in said[-1]


@pytest.mark.parametrize(
    ("backend", "models", "some"),
    [
        ("vlmevalkit", "vlm", {"IDEFICS", "Mantis", "XGenMM", "DOCLING", "Moondream1"}),
        ("lmms-eval", "models", {"Mantis"}),
    ],
)
def test_classes_that_import_what_5_no_longer_has_are_refused_by_the_plan(
    tmp_path: Path, backend: str, models: str, some: set[str]
) -> None:
    package = catalog.locate(BACKEND_FACTS[backend])
    said = output(tmp_path, GONE, package.root / models)
    refused = set()
    for path in {Path(line[5:]) for line in said if line.startswith("gone ")}:
        module = ".".join([package.kind.package, *path.relative_to(package.root).parts])[:-3]
        for node in catalog.parsed(path).body:
            found = (
                lineage(package, f"{module}.{node.name}") if isinstance(node, ast.ClassDef) else []
            )
            # The rest are layers and helpers.
            if not any(each.name in ("BaseModel", "lmms") for each in found[1:]):
                continue
            for kind in ("qwen3_5", "gemma4", "molmo2"):
                with pytest.raises(EasiError, match="cannot load"):
                    planned(tmp_path, kind, found)
            refused.add(found[0].name)
    assert some <= refused


def planned(tmp_path: Path, kind: str, classes: list[ClassSource]) -> None:
    folder = tmp_path / kind
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"model_type": kind}), encoding="utf-8")
    model = ModelChoice(kind, str(folder), classes[0].name, "")
    with_profile(RunConfig(model="any"), model, classes, HubSettings(offline=True), "")


def test_noise_is_refused_with_the_libraries_of_5_and_a_clean_model_is_not(tmp_path: Path) -> None:
    builder = [interpreter(NEWER), str(REPOSITORY / "tests" / "newer_families.py")]
    subprocess.run([*builder, str(tmp_path), "gemma4"], check=True)
    folders = {harm: harmed(tmp_path / "gemma4", harm) for harm in HARMS}
    said = output(tmp_path, LOADED, *folders.values())
    for harm, (_, _, words) in HARMS.items():
        (line,) = [line for line in said if line.startswith(f"{folders[harm]} ")]
        assert words in line


def harmed(clean: Path, harm: str) -> Path:
    folder = Path(shutil.copytree(clean, clean.with_name(harm)))
    ends, value, _ = HARMS[harm]
    weights = load_file(folder / "model.safetensors")
    found = [name for name in weights if name.endswith(ends)]
    assert bool(found) is bool(ends)
    for name in found:
        weights[name] = torch.full_like(weights[name], value)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder
