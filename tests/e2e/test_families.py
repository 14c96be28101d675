"""Tiny checkpoints of many families answer through both backends as plain transformers does.

``family_answers.py`` says what is compared. A family that stands in ``proven_families.py`` is
"proven" in scripts/docs/models.md.
"""

from __future__ import annotations

import functools
import json
import os
import subprocess
from pathlib import Path

import pytest

from easi_eval.core.profiles import BASE, NEWER, interpreter
from program import REPOSITORY
from proven_families import OWN, PICTURES_ONLY, PROVEN

pytestmark = [pytest.mark.slow, pytest.mark.e2e]

TESTS = REPOSITORY / "tests"
BUILDERS = {BASE: "base_families.py", NEWER: "newer_families.py"}


def run(profile: str, script: str, *arguments: object) -> None:
    subprocess.run(
        [interpreter(profile), str(TESTS / script), *map(str, arguments)],
        check=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )


class Reports:
    """The answers of all families of a profile through a backend, asked once."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @functools.cache  # noqa: B019 -- one for the module
    def models(self, profile: str) -> Path:
        folder = self.root / f"models{profile}"
        run(profile, BUILDERS[profile], folder, *PROVEN[profile])
        return folder

    @functools.cache  # noqa: B019 -- one for the module
    def of(self, profile: str, backend: str) -> dict[str, dict[str, dict[str, str]]]:
        report = self.root / f"{backend}{profile}.json"
        families = OWN if backend == "lmms-eval-own" else PROVEN[profile]
        folders = [self.models(profile) / family for family in families]
        run(profile, "family_answers.py", backend, report, *folders)
        return json.loads(report.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> Reports:
    return Reports(tmp_path_factory.mktemp("families"))


@pytest.mark.parametrize("backend", ["vlmevalkit", "lmms-eval"])
@pytest.mark.parametrize(
    ("profile", "family"),
    [(profile, family) for profile, families in PROVEN.items() for family in families],
)
def test_a_family_answers_as_plain_transformers_does(
    reports: Reports, profile: str, family: str, backend: str
) -> None:
    texts = equal_texts(reports.of(profile, backend)[family])
    # VLMEvalKit's generic class is given frames as pictures.
    assert ("video" in texts) is (backend == "lmms-eval" and family not in PICTURES_ONLY)


@pytest.mark.parametrize("family", OWN)
def test_a_type_of_lmms_eval_answers_as_plain_transformers_does(
    reports: Reports, family: str
) -> None:
    equal_texts(reports.of(NEWER, "lmms-eval-own")[family])


def equal_texts(answers: dict[str, dict[str, str]]) -> dict[str, str]:
    """By question the answer that both gave."""
    assert isinstance(answers, dict), answers  # else how it failed
    for question, answer in answers.items():
        assert answer["backend"] == answer["transformers"], question
    texts = {question: answer["backend"] for question, answer in answers.items()}
    assert texts["one picture"] != texts["other picture"]  # the picture is seen
    return texts
