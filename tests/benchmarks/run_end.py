"""Measure the end of a whole run, and a finished run started again.

    python tests/benchmarks/run_end.py RUN_FOLDER... [--answer 60 250 800] [--core]

RUN_FOLDER is the folder of one run below ``runs/`` that ``--smoke --include-extra`` left. Its files
are made as many and as large as those of a real run (``full_size.py``), in the folder of a run
whose questions are all answered and scored, with a journal of 8 workers. The program is then
started on it, as a user starts it: it makes intervals, tables, archive and report; then without
intervals, which a run makes whenever a benchmark is scored; then it finds everything made. Takes
minutes and 2 GB of disk per backend and length. Put ``chrt -f 1`` before it where other work would
take the processor.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

# As the program has it when it reads workbooks; full_size imports openpyxl before.
os.environ["OPENPYXL_DEFUSEDXML"] = "False"
HERE = Path(__file__).resolve().parent
PROGRAM = HERE.parents[1] / "scripts/submissions/run_easi_eval.py"
sys.path.insert(0, str(HERE.parent))

from easi_eval.backends import make_backend
from easi_eval.backends.evidence import Evidence
from easi_eval.benchmarks import CORE_KEYS, REHEARSED_KEYS, by_key
from easi_eval.config import RunConfig
from easi_eval.core.manifest import Manifest
from easi_eval.data.needs import HubSettings
from easi_eval.engine.journal import Answer, Journal
from finished import FinishedRun, config, finish
from full_size import Size, expand

WORKERS = 8
STARTS = 5  # of the finished run
RESULTS = (
    "easi_scores.csv",
    "easi_scores.md",
    "easi_results.json",
    "easi_results.zip",
    "report.html",
)


def yardstick() -> float:
    """Return how long this machine takes for ten million steps, to compare figures by."""
    began = time.perf_counter()
    exec("for _ in range(10_000_000): pass", {})  # twice as fast inside a function
    return time.perf_counter() - began


def make_run(rehearsal: Path, cfg: RunConfig, keys: Sequence[str], size: Size) -> FinishedRun:
    """Make a run that has answered and scored everything, and has no result file yet."""

    def put(key: str, _: Path, target: Path) -> None:
        expand(cfg.backend, rehearsal / "outputs" / key, target, key, size)

    run = finish(cfg, keys, put)
    backend, now = make_backend(cfg.backend, HubSettings()), time.time()
    manifest = Manifest.load(run.paths.manifest)
    assert manifest is not None
    journals = [Journal(run.paths.journal, f"w{number}", 1) for number in range(WORKERS)]
    for journal in journals:
        journal.phase("answering")
    for key in keys:
        folder, bench = run.paths.output(key), by_key(key)
        rows = backend.rows(bench, backend.outputs(bench, folder))
        epoch = manifest.benchmarks[key].epoch
        for number, (item, text) in enumerate(zip(rows["item"], rows["answer"], strict=True)):
            now += 0.1
            worker = number % WORKERS
            journals[worker].answer(
                Answer(key, item, epoch, text, 0.8, 20, "stop", worker=f"w{worker}", at=now)
            )
        evidence = Evidence.load(folder)
        assert evidence is not None
        # As when the answers were read, before their intervals are made.
        score = dataclasses.replace(evidence.score, intervals={}, draws={})
        dataclasses.replace(evidence, score=score).save(folder)
    return run


def start(cfg: RunConfig) -> tuple[float, float, int]:
    """Start the program; return seconds of the clock, of the processor, and MB at the peak."""
    # Without bytecode every start compiles the program: 0.2 s that no installation pays twice.
    compiled = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    began = time.perf_counter()
    program = subprocess.Popen(
        [sys.executable, str(PROGRAM), *cfg.to_argv()],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=compiled,
    )
    assert program.stdout is not None
    said = program.stdout.read()
    _, status, used = os.wait4(program.pid, 0)
    program.returncode = os.waitstatus_to_exitcode(status)
    assert program.returncode == 0, said.decode()
    return time.perf_counter() - began, used.ru_utime + used.ru_stime, used.ru_maxrss >> 10


def measure(run: FinishedRun) -> None:
    """Print the figures of three starts: all is to be made, all but intervals, nothing."""
    _say("intervals and result files", start(run.cfg))
    for name in RESULTS:
        print(f"    {name}: {(run.cfg.output_dir / name).stat().st_size:,} bytes")
        for folder in (run.cfg.output_dir, run.root):
            (folder / name).unlink()
    _say("result files", start(run.cfg))
    _say("nothing", sorted(start(run.cfg) for _ in range(STARTS))[STARTS // 2])


def _say(made: str, figures: tuple[float, float, int]) -> None:
    wall, cpu, peak = figures
    print(f"  {made}: {wall:.2f} s, {cpu:.2f} s of processor time, peak {peak:,} MB", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--answer", nargs="+", type=int, default=[60, 250, 800])
    parser.add_argument("--core", action="store_true", help="only the benchmarks of EASI-8")
    asked = parser.parse_args()
    keys = CORE_KEYS if asked.core else REHEARSED_KEYS
    for rehearsal in asked.runs:
        backend = rehearsal.absolute().parent.name
        for answer in asked.answer:
            print(
                f"{backend}, answers of {answer} characters; load {os.getloadavg()[0]:.0f}, ten "
                f"million steps {yardstick():.2f} s:",
                flush=True,
            )
            with TemporaryDirectory(prefix="easi-full-") as name:
                cfg = config(backend, Path(name))
                # Apart, because a program counts the memory of the one that starts it.
                with ProcessPoolExecutor(1) as apart:
                    run = apart.submit(make_run, rehearsal, cfg, keys, Size(answer=answer)).result()
                measure(run)


if __name__ == "__main__":
    main()
