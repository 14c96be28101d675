"""The closed list of places where VLMEvalKit needs a nudge. Each says which behaviour it cures."""

from __future__ import annotations

import argparse
import contextlib
import functools
import hashlib
import mimetypes
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from easi_eval.answering.newer_configs import read_newer_configs
from easi_eval.model import ModelChoice

from .own_models import add_folder, factory

# Endings of the picture formats that have several; what has none here is named .png, which readers open by content.
_PICTURES = {
    "JPEG": ".jpg",
    "MPO": ".jpg",
    "PNG": ".png",
    "GIF": ".gif",
    "WEBP": ".webp",
    "BMP": ".bmp",
    "TIFF": ".tif",
}
_VIDEOS = (".mp4", ".mkv", ".webm", ".mov", ".avi", ".flv", ".m4v", ".mpg", ".mpeg", ".wmv", ".ts")


def apply() -> None:
    """What every process over VLMEvalKit needs, whatever its part in a run."""
    read_newer_configs()
    accept_tables()
    use_the_hub_cache()
    replace_missing_flash_attention()
    take_media_types_from_content()
    for line in add_folder():
        print(line, flush=True)


def accept_tables() -> None:
    """Make every dataset accept the table it finds on disk.

    A table whose md5 differs from the one written into the package would be downloaded again over ours, from an
    address that ignores HF_ENDPOINT. Ours was compared with the hub's own checksum when it was fetched.
    """
    from vlmeval import dataset

    for cls in dataset.DATASET_CLASSES:
        if getattr(cls, "DATASET_MD5", None):
            cls.DATASET_MD5 = dict.fromkeys(cls.DATASET_MD5)


def use_the_hub_cache() -> None:
    """Look for media where huggingface_hub keeps them: VLMEvalKit adds ``hub`` to a cache folder with any other name."""
    from huggingface_hub import constants
    from vlmeval.smp import file

    file.HFCacheRoot = lambda: constants.HF_HUB_CACHE


def take_media_types_from_content() -> None:
    """Ask questions whose picture or video has no file-name ending, or the wrong one (some of SITE's), in every class.

    A dataset says of each part of a prompt what it is, and ``preproc_content`` guesses it once more from the name: an
    ending that it does not know stops the question, and so does a text that happens to name a file. API classes and some
    others (Claude, Gemma, Kimi, Llama 4) guess again later, so such a file is also given a name that tells its type.
    """
    from vlmeval.api.base import BaseAPI
    from vlmeval.vlm.base import BaseModel

    for base in (BaseModel, BaseAPI):
        base.preproc_content = _trusting(base.preproc_content)


def _trusting(guess: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(guess)
    def preproc_content(self: Any, inputs: Any) -> Any:
        if not (isinstance(inputs, list) and inputs and all(map(_is_known, inputs))):
            return guess(self, inputs)
        for part in inputs:
            if part["type"] != "text":
                part["value"] = named_by_content(part["value"], part["type"])
        return inputs

    return preproc_content


def _is_known(part: Any) -> bool:
    """A text, or a picture or video that is a file here; addresses and pictures in base64 are left to VLMEvalKit."""
    if not (isinstance(part, dict) and isinstance(part.get("value"), str)):
        return False
    return part.get("type") == "text" or (
        part.get("type") in ("image", "video") and Path(part["value"]).is_file()
    )


def named_by_content(path: str, kind: str) -> str:
    """The file under a name whose ending tells what it holds: ``path`` itself if it has one of this kind, else a link to it."""
    ending = Path(path).suffix.lower()
    if (mimetypes.types_map.get(ending) or mimetypes.common_types.get(ending) or "").startswith(
        kind
    ) or (kind == "video" and ending in _VIDEOS):
        return path
    wanted = _picture_ending(path) if kind == "image" else _video_ending(path)
    if not wanted:
        return path  # whoever reads it says why it cannot be read
    from vlmeval.smp import LMUDataRoot

    link = Path(
        LMUDataRoot(),
        "files",
        hashlib.sha256(str(Path(path).absolute()).encode("utf-8", "surrogateescape")).hexdigest()[
            :32
        ]
        + wanted,
    )
    link.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):  # several workers ask the same question's media
        link.symlink_to(Path(path).absolute())
    return str(link)


def _picture_ending(path: str) -> str:
    from PIL import Image

    try:
        with Image.open(path) as picture:
            return _PICTURES.get(picture.format or "", ".png")
    except OSError:
        return ""


def _video_ending(path: str) -> str:
    with Path(path).open("rb") as file:
        begin = file.read(12)
    if begin.startswith(b"\x1aE\xdf\xa3"):  # EBML: Matroska and WebM
        return ".webm"
    if begin.startswith(b"RIFF"):
        return ".avi"
    return ".mp4" if begin[4:8] in (b"ftyp", b"moov", b"mdat", b"wide") else ""


def replace_missing_flash_attention() -> bool:
    """Load with ``sdpa`` what asks for ``flash_attention_2`` where flash-attn cannot be imported.

    About twenty of VLMEvalKit's classes, all of Qwen's among them, write that name into their own code. True if it
    was needed.
    """
    try:
        import flash_attn  # noqa: F401
    except ImportError:  # also one that was built for another torch
        pass
    else:
        return False
    from transformers import PreTrainedModel

    choose = PreTrainedModel.get_correct_attn_implementation
    said: list[str] = []

    # Here and not where models are loaded: Auto classes hand the name on inside a config, and configs bring it themselves.
    def get_correct_attn_implementation(
        self: Any, asked: str | None, *args: Any, **options: Any
    ) -> str:
        if asked != "flash_attention_2":
            return choose(self, asked, *args, **options)
        instead = choose(self, None, *args, **options)
        if not said:  # the parts of a model ask too
            print(
                f"{type(self).__name__}: flash-attn cannot be imported; loaded with {instead} instead of flash_attention_2",
                flush=True,
            )
        said.append(instead)
        return instead

    PreTrainedModel.get_correct_attn_implementation = get_correct_attn_implementation
    return True


def show_vsi_frames() -> None:
    """Give VSI-Bench's videos as the dataset's frames to classes that would take the video too (``--vsi-input frames``)."""
    from vlmeval.dataset.vsibench import VsiBench

    build = VsiBench.build_prompt
    VsiBench.build_prompt = functools.wraps(build)(
        lambda dataset, line, video_llm=False: build(dataset, line, video_llm=False)
    )


def take_vsi_input(argv: Sequence[str]) -> list[str]:
    """Obey ``--vsi-input`` among the arguments of VLMEvalKit's own command line, which does not know it; the others."""
    own = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    own.add_argument("--vsi-input", choices=("video", "frames"), default="video")
    known, others = own.parse_known_args(list(argv))
    if known.vsi_input == "frames":
        show_vsi_frames()
    return others


def model_factory(model: ModelChoice) -> Callable[..., Any]:
    """What builds the model of the plan: VLMEvalKit's entry, one of its classes with a path, the user's own class
    (``file.Class``), or our generic class.
    """
    from vlmeval.config import supported_VLM

    from vlmeval import api, vlm

    if model.entry:
        return functools.partial(supported_VLM[model.entry], **model.arguments)
    if "." in model.cls:
        return factory(model.cls, model.path, model.arguments)
    if model.cls == "EasiVLM":
        from .generic import EasiVLM

        return functools.partial(EasiVLM, **{"model_path": model.path, **model.arguments})
    cls = getattr(vlm, model.cls, None) or getattr(api, model.cls)
    return functools.partial(cls, **{"model_path": model.path, **model.arguments})


def register_model(model: ModelChoice, name: str) -> None:
    """Put the model of the plan into VLMEvalKit's registry, so that its own loop finds it by ``name``."""
    from vlmeval.config import supported_VLM

    supported_VLM[name] = functools.partial(_build, model_factory(model))


def _build(factory: Callable[..., Any], use_vllm: bool = False, **options: Any) -> Any:
    """The loop hands ``use_vllm`` to whatever has Qwen2.5-VL in its name, also to classes that know no such argument."""
    return factory(**options, **({"use_vllm": True} if use_vllm else {}))


def watch_loading(names: Sequence[str]) -> None:
    """Let VLMEvalKit's own loop refuse models some of whose weights are in no file, as our workers do."""
    from vlmeval.config import supported_VLM

    for name in names:
        entry = supported_VLM.get(name)
        if isinstance(entry, functools.partial):  # the loop changes its keywords
            supported_VLM[name] = functools.partial(
                build_whole, entry.func, *entry.args, **entry.keywords
            )


def build_whole(build: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """What ``build`` makes of the arguments; EasiError for a model some of whose weights are in no file."""
    from easi_eval.answering.missing_weights import refusing_missing_weights

    with refusing_missing_weights():
        return build(*args, **options)
