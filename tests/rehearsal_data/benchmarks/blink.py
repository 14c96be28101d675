"""BLINK."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .. import media
from ..layouts import card, hub_repo, letter_columns, pictures, pictures_as_text, write_table
from ..media import IMAGE, TEXT, TEXTS
from ..questions import IMAGE_NAMES, POINTS, Question, QuestionForm, about_pictures, each

BLINK = (
    QuestionForm(
        "Art_Style",
        "The first image is the reference. Which of the other two images has the same art style?",
        ("the second image", "the third image"),
        3,
    ),
    QuestionForm("Counting", "How many {a}s are in the image?", ("0", "1", "3", "2")),
    QuestionForm(
        "Forensic_Detection",
        "Only one of these four images is a real photograph. Which one is it?",
        IMAGE_NAMES,
        4,
    ),
    QuestionForm(
        "Functional_Correspondence",
        "A point on the {a} in the first image is marked REF. Which point in the second image "
        "has the same use?",
        POINTS,
        2,
    ),
    QuestionForm(
        "IQ_Test",
        "Which picture continues the series?",
        ("picture A", "picture B", "picture C", "picture D"),
    ),
    QuestionForm(
        "Jigsaw",
        "The lower right corner of the first image is missing. Which image fits there?",
        ("the second image", "the third image"),
        3,
    ),
    QuestionForm(
        "Multi-view_Reasoning",
        "The images are frames of a video around the {a}. Does the camera move clockwise or "
        "counter-clockwise?",
        ("clockwise", "counter-clockwise"),
        2,
    ),
    QuestionForm("Object_Localization", "Which box shows where the {a} is?", ("Box A", "Box B")),
    QuestionForm(
        "Relative_Depth",
        "Two points are marked in the image. Which one is closer to the camera?",
        ("A is closer", "B is closer"),
    ),
    QuestionForm(
        "Relative_Reflectance",
        "Which of the two marked points has the darker surface?",
        ("A is darker", "B is darker", "About the same"),
    ),
    QuestionForm(
        "Semantic_Correspondence",
        "A point on the {a} in the first image is marked REF. Which point in the second image "
        "is on the same part?",
        POINTS,
        2,
    ),
    QuestionForm("Spatial_Relation", "Is the {a} to the left of the {b}?", ("yes", "no")),
    QuestionForm(
        "Visual_Correspondence",
        "Which point in the second image is the point marked REF in the first image?",
        POINTS,
        2,
    ),
    QuestionForm(
        "Visual_Similarity",
        "Which image is more like the first one?",
        ("the second image", "the third image"),
        3,
    ),
)


def blink(seed: int) -> list[Question]:
    """BLINK: two questions per task, sorted by task."""
    return about_pictures(seed, "blink", each(BLINK, 2), per_scene=1)


def vlmevalkit(datasets: Path, seed: int) -> None:
    """Write what VLMEvalKit reads."""
    rows = [
        {
            "index": question.index,
            "image": pictures_as_text(question),
            "question": question.text,
            **letter_columns(question, 4),
            "answer": question.answer,
            "category": question.kind,
        }
        for question in blink(seed)
    ]
    write_table(datasets, "blink", rows)


def lmms_eval(datasets: Path, seed: int) -> None:
    """Write what lmms-eval reads."""
    repo = hub_repo(datasets, "blink")
    slots = [f"image_{number}" for number in range(1, 5)]
    columns = {
        "idx": TEXT,
        "sub_task": TEXT,
        "question": TEXT,
        **dict.fromkeys(slots, IMAGE),
        "choices": TEXTS,
        "answer": TEXT,
        "prompt": TEXT,
        "explanation": TEXT,
    }
    tasks: dict[str, list[dict[str, Any]]] = {}
    for question in blink(seed):
        rows = tasks.setdefault(question.kind, [])
        prompt = (
            f"{question.text}\nSelect from the following choices.\n"
            f"{question.lettered('({0}) {1}', chr(10))}"
        )
        rows.append(
            {
                "idx": f"val_{question.kind}_{len(rows) + 1}",
                "sub_task": question.kind,
                "question": question.text,
                **dict(zip(slots, pictures(question), strict=False)),
                "choices": list(question.options),
                "answer": f"({question.answer})",
                "prompt": prompt,
                "explanation": "",
            }
        )
    for task, rows in tasks.items():
        media.write_parquet(repo / task / "val-00000-of-00001.parquet", columns, rows)
        # The answers of the test split are not public; every row says so.
        hidden = [
            row | {"idx": row["idx"].replace("val", "test"), "answer": "hidden"} for row in rows[:1]
        ]
        media.write_parquet(repo / task / "test-00000-of-00001.parquet", columns, hidden)
    card(repo, {task: {"val": f"{task}/val-*", "test": f"{task}/test-*"} for task in tasks})


ASKED = {"blink": blink}
