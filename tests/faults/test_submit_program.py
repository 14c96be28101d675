"""``--submit`` on a finished run with the whole program.

The machine has no GPU, and the board is on loopback.
"""

from __future__ import annotations

import csv
import json
import shlex
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from board import Board, Fault
from easi_eval.benchmarks import CORE_KEYS
from easi_eval.cli import parse
from easi_eval.config import RunConfig, SubmissionConfig
from easi_eval.core.manifest import Manifest
from finished import finish
from own_entries import OWN_ENTRIES
from program import PROGRAM, SECRETS, Launch, User

pytestmark = pytest.mark.faults
META = SubmissionConfig("org/named", "instruction", "bfloat16")
DESCRIBED = ("--submit", "--submission-configs", META.to_json(), "--model-name-differs")


@dataclass(frozen=True)
class Finished:
    """A run whose benchmarks are all complete on disk; nothing was evaluated for it."""

    user: User
    cfg: RunConfig
    root: Path

    def run(self, board: Board, *options: object, **changes: str) -> Launch:
        return self.user.run(
            "--model",
            self.cfg.model,
            "--output-dir",
            self.cfg.output_dir,
            "--no-rich",
            *options,
            **{
                "EASI_SUBMIT_URL": board.url,
                "NO_PROXY": "127.0.0.1",
                "HF_HUB_OFFLINE": "1",
                **changes,
            },
        )

    @property
    def fates(self) -> list[str]:
        path = self.root / "easi_submission.json"
        return (
            [entry["state"] for entry in json.loads(path.read_text())["submissions"]]
            if path.exists()
            else []
        )


@pytest.fixture
def finished(tmp_path: Path) -> Finished:
    model = tmp_path / "Tiny"
    model.mkdir()
    (model / "config.json").write_text('{"model_type": "qwen2_5_vl", "torch_dtype": "bfloat16"}')
    cfg = RunConfig(model=str(model), output_dir=tmp_path / "out")
    return Finished(User(tmp_path / "user", program=OWN_ENTRIES), cfg, finish(cfg).root)


@pytest.fixture
def board() -> Iterator[Board]:
    with Board(SECRETS["HF_TOKEN"], duplicates=True) as running:
        yield running


def test_a_finished_run_is_sent_once(finished: Finished, board: Board) -> None:
    shown = finished.run(board, *DESCRIBED, "--dry-run")
    assert shown.code == 0, shown.said
    assert (
        f"POST {board.url}" in shown.out
        and '"modelName": "org/named"' in shown.out
        and "[your token]" in shown.out
    )
    assert not board.requests and not finished.fates
    blocked = finished.run(board, *DESCRIBED, "--dry-run", HF_TOKEN="hf_ü")
    assert blocked.code == 2 and '"modelName": "org/named"' in blocked.out, blocked.said
    ends = blocked.out.splitlines()[-2:]  # below the whole request
    assert ends[0].startswith("blocked  HF_TOKEN is not a token") and "settings/tokens" in ends[1]

    first = finished.run(board, *DESCRIBED)
    assert first.code == 0, first.said
    assert "submitted" in first.out and finished.fates == ["confirmed"]
    (entry,) = board.entries
    assert entry.raw in shown.out  # the dry run showed what was then sent
    # of the file itself
    assert (
        entry.payload["modelName"] == "org/named" and entry.payload["scores"]["vsi_bench"] == 18.75
    )
    assert entry.archive == (finished.cfg.output_dir / "easi_results.zip").read_bytes()
    assert (
        entry.payload["scores"]
        == json.loads((finished.cfg.output_dir / "easi_results.json").read_text())["scores"]
    )

    second = finished.run(board, *DESCRIBED)
    assert second.code == 0 and "already submitted" in second.out, second.said
    assert len(board.requests) == 1
    planned = finished.run(board, *DESCRIBED, "--dry-run")
    assert planned.code == 0 and "nothing would be sent: already submitted, " in planned.out, (
        planned.said
    )
    assert not [command for command in second.commands if "VLMEvalKit/run.py" in command]
    for launch in (shown, first, second):
        assert not [
            secret
            for secret in SECRETS.values()
            if secret in launch.out + launch.err + " ".join(launch.commands)
        ]
    kept = [path for path in finished.cfg.output_dir.rglob("*") if path.is_file()]
    assert not [path for path in kept if SECRETS["HF_TOKEN"].encode() in path.read_bytes()]


def test_what_was_sent_can_be_checked_by_anyone(
    finished: Finished, board: Board, tmp_path: Path
) -> None:
    """From a finished run to a confirmed row, and from the row's two files back to every score."""
    described = tmp_path / "meta.json"
    described.write_text(
        json.dumps(
            {
                "modelName": "org/named",
                "modelType": "instruction",
                "precision": "float16",
                "remarks": "Mine",
            }
        )
    )
    refused = finished.run(board, "--submit", "--submission-configs", f"@{described}")
    assert (
        refused.code == 2
        and "org/named cannot be compared with the folder Tiny" in refused.err
        and "--model-name-differs" in refused.err
    ), refused.said
    sent = finished.run(
        board, "--submit", "--submission-configs", f"@{described}", "--model-name-differs"
    )
    assert sent.code == 0, sent.said
    (entry,) = board.entries
    remarks = entry.payload["remarks"].splitlines()
    assert (
        remarks[0] == "Mine"
        and "confirmed by the submitter" in remarks[1]
        and "folder Tiny" in remarks[1]
    )
    assert str(tmp_path) not in entry.raw and "null" not in entry.raw
    assert entry.payload["precision"] == "float16"  # offered otherwise below, and never set

    received = tmp_path / "received"
    received.mkdir()
    (received / "easi_results.zip").write_bytes(entry.archive)
    (received / "easi_results.json").write_text(entry.raw)
    stranger = User(tmp_path / "stranger", secrets=False)
    checked = stranger.run("--verify", received / "easi_results.zip")
    assert checked.code == 0 and "every score follows" in checked.out, checked.said
    payload = json.loads(entry.raw)
    payload["scores"]["site"] = round(payload["scores"]["site"] + 0.0001, 4)
    (received / "easi_results.json").write_text(json.dumps(payload))
    caught = stranger.run("--verify", received / "easi_results.zip")
    assert caught.code == 1 and "site is" in caught.out and "DIFFERENT" in caught.out, caught.said
    planned = finished.run(
        board, "--dry-run", "--submission-configs", f"@{described}", "--model-name-differs"
    )
    assert (
        "config.json suggests precision bfloat16, --submission-configs says float16" in planned.out
    ), planned.said


def test_an_unknown_outcome_needs_resubmit(finished: Finished, board: Board) -> None:
    board.fail(Fault(status=502, records=True))
    lost = finished.run(board, *DESCRIBED)
    assert lost.code == 3 and "unknown" in lost.err and "--resubmit" in lost.err, lost.said
    assert (finished.cfg.output_dir / "easi_results.zip").exists()
    again = finished.run(board, *DESCRIBED)
    assert again.code == 3 and "nothing was sent" in again.err and len(board.requests) == 1, (
        again.said
    )
    meant = finished.run(board, *DESCRIBED, "--resubmit")
    assert meant.code == 0 and finished.fates == ["unknown", "confirmed"], meant.said


def test_a_stored_login_will_do(finished: Finished, board: Board) -> None:
    home = finished.user.root / "huggingface"
    (home / "token").write_text(SECRETS["HF_TOKEN"] + "\n")
    sent = finished.run(board, *DESCRIBED, HF_TOKEN="")
    assert sent.code == 0 and len(board.entries) == 1, sent.said


def test_eight_are_needed(finished: Finished, board: Board) -> None:
    """Half of SITE is gone: what was asked for is complete, what a submission needs is not."""
    states = Manifest.load(finished.root / "run_manifest.json")
    assert states is not None
    replace(
        states,
        benchmarks={key: state for key, state in states.benchmarks.items() if key != "site_video"},
    ).save(finished.root / "run_manifest.json")
    shutil.rmtree(finished.root / "outputs" / "site_video")
    kept = finished.run(board, *DESCRIBED, "--benchmarks", "blink")
    assert kept.code == 3 and "not complete: site_video" in kept.err, kept.said
    command = parse(shlex.split(kept.err.rpartition("hint: ")[2])[2:])
    assert command.benchmarks == ("site_video",) and command.submit and command.submission == META
    assert not board.requests and not finished.fates
    shown = finished.run(board, *DESCRIBED, "--dry-run", "--benchmarks", "blink")
    assert "once these are complete" in shown.out, shown.said


def test_tables_of_another_size_are_never_sent(finished: Finished, board: Board) -> None:
    """The same run, for the program as users have it: complete, and not the benchmarks."""
    as_it_is = replace(finished, user=replace(finished.user, program=PROGRAM))
    refused = as_it_is.run(board, *DESCRIBED)
    assert (
        refused.code == 3
        and "mmsi_bench is not the benchmark: " in refused.err
        and "instead of 1000" in refused.err
    ), refused.said
    assert not board.requests and not finished.fates
    with (finished.cfg.output_dir / "easi_scores.csv").open(encoding="utf-8", newline="") as file:
        lines = {line["benchmark"]: line for line in csv.DictReader(file) if not line["part"]}
    assert {lines[key]["comparable"] for key in ("mmsi_bench", "blink", "site")} == {"no"}
    assert "not the benchmark: " in (finished.cfg.output_dir / "easi_scores.md").read_text(
        encoding="utf-8"
    )
    planned = as_it_is.run(board, *DESCRIBED, "--dry-run")
    assert "nothing would be sent: " in planned.out and "POST" not in planned.out, planned.said


def test_what_the_board_refuses_is_said(finished: Finished, board: Board) -> None:
    board.token = "hf_another"
    refused = finished.run(board, *DESCRIBED)
    assert (
        refused.code == 3 and "invalid token" in refused.err and "settings/tokens" in refused.err
    ), refused.said
    assert finished.fates == ["refused"]
    assert set(CORE_KEYS) == {path.name for path in (finished.root / "outputs").iterdir()}
