"""Measure what dispatcher and journal cost per question, with a model that answers at once.

    .venv/bin/python tests/benchmarks/overhead.py [--items 1000 10000 100000] [--clients 64]
        [--processes 1 2]

Each client is a thread with its own connection to the dispatcher on loopback and the whole loop of
``engine/worker.py``. Two times are taken: from the moment every client has its first question to
the last answer; and whole, from before the clients tell their questions until all know that all
questions are done.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.synchronize import Barrier
from pathlib import Path

from easi_eval.core.run_folder import RunPaths
from easi_eval.engine.dispatch_client import SocketClient
from easi_eval.engine.dispatch_server import DispatchServer
from easi_eval.engine.generation import Generation
from easi_eval.engine.journal import Answer
from easi_eval.engine.journal_state import JournalState
from easi_eval.engine.work import Assignment, Item, Work
from easi_eval.engine.worker import work_loop

KEYS = ("a", "b", "c")
WORK = Work(tuple(Assignment(key, key) for key in KEYS))


@dataclass(frozen=True)
class Measured:
    """One run.

    ``seconds`` is from the first to the last answer; ``whole`` includes making the plan and the
    end.
    """

    items: int
    clients: int
    processes: int
    seconds: float
    whole: float
    cpu: float  # processor seconds of the clients over ``whole``
    dispatcher: float  # processor seconds of the dispatcher's process
    answers: int  # in the journals: more than ``items`` if one was computed twice

    @property
    def per_second(self) -> float:
        return self.items / self.seconds

    @property
    def each(self) -> float:
        """Milliseconds of one client per question."""
        return 1000 * self.seconds / self.items


@dataclass(frozen=True)
class Told:
    """What one process of clients measured: times on the machine's clock, and processor seconds."""

    started: float
    first: float
    last: float
    ended: float
    cpu: float


def questions(count: int) -> dict[str, list[Item]]:
    return {
        key: [
            Item(key, f"question-{number}", cost=1.0 + number % 7)
            for number in range(place, count, len(KEYS))
        ]
        for place, key in enumerate(KEYS)
    }


def clients(
    root: Path,
    items: int,
    names: Sequence[str],
    gate: Barrier,
    out: multiprocessing.SimpleQueue,
) -> None:
    """Be one process with a thread per name; puts what it measured."""
    of = questions(items)
    started: list[tuple[float, float]] = []
    began: list[float] = []
    ended: list[float] = []

    def client(name: str) -> None:
        dispatcher = SocketClient(root, WORK, name, 0)
        gate.wait()
        started.append((time.monotonic(), time.process_time()))
        waited = False
        last = 0.0

        def answer(asked: Sequence[Item]) -> list[Generation]:
            nonlocal waited, last
            if not waited:
                gate.wait()
                waited = True
                began.append(time.monotonic())
            last = time.monotonic()
            return [
                Generation(
                    "The answer is B.", tokens=6, finish="stop", frames=1, prompt="0123456789abcdef"
                )
                for _ in asked
            ]

        work_loop(root, WORK, of, answer, dispatcher=dispatcher)
        ended.append(last)

    threads = [threading.Thread(target=client, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    first, used = min(started)
    out.put(Told(first, min(began), max(ended), time.monotonic(), time.process_time() - used))


def measure(items: int, count: int, processes: int) -> Measured:
    """``count`` clients spread over ``processes``; the dispatcher is a thread of this one."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["easi_eval.engine.worker"])
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        gate, out = context.Barrier(count), context.SimpleQueue()
        names = [f"w{number}" for number in range(count)]
        with DispatchServer(root, WORK):
            running = [
                context.Process(
                    target=clients, args=(root, items, names[place::processes], gate, out)
                )
                for place in range(processes)
            ]
            for process in running:
                process.start()
            used = time.process_time()
            told = [out.get() for _ in running]
            used = time.process_time() - used
            for process in running:
                process.join()
        state = JournalState(RunPaths(root).journal, WORK.epochs)
        answers = sum(isinstance(news, Answer) for news in state.poll())
        assert len(state.answers) == items, "a question was lost"
    return Measured(
        items,
        count,
        processes,
        max(one.last for one in told) - min(one.first for one in told),
        max(one.ended for one in told) - min(one.started for one in told),
        sum(one.cpu for one in told),
        used,
        answers,
    )


def table(rows: Sequence[Measured]) -> str:
    lines = [
        f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores",
        "| questions | clients | processes | questions/s | ms per question | whole: "
        "questions/s | ms per question | clients, us | dispatcher, us | answered twice |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row.items} | {row.clients} | {row.processes} | {row.per_second:.0f} | {row.each:.3f} "
        f"| {row.items / row.whole:.0f} "
        f"| {1000 * row.whole / row.items:.3f} | {1e6 * row.cpu / row.items:.0f} | "
        f"{1e6 * row.dispatcher / row.items:.0f} | "
        f"{row.answers - row.items} |"
        for row in rows
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--items", type=int, nargs="+", default=[1000, 10_000, 100_000])
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    args = parser.parse_args()
    print(
        table(
            [
                measure(items, args.clients, processes)
                for processes in args.processes
                for items in args.items
            ]
        )
    )


if __name__ == "__main__":
    main()
