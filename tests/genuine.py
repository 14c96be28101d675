"""What ``data/<key>/`` has of each benchmark: genuine result files, and facts that only tests read.

The result files of both backends are one tiny model's answers to the rehearsal's questions.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from easi_eval.backends import make_backend
from easi_eval.benchmarks import Benchmark
from easi_eval.data.needs import HubSettings
from easi_eval.scores.outputs import Outputs

DATA = Path(__file__).parent / "data"
STAMP = "20260102_030405"  # of lmms-eval's files


def files_of(key: str, backend: str) -> Path:
    """The folder of one benchmark's result files."""
    return DATA / key / backend


def genuine(backend: str, bench: Benchmark) -> Outputs:
    """The result files of one benchmark."""
    return make_backend(backend, HubSettings()).outputs(bench, files_of(bench.key, backend))


def facts(key: str) -> dict[str, Any]:
    """What only tests know of a benchmark, from its ``facts.toml``.

    ``question_length``: Characters of a question with its options in the real data, on average.
    ``media``: Images or frames of a question in the real data, where their paths are in the files.
    ``archive_measured``: It was among those whose archive ``benchmarks/archive_size.py`` measured;
    false for a new one.

    Of each backend, ``headline_scale``: factor that brings its headline score to 0-100;
    ``sub_scores``: number of sub-scores it has.

    ``vlmevalkit``: ``module`` and ``cls``: where the package defines the dataset; ``frames``:
    images that it takes from a video; ``columns_optional``: columns that only some versions of its
    table have.

    ``lmms-eval``: ``headline``: metric of the headline score; ``needs_token``: the task asks for
    a token; ``max_new_tokens``: its token limit, where it has one; ``variants``: both of these for
    other tasks.
    """
    return tomllib.loads((DATA / key / "facts.toml").read_text(encoding="utf-8"))
