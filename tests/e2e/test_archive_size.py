"""The archive of a whole run at full size fits into a request and can be checked.

The run is made from a real rehearsal's files.
"""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest

from conftest import Runs
from easi_eval.backends import make_backend
from easi_eval.backends.archived.index import MANIFEST, PAYLOAD, TABLES
from easi_eval.backends.archived.proof import ArchivedRun, proofs, prove
from easi_eval.benchmarks import REHEARSED_KEYS
from easi_eval.core.redact import Redactor
from easi_eval.data.needs import HubSettings
from easi_eval.scores.score_table import ScoreTable
from easi_eval.submission.archive.anonymize import Scrubber
from easi_eval.submission.archive.pack import Contents, entries, pack
from easi_eval.submission.parcel import room_for
from easi_eval.submission.payload import build_payload, payload_text
from easi_eval.submission.verify import verify
from full_size import ROWS, Size, expand
from program import User

pytestmark = [pytest.mark.slow, pytest.mark.e2e]
# A tenth of every benchmark must fit into a tenth of the bytes. This is the harder case, because
# what all have in common weighs more. tests/benchmarks/archive_size.py measures the whole.
SHARE = 0.1


def test_a_tenth_of_a_whole_run_fits_into_a_tenth_of_a_request(
    runs: Runs, backend: str, tmp_path: Path
) -> None:
    whole = runs.alone(backend)
    manifest = json.loads((whole.folder.root / MANIFEST).read_text(encoding="utf-8"))
    for state in manifest["benchmarks"].values():
        state["evidence"].pop("total", None)
    outputs = [
        expand(backend, whole.folder.root / "outputs" / key, tmp_path / key, key, Size(SHARE))
        for key in REHEARSED_KEYS
    ]
    source = ArchivedRun.of(manifest, lambda name: make_backend(name, HubSettings()))
    proven = {key: prove(source, key, tmp_path / key) for key in REHEARSED_KEYS}
    assert not [proof.problem for proof in proven.values() if proof.problem]
    payload = build_payload(
        ScoreTable(
            tuple(proof.score for proof in proven.values() if proof.score), source.model, backend
        ),
        source.backend.payload_name,
    )
    contents = Contents(
        entries(outputs),
        {MANIFEST: json.dumps(manifest), PAYLOAD: payload_text(payload)},
    )
    room = room_for(payload)
    packed = pack(
        contents,
        Scrubber(Redactor()),
        lambda folder: proofs(source, folder),
        lambda size: room(int(size / SHARE)),
    )
    assert packed.fits and packed.form == TABLES
    path = tmp_path / "easi_results.zip"
    path.write_bytes(packed.data)
    verdict = verify(path)
    assert verdict.differences == [] and sum(
        proof.rows for proof in proven.values()
    ) >= SHARE * sum(ROWS[key] for key in REHEARSED_KEYS)
    with zipfile.ZipFile(path) as zipped:
        assert not [
            name for name in zipped.namelist() if str(tmp_path).encode() in zipped.read(name)
        ]


def test_the_archive_of_a_rehearsal_is_good(runs: Runs, backend: str, tmp_path: Path) -> None:
    """As the program left it, for somebody else."""
    whole = runs.alone(backend)
    checked = User(tmp_path, secrets=False).run("--verify", whole.folder.root / "easi_results.zip")
    assert checked.code == 0 and "archive of form full" in checked.out, checked.said
    with zipfile.ZipFile(whole.folder.root / "easi_results.zip") as zipped:
        names = zipped.namelist()
        assert {f"rows/{key}.csv" for key in REHEARSED_KEYS} <= set(names) and not [
            name for name in names if name.endswith((".pkl", "status.json"))
        ]
        for name in names:
            data = zipped.read(name)
            texts = [data]
            if name.endswith(".xlsx"):
                (tmp_path / "book.xlsx").write_bytes(data)
                with zipfile.ZipFile(tmp_path / "book.xlsx") as book:
                    texts = [book.read(part) for part in book.namelist()]
            for text in texts:
                assert not [
                    told
                    for told in (str(runs.out), str(whole.user.root), str(Path.home()) + "/")
                    if told.encode() in text
                ], name
