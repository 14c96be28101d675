"""The readers on small files that both backends really wrote, whole, cut off and misplaced."""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import openpyxl
import pytest

from easi_eval.backends.lmms_eval.question_rows import read_lmms_rows
from easi_eval.backends.lmms_eval.reader import read_lmms_scores
from easi_eval.backends.lmms_eval.result_files import find_lmms_outputs
from easi_eval.backends.vlmevalkit.question_rows import read_vlmevalkit_rows
from easi_eval.backends.vlmevalkit.reader import read_vlmevalkit_scores
from easi_eval.backends.vlmevalkit.result_files import find_vlmevalkit_outputs
from easi_eval.benchmarks import BACKENDS, BENCHMARKS, LMMS_EVAL, VLMEVALKIT, Benchmark, by_key
from easi_eval.core.errors import EasiError
from easi_eval.scores.outputs import Outputs
from easi_eval.scores.recompute import accuracy, pool
from easi_eval.scores.row_table import ROW_COLUMNS
from easi_eval.scores.score_table import Reading
from genuine import files_of, genuine

FIND: dict[str, Callable[..., Outputs]] = {
    VLMEVALKIT: find_vlmevalkit_outputs,
    LMMS_EVAL: find_lmms_outputs,
}
ROWS = {VLMEVALKIT: read_vlmevalkit_rows, LMMS_EVAL: read_lmms_rows}
SCORES = {VLMEVALKIT: read_vlmevalkit_scores, LMMS_EVAL: read_lmms_scores}
PAIRS = [(bench, backend) for bench in BENCHMARKS for backend in BACKENDS]
EACH = pytest.mark.parametrize(
    "bench, backend", PAIRS, ids=lambda value: getattr(value, "key", value)
)


def copy_of(bench: Benchmark, backend: str, folder: Path) -> Outputs:
    """The files of one benchmark, alone in ``folder``."""
    out = genuine(backend, bench)
    for path in out.files:
        shutil.copyfile(path, folder / path.name)
    return FIND[backend](bench, folder)


def read(bench: Benchmark, backend: str, out: Outputs) -> Reading:
    return SCORES[backend](bench, out, ROWS[backend](bench, out))


@EACH
def test_rows_say_what_the_registry_promises(bench: Benchmark, backend: str) -> None:
    rows = ROWS[backend](bench, genuine(backend, bench))
    source = bench.source(backend)
    assert tuple(rows.columns) == ROW_COLUMNS
    assert rows["item"].is_unique and (rows["item"] != "").all()
    assert rows["score"].between(0, 1).all()
    assert set(rows["question_type"]) <= {kind for part in source.parts for kind in part.types}
    assert rows["cluster"].ne("").all() == bool(source.rows.cluster)
    assert rows["parsed"].isna().all() == (source.rows.unparsed_when == "")
    assert rows["options"].notna().all() == bool(bench.group)
    assert not rows["cluster"].str.contains("/home/").any()


@EACH
def test_every_score_is_the_one_the_rows_give(bench: Benchmark, backend: str) -> None:
    """The readings of the aggregate equal plain means (or CAA) of the rows.

    Compared where the definition is that simple.
    """
    out = genuine(backend, bench)
    rows = ROWS[backend](bench, out)
    found = read(bench, backend, out)
    assert found.overall is not None and "" not in found.why_missing
    source = bench.source(backend)
    # the backends round to 2, 4 and 5 decimals
    near = {"rel": 0, "abs": 1e-4 if source.decimals != 2 else 0.006}
    for part in source.parts:
        if not part.types or part.group or (len(part.types) > 1 and source.recompute != "mean"):
            continue
        pooled = pool(rows, part.types)
        expected = pooled.caa if bench.group and pooled else accuracy(rows, part.types)
        assert found.parts[part.name] == pytest.approx(expected, **near), part.name
    if bench.group:
        whole = pool(rows)
        assert whole is not None and found.overall == pytest.approx(whole.caa, **near)
    # means over kinds of questions, see below
    elif source.recompute == "mean" or bench.key == "blink":  # as many questions of each kind here
        assert found.overall == pytest.approx(100 * rows["score"].mean(), **near)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("key", ["vsi_bench", "vsi_debiased"])
def test_vsi_headline_is_the_mean_of_its_eight_kinds(key: str, backend: str) -> None:
    bench = by_key(key)
    found = read(bench, backend, genuine(backend, bench))
    assert len(found.parts) == 8
    assert found.overall == pytest.approx(
        math.fsum(value for value in found.parts.values() if value is not None) / 8, abs=1e-4
    )


@pytest.mark.parametrize("backend", BACKENDS)
def test_spar_headline_is_the_mean_of_its_twenty_tasks(backend: str) -> None:
    bench = by_key("spar_bench")
    found = read(bench, backend, genuine(backend, bench))
    tasks = [
        value
        for name, value in found.parts.items()
        if name not in ("low", "middle", "high") and value is not None
    ]
    assert len(tasks) == 20
    assert found.overall == pytest.approx(math.fsum(tasks) / 20, abs=1e-4)


def test_both_backends_agree_on_the_same_answers() -> None:
    """The fixtures are one model's answers to the same questions."""
    for key in (
        "mmsi_bench",
        "mindcube_tiny",
        "viewspatial",
        "site_image",
        "site_video",
        "embspatial",
    ):
        bench = by_key(key)
        scores = [read(bench, backend, genuine(backend, bench)) for backend in BACKENDS]
        assert scores[0].overall == pytest.approx(scores[1].overall, abs=1e-3)
        assert scores[0].parts.keys() == scores[1].parts.keys()


def test_absent_sub_scores_are_listed_with_the_reason() -> None:
    bench = by_key("3dsrbench")
    found = read(bench, LMMS_EVAL, genuine(LMMS_EVAL, bench))
    assert found.parts["circ_eval_overall"] is None
    assert "no circular variants" in found.why_missing["circ_eval_overall"]


def test_the_circular_task_gets_its_categories_from_the_rows() -> None:
    bench = by_key("3dsrbench")
    out = find_lmms_outputs(bench, files_of(bench.key, LMMS_EVAL), "3dsrbench_circular")
    results = json.loads(out.scores[0].read_text(encoding="utf-8"))["results"]["3dsrbench_circular"]
    assert results["height_higher_accuracy,none"] == []
    found = read_lmms_scores(bench, out)
    rows = read_lmms_rows(bench, out)
    assert (
        found.parts["height_higher"]
        == 100 * rows[rows["question_type"] == "height_higher"]["score"].mean()
    )
    assert found.parts["circ_eval_overall"] == 100 * results["circular_accuracy,none"]
    assert found.parts["circ_eval_height_higher"] is None and rows["cluster"].nunique() < len(rows)


# ---- damage


@EACH
def test_a_file_cut_off_anywhere_is_an_error_that_names_it(
    bench: Benchmark, backend: str, tmp_path: Path
) -> None:
    out = copy_of(bench, backend, tmp_path)
    for path in out.files:
        whole = path.read_bytes()
        for keep in (0, 1, len(whole) // 3, len(whole) // 2, len(whole) - 20, len(whole) - 1):
            path.write_bytes(whole[:keep])
            with pytest.raises(EasiError) as caught:
                read(bench, backend, Outputs(bench.key, tmp_path, out.scores, out.rows))
            assert path.name in caught.value.message, f"{path.name} cut to {keep} of {len(whole)}"
        path.write_bytes(whole)
    assert read(bench, backend, out).overall is not None


@EACH
def test_a_lacking_row_is_noticed(bench: Benchmark, backend: str, tmp_path: Path) -> None:
    """A samples file or a table of metrics that lost its last line is still a well-formed file.

    Only its content shows the loss.
    """
    out = copy_of(bench, backend, tmp_path)
    path = out.rows[-1] if backend == LMMS_EVAL else out.scores[0]
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    path.write_text("".join(lines[:-1]), encoding="utf-8")
    with pytest.raises(EasiError, match="no row|rows|samples|no number"):
        read(bench, backend, out)


@EACH
def test_nothing_there_is_an_error_that_names_the_folder(
    bench: Benchmark, backend: str, tmp_path: Path
) -> None:
    for folder in (tmp_path, tmp_path / "absent"):
        with pytest.raises(EasiError, match=str(folder)):
            FIND[backend](bench, folder)


@EACH
def test_scores_without_their_rows_do_not_count(
    bench: Benchmark, backend: str, tmp_path: Path
) -> None:
    out = copy_of(bench, backend, tmp_path)
    out.rows[0].unlink()
    with pytest.raises(EasiError):
        FIND[backend](bench, tmp_path)


# ---- finding


def test_the_table_of_subsets_is_never_taken_for_the_scores(tmp_path: Path) -> None:
    bench = by_key("mmsi_video_bench")
    copy_of(bench, VLMEVALKIT, tmp_path)
    trap = next(files_of(bench.key, VLMEVALKIT).glob("*_subset_acc.csv"))
    shutil.copyfile(trap, tmp_path / trap.name)
    os.utime(tmp_path / trap.name, (4e9, 4e9))
    shutil.copyfile(trap, tmp_path / trap.name.replace("extract_matching", "llm_gpt-4o"))
    out = find_vlmevalkit_outputs(bench, tmp_path)
    assert out.scores[0].name.endswith("_50frame_extract_matching_acc.csv")


def test_one_dataset_is_never_taken_for_another() -> None:
    for bench in BENCHMARKS:
        out = genuine(VLMEVALKIT, bench)
        assert all(
            path.name.startswith(f"M_{bench.source(VLMEVALKIT).task}_") for path in out.files
        )


def test_the_newest_of_several_runs_counts_with_its_own_rows(tmp_path: Path) -> None:
    bench = by_key("embspatial")
    old, new = tmp_path / "M", tmp_path / "M" / "T20260101-000000"
    for folder, when in ((old, 1_000), (new, 2_000)):
        folder.mkdir(exist_ok=True)
        for path in copy_of(bench, VLMEVALKIT, folder).files:
            if path.parent == folder:
                os.utime(path, (when, when))
    out = find_vlmevalkit_outputs(bench, tmp_path)
    assert {path.parent for path in out.files} == {new}
    (old / "link").symlink_to(new / out.scores[0].name)
    assert find_vlmevalkit_outputs(bench, tmp_path) == out


def test_the_newest_results_file_counts_even_if_it_is_damaged(tmp_path: Path) -> None:
    bench = by_key("embspatial")
    out = copy_of(bench, LMMS_EVAL, tmp_path)
    damaged = tmp_path / "20270101_000000_results.json"
    damaged.write_text(out.scores[0].read_text(encoding="utf-8")[:500], encoding="utf-8")
    os.utime(damaged, (4e9, 4e9))
    with pytest.raises(EasiError, match=damaged.name):
        find_lmms_outputs(bench, tmp_path)


def test_results_of_another_task_are_passed_over(tmp_path: Path) -> None:
    bench = by_key("embspatial")
    out = copy_of(bench, LMMS_EVAL, tmp_path)
    other = tmp_path / "20270101_000000_results.json"
    other.write_text('{"results": {"blink": {}}}', encoding="utf-8")
    os.utime(other, (4e9, 4e9))
    assert find_lmms_outputs(bench, tmp_path) == out


def judged(folder: Path, judge: str) -> None:
    """Copies of the rule-scored files under the name an LLM judge's would have."""
    for path in list(folder.iterdir()):
        name = path.name.replace("extract_matching", f"llm_{judge}")
        if name != path.name:
            shutil.copyfile(path, folder / name)
            os.utime(folder / name, (4e9, 4e9))


def test_the_judge_chooses_the_files(tmp_path: Path) -> None:
    bench = by_key("embspatial")
    rule = copy_of(bench, VLMEVALKIT, tmp_path)
    judged(tmp_path, "gpt-4o-1120")
    assert find_vlmevalkit_outputs(bench, tmp_path, "exact_matching") == rule
    llm = find_vlmevalkit_outputs(bench, tmp_path, "gpt-4o-1120")
    assert all("llm_gpt-4o-1120" in path.name for path in llm.files)
    assert find_vlmevalkit_outputs(bench, tmp_path) == llm
    with pytest.raises(EasiError, match="scored by gpt-5"):
        find_vlmevalkit_outputs(bench, tmp_path, "gpt-5")


def test_blink_rows_of_another_judge_do_not_count(tmp_path: Path) -> None:
    bench = by_key("blink")
    copy_of(bench, VLMEVALKIT, tmp_path)
    assert (
        find_vlmevalkit_outputs(bench, tmp_path, "exact_matching").rows[0].name
        == "M_BLINK_exact_matching_result.xlsx"
    )
    with pytest.raises(EasiError, match="per-question"):
        find_vlmevalkit_outputs(bench, tmp_path, "gpt-4o-1120")


# ---- values


def change_cells(path: Path, changes: dict[str, object], row: int = 2) -> None:
    """Set cells of one row by heading; a heading that is not there becomes a new column."""
    book = openpyxl.load_workbook(path)
    sheet = book.worksheets[0]
    for name, value in changes.items():
        heads = [cell.value for cell in sheet[1]]
        column = heads.index(name) + 1 if name in heads else len(heads) + 1
        sheet.cell(1, column).value = name
        cell = sheet.cell(row, column)
        cell.value = value
        if isinstance(value, str):
            cell.data_type = "f" if value.startswith("=") else "s"
    book.save(path)


@pytest.mark.parametrize(
    "answer",
    ["NA", "nan", "None", "#N/A", "TRUE", "007", "1e5", " A ", "=1+1", "Ω≥3 «ok»", "a\nb\tc"],
)
def test_texts_come_back_exactly(answer: str, tmp_path: Path) -> None:
    bench = by_key("embspatial")
    out = copy_of(bench, VLMEVALKIT, tmp_path)
    change_cells(out.rows[0], {"prediction": answer})
    assert read_vlmevalkit_rows(bench, out)["answer"][0] == answer


@pytest.mark.parametrize(
    "key, row, parsed, extracted",
    [
        ("embspatial", {"pred_extracted": False, "hit": 0}, False, None),
        ("embspatial", {"pred_extracted": "B", "hit": 0}, True, "B"),
        ("embspatial", {"pred_extracted": "B", "judge_grade": "C", "hit": 0}, False, "B"),
        ("embspatial", {"pred_extracted": "B", "judge_grade": "B", "hit": 0}, True, "B"),
        (
            "vsi_bench",
            {"task_type": "NA", "pred_extracted": None, "hit": None, "MRA:.5:.95:.05": 0},
            False,
            None,
        ),
        (
            "vsi_bench",
            {"task_type": "NA", "pred_extracted": 0, "hit": None, "MRA:.5:.95:.05": 0.3},
            True,
            "0",
        ),
        (
            "spar_bench",
            {
                "task_type": "SPECIAL",
                "prediction": "move_right:0.3, rotate_up:10",
                "pred_extracted": None,
                "hit": None,
                "MRA:.5:.95:.05": None,
                "vci_metric": 0.4,
            },
            True,
            None,
        ),
        (
            "spar_bench",
            {
                "task_type": "SPECIAL",
                "prediction": "2",
                "pred_extracted": None,
                "hit": None,
                "MRA:.5:.95:.05": None,
                "vci_metric": 0.4,
            },
            False,
            None,
        ),
        (
            "spar_bench",
            {
                "task_type": "SPECIAL",
                "prediction": "",
                "pred_extracted": None,
                "hit": None,
                "MRA:.5:.95:.05": None,
                "vci_metric": 0.4,
            },
            False,
            None,
        ),
        (
            "spar_bench",
            {
                "task_type": "SPECIAL",
                "prediction": "move_right: far",
                "pred_extracted": None,
                "hit": None,
                "MRA:.5:.95:.05": None,
                "vci_metric": 0.4,
            },
            False,
            None,
        ),
        (
            "spar_bench",
            {
                "task_type": "SPECIAL",
                "prediction": "jump_up:1",
                "pred_extracted": None,
                "hit": None,
                "MRA:.5:.95:.05": None,
                "vci_metric": 0.4,
            },
            False,
            None,
        ),
        (
            "blink",
            {
                "log": "Match Log: Failed in Prefetch, no GPT-based answer matching under "
                "`exact_matching` policy.",
                "hit": 0,
            },
            False,
            None,
        ),
        ("blink", {"log": "Match Log: A. ", "hit": 1}, True, None),
        (
            "3dsrbench",
            {"log": "Match Log: Failed to predict, thus randomly generate one. . ", "hit": 1},
            False,
            None,
        ),
    ],
)
def test_what_counts_as_unparsed(
    key: str, row: dict[str, object], parsed: bool, extracted: str | None, tmp_path: Path
) -> None:
    bench = by_key(key)
    out = copy_of(bench, VLMEVALKIT, tmp_path)
    change_cells(out.rows[0], row)
    rows = read_vlmevalkit_rows(bench, out)
    assert rows["parsed"][0] == parsed
    assert rows["extracted"][0] == extracted
    assert rows["coin_flip"][0] == ("Failed to predict" in str(row.get("log", "")))
    numbers = [
        row.get(name)
        for name in ("hit", "MRA:.5:.95:.05", "vci_metric")
        if row.get(name) is not None
    ]
    assert rows["score"][0] == numbers[0]


def test_a_row_without_a_score_is_damage(tmp_path: Path) -> None:
    bench = by_key("embspatial")
    out = copy_of(bench, VLMEVALKIT, tmp_path)
    change_cells(out.rows[0], {"hit": None}, row=3)
    with pytest.raises(EasiError, match="row 3: no value under hit"):
        read_vlmevalkit_rows(bench, out)


def test_options_that_cannot_be_counted_are_four_as_in_the_package(tmp_path: Path) -> None:
    bench = by_key("site_image")
    out = copy_of(bench, VLMEVALKIT, tmp_path)
    for row, options in enumerate(("['a', 'b', 'c']", '["a", "b"]', "a or b", None), start=2):
        change_cells(out.rows[0], {"options": options}, row=row)
    assert read_vlmevalkit_rows(bench, out)["options"][:4].tolist() == [3, 2, 4, 4]


def test_spar_needs_both_rows_and_takes_the_last(tmp_path: Path) -> None:
    bench = by_key("spar_bench")
    out = copy_of(bench, VLMEVALKIT, tmp_path)
    lines = out.scores[0].read_text(encoding="utf-8").splitlines(keepends=True)
    assert lines[1].count("\t\t") > 0
    assert None not in read_vlmevalkit_scores(bench, out).parts.values()
    out.scores[0].write_text("".join(lines[:2]), encoding="utf-8")
    with pytest.raises(EasiError, match="1 rows of numbers, not 2"):
        read_vlmevalkit_scores(bench, out)


def change_json(path: Path, task: str, metric: str, value: object) -> None:
    whole = json.loads(path.read_text(encoding="utf-8"))
    if value is KeyError:
        del whole["results"][task][f"{metric},none"]
    else:
        whole["results"][task][f"{metric},none"] = value
    path.write_text(json.dumps(whole), encoding="utf-8")


@pytest.mark.parametrize("value", [[], "N/A", math.nan, None, True])
def test_what_is_no_number_is_missing_with_a_reason(value: object, tmp_path: Path) -> None:
    bench = by_key("embspatial")
    out = copy_of(bench, LMMS_EVAL, tmp_path)
    for metric in ("mp3d_accuracy", "embspatial_acc"):
        change_json(out.scores[0], "embspatial", metric, value)
    found = read(bench, LMMS_EVAL, out)
    assert found.parts["mp3d_accuracy"] is None and found.overall is None
    assert found.why_missing.keys() == {"mp3d_accuracy", ""}
    assert all(found.why_missing.values())


def test_a_number_that_is_gone_although_it_was_scored_is_damage(tmp_path: Path) -> None:
    bench = by_key("embspatial")
    out = copy_of(bench, LMMS_EVAL, tmp_path)
    change_json(out.scores[0], "embspatial", "mp3d_accuracy", KeyError)
    with pytest.raises(EasiError, match="no number for mp3d_accuracy"):
        read(bench, LMMS_EVAL, out)


def test_zero_is_a_score_unless_nobody_asked(tmp_path: Path) -> None:
    bench = by_key("embspatial")
    out = copy_of(bench, LMMS_EVAL, tmp_path)
    change_json(out.scores[0], "embspatial", "mp3d_accuracy", 0.0)
    change_json(out.scores[0], "embspatial", "scannet_accuracy", 0.0)
    lines = out.rows[0].read_text(encoding="utf-8").splitlines(keepends=True)
    kept = [line for line in lines if '"data_source": "scannet"' not in line]
    assert 0 < len(kept) < len(lines)
    out.rows[0].write_text("".join(kept), encoding="utf-8")
    whole = json.loads(out.scores[0].read_text(encoding="utf-8"))
    whole["n-samples"]["embspatial"]["effective"] = len(kept)
    out.scores[0].write_text(json.dumps(whole), encoding="utf-8")
    found = read(bench, LMMS_EVAL, out)
    assert found.parts["mp3d_accuracy"] == 0.0
    assert (
        found.parts["scannet_accuracy"] is None and "asked" in found.why_missing["scannet_accuracy"]
    )


def test_samples_written_twice_are_noticed(tmp_path: Path) -> None:
    bench = by_key("mmsi_bench")
    out = copy_of(bench, LMMS_EVAL, tmp_path)
    out.rows[0].write_text(out.rows[0].read_text(encoding="utf-8") * 2, encoding="utf-8")
    with pytest.raises(EasiError, match="same question twice"):
        read_lmms_rows(bench, out)


def test_rows_are_in_document_order_whatever_the_file_says(tmp_path: Path) -> None:
    bench = by_key("mmsi_bench")
    out = copy_of(bench, LMMS_EVAL, tmp_path)
    before = read_lmms_rows(bench, out)
    lines = out.rows[0].read_text(encoding="utf-8").splitlines(keepends=True)
    out.rows[0].write_text("".join(lines[1::2] + lines[::2]), encoding="utf-8")
    assert read_lmms_rows(bench, out).equals(before)


def test_the_models_own_text_is_kept_where_it_was_changed_before_scoring(tmp_path: Path) -> None:
    bench = by_key("mmsi_bench")
    out = copy_of(bench, LMMS_EVAL, tmp_path)
    lines = out.rows[0].read_text(encoding="utf-8").splitlines(keepends=True)
    sample = json.loads(lines[0])
    sample |= {"resps": [["<think>\u2028Ω</think>A"]], "filtered_resps": "A"}
    sample["average"] |= {"score": 0, "note": "cannot find answer"}
    out.rows[0].write_text(
        json.dumps(sample, ensure_ascii=False) + "\n" + "".join(lines[1:]), encoding="utf-8"
    )
    rows = read_lmms_rows(bench, out)
    assert rows["answer"][0] == "<think>\u2028Ω</think>A"
    assert not rows["parsed"][0] and rows["parsed"][1]


def test_lmms_site_coin_flips_are_unknown_not_zero() -> None:
    bench = by_key("site_image")
    assert read_lmms_rows(bench, genuine(LMMS_EVAL, bench))["coin_flip"].isna().all()
