"""``modelName`` and ``revision`` against what was evaluated.

Also what is offered for the other fields.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from easi_eval.config import SubmissionConfig
from easi_eval.core.errors import EasiError
from easi_eval.core.model import ModelChoice
from easi_eval.submission.checkpoint_match import CheckpointMatch
from easi_eval.submission.metadata import (
    Evaluated,
    compare_with_evaluated,
    naming_remarks,
    refuse_other_model,
)
from easi_eval.submission.metadata_hints import precision_of, suggestions

COMMIT = "0123456789abcdef" * 2 + "01234567"
META = SubmissionConfig("org/Model", "instruction", "bfloat16")
HUB = ModelChoice("org/Model", "org/Model", "Chat", "why")


def evaluated(model: ModelChoice = HUB, revisions: dict[str, str] | None = None) -> Evaluated:
    return Evaluated.of(model, {"org/Model": COMMIT} if revisions is None else revisions)


@pytest.mark.parametrize(
    "model, meta, differs",
    [
        (HUB, META, ""),
        (HUB, replace(META, modelName="ORG/model"), ""),
        (
            HUB,
            replace(META, modelName="org/Other"),
            "modelName is org/Other, and org/Model was evaluated",
        ),
        (HUB, replace(META, revision=COMMIT), ""),
        (HUB, replace(META, revision=COMMIT[:8]), ""),
        (
            HUB,
            replace(META, revision="f" * 40),
            f"revision is {'f' * 40}, and main (commit {COMMIT}) was evaluated",
        ),
        (
            HUB,
            replace(META, revision="v2"),
            f"revision is v2, and main (commit {COMMIT}) was evaluated",
        ),
        (replace(HUB, revision="v2"), replace(META, revision="v2"), ""),
        (
            replace(HUB, revision="v2"),
            META,
            f"revision is main, and v2 (commit {COMMIT}) was evaluated",
        ),
        (
            replace(HUB, revision="a" * 40),
            META,
            f"revision is main, and {'a' * 40} (commit {COMMIT}) was evaluated",
        ),
    ],
)
def test_a_checkpoint_of_the_hub(model: ModelChoice, meta: SubmissionConfig, differs: str) -> None:
    found = compare_with_evaluated(meta, evaluated(model))
    assert "; ".join(found.differs) == differs
    if differs:
        with pytest.raises(EasiError, match="--submission-configs") as error:
            refuse_other_model(found, differs_is_meant=False)
        assert "--model-name-differs" in error.value.hint
        refuse_other_model(found, differs_is_meant=True)
        assert differs in naming_remarks(found)[0]
    else:
        refuse_other_model(found, differs_is_meant=False)


def test_main_is_stored_with_its_commit() -> None:
    assert naming_remarks(compare_with_evaluated(META, evaluated())) == (
        f"revision main is commit {COMMIT}",
    )
    assert (
        naming_remarks(compare_with_evaluated(META, evaluated(revisions={}))) == ()
    )  # not fetched yet
    assert naming_remarks(compare_with_evaluated(replace(META, revision=COMMIT), evaluated())) == ()


def test_a_snapshot_of_a_cache_is_known_by_its_place(tmp_path: Path) -> None:
    folder = tmp_path / "models--org--Model" / "snapshots" / COMMIT
    folder.mkdir(parents=True)
    local = replace(HUB, path=str(folder), revision="digest")
    assert compare_with_evaluated(META, evaluated(local)).differs == (
        f"revision is main, and {COMMIT} was evaluated",
    )
    assert compare_with_evaluated(replace(META, revision=COMMIT), evaluated(local)).differs == ()
    (tmp_path / "models--org--Model" / "refs").mkdir()
    (tmp_path / "models--org--Model" / "refs" / "main").write_text(COMMIT)
    assert compare_with_evaluated(META, evaluated(local)).differs == ()
    assert (
        compare_with_evaluated(replace(META, modelName="org/Other"), evaluated(local)).differs != ()
    )


def test_a_folder_is_compared_with_what_is_named(tmp_path: Path) -> None:
    local = evaluated(replace(HUB, path=str(tmp_path / "mine"), revision="d1g3st"))
    asked: list[Any] = []

    def same(folder: Path, repo: str, revision: str) -> CheckpointMatch:
        asked.append((folder, repo, revision))
        return CheckpointMatch(COMMIT, ())

    found = compare_with_evaluated(META, local, same)
    assert asked == [(tmp_path / "mine", "org/Model", "main")] and found.differs == ()
    assert (
        "d1g3st" in naming_remarks(found)[0]
        and COMMIT in naming_remarks(found)[0]
        and str(tmp_path) not in naming_remarks(found)[0]
    )
    other = compare_with_evaluated(
        META, local, lambda *_: CheckpointMatch(COMMIT, ("model.safetensors",))
    )
    assert "model.safetensors differ" in other.differs[0]
    assert " ".join(naming_remarks(other)).count("d1g3st") == 1

    def unreachable(*_: object) -> CheckpointMatch:
        raise EasiError("there is no model org/Model")

    found = compare_with_evaluated(META, local, unreachable)
    assert "cannot be compared" in found.differs[0] and "no model org/Model" in found.differs[0]
    assert "d1g3st" in " ".join(naming_remarks(found))
    # What the hub said on this machine is not published, and the digest once.
    (remark,) = naming_remarks(found)
    assert "not compared with the hub: org/Model at main is the folder mine" in remark
    assert remark.count("d1g3st") == 1 and "there is no model" not in remark
    with pytest.raises(EasiError) as refused:
        refuse_other_model(found, False)
    assert "vouch for the name with --model-name-differs" in refused.value.hint


def test_a_served_model() -> None:
    served = Evaluated.of(ModelChoice("gpt-4o", "gpt-4o", "openai", "", served=True), {})
    assert compare_with_evaluated(replace(META, modelName="openai/gpt-4o"), served).differs == ()
    assert compare_with_evaluated(META, served).differs != ()
    assert "weights were not seen" in compare_with_evaluated(META, served).remarks[0]


@pytest.mark.parametrize(
    "config, arguments, precision",
    [
        ({"torch_dtype": "bfloat16"}, {}, "bfloat16"),
        ({"dtype": "float16"}, {}, "float16"),
        ({"text_config": {"dtype": "float32"}}, {}, "float32"),
        ({"torch_dtype": "bfloat16", "quantization_config": {"bits": 4}}, {}, ""),
        ({"quantization_config": {"load_in_8bit": True}}, {}, "int8"),
        ({"torch_dtype": "bfloat16"}, {"torch_dtype": "float16"}, "float16"),
        ({}, {}, ""),
        (None, {}, ""),
    ],
)
def test_precision_is_inferred(
    config: dict[str, Any] | None, arguments: dict[str, object], precision: str
) -> None:
    model = replace(HUB, arguments=arguments)
    assert precision_of(model, config) == precision
    said = suggestions(model, config, None, None)
    assert bool(said) == bool(precision) and precision in "".join(said)


def test_offers_are_never_set_and_silent_where_they_agree() -> None:
    config = {"torch_dtype": "bfloat16"}
    assert suggestions(HUB, config, None, META) == ()
    (line,) = suggestions(HUB, config, None, replace(META, precision="float16"))
    assert "bfloat16" in line and "says float16" in line
    (line,) = suggestions(HUB, None, {"base_model_name_or_path": "org/Base"}, None)
    assert '"weightType": "Adapter", "baseModel": "org/Base"' in line
    peft = replace(HUB, arguments={"peft": "org/Adapter", "pretrained": "org/Base"})
    assert "org/Base" in suggestions(peft, None, None, META)[0]
    assert (
        suggestions(peft, None, None, replace(META, weightType="Adapter", baseModel="org/Base"))
        == ()
    )
