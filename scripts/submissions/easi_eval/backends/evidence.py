"""The evidence that a benchmark is complete: its numbers and the digests of its files.

It is stored as ``evidence.json`` beside those files.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..benchmarks import Benchmark
from ..config import RunConfig
from ..core.atomic_files import file_digest, read_json, write_json
from ..core.errors import EasiError
from ..engine.journal import Answer
from ..engine.work import ItemList, tolerable
from ..scores.score_table import BenchmarkScore, Pool, Reading, State
from ..scores.scorer_notes import NOTES_FILE
from .base import Reader
from .shared.stop_strings import shown

if TYPE_CHECKING:
    import pandas as pd

    from ..scores.outputs import Outputs

SCHEMA = 2
EVIDENCE_FILE = "evidence.json"
AGAIN = "run the same command again"
DIFFERS = (
    "the backend's files contradict each other: run this benchmark again with --rerun; "
    "if that does not help, report it"
)


@dataclass(frozen=True)
class Evidence:
    """What ``outputs/<key>/`` was accepted on.

    Attributes:
        fingerprint: Fingerprint of the settings it was made under.
        score: Its numbers.
        files: SHA-256 (hexadecimal) by path relative to the folder.
        limit: Value of ``--limit``; None for all questions.
        adopted: Name of the folder it was imported from; empty for results of this program.
        schema: Version of the file format.
    """

    fingerprint: str
    score: BenchmarkScore
    files: Mapping[str, str]
    limit: int | None = None
    adopted: str = ""
    schema: int = SCHEMA

    def save(self, folder: Path) -> None:
        """Write ``evidence.json`` into ``folder``."""
        write_json(folder / EVIDENCE_FILE, asdict(self))

    @classmethod
    def load(cls, folder: Path) -> Evidence | None:
        """Load ``evidence.json`` from ``folder``.

        Returns:
            None if there is none, if it has another schema, or if one of the files has changed
            since.
        """
        path = folder / EVIDENCE_FILE
        if not path.exists():
            return None
        data = read_json(path)
        if not isinstance(data, dict) or data.get("schema") != SCHEMA:
            return None
        score = data["score"]
        found = cls(
            data["fingerprint"],
            BenchmarkScore(
                **{
                    **score,
                    "reading": Reading(**score["reading"]),
                    "state": State(score["state"]),
                    "pools": {name: Pool(**pool) for name, pool in score["pools"].items()},
                    "by_method": {
                        name: Reading(**each) for name, each in score["by_method"].items()
                    },
                    "notes": tuple(score["notes"]),
                    "warnings": tuple(score.get("warnings", ())),
                }
            ),
            data["files"],
            data["limit"],
            data.get("adopted", ""),
        )
        return (
            found
            if found.files == _digests(folder, [folder / name for name in found.files])
            else None
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
            "the backend gives no score for so few questions; "
            "this one is the mean over the kinds that were asked",
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
    score = replace(
        reader.annotate(cfg, bench, out, rows, score, scorer_notes),
        cut=cut.total(),
        warnings=warnings(bench, rows, answers),
    )
    return Evidence(fingerprint, score, _digests(folder, out.files), cfg.limit)


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
            f"what was read from its answer gives {right:g}",
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
        f"{sum(cut.values())} of {total} answers were cut by the model class at {where}: "
        "what the model wrote after it is lost",
    )


def _scorer_notes(folder: Path) -> dict[str, Any]:
    """Return what the scorer recorded beside the backend's files; empty under ``--plain``.

    An example is ``coin_flips``, the number of random letters drawn for unreadable answers.
    """
    path = folder / NOTES_FILE
    notes = read_json(path) if path.exists() else {}
    return notes if isinstance(notes, dict) else {}


def _digests(folder: Path, files: Iterable[Path]) -> dict[str, str]:
    """Return the SHA-256 of each file; empty for a missing one."""
    found = {}
    for path in files:
        name = path.relative_to(folder).as_posix()
        if not path.is_file():
            found[name] = ""
            continue
        stat = path.stat()
        found[name] = _digest(path, stat.st_ino, stat.st_size, stat.st_mtime_ns)
    return found


@functools.cache
def _digest(path: Path, *identity: int) -> str:
    """Return the SHA-256 of a file, cached by its inode, size and time of change.

    One run checks the same files up to four times, hundreds of megabytes of them.
    """
    return file_digest(path)
