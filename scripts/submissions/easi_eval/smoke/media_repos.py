"""What both layouts share: where a question's media lie, how its text is put together, and the media themselves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from . import media, question_forms, questions
from .questions import Question

VIDEO_FRAMES = (40, 12, 33, 24, 18, 36)   # fewer and more than the 32 that are looked at


# VSI-Bench: videos by dataset and scene.

_VSI_VIDEOS = (("arkitscenes", "41069025"), ("arkitscenes", "42446540"), ("scannet", "scene0011_00"),
               ("scannet", "scene0568_01"), ("scannetpp", "09c1414f1b"), ("scannetpp", "f3d64c30f8"))


def vsi_video(question: Question) -> tuple[str, str]:
    """Dataset and scene name."""
    return _VSI_VIDEOS[int(question.scenes[0])]


def write_vsi_media(repo: Path, seed: int) -> None:
    """One zip per dataset, its name being the folder inside."""
    zips: dict[str, dict[str, bytes]] = {}
    for number, (dataset, scene) in enumerate(_VSI_VIDEOS):
        member = media.video(f"{seed}/vsi/{number}", VIDEO_FRAMES[number])
        zips.setdefault(dataset, {})[f"{dataset}/{scene}.mp4"] = member
    for dataset, members in zips.items():
        media.write_zip(repo / f"{dataset}.zip", members)


# SITE: pictures and videos by the dataset they came from, one zip each.

_SITE_VIDEOS = (("MVBench", "clip_0001"), ("MLVU", "3_ego/ego_17"), ("VSI-Bench", "scannet/scene0050_00"),
                ("ego_exo4d", "cooking_03/cam01"), ("MVBench", "clip_0002"))


def site_pictures(question: Question) -> list[str]:
    forms = question_forms.SITE_IMAGE
    dataset = forms[question.index % len(forms)].group
    return [f"{dataset}/images/{question.index:04}_{view}.png" for view in range(len(question.scenes))]


def site_video(question: Question) -> str:
    return "{}/{}.mp4".format(*_SITE_VIDEOS[int(question.scenes[0])])


def write_site_media(repo: Path, seed: int) -> None:
    zips: dict[str, dict[str, bytes]] = {}
    for question in questions.site_image(seed):
        for path, scene in zip(site_pictures(question), question.scenes, strict=True):
            zips.setdefault(path.split("/")[0], {})[path] = media.picture(scene)
    for number, (dataset, clip) in enumerate(_SITE_VIDEOS):
        member = media.video(f"{seed}/site/{number}", VIDEO_FRAMES[number])
        zips.setdefault(dataset, {})[f"{dataset}/{clip}.mp4"] = member
    for dataset, members in zips.items():
        media.write_zip(repo / f"{dataset}.zip", members)


# MindCube.

def mindcube_id(question: Question) -> str:
    """The part before the first underscore is the category; 'aroundnew' counts as 'around'."""
    form = question_forms.MINDCUBE[question.index % len(question_forms.MINDCUBE)]
    return f"{form.group or form.kind}_group{question.index:03}_q0_1_1"


def mindcube_paths(question: Question) -> list[str]:
    group = mindcube_id(question).split("_q")[0]
    return [f"data/other_all_image/{question.kind}/{group}/{view + 1}_frame_{view:05}.png" for view in range(len(question.scenes))]


def mindcube_text(question: Question) -> str:
    return f"{question.text} {question.lettered('{0}. {1}', ' ')}"


def mindcube_prompt(question: Question) -> str:
    pictures = "\n".join("<image>" for _ in question.scenes)
    return (f"{pictures}\n[Task]\nThe pictures show one scene from several viewpoints. Work out how the things are arranged and "
            f"answer the question.\n\n[Answer Instruction]\nGive the option's letter only, for example \"A\".\n\n"
            f"[Question]\n{mindcube_text(question)}")


# OmniSpatial.

def omnispatial_groups() -> dict[str, str]:
    """Task type by sub-task type."""
    return {form.kind: form.group for form in question_forms.OMNISPATIAL}


def omnispatial_path(question: Question) -> str:
    return f"OmniSpatial-test/{omnispatial_groups()[question.kind]}/{question.index}.png"


# SPAR-Bench: its questions contain their options.

def spar_text(question: Question) -> str:
    if not question.options:
        return question.text
    last = question.lettered("{0}", ", ")
    return (f"{question.text}\nSelect the right option from the choices provided.\n\n{question.lettered('{0}. {1}', chr(10))}\n\n"
            f"Your answer can only include one of the options {last}.")


def spar_types(question: Question) -> dict[str, str]:
    kind = "select" if question.options else "sentence" if "," in question.answer else "fill"
    return {"img_type": "single_view" if len(question.scenes) == 1 else "multi_view", "format_type": kind}


# 3DSRBench.

def three_d_picture(question: Question) -> bytes:
    return media.picture(question.scenes[0], mirrored=bool(question.extra["mirrored"]))


# MMSI-Video-Bench: frames taken from the videos beforehand, and reference images.

MMSI_VIDEO_PROMPTS = ("system_prompt", "task_prompt", "user_prompt", "format_prompt")
MMSI_VIDEO_SUBSETS = ("Easy2hard", "Grounding", "Indoor_Scene_Perception", "Robot")


def mmsi_video_groups() -> dict[str, str]:
    """Task type by sub-task type."""
    return {form.kind: form.group for form in question_forms.MMSI_VIDEO}


def mmsi_video_prompts(question: Question) -> dict[str, str]:
    """The four parts of the prompt; ``<video>`` stands for each segment and ``<image>`` for each reference."""
    videos = " ".join("<video>" for _ in mmsi_video_frames(question))
    return {
        "system_prompt": "You are an expert in spatial reasoning about videos.",
        "task_prompt": f"Answer the question about the frames of the video(s) below, taken in their order: {videos}\n",
        "user_prompt": f"Question: {question.text}\nOptions:\n{question.lettered('{0}. {1}', chr(10))}\n",
        "format_prompt": "Answer with the option's letter from the given choices directly.",
    }


def mmsi_video_frames(question: Question) -> list[list[str]]:
    """The frames of each segment, by their path below ``frames/``."""
    counts = [int(count) for count in question.extra["frames"].split(",")]
    return [[f"{question.index:04}_{segment}/{frame:04}.jpg" for frame in range(count)] for segment, count in enumerate(counts)]


def mmsi_video_references(question: Question) -> list[str]:
    """The reference images, by their path below ``ref_images/``."""
    return [f"{question.index:04}_{number}.png" for number in range(int(question.extra["references"]))]


def mmsi_video_subsets(question: Question) -> dict[str, str | None]:
    return {subset: question.extra.get(subset) for subset in MMSI_VIDEO_SUBSETS}


def write_mmsi_video_media(repo: Path, asked: Sequence[Question]) -> None:
    """frames.zip and ref_images.zip."""
    frames: dict[str, bytes] = {}
    references: dict[str, bytes] = {}
    for question in asked:
        for segment, paths in enumerate(mmsi_video_frames(question)):
            drawn = media.frames(f"{question.scenes[0]}/{segment}", len(paths))
            frames |= {f"frames/{path}": media.jpeg(image) for path, image in zip(paths, drawn, strict=True)}
        for path in mmsi_video_references(question):
            references[f"ref_images/{path}"] = media.picture(f"{question.scenes[0]}/{path}")
    media.write_zip(repo / "frames.zip", frames)
    media.write_zip(repo / "ref_images.zip", references)
