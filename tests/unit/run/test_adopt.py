"""``--import-results``: what is accepted, why the rest is not, and what it writes.

Nothing else is touched. All but two launches run in this process.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from easi_eval.backends.evidence import Evidence
from easi_eval.backends.vlmevalkit.sheets import tsv_items
from easi_eval.benchmarks import ALL_KEYS, LMMS_EVAL, VLMEVALKIT, by_key
from easi_eval.cli import main, parse
from easi_eval.core.errors import EasiError
from easi_eval.core.manifest import Manifest
from importable import SECRET, STAMP, hub_cache, lmms_files, tables, vlmevalkit_files


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No .env, no token and no cache of the tester's."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("HF_TOKEN", "OPENAI_API_KEY"):
        monkeypatch.setenv(name, "")


def run(capsys: pytest.CaptureFixture[str], *options: object) -> tuple[int, str]:
    """Exit code, and what was shown."""
    code = main([*map(str, options), "--no-rich"])
    shown = capsys.readouterr()
    return code, shown.out + shown.err


def imported(folder: Path, *more: object) -> list[object]:
    return ["--import-results", folder, "--output-dir", "out", "--dataset-dir", "tables", *more]


def root(backend: str) -> Path:
    (found,) = Path("out", "runs", backend).iterdir()
    return found


def lines() -> dict[tuple[str, str], dict[str, str]]:
    with Path("out", "easi_scores.csv").open(encoding="utf-8", newline="") as file:
        return {(line["benchmark"], line["part"]): line for line in csv.DictReader(file)}


def digests(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


# ---- whole folders


@pytest.mark.parametrize("backend", [VLMEVALKIT, LMMS_EVAL])
def test_a_finished_folder_is_taken_over(
    backend: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = (
        vlmevalkit_files(tmp_path / "M") if backend == VLMEVALKIT else lmms_files(tmp_path / "M")
    )
    tables(tmp_path / "tables")
    before = digests(folder)
    began = time.process_time()
    code, shown = run(capsys, *imported(folder, "--as-model", "org/Tiny"))
    assert code == 0 and time.process_time() - began < 10, shown
    assert digests(folder) == before, "the source is read and never changed"

    manifest = Manifest.load(root(backend) / "run_manifest.json")
    assert (
        manifest is not None
        and manifest.modelName == "org/Tiny"
        and manifest.fields["imported"] is True
    )
    assert set(manifest.benchmarks) == set(ALL_KEYS) and {
        state.state for state in manifest.benchmarks.values()
    } == {"complete"}
    assert {state.evidence["adopted"] for state in manifest.benchmarks.values()} == {"M"}
    for key in ALL_KEYS:
        place = root(backend) / "outputs" / key
        evidence = Evidence.load(place)
        assert (
            evidence is not None
            and evidence.adopted == "M"
            and evidence.score.n == evidence.score.total
        )
        assert any(note.startswith("imported from M") for note in evidence.score.notes)
        assert not [
            path
            for path in place.rglob("*")
            if path.is_symlink() or path.suffix == ".pkl" or path.name == "status.json"
        ]
    assert "imported from M" in shown and "EASI-8 average" in shown
    payload = json.loads(Path("out/easi_results.json").read_text(encoding="utf-8"))
    assert (
        payload["modelName"] == "org/Tiny"
        and None not in payload["scores"].values()
        and "imported from M" in payload.get("remarks", "imported from M")
    )
    assert lines()["easi8_average", ""]["state"] == "complete"
    with zipfile.ZipFile("out/easi_results.zip") as archive:
        assert {name.partition("/")[0] for name in archive.namelist()} >= set(ALL_KEYS)
        assert not [name for name in archive.namelist() if name.endswith((".pkl", "status.json"))]
        assert not [name for name in archive.namelist() if SECRET.encode() in archive.read(name)]
    assert not [
        path
        for path in Path("out").rglob("*")
        if path.is_file() and SECRET.encode() in path.read_bytes()
    ]
    assert not Path("/exploded").exists()


def test_again_changes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tables(tmp_path / "tables", ["blink", "embspatial"])
    options = imported(
        vlmevalkit_files(tmp_path / "M", ["blink", "embspatial"]), "--as-model", "org/Tiny"
    )
    assert run(capsys, *options)[0] == 0
    before = digests(Path("out"))
    assert run(capsys, *options)[0] == 0
    assert digests(Path("out")) == before


def test_it_loads_no_backend_and_starts_no_process(tmp_path: Path) -> None:
    tables(tmp_path / "tables", ["blink"])
    options = [str(word) for word in imported(vlmevalkit_files(tmp_path / "M", ["blink"]))]
    look = f"""
import subprocess, sys
def refused(*args, **options): raise AssertionError("a process was started")
subprocess.Popen.__init__ = refused
from easi_eval.cli import main
code = main({options!r})
loaded = {{"torch", "vlmeval", "lmms_eval", "transformers", "datasets"}} & set(sys.modules)
assert not loaded, loaded
sys.exit(code)
"""
    done = subprocess.run(
        [sys.executable, "-c", look],
        capture_output=True,
        text=True,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_dry_run_says_what_would_be_accepted_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = vlmevalkit_files(tmp_path / "M", ["blink", "embspatial"])
    tables(tmp_path / "tables", ["blink"])
    code, shown = run(capsys, *imported(folder, "--dry-run"))
    assert (
        code == 0
        and "accept   blink: " in shown
        and "reject   embspatial: " in shown
        and "EmbSpatialBench.tsv" in shown
    )
    assert not Path("out").exists()


def test_two_folders_of_one_model_complete_each_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The package cannot run images and videos in one go."""
    tables(tmp_path / "tables")
    for name, keys in (("images", ["blink"]), ("videos", ["vsi_bench"])):
        assert (
            run(
                capsys, *imported(vlmevalkit_files(tmp_path / name, keys), "--as-model", "org/Tiny")
            )[0]
            == 0
        )
    manifest = Manifest.load(root(VLMEVALKIT) / "run_manifest.json")
    assert manifest is not None
    assert {key: state.evidence["adopted"] for key, state in manifest.benchmarks.items()} == {
        "blink": "images",
        "vsi_bench": "videos",
    }
    assert lines()["blink", ""]["state"] == lines()["vsi_bench", ""]["state"] == "complete"


def test_what_was_adopted_stays_when_a_later_folder_is_rejected(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tables(tmp_path / "tables", ["blink"])
    folder = vlmevalkit_files(tmp_path / "M", ["blink"])
    assert run(capsys, *imported(folder))[0] == 0
    (folder / "M_BLINK_exact_matching_result.xlsx").unlink()
    _code, shown = run(capsys, *imported(folder))
    assert "not imported" in shown and lines()["blink", ""]["state"] == "complete"


def test_an_import_is_another_run_than_an_evaluation(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tables(tmp_path / "tables", ["blink"])
    assert (
        run(
            capsys, *imported(vlmevalkit_files(tmp_path / "M", ["blink"]), "--as-model", "org/Tiny")
        )[0]
        == 0
    )
    one = root(VLMEVALKIT).name
    assert run(capsys, *imported(tmp_path / "M", "--as-model", "org/Other"))[0] == 0
    assert sorted(
        path.name.rpartition("-")[0] for path in Path("out/runs/vlmevalkit").iterdir()
    ) == ["org__Other", "org__Tiny"]
    fields = json.loads(
        (Path("out/runs/vlmevalkit") / one / "run_manifest.json").read_text(encoding="utf-8")
    )["fields"]
    assert fields["imported"] is True and fields["model"] == "org/Tiny"


# ---- what is not accepted


def rejected(capsys: pytest.CaptureFixture[str], folder: Path, key: str) -> str:
    """Why; and that the table, the manifest and the exit code say so too."""
    code, shown = run(capsys, *imported(folder))
    assert code == 1, shown
    (found,) = Path("out/runs").glob("*/*/run_manifest.json")
    state = Manifest.load(found).benchmarks[key]
    assert state.state == "failed" and not (found.parent / "outputs" / key).exists()
    assert not list(found.parent.glob("outputs/.*"))
    assert lines()[key, ""]["state"] == "failed" and lines()[key, ""]["score"] == ""
    assert json.loads(Path("out/easi_results.json").read_text())["scores"][key] is None
    assert "not imported" in shown and "Traceback" not in shown
    return state.reason


def cut_table(path: Path, rows: int) -> None:
    kept = path.read_text(encoding="utf-8").splitlines(keepends=True)
    path.write_text(
        "".join(kept[:rows])
        if rows > 0
        else "".join(kept) + "".join(f"{9000 + n}\t?\n" for n in range(-rows)),
        encoding="utf-8",
    )


def test_rows_that_are_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cut_table(tables(tmp_path / "tables", ["blink"]) / "BLINK.tsv", -3)
    n = len(tsv_items(tmp_path / "tables" / "BLINK.tsv"))
    assert f"{n - 3} questions of {n}: incomplete" in rejected(
        capsys, vlmevalkit_files(tmp_path / "M", ["blink"]), "blink"
    )


def test_another_version_of_the_dataset(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cut_table(tables(tmp_path / "tables", ["blink"]) / "BLINK.tsv", 10)
    assert "another version" in rejected(
        capsys, vlmevalkit_files(tmp_path / "M", ["blink"]), "blink"
    )


def test_an_unknown_size(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reason = rejected(capsys, vlmevalkit_files(tmp_path / "M", ["blink"]), "blink")
    assert "BLINK.tsv" in reason and "huggingface-cli download" in reason


def edit_cell(path: Path, column: str, value: object, row: int = 2) -> None:
    book = openpyxl.load_workbook(path)
    sheet = book.worksheets[0]
    heads = [cell.value for cell in sheet[1]]
    sheet.cell(row, heads.index(column) + 1).value = value
    book.save(path)


def test_a_score_that_the_rows_do_not_give(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tables(tmp_path / "tables", ["embspatial"])
    folder = vlmevalkit_files(tmp_path / "M", ["embspatial"])
    path = folder / "M_EmbSpatialBench_extract_matching_acc.csv"
    head, numbers = path.read_text().splitlines()
    path.write_text(f"{head}\n{numbers.replace(numbers.split()[0], '99.0000', 1)}\n")
    assert "99" in rejected(capsys, folder, "embspatial")


def test_old_scores_under_new_answers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """VLMEvalKit's cache of BLINK's and 3DSRBench's scores knows questions by index only."""
    tables(tmp_path / "tables", ["blink"])
    folder = vlmevalkit_files(tmp_path / "M", ["blink"])
    path = folder / "M_BLINK_exact_matching_result.xlsx"
    sheet = openpyxl.load_workbook(path).worksheets[0]
    heads = [cell.value for cell in sheet[1]]
    row = next(n for n in range(2, 30) if sheet.cell(n, heads.index("hit") + 1).value == 0)
    edit_cell(path, "prediction", sheet.cell(row, heads.index("answer") + 1).value, row)
    assert "_result.pkl" in rejected(capsys, folder, "blink")


def test_a_judge_that_was_not_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tables(tmp_path / "tables", ["embspatial"])
    folder = vlmevalkit_files(tmp_path / "M", ["embspatial"])
    for path in folder.glob("*extract_matching*"):
        path.rename(path.with_name(path.name.replace("extract_matching", "llm_gpt-4o-1120")))
    assert "scored by rules" in rejected(capsys, folder, "embspatial")


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04", None])
def test_damaged_sheets(
    damage: bytes | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tables(tmp_path / "tables", ["embspatial"])
    path = (
        vlmevalkit_files(tmp_path / "M", ["embspatial"]) / "M_EmbSpatialBench_extract_matching.xlsx"
    )
    path.write_bytes(path.read_bytes()[:1500] if damage is None else damage)
    reason = rejected(capsys, tmp_path / "M", "embspatial")
    assert str(path) in reason and ".importing" not in reason


def test_leftovers_of_a_limit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "--limit 8" in rejected(
        capsys, lmms_files(tmp_path / "M", ["embspatial"], limit=8), "embspatial"
    )


def test_samples_that_are_missing_or_of_another_number(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = lmms_files(tmp_path / "M", ["embspatial"])
    (path,) = folder.glob("*_samples_embspatial.jsonl")
    whole = path.read_text(encoding="utf-8").splitlines(keepends=True)
    path.write_text("".join(whole[:-1]), encoding="utf-8")
    assert "samples" in rejected(capsys, folder, "embspatial")
    shutil.rmtree("out")
    path.write_text("".join(whole)[:-20], encoding="utf-8")
    assert "cut off" in rejected(capsys, folder, "embspatial")


def test_one_bad_benchmark_costs_no_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tables(tmp_path / "tables")
    folder = vlmevalkit_files(tmp_path / "M")
    (folder / "M_EmbSpatialBench_extract_matching.xlsx").write_bytes(b"")
    code, shown = run(capsys, *imported(folder))
    assert code == 1 and "not imported" in shown
    assert {
        key: line["state"] for (key, part), line in lines().items() if not part and key in ALL_KEYS
    } == {
        key: "failed" if key == "embspatial" else "complete"
        for key in ALL_KEYS
        if not by_key(key).group
    }


def test_a_benchmark_that_was_asked_for_and_is_not_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tables(tmp_path / "tables")
    code, shown = run(
        capsys,
        *imported(vlmevalkit_files(tmp_path / "M", ["blink"]), "--benchmarks", "blink,embspatial"),
    )
    assert (
        code == 1
        and "it has no results there" in shown
        and lines()["blink", ""]["state"] == "complete"
    )


def test_a_secret_among_the_arguments_stays_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = lmms_files(
        tmp_path / "M", ["embspatial"], model_args=f"pretrained=org/Tiny,api_key={SECRET}"
    )
    assert run(capsys, *imported(folder))[0] == 0
    manifest = (root(LMMS_EVAL) / "run_manifest.json").read_text(encoding="utf-8")
    assert "pretrained" in manifest and SECRET not in manifest
    with zipfile.ZipFile("out/easi_results.zip") as archive:
        assert not [name for name in archive.namelist() if SECRET.encode() in archive.read(name)]


def test_the_judge_that_is_asked_for_counts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tables(tmp_path / "tables", ["embspatial"])
    folder = vlmevalkit_files(tmp_path / "M", ["embspatial"])
    code, shown = run(capsys, *imported(folder, "--judge", "exact_matching", "--dry-run"))
    assert code == 0 and "accept   embspatial: " in shown
    code, shown = run(capsys, *imported(folder, "--judge", "gpt-4o-1120", "--dry-run"))
    assert code == 0 and "reject   embspatial: " in shown and "gpt-4o-1120" in shown


def test_the_backend_is_what_the_files_say(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, shown = run(
        capsys, *imported(vlmevalkit_files(tmp_path / "M", ["blink"]), "--backend", "lmms-eval")
    )
    assert code == 2 and "holds results of VLMEvalKit" in shown


def test_an_evaluation_is_not_compared_with_what_was_adopted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from easi_eval.core.manifest import other_runs
    from easi_eval.core.run_folder import RunPaths

    tables(tmp_path / "tables", ["blink"])
    assert (
        run(
            capsys, *imported(vlmevalkit_files(tmp_path / "M", ["blink"]), "--as-model", "org/Tiny")
        )[0]
        == 0
    )
    assert root(VLMEVALKIT).name.startswith("org__Tiny-")
    assert other_runs(RunPaths.of(Path("out"), VLMEVALKIT, "org/Tiny", "0" * 64), "org/Tiny") == []


# ---- options


@pytest.mark.parametrize(
    "options, message",
    [
        (["--import-results", "d", "--model", "m"], "--import-results with --model"),
        (["--import-results", "d", "--limit", "3"], "--import-results with --limit"),
        (["--import-results", "d", "--smoke"], "--import-results with --smoke"),
        (["--import-results", "d", "--rerun"], "--import-results with --rerun"),
        (["--import-results", "d", "--", "--x"], "--import-results with arguments after --"),
        (["--import-results", "d", "--as-model", "a/b/c"], "--as-model is 'a/b/c'"),
        (["--import-results", ""], "--import-results is empty"),
        (["--as-model", "a/b", "--model", "m"], "--as-model without --import-results"),
        (["--import-results", "d", "--submit"], "--submit needs --submission-configs"),
    ],
)
def test_combinations_that_are_refused(options: list[str], message: str) -> None:
    with pytest.raises(EasiError, match=message.replace("-", r"\-")):
        parse(options)


def test_the_command_can_be_parsed_back() -> None:
    cfg = parse(["--import-results", "some dir", "--as-model", "org/x", "--benchmarks", "blink"])
    assert parse(cfg.to_argv()) == cfg and cfg.import_results == Path("some dir")


def test_results_that_do_not_say_whose_they_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "M"
    folder.mkdir()
    (folder / "_BLINK.xlsx").write_bytes(b"")
    (folder / "M_BLINK.xlsx").write_bytes(b"")
    code, shown = run(capsys, *imported(folder))
    assert code == 2 and "does not name the model" in shown and "--as-model" in shown


# ---- whether they are the questions of the table


def rewritten(table: Path, change: Callable[[dict[str, str]], dict[str, str]]) -> None:
    with table.open(encoding="utf-8", newline="") as file:
        rows = [change(row) for row in csv.DictReader(file, delimiter="\t")]
    with table.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0], delimiter="\t")
        writer.writeheader()
        writer.writerows(rows)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("question", "18 questions are not those"),
        ("options", "18 questions are not those"),
        ("answer", "right answers are not those"),
    ],
)
def test_results_of_other_questions_are_refused(
    name: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same ids, and other questions, options or right answers than the table at hand has."""
    folder = vlmevalkit_files(tmp_path / "M", ["embspatial"])
    tables(tmp_path / "tables", ["embspatial"])
    other = {"A": "B", "B": "C", "C": "D", "D": "A"}
    rewritten(
        tmp_path / "tables" / "EmbSpatialBench.tsv",
        lambda row: {**row, name: other.get(row[name], "['other', 'than']")},
    )
    code, shown = run(capsys, *imported(folder))
    assert code == 1 and said in shown and "EmbSpatialBench.tsv" in shown
    assert lines()["embspatial", ""]["state"] == "failed"


def test_results_that_nothing_could_be_held_against_say_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = lmms_files(tmp_path / "M", ["viewspatial"])
    assert run(capsys, *imported(folder))[0] == 0
    (state,) = Manifest.load(root(LMMS_EVAL) / "run_manifest.json").benchmarks.values()
    assert "data" not in state.settings
    shown = Path("out/easi_scores.md").read_text(encoding="utf-8")
    assert "right answers were not compared" in shown
    evidence = Evidence.load(root(LMMS_EVAL) / "outputs" / "viewspatial")
    assert evidence is not None and evidence.score.comparable == "note"


def test_the_table_that_was_held_against_is_named_by_its_sum(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = vlmevalkit_files(tmp_path / "M", ["mmsi_bench"])
    tables(tmp_path / "tables", ["mmsi_bench"])
    assert run(capsys, *imported(folder))[0] == 0
    md5 = hashlib.md5((tmp_path / "tables" / "MMSIBench_wo_circular.tsv").read_bytes()).hexdigest()
    (state,) = Manifest.load(root(VLMEVALKIT) / "run_manifest.json").benchmarks.values()
    assert state.settings["data"] == {"md5": md5}
    assert f"its data differ from the benchmark's (MD5 {md5})" in Path(
        "out/easi_scores.md"
    ).read_text(encoding="utf-8")
    assert lines()["mmsi_bench", ""]["comparable"] == "no"  # 22 questions are not the benchmark


def edit_samples(folder: Path, task: str, change: Callable[[dict[str, Any]], object]) -> None:
    path = folder / f"{STAMP}_samples_{task}.jsonl"
    samples = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    for sample in samples:
        change(sample)
    path.write_text(
        "".join(json.dumps(sample, ensure_ascii=False) + "\n" for sample in samples),
        encoding="utf-8",
    )


def test_samples_are_held_against_the_hub_cache(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = lmms_files(tmp_path / "M")
    hub_cache(tmp_path / "home", folder)
    code, shown = run(capsys, *imported(folder))
    assert code == 0, shown
    states = Manifest.load(root(LMMS_EVAL) / "run_manifest.json").benchmarks
    assert set(states) == set(ALL_KEYS) and all(
        state.settings["data"] == {"commit": "1" * 40} for state in states.values()
    )
    for key in ALL_KEYS:
        evidence = Evidence.load(root(LMMS_EVAL) / "outputs" / key)
        assert (
            evidence is not None
            and evidence.score.comparable == ""
            and not [note for note in evidence.score.notes if "held" in note]
        )


def test_samples_of_other_right_answers_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = lmms_files(tmp_path / "M", ["viewspatial"])
    hub_cache(tmp_path / "home", folder, ["viewspatial"])
    edit_samples(
        folder,
        "viewspatial",
        lambda sample: sample["doc_id"] == 3 and sample.update(target="E. nowhere"),
    )
    assert "1 right answers are not those of oscarqjh/ViewSpatial_lmmseval" in rejected(
        capsys, folder, "viewspatial"
    )


@pytest.mark.parametrize("inside", [False, True])
def test_samples_of_other_questions_are_refused(
    inside: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Told from the prompt, and from what the task repeats of the document."""
    folder = lmms_files(tmp_path / "M", ["spar_bench"])
    hub_cache(tmp_path / "home", folder, ["spar_bench"])
    edit_samples(
        folder,
        "sparbench",
        lambda sample: (
            sample["sparbench_score"].update(question="Which?")
            if inside
            else sample.update(input="Which?")
        ),
    )
    assert "20 questions are not those of jasonzhango/SPAR-Bench" in rejected(
        capsys, folder, "spar_bench"
    )


def test_samples_of_another_number_than_the_hub_cache_has(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = lmms_files(tmp_path / "M", ["embspatial"])
    (table,) = hub_cache(tmp_path / "home", folder, ["embspatial"]).rglob("*.parquet")
    pq.write_table(pa.concat_tables([pq.read_table(table)] * 2), table)
    assert "18 questions of 36: incomplete" in rejected(capsys, folder, "embspatial")


def test_samples_of_a_shuffled_dataset_are_accepted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As VSI-Bench's task does it where LMMS_EVAL_SHUFFLE_DOCS is set."""
    from datasets import Dataset

    folder = lmms_files(tmp_path / "M", ["vsi_bench"])
    hub_cache(tmp_path / "home", folder, ["vsi_bench"])
    places = Dataset.from_dict({"row": list(range(24))}).shuffle(seed=42)["row"]
    edit_samples(
        folder,
        "vsibench_multiimage",
        lambda sample: sample.update(doc_id=list(places).index(sample["doc_id"])),
    )
    assert run(capsys, *imported(folder))[0] == 0
    (state,) = Manifest.load(root(LMMS_EVAL) / "run_manifest.json").benchmarks.values()
    assert state.settings["data"] == {"commit": "1" * 40}


def test_another_commit_in_the_hub_cache_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = lmms_files(tmp_path / "M", ["embspatial"])
    other = lmms_files(tmp_path / "other", ["embspatial"])
    hub_cache(tmp_path / "home", folder, ["embspatial"])
    edit_samples(
        other, "embspatial", lambda sample: sample.update(target=str(3 - int(sample["target"])))
    )
    hub_cache(tmp_path / "home", other, ["embspatial"], name="2" * 40)
    assert run(capsys, *imported(folder))[0] == 0
    evidence = Evidence.load(root(LMMS_EVAL) / "outputs" / "embspatial")
    assert (
        evidence is not None
        and evidence.score.comparable == "note"
        and any("commit 111111111111" in note for note in evidence.score.notes)
    )


def test_samples_without_a_question_say_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = lmms_files(tmp_path / "M", ["embspatial"])
    hub_cache(tmp_path / "home", folder, ["embspatial"])
    edit_samples(folder, "embspatial", lambda sample: sample.pop("input"))
    assert run(capsys, *imported(folder))[0] == 0
    evidence = Evidence.load(root(LMMS_EVAL) / "outputs" / "embspatial")
    assert (
        evidence is not None
        and evidence.score.comparable == "note"
        and any("no question" in note for note in evidence.score.notes)
    )


@pytest.mark.parametrize("lacking", ["README.md", "*.parquet"])
def test_a_hub_cache_that_lacks_a_part_is_as_none(
    lacking: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = lmms_files(tmp_path / "M", ["blink"])
    next(hub_cache(tmp_path / "home", folder, ["blink"]).rglob(lacking)).unlink()
    assert run(capsys, *imported(folder))[0] == 0
    assert "right answers were not compared" in Path("out/easi_scores.md").read_text(
        encoding="utf-8"
    )
