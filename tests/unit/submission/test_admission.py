"""What the leaderboard requires of a model is checked on the hub first, without a token.

Only an answer of the hub leads to a refusal.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from easi_eval.config import SubmissionConfig
from easi_eval.core.errors import EasiError, ExitCode
from easi_eval.data.cards import license_of
from easi_eval.data.needs import HubSettings
from easi_eval.submission.admission import check_public
from easi_eval.submission.endpoint import by_hand
from hub_faults import Faults, FaultyHub

LICENSED = "---\nlanguage: en\nlicense: mit\n---\n# model\n"


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[FaultyHub]:
    for name, card in (("licensed", LICENSED), ("bare", "# model\n"), ("base", LICENSED)):
        folder = tmp_path / "served" / "models" / "org" / name
        folder.mkdir(parents=True)
        (folder / "README.md").write_text(card)
    with FaultyHub(tmp_path / "served") as running:
        yield running


def ask(hub: FaultyHub, name: str, base: str = "", **changes: object) -> str:
    given = SubmissionConfig(
        name,
        "instruction",
        "bfloat16",
        weightType="Adapter" if base else "Original",
        baseModel=base,
    )
    settings = HubSettings(endpoint=hub.endpoint, token="hf_mine", backoff=0.01, **changes)  # type: ignore[arg-type]
    return check_public(given, lambda name: license_of(name, settings))


def test_a_public_model_with_a_license_will_do(hub: FaultyHub) -> None:
    assert ask(hub, "org/licensed") == "" == ask(hub, "org/licensed", "org/base")


@pytest.mark.parametrize(
    ("name", "base", "words"),
    [
        ("org/absent", "", "modelName org/absent is not on the hub, or it is private"),
        ("org/bare", "", "modelName org/bare names no license"),
        ("org/licensed", "org/absent", "baseModel org/absent is not on the hub"),
        ("org/licensed", "org/bare", "baseModel org/bare names no license"),
        ("org/licensed", "Qwen3", "baseModel is 'Qwen3', not a Hugging Face model id"),
    ],
)
def test_what_the_hub_denies_is_refused(hub: FaultyHub, name: str, base: str, words: str) -> None:
    with pytest.raises(EasiError, match=words) as caught:
        ask(hub, name, base)
    assert caught.value.code == ExitCode.REFUSED and caught.value.hint


def test_what_only_the_token_shows_is_private(hub: FaultyHub) -> None:
    hub.set_faults(Faults(token="hf_mine"))
    with pytest.raises(EasiError, match="is private"):
        ask(hub, "org/licensed")


def test_without_an_answer_there_is_a_warning(hub: FaultyHub) -> None:
    assert "HF_HUB_OFFLINE" in ask(hub, "org/absent", offline=True)
    hub.set_faults(Faults(status=502, times=-1))
    assert "502" in ask(hub, "org/absent", out_of_order=0.1)
    hub.set_faults(Faults(match="/api/", status=403, times=-1))
    assert "org/absent" in ask(hub, "org/absent")


@pytest.mark.parametrize("name", ["org/Mod\u00e8le", "\u6a21/\u578b"])
def test_model_names_are_ascii(name: str) -> None:
    with pytest.raises(EasiError, match="not a Hugging Face model id"):
        SubmissionConfig(name, "instruction", "bfloat16")


@pytest.mark.parametrize(
    "member, stored, said",
    [
        (2**20, False, ("upload", "email")),
        (101 * 2**20, False, ("email", "more than 100 MiB")),
        (21 * 10**6, True, ("email", "above 20 MB")),
    ],
)
def test_the_web_form_is_named_for_archives_that_it_takes(
    tmp_path: Path, member: int, stored: bool, said: tuple[str, ...]
) -> None:
    archive = tmp_path / "easi_results.zip"
    with zipfile.ZipFile(
        archive, "w", zipfile.ZIP_STORED if stored else zipfile.ZIP_DEFLATED
    ) as zipped:
        zipped.writestr("rows.csv", bytes(member))
    hint = by_hand(tmp_path / "easi_results.json", archive)
    assert all(words in hint for words in said) and hint.startswith(said[0])
