"""Measure the size of a whole run's archive, and the time to make and check it.

    python tests/benchmarks/archive_size.py RUN_FOLDER... [--answer 60 120] [--share 1.0] [--core]

RUN_FOLDER is the folder of one run below ``runs/`` that ``--smoke --include-extra`` left. Its files
are expanded to the size of a real run (``tests/full_size.py``) in a temporary folder. ``--share
0.1`` makes a tenth of every benchmark, which must fit into a tenth of a request. Takes minutes
and 1 GB of disk per backend.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

# As the program has it when it reads workbooks; full_size imports openpyxl before.
os.environ["OPENPYXL_DEFUSEDXML"] = "False"
HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from easi_eval.backends import make_backend
from easi_eval.backends.archived.index import MANIFEST, PAYLOAD
from easi_eval.backends.archived.proof import ArchivedRun, proofs, prove
from easi_eval.benchmarks import CORE_KEYS, REHEARSED_KEYS
from easi_eval.core.redact import Redactor
from easi_eval.data.needs import HubSettings
from easi_eval.scores.score_table import ScoreTable
from easi_eval.submission.archive.anonymize import Scrubber
from easi_eval.submission.archive.pack import REPRODUCE, Contents, entries, pack
from easi_eval.submission.parcel import room_for
from easi_eval.submission.payload import build_payload, payload_text
from easi_eval.submission.verify import verify
from full_size import ANSWER, Size, expand

Made = TypeVar("Made")


def timed(what: str, action: Callable[[], Made]) -> Made:
    began, busy = time.monotonic(), time.process_time()
    made = action()
    wall, cpu = time.monotonic() - began, time.process_time() - busy
    print(f"  {what}: {wall:.1f} s, {cpu:.1f} s of processor time", flush=True)
    return made


def measure(run: Path, keys: Sequence[str], size: Size, folder: Path) -> None:
    """Print the size of the archive, and the time and memory that making and checking it takes."""
    manifest = json.loads((run / MANIFEST).read_text(encoding="utf-8"))
    manifest["benchmarks"] = {key: manifest["benchmarks"][key] for key in keys}
    for state in manifest["benchmarks"].values():
        state["evidence"].pop("total", None)
        state["settings"].pop("corrections", None)
    source = ArchivedRun.of(manifest, lambda name: make_backend(name, HubSettings()))
    name = source.backend.name
    outputs = timed(
        "expanding",
        lambda: [expand(name, run / "outputs" / key, folder / key, key, size) for key in keys],
    )
    raw = sum(path.stat().st_size for out in outputs for path in out.files)
    proven = timed(
        "reading every row and recomputing",
        lambda: {key: prove(source, key, folder / key) for key in keys},
    )
    assert not [proof.problem for proof in proven.values() if proof.problem], [
        proof.problem for proof in proven.values()
    ]
    payload = build_payload(
        ScoreTable(
            tuple(proof.score for proof in proven.values() if proof.score), source.model, name
        ),
        source.backend.payload_name,
    )
    contents = Contents(
        entries(outputs),
        {MANIFEST: json.dumps(manifest, indent=2), PAYLOAD: payload_text(payload), REPRODUCE: "-"},
    )
    room = room_for(payload)
    packed = timed(
        "scrubbing, reading and packing",
        lambda: pack(
            contents,
            Scrubber(Redactor(), [("home", Path.home())]),
            lambda where: proofs(source, where),
            lambda count: room(int(count / size.share)),
        ),
    )
    target = folder / "easi_results.zip"
    target.write_bytes(packed.data)
    verdict = timed("verifying", lambda: verify(target))
    rows = sum(proof.rows for proof in proven.values())
    print(
        f"  {rows:,} rows, {raw:,} bytes of files; form {packed.form}, "
        f"{len(packed.data):,} bytes, {'fits' if packed.fits else 'DOES NOT FIT'}; "
        f"verify: {len(verdict.differences)} differences; "
        f"peak {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10:,} MB",
        flush=True,
    )
    for difference in verdict.differences[:5]:
        print(f"  {difference}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--answer", nargs="+", type=int, default=[ANSWER])
    parser.add_argument("--share", type=float, default=1.0)
    parser.add_argument("--core", action="store_true", help="only the benchmarks of EASI-8")
    asked = parser.parse_args()
    for run in asked.runs:
        for answer in asked.answer:
            print(f"{run.parent.name}, answers of {answer} characters:", flush=True)
            with TemporaryDirectory(prefix="easi-full-") as name:
                measure(
                    run,
                    CORE_KEYS if asked.core else REHEARSED_KEYS,
                    Size(asked.share, answer),
                    Path(name),
                )
                shutil.rmtree(name, ignore_errors=True)


if __name__ == "__main__":
    main()
