"""Measure what random kills cost: answers generated over distinct answers.

Runs under torchrun with our keepers.

    .venv/bin/python tests/benchmarks/repeated_work.py [--kills 50] [--workers 4] [--seconds 0.1]

SIGKILL is sent at random moments to one worker, one keeper (torchrun then ends all ranks) or
everything at once; whatever ends is started again, as the program does. The score of the answers is
compared with that of an undisturbed run.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

from easi_eval.core.run_folder import RunPaths
from easi_eval.engine.dispatch_server import DispatchServer
from easi_eval.engine.journal import Answer, Header, Tail
from easi_eval.engine.journal_state import JournalState
from easi_eval.engine.processes.launchers import free_port, torchrun
from easi_eval.engine.work import Assignment, Work

MARK = "EASI_BENCHMARK_MARK"
COUNT = 400
WORK = Work(tuple(Assignment(key, key) for key in ("a", "b", "c")), seed=3)

RANK = """
import os, sys
from pathlib import Path
from easi_eval.engine.processes.keeper import keep
root = Path(sys.argv[1])
(root / f"keeper.{os.environ['RANK']}").write_text(str(os.getpid()))
sys.exit(keep([sys.executable, str(root / "worker.py"), *sys.argv[1:]], root, pause=0.05, restarts=1000))
"""  # noqa: E501 -- lines of a program in a string

WORKER = """
import os, random, sys, time
from pathlib import Path
from easi_eval.engine.work import Item, Work
from easi_eval.engine.generation import Generation
from easi_eval.engine.worker import work_loop

root, seconds, count = Path(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])
asked, ended = (os.open(root / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND) for name in ("asked", "ended"))

def answer(items):
    lines = [f"{item.benchmark} {item.id}\\n".encode() for item in items]
    for line in lines: os.write(asked, line)
    time.sleep(seconds * len(items))
    for line in lines: os.write(ended, line)
    return [Generation(random.choice("ABCD")) for _ in items]

work = Work.load(root)
items = {one.key: [Item(one.key, str(number), cost=1.0 + number % 5) for number in range(count)] for one in work.benchmarks}
work_loop(root, work, items, answer)
"""  # noqa: E501 -- lines of a program in a string


@dataclass(frozen=True)
class Measured:
    """What a run cost.

    Attributes:
        ended: How many questions were generated to the end.
        allowed: Questions that were in the hands of what was killed, at most.
    """

    kills: Counter[str]
    generated: int
    ended: int
    distinct: int
    journaled_twice: int
    allowed: int
    score: float
    seconds: float


class Run:
    """One run folder and its launches."""

    def __init__(self, root: Path, workers: int, seconds: float, count: int) -> None:
        self.root, self.workers = root, workers
        self.options = [str(seconds), str(count)]
        self.mark = uuid.uuid4().hex
        self.launches = 0
        self.process: subprocess.Popen[bytes] | None = None
        self.dispatcher = contextlib.ExitStack()
        (root / "rank.py").write_text(RANK)
        (root / "worker.py").write_text(WORKER)

    def start(self) -> None:
        self.end()
        work = replace(WORK, launch=self.launches)
        work.save(self.root)
        self.dispatcher.enter_context(DispatchServer(self.root, work))
        self.launches += 1
        argv = torchrun(
            self.workers, free_port(), [str(self.root / "rank.py"), str(self.root), *self.options]
        )
        with (self.root / "log").open("ab") as log:
            self.process = subprocess.Popen(
                argv,
                env={**os.environ, MARK: self.mark, "OMP_NUM_THREADS": "1"},
                start_new_session=True,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def end(self) -> None:
        """Kill whatever is left of the last launch."""
        while left := self.alive():
            for pid in left:
                kill(pid)
            time.sleep(0.05)
        if self.process is not None:
            self.process.wait()
        self.dispatcher.close()

    def alive(self) -> list[int]:
        found = []
        for entry in Path("/proc").iterdir():
            try:
                if (
                    entry.name.isdigit()
                    and f"{MARK}={self.mark}".encode() in (entry / "environ").read_bytes()
                ):
                    found.append(int(entry.name))
            except OSError:
                continue
        return found

    def over(self) -> bool:
        return self.process is not None and self.process.poll() is not None

    def asked(self, what: str = "asked") -> int:
        """How many questions were asked, or ``ended``."""
        notes = self.root / what
        return len(notes.read_bytes().splitlines()) if notes.exists() else 0

    def worker_pids(self) -> list[int]:
        """Of the workers that have begun their journal in this launch and still live."""
        pids = [
            line.record.pid
            for line in Tail(RunPaths(self.root).journal).poll()
            if isinstance(line.record, Header) and line.record.launch == self.launches - 1
        ]
        return [pid for pid in pids if pid in self.alive()]

    def answers(self) -> tuple[dict[tuple[str, str], str | None], int]:
        state = JournalState(RunPaths(self.root).journal, WORK.epochs)
        written = Counter(news.key for news in state.poll() if isinstance(news, Answer))
        return {key: answer.text for key, answer in state.answers.items()}, sum(
            count - 1 for count in written.values()
        )

    def finish(self) -> None:
        while not self.over():
            time.sleep(0.1)


def kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def wait_for_work(run: Run, more: int) -> None:
    """Until so many more questions were asked, or the launch is over."""
    known = run.asked()
    while run.asked() < known + more and not run.over():
        time.sleep(0.02)


def disturb(run: Run, kills: int, rng: random.Random) -> tuple[Counter[str], int]:
    """Kill at random, and start again what ended.

    Returns how often each kind of kill was made, and how many questions the killed workers held at
    most.
    """
    done: Counter[str] = Counter()
    allowed = 0
    run.start()
    while sum(done.values()) < kills:
        wait_for_work(run, rng.randint(1, 12))
        if run.over():
            break
        kind = rng.choices(("worker", "keeper", "everything"), (8, 1, 1))[0]
        if kind == "worker":
            pids = run.worker_pids()
            if not pids:
                continue
            kill(rng.choice(pids))
            allowed += 1
        else:
            allowed += run.workers
            if kind == "keeper":
                kill(int((run.root / f"keeper.{rng.randrange(run.workers)}").read_text()))
                run.finish()
            run.start()
        done[kind] += 1
    return done, allowed


def measure(kills: int, workers: int, seconds: float, count: int, seed: int = 0) -> Measured:
    with tempfile.TemporaryDirectory() as folder:
        run = Run(Path(folder), workers, seconds, count)
        began = time.monotonic()
        try:
            done, allowed = disturb(run, kills, random.Random(seed))
            while True:
                run.finish()
                answers, twice = run.answers()
                if len(answers) == 3 * count:
                    break
                run.start()
        finally:
            run.end()
        return Measured(
            done,
            run.asked(),
            run.asked("ended"),
            len(answers),
            twice,
            allowed,
            score(answers),
            time.monotonic() - began,
        )


def score(answers: dict[tuple[str, str], str | None]) -> float:
    """Per cent correct by an arbitrary key: any changed answer may change it."""
    return (
        100
        * sum(text == random.Random(f"{key}").choice("ABCD") for key, text in answers.items())
        / len(answers)
    )


def table(disturbed: Measured, quiet: Measured) -> str:
    kinds = ", ".join(f"{count} {kind}" for kind, count in disturbed.kills.items())
    return "\n".join(
        [
            "| kills | generated / distinct | generated again | to the end | "
            "in the hands of the killed, at most | journaled twice | score | undisturbed |",
            "|---|---|---|---|---|---|---|---|",
            f"| {sum(disturbed.kills.values())} ({kinds}) | "
            f"{disturbed.generated / disturbed.distinct:.4f} | "
            f"{disturbed.generated - disturbed.distinct} "
            f"| {disturbed.ended - disturbed.distinct} | {disturbed.allowed} "
            f"| {disturbed.journaled_twice} | {disturbed.score:.4f} | {quiet.score:.4f} |",
            f"{disturbed.seconds:.0f} s against {quiet.seconds:.0f} s undisturbed",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=0.1)
    parser.add_argument(
        "--count", type=int, default=COUNT, help="questions in each of three benchmarks"
    )
    args = parser.parse_args()
    sys.stdout.write(
        table(
            measure(args.kills, args.workers, args.seconds, args.count),
            measure(0, args.workers, 0.0, args.count),
        )
        + "\n"
    )


if __name__ == "__main__":
    main()
