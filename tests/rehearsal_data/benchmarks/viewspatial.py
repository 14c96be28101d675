"""ViewSpatial-Bench."""

from __future__ import annotations

from pathlib import Path

from .. import media
from ..layouts import card, hub_repo, lettered_options, media_repo, write_table
from ..media import IMAGES, TEXT
from ..questions import LETTERS, Question, QuestionForm, about_pictures, each

VIEWSPATIAL = (
    QuestionForm(
        "Camera perspective - Relative Direction",
        "From the camera's point of view, where is the {a} in relation to the {b}?",
        ("left", "front-right", "back-right", "front"),
    ),
    QuestionForm(
        "Camera perspective - Object View Orientation",
        "From the camera's point of view, in which direction does the man look?",
        ("left", "right", "front", "back-left"),
    ),
    QuestionForm(
        "Person perspective - Object View Orientation",
        "From the woman's point of view, in which direction does the child look?",
        ("front-left", "right", "back", "front-right"),
    ),
    QuestionForm(
        "Person perspective - Relative Direction",
        "From the point of view of the person in the picture, where is the {a}?",
        ("left", "right", "back-right", "front"),
    ),
    QuestionForm(
        "Person perspective - Scene Simulation Relative Direction",
        "Imagine you stand next to the {a} and look at the {b}. Where is the {c} from there?",
        ("front-left", "back", "right", "back-right"),
        2,
    ),
)


def viewspatial(seed: int) -> list[Question]:
    """ViewSpatial-Bench: four questions per type."""
    return about_pictures(seed, "viewspatial", each(VIEWSPATIAL, 4))


def vlmevalkit(datasets: Path, seed: int) -> None:
    """Write what VLMEvalKit reads."""
    repo = media_repo(datasets, "viewspatial")
    zips: dict[str, dict[str, bytes]] = {"scannetv2_val": {}, "val2017": {}}
    rows = []
    for question in viewspatial(seed):
        # Questions about people are about photographs, the others about scanned rooms.
        folder = (
            "val2017"
            if "Person" in question.kind and "Scene" not in question.kind
            else "scannetv2_val"
        )
        paths = [f"{folder}/{question.scene:06}_{view}.jpg" for view in range(len(question.views))]
        zips[folder] |= {
            path: media.picture(view, "JPEG")
            for path, view in zip(paths, question.views, strict=True)
        }
        rows.append(
            {
                "index": question.index,
                "image_path": repr(paths),
                "question": question.text,
                "candidates": question.lettered("{0}. {1}", "\n"),
                "answer": question.answer,
                "question_type": question.kind,
            }
        )
    write_table(datasets, "viewspatial", rows)
    for folder, members in zips.items():
        media.write_zip(repo / f"{folder}.zip", members)


def lmms_eval(datasets: Path, seed: int) -> None:
    """Write what lmms-eval reads."""
    repo = hub_repo(datasets, "viewspatial")
    columns = {
        "question_type": TEXT,
        "images": IMAGES,
        "question": TEXT,
        "answer": TEXT,
        "choices": TEXT,
    }
    rows = [
        {
            "question_type": question.kind,
            "question": question.text,
            "choices": question.lettered("{0}. {1}", "\n"),
            "images": [media.image_value(media.picture(view, "JPEG")) for view in question.views],
            "answer": lettered_options(question)[LETTERS.index(question.answer)],
        }
        for question in viewspatial(seed)
    ]
    media.write_parquet(repo / "data/test-00000-of-00001.parquet", columns, rows)
    card(repo, {"default": {"test": "data/test-*"}})


ASKED = {"viewspatial": viewspatial}
