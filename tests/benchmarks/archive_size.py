"""Measure the size of a whole run's archive in each form, and the time to make and check it.

    python tests/benchmarks/archive_size.py RUN_FOLDER... [--answer 60 120] [--share 1.0]

RUN_FOLDER is the folder of one run below ``runs/`` that ``--smoke --include-extra`` left. Its files
are expanded to the size of a real run (``tests/full_size.py``) in a temporary folder. ``--share
0.1`` makes a tenth of every benchmark, which must fit into a tenth of a request. Takes minutes, 1
GB of disk and 2 GB of memory per backend.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from easi_eval.benchmarks import REHEARSED_KEYS, by_key
from easi_eval.core.redact import Redactor
from easi_eval.scores.score_table import ScoreTable
from easi_eval.submission.archive.anonymize import Scrubber
from easi_eval.submission.archive.forms import leave_of
from easi_eval.submission.archive.pack import MANIFEST, PAYLOAD, REPRODUCE, Contents, entries, pack
from easi_eval.submission.parcel import room_for
from easi_eval.submission.payload import build_payload, payload_text
from easi_eval.submission.proof import prove, tables
from easi_eval.submission.verify import archived_run, verify
from full_size import ANSWER, Size, expand

Made = TypeVar("Made")


def timed(what: str, action: Callable[[], Made]) -> Made:
    began = time.monotonic()
    made = action()
    print(f"  {what}: {time.monotonic() - began:.1f} s", flush=True)
    return made


def measure(run: Path, size: Size, folder: Path) -> list[int]:
    """Sizes of the forms that were tried. Prints what it finds."""
    manifest = json.loads((run / MANIFEST).read_text(encoding="utf-8"))
    for state in manifest["benchmarks"].values():
        state["evidence"].pop("total", None)
        state["settings"].pop("corrections", None)
    source = archived_run(manifest)
    name = source.backend.name
    outputs = timed(
        "expanding",
        lambda: [expand(name, run / "outputs", folder / key, key, size) for key in REHEARSED_KEYS],
    )
    raw = sum(path.stat().st_size for out in outputs for path in out.files)
    proofs = timed(
        "reading every row and recomputing",
        lambda: {key: prove(source, key, folder / key) for key in REHEARSED_KEYS},
    )
    assert not [proof.problem for proof in proofs.values() if proof.problem], [
        proof.problem for proof in proofs.values()
    ]
    payload = build_payload(
        ScoreTable(
            tuple(proof.score for proof in proofs.values() if proof.score), source.model, name
        ),
        source.backend.payload_name,
    )
    contents = Contents(
        entries(outputs),
        {MANIFEST: json.dumps(manifest, indent=2), PAYLOAD: payload_text(payload), REPRODUCE: "-"},
        {key: leave_of(name, by_key(key).source(name)) for key in REHEARSED_KEYS},
    )
    sizes: list[int] = []
    room = room_for(payload)
    packed = timed(
        "scrubbing, reading and packing",
        lambda: pack(
            contents,
            Scrubber(Redactor(), [("home", Path.home())]),
            lambda where: tables(source, where),
            lambda count: (sizes.append(count), room(int(count / size.share)))[1],
        ),
    )
    target = folder / "easi_results.zip"
    target.write_bytes(packed.data)
    verdict = timed("verifying", lambda: verify(target))
    rows = sum(proof.rows for proof in proofs.values())
    print(
        f"  {rows:,} rows, {raw:,} bytes of files; forms: "
        f"{', '.join(f'{count:,}' for count in sizes)}; form {packed.rung} "
        f"{'fits' if packed.fits else 'DOES NOT FIT'}; verify: {len(verdict.differences)} "
        "differences; "
        f"peak {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10:,} MB",
        flush=True,
    )
    for difference in verdict.differences[:5]:
        print(f"  {difference}")
    return sizes


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--answer", nargs="+", type=int, default=[ANSWER])
    parser.add_argument("--share", type=float, default=1.0)
    asked = parser.parse_args()
    for run in asked.runs:
        for answer in asked.answer:
            print(f"{run.parent.name}, answers of {answer} characters:", flush=True)
            with TemporaryDirectory(prefix="easi-full-") as name:
                measure(run, Size(asked.share, answer), Path(name))
                shutil.rmtree(name, ignore_errors=True)


if __name__ == "__main__":
    main()
