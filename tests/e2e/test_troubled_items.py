"""Questions that kill, hang, raise or lack memory, on the real backends.

At most the question itself fails, and the run finishes.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

import troubled
from program import Launch, RunFolder, User, run_folders

pytestmark = [pytest.mark.slow, pytest.mark.e2e, pytest.mark.faults]

KEYS = ("mmsi_bench", "viewspatial")
HANG_SECONDS = "4"
MODELS = {
    "vlmevalkit": ("--model", "Troubled"),
    "lmms-eval": ("--model", "troubled", "--model-args", "pretrained=nothing", "--device", "cpu"),
}


@pytest.fixture(scope="module", params=MODELS)
def run(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Launch, RunFolder, Path]:
    """Two workers; what it printed, what it left, and what the model noted."""
    user = User(tmp_path_factory.mktemp("troubled"))
    env = troubled.install(user.root / "model")
    out = user.root / "out"
    launch = user.run(
        "--smoke",
        "--backend",
        request.param,
        *MODELS[request.param],
        "--nproc",
        2,
        "--benchmarks",
        ",".join(KEYS),
        "--no-rich",
        "--output-dir",
        out,
        seconds=840,
        EASI_HANG_SECONDS=HANG_SECONDS,
        EASI_TEST_RUNS=str(out / "runs"),
        **env,
    )
    folders = run_folders(out, request.param)
    assert len(folders) == 1, launch.said
    return launch, folders[0], user.root / "model" / "claims"


def asked(claims: Path, kind: str) -> list[str]:
    """The process of each time that the question of this kind was asked."""
    lines = [line.split() for line in (claims / "asked").read_text().splitlines()]
    return [pid for _, its, pid in lines if its == kind]


def test_every_question_has_an_outcome_and_only_the_hopeless_failed(
    run: tuple[Launch, RunFolder, Path],
) -> None:
    launch, folder, _ = run
    assert {(claim.name) for claim in run[2].iterdir()} == {*troubled.KINDS, "asked"}
    outcomes = Counter((record["benchmark"], record["item"]) for record in folder.records("answer"))
    assert set(outcomes) == {(key, item) for key in KEYS for item in folder.items(key)}, launch.said
    assert set(outcomes.values()) == {1}, "nothing was answered twice"
    failures = sorted(
        record["failure"].partition(":")[0]
        for record in folder.records("answer")
        if record["failure"]
    )
    assert failures == ["Hung", "OutOfMemoryError", "ValueError"], launch.said


def test_a_question_that_raises_is_tried_once_more(run: tuple[Launch, RunFolder, Path]) -> None:
    assert len(asked(run[2], "raise")) == 2


def test_a_question_that_killed_its_worker_is_answered_by_another(
    run: tuple[Launch, RunFolder, Path],
) -> None:
    pids = asked(run[2], "kill")
    assert len(pids) == len(set(pids)) == 2


def test_a_question_that_hangs_is_killed_for_shown_and_tried_once_more(
    run: tuple[Launch, RunFolder, Path],
) -> None:
    launch, folder, claims = run
    pids = asked(claims, "hang")
    assert len(pids) == len(set(pids)) == 2
    log = launch.logs[0].read_text(encoding="utf-8")
    assert log.count(" s (limit: ") == 2 and log.count("in answer_to") >= 2, "where it was"
    assert len(folder.records("hung")) == 2


def test_what_lacked_memory_is_asked_again_at_the_end_by_one_worker(
    run: tuple[Launch, RunFolder, Path],
) -> None:
    launch, folder, claims = run
    aside = folder.records("aside")
    assert len({tuple(key) for record in aside for key in record["keys"]}) == 2 and {
        record["stage"] for record in aside
    } == {0}
    crowded, greedy = asked(claims, "crowded"), asked(claims, "greedy")
    assert len(crowded) == 3 and len(set(crowded)) == 2, (
        "alone at once, and by the only worker in the end"
    )
    assert len(greedy) >= 4
    assert "asking them again with fewer workers" in launch.out + launch.err
    assert "1 worker" in launch.out


def test_the_run_tells_which_benchmark_lacks_answers(run: tuple[Launch, RunFolder, Path]) -> None:
    launch, _, _ = run
    assert "Traceback" not in launch.err
    assert "failed" in launch.out
