"""MMSI-Bench."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from .. import media
from ..layouts import card, hub_repo, letter_columns, pictures_as_text, write_table
from ..media import BYTES, INT, TEXT
from ..questions import CORNERS, FOUR_SIDES, Question, QuestionForm, about_pictures

_DRIVE = "The two images were taken one after the other by somebody who walks through the room. "

MMSI = (
    QuestionForm(
        "Pos-Cam-Cam",
        _DRIVE + "Seen from the first camera, where was the second image taken?",
        CORNERS,
        2,
    ),
    QuestionForm(
        "Pos-Obj-Obj",
        "The {a} stands at the north wall. In which direction of the {a} is the {b}?",
        ("North", "South", "East", "West"),
        2,
    ),
    QuestionForm(
        "Pos-Reg-Reg",
        "If the corner with the {a} is north of the corner with the {b}, "
        "where is the kitchen area relative to the sleeping area?",
        ("Northeast", "Southeast", "Northwest", "Southwest"),
        3,
    ),
    QuestionForm(
        "Pos-Cam-Obj",
        "When you took the second image, where was the {a} relative to you?",
        FOUR_SIDES,
        2,
    ),
    QuestionForm("Pos-Obj-Reg", "Relative to the dining area, where is the {a}?", FOUR_SIDES, 2),
    QuestionForm(
        "Pos-Cam-Reg",
        "When you took the first image, where was the area with the {a} relative to you?",
        FOUR_SIDES,
        2,
    ),
    QuestionForm(
        "Attr-Meas",
        "Which of these things has the longest edge?",
        ("The {a}", "The {b}", "The {c}", "The {d}"),
        2,
    ),
    QuestionForm(
        "Attr-Appr",
        "Which shape does the top of the {a} have when it is seen from above?",
        ("A circle", "A square", "An L-shape", "A triangle"),
        3,
    ),
    QuestionForm(
        "Motion-Cam",
        _DRIVE + "How did the camera turn from the first image to the second?",
        ("Left", "Right", "Upwards", "Downwards"),
        2,
    ),
    QuestionForm(
        "Motion-Obj",
        "The camera stands still. How did the {a} move between the images?",
        (
            "Left while moving away",
            "Right while coming closer",
            "Left while coming closer",
            "Right while moving away",
        ),
        2,
    ),
    QuestionForm(
        "MSR",
        _DRIVE + "First walk to the {a}, then turn towards the {b} and go on to the {c}: "
        "on which side is the {d} now?",
        FOUR_SIDES,
        3,
    ),
)

# MMSI-Bench's names of its question types by VLMEvalKit's names; as in the real data, they contain
# en dashes.
MMSI_TYPES = {
    "Pos-Cam-Cam": "Positional Relationship (Cam.–Cam.)",
    "Pos-Obj-Obj": "Positional Relationship (Obj.–Obj.)",
    "Pos-Reg-Reg": "Positional Relationship (Reg.–Reg.)",
    "Pos-Cam-Obj": "Positional Relationship (Cam.–Obj.)",
    "Pos-Obj-Reg": "Positional Relationship (Obj.–Reg.)",
    "Pos-Cam-Reg": "Positional Relationship (Cam.–Reg.)",
    "Attr-Meas": "Attribute (Meas.)",
    "Attr-Appr": "Attribute (Appr.)",
    "Motion-Cam": "Motion (Cam.)",
    "Motion-Obj": "Motion (Obj.)",
    "MSR": "MSR",
}


def mmsi(seed: int) -> list[Question]:
    """MMSI-Bench: two questions per type."""
    return about_pictures(seed, "mmsi_bench", MMSI * 2)


def vlmevalkit(datasets: Path, seed: int) -> None:
    """Write what VLMEvalKit reads."""
    rows = [
        {
            "index": question.index,
            "image": pictures_as_text(question, "JPEG"),
            "question": question.text,
            **letter_columns(question, 4),
            "answer": question.answer,
            "category": question.kind,
        }
        for question in mmsi(seed)
    ]
    write_table(datasets, "mmsi_bench", rows)


def lmms_eval(datasets: Path, seed: int) -> None:
    """Write what lmms-eval reads."""
    repo = hub_repo(datasets, "mmsi_bench")
    # The real file holds encoded pictures as plain bytes, not as an image feature.
    columns = {
        "id": INT,
        "images": pa.list_(BYTES),
        "question_type": TEXT,
        "question": TEXT,
        "answer": TEXT,
        "thought": TEXT,
    }
    rows = [
        {
            "id": question.index,
            "images": [media.picture(view, "JPEG") for view in question.views],
            "question_type": MMSI_TYPES[question.kind],
            "question": f"{question.text}\nOptions: {question.lettered('{0}: {1}', ', ')}",
            "answer": question.answer,
            "thought": "",
        }
        for question in mmsi(seed)
    ]
    media.write_parquet(repo / "MMSI_Bench.parquet", columns, rows)
    card(repo, {"default": {"test": "MMSI_Bench.parquet"}})


ASKED = {"mmsi_bench": mmsi}
