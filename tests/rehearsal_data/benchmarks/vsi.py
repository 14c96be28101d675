"""VSI-Bench, and what is left of it after debiasing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .. import media
from ..layouts import VIDEO_FRAMES, card, hub_repo, lettered_options, write_table
from ..media import INT, TEXT, TEXTS
from ..questions import CORNERS, FOUR_THINGS, SIDES, Question, QuestionForm, about_videos

_TURNS = ("Turn Left", "Turn Right", "Turn Back")

_STANDING = "Suppose I stand next to the {a} and look towards the {b}: is the {c} "

VSI = (
    QuestionForm("object_counting", "How many {a}(s) can be found in this room?", number=(2, 6, 0)),
    QuestionForm(
        "object_abs_distance",
        "What is the distance between the {a} and the {b} (in meters), "
        "taken from their closest points?",
        number=(0.8, 3.5, 1),
    ),
    QuestionForm(
        "object_size_estimation",
        "What is the length of the {a}'s longest side (length, width or height), "
        "measured in centimeters?",
        number=(40, 130, 0),
    ),
    QuestionForm(
        "room_size_estimation",
        "What is the size of this room (in square meters)? Where several rooms are seen, "
        "give the size of all of them together.",
        number=(12, 35, 1),
    ),
    QuestionForm(
        "object_rel_distance",
        "Taken from their closest points, which of these objects ({a}, {b}, {c}, {d}) "
        "is the closest to the door?",
        FOUR_THINGS,
    ),
    QuestionForm("object_rel_direction_easy", _STANDING + "on my left or on my right?", SIDES),
    QuestionForm(
        "object_rel_direction_medium",
        _STANDING + "to my left, right, or back? It is to my back if I have to turn by "
        "135 degrees or more to face it.",
        ("left", "right", "back"),
    ),
    QuestionForm(
        "object_rel_direction_hard",
        _STANDING + "to my front-left, front-right, back-left, or back-right? The directions "
        "are the quarters of a plane whose origin is where I stand and whose y-axis "
        "is where I look.",
        CORNERS,
    ),
    QuestionForm(
        "route_planning",
        "You are a robot that starts at the {a} and faces the {b}. You want to reach the {c}. "
        "Fill in the missing action: 1. Go forward until the {b}. 2. [please fill in] "
        "3. Go forward until the {c}.",
        _TURNS,
    ),
    QuestionForm(
        "obj_appearance_order",
        "In which order do these things appear for the first time in the video: "
        "{a}, {b}, {c}, {d}?",
        ("{a}, {b}, {c}, {d}", "{b}, {a}, {d}, {c}", "{d}, {c}, {b}, {a}", "{c}, {d}, {a}, {b}"),
    ),
)

_VSI_VIDEOS = (
    ("arkitscenes", "41069025"),
    ("arkitscenes", "42446540"),
    ("scannet", "scene0011_00"),
    ("scannet", "scene0568_01"),
    ("scannetpp", "09c1414f1b"),
    ("scannetpp", "f3d64c30f8"),
)


def vsi(seed: int) -> list[Question]:
    """VSI-Bench: all kinds twice, the numeric ones three times."""
    numeric = [form for form in VSI if not form.options]
    return about_videos(seed, "vsi_bench", [*VSI, *VSI, *numeric], videos=6)


def vsi_debiased(seed: int) -> list[Question]:
    """VSI-Bench after debiasing: a part of the questions, with all kinds."""
    return [
        question for question in vsi(seed) if question.index < len(VSI) or question.index % 5 == 1
    ]


def vsi_video(question: Question) -> tuple[str, str]:
    """The dataset and the scene name of a question's video."""
    return _VSI_VIDEOS[question.scene]


def vlmevalkit(datasets: Path, seed: int) -> None:
    """Write what VLMEvalKit reads."""
    for key, asked in ASKED.items():
        rows = []
        for question in asked(seed):
            dataset, scene = vsi_video(question)
            candidates = (
                repr(question.lettered("{0}. {1}", "\n").split("\n")) if question.options else None
            )
            rows.append(
                {
                    "index": question.index,
                    "video": f"{dataset}/{scene}.mp4",
                    "question": question.text,
                    "question_type": question.kind,
                    "candidates": candidates,
                    "answer": question.answer,
                    "dataset": dataset,
                    "scene_name": scene,
                }
            )
        write_table(datasets, key, rows)


def lmms_eval(datasets: Path, seed: int) -> None:
    """Write what lmms-eval reads."""
    repo = hub_repo(datasets, "vsi_bench")
    columns = {
        "id": INT,
        "dataset": TEXT,
        "scene_name": TEXT,
        "question_type": TEXT,
        "question": TEXT,
        "ground_truth": TEXT,
        "options": TEXTS,
    }

    def row(question: Question) -> dict[str, Any]:
        dataset, scene = vsi_video(question)
        return {
            "id": question.index,
            "dataset": dataset,
            "scene_name": scene,
            "question_type": question.kind,
            "question": question.text,
            "ground_truth": question.answer,
            "options": lettered_options(question) if question.options else None,
        }

    files = {"full": "test.parquet", "debiased": "test_debiased.parquet"}
    for file, asked in zip(files.values(), ASKED.values(), strict=True):
        media.write_parquet(repo / file, columns, [row(question) for question in asked(seed)])
    card(repo, {config: {"test": file} for config, file in files.items()})
    write_videos(repo, seed)


def write_videos(repo: Path, seed: int) -> None:
    """Write one zip per dataset; inside, the files lie in a folder of the dataset's name."""
    zips: dict[str, dict[str, bytes]] = {}
    for number, (dataset, scene) in enumerate(_VSI_VIDEOS):
        member = media.video(f"{seed}/vsi/{number}", VIDEO_FRAMES[number])
        zips.setdefault(dataset, {})[f"{dataset}/{scene}.mp4"] = member
    for dataset, members in zips.items():
        media.write_zip(repo / f"{dataset}.zip", members)


ASKED = {"vsi_bench": vsi, "vsi_debiased": vsi_debiased}
