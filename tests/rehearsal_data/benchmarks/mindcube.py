"""MindCube-Tiny."""

from __future__ import annotations

from pathlib import Path

from .. import media
from ..layouts import card, hub_repo, media_repo, pictures, write_table
from ..media import IMAGES, TEXT
from ..questions import YES_NO, Question, QuestionForm, about_pictures, each

_FOUR_VIEWS = (
    "These four images (image 1, 2, 3, and 4) show the {a} "
    "from the front, the left, the back and the right. "
)

MINDCUBE = (
    QuestionForm(
        "among",
        _FOUR_VIEWS + "From where image 1 was taken, what is to the right of the {a}?",
        ("{b}", "{c}", "{d}", "nothing"),
        4,
        group="among",
    ),
    QuestionForm(
        "around",
        "The {a} and the {b} are seen from two places (image 1 and 2). "
        "Standing where image 1 was taken, I turn 90 degrees to the left. Where is the {b}?",
        ("In front of me", "Behind me", "To my left"),
        2,
        group="around",
    ),
    QuestionForm(
        "rotation",
        "I turn on the spot: image 1, 2 and 3 are the views in the order in which I saw them. "
        "What is behind me in image 2?",
        ("{a}", "{b}", "{c}"),
        3,
        group="rotation",
    ),
    QuestionForm(
        "around",
        "Image 1 and image 2 show the {a} from opposite sides. "
        "If I walk forward from image 1, do I get closer to the {c}?",
        YES_NO,
        2,
        group="aroundnew",
    ),
)


def mindcube(seed: int) -> list[Question]:
    """MindCube: four questions per form."""
    return about_pictures(seed, "mindcube_tiny", each(MINDCUBE, 4))


def vlmevalkit(datasets: Path, seed: int) -> None:
    """Write what VLMEvalKit reads."""
    repo = media_repo(datasets, "mindcube_tiny")
    members: dict[str, bytes] = {}
    rows = []
    for question in mindcube(seed):
        paths = mindcube_paths(question)
        members |= {
            path: media.picture(view) for path, view in zip(paths, question.views, strict=True)
        }
        rows.append(
            {
                "index": question.index,
                "id": mindcube_id(question),
                "image_path": repr(paths),
                "question": mindcube_text(question),
                "input_prompt": mindcube_prompt(question),
                "answer": question.answer,
                "category": question.kind,
            }
        )
    write_table(datasets, "mindcube_tiny", rows)
    media.write_zip(repo / "data.zip", members)


def lmms_eval(datasets: Path, seed: int) -> None:
    """Write what lmms-eval reads."""
    repo = hub_repo(datasets, "mindcube_tiny")
    columns = {
        "id": TEXT,
        "category": TEXT,
        "images": IMAGES,
        "question": TEXT,
        "gt_answer": TEXT,
        "input_prompt": TEXT,
        "grounded_output": TEXT,
    }
    rows = [
        {
            "id": mindcube_id(question),
            "category": question.kind,
            "images": pictures(question),
            "question": mindcube_text(question),
            "gt_answer": question.answer,
            "input_prompt": mindcube_prompt(question),
            "grounded_output": f"<Answer>{question.answer}</Answer>",
        }
        for question in mindcube(seed)
    ]
    media.write_parquet(repo / "tiny/combined-00000-of-00001.parquet", columns, rows)
    card(repo, {"tiny": {"combined": "tiny/combined-*"}})


def mindcube_id(question: Question) -> str:
    """The question's id.

    The part before the first underscore is the category; 'aroundnew' counts as 'around'.
    """
    return f"{question.group}_group{question.scene:03}_q{question.index}_1_1"


def mindcube_paths(question: Question) -> list[str]:
    """The paths of a question's pictures."""
    folder = f"data/other_all_image/{question.kind}/{question.group}_group{question.scene:03}"
    return [f"{folder}/{view + 1}_frame_{view:05}.png" for view in range(len(question.views))]


def mindcube_text(question: Question) -> str:
    """The question with its options."""
    return f"{question.text} {question.lettered('{0}. {1}', ' ')}"


def mindcube_prompt(question: Question) -> str:
    """The whole prompt, with ``<image>`` for each picture."""
    pictures = "\n".join("<image>" for _ in question.views)
    return (
        f"{pictures}\n[Task]\nThe pictures show one scene from several viewpoints. "
        "Work out how the things are arranged and answer the question.\n\n"
        '[Answer Instruction]\nGive the option\'s letter only, for example "A".\n\n'
        f"[Question]\n{mindcube_text(question)}"
    )


ASKED = {"mindcube_tiny": mindcube}
