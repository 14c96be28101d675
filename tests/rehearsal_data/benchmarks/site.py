"""SITE-Bench, pictures and videos; they share their repositories."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .. import media
from ..layouts import VIDEO_FRAMES, card, hub_repo, write_table
from ..media import INT, TEXT, TEXTS
from ..questions import (
    FOUR_SIDES,
    FOUR_THINGS,
    IMAGE_NAMES,
    POINTS,
    SIDES,
    YES_NO,
    Question,
    QuestionForm,
    about_pictures,
    about_videos,
    each,
)

_SITE = {
    "counting": "counting & existence",
    "position": "object localization & positioning",
    "3d": "3d information understanding",
    "views": "multi-view & cross-image reasoning",
    "relation": "spatial relationship reasoning",
    "movement": "movement prediction & navigation",
}

SITE_IMAGE = (
    QuestionForm(
        _SITE["counting"],
        "How many {a}s are there in the picture?",
        ("0", "1", "2", "3", "4", "5"),
        group="VStar",
    ),
    QuestionForm(
        _SITE["position"],
        "In which part of the picture is the {a}?",
        ("upper left", "upper right", "lower left", "lower right", "center"),
        group="MME-RealWorld",
    ),
    QuestionForm(
        _SITE["3d"],
        "Which of these is the farthest from the camera?",
        FOUR_THINGS,
        group="3DSRBench",
    ),
    QuestionForm(
        _SITE["views"],
        "Is <image> taken from the left or from the right of where <image> was taken?",
        SIDES,
        2,
        group="BLINK",
    ),
    QuestionForm(
        _SITE["relation"],
        "Where is the {a} relative to the {b}?",
        ("above", "below", "beside"),
        group="Visual Genome",
    ),
    QuestionForm(
        _SITE["movement"],
        "After <image> a step forward is made. What is seen then?",
        ("<image>", "<image>"),
        3,
        group="MuirBench",
    ),
    QuestionForm(_SITE["counting"], "Is there a {a} in the picture?", YES_NO, group="MMBench"),
    QuestionForm(
        _SITE["position"],
        "What stands between the {a} and the {b}?",
        ("{c}", "{d}", "nothing"),
        group="SPEC",
    ),
    QuestionForm(
        _SITE["3d"], "Which marked point is nearest to the camera?", POINTS, group="BLINK"
    ),
    QuestionForm(
        _SITE["views"],
        "Which of the pictures shows the same room as the first one?",
        ("the second picture", "the third picture"),
        3,
        group="MuirBench",
    ),
    QuestionForm(
        _SITE["relation"],
        "From the viewer's side, is the {a} left or right of the {b}?",
        SIDES,
        group="VSR",
    ),
    QuestionForm(
        _SITE["movement"],
        "A walker wants to reach the {a}. Where should the next step lead?",
        FOUR_SIDES,
        group="VisualPuzzles",
    ),
)

SITE_VIDEO = (
    QuestionForm(
        _SITE["counting"],
        "How many different {a}s are seen during the walk?",
        ("1", "2", "3", "4", "5"),
        group="VSI-Bench",
    ),
    QuestionForm(
        _SITE["position"],
        "Where does the {a} stand at the end of the video?",
        FOUR_SIDES,
        group="MVBench",
    ),
    QuestionForm(
        _SITE["3d"], "Which of these things is the largest?", FOUR_THINGS, group="VSI-Bench"
    ),
    QuestionForm(
        _SITE["views"],
        "Which view belongs to the same moment as the one at the end?",
        IMAGE_NAMES[:3],
        group="ego_exo4d",
    ),
    QuestionForm(
        _SITE["relation"], "Does the {a} stand left or right of the {b}?", SIDES, group="MLVU"
    ),
    QuestionForm(
        _SITE["movement"],
        "In which direction does the camera move?",
        ("up", "down", "left", "right", "forward", "backward"),
        group="MVBench",
    ),
)

_SITE_VIDEOS = (
    ("MVBench", "clip_0001"),
    ("MLVU", "3_ego/ego_17"),
    ("VSI-Bench", "scannet/scene0050_00"),
    ("ego_exo4d", "cooking_03/cam01"),
    ("MVBench", "clip_0002"),
)


def site_image(seed: int) -> list[Question]:
    """SITE-Bench, images: two questions per form."""
    return about_pictures(seed, "site_image", each(SITE_IMAGE, 2))


def site_video(seed: int) -> list[Question]:
    """SITE-Bench, videos: three questions per form."""
    return about_videos(seed, "site_video", SITE_VIDEO * 3, videos=5)


def picture_paths(question: Question) -> list[str]:
    """The paths of a question's pictures."""
    return [
        f"{question.group}/images/{question.scene:04}_{view}.png"
        for view in range(len(question.views))
    ]


def video_path(question: Question) -> str:
    """The path of a question's video."""
    return "{}/{}.mp4".format(*_SITE_VIDEOS[question.scene])


def vlmevalkit(datasets: Path, seed: int) -> None:
    """Write what VLMEvalKit reads."""
    pictures = []
    for question in site_image(seed):
        paths = picture_paths(question)
        pictures.append(
            {
                "index": question.index,
                "image_path": repr(paths),
                "question": question.text,
                "options": json.dumps(question.options, ensure_ascii=False),
                "answer": question.answer,
                "category": question.kind,
                "dataset": paths[0].split("/")[0],
            }
        )
    write_table(datasets, "site_image", pictures)
    videos = []
    for question in site_video(seed):
        path = video_path(question)
        videos.append(
            {
                "index": question.index,
                "video_path": path,
                "question": question.text,
                "candidates": repr(list(question.options)),
                "answer": question.answer,
                "category": question.kind,
                "dataset": path.split("/")[0],
            }
        )
    write_table(datasets, "site_video", videos)


def lmms_eval(datasets: Path, seed: int) -> None:
    """Write what lmms-eval reads."""
    repo = hub_repo(datasets, "site_image")
    columns = {
        "index": INT,
        "visual": TEXTS,
        "question": TEXT,
        "options": TEXTS,
        "answer": TEXT,
        "category": TEXT,
        "dataset": TEXT,
    }

    def row(question: Question, paths: Sequence[str]) -> dict[str, Any]:
        return {
            "index": question.index,
            "visual": list(paths),
            "question": question.text,
            "options": list(question.options),
            "answer": question.answer,
            "category": question.kind,
            "dataset": paths[0].split("/")[0],
        }

    pictures = [row(question, picture_paths(question)) for question in site_image(seed)]
    videos = [row(question, [video_path(question)]) for question in site_video(seed)]
    media.write_parquet(repo / "image_test/test-00000-of-00001.parquet", columns, pictures)
    media.write_parquet(repo / "video_test/test-00000-of-00001.parquet", columns, videos)
    card(repo, {config: {"test": f"{config}/test-*"} for config in ("image_test", "video_test")})
    write_media(repo, seed)


def write_media(repo: Path, seed: int) -> None:
    """Write one zip of pictures and videos per original dataset."""
    zips: dict[str, dict[str, bytes]] = {}
    for question in site_image(seed):
        for path, view in zip(picture_paths(question), question.views, strict=True):
            zips.setdefault(question.group, {})[path] = media.picture(view)
    for number, (dataset, clip) in enumerate(_SITE_VIDEOS):
        member = media.video(f"{seed}/site/{number}", VIDEO_FRAMES[number])
        zips.setdefault(dataset, {})[f"{dataset}/{clip}.mp4"] = member
    for dataset, members in zips.items():
        media.write_zip(repo / f"{dataset}.zip", members)


ASKED = {"site_image": site_image, "site_video": site_video}
