"""Collect the scores of a run from its folder, and tell what is still missing."""

from __future__ import annotations

from ..backends.completeness import supplemented
from ..backends.evidence import Evidence
from ..benchmarks import ALL_KEYS, GROUPS
from ..config import RunConfig
from ..core.manifest import Manifest
from ..scores.score_table import BenchmarkScore, ScoreTable, State, missing
from .context import RunContext


def collect(context: RunContext, manifest: Manifest) -> ScoreTable:
    """Return the scores of all benchmarks in the run folder, not only of the selected ones.

    A later run for fewer benchmarks therefore removes nothing from the result files.
    """
    rows = [row for key in ALL_KEYS if (row := _row(context, manifest, key)) is not None]
    started = [launch["started"] for launch in manifest.launches if "started" in launch]
    return ScoreTable(
        tuple(rows),
        context.model.name,
        context.backend.name,
        context.run.identity,
        manifest.versions,
        started[-1] if started else "",
        context.cfg.smoke,
    )


def _row(context: RunContext, manifest: Manifest, key: str) -> BenchmarkScore | None:
    state = manifest.benchmarks.get(key)
    if state is None:
        return None
    evidence = Evidence.load(context.paths.output(key))
    if evidence is not None and evidence.fingerprint == state.fingerprint:
        return context.compare(evidence.score, state.settings)
    return missing(
        key, state.reason or "not finished", State.FAILED if state.reason else State.INCOMPLETE
    )


def complete_evidence(context: RunContext, manifest: Manifest) -> None:
    """Add what a later start reads: intervals that an earlier version left out, times of files."""
    for key in manifest.benchmarks:
        folder = context.paths.output(key)
        evidence = Evidence.load(folder)
        if evidence is None:
            continue
        made = evidence
        if evidence.score.n and not evidence.score.intervals:
            made = supplemented(context.cfg, context.backend, evidence, folder)
        made = made.with_seen(folder)
        if made != evidence:
            made.save(folder)


def is_finished(cfg: RunConfig, scores: ScoreTable) -> bool:
    """Return whether all that was asked for is complete; under ``--limit``, as far as asked."""
    wanted = (State.COMPLETE, State.PARTIAL) if cfg.limit is not None else (State.COMPLETE,)
    rows = {row.key: row.state for row in (*scores.rows, *scores.headlines)}
    asked = {bench.key for bench in cfg.selected}
    groups = {group.key for group in GROUPS if asked.issuperset(group.members)}
    return all(rows.get(key) in wanted for key in (*asked, *groups))


def submission_note(cfg: RunConfig, scores: ScoreTable) -> tuple[str, ...]:
    """Return a note if ``--submit`` will lack benchmarks that are neither selected nor done.

    It is shown at the start, before hours of evaluation are spent.
    """
    asked = {bench.key for bench in cfg.selected}
    never = [key for key in scores.lacking() if key not in asked] if cfg.submit else []
    if not never:
        return ()
    return (f"--submit will send nothing at the end: it also needs {', '.join(never)}",)
