"""The smoke run's questions as the repositories that lmms-eval's tasks load.

Every function writes below ``datasets``, the folder that holds ``<org>/<name>``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from . import media, media_repos, questions
from .media import BYTES, IMAGE, IMAGES, INT, TEXT, TEXTS
from .questions import LETTERS, Question

# MMSI-Bench's names of its question types by VLMEvalKit's names; as in the real data, they contain
# en dashes.
MMSI_TYPES = {
    "Pos-Cam-Cam": "Positional Relationship (Cam.–Cam.)",
    "Pos-Obj-Obj": "Positional Relationship (Obj.–Obj.)",
    "Pos-Reg-Reg": "Positional Relationship (Reg.–Reg.)",
    "Pos-Cam-Obj": "Positional Relationship (Cam.–Obj.)",
    "Pos-Obj-Reg": "Positional Relationship (Obj.–Reg.)",
    "Pos-Cam-Reg": "Positional Relationship (Cam.–Reg.)",
    "Attr-Meas": "Attribute (Meas.)",
    "Attr-Appr": "Attribute (Appr.)",
    "Motion-Cam": "Motion (Cam.)",
    "Motion-Obj": "Motion (Obj.)",
    "MSR": "MSR",
}


def build(datasets: Path, seed: int) -> None:
    """Every repository, without the media that are shared with VLMEvalKit (media_repos)."""
    _vsi(datasets / "nyu-visionx/VSI-Bench", seed)
    _mmsi(datasets / "RunsenXu/MMSI-Bench", seed)
    _mindcube(datasets / "oscarqjh/MindCube_lmmseval", seed)
    _viewspatial(datasets / "oscarqjh/ViewSpatial_lmmseval", seed)
    _site(datasets / "franky-veteran/SITE-Bench", seed)
    _blink(datasets / "BLINK-Benchmark/BLINK", seed)
    _three_d(datasets / "oscarqjh/3DSRBench_lmmseval", seed)
    _embspatial(datasets / "FlagEval/EmbSpatial-Bench", seed)
    _mmsi_video(datasets / "oscarqjh/MMSI-Video-Bench_lmmseval", seed)
    _omnispatial(datasets / "pangyyyyy/OmniSpatial", seed)
    _spar(datasets / "jasonzhango/SPAR-Bench", seed)


def _card(repo: Path, configs: Mapping[str, Mapping[str, str]]) -> None:
    """The README that tells the datasets library which file is which split of which config."""
    lines = ["---", "configs:"]
    for config, splits in configs.items():
        lines += [f"- config_name: {config}", "  data_files:"]
        lines += [
            line
            for split, file in splits.items()
            for line in (f"  - split: {split}", f"    path: {file}")
        ]
    lines += [
        "---",
        "",
        f"# {repo.name}",
        "",
        "Made-up data in the layout of the dataset of this name.",
        "",
    ]
    media.write(repo / "README.md", "\n".join(lines))


def _pictures(question: Question) -> list[dict[str, Any] | None]:
    return [media.image_value(media.picture(view)) for view in question.views]


def _options(question: Question) -> list[str]:
    """Options with their letters, as in 'A. left'."""
    return question.lettered("{0}. {1}", "\n").split("\n")


def _vsi(repo: Path, seed: int) -> None:
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
        dataset, scene = media_repos.vsi_video(question)
        return {
            "id": question.index,
            "dataset": dataset,
            "scene_name": scene,
            "question_type": question.kind,
            "question": question.text,
            "ground_truth": question.answer,
            "options": _options(question) if question.options else None,
        }

    files = {"full": "test.parquet", "debiased": "test_debiased.parquet"}
    for config, asked in (
        ("full", questions.vsi(seed)),
        ("debiased", questions.vsi_debiased(seed)),
    ):
        media.write_parquet(repo / files[config], columns, [row(question) for question in asked])
    _card(repo, {config: {"test": file} for config, file in files.items()})


def _mmsi(repo: Path, seed: int) -> None:
    # The real file holds encoded pictures as plain bytes, not as an image feature.
    columns = {
        "id": INT,
        "images": pa.list_(BYTES),
        "question_type": TEXT,
        "question": TEXT,
        "answer": TEXT,
        "thought": TEXT,
    }
    rows = [
        {
            "id": question.index,
            "images": [media.picture(view, "JPEG") for view in question.views],
            "question_type": MMSI_TYPES[question.kind],
            "question": f"{question.text}\nOptions: {question.lettered('{0}: {1}', ', ')}",
            "answer": question.answer,
            "thought": "",
        }
        for question in questions.mmsi(seed)
    ]
    media.write_parquet(repo / "MMSI_Bench.parquet", columns, rows)
    _card(repo, {"default": {"test": "MMSI_Bench.parquet"}})


def _mindcube(repo: Path, seed: int) -> None:
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
            "id": media_repos.mindcube_id(question),
            "category": question.kind,
            "images": _pictures(question),
            "question": media_repos.mindcube_text(question),
            "gt_answer": question.answer,
            "input_prompt": media_repos.mindcube_prompt(question),
            "grounded_output": f"<Answer>{question.answer}</Answer>",
        }
        for question in questions.mindcube(seed)
    ]
    media.write_parquet(repo / "tiny/combined-00000-of-00001.parquet", columns, rows)
    _card(repo, {"tiny": {"combined": "tiny/combined-*"}})


def _viewspatial(repo: Path, seed: int) -> None:
    columns = {
        "question_type": TEXT,
        "images": IMAGES,
        "question": TEXT,
        "answer": TEXT,
        "choices": TEXT,
    }
    rows = [
        {
            "question_type": question.kind,
            "question": question.text,
            "choices": question.lettered("{0}. {1}", "\n"),
            "images": [media.image_value(media.picture(view, "JPEG")) for view in question.views],
            "answer": _options(question)[LETTERS.index(question.answer)],
        }
        for question in questions.viewspatial(seed)
    ]
    media.write_parquet(repo / "data/test-00000-of-00001.parquet", columns, rows)
    _card(repo, {"default": {"test": "data/test-*"}})


def _site(repo: Path, seed: int) -> None:
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

    pictures = [
        row(question, media_repos.site_pictures(question))
        for question in questions.site_image(seed)
    ]
    videos = [
        row(question, [media_repos.site_video(question)]) for question in questions.site_video(seed)
    ]
    media.write_parquet(repo / "image_test/test-00000-of-00001.parquet", columns, pictures)
    media.write_parquet(repo / "video_test/test-00000-of-00001.parquet", columns, videos)
    _card(repo, {config: {"test": f"{config}/test-*"} for config in ("image_test", "video_test")})


def _blink(repo: Path, seed: int) -> None:
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
    for question in questions.blink(seed):
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
                **dict(zip(slots, _pictures(question), strict=False)),
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
    _card(repo, {task: {"val": f"{task}/val-*", "test": f"{task}/test-*"} for task in tasks})


def _three_d(repo: Path, seed: int) -> None:
    columns = {
        "index": TEXT,
        "qid": TEXT,
        "image": IMAGE,
        "question": TEXT,
        **dict.fromkeys(LETTERS[:4], TEXT),
        "answer": TEXT,
        "category": TEXT,
    }
    circular = [
        {
            "index": str(question.index),
            "qid": question.extra["qid"],
            "image": media.image_value(media_repos.three_d_picture(question)),
            "question": question.text,
            **dict(zip(LETTERS, question.options, strict=False)),
            "answer": question.answer,
            "category": question.kind,
        }
        for question in questions.three_d(seed)
    ]
    # The plain config has no rotated options: the question as it is and its mirror image.
    plain = [row for row in circular if str(row["qid"])[8:] in ("", "-flip")]
    media.write_parquet(repo / "3dsr/test-00000-of-00001.parquet", columns, plain)
    media.write_parquet(repo / "3dsr_circular/test-00000-of-00001.parquet", columns, circular)
    _card(repo, {config: {"test": f"{config}/test-*"} for config in ("3dsr", "3dsr_circular")})


def _embspatial(repo: Path, seed: int) -> None:
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
            "image": _pictures(question)[0],
            "answer_options": list(question.options),
            "answer": LETTERS.index(question.answer),
            "data_source": question.extra["source"],
            "relation": question.kind,
        }
        for question in questions.embspatial(seed)
    ]
    media.write_parquet(repo / "data/test-00000-of-00001.parquet", columns, rows)
    _card(repo, {"default": {"test": "data/test-*"}})


def _mmsi_video(repo: Path, seed: int) -> None:
    columns = {
        "id": INT,
        "type": TEXT,
        **dict.fromkeys(media_repos.MMSI_VIDEO_PROMPTS, TEXT),
        "frames_list": pa.list_(TEXTS),
        "ref_images": TEXTS,
        "ground_truth": TEXT,
        **dict.fromkeys(media_repos.MMSI_VIDEO_SUBSETS, TEXT),
    }
    asked = questions.mmsi_video(seed)
    rows = [
        {
            "id": question.index,
            "type": question.kind
            if question.group == question.kind
            else f"({question.group}) {question.kind}",
            **media_repos.mmsi_video_prompts(question),
            "frames_list": media_repos.mmsi_video_frames(question),
            "ref_images": media_repos.mmsi_video_references(question),
            "ground_truth": question.answer,
            **media_repos.mmsi_video_subsets(question),
        }
        for question in asked
    ]
    media.write_parquet(repo / "data/test-00000-of-00001.parquet", columns, rows)
    media_repos.write_mmsi_video_media(repo, asked, seed)
    _card(repo, {"default": {"test": "data/test-*"}})


def _omnispatial(repo: Path, seed: int) -> None:
    columns = {
        "id": TEXT,
        "question": TEXT,
        "options": TEXTS,
        "gt": TEXT,
        "task_type": TEXT,
        "sub_task_type": TEXT,
        "image_path": TEXT,
    }
    rows = []
    for question in questions.omnispatial(seed):
        path = media_repos.omnispatial_path(question)
        media.write(repo / path, media.picture(question.views[0]))
        rows.append(
            {
                "id": f"{question.scene}_{question.index % 2}",
                "question": question.text,
                "options": list(question.options),
                "gt": question.answer,
                "task_type": question.group,
                "sub_task_type": question.kind,
                "image_path": path,
            }
        )
    media.write_parquet(repo / "data/test-00000-of-00001.parquet", columns, rows)
    _card(repo, {"default": {"test": "data/test-*"}})


def _spar(repo: Path, seed: int) -> None:
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
            "image": _pictures(question),
            "question": media_repos.spar_text(question),
            "answer": question.answer,
            "task": question.kind,
            **media_repos.spar_types(question),
        }
        for question in questions.spar(seed)
    ]
    media.write_parquet(repo / "data/test-00000-of-00001.parquet", columns, rows)
    _card(repo, {"default": {"test": "data/test-*"}})
