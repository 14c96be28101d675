"""What is found in result folders that were made without this program.

Which backend and run they are of, which files count, and which must not be taken.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

import pytest

from easi_eval.benchmarks import ALL_KEYS, LMMS_EVAL, VLMEVALKIT, by_key
from easi_eval.core.errors import EasiError
from easi_eval.run.import_plan import survey
from easi_eval.scores.outputs import Candidate, Survey
from importable import STAMP, lmms_files, vlmevalkit_files


def of(found: Survey, key: str) -> Candidate:
    (one,) = (candidate for candidate in found.candidates if candidate.key == key)
    return one


def aged(folder: Path, seconds: int) -> Path:
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            os.utime(path, (seconds, seconds))
    return folder


# ---- VLMEvalKit


def test_a_flat_folder_of_this_version(tmp_path: Path) -> None:
    found = survey(vlmevalkit_files(tmp_path / "M"))
    assert (found.backend, found.model) == (VLMEVALKIT, "M")
    assert [candidate.key for candidate in found.candidates] == list(ALL_KEYS)
    assert all(
        len(candidate.files) == 2 and not candidate.problem for candidate in found.candidates
    )
    assert of(found, "blink").method == of(found, "vsi_bench").method == "exact_matching"


def test_api_mode_keeps_runs_apart_and_names_the_model_with_an_arrow(tmp_path: Path) -> None:
    home = tmp_path / "org-->Tiny"
    aged(vlmevalkit_files(home / "T20260101-000000", ["blink", "embspatial"], "org-->Tiny"), 1000)
    aged(vlmevalkit_files(home / "T20260102-000000", ["blink"], "org-->Tiny"), 2000)
    found = survey(tmp_path)
    assert found.model == "org/Tiny"
    assert {path.parent.name for path in of(found, "blink").files} == {"T20260102-000000"}
    assert {path.parent.name for path in of(found, "embspatial").files} == {"T20260101-000000"}


def test_score_and_rows_of_one_benchmark_are_of_one_run(tmp_path: Path) -> None:
    """The newer run was stopped before its per-question file.

    The file of the older run does not replace it.
    """
    aged(vlmevalkit_files(tmp_path / "M" / "T20260101-000000", ["blink"]), 1000)
    newer = aged(vlmevalkit_files(tmp_path / "M" / "T20260102-000000", ["blink"]), 2000)
    (newer / "M_BLINK_exact_matching_result.xlsx").unlink()
    assert "no per-question file beside it" in of(survey(tmp_path), "blink").problem


def test_runs_that_were_copied_at_once_are_told_apart_by_their_names(tmp_path: Path) -> None:
    for name in ("T20260103-000000", "T20260101-000000", "T20260102-000000"):
        aged(vlmevalkit_files(tmp_path / "M" / name, ["blink"]), 1000)
    assert {path.parent.name for path in of(survey(tmp_path), "blink").files} == {
        "T20260103-000000"
    }


def test_links_of_older_versions_are_resolved_and_count_once(tmp_path: Path) -> None:
    run = vlmevalkit_files(tmp_path / "M" / "T20251122_Gabc123", ["blink", "3dsrbench"])
    for path in run.iterdir():
        (tmp_path / "M" / path.name).symlink_to(Path(run.name) / path.name)
    for key in ("blink", "3dsrbench"):
        assert {path.parent for path in of(survey(tmp_path / "M"), key).files} == {run}


def test_loops_and_dangling_links_are_passed_over(tmp_path: Path) -> None:
    folder = vlmevalkit_files(tmp_path / "M", ["blink"])
    (folder / "again").symlink_to(folder)
    (folder / "X_EmbSpatialBench_extract_matching_acc.csv").symlink_to(
        "X_EmbSpatialBench_extract_matching_acc.csv"
    )
    (folder / "Y_EmbSpatialBench_extract_matching_acc.csv").symlink_to("gone.csv")
    found = survey(folder)
    assert [candidate.key for candidate in found.candidates] == ["blink"] and found.model == "M"


def judged(folder: Path, task: str, judge: str, seconds: int) -> None:
    """What a judge leaves beside the rules' files."""
    for path in sorted(folder.glob(f"M_{task}_extract_matching*")):
        copy = shutil.copyfile(
            path, path.with_name(path.name.replace("extract_matching", f"llm_{judge}"))
        )
        os.utime(copy, (seconds, seconds))


def test_the_newest_reading_counts_with_its_own_rows(tmp_path: Path) -> None:
    folder = aged(vlmevalkit_files(tmp_path, ["embspatial"]), 1000)
    judged(folder, "EmbSpatialBench", "gpt-4o-1120", 2000)
    found = of(survey(folder), "embspatial")
    assert found.method == "gpt-4o-1120" and all(
        "llm_gpt-4o-1120" in path.name for path in found.files
    )


def test_the_halves_of_site_are_taken_as_read_alike(tmp_path: Path) -> None:
    folder = aged(vlmevalkit_files(tmp_path, ["site_image", "site_video"]), 1000)
    judged(folder, "SiteBenchImage", "gpt-4o-1120", 2000)
    found = survey(folder)
    assert of(found, "site_image").method == of(found, "site_video").method == "exact_matching"
    for path in folder.glob("M_SiteBenchImage_extract*"):
        path.unlink()
    found = survey(folder)
    assert (
        "scored differently" in of(found, "site_image").problem
        and "scored differently" in of(found, "site_video").problem
    )


def test_answered_is_not_scored(tmp_path: Path) -> None:
    folder = vlmevalkit_files(tmp_path, ["blink"])
    (folder / "M_EmbSpatialBench.xlsx").write_bytes(b"")
    assert "not scored" in of(survey(folder), "embspatial").problem


def test_two_models_are_refused_and_named(tmp_path: Path) -> None:
    vlmevalkit_files(tmp_path / "M", ["blink"])
    vlmevalkit_files(tmp_path / "Other", ["embspatial"], "Other")
    with pytest.raises(EasiError, match="several models: M, Other"):
        survey(tmp_path)


# ---- lmms-eval


def test_one_launch_of_all(tmp_path: Path) -> None:
    found = survey(lmms_files(tmp_path))
    assert (found.backend, found.model, found.cls, found.version) == (
        LMMS_EVAL,
        "org/Tiny-VLM",
        "qwen2_5_vl",
        "of an unknown release (git main@5753e51b)",
    )
    assert found.arguments == {"pretrained": "org/Tiny-VLM", "max_pixels": "3136"}
    assert [candidate.key for candidate in found.candidates] == list(ALL_KEYS)
    assert len(of(found, "blink").files) == 15


@pytest.mark.parametrize(("told", "version"), [("unknown@unknown", ""), ("0.7.3", "0.7.3")])
def test_a_release_is_told_only_where_the_files_name_one(
    told: str, version: str, tmp_path: Path
) -> None:
    """Outside a git repository lmms-eval writes unknown@unknown."""
    (results,) = lmms_files(tmp_path, ["embspatial"]).glob("*_results.json")
    written = results.read_text(encoding="utf-8").replace("main@5753e51b", told)
    results.write_text(written, encoding="utf-8")
    assert survey(tmp_path).version == version


def test_several_launches_and_the_newest_by_name_counts(tmp_path: Path) -> None:
    lmms_files(tmp_path / "a", ["blink", "embspatial"], "20260103_000000")
    aged(lmms_files(tmp_path / "b", ["blink"], "20260102_000000"), 4_000_000_000)
    found = survey(tmp_path)
    assert {path.parent.name for path in of(found, "blink").files} == {"a"}
    assert {path.parent.name for path in of(found, "embspatial").files} == {"a"}


def test_what_a_limit_left_never_counts(tmp_path: Path) -> None:
    lmms_files(tmp_path, ["embspatial"], "20260101_000000", limit=8)
    assert "--limit 8" in of(survey(tmp_path), "embspatial").problem
    lmms_files(tmp_path, ["embspatial"], "20251231_000000")
    taken = of(survey(tmp_path), "embspatial")
    assert (
        all(path.name.startswith("20251231") for path in taken.files)
        and "--limit 8" in taken.notes[0]
    )


def test_a_damaged_newer_file_is_no_reason_to_take_an_older_one(tmp_path: Path) -> None:
    lmms_files(tmp_path, ["embspatial"])
    (tmp_path / "20260201_000000_results.json").write_text('{"results": {', encoding="utf-8")
    assert "20260201_000000_results.json is damaged" in of(survey(tmp_path), "embspatial").problem
    (tmp_path / "20260201_000000_results.json").rename(tmp_path / "20250101_000000_results.json")
    assert of(survey(tmp_path), "embspatial").problem == ""


def test_lost_samples_are_named(tmp_path: Path) -> None:
    (lmms_files(tmp_path, ["blink"]) / f"{STAMP}_samples_blink_counting.jsonl").unlink()
    assert f"{STAMP}_samples_blink_counting.jsonl" in of(survey(tmp_path), "blink").problem


def test_settings_do_not_mix(tmp_path: Path) -> None:
    lmms_files(tmp_path / "a", ["blink"])
    lmms_files(tmp_path / "b", ["embspatial"], model_args="pretrained=org/Tiny-VLM,max_pixels=99")
    with pytest.raises(
        EasiError, match=re.escape("one model under several settings (blink; embspatial)")
    ):
        survey(tmp_path)
    assert survey(tmp_path, ["blink"]).arguments["max_pixels"] == "3136"


def test_what_changes_no_answer_may_differ(tmp_path: Path) -> None:
    lmms_files(tmp_path / "a", ["blink"])
    lmms_files(
        tmp_path / "b",
        ["embspatial"],
        model_args="max_pixels=3136,pretrained=org/Tiny-VLM,device_map=cuda:1",
    )
    assert len(survey(tmp_path).candidates) == 2


def test_another_task_of_a_benchmark_is_found(tmp_path: Path) -> None:
    lmms_files(tmp_path, ["3dsrbench"])
    path = tmp_path / f"{STAMP}_results.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    variant = next(iter(by_key("3dsrbench").source(LMMS_EVAL).variants))
    content["results"] = {variant: content["results"]["3dsrbench"]}
    path.write_text(json.dumps(content), encoding="utf-8")
    assert variant in of(survey(tmp_path), "3dsrbench").problem


# ---- neither


def test_folders_that_cannot_be_taken(tmp_path: Path) -> None:
    with pytest.raises(EasiError, match="is not there"):
        survey(tmp_path / "gone")
    (tmp_path / "file").write_text("x")
    with pytest.raises(EasiError, match="is not a folder"):
        survey(tmp_path / "file")
    (tmp_path / "20260101_000000_results.json").write_bytes(b"\x80\x04garbage")
    with pytest.raises(EasiError, match="holds no results"):
        survey(tmp_path)
    vlmevalkit_files(tmp_path / "v", ["blink"])
    lmms_files(tmp_path / "l", ["blink"])
    with pytest.raises(EasiError, match="both backends"):
        survey(tmp_path)


def test_the_younger_folder_counts_whatever_the_files_times(tmp_path: Path) -> None:
    """A copy loses the times of its files; VLMEvalKit's folders name the time of a run."""
    for number, stamp in enumerate(("T20260209-101500", "T20260208_G1a2b3c4d", "T20260209-091500")):
        folder = vlmevalkit_files(tmp_path / "M" / stamp, ["blink"])
        for path in folder.iterdir():
            os.utime(path, (1_700_000_000 + number, 1_700_000_000 + number))
    (candidate,) = survey(tmp_path / "M", ["blink"]).candidates
    assert {path.parent.name for path in candidate.files} == {"T20260209-101500"}
    assert candidate.notes == (
        "read from T20260209-101500; ignored: T20260209-091500, T20260208_G1a2b3c4d",
    )


def test_lmms_eval_names_the_launch_that_was_taken_too(tmp_path: Path) -> None:
    for stamp in ("20260209_101500", "20260208_101500"):
        lmms_files(tmp_path / "M", ["viewspatial"], stamp=stamp)
    (candidate,) = survey(tmp_path / "M", ["viewspatial"]).candidates
    assert candidate.notes == (
        "read from 20260209_101500_results.json; ignored: 20260208_101500_results.json",
    )
