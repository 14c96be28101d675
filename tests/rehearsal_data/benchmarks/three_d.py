"""3DSRBench."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

from .. import media
from ..layouts import card, hub_repo, letter_columns, write_table
from ..media import IMAGE, TEXT
from ..questions import FOUR_SIDES, LETTERS, YES_NO, Dealer, Question, QuestionForm

_TWO = ("the {a}", "the {b}")

_MIRRORED_SIDES = {"left": "right", "right": "left"}

_MIRRORED_YES = {"Yes": "No", "No": "Yes"}

THREE_D = (
    QuestionForm(
        "height_higher", "Which object is higher up in the 3D scene, the {a} or the {b}?", _TWO
    ),
    QuestionForm("location_above", "In the 3D scene, is the {a} right above the {b}?", YES_NO),
    QuestionForm(
        "location_closer_to_camera",
        "Which object is closer to the camera, the {a} or the {b}?",
        _TWO,
    ),
    QuestionForm(
        "location_next_to",
        "Are the {a} and the {b} next to each other or far apart?",
        ("next to each other", "far apart"),
    ),
    QuestionForm(
        "orientation_in_front_of",
        "Seen from the {a}, is the {b} in front of it or behind it?",
        ("in front of", "behind"),
    ),
    QuestionForm(
        "orientation_on_the_left",
        "Seen from the {a}, is the {b} on its left side?",
        YES_NO,
        mirror=_MIRRORED_YES,
    ),
    QuestionForm(
        "orientation_viewpoint",
        "Which side of the {a} faces the camera?",
        FOUR_SIDES,
        mirror=_MIRRORED_SIDES,
    ),
    QuestionForm(
        "multi_object_closer_to", "Which object is closer to the {c}, the {a} or the {b}?", _TWO
    ),
    QuestionForm(
        "multi_object_facing", "Does the {a} face the {b} or the {c}?", ("the {b}", "the {c}")
    ),
    QuestionForm(
        "multi_object_parallel",
        "Are the {a} and the {b} parallel to each other or at a right angle?",
        ("parallel", "perpendicular"),
    ),
    QuestionForm(
        "multi_object_same_direction",
        "Do the {a} and the {b} face the same way or opposite ways?",
        ("same direction", "opposite directions"),
    ),
    QuestionForm(
        "multi_object_viewpoint_towards_object",
        "Which side of the {a} faces the {b}?",
        FOUR_SIDES,
        mirror=_MIRRORED_SIDES,
    ),
)


def three_d(seed: int) -> list[Question]:
    """3DSRBench's circular rows: each question plain and mirrored, with its options rotated.

    ``extra`` holds ``qid`` (8 characters, then ``-flip`` if mirrored, then ``-<rotation>`` if
    rotated) and ``mirrored`` ('' or 'yes').
    """
    dealer = Dealer(seed, "3dsrbench")
    rows: list[Question] = []
    for number, form in enumerate(THREE_D):
        asked = dealer.ask(number, form, number)
        truth = asked.options[LETTERS.index(asked.answer)]
        qid = random.Random(f"{dealer.key}/{number}").choices(
            "ABCDEFGHJKLMNPQRSTUVWXYZ23456789", k=8
        )
        for flip in ("", "-flip"):
            right = form.mirror.get(truth, truth) if flip else truth
            for turn in range(len(asked.options)):
                options = asked.options[turn:] + asked.options[:turn]
                extra = {
                    "qid": "".join(qid) + flip + (f"-{turn}" if turn else ""),
                    "mirrored": "yes" if flip else "",
                }
                answer = LETTERS[options.index(right)]
                rows.append(
                    replace(asked, index=len(rows), options=options, answer=answer, extra=extra)
                )
    return rows


def vlmevalkit(datasets: Path, seed: int) -> None:
    """Write what VLMEvalKit reads."""
    rows = [
        {
            "index": question.index,
            "qid": question.extra["qid"],
            "image": media.as_base64(three_d_picture(question)),
            "question": question.text,
            **letter_columns(question, 4),
            "answer": question.answer,
            "category": question.kind,
        }
        for question in three_d(seed)
    ]
    write_table(datasets, "3dsrbench", rows)


def lmms_eval(datasets: Path, seed: int) -> None:
    """Write what lmms-eval reads."""
    repo = hub_repo(datasets, "3dsrbench")
    columns = {
        "index": TEXT,
        "qid": TEXT,
        "image": IMAGE,
        "question": TEXT,
        **dict.fromkeys(LETTERS[:4], TEXT),
        "answer": TEXT,
        "category": TEXT,
    }
    circular = [
        {
            "index": str(question.index),
            "qid": question.extra["qid"],
            "image": media.image_value(three_d_picture(question)),
            "question": question.text,
            **dict(zip(LETTERS, question.options, strict=False)),
            "answer": question.answer,
            "category": question.kind,
        }
        for question in three_d(seed)
    ]
    # The plain config has no rotated options: the question as it is and its mirror image.
    plain = [row for row in circular if str(row["qid"])[8:] in ("", "-flip")]
    media.write_parquet(repo / "3dsr/test-00000-of-00001.parquet", columns, plain)
    media.write_parquet(repo / "3dsr_circular/test-00000-of-00001.parquet", columns, circular)
    card(repo, {config: {"test": f"{config}/test-*"} for config in ("3dsr", "3dsr_circular")})


def three_d_picture(question: Question) -> bytes:
    """The question's picture, mirrored where the question says so."""
    return media.picture(question.views[0], mirrored=bool(question.extra["mirrored"]))


ASKED = {"3dsrbench": three_d}
