"""Who reads the answers.

From options and environment to a policy, from rates to decisions, from decisions to the words of
the table.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from easi_eval.config import RULES, RunConfig, threshold
from easi_eval.core.errors import EasiError
from easi_eval.scores import judging
from easi_eval.scores.judging import Policy
from easi_eval.scores.score_table import BenchmarkScore, Pool, Reading, State

KEY = {"OPENAI_API_KEY": "k"}
HERE = {**KEY, "OPENAI_API_BASE": "http://127.0.0.1:9/v1"}
SITE = (("site_image", "site_video"),)
J = "gpt-4o-1120"


def config(**changes: object) -> RunConfig:
    return RunConfig(**{"model": "org/m", **changes})


def score(
    key: str = "blink", unparsed: int | None = 0, n: int = 1000, value: float = 50.0
) -> BenchmarkScore:
    return BenchmarkScore(
        key, Reading(value, {"a": value / 2}), n=n, total=n, state=State.COMPLETE, unparsed=unparsed
    )


# ---- options -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text, value",
    [
        ("0.025", 0.025),
        ("2.5%", 0.025),
        (" 2.5 % ", 0.025),
        ("0", 0.0),
        ("1", 1.0),
        ("100%", 1.0),
        ("1e-05", 1e-05),
    ],
)
def test_a_threshold_is_a_fraction_or_has_its_sign(text: str, value: float) -> None:
    assert threshold(text) == pytest.approx(value)


@pytest.mark.parametrize("text", ["2.5", "-0.1", "101%", "nan", "inf", "", "%", "a", "5%%", "5%x"])
def test_another_is_refused(text: str) -> None:
    with pytest.raises(EasiError, match="--extraction-threshold") as error:
        threshold(text)
    assert "2.5%" in error.value.hint


def test_a_threshold_beside_a_judge_would_do_nothing() -> None:
    with pytest.raises(EasiError, match="--extraction-threshold with --judge"):
        config(judge=J, extraction_threshold=0.1)


@pytest.mark.parametrize(
    "changes, environ, judge, always, why",
    [
        ({"judge": RULES}, HERE, "", False, "--judge exact_matching"),
        ({"judge": "extract_matching"}, HERE, "", False, "--judge extract_matching"),
        ({"judge": "some/judge"}, KEY, "some/judge", True, ""),
        ({"judge": "some/judge"}, {}, "some/judge", True, ""),  # refused by check()
        ({}, {}, "", False, "no judge is configured"),
        ({}, {"OPENAI_API_KEY": ""}, "", False, "no judge is configured"),
        ({}, {"OPENAI_API_BASE": "http://h/v1"}, "", False, "no judge is configured"),
        ({}, KEY, J, False, ""),
        ({}, {**KEY, "EASI_JUDGE": "other"}, "other", False, ""),
        ({"plain": True}, KEY, "", False, "--plain judges only with --judge"),
        ({"plain": True, "judge": J}, KEY, J, True, ""),
        ({"smoke": True}, KEY, "", False, "a rehearsal asks no judge outside this machine"),
        (
            {"smoke": True},
            {**KEY, "OPENAI_API_BASE": "http://localhost.evil.org/v1"},
            "",
            False,
            "a rehearsal asks no judge outside this machine",
        ),
        ({"smoke": True}, HERE, J, False, ""),
        ({"smoke": True, "judge": J}, KEY, J, True, ""),
    ],
)
def test_the_policy(
    changes: dict[str, object], environ: dict[str, str], judge: str, always: bool, why: str
) -> None:
    found = judging.policy(config(**changes), environ)
    assert (found.judge, found.always, found.why_none, found.reads) == (judge, always, why, True)


def test_lmms_eval_has_no_choice_and_says_nothing() -> None:
    policy = judging.policy(config(backend="lmms-eval", model_args="pretrained=a/b", judge=J), HERE)
    assert (policy.judge, policy.reads) == ("", False)
    assert judging.by_rules(policy, score(unparsed=900)) == score(unparsed=900)


@pytest.mark.parametrize(
    "changes, environ, match",
    [
        ({"judge": J}, {}, "needs OPENAI_API_KEY"),
        ({"judge": "deepseek"}, KEY, "another service than that of OPENAI_API_BASE"),
        ({"judge": "llama31-8b"}, KEY, "another service than that of OPENAI_API_BASE"),
        ({"judge": J}, {**KEY, "LOCAL_LLM": "qwen"}, "would ask qwen and call it gpt-4o-1120"),
        ({}, {**KEY, "LOCAL_LLM": "qwen"}, "would ask qwen and call it gpt-4o-1120"),
    ],
)
def test_a_judge_that_would_not_be_asked_is_refused(
    changes: dict[str, object], environ: dict[str, str], match: str
) -> None:
    with pytest.raises(EasiError, match=match):
        judging.check(config(**changes), environ)


@pytest.mark.parametrize(
    "changes, environ",
    [
        ({}, {"LOCAL_LLM": "qwen"}),
        ({"judge": RULES}, {**KEY, "LOCAL_LLM": "qwen"}),
        ({"judge": J}, KEY),
    ],
)
def test_what_asks_nobody_or_the_right_one_is_not(
    changes: dict[str, object], environ: dict[str, str]
) -> None:
    judging.check(config(**changes), environ)


@pytest.mark.parametrize(
    "changes, environ, is_so",
    [
        ({"judge": J}, KEY, True),
        ({}, HERE, True),
        ({}, {**KEY, "EASI_JUDGE": "other"}, True),
        ({}, KEY, False),
        ({}, {**KEY, "OPENAI_API_BASE": " "}, False),
    ],
)
def test_a_key_alone_insists_on_no_judge(
    changes: dict[str, object], environ: dict[str, str], is_so: bool
) -> None:
    assert judging.judge_is_required(config(**changes), environ) is is_so


def test_what_decides_who_reads_is_in_the_settings_and_no_secret_is() -> None:
    made = [
        judging.settings(config(**changes), environ)
        for changes, environ in (
            ({}, KEY),
            ({"extraction_threshold": 0.1}, KEY),
            ({}, {**KEY, "EASI_JUDGE": "other"}),
            ({"judge": RULES}, KEY),
            ({"judge": J}, KEY),
        )
    ]
    assert all(one != other for place, one in enumerate(made) for other in made[:place])
    assert judging.settings(config(), HERE) == judging.settings(config(), {}), (
        "a key or an address more is no other setting"
    )
    assert judging.settings(config(judge="extract_matching"), {}) == judging.settings(
        config(judge=RULES), {}
    )


# ---- decisions -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "unparsed, judged", [(0, False), (25, False), (26, True), (1000, True), (None, False)]
)
def test_above_the_threshold_and_not_at_it(unparsed: int | None, judged: bool) -> None:
    assert bool(judging.to_judge(Policy(J), [score(unparsed=unparsed)], ())) is judged


def test_a_named_judge_reads_everything_also_what_nobody_counted() -> None:
    assert judging.to_judge(
        Policy(J, always=True), [score("blink"), score("vsi_bench", None)], ()
    ) == ("blink", "vsi_bench")


def test_without_a_judge_nothing_is_judged() -> None:
    assert judging.to_judge(Policy(), [score(unparsed=1000)], ()) == ()


@pytest.mark.parametrize(
    "image, video, judged",
    [
        (0, 0, ()),
        (25, 25, ()),
        (26, 0, ("site_image", "site_video")),
        (0, 26, ("site_image", "site_video")),
        (100, 100, ("site_image", "site_video")),
    ],
)
def test_halves_are_judged_alike_if_either_is_unreadable(
    image: int, video: int, judged: tuple[str, ...]
) -> None:
    halves = [score("site_image", image), score("blink", 0), score("site_video", video)]
    assert judging.to_judge(Policy(J), halves, SITE) == judged


def test_a_half_alone_is_judged_by_itself() -> None:
    assert judging.to_judge(Policy(J), [score("site_image", 26)], SITE) == ("site_image",)


# ---- what is said --------------------------------------------------------------------------------


def test_rules_say_method_and_rate() -> None:
    found = judging.by_rules(Policy(J), score(unparsed=25))
    assert (found.method, found.state, found.reason) == (RULES, State.COMPLETE, "")
    assert found.by_method == {RULES: found.reading}
    assert found.notes == ("scored by rules; 2.50 % of answers could not be parsed",)
    assert judging.why_rejudge(Policy(J), found) == ""


def test_above_the_threshold_it_is_open_until_a_judge_has_read_it() -> None:
    found = judging.by_rules(Policy(J), score(unparsed=26))
    assert (found.state, found.reason) == (State.INCOMPLETE, "to be judged by gpt-4o-1120")
    assert judging.why_rejudge(Policy(J), found) == "to be judged by gpt-4o-1120"


def test_without_a_judge_the_table_says_so_and_a_later_one_reads_it() -> None:
    found = judging.by_rules(Policy(why_none="no judge is configured"), score(unparsed=26))
    assert found.state is State.COMPLETE
    assert found.notes == (
        "scored by rules; 2.60 % of answers could not be parsed, above 2.50 %; not judged: "
        "no judge is configured",
    )
    assert judging.why_rejudge(Policy(why_none="no judge is configured"), found) == ""
    assert judging.why_rejudge(Policy(J), found) == "to be judged by gpt-4o-1120"


def test_rules_alone_never_speak_of_a_judge() -> None:
    found = judging.by_rules(judging.policy(config(judge=RULES), HERE), score(unparsed=1000))
    assert found.state is State.COMPLETE and found.notes == (
        "scored by rules; 100.00 % of answers could not be parsed",
    )


def test_a_judged_score_has_both_readings() -> None:
    rules, second = (
        score(unparsed=26, value=50.0),
        replace(score(unparsed=3, value=61.0), notes=("something else",)),
    )
    found = judging.judged(rules, second, J)
    assert (
        found.reading.overall == 61.0
        and found.method == J
        and found.unparsed == 3
        and found.state is State.COMPLETE
    )
    assert {name: reading.overall for name, reading in found.by_method.items()} == {
        RULES: 50.0,
        J: 61.0,
    }
    assert found.notes == (
        "something else",
        "judged by gpt-4o-1120; score by rules: 50.00, 2.60 % of answers could not be parsed",
    )
    assert judging.why_rejudge(Policy(J), found) == ""


def test_a_judge_that_failed_leaves_the_score_by_rules_open() -> None:
    found = judging.not_judged(score(unparsed=26), J, "HTTP 500")
    assert (found.reading.overall, found.method, found.state) == (50.0, RULES, State.INCOMPLETE)
    assert (
        found.reason == "judging by gpt-4o-1120 failed: HTTP 500"
        and found.reason in found.notes[-1]
    )
    assert judging.why_rejudge(Policy(J), found)
    half = judging.not_judged(score("site_image", 0), J, "HTTP 500")
    assert judging.why_rejudge(Policy(J), half), (
        "a half below the threshold is open for the other's sake"
    )


@pytest.mark.parametrize(
    "rate, text", [(0.0, "0.00 %"), (0.025, "2.50 %"), (0.00001, "<0.01 %"), (1.0, "100.00 %")]
)
def test_percent(rate: float, text: str) -> None:
    assert judging.percent(rate) == text


# ---- SITE ----------------------------------------------------------------------------------------


def half(
    key: str, points: float, weight: float, rules_points: float | None = None
) -> BenchmarkScore:
    made = replace(
        score(key, value=100 * points / weight), pools={"": Pool(points, weight)}, method=RULES
    )
    if rules_points is None:
        return replace(made, by_method={RULES: made.reading})
    return replace(
        made, method=J, by_method={RULES: Reading(100 * rules_points / weight), J: made.reading}
    )


def test_site_is_pooled_by_each_method() -> None:
    from easi_eval.benchmarks import group_by_key
    from easi_eval.scores.score_table import combine

    rows = {row.key: row for row in (half("site_image", 30, 75, 15), half("site_video", 10, 25, 0))}
    site = combine(group_by_key("site"), rows)
    assert site.method == J and site.reading.overall == pytest.approx(40)
    assert {name: reading.overall for name, reading in site.by_method.items()} == {
        RULES: pytest.approx(15),
        J: pytest.approx(40),
    }


def test_halves_that_were_not_read_alike_do_not_pool() -> None:
    from easi_eval.benchmarks import group_by_key
    from easi_eval.scores.report import footnotes
    from easi_eval.scores.score_table import ScoreTable, combine

    rows = {row.key: row for row in (half("site_image", 30, 75, 15), half("site_video", 10, 25))}
    site = combine(group_by_key("site"), rows)
    assert site.reading.overall is None and site.state is State.INCOMPLETE and site.by_method == {}
    assert (
        site.reading.why_missing[""]
        == "not scored alike: site_image by gpt-4o-1120, site_video by exact_matching"
    )
    assert (
        footnotes(ScoreTable(tuple(rows.values()), "org/m", "vlmevalkit"))[-1]
        == f"SITE: {site.reading.why_missing['']}"
    )
