"""The smoke run's questions as VLMEvalKit's TSV files, and the media repositories they refer to.

Every function writes below ``datasets``, the folder that holds ``<org>/<name>``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from . import media, media_repos, questions
from .questions import LETTERS, Question

TSV_REPO = "lmms-lab-si/EASI-Leaderboard-Data"


def build(datasets: Path, seed: int) -> None:
    """The TSV files, and the repositories of media that lmms-eval does not use."""
    tsv = datasets / TSV_REPO
    media.write(
        tsv / "README.md",
        "# EASI-Leaderboard-Data\n\nMade-up data in the layout of the dataset of this name.\n",
    )
    _vsi(tsv, seed)
    media.write_tsv(tsv / "MMSIBench_wo_circular.tsv", _mmsi(seed))
    _mindcube(tsv, datasets / "MLL-Lab/MindCube", seed)
    _viewspatial(tsv, datasets / "lidingm/ViewSpatial-Bench", seed)
    _site(tsv, seed)
    media.write_tsv(tsv / "BLINK.tsv", _blink(seed))
    media.write_tsv(tsv / "3DSRBench.tsv", _three_d(seed))
    media.write_tsv(tsv / "EmbSpatialBench.tsv", _embspatial(seed))
    _mmsi_video(tsv, datasets / "rbler/MMSI-Video-Bench", seed)
    _omnispatial(tsv, datasets / "qizekun/OmniSpatial", seed)
    media.write_tsv(tsv / "SparBench.tsv", _spar(seed))


def _images(question: Question, kind: str = "PNG") -> str:
    """The pictures as base64: one plainly, several as a list in Python's notation."""
    encoded = [media.as_base64(media.picture(view, kind)) for view in question.views]
    return encoded[0] if len(encoded) == 1 else repr(encoded)


def _letters(question: Question, count: int) -> dict[str, str | None]:
    """One column per letter; the columns that a question does not need stay empty."""
    options: list[str | None] = [
        *question.options,
        *(None for _ in range(count - len(question.options))),
    ]
    return dict(zip(LETTERS, options, strict=False))


def _vsi(tsv: Path, seed: int) -> None:
    for name, asked in (
        ("VSI-Bench", questions.vsi(seed)),
        ("VSI-Bench-Debiased", questions.vsi_debiased(seed)),
    ):
        rows = []
        for question in asked:
            dataset, scene = media_repos.vsi_video(question)
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
        media.write_tsv(tsv / f"{name}.tsv", rows)


def _mmsi(seed: int) -> list[dict[str, Any]]:
    return [
        {
            "index": question.index,
            "image": _images(question, "JPEG"),
            "question": question.text,
            **_letters(question, 4),
            "answer": question.answer,
            "category": question.kind,
        }
        for question in questions.mmsi(seed)
    ]


def _mindcube(tsv: Path, repo: Path, seed: int) -> None:
    members: dict[str, bytes] = {}
    rows = []
    for question in questions.mindcube(seed):
        paths = media_repos.mindcube_paths(question)
        members |= {
            path: media.picture(view) for path, view in zip(paths, question.views, strict=True)
        }
        rows.append(
            {
                "index": question.index,
                "id": media_repos.mindcube_id(question),
                "image_path": repr(paths),
                "question": media_repos.mindcube_text(question),
                "input_prompt": media_repos.mindcube_prompt(question),
                "answer": question.answer,
                "category": question.kind,
            }
        )
    media.write_tsv(tsv / "MindCubeBench_tiny_raw_qa.tsv", rows)
    media.write_zip(repo / "data.zip", members)


def _viewspatial(tsv: Path, repo: Path, seed: int) -> None:
    zips: dict[str, dict[str, bytes]] = {"scannetv2_val": {}, "val2017": {}}
    rows = []
    for question in questions.viewspatial(seed):
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
    media.write_tsv(tsv / "ViewSpatialBench.tsv", rows)
    for folder, members in zips.items():
        media.write_zip(repo / f"{folder}.zip", members)


def _site(tsv: Path, seed: int) -> None:
    pictures = []
    for question in questions.site_image(seed):
        paths = media_repos.site_pictures(question)
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
    media.write_tsv(tsv / "SiteBenchImage.tsv", pictures)
    videos = []
    for question in questions.site_video(seed):
        path = media_repos.site_video(question)
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
    media.write_tsv(tsv / "SiteBenchVideo.tsv", videos)


def _blink(seed: int) -> list[dict[str, Any]]:
    return [
        {
            "index": question.index,
            "image": _images(question),
            "question": question.text,
            **_letters(question, 4),
            "answer": question.answer,
            "category": question.kind,
        }
        for question in questions.blink(seed)
    ]


def _three_d(seed: int) -> list[dict[str, Any]]:
    return [
        {
            "index": question.index,
            "qid": question.extra["qid"],
            "image": media.as_base64(media_repos.three_d_picture(question)),
            "question": question.text,
            **_letters(question, 4),
            "answer": question.answer,
            "category": question.kind,
        }
        for question in questions.three_d(seed)
    ]


def _embspatial(seed: int) -> list[dict[str, Any]]:
    return [
        {
            "index": question.index,
            "image": _images(question),
            "question": question.text,
            "options": json.dumps(question.options, ensure_ascii=False),
            "answer": question.answer,
            "data_source": question.extra["source"],
            "category": question.kind,
        }
        for question in questions.embspatial(seed)
    ]


def _mmsi_video(tsv: Path, repo: Path, seed: int) -> None:
    asked = questions.mmsi_video(seed)
    rows = []
    for question in asked:
        frames = [
            [f"frames/{path}" for path in segment]
            for segment in media_repos.mmsi_video_frames(question)
        ]
        references = [f"ref_images/{path}" for path in media_repos.mmsi_video_references(question)]
        rows.append(
            {
                "index": question.index,
                "video": f"videos/{question.scene:04}.mp4",
                "question": question.text,
                **media_repos.mmsi_video_prompts(question),
                "image_path": repr(frames),
                "ref_images": repr(references),
                "video_fps": media.FRAME_RATE,
                "answer": question.answer,
                "task_type": question.group,
                "sub_task_type": question.kind,
                **media_repos.mmsi_video_subsets(question),
            }
        )
    media.write_tsv(tsv / "MMSIVideoBench.tsv", rows)
    media_repos.write_mmsi_video_media(repo, asked, seed)
    # The real repository has the videos, too. VLMEvalKit does not use them; with this file a test
    # can check that they are not downloaded.
    media.write_zip(
        repo / "videos.zip", {"videos/0000.mp4": media.video(f"{seed}/mmsi_video/0", 12)}
    )


def _omnispatial(tsv: Path, repo: Path, seed: int) -> None:
    members: dict[str, bytes] = {}
    rows = []
    for question in questions.omnispatial(seed):
        path = media_repos.omnispatial_path(question)
        members[path] = media.picture(question.views[0])
        # VLMEvalKit puts the folder's name in front of the paths.
        rows.append(
            {
                "index": question.index,
                "image_path": path.removeprefix("OmniSpatial-test/"),
                "question": question.text,
                **_letters(question, 4),
                "answer": question.answer,
                "task_type": question.group,
                "sub_task_type": question.kind,
            }
        )
    media.write_tsv(tsv / "OmniSpatialBench.tsv", rows)
    media.write_zip(repo / "OmniSpatial-test.zip", members)


def _spar(seed: int) -> list[dict[str, Any]]:
    return [
        {
            "index": question.index,
            "image": _images(question),
            "question": media_repos.spar_text(question),
            "answer": question.answer,
            "task": question.kind,
            **media_repos.spar_types(question),
        }
        for question in questions.spar(seed)
    ]
