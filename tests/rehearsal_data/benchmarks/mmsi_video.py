"""MMSI-Video-Bench: frames extracted from videos, and reference images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa

from .. import media
from ..layouts import card, hub_repo, media_repo, write_table
from ..media import INT, TEXT, TEXTS
from ..questions import CORNERS, FOUR_SIDES, FOUR_THINGS, Dealer, Question, QuestionForm, each

# ``pictures`` counts reference images beside the video.
MMSI_VIDEO = tuple(
    QuestionForm(kind, text, options, pictures, group=group)
    for group, kind, text, options, pictures in (
        (
            "Spatial Construction",
            "Instance/Scene Attribute",
            "Which shape does the floor have?",
            ("a square", "an L", "a circle", "a triangle"),
            0,
        ),
        (
            "Spatial Construction",
            "Instance-Instance Spatial Relationship",
            "Where is the {a} relative to the {b}?",
            FOUR_SIDES,
            0,
        ),
        (
            "Spatial Construction",
            "Instance-Scene Spatial Relationship",
            "In which corner of the room is the {a}?",
            CORNERS,
            0,
        ),
        (
            "Spatial Construction",
            "Scene-Scene Spatial Relationship",
            "Where is the kitchen relative to the hall?",
            FOUR_SIDES,
            0,
        ),
        (
            "Spatial Construction",
            "Camera-Instance Spatial Relationship",
            "At the end of the video, where is the {a} relative to the camera?",
            CORNERS,
            0,
        ),
        (
            "Spatial Construction",
            "Camera-Scene Spatial Relationship",
            "The reference image <image> was taken in the same rooms. From where?",
            ("the hall", "the kitchen", "the bathroom", "the balcony"),
            1,
        ),
        (
            "Motion Understanding",
            "Camera Motion",
            "How does the camera move in the video?",
            ("up", "down", "left", "right", "forward", "backward"),
            0,
        ),
        (
            "Motion Understanding",
            "Instance Motion",
            "How does the {a} move in the video?",
            FOUR_SIDES,
            0,
        ),
        (
            "Motion Understanding",
            "Interactive Motion",
            "Which thing does the hand move first?",
            FOUR_THINGS,
            0,
        ),
        (
            "Cross-Video",
            "Memoery Update",
            "What changed in the room between the videos?",
            ("the {a} was moved", "the {b} was taken away", "the {c} was added", "nothing"),
            0,
        ),
        (
            "Cross-Video",
            "Multi-View Integration",
            "Which thing is seen in every video?",
            FOUR_THINGS,
            0,
        ),
        (
            "Planning",
            "Planning",
            "To get from <image> to <image>, which way is the shortest?",
            (
                "left, then forward",
                "right, then forward",
                "forward, then left",
                "forward, then right",
            ),
            2,
        ),
        (
            "Prediction",
            "Prediction",
            "What will be seen if the camera goes on like this?",
            FOUR_THINGS,
            0,
        ),
    )
)

# Which of MMSI-Video's four subsets a question belongs to; most belong to none or one.
_MEMBERSHIPS: tuple[Mapping[str, str], ...] = (
    {"Easy2hard": "level_1", "Indoor_Scene_Perception": "Static Scene"},
    {"Easy2hard": "level_2"},
    {"Grounding": "temporal", "Robot": "Navigation"},
    {"Indoor_Scene_Perception": "Dynamic Scene"},
    {"Robot": "Manipulation"},
    {},
)

MMSI_VIDEO_PROMPTS = ("system_prompt", "task_prompt", "user_prompt", "format_prompt")

MMSI_VIDEO_SUBSETS = ("Easy2hard", "Grounding", "Indoor_Scene_Perception", "Robot")


def mmsi_video(seed: int) -> list[Question]:
    """MMSI-Video-Bench: each question has the frames of its scene's video and reference images.

    The views are the reference images. ``extra`` holds the question's subsets, and in ``frames``
    the number of frames of each segment, comma separated.
    """
    dealer = Dealer(seed, "mmsi_video_bench")
    # Only "Cross-Video" has several videos. The long ones have more than the 50 frames that are
    # used.
    several, one = ("4,4,3", "34,30"), ("5", "8", "3", "56")
    questions = []
    for index, form in enumerate(each(MMSI_VIDEO, 2)):
        scene = index // 2
        frames = several[scene % 2] if form.group == "Cross-Video" else one[scene % 4]
        extra = {
            "frames": frames,
            **_MEMBERSHIPS[index % len(_MEMBERSHIPS)],
        }
        questions.append(dealer.ask(index, form, scene, extra))
    return questions


def vlmevalkit(datasets: Path, seed: int) -> None:
    """Write what VLMEvalKit reads."""
    repo = media_repo(datasets, "mmsi_video_bench")
    asked = mmsi_video(seed)
    rows = []
    for question in asked:
        frames = [[f"frames/{path}" for path in segment] for segment in mmsi_video_frames(question)]
        references = [f"ref_images/{path}" for path in mmsi_video_references(question)]
        rows.append(
            {
                "index": question.index,
                "video": f"videos/{question.scene:04}.mp4",
                "question": question.text,
                **mmsi_video_prompts(question),
                "image_path": repr(frames),
                "ref_images": repr(references),
                "video_fps": media.FRAME_RATE,
                "answer": question.answer,
                "task_type": question.group,
                "sub_task_type": question.kind,
                **mmsi_video_subsets(question),
            }
        )
    write_table(datasets, "mmsi_video_bench", rows)
    write_mmsi_video_media(repo, asked, seed)
    # The real repository has the videos, too. VLMEvalKit does not use them; with this file a test
    # can check that they are not downloaded.
    media.write_zip(
        repo / "videos.zip", {"videos/0000.mp4": media.video(f"{seed}/mmsi_video/0", 12)}
    )


def lmms_eval(datasets: Path, seed: int) -> None:
    """Write what lmms-eval reads."""
    repo = hub_repo(datasets, "mmsi_video_bench")
    columns = {
        "id": INT,
        "type": TEXT,
        **dict.fromkeys(MMSI_VIDEO_PROMPTS, TEXT),
        "frames_list": pa.list_(TEXTS),
        "ref_images": TEXTS,
        "ground_truth": TEXT,
        **dict.fromkeys(MMSI_VIDEO_SUBSETS, TEXT),
    }
    asked = mmsi_video(seed)
    rows = [
        {
            "id": question.index,
            "type": question.kind
            if question.group == question.kind
            else f"({question.group}) {question.kind}",
            **mmsi_video_prompts(question),
            "frames_list": mmsi_video_frames(question),
            "ref_images": mmsi_video_references(question),
            "ground_truth": question.answer,
            **mmsi_video_subsets(question),
        }
        for question in asked
    ]
    media.write_parquet(repo / "data/test-00000-of-00001.parquet", columns, rows)
    write_mmsi_video_media(repo, asked, seed)
    card(repo, {"default": {"test": "data/test-*"}})


def mmsi_video_prompts(question: Question) -> dict[str, str]:
    """The four parts of the prompt.

    They contain ``<video>`` for each segment and ``<image>`` for each reference image.
    """
    videos = " ".join("<video>" for _ in mmsi_video_frames(question))
    return {
        "system_prompt": "You are an expert in spatial reasoning about videos.",
        "task_prompt": (
            "Answer the question about the frames of the video(s) below, "
            f"taken in their order: {videos}\n"
        ),
        "user_prompt": (
            f"Question: {question.text}\nOptions:\n{question.lettered('{0}. {1}', chr(10))}\n"
        ),
        "format_prompt": "Answer with the option's letter from the given choices directly.",
    }


def mmsi_video_frames(question: Question) -> list[list[str]]:
    """The frames of each segment, by their path below ``frames/``."""
    counts = [int(count) for count in question.extra["frames"].split(",")]
    return [
        [f"{question.scene:04}_{segment}/{frame:04}.jpg" for frame in range(count)]
        for segment, count in enumerate(counts)
    ]


def mmsi_video_references(question: Question) -> list[str]:
    """The reference images, by their path below ``ref_images/``."""
    return [f"{question.scene:04}_{view}.png" for view in range(len(question.views))]


def mmsi_video_subsets(question: Question) -> dict[str, str | None]:
    """The question's category in each subset; None where it is not part of the subset."""
    return {subset: question.extra.get(subset) for subset in MMSI_VIDEO_SUBSETS}


def write_mmsi_video_media(repo: Path, asked: Sequence[Question], seed: int) -> None:
    """Write frames.zip and ref_images.zip."""
    frames: dict[str, bytes] = {}
    references: dict[str, bytes] = {}
    for question in {question.scene: question for question in asked}.values():
        for segment, paths in enumerate(mmsi_video_frames(question)):
            drawn = media.frames(f"{seed}/mmsi_video/{question.scene}/{segment}", len(paths))
            frames |= {
                f"frames/{path}": media.jpeg(image)
                for path, image in zip(paths, drawn, strict=True)
            }
        for path, view in zip(mmsi_video_references(question), question.views, strict=True):
            references[f"ref_images/{path}"] = media.picture(view)
    media.write_zip(repo / "frames.zip", frames)
    media.write_zip(repo / "ref_images.zip", references)


ASKED = {"mmsi_video_bench": mmsi_video}
