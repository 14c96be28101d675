"""The second reading: what was scored by rules is scored again by the backend with a judge, while others are still answered.

The result by rules is accepted and on disk before a judge is asked, and stays beside the judged one.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from .. import judging
from ..backends.base import Backend
from ..benchmarks import GROUPS, Benchmark
from ..errors import EasiError
from ..evidence import Evidence
from ..execution.supervisor import Handle
from ..results import extraction
from ..results.outputs import JUDGED
from ..results.report import telling_line
from ..state import RunPaths, read_json
from . import Policy

EVERY = 60.0  # seconds between two words on how far a judge is
MEMBERS = tuple(group.members for group in GROUPS)


@dataclass
class JudgePass:
    """Judges the benchmarks of ``todo`` that the policy wants judged, as soon as all of their group were scored by rules.

    ``rules``: what was accepted by rules, by key, before anything was said of judging; it grows meanwhile. ``start`` begins one
    process that scores some of them with the judge, ``gather`` proves complete what it left in a folder, ``give`` is told the
    new evidence of one, with the log's telling line where judging failed; ``say`` hears now and then how far it is. One process at
    a time: it alone writes the judges' memory.
    """

    policy: Policy
    backend: Backend
    todo: Sequence[Benchmark]
    paths: RunPaths
    rules: Mapping[str, Evidence]
    start: Callable[[Sequence[Benchmark]], Handle]
    gather: Callable[[Benchmark, Path], Evidence]
    give: Callable[[Benchmark, Evidence, str], None]
    say: Callable[[str], None]
    _tried: set[str] = field(default_factory=set)
    _under: dict[str, Benchmark] = field(default_factory=dict)
    _process: Handle | None = None
    _said: float = 0.0
    _kept: int = 0

    def tick(self, over: Collection[str]) -> bool:
        """Go on; ``over``: the keys that have a verdict. False if there is nothing to do now."""
        if self._process is not None:
            self._collect()
            if self._process.poll() is None:
                self._say_progress()
                return True
            self._collect()
            line = telling_line(self._process.outcome().log_tail)
            for bench in self._under.values():
                self._fail(bench, "the scorer ended without a result", line)
            self._process, self._under = None, {}
        ready = self._ready(over)
        if ready:
            for bench in ready:
                self._clear(bench.key)
            self._tried.update(bench.key for bench in ready)
            self._under = {bench.key: bench for bench in ready}
            self._process = self.start(ready)
            self._said, self._kept = time.monotonic(), self._count()
        return bool(ready)

    def _count(self) -> int:
        """How many answers the judges' memory holds."""
        path = self.paths.root / judging.ANSWERS_FILE
        if not path.is_file():
            return 0
        with path.open("rb") as file:
            return sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))

    def _say_progress(self) -> None:
        if time.monotonic() - self._said < EVERY:
            return
        self._said = time.monotonic()
        self.say(
            f"{self.policy.judge} has judged {self._count() - self._kept:,} answers of {', '.join(bench.title for bench in self._under.values())} so far"
        )

    def _ready(self, over: Collection[str]) -> list[Benchmark]:
        awaited = {bench.key for bench in self.todo}.difference(over)
        settled = [
            found.score
            for key, found in self.rules.items()
            if key in over and awaited.isdisjoint(alike(key))
        ]
        wanted = set(judging.to_judge(self.policy, settled, MEMBERS)) - self._tried
        return [bench for bench in self.todo if bench.key in wanted]

    def _places(self, key: str) -> tuple[Path, Path, Path]:
        """Where a scorer leaves one benchmark: under way, done, or why not (see ``answering/scorer.py``)."""
        return tuple(
            self.paths.outputs / f".{key}.{kind}" for kind in ("scoring", "scored", "failed.json")
        )  # type: ignore[return-value]

    def _clear(self, key: str) -> None:
        scoring, scored, failed = self._places(key)
        shutil.rmtree(scoring, ignore_errors=True)
        shutil.rmtree(scored, ignore_errors=True)
        failed.unlink(missing_ok=True)

    def _collect(self) -> None:
        for key, bench in list(self._under.items()):
            _, scored, failed = self._places(key)
            if scored.is_dir():
                del self._under[key]
                self._accept(bench, scored)
            elif failed.is_file():
                del self._under[key]
                note = read_json(failed)
                self._fail(bench, str(note.get("error", "")) if isinstance(note, dict) else "")

    def _accept(self, bench: Benchmark, folder: Path) -> None:
        """Put what the judge's scorer left beside what is by rules; the judged score takes its place."""
        first, judge, final = self.rules[bench.key], self.policy.judge, self.paths.output(bench.key)
        try:
            second = self.gather(bench, folder)
            rows = [
                self.backend.rows(bench, out)
                for out in (
                    self.backend.outputs(bench, final),
                    self.backend.outputs(bench, folder, judge),
                )
            ]
            change = extraction.moved(bench, bench.source(self.backend.name), *rows)
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
        """The result by rules stays, open until a judge has read it."""
        first = self.rules[bench.key]
        self._keep(
            bench,
            replace(first, score=judging.not_judged(first.score, self.policy.judge, why)),
            line=line,
        )

    def _keep(
        self,
        bench: Benchmark,
        evidence: Evidence,
        change: extraction.Moved | None = None,
        line: str = "",
    ) -> None:
        final = self.paths.output(bench.key)
        extraction.save_entry(
            final,
            extraction.entry(self.policy, self.rules[bench.key].score, evidence.score, change),
        )
        evidence.save(final)
        self.give(bench, evidence, line)


def alike(key: str) -> tuple[str, ...]:
    """The benchmarks that are judged if this one is."""
    return next((members for members in MEMBERS if key in members), (key,))
