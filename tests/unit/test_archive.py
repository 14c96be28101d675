"""The archive: the same files make the same bytes, and nothing dangerous gets in."""

from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path

import pytest

from easi_eval.results.outputs import Outputs
from easi_eval.benchmarks import BENCHMARKS, LMMS_EVAL, VLMEVALKIT
from easi_eval.errors import EasiError
from easi_eval.results.archive import archive, entries
from easi_eval.results.readers import find_lmms_outputs, find_vlmevalkit_outputs

DATA = Path(__file__).parents[1] / "data"


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    path = tmp_path / "run_manifest.json"
    path.write_text("{}", encoding="utf-8")
    return path


def outputs(backend: str) -> list[Outputs]:
    find = {VLMEVALKIT: find_vlmevalkit_outputs, LMMS_EVAL: find_lmms_outputs}[backend]
    return [find(bench, DATA / backend) for bench in BENCHMARKS]


@pytest.mark.parametrize("backend", [VLMEVALKIT, LMMS_EVAL])
def test_it_holds_every_file_the_scores_came_from(backend: str, manifest: Path) -> None:
    files = entries(outputs(backend), manifest)
    with zipfile.ZipFile(io.BytesIO(archive(files))) as zipped:
        assert zipped.testzip() is None
        assert zipped.namelist() == sorted(files)
        assert {info.date_time for info in zipped.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert all(zipped.read(name) == path.read_bytes() for name, path in files.items())
    assert "run_manifest.json" in files
    assert {name.split("/")[0] for name in files} - {"run_manifest.json"} == {bench.key for bench in BENCHMARKS}


def test_times_modes_and_order_do_not_matter(manifest: Path) -> None:
    files = entries(outputs(VLMEVALKIT), manifest)
    first = archive(files)
    os.utime(manifest, (1, 1))
    manifest.chmod(0o600)
    assert archive(dict(reversed(files.items()))) == first


def test_links_pickles_and_missing_files_are_refused(manifest: Path, tmp_path: Path) -> None:
    pickle, link = tmp_path / "M_result.pkl", tmp_path / "link.csv"
    pickle.write_bytes(b"")
    link.symlink_to(manifest)
    for path, said in ((pickle, "pickle"), (link, "link"), (tmp_path / "gone.csv", "not a file")):
        with pytest.raises(EasiError, match=said):
            archive({"x": path})


def test_two_files_of_one_name_are_refused(manifest: Path, tmp_path: Path) -> None:
    scores = []
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        scores.append(tmp_path / folder / "scores.csv")
        scores[-1].write_text(folder, encoding="utf-8")
    with pytest.raises(EasiError, match="blink/scores.csv"):
        entries([Outputs("blink", tmp_path, (scores[0],), (scores[1],))], manifest)
