"""The archive: reproducible bytes, nothing dangerous inside, every form restores the questions."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from easi_eval.backends import make_backend
from easi_eval.backends.archived.index import FULL, TABLES, Index
from easi_eval.backends.archived.old_forms import unfold
from easi_eval.backends.archived.proof import ArchivedRun, proofs
from easi_eval.backends.evidence import Evidence
from easi_eval.benchmarks import ALL_KEYS, LMMS_EVAL, VLMEVALKIT, by_key
from easi_eval.core.errors import EasiError
from easi_eval.core.manifest import BenchmarkState, Manifest
from easi_eval.data.needs import HubSettings
from easi_eval.scores.outputs import Outputs
from easi_eval.scores.row_table import rows_csv
from easi_eval.scores.score_table import ScoreTable
from easi_eval.submission.archive import build
from easi_eval.submission.archive.pack import (
    Packed,
    archive,
    entries,
    read_index,
)
from easi_eval.submission.archive.reproduce import reproduce
from easi_eval.submission.payload import build_payload
from finished import FinishedRun, config, finish

TOKEN = "hf_" + "PlantedSecretToken" * 2


@dataclass
class Made:
    """A finished run, and its archive in every form that a limit on its size leads to."""

    run: FinishedRun
    backend: str
    forms: dict[str, Packed] = field(default_factory=dict)

    def pack(
        self,
        fits: Callable[[int], bool] = lambda size: True,
        again: bool = False,
        copy: Path | None = None,
    ) -> Packed:
        if again:
            (self.run.root / "easi_results.zip").unlink(missing_ok=True)
        backend = make_backend(self.backend, HubSettings())
        manifest = Manifest.load(self.run.paths.manifest)
        assert manifest is not None
        table = ScoreTable(tuple(self.run.scores.values()), manifest.modelName, self.backend)
        scrubber = build.Places(self.run.cfg, HubSettings(), str(manifest.model["path"])).scrubber()
        return build.make(
            self.run.paths,
            list(self.run.scores),
            backend,
            scrubber,
            build_payload(table, backend.payload_name),
            fits,
            copy,
        )

    def form(self, form: str) -> Packed:
        """The archive in one form: ``tables`` where there is no room for ``full``."""
        if form not in self.forms:
            room = len(self.form(FULL).data) - 1 if form == TABLES else sys.maxsize
            self.forms[form] = self.pack(lambda size: size <= room)
        return self.forms[form]


@pytest.fixture(scope="module", params=[VLMEVALKIT, LMMS_EVAL])
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp(request.param)
    return Made(finish(config(request.param, folder), ALL_KEYS), request.param)


def members(packed: Packed) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(packed.data)) as zipped:
        assert zipped.testzip() is None
        return {name: zipped.read(name) for name in zipped.namelist()}


def test_the_first_form_has_the_files_as_they_are(made: Made) -> None:
    found = members(made.form(FULL))
    assert {
        "archive.json",
        "run_manifest.json",
        "REPRODUCE.md",
        "CHANGES.md",
        "easi_results.json",
    } <= set(found)
    assert {name for name in found if name.startswith("rows/")} == {
        f"rows/{key}.csv" for key in ALL_KEYS
    }
    index = read_index(made.form(FULL).data)
    assert index.form == FULL and set(index.files) == set(found) - {"archive.json"}
    unchanged = 0
    for key in ALL_KEYS:
        evidence = Evidence.load(made.run.paths.output(key))
        assert evidence is not None
        for name, digest in evidence.files.items():
            stored = index.files[f"{key}/{name}"]
            assert stored.original == digest
            if not stored.replaced:
                unchanged += 1
                assert (
                    stored.sha256 == digest
                    and found[f"{key}/{name}"] == (made.run.paths.output(key) / name).read_bytes()
                )
    assert unchanged >= 20
    assert set(json.loads(found["easi_results.json"])["scores"]) >= {
        "vsi_bench",
        "site",
        "spar_bench",
    }


def test_the_full_form_gives_the_questions_back(made: Made, tmp_path: Path) -> None:
    packed = made.form(FULL)
    assert packed.form == FULL and packed.fits
    index = read_index(packed.data)
    unfold(members(packed), index, tmp_path)
    backend = make_backend(made.backend, HubSettings())
    for key in ALL_KEYS:
        genuine = backend.rows(
            by_key(key), backend.outputs(by_key(key), made.run.paths.output(key))
        )
        restored = backend.rows(by_key(key), backend.outputs(by_key(key), tmp_path / key))
        # there may be paths of the machine in it
        columns = [name for name in genuine.columns if name != "cluster"]
        assert restored[columns].equals(genuine[columns]), key
        assert index.tables[key] == (len(genuine), hashlib.sha256(rows_csv(restored)).hexdigest())


def test_the_small_form_has_tables_aggregates_and_what_is_corrected_or_counted(made: Made) -> None:
    full, small = members(made.form(FULL)), members(made.form(TABLES))
    assert len(made.form(TABLES).data) < len(made.form(FULL).data)
    assert read_index(made.form(TABLES).data).tables == read_index(made.form(FULL).data).tables
    for key in ALL_KEYS:
        assert small[f"rows/{key}.csv"] == full[f"rows/{key}.csv"]
    files = {name for name in small if "/" in name and not name.startswith("rows/")}
    excerpts = {name for name in files if small[name] != full[name]}
    assert all(
        name.endswith(("_results.json", "_acc.csv", "_results.tsv")) for name in files - excerpts
    )
    read = ("spar_bench", "omnispatial_(manual_cot)") if made.backend == LMMS_EVAL else ()
    assert {name.partition("/")[0] for name in excerpts} == set(read)
    for name in excerpts:
        assert all(len(json.loads(line)) == 2 for line in small[name].splitlines())
        assert f"`{name}`: only fields that are counted" in small["CHANGES.md"].decode()


def test_where_nothing_fits_the_tables_are_uploaded_by_hand(made: Made) -> None:
    packed = made.pack(lambda size: False)
    assert packed.form == TABLES and not packed.fits and packed.data == made.form(TABLES).data


def test_the_same_inputs_make_the_same_bytes(made: Made) -> None:
    first = made.pack(again=True)
    mask = os.umask(0o077)
    try:
        for path in made.run.root.rglob("*"):
            if path.is_file():
                os.utime(path, (1, 1))
                path.chmod(0o600)
        assert made.pack(again=True).data == first.data
    finally:
        os.umask(mask)


def test_another_process_in_another_time_zone_makes_the_same_bytes(tmp_path: Path) -> None:
    made = Made(finish(config(VLMEVALKIT, tmp_path), ["blink", "site_image"]), VLMEVALKIT)
    program = f"""
import sys; sys.path.insert(0, {str(Path(__file__).parents[2])!r})
from pathlib import Path
from hashlib import sha256
from easi_eval.config import RunConfig
from easi_eval.core.run_folder import RunPaths
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_archive import Made
from easi_eval.backends.evidence import Evidence
from finished import FinishedRun, config
paths = RunPaths(Path({str(made.run.root)!r}))
cfg = RunConfig(backend={made.backend!r}, model='m', output_dir=Path({str(made.run.cfg.output_dir)!r}))
scores = {{key: Evidence.load(paths.output(key)).score for key in ('site_image', 'blink')}}
print(sha256(Made(FinishedRun(cfg, paths, scores), {made.backend!r}).pack().data).hexdigest())
"""  # noqa: E501 -- lines of a program in a string
    here = hashlib.sha256(made.form(FULL).data).hexdigest()
    other = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        cwd="/",
        env={**os.environ, "TZ": "Asia/Tokyo", "PYTHONHASHSEED": "1"},
    )
    assert other.stdout.strip() == here


def test_no_path_secret_link_or_pickle(made: Made, tmp_path: Path) -> None:
    """Planted in every kind of file: what a backend might write of its environment."""
    for form in (FULL, TABLES):
        found = members(made.form(form))
        for name, data in found.items():
            texts = [data]
            if name.endswith(".xlsx"):
                with zipfile.ZipFile(io.BytesIO(data)) as book:
                    texts = [
                        book.read(part)
                        for part in book.namelist()
                        if "worksheets" in part or "haredStrings" in part
                    ]
            for text in texts:
                for told in (
                    str(made.run.cfg.output_dir),
                    str(made.run.root),
                    str(Path.home()) + "/",
                    "/home/user/",
                ):
                    assert told.encode() not in text, (name, told)
        assert not [name for name in found if name.endswith((".pkl", "status.json"))]
        with zipfile.ZipFile(io.BytesIO(made.form(form).data)) as zipped:
            assert {
                (info.external_attr >> 16, info.date_time, info.create_system)
                for info in zipped.infolist()
            } == {(0o644, (1980, 1, 1, 0, 0, 0), 3)}


def test_planted_secrets_go_and_are_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_TOKEN", TOKEN[::-1])
    run = finish(config(LMMS_EVAL, tmp_path), ["embspatial"])
    folder = run.paths.output("embspatial")
    results = next(folder.glob("*_results.json"))
    value = json.loads(results.read_text(encoding="utf-8"))
    value["config"] = {
        "env": {"HF_TOKEN": TOKEN, "OTHER": TOKEN[::-1]},
        "cache": f"{tmp_path}/cache/x",
        "out": str(run.root),
        "dots": "../x/y",
    }
    results.write_text(json.dumps(value), encoding="utf-8")
    evidence = json.loads((folder / "evidence.json").read_text(encoding="utf-8"))
    evidence["files"][results.name] = hashlib.sha256(results.read_bytes()).hexdigest()
    (folder / "evidence.json").write_text(json.dumps(evidence), encoding="utf-8")
    found = members(Made(run, LMMS_EVAL).pack())
    cleared = json.loads(found[f"embspatial/{results.name}"])
    assert (
        TOKEN not in str(cleared)
        and TOKEN[::-1] not in str(cleared)
        and str(tmp_path) not in str(cleared)
    )
    assert cleared["results"] == value["results"] and cleared["config"]["dots"] == "../x/y"
    assert (
        f"`embspatial/{results.name}`: 2 absolute paths replaced, 2 secrets replaced"
        in found["CHANGES.md"].decode()
    )
    stored = Index.from_json(json.loads(found["archive.json"])).files[f"embspatial/{results.name}"]
    assert stored.original == evidence["files"][results.name] and stored.sha256 != stored.original


def test_one_whose_inputs_did_not_change_is_kept(made: Made) -> None:
    first = made.pack(again=True)
    kept = made.run.root / "easi_results.zip"
    kept.write_bytes(first.data)
    with zipfile.ZipFile(io.BytesIO(first.data)) as zipped:
        marked = archive(
            {name: zipped.read(name) for name in reversed(zipped.namelist())}
            | {"mark": b"made before"}
        )
    kept.write_bytes(marked)
    assert made.pack().data == marked  # not made again
    kept.write_bytes(marked[:-40])
    assert made.pack().data == first.data  # damaged: made again
    place, copy = len(marked) // 2, kept.with_name("copy.zip")
    copy.write_bytes(marked)
    kept.write_bytes(marked[:place] + bytes([marked[place] ^ 1]) + marked[place + 1 :])
    assert made.pack(copy=copy).data == first.data
    kept.write_bytes(marked)
    assert made.pack(copy=copy).data == marked
    copy.unlink()
    manifest = Manifest.load(made.run.paths.manifest)
    assert manifest is not None
    manifest.with_state("blink", reason="another").save(made.run.paths.manifest)
    try:
        assert made.pack().data != marked  # its inputs changed
    finally:
        manifest.save(made.run.paths.manifest)
        kept.unlink()


def test_how_to_repeat_it(made: Made) -> None:
    text = members(made.form(FULL))["REPRODUCE.md"].decode()
    command = text.partition("```bash\n")[2].partition("\n```")[0]
    assert (
        command.startswith("python scripts/submissions/run_easi_eval.py --model ")
        and "--include-extra" in command
    )
    assert "--output-dir" not in command and "--benchmarks" not in command
    for said in (
        "Model class:",
        "Arguments:",
        "GPUs:",
        "- torch 2",
        f"- some/data: {'c' * 40}",
        "| BLINK |",
    ):
        assert said in text


def test_a_threshold_is_told_as_the_setting_that_it_is() -> None:
    settings: dict[str, object] = {
        "task": "BLINK",
        "judge": "above the extraction threshold",
        "judge model": "gpt-4o-1120",
        "extraction threshold": 0.1,
    }
    state = BenchmarkState("f", settings=settings)
    told = reproduce(Manifest("i", {}, benchmarks={"blink": state}))
    said = "setting: by rules; by gpt-4o-1120 if they cannot read more than 10 %"
    assert f"| BLINK | BLINK | {said} | - | open |" in told
    judged = BenchmarkState("f", settings=settings, evidence={"method": "exact_matching"})
    assert "| exact_matching |" in reproduce(Manifest("i", {}, benchmarks={"blink": judged}))


def test_links_and_missing_files_are_refused(made: Made) -> None:
    key = "blink"
    evidence = Evidence.load(made.run.paths.output(key))
    assert evidence is not None
    path = made.run.paths.output(key) / next(iter(evidence.files))
    aside = path.with_name("aside")
    path.rename(aside)
    try:
        path.symlink_to(aside)
        with pytest.raises(EasiError, match="a link"):
            made.pack(again=True)
    finally:
        path.unlink()
        aside.rename(path)


def test_pickles_stay_out_and_two_files_of_one_name_are_refused(tmp_path: Path) -> None:
    scores = []
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        scores.append(tmp_path / folder / "scores.csv")
        scores[-1].write_text(folder, encoding="utf-8")
    (tmp_path / "M_result.pkl").write_bytes(b"")
    assert set(
        entries([Outputs("blink", tmp_path, (scores[0],), (scores[1], tmp_path / "M_result.pkl"))])
    ) == {"blink/a/scores.csv", "blink/b/scores.csv"}
    with pytest.raises(EasiError, match="blink/scores.csv"):
        entries(
            [
                Outputs("blink", tmp_path / "a", (scores[0],), ()),
                Outputs("blink", tmp_path / "b", (scores[1],), ()),
            ]
        )


def test_the_tables_are_those_of_the_run(made: Made) -> None:
    source = ArchivedRun.of(
        json.loads(made.run.paths.manifest.read_text(encoding="utf-8")),
        lambda name: make_backend(name, HubSettings()),
    )
    found = proofs(source, made.run.paths.outputs)
    assert set(found) == set(ALL_KEYS)
    assert all(proof.rows == made.run.scores[key].n for key, proof in found.items())
