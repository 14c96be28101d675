"""The data of the question browser: what fits, what comes first, and what is said to be missing."""

from __future__ import annotations

import json
import random
import string
import zlib

import pytest

from easi_eval.benchmarks import ALL_KEYS
from easi_eval.report.questions import Blocks, Columns, outcome, pack
from easi_eval.scores.row_table import frame
from reports import record

KEY = ALL_KEYS[0]
WHOLE_RUN, ROOM = 50_396, 3_600_000  # questions, and bytes for them in a page of 5 MB


def columns_of(records: list[dict[str, object]]) -> Columns:
    columns = Columns()
    columns.add(KEY, frame(records, asked=True), {}, {})
    return columns


def details(made: Blocks) -> dict[int, list[object]]:
    lines = zlib.decompress(made.details).decode().splitlines()
    return {found[0]: found for found in map(json.loads, lines)}


def answers(made: Blocks) -> list[object]:
    return list(json.loads(zlib.decompress(made.answers)))


def size(made: Blocks) -> int:
    return len(made.columns) + len(made.answers) + len(made.details)


WORDS = [
    "".join(random.Random(number).choices(string.ascii_lowercase, k=2 + number % 8))
    for number in range(1500)
]


def prose(rng: random.Random, length: float) -> str:
    return " ".join(rng.choices(WORDS, k=1 + int(length / 5)))[: int(length)]


@pytest.mark.parametrize("length", [60, 800, 6000])
def test_a_share_of_a_whole_run_fits_into_its_share_of_a_page(length: int) -> None:
    rng, count = random.Random(length), WHOLE_RUN // 40
    records = [
        record(
            KEY,
            number,
            answer=prose(rng, max(1.0, rng.gauss(length, length / 4))),
            question=prose(rng, 300),
            score=float(number % 2),
        )
        for number in range(count)
    ]
    made = pack(columns_of(records), ROOM // 40, {})
    assert size(made) <= ROOM // 40
    shown, more = answers(made), details(made)
    assert len(shown) == count
    whole = 0
    for number, (one, told) in enumerate(zip(records, shown, strict=True)):
        answer = str(one["answer"])
        if isinstance(told, str) or (number in more and more[number][2]):
            assert answer == (told if isinstance(told, str) else more[number][2])
            whole += 1
        else:
            assert isinstance(told, list) and told[2] == len(answer)
            assert answer.startswith(told[0]) and answer.endswith(told[1])
            least = made.shown if one["score"] else (30, 40)  # of wrong ones more is shown
            assert (len(told[0]), len(told[1])) >= least
    assert made.shortened == count - whole
    assert made.unasked == count - sum(bool(found[1]) for found in more.values())


def test_failed_unparsed_and_wrong_ones_come_first() -> None:
    kinds = [
        {"score": 1.0},
        {},
        {"parsed": False},
        {"failed": True, "parsed": None},
    ] * 300
    records = [
        record(KEY, number, question=prose(random.Random(number), 400), **kind)
        for number, kind in enumerate(kinds)
    ]
    everything = pack(columns_of(records), 1 << 30, {})
    assert everything.unasked == 0
    part = pack(columns_of(records), size(everything) - len(everything.details) // 3, {})
    kept = [number % 4 for number in details(part)]
    assert kept == sorted(kept, reverse=True) and kept.count(3) == kept.count(2) == 300
    assert 0 not in kept and part.unasked == 1200 - len(kept)


def test_texts_that_cannot_be_deflated_are_cut_further() -> None:
    rng = random.Random(3)
    records = [
        record(KEY, number, answer="".join(chr(rng.randint(0x4E00, 0x9FFF)) for _ in range(400)))
        for number in range(2000)
    ]
    made = pack(columns_of(records), 200_000, {})
    assert size(made) <= 200_000
    assert made.shortened == 2000 - len(details(made)) and made.shown < (100, 200)


@pytest.mark.parametrize(
    ("failed", "parsed", "score", "expected"),
    [
        (True, None, 0.0, "f"),
        (False, False, 0.0, "u"),
        (False, False, 1.0, "u"),  # a random letter that happens to be right
        (False, True, 0.0, "w"),
        (False, None, 0.0, "w"),
        (False, True, 0.3, "p"),
        (False, None, 1.0, "r"),
    ],
)
def test_outcomes(failed: bool, parsed: bool | None, score: float, expected: str) -> None:
    assert outcome(failed, parsed, score) == expected
    columns = columns_of([record(KEY, 0, failed=failed, parsed=parsed, score=score)])
    assert columns.outcomes == [expected]
