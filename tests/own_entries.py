"""The program with entries for tiny data.

Its benchmarks have as many questions as the files in ``data/``. ``python tests/own_entries.py
OPTIONS`` is the program (``User(..., program=OWN_ENTRIES)``); ``use`` is the same for tests that
call ``main``. There is no other way to change the number of questions of a benchmark.
"""

from __future__ import annotations

import dataclasses
import sys
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

OWN_ENTRIES = Path(__file__).resolve()
if __name__ == "__main__":
    sys.path[0] = str(OWN_ENTRIES.parents[1] / "scripts" / "submissions")
    sys.argv[0] = f"{sys.path[0]}/run_easi_eval.py"  # what the commands that are shown begin with

from easi_eval.benchmarks import BACKENDS, BENCHMARKS, LMMS_EVAL, Source, by_key

DATA = OWN_ENTRIES.parent / "data"


def count_rows(backend: str, key: str) -> int:
    """Number of questions in the files that ``data/`` has of a benchmark, quickly read."""
    folder = DATA / key / backend
    if backend == LMMS_EVAL:
        tasks = by_key(key).source(backend).tasks
        paths = [path for task in tasks for path in folder.glob(f"*_samples_{task}.jsonl")]
        return sum(path.read_bytes().count(b"\n") for path in paths)
    (path,) = folder.glob("*.xlsx")
    with zipfile.ZipFile(path) as book:
        return book.read("xl/worksheets/sheet1.xml").count(b"<row ") - 1  # the header is a row


TINY = {
    backend: {bench.key: count_rows(backend, bench.key) for bench in BENCHMARKS}
    for backend in BACKENDS
}


@contextmanager
def use(counts: Mapping[str, Mapping[str, int]] = TINY) -> Iterator[None]:
    """Let each backend's benchmarks have so many questions."""
    kept: list[tuple[dict[str, Source], dict[str, Source]]] = []
    for bench in BENCHMARKS:
        sources = bench.sources
        assert isinstance(sources, dict)
        kept.append((sources, dict(sources)))
        for backend, asked in counts.items():
            if bench.key in asked:
                sources[backend] = dataclasses.replace(sources[backend], questions=asked[bench.key])
    try:
        yield
    finally:
        for sources, before in kept:
            sources.update(before)


if __name__ == "__main__":
    from easi_eval.cli import main

    with use():
        sys.exit(main())
