"""Measure the report of a whole run: its size, and the time and memory that making it takes.

    python tests/benchmarks/report_size.py RUN_FOLDER... [--answer 60 800 6000] [--core]

RUN_FOLDER is the folder of one run below ``runs/`` that ``--smoke --include-extra`` left. Its files
are expanded to the size of a real run (``tests/full_size.py``) in a temporary folder, with a
journal. Takes minutes and up to 2 GB of disk per backend and length.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import resource
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

# As the program has it when it reads workbooks; full_size imports openpyxl before.
os.environ["OPENPYXL_DEFUSEDXML"] = "False"
HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from easi_eval.backends import make_backend
from easi_eval.backends.evidence import Evidence
from easi_eval.benchmarks import CORE_KEYS, REHEARSED_KEYS, by_key
from easi_eval.core.manifest import Manifest
from easi_eval.core.run_folder import RunPaths
from easi_eval.data.needs import HubSettings
from easi_eval.engine.journal import Answer, Journal
from easi_eval.report.page import make
from easi_eval.report.subject import Subject
from easi_eval.scores.score_table import ScoreTable
from full_size import ROWS, Size, expand

WORKERS = 8


def expand_run(run: Path, subject: Subject, answer: int) -> None:
    """Write the files of a whole run, and its journal, made of those of a rehearsal."""
    paths, now = subject.paths, time.time()
    journals = [Journal(paths.journal, f"w{number}", 1) for number in range(WORKERS)]
    for journal in journals:
        journal.phase("answering")
    for key in (row.key for row in subject.table.rows):
        out = expand(
            subject.reader.name, RunPaths(run).outputs, paths.output(key), key, Size(answer=answer)
        )
        epoch, rows = subject.manifest.benchmarks[key].epoch, subject.reader.rows(by_key(key), out)
        for number, (item, text) in enumerate(zip(rows["item"], rows["answer"], strict=True)):
            now += 0.1
            worker = number % WORKERS
            journals[worker].answer(
                Answer(key, item, epoch, text, 0.8, 20, "stop", worker=f"w{worker}", at=now)
            )


def subject_in(run: Path, keys: Sequence[str], folder: Path) -> Subject:
    """Return the whole run in ``folder``, with the scores of the rehearsal."""
    old = RunPaths(run)
    manifest = Manifest.load(old.manifest)
    assert manifest is not None
    backend = make_backend(str(manifest.fields["backend"]), HubSettings())
    found = [Evidence.load(old.output(key)) for key in keys]
    scores = [
        dataclasses.replace(one.score, n=ROWS[one.score.key], total=ROWS[one.score.key])
        for one in found
        if one
    ]
    table = ScoreTable(tuple(scores), manifest.modelName, backend.name, manifest.identity)
    return Subject(table, manifest, RunPaths(folder), folder, backend)


def measure(subject: Subject, target: Path | None) -> None:
    """Print the figures of one report; in a process of its own, for its memory."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    began, busy = time.monotonic(), time.process_time()
    page = make(subject, "0" * 64)
    wall, cpu = time.monotonic() - began, time.process_time() - busy
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    print(
        f"  {sum(row.n for row in subject.table.rows):,} questions, {len(page):,} bytes; "
        f"{wall:.1f} s, {cpu:.1f} s of processor time; peak {peak:,} MB, {before:,} MB before",
        flush=True,
    )
    if target:
        target.write_bytes(page)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--answer", nargs="+", type=int, default=[60, 800, 6000])
    parser.add_argument("--core", action="store_true", help="only the benchmarks of EASI-8")
    parser.add_argument("--keep", type=Path, help="folder for the pages")
    asked = parser.parse_args()
    keys = CORE_KEYS if asked.core else REHEARSED_KEYS
    for run in asked.runs:
        for answer in asked.answer:
            print(f"{run.parent.name}, answers of {answer} characters:", flush=True)
            with TemporaryDirectory(prefix="easi-full-") as name:
                subject = subject_in(run, keys, Path(name))
                kept = asked.keep and asked.keep / f"{run.parent.name}_{answer}.html"
                for step in (
                    lambda subject=subject, run=run, answer=answer: expand_run(
                        run, subject, answer
                    ),
                    lambda subject=subject, kept=kept: measure(subject, kept),
                ):
                    if child := os.fork():  # the memory of expanding is not counted
                        os.waitpid(child, 0)
                        continue
                    step()
                    os._exit(0)


if __name__ == "__main__":
    main()
