"""Score benchmarks again with a judge, while other benchmarks are still being answered.

The result by rules is accepted and on disk before a judge is asked, and it is kept beside the
judged result.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from ..backends.evidence import Evidence
from ..benchmarks import GROUPS, Benchmark
from ..core.atomic_files import read_json
from ..core.errors import EasiError
from ..core.log_lines import telling_line
from ..engine.processes.supervisor import Handle
from ..engine.scorer import remove_scored
from ..scores import extraction, judging
from ..scores.outputs import JUDGED
from .context import RunContext

EVERY = 60.0  # seconds between two progress messages
MEMBERS = tuple(group.members for group in GROUPS)


@dataclass
class JudgePass:
    """Judges the benchmarks of ``todo`` that the policy selects.

    A benchmark is judged as soon as all members of its group are scored by rules. Only one judging
    process runs at a time, because it alone may write the file of judges' answers.

    Attributes:
        context: The run; its policy says who judges, and which benchmarks.
        todo: The benchmarks of this run.
        rules: Accepted results by rules, by key, without notes about judging; it grows during the
            run.
        start: Starts a process that scores the given benchmarks with the judge.
        gather: Checks the files of a judged benchmark in a folder and returns the evidence.
        give: Called with a benchmark's new evidence and, if judging failed, the line of the log
            that shows the error.
        say: Called with progress messages.
    """

    context: RunContext
    todo: Sequence[Benchmark]
    rules: Mapping[str, Evidence]
    start: Callable[[Sequence[Benchmark]], Handle]
    gather: Callable[[Benchmark, Path], Evidence]
    give: Callable[[Benchmark, Evidence, str], None]
    say: Callable[[str], None]
    _tried: set[str] = field(default_factory=set)
    _judging: dict[str, Benchmark] = field(default_factory=dict)
    _process: Handle | None = None
    _reported: float = 0.0
    _answers_before: int = 0

    def tick(self, over: Collection[str]) -> bool:
        """Collect finished results and start the next process if one is due.

        Args:
            over: Keys of the benchmarks that have been decided (scored or failed).

        Returns:
            False if there is nothing to do at present.
        """
        if self._process is not None:
            self._collect()
            if self._process.poll() is None:
                self._say_progress()
                return True
            self._collect()
            line = telling_line(self._process.outcome().log_tail)
            for bench in self._judging.values():
                self._fail(bench, "the scorer ended without a result", line)
            self._process, self._judging = None, {}
        ready = self._ready(over)
        if ready:
            for bench in ready:
                remove_scored(self.context.paths.root, bench.key)
            self._tried.update(bench.key for bench in ready)
            self._judging = {bench.key: bench for bench in ready}
            self._process = self.start(ready)
            self._reported, self._answers_before = time.monotonic(), self._count()
        return bool(ready)

    def _count(self) -> int:
        """Return the number of judges' answers on file."""
        path = self.context.paths.judge_answers
        if not path.is_file():
            return 0
        with path.open("rb") as file:
            return sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))

    def _say_progress(self) -> None:
        if time.monotonic() - self._reported < EVERY:
            return
        self._reported = time.monotonic()
        judged = self._count() - self._answers_before
        self.say(
            f"{self.context.policy.judge} has judged {judged:,} answers of "
            f"{', '.join(bench.title for bench in self._judging.values())} so far"
        )

    def _ready(self, over: Collection[str]) -> list[Benchmark]:
        awaited = {bench.key for bench in self.todo}.difference(over)
        settled = [
            found.score
            for key, found in self.rules.items()
            if key in over and awaited.isdisjoint(judged_together(key))
        ]
        wanted = set(judging.to_judge(self.context.policy, settled, MEMBERS)) - self._tried
        return [bench for bench in self.todo if bench.key in wanted]

    def _collect(self) -> None:
        paths = self.context.paths
        for key, bench in list(self._judging.items()):
            scored, failed = paths.scored(key), paths.failed(key)
            if scored.is_dir():
                del self._judging[key]
                self._accept(bench, scored)
            elif failed.is_file():
                del self._judging[key]
                note = read_json(failed)
                self._fail(bench, str(note.get("error", "")) if isinstance(note, dict) else "")

    def _accept(self, bench: Benchmark, folder: Path) -> None:
        """Move the judged files beside those by rules and make the judged score the headline."""
        first, judge, final = (
            self.rules[bench.key],
            self.context.policy.judge,
            self.context.paths.output(bench.key),
        )
        try:
            second = self.gather(bench, folder)
            rows = [
                self.context.backend.rows(bench, out)
                for out in (
                    self.context.backend.outputs(bench, final),
                    self.context.backend.outputs(bench, folder, judge),
                )
            ]
            change = extraction.judge_changes(bench, bench.source(self.context.backend.name), *rows)
        except EasiError as error:
            return self._fail(bench, error.message)
        shutil.rmtree(final / JUDGED, ignore_errors=True)
        folder.rename(final / JUDGED)
        score = judging.judged(first.score, second.score, judge)
        self._keep(
            bench,
            replace(
                first,
                score=score,
                files={
                    **first.files,
                    **{f"{JUDGED}/{name}": sha for name, sha in second.files.items()},
                },
            ),
            change,
        )

    def _fail(self, bench: Benchmark, why: str, line: str = "") -> None:
        """Keep the score by rules and mark the benchmark INCOMPLETE until a judge has read it."""
        first = self.rules[bench.key]
        self._keep(
            bench,
            replace(first, score=judging.not_judged(first.score, self.context.policy.judge, why)),
            line=line,
        )

    def _keep(
        self,
        bench: Benchmark,
        evidence: Evidence,
        change: extraction.JudgeChanges | None = None,
        line: str = "",
    ) -> None:
        final = self.context.paths.output(bench.key)
        extraction.save_entry(
            final,
            extraction.make_entry(
                self.context.policy, self.rules[bench.key].score, evidence.score, change
            ),
        )
        evidence.save(final)
        self.give(bench, evidence, line)


def judged_together(key: str) -> tuple[str, ...]:
    """Return the benchmarks that are judged together with this one."""
    return next((members for members in MEMBERS if key in members), (key,))
