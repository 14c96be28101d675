"""How long answers may be for the archive to fit into a request: said before a run, from what full-size archives were measured to be."""

from __future__ import annotations

from collections.abc import Iterable

from ..benchmarks import LMMS_EVAL, VLMEVALKIT, by_key

REASONED = {
    "omnispatial_(manual_cot)": 800
}  # characters of an answer where the prompt asks for the reasoning
# Measured with tests/benchmarks/archive_size.py on the smallest form: bytes of a question without its answer, and bytes that a
# character of an answer adds (text as hard to compress as words drawn one by one).
PER_QUESTION = {VLMEVALKIT: 20.5, LMMS_EVAL: 16.0}
PER_CHARACTER = 0.405
FIXED = 100_000


def questions(key: str, backend: str) -> int:
    """How many to plan with. 3DSRBench's number on lmms-eval is not known: it is taken to have as many as on VLMEvalKit."""
    bench = by_key(key)
    return bench.source(backend).questions or bench.source(VLMEVALKIT).questions or 0


def longest_answers(backend: str, keys: Iterable[str], limit: int) -> int:
    """The average length of an answer, in characters, up to which the archive of these benchmarks is expected to fit into ``limit`` bytes."""
    counts = {key: questions(key, backend) for key in keys}
    used = FIXED + sum(counts.values()) * PER_QUESTION[backend]
    used += sum(counts[key] * REASONED[key] * PER_CHARACTER for key in counts if key in REASONED)
    asked = sum(count for key, count in counts.items() if key not in REASONED)
    return max(0, int((limit - used) / (asked * PER_CHARACTER))) if asked else 0


def forecast(backend: str, keys: Iterable[str], limit: int) -> str:
    """The line for the plan."""
    chosen = tuple(keys)
    longest = longest_answers(backend, chosen, limit)
    if longest <= 0:
        return ""
    but = " (OmniSpatial's of 800)" if any(key in REASONED for key in chosen) else ""
    return f"the archive fits into one request while answers have up to about {longest // 10 * 10} characters on average{but}; longer ones are uploaded by hand"
