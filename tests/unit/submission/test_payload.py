"""The payload: the leaderboard's names, four decimals, null for what is not complete."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from easi_eval.benchmarks import CORE_KEYS, VLMEVALKIT, by_key, headline_keys
from easi_eval.config import SubmissionConfig
from easi_eval.scores.score_table import BenchmarkScore, Pool, Reading, ScoreTable, State, missing
from easi_eval.submission.payload import build_payload, fields_to_fill, payload_text, to_send

METADATA = SubmissionConfig(modelName="org/named", modelType="instruction", precision="bfloat16")


def line(key: str, score: float = 200 / 3, state: State = State.COMPLETE) -> BenchmarkScore:
    parts: dict[str, float | None] = {
        part.name: score for part in by_key(key).source(VLMEVALKIT).parts
    }
    pools = {name: Pool(score, 100.0) for name in ("", *parts)} if by_key(key).group else {}
    return BenchmarkScore(key, Reading(score, parts), n=3, total=3, state=state, pools=pools)


def table(*rows: BenchmarkScore) -> ScoreTable:
    return ScoreTable(rows, "org/model", VLMEVALKIT)


FULL = table(*(line(key) for key in (*CORE_KEYS, "spar_bench")))


def test_names_and_values() -> None:
    payload = build_payload(FULL, "vlmevalkit", METADATA)
    assert set(payload) == {
        "modelName",
        "modelType",
        "precision",
        "revision",
        "weightType",
        "baseModel",
        "remarks",
        "backend",
        "scores",
        "subScores",
    }
    assert payload["modelName"] == "org/named" and payload["backend"] == "vlmevalkit"
    assert set(payload["scores"]) == {*headline_keys(), "spar_bench"}
    assert set(payload["scores"].values()) == {66.6667}
    assert payload["subScores"]["site"].keys() == {
        part.name for part in by_key("site_image").source(VLMEVALKIT).parts
    }
    assert set(payload["subScores"]["3dsrbench"]) >= {
        "overall",
        "circ_eval_overall",
        "height_higher",
        "circ_eval_height_higher",
    }


def test_without_metadata_the_checkpoint_is_named_and_the_rest_left_out() -> None:
    payload = build_payload(FULL, "lmmseval")
    assert set(payload) == {"modelName", "backend", "scores", "subScores"}
    assert payload["modelName"] == "org/model"
    assert fields_to_fill(payload) == ("modelType", "precision")
    assert fields_to_fill(build_payload(replace(FULL, model="my-folder"), "lmmseval")) == (
        "modelName",
        "modelType",
        "precision",
    )
    assert fields_to_fill(build_payload(FULL, "lmmseval", METADATA)) == ()


@pytest.mark.parametrize("state", [State.PARTIAL, State.INCOMPLETE, State.FAILED, State.MISSING])
def test_what_is_not_complete_is_null_in_the_file_and_absent_when_sent(state: State) -> None:
    payload = build_payload(table(line("blink"), line("embspatial", 12.0, state)), "vlmevalkit")
    assert (
        payload["scores"]["blink"] == 66.6667
        and payload["scores"]["embspatial"] is None
        and payload["scores"]["vsi_bench"] is None
    )
    assert set(payload["subScores"]["embspatial"].values()) == {None}
    sent = to_send(payload)
    assert sent["scores"] == {"blink": 66.6667}
    assert list(sent["subScores"]) == ["blink"]


def test_empty_texts_are_not_sent() -> None:
    sent = to_send(build_payload(FULL, "vlmevalkit", METADATA))
    assert (
        "baseModel" not in sent
        and "remarks" not in sent
        and sent["revision"] == "main"
        and sent["weightType"] == "Original"
    )


def test_half_of_site_is_null() -> None:
    payload = build_payload(table(line("site_image")), "vlmevalkit")
    assert payload["scores"]["site"] is None and "site_image" not in payload["scores"]


def test_zero_and_negative_scores_are_sent() -> None:
    payload = build_payload(
        table(
            line("blink", 0.0),
            line("site_image", -12.00004),
            line("site_video", -12.00004),
            line("embspatial", -0.00001),
        ),
        "vlmevalkit",
    )
    assert to_send(payload)["scores"] == {"blink": 0.0, "site": -12.0, "embspatial": 0.0}
    assert "-0.0" not in payload_text(payload)


def test_the_text_is_stable_json_without_nan() -> None:
    payload = build_payload(replace(FULL, model="org/Ω"), "vlmevalkit")
    assert json.loads(payload_text(payload)) == payload
    assert payload_text(dict(reversed(payload.items()))) == payload_text(payload)
    assert "Ω" in payload_text(payload)
    with pytest.raises(ValueError):
        payload_text({**payload, "scores": {"blink": float("nan")}})


def test_a_table_with_nothing_has_a_payload() -> None:
    payload = build_payload(table(missing("blink", "not run")), "vlmevalkit")
    assert set(payload["scores"].values()) == {None}
    assert to_send(payload) == {"modelName": "org/model", "backend": "vlmevalkit"}


def test_remarks_are_the_users_and_the_notes_of_complete_rows() -> None:
    rows = [
        replace(line(key), notes=(("drawn letters: 3", "read alike")))
        for key in ("vsi_bench", "blink")
    ]
    rows.append(replace(line("embspatial", state=State.FAILED), notes=("of no interest",)))
    payload = build_payload(
        table(*rows),
        "vlmevalkit",
        replace(METADATA, remarks="Mine: é"),
        ["revision main is commit abc"],
    )
    assert (
        payload["remarks"]
        == "Mine: é\nrevision main is commit abc\nVSI-Bench, BLINK: drawn letters: 3\n"
        "VSI-Bench, BLINK: read alike"
    )
    # said without metadata too
    assert build_payload(table(*rows), "vlmevalkit")["remarks"].startswith(
        "VSI-Bench, BLINK: drawn"
    )
    cleaned = build_payload(
        table(*rows),
        "vlmevalkit",
        replace(METADATA, remarks="in /home/me"),
        clean=lambda text: text.replace("/home/me", "[home]"),
    )
    assert cleaned["remarks"].startswith("in [home]\n")


def test_remarks_are_bounded_and_the_users_stay_whole() -> None:
    rows = [replace(line(key), notes=(f"{key} " + "x" * 3000,)) for key in CORE_KEYS]
    mine = "m" * 4000
    remarks = build_payload(table(*rows), "vlmevalkit", replace(METADATA, remarks=mine))["remarks"]
    assert remarks.startswith(mine + "\n") and len(remarks) < 11_000
    assert remarks.endswith("more in the archive's run_manifest.json)")
