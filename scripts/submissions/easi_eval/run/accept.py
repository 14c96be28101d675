"""Accept the results of a benchmark: read them, check them, put them in place.

Exit codes of the processes do not decide. A benchmark is accepted if its files can be read and hold
every row of the dataset and a headline score.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from ..backends.completeness import gather
from ..backends.evidence import Evidence
from ..benchmarks import Benchmark
from ..core.errors import EasiError
from ..core.libraries import mixed
from ..core.run_folder import RunPaths
from ..engine.journal_state import JournalState
from ..engine.work import ItemList
from ..scores import extraction, judging
from ..scores.comparability import NOTE
from ..scores.score_table import sum_known
from .context import RunContext


@dataclass(frozen=True)
class Verdict:
    """The result for one benchmark.

    Attributes:
        key: The benchmark.
        evidence: Its numbers and file digests if it was accepted, else None.
        reason: Why it was not accepted.
        line: The most informative line of the log, for a benchmark that was not accepted.
    """

    key: str
    evidence: Evidence | None
    reason: str = ""
    line: str = ""


def put_in_place(evidence: Evidence, folder: Path, paths: RunPaths, key: str) -> None:
    """Save the evidence in ``folder`` and let the folder replace ``outputs/<key>``.

    A folder that is already in place stays there.
    """
    evidence.save(folder)
    final, old = paths.output(key), paths.old(key)
    if folder == final:
        return
    shutil.rmtree(old, ignore_errors=True)
    if final.exists():
        final.rename(old)
    folder.rename(final)
    shutil.rmtree(old, ignore_errors=True)


class Acceptance:
    """Accepts what the scorer and the backend's own launch leave.

    Attributes:
        rules: Evidence of each benchmark as scored by rules, before any judging.
    """

    def __init__(
        self,
        context: RunContext,
        fingerprints: Mapping[str, str],
        state: JournalState,
        made_before: Mapping[str, str],
    ) -> None:
        """Begin without any evidence.

        Args:
            context: The run.
            fingerprints: Fingerprint of each benchmark's settings.
            state: The answers, as of the last time that the journals were read.
            made_before: Library versions to assume for answers of workers that reported none.
        """
        self.rules: dict[str, Evidence] = {}
        self._context = context
        self._fingerprints = fingerprints
        self._state = state
        self._made_before = made_before

    def accept(self, bench: Benchmark, folder: Path) -> Verdict:
        """Check that ``folder`` is complete, then let it replace ``outputs/<key>``."""
        try:
            evidence = self._read(bench, folder)
        except EasiError as error:
            return Verdict(bench.key, None, error.message)
        put_in_place(evidence, folder, self._context.paths, bench.key)
        return Verdict(bench.key, evidence)

    def _read(self, bench: Benchmark, folder: Path) -> Evidence:
        """Read the results in ``folder``, with scoring method and rate of unreadable answers.

        Raises EasiError if they are not complete.
        """
        policy = self._context.policy
        # In a plain launch the backend itself asks the judge and may fall back to rules.
        if self._context.cfg.plain and policy.judge:
            try:
                found = self.gather(bench, folder, policy.judge)
                plain, score = (
                    replace(found.score, unparsed=None),
                    judging.judged_alone(found.score, policy.judge),
                )
            except EasiError as error:
                found = self.gather(bench, folder)
                plain, score = (
                    found.score,
                    judging.not_judged(found.score, policy.judge, error.message),
                )
        else:
            found = self.gather(bench, folder)
            plain, score = found.score, judging.by_rules(policy, found.score)
        self.rules[bench.key] = found
        if policy.reads:
            extraction.save_entry(folder, extraction.make_entry(policy, plain, score))
        return replace(found, score=score)

    def gather(self, bench: Benchmark, folder: Path, judge: str = "") -> Evidence:
        """Return the evidence of one benchmark's files, with a note if its answers are mixed.

        Raises:
            EasiError: The files are not complete.
        """
        context, state = self._context, self._state
        items = None if context.cfg.plain else ItemList.load(context.paths.root, bench.key)
        ids = items.ids if items else ()
        answers = [answer for item in ids if (answer := state.get((bench.key, item)))]
        fingerprint = self._fingerprints[bench.key]
        found = gather(
            context.cfg, context.backend, bench, folder, fingerprint, items, answers, judge
        )
        score = replace(
            found.score,
            seconds=state.answering_time(bench.key) if answers else None,
            tokens=sum_known(answer.tokens for answer in answers if answer.failure is None)
            if answers
            else None,
        )
        made = state.made_with(answer.key for answer in answers)
        differing = mixed([versions or self._made_before for versions in made])
        if differing:
            note = f"its answers were made under several versions: {'; '.join(differing)}"
            score = replace(score, notes=(*score.notes, note), comparable=NOTE)
        return replace(found, score=score)
