"""SPAR-Bench: its questions contain their options."""

from __future__ import annotations

from pathlib import Path

from .. import media
from ..layouts import card, hub_repo, pictures, pictures_as_text, write_table
from ..media import IMAGES, TEXT
from ..questions import Question, QuestionForm, about_pictures

_CENTRES = " Judge by the 3D centre points of these objects."

_SAID_DEPTH = "The {a} (red box) lies at a depth of 2.0 meters. "

_MV = "The images show one room from several places. "

_POSITION = (
    "Where is the {a} (red box) relative to the {b} (blue box), "
    "seen by the observer of the first image?",
    ("Left; Above; Far", "Left; Below; Near", "Right; Above; Near", "Right; Below; Far"),
)

_BOXES = (
    "(120, 85, 310, 402)",
    "(433, 210, 598, 377)",
    "(610, 95, 742, 280)",
    "(25, 505, 188, 760)",
)

_MOVED = ("(352, 418), 1.4", "(701, 233), 2.1", "(128, 640), 0.9", "(544, 512), 3.0")

SPAR = (
    QuestionForm(
        "depth_prediction_oc", "What is the depth of the {a} (red box) in meters?" + _CENTRES
    ),
    QuestionForm(
        "depth_prediction_oo",
        _SAID_DEPTH + "What is the depth of the {b} (blue box) in meters?" + _CENTRES,
    ),
    QuestionForm(
        "distance_prediction_oc",
        "What is the distance between the observer and the {a} (red box) in meters?" + _CENTRES,
    ),
    QuestionForm(
        "distance_prediction_oo",
        "What is the distance between the {a} (red box) and the {b} (blue box) in meters?"
        + _CENTRES,
    ),
    QuestionForm(
        "depth_prediction_oc_mv",
        _MV + "What is the depth of the {a} (red box) in meters, in the first image?" + _CENTRES,
        pictures=3,
    ),
    QuestionForm(
        "depth_prediction_oo_mv",
        _MV + _SAID_DEPTH + "What is the depth of the {b} (blue box) in meters?" + _CENTRES,
        pictures=3,
    ),
    QuestionForm(
        "distance_prediction_oc_mv",
        _MV + "What is the distance between the observer of the first image and the {a} (red box) "
        "in meters?" + _CENTRES,
        pictures=3,
    ),
    QuestionForm(
        "distance_prediction_oo_mv",
        _MV
        + "What is the distance between the {a} (red box) and the {b} (blue box) in meters?"
        + _CENTRES,
        pictures=3,
    ),
    QuestionForm(
        "position_matching",
        _MV + "The {a} has the red box in the first image. Which box has it in the second image?",
        _BOXES,
        2,
    ),
    QuestionForm(
        "camera_motion_infer",
        _MV + "Where in the first image (position and depth) was the camera of the second image?",
        _MOVED,
        2,
    ),
    QuestionForm(
        "view_change_infer",
        _MV + "Describe how the camera moved from the first image to the second, "
        "in meters and degrees, as "
        "move_right:<number>,move_up:<number>,move_forward:<number>,"
        "rotate_right:<number>,rotate_up:<number> "
        "(or move_left, move_down, move_backward, rotate_left, rotate_down).",
        pictures=2,
        moves=(
            ("move_right", 0.5, 2, 1),
            ("move_down", 0.2, 1, 1),
            ("move_forward", 0.5, 2, 1),
            ("rotate_right", 10, 45, 0),
            ("rotate_up", 5, 20, 0),
        ),
    ),
    QuestionForm(
        "distance_infer_center_oo",
        "Which of these objects has its centre nearest to that of the {a} (red box)?",
        ("{b}", "{c}", "{d}"),
    ),
    QuestionForm(
        "distance_infer_center_oo_mv",
        _MV + "Which of these objects has its centre farthest from that of the {a} (red box)?",
        ("{b}", "{c}", "{d}"),
        3,
    ),
    QuestionForm("obj_spatial_relation_oo", *_POSITION),
    QuestionForm(
        "obj_spatial_relation_oc_mv",
        _MV + "Seen by the observer of the second image, where is the {a} (red box)?",
        _POSITION[1],
        2,
    ),
    QuestionForm("obj_spatial_relation_oo_mv", _MV + _POSITION[0], _POSITION[1], 3),
    QuestionForm(
        "spatial_imagination_oc",
        "If the observer stood at the {a} (red box) and looked at the {b} (blue box), "
        "where would the {c} be?",
        _POSITION[1],
    ),
    QuestionForm(
        "spatial_imagination_oo",
        "If the observer stood at the {a} (red box), where would the {b} be relative to the {c}?",
        _POSITION[1],
    ),
    QuestionForm(
        "spatial_imagination_oc_mv",
        _MV
        + "If the observer moved to the {a} (red box) and looked at the {b}, where would the {c} "
        "be?",
        _POSITION[1],
        3,
    ),
    QuestionForm(
        "spatial_imagination_oo_mv",
        _MV
        + "If the observer moved to the {a} (red box), where would the {b} be relative to the {c}?",
        _POSITION[1],
        3,
    ),
)


def spar(seed: int) -> list[Question]:
    """SPAR-Bench: one question per task."""
    return about_pictures(seed, "spar_bench", SPAR, per_scene=1)


def vlmevalkit(datasets: Path, seed: int) -> None:
    """Write what VLMEvalKit reads."""
    rows = [
        {
            "index": question.index,
            "image": pictures_as_text(question),
            "question": spar_text(question),
            "answer": question.answer,
            "task": question.kind,
            **spar_types(question),
        }
        for question in spar(seed)
    ]
    write_table(datasets, "spar_bench", rows)


def lmms_eval(datasets: Path, seed: int) -> None:
    """Write what lmms-eval reads."""
    repo = hub_repo(datasets, "spar_bench")
    columns = {
        "id": TEXT,
        "image": IMAGES,
        "question": TEXT,
        "answer": TEXT,
        "task": TEXT,
        "img_type": TEXT,
        "format_type": TEXT,
    }
    rows = [
        {
            "id": str(question.index),
            "image": pictures(question),
            "question": spar_text(question),
            "answer": question.answer,
            "task": question.kind,
            **spar_types(question),
        }
        for question in spar(seed)
    ]
    media.write_parquet(repo / "data/test-00000-of-00001.parquet", columns, rows)
    card(repo, {"default": {"test": "data/test-*"}})


def spar_text(question: Question) -> str:
    """The question with its options, if it has any."""
    if not question.options:
        return question.text
    last = question.lettered("{0}", ", ")
    return (
        f"{question.text}\nSelect the right option from the choices provided.\n\n"
        f"{question.lettered('{0}. {1}', chr(10))}\n\n"
        f"Your answer can only include one of the options {last}."
    )


def spar_types(question: Question) -> dict[str, str]:
    """The columns ``img_type`` and ``format_type``."""
    kind = "select" if question.options else "sentence" if "," in question.answer else "fill"
    return {
        "img_type": "single_view" if len(question.views) == 1 else "multi_view",
        "format_type": kind,
    }


ASKED = {"spar_bench": spar}
