"""A checkpoint in the form of transformers 5 answers as with its transformers 4 config.json.

Tested in whole runs on both backends.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from program import REPOSITORY, Launch, RunFolder, User, run_folder
from rehearsal_data import checkpoint

pytestmark = [pytest.mark.slow, pytest.mark.e2e]

BENCHMARK = "embspatial"
PIXELS = "min_pixels=784,max_pixels=3136"
OF_THE_TEXT = (
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "vocab_size",
    "hidden_act",
    "rms_norm_eps",
    "max_position_embeddings",
    "attention_dropout",
    "use_sliding_window",
    "sliding_window",
    "max_window_layers",
    "tie_word_embeddings",
)


def in_the_form_of_5(folder: Path) -> Path:
    """Rewrite the rehearsal's checkpoint as transformers 5 would have saved it.

    Its base of 1.5e12 stands for any other than 4.57's own 1e6.
    """
    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    rope = {
        "rope_type": "default",
        "rope_theta": config.pop("rope_theta"),
        "mrope_section": config.pop("rope_scaling")["mrope_section"],
    }
    text = {key: config.pop(key) for key in OF_THE_TEXT}
    vision = {
        **config.pop("vision_config"),
        "model_type": "qwen2_5_vl_vision",
        "rope_parameters": {"rope_type": "axial", "rope_theta": 10000.0},
    }
    made = {
        **config,
        "dtype": config.pop("torch_dtype"),
        "tie_word_embeddings": False,
        "transformers_version": "5.24.0",
        "vision_config": vision,
        "text_config": {"model_type": "qwen2_5_vl_text", **text, "rope_parameters": rope},
    }
    path.write_text(json.dumps(made), encoding="utf-8")
    path = folder / "tokenizer_config.json"
    tokenizer = json.loads(path.read_text(encoding="utf-8"))
    tokenizer |= {
        "tokenizer_class": "TokenizersBackend",
        "extra_special_tokens": tokenizer.pop("additional_special_tokens"),
    }
    path.write_text(json.dumps(tokenizer), encoding="utf-8")
    return folder


Runs = Callable[..., tuple[Launch, RunFolder]]


@pytest.fixture(scope="module")
def user(tmp_path_factory: pytest.TempPathFactory) -> User:
    """A user with the same weights in three forms.

    They are ``old``, ``new``, and ``ignored``, which is what 4.57 makes of ``new``.
    """
    root = tmp_path_factory.mktemp("newer")
    for name in ("old", "new", "ignored"):
        checkpoint.build(root / name / "Tiny-2.5")
    in_the_form_of_5(root / "new" / "Tiny-2.5")
    path = root / "ignored" / "Tiny-2.5" / "config.json"
    path.write_text(
        json.dumps({**json.loads(path.read_text(encoding="utf-8")), "rope_theta": 1e6}),
        encoding="utf-8",
    )
    return User(root)


@pytest.fixture(scope="module")
def run(user: User) -> Runs:
    @cache
    def launched(backend: str, form: str, *options: str) -> tuple[Launch, RunFolder]:
        folder = user.root / form / "Tiny-2.5"
        model = (
            ["--model", folder, "--model-args", PIXELS]
            if backend == "vlmevalkit"
            else [
                "--model",
                "qwen2_5_vl",
                "--model-args",
                f"pretrained={folder},device_map=cpu,{PIXELS}",
            ]
        )
        out = user.root / "-".join([backend, form, *options])
        for served in [
            path for path in user.root.glob("*/rehearsal/hub-*") if path.parents[1] != out
        ][:1]:
            shutil.copytree(served, out / "rehearsal" / served.name)
        launch = user.run(
            "--smoke",
            "--no-rich",
            "--backend",
            backend,
            *model,
            "--device",
            "cpu",
            "--benchmarks",
            BENCHMARK,
            "--judge",
            "exact_matching",
            "--output-dir",
            out,
            *options,
        )
        assert launch.code == 0, launch.said
        return launch, run_folder(out, backend, "Tiny-2.5")

    return launched


def answers(folder: RunFolder) -> list[str]:
    """In the order of the questions."""
    texts = folder.texts(BENCHMARK)
    return [texts[item] for item in folder.items(BENCHMARK)]


def test_every_answer_is_that_of_the_old_form(run: Runs, backend: str) -> None:
    launch, folder = run(backend, "new")
    assert (
        "Tiny-2.5 was saved by transformers 5, read as: text_config.rope_theta=1524157902758."
        in launch.out
    )
    assert answers(folder) == answers(run(backend, "old")[1])


def test_ignored_it_would_answer_otherwise(run: Runs) -> None:
    assert answers(run("lmms-eval", "ignored")[1]) != answers(run("lmms-eval", "old")[1])


def test_lmms_evals_own_launch_answers_alike(user: User, run: Runs) -> None:
    _, folder = run("lmms-eval", "new", "--plain")
    [samples] = folder.output(BENCHMARK).rglob("*_samples_*.jsonl")
    rows = sorted(
        (json.loads(line) for line in samples.read_text(encoding="utf-8").splitlines()),
        key=lambda row: row["doc_id"],
    )
    assert [row["filtered_resps"][0] for row in rows] == answers(run("lmms-eval", "old")[1])
    assert folder.manifest["model"]["path"] == str(user.root / "new" / "Tiny-2.5"), "the user's"
    assert "rope_parameters" in (user.root / "new" / "Tiny-2.5" / "config.json").read_text(
        encoding="utf-8"
    ), "as it was"


def test_an_engine_is_given_a_folder_in_the_old_form(user: User) -> None:
    """The engine is a stand-in (``tests/engines``)."""
    folder, out, log = (
        user.root / "new" / "Tiny-2.5",
        user.root / "engine",
        user.root / "engine.jsonl",
    )
    launch = user.run(
        "--smoke",
        "--no-rich",
        "--backend",
        "lmms-eval",
        "--model",
        "vllm",
        "--model-args",
        f"model={folder}",
        "--device",
        "cpu",
        "--benchmarks",
        BENCHMARK,
        "--output-dir",
        out,
        PYTHONPATH=str(REPOSITORY / "tests" / "engines"),
        FAKE_ENGINE_LOG=str(log),
    )
    assert launch.code == 0, launch.said
    given = Path(json.loads(log.read_text(encoding="utf-8").splitlines()[0])["model"])
    assert given.parts[-2:] == folder.parts[-2:] and given != folder
    assert json.loads((given / "config.json").read_text(encoding="utf-8"))["text_config"][
        "rope_theta"
    ] == pytest.approx(0.03**-8)
    assert (given / "model.safetensors").resolve() == folder / "model.safetensors"
