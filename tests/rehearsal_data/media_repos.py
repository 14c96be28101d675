"""What both layouts share: the paths of a question's media, its text, and the media themselves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from . import media, questions
from .questions import Question

# Frames of the videos: fewer and more than the 32 that are used.
VIDEO_FRAMES = (40, 12, 33, 24, 18, 36)


# VSI-Bench: videos by dataset and scene.

_VSI_VIDEOS = (
    ("arkitscenes", "41069025"),
    ("arkitscenes", "42446540"),
    ("scannet", "scene0011_00"),
    ("scannet", "scene0568_01"),
    ("scannetpp", "09c1414f1b"),
    ("scannetpp", "f3d64c30f8"),
)


def vsi_video(question: Question) -> tuple[str, str]:
    """The dataset and the scene name of a question's video."""
    return _VSI_VIDEOS[question.scene]


def write_vsi_media(repo: Path, seed: int) -> None:
    """Write one zip per dataset; inside, the files lie in a folder of the dataset's name."""
    zips: dict[str, dict[str, bytes]] = {}
    for number, (dataset, scene) in enumerate(_VSI_VIDEOS):
        member = media.video(f"{seed}/vsi/{number}", VIDEO_FRAMES[number])
        zips.setdefault(dataset, {})[f"{dataset}/{scene}.mp4"] = member
    for dataset, members in zips.items():
        media.write_zip(repo / f"{dataset}.zip", members)


# SITE: pictures and videos by the dataset they came from, one zip each.

_SITE_VIDEOS = (
    ("MVBench", "clip_0001"),
    ("MLVU", "3_ego/ego_17"),
    ("VSI-Bench", "scannet/scene0050_00"),
    ("ego_exo4d", "cooking_03/cam01"),
    ("MVBench", "clip_0002"),
)


def site_pictures(question: Question) -> list[str]:
    """The paths of a question's pictures."""
    return [
        f"{question.group}/images/{question.scene:04}_{view}.png"
        for view in range(len(question.views))
    ]


def site_video(question: Question) -> str:
    """The path of a question's video."""
    return "{}/{}.mp4".format(*_SITE_VIDEOS[question.scene])


def write_site_media(repo: Path, seed: int) -> None:
    """Write one zip of pictures and videos per original dataset."""
    zips: dict[str, dict[str, bytes]] = {}
    for question in questions.site_image(seed):
        for path, view in zip(site_pictures(question), question.views, strict=True):
            zips.setdefault(question.group, {})[path] = media.picture(view)
    for number, (dataset, clip) in enumerate(_SITE_VIDEOS):
        member = media.video(f"{seed}/site/{number}", VIDEO_FRAMES[number])
        zips.setdefault(dataset, {})[f"{dataset}/{clip}.mp4"] = member
    for dataset, members in zips.items():
        media.write_zip(repo / f"{dataset}.zip", members)


# MindCube.


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


# OmniSpatial.


def omnispatial_path(question: Question) -> str:
    """The path of a question's picture."""
    return f"OmniSpatial-test/{question.group}/{question.scene}.png"


# SPAR-Bench: its questions contain their options.


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


# 3DSRBench.


def three_d_picture(question: Question) -> bytes:
    """The question's picture, mirrored where the question says so."""
    return media.picture(question.views[0], mirrored=bool(question.extra["mirrored"]))


# MMSI-Video-Bench: frames extracted from the videos, and reference images.

MMSI_VIDEO_PROMPTS = ("system_prompt", "task_prompt", "user_prompt", "format_prompt")
MMSI_VIDEO_SUBSETS = ("Easy2hard", "Grounding", "Indoor_Scene_Perception", "Robot")


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
