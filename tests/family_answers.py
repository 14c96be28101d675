"""Answers of checkpoints through a backend's generic class, and by plain ``transformers.generate``.

It runs with the Python of the profile that loads them, one process for all:
``python tests/family_answers.py BACKEND REPORT FOLDER ...``. REPORT is JSON: by name of the folder
and question what the backend answered and what transformers did, or the error of that folder.
"""

from __future__ import annotations

import importlib
import io
import json
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image

from rehearsal_data import media

TOKENS = 16
ASKED = "Where does the ball stand? Answer with a letter."
# By question the media in it: keys of pictures, or "video" for one of four frames.
QUESTIONS = {"one picture": ["a"], "two pictures": ["a", "b"], "other picture": ["b"]}
VIDEO = "video"

# From the kind and the path of each medium and a text to an answer.
Asked = Callable[[Sequence[tuple[str, Path]], str], str]


def vlmevalkit(folder: Path) -> Asked:
    from easi_vlmevalkit.generic import EasiVLM

    model = EasiVLM(str(folder), max_new_tokens=TOKENS, device="cpu")

    def ask(shown: Sequence[tuple[str, Path]], text: str) -> str:
        parts = [{"type": kind, "value": str(path)} for kind, path in shown]
        return model.generate([*parts, {"type": "text", "value": text}])

    return ask


def lmms_eval(folder: Path) -> Asked:
    from lmms_eval.api.instance import Instance

    from easi_lmms_eval.generic import EasiVLM

    model = EasiVLM(str(folder), device="cpu")

    def ask(shown: Sequence[tuple[str, Path]], text: str) -> str:
        parts = [
            {"type": kind, "url": Image.open(path) if kind == "image" else str(path)}
            for kind, path in shown
        ]
        message = {"role": "user", "content": [*parts, {"type": "text", "text": text}]}
        model.task_dict["task"] = {"test": [[message]]}
        settings = {"max_new_tokens": TOKENS, "temperature": 0}
        request = Instance(
            "generate_until",
            ("", lambda messages: messages, settings, 0, "task", "test"),
            0,
            {"task": "task", "doc_id": 0, "repeats": 1},
        )
        return model.generate_until([request])[0].text

    return ask


# lmms-eval's own types: module, class, arguments, and what plain transformers is given.
OWN = {
    # It resizes pictures. Unless told otherwise, it empties answers without </think>.
    "qwen3_5": (
        "chat.qwen3_5",
        "Qwen3_5",
        {"enable_thinking": False},
        {"do_resize": False},
    ),
    "gemma4": ("simple.gemma4", "Gemma4", {"max_soft_tokens": 70}, {}),
}
FITTING = (320, 224)  # a size of pictures that qwen3_5 does not change
SYSTEM = "You are a helpful assistant."  # both types' default


def lmms_own(folder: Path) -> Asked:
    from lmms_eval.api.instance import Instance

    module, name, arguments, _ = OWN[folder.name]
    cls = getattr(importlib.import_module(f"lmms_eval.models.{module}"), name)
    model = cls(str(folder), device="cpu", device_map="cpu", **arguments)

    def ask(shown: Sequence[tuple[str, Path]], text: str) -> str:
        pictures = [Image.open(path) for _, path in shown]
        parts = [{"type": "image", "url": picture} for picture in pictures]
        message = {"role": "user", "content": [*parts, {"type": "text", "text": text}]}
        settings = {"max_new_tokens": TOKENS, "temperature": 0}
        model.task_dict["task"] = {"test": [pictures if model.is_simple else [message]]}
        given = (lambda doc: doc, settings) if not model.is_simple else (settings, lambda doc: doc)
        request = Instance(
            "generate_until",
            (text if model.is_simple else "", *given, 0, "task", "test"),
            0,
            {"task": "task", "doc_id": 0, "repeats": 1},
        )
        answer = model.generate_until([request])[0]
        return answer if model.is_simple else answer.text

    return ask


def transformers(folder: Path, own: bool) -> tuple[Asked, bool]:
    """What asks plain transformers, and whether the family has native video.

    With ``own`` it is given what lmms-eval's own type gives the model: its dtype, its system prompt
    and its form of pictures.
    """
    import transformers
    from transformers import AutoModelForImageTextToText, AutoProcessor

    processor = AutoProcessor.from_pretrained(folder)
    model = AutoModelForImageTextToText.from_pretrained(
        folder, dtype="bfloat16" if own else "float32"
    )
    system = [{"role": "system", "content": [{"type": "text", "text": SYSTEM}]}] if own else []
    own_qwen, own_gemma = (own and folder.name == name for name in ("qwen3_5", "gemma4"))
    picture: Callable[[Path], object] = _jpeg if own_gemma else Image.open
    # qwen3_5 ends answers at the tokenizer's end token alone.
    ends = {"eos_token_id": processor.tokenizer.eos_token_id} if own_qwen else {}
    # All frames of the video. Options of the processor have had an argument of their own since 5.
    options: dict[str, Any] = {"do_sample_frames": False}
    if int(transformers.__version__.split(".")[0]) > 4:
        options = {"processor_kwargs": options}

    def ask(shown: Sequence[tuple[str, Path]], text: str) -> str:
        parts = [
            {"type": kind, kind: picture(path) if kind == "image" else str(path)}
            for kind, path in shown
        ]
        inputs = processor.apply_chat_template(
            [*system, {"role": "user", "content": [*parts, {"type": "text", "text": text}]}],
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
            add_generation_prompt=True,
            **(options if any(kind == "video" for kind, _ in shown) else {}),
            **({"processor_kwargs": OWN[folder.name][3]} if own else {}),
        ).to(model.dtype)
        produced = model.generate(**inputs, **ends, do_sample=False, max_new_tokens=TOKENS)
        return processor.tokenizer.decode(
            produced[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True
        )

    return ask, getattr(processor, "video_processor", None) is not None


def _jpeg(path: Path) -> str:
    """A picture as lmms-eval's gemma4 sends it."""
    from lmms_eval.models.model_utils.media_encoder import encode_image_to_data_url

    return encode_image_to_data_url(
        Image.open(path), image_format="JPEG", convert_rgb=True, quality=85
    )


BACKENDS = {"vlmevalkit": vlmevalkit, "lmms-eval": lmms_eval, "lmms-eval-own": lmms_own}


def compared(backend: str, folder: Path, shown: Path) -> dict[str, dict[str, str]]:
    ours = BACKENDS[backend](folder)
    plain, video = transformers(folder, own=backend == "lmms-eval-own")
    questions = {
        question: [("image", shown / f"{key}.png") for key in keys]
        for question, keys in QUESTIONS.items()
    }
    # VLMEvalKit gives the generic class the frames of a video as pictures.
    if video and backend == "lmms-eval":
        questions[VIDEO] = [("video", shown / "video.avi")]
    return {
        question: {"backend": ours(asked, ASKED), "transformers": plain(asked, ASKED)}
        for question, asked in questions.items()
    }


@contextmanager
def pictures(own: bool) -> Iterator[Path]:
    """A folder with the media of the questions."""
    with tempfile.TemporaryDirectory() as name:
        for key in ("a", "b"):
            picture = Image.open(io.BytesIO(media.picture(key)))
            # as many tokens as those of the text, or they would not matter
            size = FITTING if own else (4 * picture.width, 4 * picture.height)
            picture.resize(size).save(Path(name, f"{key}.png"))
        write_video(Path(name, "video.avi"), media.frames("c", 4))
        yield Path(name)


def write_video(path: Path, frames: Sequence[Image.Image]) -> None:
    """A video without loss, so that all decoders give the same frames."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("png", rate=2)
        stream.width, stream.height = frames[0].size
        stream.pix_fmt = "rgb24"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_image(frame)))
        container.mux(stream.encode())


def main(backend: str, report: Path, folders: Sequence[Path]) -> None:
    found: dict[str, object] = {}
    with pictures(own=backend == "lmms-eval-own") as shown:
        for folder in folders:
            try:
                found[folder.name] = compared(backend, folder, shown)
            except Exception:  # the other families are asked all the same
                found[folder.name] = traceback.format_exc()
    report.write_text(json.dumps(found, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), [Path(folder) for folder in sys.argv[3:]])
