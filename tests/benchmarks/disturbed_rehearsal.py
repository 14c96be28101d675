"""Whether rehearsals that are killed, hung and stopped at random end like an undisturbed one.

    .venv/bin/python tests/benchmarks/disturbed_rehearsal.py [--disturbances 50] [--seed 0]
        [--backend vlmevalkit lmms-eval]

The whole program with two workers, the rehearsal's data and its tiny model, which takes a second
longer per answer while there is something to disturb. At random moments a worker or the program
itself gets SIGKILL, a worker SIGSTOP (until its keeper takes it for hung), or a worker SIGTERM or
the program Ctrl-C. What ended is started again by the same command. A rehearsal that is over
before all disturbances happened is followed by another one.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

# the benchmarks are started as programs
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from program import Launch, Results, RunFolder, User, run_folder, run_folders, twice, wait_until

BACKENDS = ("vlmevalkit", "lmms-eval")
KINDS = ("killed", "hung", "stopped")
# Longer than an answer takes on a busy machine: a question over which two workers hung is failed.
HANG_SECONDS = "8"
SETTLED = 3  # answers after which a worker is taken for hung so soon
PATIENCE = 600.0  # seconds for anything that must come
SLOW = '''
"""Makes transformers' generate take a second longer for as long as this file exists."""

import functools, importlib.abc, importlib.util, pathlib, sys, time


class Slow(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name != "transformers.generation.utils":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        execute = spec.loader.exec_module

        def exec_module(module):
            execute(module)
            original = module.GenerationMixin.generate

            @functools.wraps(original)
            def generate(*args, **options):
                if pathlib.Path(__file__).exists():
                    time.sleep(1)
                return original(*args, **options)

            module.GenerationMixin.generate = generate

        spec.loader.exec_module = exec_module
        return spec


sys.meta_path.insert(0, Slow())
'''


@dataclass(frozen=True)
class Ended:
    """What a run ended with: state and score of each line, and the answers.

    Answers are by benchmark and item, scores by benchmark and part.
    """

    scores: dict[tuple[str, str], tuple[str, str]]
    answers: dict[tuple[str, str], str]
    twice: int = 0

    @classmethod
    def read(cls, results: Results, folder: RunFolder, keys: Sequence[str] = ()) -> Ended:
        """Of these benchmarks, or of all."""
        return cls(
            {
                place: (line["state"], line["score"])
                for place, line in results.table.items()
                if not keys or place[0] in keys
            },
            {
                (answer["benchmark"], answer["item"]): answer["text"]
                for answer in folder.answers
                if not keys or answer["benchmark"] in keys
            },
            len(twice(folder)),
        )


@dataclass
class Rehearsals:
    """Rehearsals of one backend below ``user.root``.

    Attributes:
        keys: The benchmarks; all that the rehearsal has if there are none.
        done: The disturbances so far.
        launches: How often the program was started.
        ended: What each disturbed rehearsal ended with.
    """

    user: User
    backend: str
    keys: Sequence[str] = ()
    done: Counter[str] = field(default_factory=Counter)
    launches: int = 0
    ended: list[Ended] = field(default_factory=list)

    def run(self, out: Path, pending: list[str], rng: random.Random) -> Ended:
        """One rehearsal, begun again until it is over; happened disturbances leave ``pending``."""
        slow = self.user.root / "slow" / "sitecustomize.py"
        slow.parent.mkdir(exist_ok=True)
        slow.write_text(SLOW)
        chosen = ("--benchmarks", ",".join(self.keys)) if self.keys else ("--include-extra",)
        options = ("--smoke", "--backend", self.backend, *chosen, "--output-dir", out)
        changes = {"PYTHONPATH": str(slow.parent), "EASI_HANG_SECONDS": HANG_SECONDS}
        for _ in range(len(pending) + 5):
            self.launches += 1
            with self.user.start(*options, "--nproc", 2, "--no-rich", **changes) as launch:
                while pending and self._answered(launch, out, rng.randint(1, 4)):
                    if self._disturb(launch, out, pending[-1], rng):
                        self.done[pending.pop()] += 1
                if not pending:
                    slow.unlink(missing_ok=True)
                launch.wait(PATIENCE)
            if launch.code == 0:
                break
        assert launch.code == 0, launch.said
        return Ended.read(Results(out), run_folder(out, self.backend), self.keys)

    def disturb(self, count: int, seed: int = 0) -> None:
        """So many disturbances, as many of each kind, over as many rehearsals as it takes."""
        rng = random.Random(seed)
        pending = [KINDS[number % len(KINDS)] for number in range(count)]
        rng.shuffle(pending)
        while pending:
            out = self.user.root / f"{self.backend}-disturbed-{len(self.ended)}"
            self.ended.append(self.run(out, pending, rng))

    def _answered(self, launch: Launch, out: Path, more: int) -> bool:
        """Wait for so many more answers; False if the launch ended."""
        before = self._known(out)
        while self._known(out) < before + more:
            if launch.process.poll() is not None:
                return False
            time.sleep(0.05)
        return True

    def _known(self, out: Path) -> int:
        return sum(len(folder.answers) for folder in run_folders(out, self.backend))

    def _disturb(self, launch: Launch, out: Path, kind: str, rng: random.Random) -> bool:
        """Disturb the launch; False if there is nothing now that this can be done to."""
        itself = kind != "hung" and rng.random() < 0.3
        workers = self._workers(launch, out, SETTLED if kind == "hung" else 1)
        if itself:
            workers = [launch.process.pid]
        if not workers:
            return False
        signum = {
            "killed": signal.SIGKILL,
            "hung": signal.SIGSTOP,
            "stopped": signal.SIGINT if itself else signal.SIGTERM,
        }[kind]
        victim = rng.choice(workers)
        try:
            os.kill(victim, signum)
        except ProcessLookupError:
            return False
        # Only over a question is a worker taken for hung; without one the others finish the run.
        if kind == "hung" and not self._asked(out, victim):
            os.kill(victim, signal.SIGCONT)
            return False
        wait_until(lambda: victim not in launch.alive(), PATIENCE)
        return True

    def _asked(self, out: Path, pid: int) -> bool:
        """Whether a worker that was stopped a moment ago holds a question."""
        time.sleep(0.5)  # what it sent before is in the journal then
        folder = run_folder(out, self.backend)
        *_, file = (one["file"] for one in folder.records("header") if one["pid"] == pid)
        leased = sum(len(one["keys"]) for one in folder.records("lease") if one["file"] == file)
        return leased > sum(one["file"] == file for one in folder.answers)

    def _workers(self, launch: Launch, out: Path, answers: int) -> list[int]:
        """Living workers of the launch that have answered at least so much."""
        folder, alive = run_folder(out, self.backend), launch.alive()
        told = Counter(answer["file"] for answer in folder.answers)
        return [
            header["pid"]
            for header in folder.records("header")
            if header["pid"] in alive and told[header["file"]] >= answers
        ]


def row(rehearsals: Rehearsals, quiet: Ended, minutes: float) -> str:
    """A row of the table."""
    scores = sum(
        one.scores.get(place) != line
        for one in rehearsals.ended
        for place, line in quiet.scores.items()
    )
    answers = sum(
        one.answers.get(key) != text
        for one in rehearsals.ended
        for key, text in quiet.answers.items()
    )
    kinds = ", ".join(f"{rehearsals.done[kind]} {kind}" for kind in KINDS)
    return (
        f"| {rehearsals.backend} | {sum(rehearsals.done.values())} ({kinds}) | "
        f"{len(rehearsals.ended)} | {rehearsals.launches} | {scores} of "
        f"{len(quiet.scores) * len(rehearsals.ended)} | {answers} of "
        f"{len(quiet.answers) * len(rehearsals.ended)} | "
        f"{sum(one.twice for one in rehearsals.ended)} | {minutes:.0f} |"
    )


HEADING = (
    "| backend | disturbances | rehearsals | launches | other scores | other answers | "
    "journalled twice | minutes |\n|---|---|---|---|---|---|---|---|"
)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--disturbances", type=int, default=50, help="over all backends")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--backend", nargs="+", default=list(BACKENDS), choices=BACKENDS)
    args = parser.parse_args()
    # what is started in the background ignores it otherwise
    signal.signal(signal.SIGINT, signal.default_int_handler)
    print(HEADING, flush=True)
    for backend in args.backend:
        with tempfile.TemporaryDirectory() as folder:
            rehearsals = Rehearsals(User(Path(folder)), backend)
            quiet = rehearsals.run(Path(folder) / "quiet", [], random.Random(args.seed))
            began, rehearsals.launches = time.monotonic(), 0
            rehearsals.disturb(args.disturbances // len(args.backend), args.seed)
            print(row(rehearsals, quiet, (time.monotonic() - began) / 60), flush=True)


if __name__ == "__main__":
    main()
