"""What is suspicious about the answers of a benchmark whose numbers are all right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from easi_eval.backends.canaries import warnings
from easi_eval.benchmarks import VLMEVALKIT, by_key
from easi_eval.engine.journal import Answer
from easi_eval.scores.report import summary
from easi_eval.scores.row_table import frame
from easi_eval.scores.score_table import BenchmarkScore, Reading, ScoreTable, State
from easi_eval.scores.table import markdown_text

BLINK, OMNI = by_key("blink"), by_key("omnispatial_(manual_cot)")
KEYS = "ABCD"


def rows(
    texts: Sequence[str],
    targets: Sequence[str] | None = None,
    failed: int = 0,
    extracted: Sequence[str | None] | None = None,
):
    return frame(
        {
            "benchmark": "blink",
            "item": str(number),
            "question_type": "",
            "answer": text,
            "extracted": extracted[number] if extracted else None,
            "target": targets[number] if targets else KEYS[number % 4],
            "score": 0.0,
            "parsed": True,
            "cluster": "",
            "options": None,
            "coin_flip": False,
            "failed": number < failed,
        }
        for number, text in enumerate(texts)
    )


def answers(finishes: Sequence[str | None], tokens: int | None = None) -> list[Answer]:
    return [
        Answer("blink", str(number), 0, "x", 0.1, tokens, finish)
        for number, finish in enumerate(finishes)
    ]


WELL = [KEYS[number % 4] for number in range(100)]


def test_good_answers_are_not_suspicious() -> None:
    assert warnings(BLINK, rows(WELL), answers(["stop"] * 100, 20)) == ()
    assert warnings(BLINK, rows(WELL), ()) == (), "nothing is known of tokens under --plain"
    assert warnings(BLINK, rows([], ()), ()) == ()


@pytest.mark.parametrize(
    ("cut", "empty", "said"),
    [
        (2, 0, ""),
        (3, 0, "of 100 answers 3 ended at the token limit"),
        (0, 2, ""),
        (0, 3, "of 100 answers 3 are empty"),
        (2, 2, "of 100 answers 2 ended at the token limit and 2 are empty"),
    ],
)
def test_truncated_and_empty_answers_above_two_percent(cut: int, empty: int, said: str) -> None:
    texts = ["  " if number >= 100 - empty else text for number, text in enumerate(WELL)]
    found = warnings(BLINK, rows(texts), answers(["length"] * cut + ["stop"] * (100 - cut)))
    assert len(found) == bool(said) and said in "".join(found)


def test_an_answer_of_which_nothing_is_known_is_not_truncated_and_a_failed_one_is_not_empty() -> (
    None
):
    assert warnings(BLINK, rows(WELL), answers([None] * 100)) == ()
    assert warnings(BLINK, rows(["", "", "", *WELL[3:]], failed=3), answers(["stop"] * 100)) == ()


@pytest.mark.parametrize(
    ("bench", "text", "tokens", "suspicious"),
    [
        (OMNI, "B", 2, True),
        (OMNI, "B", 3, False),
        (BLINK, "B", 2, False),
        (OMNI, "B", None, True),  # one byte is no three tokens
        (OMNI, "Answer: B", None, False),  # nobody counted them
    ],
)
def test_answers_without_reasoning_where_the_prompt_asks_for_it(
    bench, text: str, tokens: int | None, suspicious: bool
) -> None:
    found = warnings(bench, rows([text] * 10), answers(["stop"] * 10, tokens))
    assert any("asks for reasoning" in line for line in found) == suspicious


@pytest.mark.parametrize(
    ("texts", "targets", "said"),
    [
        (["B"] * 19, None, False),  # chance, and few
        (["B"] * 20, None, True),
        (["(B)"] * 19 + ["A"], None, True),
        (["B"] * 18 + ["A"] * 2, None, False),  # 90 %, not more
        (["B"] * 20, ["B"] * 15 + ["A"] * 5, False),  # the key has it
        (["B"] * 20, ["B"] * 14 + ["A"] * 6, True),
        (["1.5"] * 30, ["2.0"] * 30, False),  # no letters
    ],
)
def test_one_letter_for_nearly_every_question(
    texts: list[str], targets: list[str] | None, said: bool
) -> None:
    assert bool(warnings(BLINK, rows(texts, targets), ())) == said


def test_a_letter_that_the_backend_read_out_of_a_sentence_counts() -> None:
    found = warnings(BLINK, rows(["I see a dog, so B."] * 20, extracted=["B"] * 20), ())
    assert found == (
        "20 of 20 multiple-choice questions were answered B: check that the model gets the images "
        "and the question",
    )


def test_it_is_said_above_the_table_and_in_the_markdown() -> None:
    score = BenchmarkScore(
        "blink",
        Reading(50.0),
        n=100,
        total=100,
        state=State.COMPLETE,
        warnings=("of 100 answers 3 are empty",),
    )
    table = ScoreTable((score,), "org/m", VLMEVALKIT)
    lines = summary(table)
    said = "warning: BLINK: of 100 answers 3 are empty"
    assert lines.index(said) < next(
        number for number, line in enumerate(lines) if line.startswith("benchmark")
    )
    text = markdown_text(table)
    assert text.index(said) < text.index("| benchmark |")
    quiet = ScoreTable((replace(score, warnings=()),), "org/m", VLMEVALKIT)
    assert "warning" not in "\n".join(summary(quiet)) + markdown_text(quiet)
