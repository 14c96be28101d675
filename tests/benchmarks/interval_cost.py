"""Measure how long the intervals of a whole run take, from rows as many as a real run has.

    python tests/benchmarks/interval_cost.py RUN_FOLDER...

RUN_FOLDER is the folder of one run below ``runs/`` that ``--smoke --include-extra`` left; its files
are expanded to full size (``tests/full_size.py``). Reading them is not measured. Takes minutes.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from easi_eval.backends import make_backend
from easi_eval.benchmarks import REHEARSED_KEYS, by_key
from easi_eval.data.needs import HubSettings
from easi_eval.scores.intervals import with_intervals
from easi_eval.scores.recompute import recompute
from easi_eval.scores.rows import summarise
from easi_eval.scores.score_table import ScoreTable, State
from full_size import expand

SHARED = 18  # questions about one scene, as in VSI-Bench


def measure(run: Path, folder: Path) -> None:
    backend = make_backend(run.parent.name, HubSettings())
    scores, whole, count = [], 0.0, 0
    for key in REHEARSED_KEYS:
        bench = by_key(key)
        out = expand(backend.name, run / "outputs", folder / key, key)
        rows, source = backend.rows(bench, out), bench.source(backend.name, out.task)
        if len(rows["cluster"].unique()) == len(rows):  # full_size.py gives each its own scene
            rows["cluster"] = [str(place // SHARED) for place in range(len(rows))]
        reading = recompute(bench, source, rows)
        score = summarise(bench, reading, rows, total=len(rows), state=State.COMPLETE)
        began = time.process_time()
        scores.append(with_intervals(score, bench, source, rows))
        took = time.process_time() - began
        whole, count = whole + took, count + len(rows)
        found = scores[-1].intervals[""]
        print(f"  {key}: {len(rows):,} rows, {found.clusters:,} clusters, {took:.2f} s", flush=True)
    began = time.process_time()
    table = ScoreTable(tuple(scores), "org/model", backend.name)
    assert table.average_interval is not None
    whole += (took := time.process_time() - began)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    print(f"  SITE and the average: {took:.2f} s")
    print(f"  {count:,} rows: {whole:.1f} s of processor time; peak with reading {peak} MB")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+", type=Path)
    for run in parser.parse_args().runs:
        print(f"{run.parent.name}:", flush=True)
        with TemporaryDirectory(prefix="easi-full-") as name:
            measure(run, Path(name))


if __name__ == "__main__":
    main()
