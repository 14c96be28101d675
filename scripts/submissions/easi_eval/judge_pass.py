"""The second reading: what was scored by rules is scored again by the backend with a judge, while others are still answered.

The result by rules is accepted and on disk before a judge is asked, and stays beside the judged one.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from . import judging
from .benchmarks import GROUPS, Benchmark
from .execution.supervisor import Handle
from .judging import Policy
from .results.report import telling_line
from .results.scores import BenchmarkScore
from .state import read_json

MEMBERS = tuple(group.members for group in GROUPS)


@dataclass
class JudgePass:
    """Judges the benchmarks of ``todo`` that the policy wants judged, as soon as all of their group were scored by rules.

    ``start`` begins one process for some of them; ``accept`` is given the folder that it left for one, ``refuse`` the reason
    (and the log's telling line) where it left none. One process at a time: it alone writes the judges' memory.
    """

    policy: Policy
    todo: Sequence[Benchmark]
    outputs: Path
    start: Callable[[Sequence[Benchmark]], Handle]
    accept: Callable[[Benchmark, Path], None]
    refuse: Callable[[Benchmark, str, str], None]
    _tried: set[str] = field(default_factory=set)
    _under: dict[str, Benchmark] = field(default_factory=dict)
    _process: Handle | None = None

    def tick(self, scored: Mapping[str, BenchmarkScore | None]) -> bool:
        """Go on; ``scored``: the plain score by rules of what has a verdict, None where there is none. False if nothing is left to do now."""
        if self._process is not None:
            self._collect()
            if self._process.poll() is None:
                return True
            self._collect()
            line = telling_line(self._process.outcome().log_tail)
            for bench in self._under.values():
                self.refuse(bench, "the scorer ended without a result", line)
            self._process, self._under = None, {}
        ready = self._ready(scored)
        if not ready:
            return False
        for bench in ready:
            for kind in ("scoring", "scored"):
                shutil.rmtree(self.outputs / f".{bench.key}.{kind}", ignore_errors=True)
            (self.outputs / f".{bench.key}.failed.json").unlink(missing_ok=True)
        self._tried.update(bench.key for bench in ready)
        self._under = {bench.key: bench for bench in ready}
        self._process = self.start(ready)
        return True

    def _ready(self, scored: Mapping[str, BenchmarkScore | None]) -> list[Benchmark]:
        awaited = {bench.key for bench in self.todo} - scored.keys()
        settled = [score for key, score in scored.items() if score is not None and awaited.isdisjoint(alike(key))]
        wanted = set(judging.to_judge(self.policy, settled, MEMBERS)) - self._tried
        return [bench for bench in self.todo if bench.key in wanted]

    def _collect(self) -> None:
        for key, bench in list(self._under.items()):
            folder, failed = self.outputs / f".{key}.scored", self.outputs / f".{key}.failed.json"
            if folder.is_dir():
                del self._under[key]
                self.accept(bench, folder)
            elif failed.is_file():
                del self._under[key]
                note = read_json(failed)
                self.refuse(bench, str(note.get("error", "")) if isinstance(note, dict) else "", "")


def alike(key: str) -> tuple[str, ...]:
    """The benchmarks that are judged if this one is."""
    return next((members for members in MEMBERS if key in members), (key,))
