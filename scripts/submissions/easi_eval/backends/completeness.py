"""Whether a benchmark is complete: its files, rows and numbers fit each other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..benchmarks import Benchmark, by_key
from ..config import RULES, RunConfig
from ..core.atomic_files import read_json
from ..core.errors import EasiError
from ..engine.journal import Answer
from ..engine.work import ItemList, tolerable
from ..scores.outputs import JUDGED
from ..scores.score_table import Reading, State
from ..scores.scorer_notes import NOTES_FILE
from .base import Reader
from .evidence import Evidence, digests
from .shared.stop_strings import shown

if TYPE_CHECKING:
    import pandas as pd

    from ..scores.outputs import Outputs

AGAIN = "run the same command again"
DIFFERS = (
    "the backend's files contradict each other: run this benchmark again with --rerun; "
    "if that does not help, report it"
)


def gather(
    cfg: RunConfig,
    reader: Reader,
    bench: Benchmark,
    folder: Path,
    fingerprint: str,
    items: ItemList | None,
    answers: Iterable[Answer],
    judge: str = "",
) -> Evidence:
    """Read a scorer's output in ``folder`` and check that it is complete.

    The rows must be exactly the questions that were asked, and all of the dataset without
    ``--limit``. The backend's numbers must equal those recomputed from the rows. If questions
    failed, the recomputed numbers are used, with a score of 0 for each failed question.

    Args:
        cfg: The run.
        reader: Reads the files of the backend that wrote them.
        bench: The benchmark.
        folder: Folder with the files.
        fingerprint: Fingerprint of the benchmark's settings.
        items: The questions that were asked; None for ``--plain``, where the backend leaves no
            list.
        answers: The journal's answers.
        judge: Accept only files made with this judge, because a backend may silently fall back to
            rules.

    Raises:
        EasiError: A file, a number or rows are missing, or two numbers differ; the message names
            them.
    """
    from ..scores.intervals import with_intervals
    from ..scores.recompute import recompute
    from ..scores.rows import summarise
    from .canaries import warnings

    out = reader.outputs(bench, folder, judge)
    rows = reader.rows(bench, out)
    reading = checked(reader, bench, out, rows)
    if reading.overall is None and cfg.limit is None:
        raise EasiError(
            f"{bench.title} has no score: {reading.why_missing.get('', 'not in the aggregate')}",
            hint="the log says why",
        )
    if items is not None and sorted(rows["item"]) != sorted(items.ids):
        raise EasiError(
            f"{bench.title} has rows for {len(rows)} questions, "
            f"which are not the {len(items.ids)} that were asked",
            hint=AGAIN,
        )
    total = items.total if items is not None else reader.total(cfg, bench, out)
    if cfg.limit is None and len(rows) != total:
        raise EasiError(f"{bench.title} has {len(rows)} questions of {total}", hint=AGAIN)
    failed = int(rows["failed"].sum())
    if not tolerable(failed, len(rows)):
        raise EasiError(f"{failed} of {len(rows)} questions of {bench.title} failed", hint=AGAIN)
    answers = list(answers)
    finishes = [answer.finish for answer in answers]
    cut = Counter(answer.cut for answer in answers if answer.cut)
    scorer_notes = _scorer_notes(folder)
    notes = (*_failures(scorer_notes, len(rows)), *_cuts(cut, len(rows)))
    # Under --limit: lmms-eval cannot aggregate VSI-Bench unless every question type was asked.
    if reading.overall is None:
        reading = recompute(bench, bench.source(reader.name, out.task), rows)
        notes = (
            *notes,
            "the backend gives no score for so few questions; this is the mean over the question "
            "types that were asked",
        )
    score = summarise(
        bench,
        reading,
        rows,
        total=total,
        state=State.PARTIAL if cfg.limit is not None else State.COMPLETE,
        reason=f"--limit {cfg.limit}" if cfg.limit is not None else "",
        truncated=finishes.count("length") if finishes and None not in finishes else None,
        coin_flips=scorer_notes.get("coin_flips"),
        notes=notes,
    )
    score = with_intervals(score, bench, bench.source(reader.name, out.task), rows)
    score = replace(
        reader.annotate(cfg, bench, out, rows, score, scorer_notes),
        cut=cut.total(),
        warnings=warnings(bench, rows, answers),
    )
    return Evidence(fingerprint, score, digests(folder, out.files), cfg.limit)


def supplemented(cfg: RunConfig, reader: Reader, evidence: Evidence, folder: Path) -> Evidence:
    """Return the evidence of an earlier version with intervals, from its files in ``folder``."""
    from ..scores.intervals import with_intervals

    score, bench = evidence.score, by_key(evidence.score.key)
    judged = (folder / JUDGED).is_dir() and score.method != RULES
    where, judge = (folder / JUDGED, score.method) if judged else (folder, "")
    out = reader.outputs(bench, where, judge)
    rows = reader.rows(bench, out)
    made = with_intervals(score, bench, bench.source(reader.name, out.task), rows)
    made = reader.annotate(cfg, bench, out, rows, made, {})  # corrects the scores of questions
    score = replace(score, intervals=made.intervals, draws=made.draws)
    return replace(evidence, score=score)


def checked(reader: Reader, bench: Benchmark, out: Outputs, rows: pd.DataFrame) -> Reading:
    """Return the backend's scores of the answered questions, verified against the rows.

    If some questions failed, the scores are recomputed from all rows instead.

    Raises:
        EasiError: A score does not follow from the rows.
    """
    from ..scores.recompute import disagreement, filled, recompute, wrong_scores

    source = bench.source(reader.name, out.task)
    wrong = wrong_scores(rows)
    if wrong:
        item, score, right = wrong[0]
        raise EasiError(
            f"{bench.title}: question {item} is scored {score:g}, "
            f"its parsed answer gives {right:g}",
            hint=DIFFERS,
        )
    answered = rows[~rows["failed"]]
    own = recompute(bench, source, answered)
    found = reader.read(bench, out, answered) if out.scores else own
    said = disagreement(source, own, found)
    if said:
        raise EasiError(f"{bench.title}: {said}", hint=DIFFERS)
    return filled(found, own) if len(answered) == len(rows) else recompute(bench, source, rows)


def _failures(scorer_notes: Mapping[str, Any], total: int) -> tuple[str, ...]:
    failed = scorer_notes.get("failed") or ()
    if not failed:
        return ()
    return (
        f"{len(failed)} of {total} questions failed and count as wrong; the first: "
        f"{' '.join(str(failed[0]['reason']).split())}",
    )


def _cuts(cut: Mapping[str, int], total: int) -> tuple[str, ...]:
    """Return the note on truncated answers; ``cut`` counts them by the stop string."""
    if not cut:
        return ()
    where = shown(next(iter(cut))) if len(cut) == 1 else "various places"
    return (
        f"{sum(cut.values())} of {total} answers were cut by the model class at {where}: the rest "
        f"of the text is lost",
    )


def _scorer_notes(folder: Path) -> dict[str, Any]:
    """Return what the scorer recorded beside the backend's files; empty under ``--plain``.

    An example is ``coin_flips``, the number of random letters drawn for unreadable answers.
    """
    path = folder / NOTES_FILE
    notes = read_json(path) if path.exists() else {}
    return notes if isinstance(notes, dict) else {}
