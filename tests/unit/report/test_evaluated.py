"""A finished run is read from its folder, from its output folder and from its archive alike."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from easi_eval.backends import make_backend
from easi_eval.backends.archived.index import FULL, TABLES
from easi_eval.benchmarks import LMMS_EVAL, VLMEVALKIT
from easi_eval.core.errors import EasiError
from easi_eval.core.manifest import Manifest
from easi_eval.data.needs import HubSettings
from easi_eval.report import load_run as reading
from easi_eval.report.evaluated import EvaluatedRun
from easi_eval.scores.row_table import rows_csv
from easi_eval.scores.score_table import ScoreTable
from easi_eval.submission.archive import build
from easi_eval.submission.payload import build_payload
from finished import FinishedRun, config, finish
from genuine import DATA

KEYS = ("vsi_bench", "site_image", "site_video", "spar_bench")


@dataclass(frozen=True)
class Places:
    """A finished run, and where it can be read from."""

    run: FinishedRun
    out: Path
    archives: dict[str, Path]


def pack(run: FinishedRun, backend: str, room: int) -> bytes:
    made = make_backend(backend, HubSettings())
    manifest = Manifest.load(run.paths.manifest)
    assert manifest is not None
    table = ScoreTable(tuple(run.scores.values()), manifest.modelName, backend)
    return build.make(
        run.paths,
        list(run.scores),
        made,
        build.Places(run.cfg, HubSettings(), str(manifest.model["path"])).scrubber(),
        build_payload(table, made.payload_name),
        lambda size: size <= room,
    ).data


def load_run(path: Path) -> EvaluatedRun:
    return reading.load_run(path, lambda name: make_backend(name, HubSettings()))


@pytest.fixture(scope="module", params=[VLMEVALKIT, LMMS_EVAL])
def places(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Places:
    folder = tmp_path_factory.mktemp(request.param)
    run = finish(config(request.param, folder), KEYS)
    archives = {}
    for form, room in ((FULL, sys.maxsize), (TABLES, 0)):
        archives[form] = folder / form / "easi_results.zip"
        archives[form].parent.mkdir()
        archives[form].write_bytes(pack(run, request.param, room))
    return Places(run, folder / "out", archives)


def as_text(run: EvaluatedRun) -> dict[str, bytes]:
    return {key: rows_csv(one.rows) for key, one in run.benchmarks.items()}


def test_all_places_tell_the_same(places: Places) -> None:
    whole = load_run(places.run.root)
    assert tuple(whole.benchmarks) == KEYS
    assert whole.table.rows == tuple(places.run.scores[key] for key in KEYS)
    for path in (places.out, *places.archives.values()):
        found = load_run(path)
        assert as_text(found) == as_text(whole)
        assert [one.score.reading for one in found.benchmarks.values()] == [
            one.score.reading for one in whole.benchmarks.values()
        ]
        assert found.table.intervals == whole.table.intervals
        assert found.manifest.identity == whole.manifest.identity
        assert found.backend == whole.backend
        settings = {key: one.settings for key, one in found.benchmarks.items()}
        assert settings == {key: one.settings for key, one in whole.benchmarks.items()}
    assert load_run(places.archives[TABLES].parent).benchmarks  # the folder it was saved to


def test_the_scores_that_count_are_the_corrected_ones(places: Places) -> None:
    """lmms-eval's SPAR-Bench: its numeric questions score 0 in the backend's own rows."""
    for path in (places.run.root, *places.archives.values()):
        one = load_run(path).benchmarks["spar_bench"]
        means = one.rows.groupby("question_type")["score"].mean()
        assert 100 * means.mean() == pytest.approx(one.score.reading.overall)


@pytest.mark.parametrize(
    "name", sorted(path.name for path in (DATA / "old_archives").glob("*.zip"))
)
def test_archives_of_earlier_versions_are_read(name: str) -> None:
    found = load_run(DATA / "old_archives" / name)
    assert {key: len(one.rows) for key, one in found.benchmarks.items()} == {
        "mmsi_bench": 22,
        "spar_bench": 20,
    }


def test_a_run_of_the_first_identity_is_read() -> None:
    (folder,) = (DATA / "first_identity").iterdir()
    assert list(load_run(folder).benchmarks) == ["embspatial"]


def test_of_several_runs_the_latest_is_read(places: Places, tmp_path: Path) -> None:
    out = shutil.copytree(places.out, tmp_path / "out")
    (root,) = out.glob("runs/*/*")
    other = shutil.copytree(root, root.with_name("Another-12345678"))
    for path, when in ((root, 2_000_000_000), (other, 1_000_000_000)):
        os.utime(path / "run_manifest.json", (when, when))
    found = load_run(out)
    assert found.folder is not None and found.folder.root == root
    assert found.notes == (f"{root} is the latest of 2 runs there",)


def test_a_benchmark_whose_files_were_changed_is_left_out(places: Places, tmp_path: Path) -> None:
    root = shutil.copytree(places.run.root, tmp_path / places.run.root.name)
    changed = next(
        path
        for path in (root / "outputs" / "vsi_bench").iterdir()
        if "acc" in path.name or "results" in path.name
    )
    changed.write_bytes(changed.read_bytes() + b"\n")
    found = load_run(root)
    assert tuple(found.benchmarks) == KEYS[1:]
    assert found.notes == ("VSI-Bench is left out: not finished, or its files were changed",)


def test_the_tables_in_the_archive_beside_a_run_are_read_if_they_are_of_its_files(
    places: Places, tmp_path: Path
) -> None:
    root = shutil.copytree(places.run.root, tmp_path / places.run.root.name)
    with zipfile.ZipFile(places.archives[FULL]) as zipped:
        members = {name: zipped.read(name) for name in zipped.namelist()}
    marked = members["rows/vsi_bench.csv"].replace(b"\nvsi_bench,", b"\nvsi_bench,marked", 1)
    other = members["archive.json"].replace(b'"original": "', b'"original": "0')
    for index, expected in ((members["archive.json"], True), (other, False)):
        with zipfile.ZipFile(root / "easi_results.zip", "w") as zipped:
            for name, data in {
                **members,
                "rows/vsi_bench.csv": marked,
                "archive.json": index,
            }.items():
                zipped.writestr(name, data)
        rows = load_run(root).benchmarks["vsi_bench"].rows
        assert rows["item"].str.startswith("marked").any() == expected
        assert (
            as_text(load_run(root))["site_image"]
            == as_text(load_run(places.run.root))["site_image"]
        )
    (root / "easi_results.zip").write_bytes(b"no zip")
    assert as_text(load_run(root)) == as_text(load_run(places.run.root))


def test_what_is_no_finished_run_is_refused(places: Places, tmp_path: Path) -> None:
    empty, text, open_run = tmp_path / "empty", tmp_path / "text.zip", tmp_path / "open"
    empty.mkdir()
    text.write_text("no zip", encoding="utf-8")
    shutil.copytree(places.run.root, open_run)
    shutil.rmtree(open_run / "outputs")
    for path, said in (
        (tmp_path / "nowhere", "nowhere does not exist"),
        (empty, "empty holds no run"),
        (text, "text.zip cannot be read"),
        (open_run, "open has no finished benchmark"),
    ):
        with pytest.raises(EasiError) as refused:
            load_run(path)
        assert said in refused.value.message and refused.value.hint


def test_a_run_that_goes_on_is_refused(places: Places, tmp_path: Path) -> None:
    root = shutil.copytree(places.run.root, tmp_path / "run")
    holder = (
        "import sys; from pathlib import Path; from easi_eval.core.run_lock import run_lock\n"
        "with run_lock(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", holder, str(root / "run.lock")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        with pytest.raises(EasiError, match="still going on"):
            load_run(root)
        process.communicate()
    assert load_run(root).benchmarks
