"""How long answers may be for the archive to fit into a request: said before a run, from what full-size archives were measured to be."""

from __future__ import annotations

from collections.abc import Iterable

from ..benchmarks import LMMS_EVAL, VLMEVALKIT

# Questions in each benchmark, to plan with: 3DSRBench with its flipped and circular rows.
QUESTIONS = {
    "vsi_bench": 5130, "mmsi_bench": 1000, "mindcube_tiny": 1050, "viewspatial": 5712, "site_image": 4260, "site_video": 3808, "blink": 1901,
    "3dsrbench": 11686, "embspatial": 3640, "mmsi_video_bench": 1106, "omnispatial_(manual_cot)": 1533, "spar_bench": 7207, "vsi_debiased": 2363,
}
REASONED = {"omnispatial_(manual_cot)": 800}        # characters of an answer where the prompt asks for the reasoning
# Measured with tests/benchmarks/archive_size.py on the smallest form: bytes of a question without its answer, and bytes that a
# character of an answer adds (text as hard to compress as words drawn one by one).
PER_QUESTION = {VLMEVALKIT: 20.5, LMMS_EVAL: 16.0}
PER_CHARACTER = 0.405
FIXED = 100_000


def longest_answers(backend: str, keys: Iterable[str], limit: int) -> int:
    """The average length of an answer, in characters, up to which the archive of these benchmarks is expected to fit into ``limit`` bytes."""
    chosen = [key for key in keys if key in QUESTIONS]
    plain = [key for key in chosen if key not in REASONED]
    used = FIXED + sum(QUESTIONS[key] * PER_QUESTION[backend] for key in chosen)
    used += sum(QUESTIONS[key] * REASONED[key] * PER_CHARACTER for key in chosen if key in REASONED)
    asked = sum(QUESTIONS[key] for key in plain)
    return max(0, int((limit - used) / (asked * PER_CHARACTER))) if asked else 0


def forecast(backend: str, keys: Iterable[str], limit: int) -> str:
    """The line for the plan."""
    chosen = tuple(keys)
    longest = longest_answers(backend, chosen, limit)
    if longest <= 0:
        return ""
    but = " (OmniSpatial's of 800)" if any(key in REASONED for key in chosen) else ""
    return f"the archive fits into one request while answers have up to about {longest // 10 * 10} characters on average{but}; longer ones are uploaded by hand"
