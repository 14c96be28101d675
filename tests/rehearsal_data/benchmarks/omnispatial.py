"""OmniSpatial."""

from __future__ import annotations

from pathlib import Path

from .. import media
from ..layouts import card, hub_repo, letter_columns, media_repo, write_table
from ..media import TEXT, TEXTS
from ..questions import (
    FOUR_SIDES,
    FOUR_THINGS,
    YES_NO,
    Question,
    QuestionForm,
    about_pictures,
    each,
)

OMNISPATIAL = tuple(
    QuestionForm(kind, text, options, group=group)
    for group, kind, text, options in (
        (
            "Dynamic_Reasoning",
            "Manipulation",
            "Which way must the handle of the {a} be turned to open it?",
            ("clockwise", "counter-clockwise", "it cannot be turned"),
        ),
        (
            "Dynamic_Reasoning",
            "Motion_Analysis",
            "In which direction does the person in the middle run?",
            FOUR_SIDES,
        ),
        (
            "Spatial_Interaction",
            "Traffic_Analysis",
            "If the car keeps its lane, will it hit the bicycle?",
            YES_NO,
        ),
        (
            "Spatial_Interaction",
            "Localization",
            "Where is the {a} in the picture?",
            ("top left", "top right", "bottom left", "bottom right"),
        ),
        (
            "Spatial_Interaction",
            "Geospatial_Strategy",
            "Which way leads from the start to the goal on the map?",
            ("north, then east", "east, then north", "south, then west", "west, then south"),
        ),
        (
            "Complex_Logic",
            "Pattern_Recognition",
            "Which piece completes the pattern?",
            ("piece 1", "piece 2", "piece 3", "piece 4"),
        ),
        (
            "Complex_Logic",
            "Geometric_Reasoning",
            "Which solid does the net fold into?",
            ("a cube", "a pyramid", "a prism", "a cylinder"),
        ),
        (
            "Perspective_Taking",
            "Egocentric",
            "Which thing is on the right side of the picture?",
            FOUR_THINGS,
        ),
        (
            "Perspective_Taking",
            "Allocentric",
            "Seen from the person who sits on the {a}, where is the {b}?",
            FOUR_SIDES,
        ),
        (
            "Perspective_Taking",
            "Hypothetical",
            "If you stood behind the {a}, which thing would you see first?",
            FOUR_THINGS,
        ),
    )
)


def omnispatial(seed: int) -> list[Question]:
    """OmniSpatial: two questions per sub-task."""
    return about_pictures(seed, "omnispatial", each(OMNISPATIAL, 2))


def vlmevalkit(datasets: Path, seed: int) -> None:
    """Write what VLMEvalKit reads."""
    repo = media_repo(datasets, "omnispatial_(manual_cot)")
    members: dict[str, bytes] = {}
    rows = []
    for question in omnispatial(seed):
        path = omnispatial_path(question)
        members[path] = media.picture(question.views[0])
        # VLMEvalKit puts the folder's name in front of the paths.
        rows.append(
            {
                "index": question.index,
                "image_path": path.removeprefix("OmniSpatial-test/"),
                "question": question.text,
                **letter_columns(question, 4),
                "answer": question.answer,
                "task_type": question.group,
                "sub_task_type": question.kind,
            }
        )
    write_table(datasets, "omnispatial_(manual_cot)", rows)
    media.write_zip(repo / "OmniSpatial-test.zip", members)


def lmms_eval(datasets: Path, seed: int) -> None:
    """Write what lmms-eval reads."""
    repo = hub_repo(datasets, "omnispatial_(manual_cot)")
    columns = {
        "id": TEXT,
        "question": TEXT,
        "options": TEXTS,
        "gt": TEXT,
        "task_type": TEXT,
        "sub_task_type": TEXT,
        "image_path": TEXT,
    }
    rows = []
    for question in omnispatial(seed):
        path = omnispatial_path(question)
        media.write(repo / path, media.picture(question.views[0]))
        rows.append(
            {
                "id": f"{question.scene}_{question.index % 2}",
                "question": question.text,
                "options": list(question.options),
                "gt": question.answer,
                "task_type": question.group,
                "sub_task_type": question.kind,
                "image_path": path,
            }
        )
    media.write_parquet(repo / "data/test-00000-of-00001.parquet", columns, rows)
    card(repo, {"default": {"test": "data/test-*"}})


def omnispatial_path(question: Question) -> str:
    """The path of a question's picture."""
    return f"OmniSpatial-test/{question.group}/{question.scene}.png"


ASKED = {"omnispatial_(manual_cot)": omnispatial}
