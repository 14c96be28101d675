"""Measure what a run costs beside its answers.

The rehearsal's data in one launch of ours, against one stock launch for each.

    .venv/bin/python tests/benchmarks/fixed_cost.py [--backend vlmevalkit lmms-eval]
        [--benchmarks KEY ...]

Stock is ``--plain``: the backend's own command, benchmark by benchmark. Both find data and model
ready, on the CPU; the seconds are those of the whole program.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from easi_eval.benchmarks import REHEARSED_KEYS

PROGRAM = Path(__file__).resolve().parents[2] / "scripts" / "submissions" / "run_easi_eval.py"


@dataclass(frozen=True)
class Measured:
    backend: str
    benchmarks: int
    ours: float
    stock: float
    load: float

    @property
    def ratio(self) -> float:
        return self.ours / self.stock


def measure(backend: str, keys: tuple[str, ...], out: Path) -> Measured:
    """The first run, not measured, makes data and model and reads them once."""
    run(backend, keys, out, "--limit", "1")
    return Measured(
        backend,
        len(keys),
        run(backend, keys, out, "--rerun"),
        run(backend, keys, out, "--rerun", "--plain"),
        os.getloadavg()[0],
    )


def run(backend: str, keys: tuple[str, ...], out: Path, *more: str) -> float:
    """Seconds of one run of the program."""
    began = time.monotonic()
    done = subprocess.run(
        [
            sys.executable,
            str(PROGRAM),
            "--smoke",
            "--backend",
            backend,
            "--benchmarks",
            ",".join(keys),
            "--no-rich",
            "--output-dir",
            str(out),
            *more,
        ],
        capture_output=True,
        text=True,
    )
    if done.returncode:
        sys.exit(done.stdout[-3000:] + done.stderr[-3000:])
    return time.monotonic() - began


def table(rows: list[Measured]) -> str:
    lines = [
        "| backend | benchmarks | one launch of ours, s | a stock launch each, "
        "s | ratio | load after it |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row.backend} | {row.benchmarks} | {row.ours:.0f} | {row.stock:.0f} | {row.ratio:.2f} "
        f"| {row.load:.1f} |"
        for row in rows
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--backend", nargs="+", default=["vlmevalkit", "lmms-eval"])
    parser.add_argument("--benchmarks", nargs="+", default=list(REHEARSED_KEYS))
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = []
        for backend in args.backend:
            rows.append(measure(backend, tuple(args.benchmarks), Path(folder) / backend))
        print(table(rows))


if __name__ == "__main__":
    main()
