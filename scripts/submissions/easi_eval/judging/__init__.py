"""How answers are read: by the backend's rules or by a judge model. The policy, pure; ``second_reading.py`` carries it out.

The original program of the leaderboard scored by rules and judged again, as a whole, what it could not read more than 2.5 %
of. Only VLMEvalKit has judges.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ..errors import EasiError

if TYPE_CHECKING:
    from ..config import RunConfig
    from ..results.scores import BenchmarkScore

RULES = "exact_matching"
BY_RULES = (RULES, "extract_matching")  # VLMEvalKit's two names for them
DEFAULT_JUDGE = "gpt-4o-1120"
DEFAULT_THRESHOLD = 0.025
VARIABLE = "EASI_JUDGE"  # another judge than the default one, for when none is named
# Judges of VLMEvalKit that it does not ask through OPENAI_API_BASE (dataset/utils/judge_util.py, build_judge).
ELSEWHERE = ("qwen-7b", "qwen-72b", "deepseek", "llama31-8b")
ANSWERS_FILE = "judge_answers.jsonl"  # in a run's folder: what judges said, a line each
LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True)
class Policy:
    """Who reads the answers. ``judge``: the model to ask ("": nobody); ``always``: whatever the rate of unreadable answers.

    ``threshold``: 0-1; a benchmark with a higher rate is judged. ``reads``: False on a backend without a choice, where
    nothing is said about methods. ``named``: the user said who, and the rate decides nothing. ``why_none``: why no judge is
    asked, for people.
    """

    judge: str = ""
    always: bool = False
    threshold: float = DEFAULT_THRESHOLD
    reads: bool = True
    named: bool = False
    why_none: str = ""

    def wants(self, rate: float | None) -> bool:
        """Whether a benchmark of this rate is to be judged, if anybody can."""
        return self.always or (not self.named and rate is not None and rate > self.threshold)


def threshold(text: str) -> float:
    """``--extraction-threshold``: a fraction (0.025) or, with the sign, a percentage (2.5%). Raises EasiError."""
    number, sign, rest = text.strip().partition("%")
    try:
        value = float(number) / (100 if sign else 1)
    except ValueError:
        value = -1.0
    if rest or not 0 <= value <= 1:  # also what is no number at all
        raise EasiError(
            f"--extraction-threshold is {text!r}",
            hint="write a fraction of the answers, 0.025, or 2.5%",
        )
    return value


def policy(cfg: RunConfig, environ: Mapping[str, str]) -> Policy:
    """What the options and the environment ask for. A key alone makes a judge: its address has a default."""
    if not cfg.kind.takes_judge:
        return Policy(reads=False)
    if cfg.judge in BY_RULES:
        return Policy(named=True, why_none=f"--judge {cfg.judge}")
    if cfg.judge:
        return Policy(cfg.judge, always=True, named=True)
    found = Policy(
        environ.get(VARIABLE, "").strip() or DEFAULT_JUDGE, threshold=cfg.extraction_threshold
    )
    why = ""
    if not environ.get("OPENAI_API_KEY"):
        why = "no judge is configured"
    elif cfg.smoke and not re.match(
        rf"https?://({'|'.join(map(re.escape, LOOPBACK))}|\[::1\])[:/]",
        environ.get("OPENAI_API_BASE", ""),
    ):
        why = "a rehearsal asks no judge outside this machine"
    elif cfg.plain:
        why = "--plain judges only with --judge"
    return replace(found, judge="", why_none=why) if why else found


def check(cfg: RunConfig, environ: Mapping[str, str]) -> None:
    """Refuse (EasiError) a judge that could not be asked, or not under its name."""
    if cfg.judge in BY_RULES:
        return
    if cfg.judge and not environ.get("OPENAI_API_KEY"):
        raise EasiError(
            f"--judge {cfg.judge} needs OPENAI_API_KEY; without it VLMEvalKit would silently score by rules",
            hint=f"set OPENAI_API_KEY and OPENAI_API_BASE in the environment or in .env, or use --judge {RULES}",
        )
    judge = policy(cfg, environ).judge
    if judge in ELSEWHERE:
        raise EasiError(
            f"the judge {judge} is a name of VLMEvalKit for a service that OPENAI_API_BASE does not lead to",
            hint="name the model as your endpoint calls it",
        )
    if judge and (
        other := environ.get("LOCAL_LLM")
    ):  # the files would carry one judge's name and another's verdicts
        raise EasiError(
            f"LOCAL_LLM is set: VLMEvalKit would ask {other} and call it {judge}",
            hint=f"unset LOCAL_LLM, and use --judge {other}",
        )


def insisted(cfg: RunConfig, environ: Mapping[str, str]) -> bool:
    """Whether a judge was set on purpose, so that one that cannot be asked is a reason not to start.

    A key alone may be there for other things; then rules will do, and it is said.
    """
    return bool(
        cfg.judge or environ.get("OPENAI_API_BASE", "").strip() or environ.get(VARIABLE, "").strip()
    )


def settings(cfg: RunConfig, environ: Mapping[str, str]) -> dict[str, object]:
    """The part of a benchmark's settings that says how its answers are read; changing it costs no answer."""
    if cfg.judge:
        return {"judge": RULES if cfg.judge in BY_RULES else cfg.judge}
    return {
        "judge": "above the extraction threshold",
        "judge model": environ.get(VARIABLE, "").strip() or DEFAULT_JUDGE,
        "extraction threshold": cfg.extraction_threshold,
    }


# ---- what is judged -----------------------------------------------------------------------------------------------


def rate(score: BenchmarkScore) -> float | None:
    """Share of the answers that the rules could not read, 0-1, of a score by rules; None where the files do not say.

    A question that failed has no answer.
    """
    answers = score.n - score.failed
    return score.unparsed / answers if answers and score.unparsed is not None else None


def to_judge(
    policy: Policy, scores: Iterable[BenchmarkScore], groups: Sequence[Sequence[str]]
) -> tuple[str, ...]:
    """Which of these benchmarks, scored by rules, are judged. The members of one of ``groups`` are judged alike.

    One half of SITE above the threshold is enough for both: its own number would not be trusted by rules, and two kinds of
    reading do not pool into one. It also never takes back a judgement when the other half is scored later, as the pooled
    rate would.
    """
    if not policy.judge:
        return ()
    listed = list(scores)
    wanted = {score.key for score in listed if policy.wants(rate(score))}
    for members in groups:
        if wanted.intersection(members):
            wanted.update(members)
    return tuple(score.key for score in listed if score.key in wanted)


def reopened(policy: Policy, score: BenchmarkScore) -> str:
    """Why an accepted benchmark is to be read again by a judge; "" if it is not."""
    from ..results.scores import State

    # One half of SITE may be open for the other's sake alone.
    if (
        policy.judge
        and score.method == RULES
        and (policy.wants(rate(score)) or score.state is State.INCOMPLETE)
    ):
        return f"to be judged by {policy.judge}"
    return ""


# ---- what is said -------------------------------------------------------------------------------------------------


def said(policy: Policy) -> tuple[str, ...]:
    """What a plan says of judging beforehand."""
    if not policy.judge:
        return ()
    which = (
        "all benchmarks are"
        if policy.always
        else f"benchmarks with more than {percent(policy.threshold)} of answers that rules cannot read are"
    )
    return (f"{which} judged by {policy.judge}",)


def percent(rate: float) -> str:
    """Two digits after the point, never rounded across a threshold to 0 or 100."""
    shown = f"{100 * rate:.2f}"
    return "<0.01 %" if rate and shown == "0.00" else f"{shown} %"


def _unread(score: BenchmarkScore) -> str:
    share = rate(score)
    return (
        "share of unreadable answers unknown"
        if share is None
        else f"{percent(share)} of the answers not readable by rules"
    )


def by_rules(policy: Policy, score: BenchmarkScore) -> BenchmarkScore:
    """A score by rules with method, rate and what is still to be done about it: until a judge that is to read it has, it is not complete."""
    from ..results.scores import State

    if not policy.reads:
        return score
    note = f"{RULES}, {_unread(score)}"
    if policy.wants(rate(score)) and not policy.judge:
        note += f", above {percent(policy.threshold)}; not judged: {policy.why_none}"
    found = replace(
        score, method=RULES, by_method={RULES: score.reading}, notes=(*score.notes, note)
    )
    if policy.judge and policy.wants(rate(score)):
        found = replace(found, state=State.INCOMPLETE, reason=f"to be judged by {policy.judge}")
    return found


def judged(rules: BenchmarkScore, second: BenchmarkScore, judge: str) -> BenchmarkScore:
    """The judged score with both readings. ``rules`` is the plain score by rules, ``second`` what the judge's files say."""
    first = "none" if rules.reading.overall is None else f"{rules.reading.overall:.2f}"
    note = f"judged by {judge}, {_unread(rules)} ({first} by {RULES})"
    return replace(
        second,
        method=judge,
        by_method={RULES: rules.reading, judge: second.reading},
        notes=(*second.notes, note),
    )


def judged_alone(score: BenchmarkScore, judge: str) -> BenchmarkScore:
    """A judged score of a launch that scored nothing by rules."""
    return replace(
        score,
        method=judge,
        by_method={judge: score.reading},
        notes=(*score.notes, f"judged by {judge}"),
    )


def not_judged(rules: BenchmarkScore, judge: str, why: str) -> BenchmarkScore:
    """A score by rules that a judge should have read and did not: shown, and open until it is."""
    from ..results.scores import State

    reason = f"judging by {judge} failed: {why}"
    note = f"{RULES}, {_unread(rules)}; {reason}"
    return replace(
        rules,
        method=RULES,
        by_method={RULES: rules.reading},
        notes=(*rules.notes, note),
        state=State.INCOMPLETE,
        reason=reason,
    )
