"""``--import-results`` with the whole program.

It leads to a confirmed row on the board; it is ended on the way; its folders are full of traps.
"""

from __future__ import annotations

import json
import shutil
import signal
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from board import Board
from easi_eval.benchmarks import ALL_KEYS, CORE_KEYS
from importable import SECRET, hub_cache, lmms_files, tables, vlmevalkit_files
from own_entries import OWN_ENTRIES
from program import SECRETS, Launch, User, wait_until

pytestmark = pytest.mark.faults
META = json.dumps({"modelName": "org/Tiny", "modelType": "instruction", "precision": "bfloat16"})
DESCRIBED = ("--submit", "--submission-configs", META)


@pytest.fixture
def board() -> Iterator[Board]:
    with Board(SECRETS["HF_TOKEN"], duplicates=True) as running:
        yield running


@pytest.fixture
def user(tmp_path: Path) -> User:
    return User(tmp_path / "user", program=OWN_ENTRIES)


def options(folder: Path, *more: object) -> list[object]:
    return [
        "--import-results",
        folder,
        "--as-model",
        "org/Tiny",
        "--output-dir",
        folder.parent / "out",
        "--dataset-dir",
        folder.parent / "tables",
        "--no-rich",
        *more,
    ]


def imported(user: User, folder: Path, *more: object, board: Board | None = None) -> Launch:
    changes = {"EASI_SUBMIT_URL": board.url, "NO_PROXY": "127.0.0.1"} if board else {}
    return user.run(
        *options(folder, *more),
        CUDA_VISIBLE_DEVICES="",
        HF_HOME=str(folder.parent / "home"),
        **changes,
    )


@pytest.mark.parametrize("make", [vlmevalkit_files, lmms_files])
def test_from_a_foreign_folder_to_a_confirmed_row(
    make: object, user: User, board: Board, tmp_path: Path
) -> None:
    folder = make(tmp_path / "theirs")
    tables(tmp_path / "tables")
    if make is lmms_files:
        hub_cache(tmp_path / "home", folder)
    shown = imported(user, folder, *DESCRIBED, "--dry-run", board=board)
    assert shown.code == 0, shown.said
    assert (
        shown.out.count("\naccept   ") == len(ALL_KEYS)
        and f"POST {board.url}" in shown.out
        and '"modelName": "org/Tiny"' in shown.out
    )
    assert not board.requests and not (tmp_path / "out").exists()

    sent = imported(user, folder, *DESCRIBED, board=board)
    assert sent.code == 0, sent.said
    (entry,) = board.entries
    assert (
        entry.payload["modelName"] == "org/Tiny"
        and "imported from theirs" in entry.payload["remarks"]
    )
    assert "were not compared" not in sent.out
    assert entry.archive == (tmp_path / "out" / "easi_results.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "out" / "easi_results.zip") as archive:
        for name in archive.namelist():
            assert SECRET.encode() not in archive.read(name) and not name.endswith(
                (".pkl", "status.json")
            ), name
    again = imported(user, folder, *DESCRIBED, board=board)
    assert again.code == 0 and "already submitted" in again.out and len(board.requests) == 1, (
        again.said
    )


def test_with_a_benchmark_rejected_nothing_is_sent(
    user: User, board: Board, tmp_path: Path
) -> None:
    folder = vlmevalkit_files(tmp_path / "theirs")
    tables(tmp_path / "tables")
    (folder / "M_BLINK_acc.csv").write_text("cut")
    kept = imported(user, folder, *DESCRIBED, board=board)
    assert kept.code == 1 and "not complete: blink" in kept.err and not board.requests, kept.said
    assert "not imported:" in kept.out and "To complete the run:" not in kept.out


def test_a_folder_full_of_traps(user: User, tmp_path: Path) -> None:
    """Circular links and links out of the folder, harmful pickles, odd folder names, garbage."""
    folder = vlmevalkit_files(tmp_path / "theirs", CORE_KEYS)
    tables(tmp_path / "tables")
    (folder / "loop").symlink_to(folder)
    (folder / "a_BLINK_acc.csv").symlink_to("a_BLINK_acc.csv")
    (folder / "M_SparBench_extract_matching_acc.csv").symlink_to("/etc/hostname")
    (folder / "M_OmniSpatialBench_manual_cot.xlsx").mkdir()
    (folder / "20260101_000000_results.json").write_bytes(b"\x00\xff")
    for number in range(2000):
        (folder / f"junk{number}.pkl").write_bytes(b"cposix\nsystem\n(S'touch /exploded'\ntR.")
    done = imported(user, folder)
    assert "Traceback" not in done.said and "a bug in this program" not in done.said
    assert done.code == 0, done.said
    (run,) = (tmp_path / "out" / "runs" / "vlmevalkit").iterdir()
    assert {path.name for path in (run / "outputs").iterdir()} == set(CORE_KEYS)
    copied = list((run / "outputs").rglob("*"))
    assert not [
        path
        for path in copied
        if path.is_symlink() or path.suffix == ".pkl" or "hostname" in path.name
    ]
    assert not Path("/exploded").exists()


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM])
def test_ended_half_way_and_done_again(signum: int, user: User, tmp_path: Path) -> None:
    folder = vlmevalkit_files(tmp_path / "theirs")
    tables(tmp_path / "tables")
    outputs = tmp_path / "out" / "runs" / "vlmevalkit"
    with user.start(*options(folder)) as launch:
        wait_until(lambda: list(outputs.glob("*/outputs/*/evidence.json")), 60, launch)
        launch.process.send_signal(signum)
        launch.process.wait(30)
    whole = imported(user, folder)
    assert whole.code == 0, whole.said
    assert not list(outputs.glob("*/outputs/.*"))
    fresh = imported(
        User(tmp_path / "other", program=OWN_ENTRIES),
        shutil.copytree(folder, tmp_path / "apart" / "theirs"),
        "--dataset-dir",
        tmp_path / "tables",
    )
    assert fresh.code == 0
    for name in ("easi_scores.csv", "easi_results.json"):
        assert (tmp_path / "out" / name).read_bytes() == (
            tmp_path / "apart" / "out" / name
        ).read_bytes()


@pytest.mark.parametrize("content", [None, "file", "empty", "garbage"])
def test_what_is_no_folder_of_results_ends_in_two_lines(
    content: str | None, user: User, tmp_path: Path
) -> None:
    place = tmp_path / "theirs"
    if content == "file":
        place.write_text("x")
    elif content is not None:
        place.mkdir()
    if content == "garbage":
        (place / "20260101_000000_results.json").write_text("{")
        (place / "notes.txt").write_text("?")
        (place / "M_BLINK_result.pkl").write_bytes(b"\x80")
    refused = imported(user, place)
    assert (
        refused.code == 2 and refused.err.startswith("error: ") and refused.err.count("\n") == 2
    ), refused.said
    assert "hint: " in refused.err and not (tmp_path / "out" / "runs").exists()
