"""What a plan decides, as tables: nothing here touches a disk."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from easi_eval.benchmarks import CORE_KEYS
from easi_eval.config import RunConfig
from easi_eval.core.errors import EasiError
from easi_eval.core.manifest import BenchmarkState, Manifest
from easi_eval.core.model import ModelChoice
from easi_eval.data.needs import Download
from easi_eval.engine.journal import Answer, Journal
from easi_eval.engine.processes.jobs import Job
from easi_eval.engine.work import Work
from easi_eval.run.decide import make_plan
from easi_eval.run.dry_run import describe, unresolved
from easi_eval.run.identity import fingerprint, identity, identity_fields
from easi_eval.run.plan import FoundResult, Plan
from easi_eval.run.run_progress import forecast_seconds

MODEL = ModelChoice("org/m", "org/m", "Chat", "it is registered", arguments={"min_pixels": 4})
CFG = RunConfig(model="org/m", benchmarks=("blink",), output_dir=Path("out"))
SETTINGS = {"task": "BLINK", "judge": "exact_matching"}
MARK = fingerprint(identity("vlmevalkit", "1", MODEL, CFG), SETTINGS)
WHOLE = FoundResult(MARK, 19, 19)


def known(**changes: object) -> Manifest:
    state = BenchmarkState(
        **{"fingerprint": MARK, "epoch": 3, "state": "complete", "settings": SETTINGS, **changes}
    )
    return Manifest(
        identity("vlmevalkit", "1", MODEL, CFG),
        identity_fields("vlmevalkit", "1", MODEL, CFG),
        "org/m",
        benchmarks={"blink": state},
    )


def plan(
    cfg: RunConfig = CFG,
    manifest: Manifest | None = None,
    found: FoundResult | None = None,
    settings: Mapping[str, object] = SETTINGS,
    **others: object,
) -> Plan:
    return make_plan(
        cfg,
        MODEL,
        "1",
        {bench.key: settings for bench in cfg.selected},
        manifest,
        {"blink": found} if found else {},
        **others,
    )


@pytest.mark.parametrize(
    ("options", "found", "reason"),
    [
        ({}, WHOLE, "complete, 19 questions"),
        ({"limit": 2}, WHOLE, "complete, 19 questions"),
        (
            {"limit": 2},
            FoundResult(MARK, 2, 19, limit=2),
            "its first 2 questions are done (partial: --limit)",
        ),
        ({"nproc": 8, "verbose": True, "plain": True}, WHOLE, "complete, 19 questions"),
    ],
)
def test_skipped(options: dict[str, object], found: FoundResult, reason: str) -> None:
    made = plan(replace(CFG, **options), known(), found)
    assert (made.todo, made.skipped) == ((), (("blink", reason),))


@pytest.mark.parametrize(
    ("options", "manifest", "found", "epoch", "aside", "reason"),
    [
        ({}, None, None, 0, False, "not run yet"),
        ({}, known(epoch=0, state=""), None, 0, False, "not finished"),
        (
            {},
            known(state="failed", reason="2 of 19 items failed: OutOfMemoryError"),
            None,
            3,
            False,
            "2 of 19 items failed: OutOfMemoryError",
        ),
        ({}, known(), FoundResult(problem="acc.csv has no rows"), 3, True, "acc.csv has no rows"),
        (
            {},
            known(),
            FoundResult(MARK, 2, 19, limit=2),
            3,
            True,
            "holds 2 of 19 questions (--limit 2)",
        ),
        # a limit is never complete
        (
            {},
            known(),
            FoundResult(MARK, 19, 19, limit=99),
            3,
            True,
            "holds 19 of 19 questions (--limit 99)",
        ),
        ({}, known(), FoundResult(MARK, 17, 19), 3, True, "holds 17 of 19 questions"),
        (
            {"limit": 5},
            known(),
            FoundResult(MARK, 2, 19, limit=2),
            3,
            True,
            "holds 2 of 19 questions (--limit 2) (only the first 5)",
        ),
        ({"limit": 5}, None, None, 0, False, "not run yet (only the first 5)"),
        # how many there are is not known
        ({}, known(), FoundResult(MARK, 19, None), 3, True, "holds 19 questions"),
        (
            {},
            known(fingerprint="x" * 64, settings={**SETTINGS, "task": "BLINK_circular"}),
            WHOLE,
            4,
            True,
            "made under other settings (task)",
        ),
        # another judge scores the same answers again
        (
            {},
            known(fingerprint="x" * 64, settings={**SETTINGS, "judge": "gpt-4o"}),
            WHOLE,
            3,
            True,
            "scored under other settings (judge)",
        ),
        (
            {},
            known(fingerprint="x" * 64, settings={"judge": "gpt-4o"}),
            None,
            4,
            False,
            "made under other settings (judge, task)",
        ),
        (
            {},
            known(),
            replace(WHOLE, fingerprint="x" * 64),
            4,
            True,
            "its files were made under other settings",
        ),
        ({"rerun": True}, known(), WHOLE, 4, True, "--rerun"),
        ({"rerun": True}, known(), None, 4, False, "--rerun"),
        ({"rerun": True}, None, None, 0, False, "--rerun"),
    ],
)
def test_to_do(
    options: dict[str, object],
    manifest: Manifest | None,
    found: FoundResult | None,
    epoch: int,
    aside: bool,
    reason: str,
) -> None:
    made = plan(replace(CFG, **options), manifest, found)
    assert made.skipped == ()
    [todo] = made.todo
    assert (todo.epoch, todo.aside, todo.reason) == (epoch, aside, reason)
    assert (todo.fingerprint, todo.settings) == (MARK, SETTINGS)


def test_a_failed_rerun_does_not_let_the_older_result_stand() -> None:
    """The rerun's manifest is written before it starts.

    After a kill the old files are gone, and the epoch of the rerun continues.
    """
    rerun = plan(replace(CFG, rerun=True), known(), WHOLE)
    after = plan(CFG, rerun.manifest(known(), {}, []), None)
    assert (after.epochs, after.todo[0].reason) == ({"blink": 4}, "not finished")


def test_order_is_the_registrys_and_every_selected_benchmark_is_decided() -> None:
    made = plan(replace(CFG, benchmarks=()), None, WHOLE)
    assert tuple(bench.key for bench in made.benchmarks) == tuple(
        key for key in CORE_KEYS if key != "blink"
    )
    assert [key for key, _ in made.skipped] == ["blink"]
    assert list(made.fingerprints) == list(made.epochs) == [bench.key for bench in made.benchmarks]


def test_the_folder_is_the_identitys() -> None:
    made = plan()
    assert made.paths.root == Path(f"out/runs/vlmevalkit/org__m-{made.identity[:8]}")
    assert plan(replace(CFG, device="cpu")).paths != made.paths
    assert plan(replace(CFG, nproc=8)).paths == made.paths


def test_the_manifest_keeps_what_other_runs_found() -> None:
    before = replace(
        known(),
        benchmarks={**known().benchmarks, "vsi_bench": BenchmarkState("v", 1, "complete")},
        commands=["easi-eval a"],
        revisions={"a/b": "1"},
    )
    after = plan(manifest=before, notes=["a note"]).manifest(
        before, {"easi": "2"}, ["easi-eval a", "easi-eval b"], {"c/d": "2"}
    )
    assert after.benchmarks["vsi_bench"] == before.benchmarks["vsi_bench"]
    assert after.benchmarks["blink"] == BenchmarkState(MARK, 3, settings=SETTINGS)
    assert (after.modelName, after.model["cls"], after.versions) == ("org/m", "Chat", {"easi": "2"})
    assert after.commands == ["easi-eval a", "easi-eval b"]
    assert after.revisions == {"a/b": "1", "c/d": "2"}
    assert after.notes == ["a note"]
    first = plan().manifest(None, {}, [])
    assert (first.identity, first.fields) == (before.identity, before.fields)


def test_what_is_known_of_the_data_stays_with_the_answers_made_from_it() -> None:
    before = known(evidence={"revision": "abc"})
    assert plan(manifest=before).manifest(before, {}, []).benchmarks["blink"].evidence == {
        "revision": "abc"
    }
    assert (
        plan(replace(CFG, rerun=True), before).manifest(before, {}, []).benchmarks["blink"].evidence
        == {}
    )


def test_what_the_backend_ignores_and_the_models_notes_are_said() -> None:
    made = make_plan(
        replace(CFG, no_accelerate=True),
        replace(MODEL, notes=("frames as images",)),
        "1",
        {"blink": SETTINGS},
        None,
        {},
        notes=["n"],
    )
    assert made.notes == (
        "--no-accelerate has no effect with --backend vlmevalkit",
        "frames as images",
        "n",
    )


def test_a_new_identity_names_the_settings_that_differ_from_its_nearest() -> None:
    far = replace(
        known(),
        identity="a" * 64,
        fields=identity_fields(
            "vlmevalkit", "0", MODEL, replace(CFG, trust_remote_code=True, device="cpu")
        ),
    )
    near = replace(
        known(),
        identity="b" * 64,
        fields=identity_fields("vlmevalkit", "1", MODEL, replace(CFG, model_args="max_pixels=1")),
    )
    [note] = plan(others=(far, near)).notes
    assert (
        note == "new settings for this model: --model-args max_pixels differ from run bbbbbbbb; "
        "its results are kept"
    )
    assert plan(manifest=known(), others=(far, near)).notes == ()  # said when it was new


def test_the_text_says_what_why_and_how() -> None:
    cfg = replace(CFG, benchmarks=("blink", "embspatial"), limit=3, nproc=2)
    job = Job(
        "answer", ("python", "run.py", "--model", "a b"), {"CUDA_VISIBLE_DEVICES": "0", "RANK": ""}
    )
    download = Download(
        {"embspatial": "1.0 MB", "model": "2.0 GB"}, "2.0 GB to download", ("org/m: no answer",)
    )
    made = replace(
        plan(cfg, None, WHOLE, notes=["a note"]),
        jobs=(job,),
        download=download,
        blocked=(EasiError("no GPU", hint="add one"),),
    )
    told = [
        "model    org/m",
        "weights  org/m",
        "class    Chat(min_pixels=4): it is registered",
        "backend  vlmevalkit 1, device cuda",
        f"folder   {made.paths.root}",
        "note     a note",
        "skip     blink: complete, 19 questions",
        "run      embspatial: 3,640 questions; 1.0 MB; not run yet (only the first 3)",
        "total    at most 3 questions",
        "time     not known yet",
        "data     model: 2.0 GB",
        "data     in all: 2.0 GB to download",
        "data     org/m: no answer",
    ]
    blocked = ["blocked  no GPU", "         add one"]
    assert describe(cfg, made).splitlines() == [*told, *blocked]
    command = ["", "# answer", "env -u RANK CUDA_VISIBLE_DEVICES=0 python run.py --model 'a b'"]
    assert describe(replace(cfg, verbose=True), made).splitlines() == [*told, *command, *blocked]
    sent = describe(cfg, made, "\n# submission\nPOST").splitlines()
    assert sent == [*told, "", "# submission", "POST", *blocked]


def test_a_first_look_tells_how_long_the_whole_run_may_take(tmp_path: Path) -> None:
    cfg = replace(CFG, output_dir=tmp_path, benchmarks=("blink", "embspatial"), nproc=2)
    made = plan(cfg)
    assert describe(cfg, made).splitlines()[-2:] == [
        "total    5,541 questions",
        "time     not known yet: run with --limit 20, then look at this plan again",
    ]
    Work(made.assignments(1), made.fingerprints, launch=1).save(made.paths.root)
    with Journal(made.paths.journal, "w0", 0, launch=1) as journal:
        journal.answer(Answer("blink", "0", 0, "A", 4.0, launch=1))
        journal.answer(Answer("blink", "1", 0, "A", 2.0, launch=1))
        journal.answer(Answer("blink", "2", 0, None, 900.0, failure="Error: no", launch=1))
    # 1,901 - 2 and 3,640 questions of 3 s each for two workers
    assert describe(cfg, made).splitlines()[-1] == (
        "time     about 2 h 18 min for what is left, by the answers that are there"
    )
    # the first look itself: of 20 questions per benchmark two are answered
    first = replace(cfg, limit=20)
    assert describe(first, plan(first)).splitlines()[-2:] == [
        "total    at most 40 questions",
        "time     about 57 s for what is left, by the answers that are there",
    ]


def test_the_questions_of_a_server_are_timed_by_the_clock(tmp_path: Path) -> None:
    cfg = replace(CFG, output_dir=tmp_path, benchmarks=("blink", "embspatial"), nproc=2)
    made = plan(cfg)
    made = replace(made, model=replace(made.model, served=True))
    Work(made.assignments(1), made.fingerprints, launch=1).save(made.paths.root)
    with Journal(made.paths.journal, "w0", 0, launch=1) as journal:
        journal.phase("answering")
        late = time.time() + 1000.0
        for item in range(10):  # all at once, 1000 s each
            journal.answer(Answer("blink", str(item), 0, "A", 1000.0, launch=1, at=late))
    # 100 s of the clock per question for 1,891 and 3,640
    assert forecast_seconds(cfg, made) == pytest.approx(553_100, rel=0.1)
    assert describe(cfg, made).splitlines()[-1].startswith("time     about ")


def test_a_plan_without_its_model_lists_what_was_asked_for() -> None:
    cfg = replace(CFG, benchmarks=("blink", "embspatial"))
    told = describe(
        cfg, replace(unresolved(cfg), blocked=(EasiError("no such model"),))
    ).splitlines()
    assert [line for line in told if line.startswith("run ")] == [
        "run      blink: 1,901 questions; state unknown",
        "run      embspatial: 3,640 questions; state unknown",
    ]
    assert told[-1] == "blocked  no such model"
