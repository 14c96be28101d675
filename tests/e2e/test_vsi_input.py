"""VSI-Bench's videos as the backend gives them and as 32 images.

They are given to a user's class that takes videos.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest

from program import Launch, RunFolder, User, run_folder

pytestmark = [pytest.mark.slow, pytest.mark.e2e]

# Answers with what it was shown.
CLASS = """
from collections import Counter

from .base import BaseModel


class Witness(BaseModel):
    VIDEO_LLM = True
    INTERLEAVE = True

    def __init__(self, model_path="nowhere"):
        super().__init__()

    def generate_inner(self, message, dataset=None):
        seen = Counter(part["type"] for part in message)
        return f"videos {seen['video']} images {seen['image']}"
"""


@dataclass(frozen=True)
class Place:
    user: User
    classes: Path

    def run(self, out: str, *more: object) -> tuple[Launch, RunFolder]:
        launch = self.user.run(
            "--smoke",
            "--model",
            "Witness",
            "--no-rich",
            "--output-dir",
            self.user.root / out,
            *more,
            EASI_VLM_DIR=str(self.classes),
        )
        assert launch.code == 0, launch.said
        return launch, run_folder(self.user.root / out, "vlmevalkit", "nowhere")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    root = tmp_path_factory.mktemp("vsi")
    (root / "classes").mkdir()
    (root / "classes" / "witness.py").write_text(CLASS)
    yield Place(User(root / "user"), root / "classes")


def seen(folder: RunFolder, key: str, epoch: int) -> set[str]:
    return {
        answer["text"]
        for answer in folder.answers
        if answer["benchmark"] == key and answer["epoch"] == epoch
    }


def test_frames_instead_of_the_video_start_vsi_bench_over_and_nothing_else(place: Place) -> None:
    keys = ("--benchmarks", "vsi_bench,site_video,vsi_debiased", "--limit", 2)
    launch, folder = place.run("out", *keys)
    assert (
        "VSI-Bench: native video" in launch.out
        and "witness.Witness: a class of your own" in launch.out
    )
    assert (
        seen(folder, "vsi_bench", 0)
        == seen(folder, "vsi_debiased", 0)
        == seen(folder, "site_video", 0)
        == {"videos 1 images 0"}
    )
    assert "--vsi-input" not in folder.manifest["benchmarks"]["vsi_bench"]["settings"]

    launch, again = place.run("out", *keys, "--vsi-input", "frames")
    assert again.root == folder.root
    assert "VSI-Bench: 32 frames as images (--vsi-input frames)" in launch.out
    assert {len(seen(folder, key, 1)) for key in ("vsi_bench", "vsi_debiased")} == {1}
    assert all(
        int(text.split()[-1]) >= 32 and text.startswith("videos 0 ")
        for key in ("vsi_bench", "vsi_debiased")
        for text in seen(folder, key, 1)
    )
    assert seen(folder, "site_video", 1) == set()
    settings = {key: state["settings"] for key, state in folder.manifest["benchmarks"].items()}
    assert {key for key, each in settings.items() if each.get("--vsi-input") == "frames"} == {
        "vsi_bench",
        "vsi_debiased",
    }
    assert "VSI-Bench: 32 frames as images (--vsi-input frames)" in json.dumps(
        folder.manifest["notes"]
    )


def test_the_backends_own_launch_shows_frames_too(place: Place) -> None:
    launch, folder = place.run(
        "plain", "--plain", "--benchmarks", "vsi_bench", "--limit", 2, "--vsi-input", "frames"
    )
    assert "--vsi-input frames" in " ".join(launch.commands)
    answers = pd.concat(
        [
            pd.read_excel(path)
            for path in folder.output("vsi_bench").rglob("*_extract_matching.xlsx")
        ]
    )["prediction"]
    assert len(answers) == 2
    assert all(text.startswith("videos 0 images 3") for text in answers)
