"""A plan in which rules have scored and a judge has yet to read the answers.

Nothing is answered again or scored by rules again.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from easi_eval.config import RunConfig
from easi_eval.core.manifest import BenchmarkState, Manifest
from easi_eval.core.model import ModelChoice
from easi_eval.run.decide import make_plan
from easi_eval.run.identity import fingerprint, identity, identity_fields
from easi_eval.run.plan import FoundResult, Plan, Todo

MODEL = ModelChoice("org/m", "org/m", "Chat", "it is registered")
CFG = RunConfig(
    model="org/m", benchmarks=("site_image", "site_video", "blink"), output_dir=Path("out")
)
OPEN = "to be judged by gpt-4o-1120"


def mark(key: str) -> str:
    return fingerprint(identity("vlmevalkit", "1", MODEL, CFG), {"task": key})


def whole(key: str, **changes: object) -> FoundResult:
    return FoundResult(
        **{"fingerprint": mark(key), "rows": 19, "total": 19, "judgeable": True, **changes}
    )


def plan(cfg: RunConfig = CFG, **found: FoundResult) -> Plan:
    states = {
        bench.key: BenchmarkState(mark(bench.key), 3, "complete", settings={"task": bench.key})
        for bench in CFG.selected
    }
    manifest = Manifest(
        identity("vlmevalkit", "1", MODEL, CFG),
        identity_fields("vlmevalkit", "1", MODEL, CFG),
        "org/m",
        benchmarks=states,
    )
    files = {key: whole(key) for key in states} | found
    return make_plan(
        cfg,
        MODEL,
        "1",
        {bench.key: {"task": bench.key} for bench in cfg.selected},
        manifest,
        {key: file for key, file in files.items() if file},
    )


def test_what_is_open_is_only_judged() -> None:
    made = plan(blink=whole("blink", judging=OPEN))
    assert [
        (todo.bench.key, todo.epoch, todo.scored, todo.aside, todo.reason) for todo in made.todo
    ] == [("blink", 3, True, False, OPEN)]
    assert [key for key, _ in made.skipped] == ["site_image", "site_video"]


@pytest.mark.parametrize("key", ["site_image", "site_video"])
def test_with_one_half_open_the_other_is_read_alike(key: str) -> None:
    made = plan(**{key: whole(key, judging=OPEN)})
    assert [(todo.bench.key, todo.scored) for todo in made.todo] == [
        ("site_image", True),
        ("site_video", True),
    ]
    assert {todo.bench.key: todo.fingerprint for todo in made.todo} == {
        half: mark(half) for half in ("site_image", "site_video")
    }
    assert [key for key, _ in made.skipped] == ["blink"]


def test_a_half_that_is_to_be_answered_takes_the_other_along() -> None:
    def shown(todo: Todo) -> tuple[str, bool, str]:
        return todo.bench.key, todo.scored, todo.reason

    made = plan(site_video=FoundResult(problem="gone"))
    assert [shown(todo) for todo in made.todo] == [
        ("site_image", True, "is scored by the same method as its other half"),
        ("site_video", False, "gone"),
    ]


def test_halves_that_were_read_by_different_means_are_read_alike_again() -> None:
    apart = {
        "site_image": whole("site_image", method="gpt-4o-1120"),
        "site_video": whole("site_video", method="exact_matching"),
    }
    assert [(todo.bench.key, todo.scored) for todo in plan(**apart).todo] == [
        ("site_image", True),
        ("site_video", True),
    ]
    assert plan(**{key: replace(each, judgeable=False) for key, each in apart.items()}).todo == ()
    assert (
        plan(**{key: replace(each, method="gpt-4o-1120") for key, each in apart.items()}).todo == ()
    )


def test_without_a_judge_or_alone_it_does_not() -> None:
    both = {key: whole(key, judgeable=False) for key in ("site_image", "site_video")}
    assert [todo.bench.key for todo in plan(**both, blink=FoundResult(problem="gone")).todo] == [
        "blink"
    ]
    made = plan(
        site_image=whole("site_image", judgeable=False), site_video=FoundResult(problem="gone")
    )
    assert [todo.bench.key for todo in made.todo] == ["site_video"]
    alone = plan(
        replace(CFG, benchmarks=("site_video",)), site_video=whole("site_video", judging=OPEN)
    )
    assert [todo.bench.key for todo in alone.todo] == ["site_video"], (
        "what was not asked for is left alone; the table says that they differ"
    )


def test_what_was_left_by_a_limit_is_judged_under_that_limit_only() -> None:
    limited = whole("blink", rows=4, limit=4, judging=OPEN)
    cfg = replace(CFG, benchmarks=("blink",))
    assert [todo.scored for todo in plan(replace(cfg, limit=4), blink=limited).todo] == [True]
    assert [todo.scored for todo in plan(cfg, blink=limited).todo] == [False]
    assert plan(replace(cfg, limit=4), blink=whole("blink", judging=OPEN)).todo == (), (
        "a judge would have to read more than was asked for"
    )


def test_rerun_starts_over() -> None:
    assert {
        todo.scored
        for todo in plan(replace(CFG, rerun=True), blink=whole("blink", judging=OPEN)).todo
    } == {False}
