"""Answers of which the model class kept the beginning only: seen in what was decoded."""

from __future__ import annotations

import pytest

from easi_eval.engine.vlm.cuts import cuts

BLANK = ["\n\n"]


@pytest.mark.parametrize(
    ("answer", "decoded", "cut"),
    [
        ("First.", ["First.\n\nAnswer: B"], "\n\n"),
        ("First.", [" First. \n\nAnswer: B<|im_end|>"], "\n\n"),
        ("First.", ["<s> First.\n\nAnswer: B</s>"], "\n\n"),
        ("", ["\n\nAnswer: B"], "\n\n"),
        ("First.", ["First."], ""),
        ("First.", ["First.<|im_end|>\n\nuser: and now"], ""),  # the turn was over
        ("B", ["B."], ""),  # no word is lost
        ("B", ["so the answer is B"], ""),  # the end was kept
        ("B", [], ""),  # nothing was seen
        ("", ["B"], ""),
        ("one", ["one two"], " "),  # at something that nobody named
        ("First.", ["First.", "First.\n\nAnswer: B"], ""),  # decoded as it is, too
    ],
)
def test_where_an_answer_was_cut(answer: str, decoded: list[str], cut: str) -> None:
    assert cuts([answer], decoded, BLANK) == [cut]


def test_the_answers_of_a_batch_are_told_apart() -> None:
    decoded = ["Look.\n\nAnswer: B", "Whole.", "Look.\n\nAnswer: C"]
    assert cuts(["Whole.", "Look.", "Look."], decoded, BLANK) == ["", "\n\n", "\n\n"]
