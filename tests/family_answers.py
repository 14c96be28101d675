"""Answers of checkpoints through a backend's generic class, and by plain ``transformers.generate``.

It runs with the Python of the profile that loads them, one process for all:
``python tests/family_answers.py BACKEND REPORT FOLDER ...``. REPORT is JSON: by name of the folder
and question what the backend answered and what transformers did, or the error of that folder.
"""

from __future__ import annotations

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


def transformers(folder: Path) -> tuple[Asked, bool]:
    """What asks plain transformers, and whether the family has native video."""
    import transformers
    from transformers import AutoModelForImageTextToText, AutoProcessor

    processor = AutoProcessor.from_pretrained(folder)
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype="float32")
    # All frames of the video. Options of the processor have had an argument of their own since 5.
    options: dict[str, Any] = {"do_sample_frames": False}
    if int(transformers.__version__.split(".")[0]) > 4:
        options = {"processor_kwargs": options}

    def ask(shown: Sequence[tuple[str, Path]], text: str) -> str:
        parts = [
            {"type": kind, kind: Image.open(path) if kind == "image" else str(path)}
            for kind, path in shown
        ]
        inputs = processor.apply_chat_template(
            [{"role": "user", "content": [*parts, {"type": "text", "text": text}]}],
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
            add_generation_prompt=True,
            **(options if any(kind == "video" for kind, _ in shown) else {}),
        )
        produced = model.generate(**inputs, do_sample=False, max_new_tokens=TOKENS)
        return processor.tokenizer.decode(
            produced[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True
        )

    return ask, getattr(processor, "video_processor", None) is not None


BACKENDS = {"vlmevalkit": vlmevalkit, "lmms-eval": lmms_eval}


def compared(backend: str, folder: Path, shown: Path) -> dict[str, dict[str, str]]:
    ours = BACKENDS[backend](folder)
    plain, video = transformers(folder)
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
def pictures() -> Iterator[Path]:
    """A folder with the media of the questions."""
    with tempfile.TemporaryDirectory() as name:
        for key in ("a", "b"):
            picture = Image.open(io.BytesIO(media.picture(key)))
            # as many tokens as those of the text, or they would not matter
            picture.resize((4 * picture.width, 4 * picture.height)).save(Path(name, f"{key}.png"))
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
    with pictures() as shown:
        for folder in folders:
            try:
                found[folder.name] = compared(backend, folder, shown)
            except Exception:  # the other families are asked all the same
                found[folder.name] = traceback.format_exc()
    report.write_text(json.dumps(found, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), [Path(folder) for folder in sys.argv[3:]])
