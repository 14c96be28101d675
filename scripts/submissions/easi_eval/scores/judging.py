"""Decide whether answers are read by the backend's rules or by a judge model.

This module only decides; ``run/judge_pass.py`` runs the judge. Only VLMEvalKit has judges.

By default a benchmark is scored by rules and judged again, as a whole, if the rules could not read
more than 2.5 % of its answers. The original program of the leaderboard did the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ..config import DEFAULT_THRESHOLD, RULES
from ..core.errors import EasiError

if TYPE_CHECKING:
    from ..config import RunConfig
    from .score_table import BenchmarkScore

BY_RULES = (RULES, "extract_matching")  # VLMEvalKit has two names for its rules
DEFAULT_JUDGE = "gpt-4o-1120"
VARIABLE = "EASI_JUDGE"  # environment variable that replaces the default judge
# Judges for which VLMEvalKit does not use OPENAI_API_BASE (dataset/utils/judge_util.py,
# build_judge).
ELSEWHERE = ("qwen-7b", "qwen-72b", "deepseek", "llama31-8b")
LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True)
class Policy:
    """Who reads the answers.

    Attributes:
        judge: The judge model; "" if no judge is asked.
        always: Judge every benchmark, whatever its share of unreadable answers.
        threshold: Share of unreadable answers (0-1) above which a benchmark is judged.
        reads: False on a backend without a choice; then no method is reported.
        named: The user chose the method, so the share of unreadable answers does not matter.
        why_none: Why no judge is asked, for users.
    """

    judge: str = ""
    always: bool = False
    threshold: float = DEFAULT_THRESHOLD
    reads: bool = True
    named: bool = False
    why_none: str = ""

    def wants(self, rate: float | None) -> bool:
        """Return whether a benchmark with this share of unreadable answers is to be judged.

        Whether a judge is available is not considered.
        """
        return self.always or (not self.named and rate is not None and rate > self.threshold)


def policy(cfg: RunConfig, environ: Mapping[str, str]) -> Policy:
    """Return the policy that the options and the environment ask for.

    A key in OPENAI_API_KEY is enough to enable the default judge, because its address has a
    default.
    """
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
    """Check the judge's settings before a run.

    Raises:
        EasiError: The judge cannot be asked, or VLMEvalKit would ask another model than the one
            named.
    """
    if cfg.judge in BY_RULES:
        return
    if cfg.judge and not environ.get("OPENAI_API_KEY"):
        raise EasiError(
            f"--judge {cfg.judge} needs OPENAI_API_KEY; without it VLMEvalKit would silently "
            "score by rules",
            hint="set OPENAI_API_KEY and OPENAI_API_BASE in the environment or in .env, "
            f"or use --judge {RULES}",
        )
    judge = policy(cfg, environ).judge
    if judge in ELSEWHERE:
        raise EasiError(
            f"the judge {judge} is VLMEvalKit's name for another service than that of "
            f"OPENAI_API_BASE",
            hint="use your endpoint's name for the model",
        )
    # With LOCAL_LLM, files named after one judge would hold the verdicts of another.
    if judge and (other := environ.get("LOCAL_LLM")):
        raise EasiError(
            f"LOCAL_LLM is set: VLMEvalKit would ask {other} and call it {judge}",
            hint=f"unset LOCAL_LLM, and use --judge {other}",
        )


def judge_is_required(cfg: RunConfig, environ: Mapping[str, str]) -> bool:
    """Return whether a judge was configured on purpose, so that an unreachable one stops the run.

    OPENAI_API_KEY alone may be set for other programs. In that case answers are read by rules, and
    the run reports this.
    """
    return bool(
        cfg.judge or environ.get("OPENAI_API_BASE", "").strip() or environ.get(VARIABLE, "").strip()
    )


def settings(cfg: RunConfig, environ: Mapping[str, str]) -> dict[str, object]:
    """Return the part of a benchmark's settings that says how answers are read.

    Changing it does not require new answers.
    """
    if cfg.judge:
        return {"judge": RULES if cfg.judge in BY_RULES else cfg.judge}
    return {
        "judge": "above the extraction threshold",
        "judge model": environ.get(VARIABLE, "").strip() or DEFAULT_JUDGE,
        "extraction threshold": cfg.extraction_threshold,
    }


# ---- what is judged


def rate(score: BenchmarkScore) -> float | None:
    """Return the share (0-1) of answers that the rules could not read, for a score by rules.

    Failed questions have no answer and are not counted. None if the files do not tell.
    """
    answers = score.n - score.failed
    return score.unparsed / answers if answers and score.unparsed is not None else None


def to_judge(
    policy: Policy, scores: Iterable[BenchmarkScore], groups: Sequence[Sequence[str]]
) -> tuple[str, ...]:
    """Return the keys of those benchmarks, all scored by rules, that are to be judged.

    All members of a group are judged if one of them is above the threshold: readings by different
    methods cannot be pooled. The pooled share is not used, because scoring the second half of SITE
    later could then take back the decision for the first.

    Args:
        policy: Who reads the answers.
        scores: Scores by rules.
        groups: The keys of the members of each group.
    """
    if not policy.judge:
        return ()
    listed = list(scores)
    wanted = {score.key for score in listed if policy.wants(rate(score))}
    for members in groups:
        if wanted.intersection(members):
            wanted.update(members)
    return tuple(score.key for score in listed if score.key in wanted)


def why_rejudge(policy: Policy, score: BenchmarkScore) -> str:
    """Return why a finished benchmark is to be judged after all, "" if it is not."""
    from .score_table import State

    # One half of SITE may be INCOMPLETE only because the other half is above the threshold.
    if (
        policy.judge
        and score.method == RULES
        and (policy.wants(rate(score)) or score.state is State.INCOMPLETE)
    ):
        return f"to be judged by {policy.judge}"
    return ""


# ---- notes and states


def plan_lines(policy: Policy) -> tuple[str, ...]:
    """Return the lines about judging for the plan that is shown before a run."""
    if not policy.judge:
        return ()
    which = (
        "all benchmarks are"
        if policy.always
        else (f"benchmarks with more than {percent(policy.threshold)} unparsed answers are")
    )
    return (f"{which} judged by {policy.judge}",)


def percent(rate: float) -> str:
    """Return a share (0-1) as a percentage with two decimals.

    Shares that would be rounded to 0 are shown as ``<0.01 %``.
    """
    shown = f"{100 * rate:.2f}"
    return "<0.01 %" if rate and shown == "0.00" else f"{shown} %"


def _unread(score: BenchmarkScore) -> str:
    share = rate(score)
    return (
        "share of unparsed answers unknown"
        if share is None
        else f"{percent(share)} of answers could not be parsed"
    )


def by_rules(policy: Policy, score: BenchmarkScore) -> BenchmarkScore:
    """Return a score by rules with its method and a note about unreadable answers.

    If a judge is still to read the benchmark, its state is INCOMPLETE.
    """
    from .score_table import State

    if not policy.reads:
        return score
    note = f"scored by rules; {_unread(score)}"
    if policy.wants(rate(score)) and not policy.judge:
        note += f", above {percent(policy.threshold)}; not judged: {policy.why_none}"
    found = replace(
        score, method=RULES, by_method={RULES: score.reading}, notes=(*score.notes, note)
    )
    if policy.judge and policy.wants(rate(score)):
        found = replace(found, state=State.INCOMPLETE, reason=f"to be judged by {policy.judge}")
    return found


def judged(rules: BenchmarkScore, second: BenchmarkScore, judge: str) -> BenchmarkScore:
    """Return the judged score with both readings.

    Args:
        rules: The score by rules, as it was before any note about judging.
        second: The score from the judge's files.
        judge: Name of the judge.
    """
    first = "none" if rules.reading.overall is None else f"{rules.reading.overall:.2f}"
    note = f"judged by {judge}; score by rules: {first}, {_unread(rules)}"
    return replace(
        second,
        method=judge,
        by_method={RULES: rules.reading, judge: second.reading},
        notes=(*second.notes, note),
    )


def judged_alone(score: BenchmarkScore, judge: str) -> BenchmarkScore:
    """Return a judged score of a launch that scored nothing by rules."""
    return replace(
        score,
        method=judge,
        by_method={judge: score.reading},
        notes=(*score.notes, f"judged by {judge}"),
    )


def not_judged(rules: BenchmarkScore, judge: str, why: str) -> BenchmarkScore:
    """Return a score by rules whose judging failed.

    The score is shown, but its state is INCOMPLETE until a judge has read the answers.
    """
    from .score_table import State

    reason = f"judging by {judge} failed: {why}"
    note = f"scored by rules; {_unread(rules)}; {reason}"
    return replace(
        rules,
        method=RULES,
        by_method={RULES: rules.reading},
        notes=(*rules.notes, note),
        state=State.INCOMPLETE,
        reason=reason,
    )
