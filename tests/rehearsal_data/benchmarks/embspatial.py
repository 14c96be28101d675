"""EmbSpatial-Bench."""

from __future__ import annotations

import json
from pathlib import Path

from .. import media
from ..layouts import card, hub_repo, pictures, pictures_as_text, write_table
from ..media import IMAGE, INT, TEXT, TEXTS
from ..questions import FOUR_THINGS, LETTERS, Dealer, Question, QuestionForm

EMBSPATIAL = tuple(
    QuestionForm(relation, text, options)
    for relation, text, options in (
        (
            "above",
            "How are the {a} and the {b} placed relative to each other in the image?",
            (
                "The {a} is above the {b}.",
                "The {a} is inside the {b}.",
                "The {a} is under the {b}.",
                "The {a} is left of the {b}.",
            ),
        ),
        (
            "under",
            "What is the relation of the {a} to the {c} in the image?",
            ("above", "under", "inside", "right of"),
        ),
        (
            "left",
            "Where is the {a} relative to the {b} in the image?",
            ("to the left", "to the right", "on top of it", "below it"),
        ),
        ("right", "Which of these is to the right of the door in the image?", FOUR_THINGS),
        ("close", "Which of these objects is the closest in the image?", FOUR_THINGS),
        ("far", "Which of these objects is the farthest away in the image?", FOUR_THINGS),
    )
)


def embspatial(seed: int) -> list[Question]:
    """EmbSpatial-Bench; ``extra`` holds ``source``, the dataset that the picture is from."""
    dealer = Dealer(seed, "embspatial")
    asked = [(source, form) for source in ("mp3d", "ai2thor", "scannet") for form in EMBSPATIAL]
    return [
        dealer.ask(index, form, index // 2, {"source": source})
        for index, (source, form) in enumerate(asked)
    ]


def vlmevalkit(datasets: Path, seed: int) -> None:
    """Write what VLMEvalKit reads."""
    rows = [
        {
            "index": question.index,
            "image": pictures_as_text(question),
            "question": question.text,
            "options": json.dumps(question.options, ensure_ascii=False),
            "answer": question.answer,
            "data_source": question.extra["source"],
            "category": question.kind,
        }
        for question in embspatial(seed)
    ]
    write_table(datasets, "embspatial", rows)


def lmms_eval(datasets: Path, seed: int) -> None:
    """Write what lmms-eval reads."""
    repo = hub_repo(datasets, "embspatial")
    columns = {
        "question_id": TEXT,
        "question": TEXT,
        "image": IMAGE,
        "answer_options": TEXTS,
        "answer": INT,
        "data_source": TEXT,
        "relation": TEXT,
    }
    rows = [
        {
            "question_id": f"{question.extra['source']}_{question.index}",
            "question": question.text,
            "image": pictures(question)[0],
            "answer_options": list(question.options),
            "answer": LETTERS.index(question.answer),
            "data_source": question.extra["source"],
            "relation": question.kind,
        }
        for question in embspatial(seed)
    ]
    media.write_parquet(repo / "data/test-00000-of-00001.parquet", columns, rows)
    card(repo, {"default": {"test": "data/test-*"}})


ASKED = {"embspatial": embspatial}
