"""Measure how evenly the real drivers share the work: the whole program, with a model that sleeps.

    .venv/bin/python tests/benchmarks/real_drivers.py [--backend vlmevalkit lmms-eval]
        [--sigma 1 1.5] [--known 0.5 0] [--draws 20] [--together]

2,000 questions of the nine core benchmarks, on 8 workers, with lognormal seconds. The length of a
question's text, which the queue knows, explains half of the variance of the logarithm
(``--known``), or none of it. All workers begin together (each waits in its first question for the
others), because importing eight backends on a few cores takes minutes that have nothing to do with
the queue. ``--together`` runs both backends at once, each with as many workers, which also begin
together. Times are from the first to the last answer; 1.00 is max(total / workers, longest
question) of the drawn seconds. The stock static split of the same seconds is printed beside it.
Ctrl-C ends it with the table of the draws that are complete.
"""

from __future__ import annotations

import argparse
import itertools
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import many_questions
from draws import Draw, completed_by, median, redraw, static_split
from easi_eval.benchmarks import CORE_KEYS
from easi_eval.data.local_hub.server import LocalHub
from rehearsal_data import repositories
from sleepers import MODELS, install

PROGRAM = Path(__file__).resolve().parents[2] / "scripts" / "submissions" / "run_easi_eval.py"
# What would lead the program to the user's own files, hub, secrets or judges.
_OWN = ("HF_", "HUGGING", "TRANSFORMERS", "LMMS_", "LMU", "VLMEVAL", "MMEVAL", "EASI_", "OPENAI")
PATIENCE = 60.0  # seconds that an interrupted program has to end


@dataclass(frozen=True)
class Case:
    """What one table row is about."""

    backend: str
    sigma: float
    known: float

    def __str__(self) -> str:
        return f"{self.backend}, sigma {self.sigma:g}, known {self.known:g}"


@dataclass(frozen=True)
class Told:
    """One answer: its worker, begin and end, and the worker's processor time at its end.

    Begin and end are on the monotonic clock.
    """

    worker: str
    began: float
    ended: float
    used: float


@dataclass(frozen=True)
class Measured:
    """One draw on one backend.

    Times are in seconds; ``makespan``, ``static`` and ``barriers`` are ratios to the ``bound``.
    """

    draw: Draw
    workers: int
    told: Mapping[tuple[str, str], Told]
    launched: float

    @property
    def began(self) -> float:
        return min(answer.began for answer in self.told.values())

    @property
    def makespan(self) -> float:
        return max(answer.ended for answer in self.told.values()) - self.began

    @property
    def ratio(self) -> float:
        return self.makespan / self.draw.bound(self.workers)

    def static(self, barriers: bool) -> float:
        return static_split(self.draw, self.workers, barriers) / self.draw.bound(self.workers)

    @property
    def complete(self) -> int:
        """Benchmarks complete at 80 % of the time."""
        return completed_by(
            {key: answer.ended - self.began for key, answer in self.told.items()},
            self.draw,
            0.8 * self.makespan,
        )

    def line(self) -> str:
        """What a person wants to know who wonders about the ratio."""
        by_worker: dict[str, list[Told]] = defaultdict(list)
        for answer in sorted(self.told.values(), key=lambda answer: answer.began):
            by_worker[answer.worker].append(answer)
        gaps = sorted(
            later.began - sooner.ended
            for answers in by_worker.values()
            for sooner, later in itertools.pairwise(answers)
        )
        slept = sum(answer.ended - answer.began for answer in self.told.values())
        used = sum(answers[-1].used - answers[0].used for answers in by_worker.values())
        late = max(answers[0].began for answers in by_worker.values()) - self.began
        early = (
            self.began + self.makespan - min(answers[-1].ended for answers in by_worker.values())
        )
        return (
            f"{self.ratio:.3f} ({self.makespan:.1f} s, total / workers "
            f"{self.draw.total / self.workers:.1f}, longest "
            f"{max(self.draw.seconds.values()):.1f}), stock split {self.static(False):.3f}, "
            f"{self.static(True):.3f} with meetings, "
            f"{self.complete} of {len(self.draw.items)} complete at 80 %; began after "
            f"{self.began - self.launched:.0f} s, workers within {late:.2f} s, "
            f"first without work {early:.2f} s before the end; slept "
            f"{slept / self.draw.total:.4f} of the drawn seconds, between answers "
            f"{1000 * sum(gaps) / max(len(gaps), 1):.1f} ms (99th of 100: "
            f"{1000 * gaps[len(gaps) * 99 // 100] if gaps else 0:.0f}), processor time of the "
            "workers "
            f"{used:.1f} s"
        )


class Bench:
    """Served data for each sigma and the runs' folders, below ``folder``; a context manager."""

    def __init__(self, folder: Path, asked: Mapping[str, int], workers: int, mean: float) -> None:
        self.folder, self.asked, self.workers, self.mean = folder, asked, workers, mean
        self._hubs: dict[float, LocalHub] = {}
        self._open = ExitStack()

    def __enter__(self) -> Bench:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def measure(self, cases: Sequence[Case], seed: int) -> dict[Case, Measured]:
        """One draw of cases that differ in nothing but the backend, which run side by side."""
        sigma, known = cases[0].sigma, cases[0].known
        drawn = redraw(seed, many_questions.features(self.asked), self.mean, sigma, known)
        here = self.folder / f"draw-{seed}-{sigma:g}-{known:g}-{cases[0].backend}"
        (here / "came").mkdir(parents=True)
        (here / "seconds.json").write_text(many_questions.as_json(drawn.seconds))
        launched = time.monotonic()
        with _programs(
            self._program(case, here, self.workers * len(cases)) for case in cases
        ) as programs:
            codes = [program.wait() for program in programs]
        found = {}
        for case, code in zip(cases, codes, strict=True):
            told = told_in(here / case.backend)
            if (
                code
                or told.keys() != drawn.seconds.keys()
                or len({answer.worker for answer in told.values()}) != self.workers
            ):
                said = (here / case.backend / "screen.txt").read_text(errors="replace")
                sys.exit(
                    f"{case}, draw {seed}: exit {code}, {len(told)} of {len(drawn.seconds)} "
                    f"answered\n{said[-4000:]}"
                )
            found[case] = Measured(drawn, self.workers, told, launched)
        shutil.rmtree(here)
        return found

    def _program(self, case: Case, here: Path, together: int) -> subprocess.Popen[bytes]:
        """The program as a user starts it.

        Data are fetched and prepared in the first draw of each sigma.
        """
        mine = here / case.backend
        home = self.folder / f"home-{case.backend}-{case.sigma:g}"
        mine.mkdir()
        kept = {name: value for name, value in os.environ.items() if not name.startswith(_OWN)}
        env = {
            **kept,
            **install(self.folder / "model"),
            "HF_ENDPOINT": self._hub(case.sigma).endpoint,
            "HF_HOME": str(home / "huggingface"),
            "HF_HUB_DISABLE_XET": "1",
            "NO_PROXY": "127.0.0.1,localhost",
            "no_proxy": "127.0.0.1,localhost",
            "EASI_SLEEPY_SECONDS": str(here / "seconds.json"),
            "EASI_SLEEPY_TOLD": str(mine),
            "EASI_SLEEPY_CAME": str(here / "came"),
            "EASI_SLEEPY_WORKERS": str(together),
        }
        command = [
            sys.executable,
            str(PROGRAM),
            "--backend",
            case.backend,
            *MODELS[case.backend],
            "--device",
            "cpu",
            "--nproc",
            str(self.workers),
            "--benchmarks",
            ",".join(self.asked),
            "--no-rich",
            "--output-dir",
            str(mine / "out"),
        ]
        if case.backend == "vlmevalkit":
            command += ["--dataset-dir", str(home / "datasets")]
        with (mine / "screen.txt").open("wb") as screen:
            return subprocess.Popen(
                command,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=screen,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _hub(self, sigma: float) -> LocalHub:
        if sigma not in self._hubs:
            root = self.folder / f"served-{sigma:g}"
            repositories.build(root)
            many_questions.enlarge(root / "datasets", self.asked, sigma)
            self._hubs[sigma] = self._open.enter_context(LocalHub(root))
        return self._hubs[sigma]


@contextmanager
def _programs(
    starting: Iterator[subprocess.Popen[bytes]],
) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Started programs, as a context manager.

    Those that still run when the block is left are interrupted as by Ctrl-C.
    """
    running: list[subprocess.Popen[bytes]] = []
    try:
        for program in starting:
            running.append(program)
        yield running
    finally:
        left = [program for program in running if program.poll() is None]
        for program in left:
            program.send_signal(signal.SIGINT)
        for program in left:
            try:
                program.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                program.kill()


def told_in(folder: Path) -> dict[tuple[str, str], Told]:
    """What the model classes noted; exits if a question was answered twice."""
    found: dict[tuple[str, str], Told] = {}
    for file in folder.glob("told.*"):
        for line in file.read_text().splitlines():
            benchmark, number, *times = line.split()
            if (benchmark, number) in found:
                sys.exit(f"{benchmark} {number} was answered twice")
            found[benchmark, number] = Told(file.name, *map(float, times))
    return found


def table(measured: Mapping[Case, Sequence[Measured]]) -> str:
    """Medians over the draws."""
    lines = [
        "| backend | sigma | known | draws | ours | worst draw | stock split | stock split, "
        "a meeting per benchmark | complete at 80 %: median | least |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for case, draws in measured.items():
        ratios, complete = [one.ratio for one in draws], [one.complete for one in draws]
        lines.append(
            f"| {case.backend} | {case.sigma:g} | {case.known:g} | {len(draws)} | "
            f"{median(ratios):.3f} | {max(ratios):.3f} "
            f"| {median([one.static(False) for one in draws]):.3f} | "
            f"{median([one.static(True) for one in draws]):.3f} "
            f"| {median(complete):g} of {len(draws[0].draw.items)} | {min(complete)} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--backend", nargs="+", default=list(MODELS), choices=list(MODELS))
    parser.add_argument("--sigma", nargs="+", type=float, default=[1.0, 1.5])
    parser.add_argument("--known", nargs="+", type=float, default=[0.5, 0.0])
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--first", type=int, default=0, help="seed of the first draw")
    parser.add_argument("--questions", type=int, default=2000)
    parser.add_argument("--benchmarks", nargs="+", default=list(CORE_KEYS), choices=CORE_KEYS)
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--mean", type=float, default=0.2)
    parser.add_argument("--together", action="store_true", help="both backends at once")
    args = parser.parse_args()
    # what is started in the background ignores it otherwise
    signal.signal(signal.SIGINT, signal.default_int_handler)
    measured: dict[Case, list[Measured]] = {}
    with tempfile.TemporaryDirectory() as folder:
        asked = many_questions.counts(args.questions, args.benchmarks)
        try:
            with Bench(Path(folder), asked, args.workers, args.mean) as bench:
                for seed in range(args.first, args.first + args.draws):
                    for sigma in args.sigma:
                        for known in args.known:
                            cases = [Case(backend, sigma, known) for backend in args.backend]
                            for group in [cases] if args.together else [[case] for case in cases]:
                                for case, one in bench.measure(group, seed).items():
                                    measured.setdefault(case, []).append(one)
                                    print(f"{case}, draw {seed}: {one.line()}", flush=True)
        except KeyboardInterrupt:
            print(f"interrupted after {sum(map(len, measured.values()))} measurements", flush=True)
    print(table(measured))


if __name__ == "__main__":
    main()
