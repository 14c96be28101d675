"""Measure what one launch for all benchmarks saves on lmms-eval.

A rehearsal is compared with stock launches of the same tasks, model and data.

    python tests/benchmarks/lmms_start_up.py [--rounds 1]

Prints seconds and ratios: our run of all benchmarks against one stock launch of them (bound 1.15),
and our EASI-8 against a loop of one stock launch per benchmark, as a script around lmms-eval makes
it (bound 0.2). Takes ten minutes per round on an idle machine, and longer on a busy one.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from easi_eval.benchmarks import CORE_KEYS, LMMS_EVAL, REHEARSED_KEYS, by_key
from easi_eval.data.local_hub.server import LocalHub

PROGRAM = Path(__file__).resolve().parents[2] / "scripts" / "submissions" / "run_easi_eval.py"


def ours(out: Path, keys: Sequence[str]) -> float:
    """Seconds of our whole run, from the command line to the archive."""
    began = time.monotonic()
    done = subprocess.run(
        [
            sys.executable,
            str(PROGRAM),
            "--smoke",
            "--backend",
            LMMS_EVAL,
            "--benchmarks",
            ",".join(keys),
            "--output-dir",
            str(out),
            "--no-rich",
            "--rerun",
        ],
        capture_output=True,
        text=True,
    )
    if done.returncode:
        sys.exit(done.stdout[-3000:] + done.stderr[-3000:])
    return time.monotonic() - began


def stock(out: Path, endpoint: str, tasks: Sequence[str]) -> float:
    """Seconds of ``python -m lmms_eval`` with the arguments, threads and caches of our worker."""
    (manifest,) = (out / "runs" / LMMS_EVAL).glob("*/run_manifest.json")
    commands = json.loads(manifest.read_text(encoding="utf-8"))["commands"]
    words = shlex.split(
        next(
            command
            for command in commands
            if "-m easi_lmms_eval" in command and "--easi-role" not in command
        )
    )
    words = [
        re.sub("^HF_ENDPOINT=.*", f"HF_ENDPOINT={endpoint}", word)
        for word in words[words.index("env") :]
    ]
    for option in ("--easi-run", "--output_path", "--tasks"):
        at = words.index(option)
        del words[at : at + 2]
    words[words.index("easi_lmms_eval")] = "lmms_eval"
    with tempfile.TemporaryDirectory() as folder:
        began = time.monotonic()
        done = subprocess.run(
            [*words, "--tasks", ",".join(tasks), "--output_path", folder],
            cwd=folder,
            capture_output=True,
            text=True,
            env={
                **os.environ,
                "HF_TOKEN": "some tasks insist on one",
                "NO_PROXY": "127.0.0.1",
                "HF_HUB_DISABLE_XET": "1",
            },
        )
        seconds = time.monotonic() - began
        if not list(Path(folder).glob("*/*_results.json")):
            sys.exit(done.stdout[-3000:] + done.stderr[-3000:])
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=1)
    rounds = parser.parse_args().rounds
    task = {key: by_key(key).source(LMMS_EVAL).task for key in REHEARSED_KEYS}
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "out"
        # the data is made and fetched, and the tables are prepared, once for all that is measured
        ours(out, REHEARSED_KEYS)
        (served,) = (out / "rehearsal").glob("hub-*")
        for number in range(rounds):
            with LocalHub(served) as running:
                all_stock = stock(out, running.endpoint, list(task.values()))
                loop = sum(stock(out, running.endpoint, [task[key]]) for key in CORE_KEYS)
            all_ours, core_ours = ours(out, REHEARSED_KEYS), ours(out, CORE_KEYS)
            print(
                f"round {number + 1}: all ours {all_ours:.1f} s, one stock launch "
                f"{all_stock:.1f} s: {all_ours / all_stock:.2f}; "
                f"EASI-8 ours {core_ours:.1f} s, a stock launch each {loop:.1f} s: "
                f"{core_ours / loop:.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
