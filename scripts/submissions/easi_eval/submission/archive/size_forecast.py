"""Estimate before a run how long answers may be for the archive to fit into one request.

The estimate is based on measured sizes of full-size archives.
"""

from __future__ import annotations

from collections.abc import Iterable

from ...benchmarks import by_key
from ...core.backend_facts import BACKEND_FACTS

REASONED = 800  # characters assumed for an answer where the prompt asks for reasoning
# Bytes per character of an answer, measured like ``archive_bytes`` on the smallest form of the
# archive. The texts are words drawn one by one, which are hard to compress.
PER_CHARACTER = 0.38
FIXED = 100_000


def questions(key: str, backend: str) -> int:
    """Return the number of questions to plan with.

    Where it is unknown on this backend (3DSRBench on lmms-eval), another one's is used.
    """
    bench = by_key(key)
    sources = (bench.source(backend), *bench.sources.values())
    return next((source.questions for source in sources if source.questions), 0)


def longest_answers(backend: str, keys: Iterable[str], limit: int) -> int:
    """Return the average answer length, in characters, up to which the archive should fit.

    Args:
        backend: The backend that runs the benchmarks.
        keys: The benchmarks in the archive.
        limit: The largest archive in bytes.
    """
    used, asked = float(FIXED), 0
    for key in keys:
        bench, count = by_key(key), questions(key, backend)
        own = bench.source(backend).archive_bytes
        used += count * (BACKEND_FACTS[backend].archive_bytes if own is None else own)
        used += count * REASONED * PER_CHARACTER if bench.reasons else 0
        asked += 0 if bench.reasons else count
    return max(0, int((limit - used) / (asked * PER_CHARACTER))) if asked else 0


def forecast(backend: str, keys: Iterable[str], limit: int) -> str:
    """Return the line for the plan, "" if the archive is not expected to fit at all."""
    chosen = tuple(keys)
    longest = longest_answers(backend, chosen, limit)
    if longest <= 0:
        return ""
    reasoned = [by_key(key).title.partition(" (")[0] for key in chosen if by_key(key).reasons]
    but = f" ({' and '.join(reasoned)}: {REASONED})" if reasoned else ""
    return (
        f"submission size: fits if answers average at most {longest // 10 * 10} characters{but}; "
        "otherwise upload manually"
    )
