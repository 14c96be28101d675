"""The program with entries for tiny data.

Its benchmarks have as many questions as the files in ``data/``. ``python tests/own_entries.py
OPTIONS`` is the program (``User(..., program=OWN_ENTRIES)``); ``use`` is the same for tests that
call ``main``. There is no other way to change the number of questions of a benchmark.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

OWN_ENTRIES = Path(__file__).resolve()
if __name__ == "__main__":
    sys.path[0] = str(OWN_ENTRIES.parents[1] / "scripts" / "submissions")
    sys.argv[0] = f"{sys.path[0]}/run_easi_eval.py"  # what the commands that are shown begin with

from easi_eval.benchmarks import BENCHMARKS, LMMS_EVAL, VLMEVALKIT, Source

TINY = {
    VLMEVALKIT: {
        "vsi_bench": 24,
        "mmsi_bench": 22,
        "mindcube_tiny": 16,
        "viewspatial": 20,
        "site_image": 24,
        "site_video": 18,
        "blink": 28,
        "3dsrbench": 56,
        "embspatial": 18,
        "mmsi_video_bench": 26,
        "omnispatial_(manual_cot)": 20,
        "spar_bench": 20,
        "vsi_debiased": 13,
    },
    LMMS_EVAL: {
        "vsi_bench": 24,
        "mmsi_bench": 22,
        "mindcube_tiny": 16,
        "viewspatial": 20,
        "site_image": 24,
        "site_video": 18,
        "blink": 28,
        "3dsrbench": 24,
        "embspatial": 18,
        "mmsi_video_bench": 26,
        "omnispatial_(manual_cot)": 20,
        "spar_bench": 20,
        "vsi_debiased": 13,
    },
}


@contextmanager
def use(counts: Mapping[str, Mapping[str, int]] = TINY) -> Iterator[None]:
    """Let each backend's benchmarks have so many questions."""
    kept: list[tuple[dict[str, Source], dict[str, Source]]] = []
    for bench in BENCHMARKS:
        sources = bench.sources
        assert isinstance(sources, dict)
        kept.append((sources, dict(sources)))
        for backend, by_key in counts.items():
            if bench.key in by_key:
                sources[backend] = dataclasses.replace(
                    sources[backend], questions=by_key[bench.key]
                )
    try:
        yield
    finally:
        for sources, before in kept:
            sources.update(before)


if __name__ == "__main__":
    from easi_eval.cli import main

    with use():
        sys.exit(main())
