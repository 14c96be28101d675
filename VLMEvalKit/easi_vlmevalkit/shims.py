"""Patches of VLMEvalKit that its processes share, and the construction of models.

Each patch says which behaviour it fixes. Patches of VLMEvalKit's own command line are in
``stock_loop``.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import hashlib
import mimetypes
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from easi_eval.core.model import ModelChoice
from easi_eval.engine.vlm.newer_configs import read_newer_configs

from .own_models import add_folder, factory

# Extensions by Pillow's format name. Other formats are named .png: readers recognise a picture by
# its content.
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
    """Apply the patches that every process over VLMEvalKit needs, whatever its role."""
    read_newer_configs()
    accept_tables()
    use_the_hub_cache()
    replace_missing_flash_attention()
    take_media_types_from_content()
    for line in add_folder():
        print(line, flush=True)


def accept_tables() -> None:
    """Make every dataset accept the table it finds on disk.

    VLMEvalKit downloads a table again if its md5 differs from the one in the package, from an
    address that ignores HF_ENDPOINT. Our tables were checked against the hub's own checksum when
    they were fetched.
    """
    from vlmeval import dataset

    for cls in dataset.DATASET_CLASSES:
        if getattr(cls, "DATASET_MD5", None):
            cls.DATASET_MD5 = dict.fromkeys(cls.DATASET_MD5)


def use_the_hub_cache() -> None:
    """Make VLMEvalKit look for media where huggingface_hub keeps them.

    VLMEvalKit appends ``hub`` to a cache folder of any other name.
    """
    from huggingface_hub import constants
    from vlmeval.smp import file

    file.HFCacheRoot = lambda: constants.HF_HUB_CACHE


def take_media_types_from_content() -> None:
    """Fix questions whose image or video file has no extension, or a wrong one (some of SITE's).

    A dataset states the type of each prompt part, but ``preproc_content`` guesses it again from the
    name. An unknown extension stops the question, and so does a text that happens to name a file.
    API classes and some others (Claude, Gemma, Kimi, Llama 4) guess once more later. The file is
    therefore also linked under a name with the right extension.
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
    """Return whether a part is a text, or an image or video that is a local file.

    URLs and base64 images are left to VLMEvalKit.
    """
    if not (isinstance(part, dict) and isinstance(part.get("value"), str)):
        return False
    return part.get("type") == "text" or (
        part.get("type") in ("image", "video") and Path(part["value"]).is_file()
    )


def named_by_content(path: str, kind: str) -> str:
    """Return a path to the file whose extension fits its content.

    Args:
        path: The file.
        kind: ``image`` or ``video``.

    Returns:
        ``path`` itself if its extension is one of this kind or its content is not recognised, else
        a symbolic link to it in VLMEvalKit's data folder.
    """
    ending = Path(path).suffix.lower()
    if (mimetypes.types_map.get(ending) or mimetypes.common_types.get(ending) or "").startswith(
        kind
    ) or (kind == "video" and ending in _VIDEOS):
        return path
    wanted = _picture_ending(path) if kind == "image" else _video_ending(path)
    if not wanted:
        return path  # the class that reads it reports why it cannot
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
    with contextlib.suppress(FileExistsError):  # another worker may have made the same link
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
    """Use ``sdpa`` for models that ask for ``flash_attention_2`` where flash-attn is missing.

    It is missing if it cannot be imported. About twenty of VLMEvalKit's classes, all of Qwen's
    among them, have that name in their code.

    Returns:
        Whether the patch was needed.
    """
    try:
        import flash_attn  # noqa: F401 -- imported to see whether it can be
    except ImportError:  # also raised by a flash-attn that was built for another torch
        pass
    else:
        return False
    from transformers import PreTrainedModel

    choose = PreTrainedModel.get_correct_attn_implementation
    said: list[str] = []

    # Patched here and not in the loading functions: Auto classes pass the name on inside a config,
    # and a config may bring it itself.
    def get_correct_attn_implementation(
        self: Any, asked: str | None, *args: Any, **options: Any
    ) -> str:
        if asked != "flash_attention_2":
            return choose(self, asked, *args, **options)
        instead = choose(self, None, *args, **options)
        if not said:  # once: the submodels of a model ask too
            print(
                f"{type(self).__name__}: flash-attn cannot be imported; "
                f"loaded with {instead} instead of flash_attention_2",
                flush=True,
            )
        said.append(instead)
        return instead

    PreTrainedModel.get_correct_attn_implementation = get_correct_attn_implementation
    return True


def show_vsi_frames() -> None:
    """Give VSI-Bench's videos as extracted frames to every class (``--vsi-input frames``).

    Classes that take videos would otherwise get the video file.
    """
    from vlmeval.dataset.vsibench import VsiBench

    build = VsiBench.build_prompt
    VsiBench.build_prompt = functools.wraps(build)(
        lambda dataset, line, video_llm=False: build(dataset, line, video_llm=False)
    )


def take_vsi_input(argv: Sequence[str]) -> list[str]:
    """Apply ``--vsi-input``, which VLMEvalKit's own parser does not know.

    Returns:
        The other arguments.
    """
    own = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    own.add_argument("--vsi-input", choices=("video", "frames"), default="video")
    known, others = own.parse_known_args(list(argv))
    if known.vsi_input == "frames":
        show_vsi_frames()
    return others


def model_factory(model: ModelChoice) -> Callable[..., Any]:
    """Return a callable that builds the planned model.

    The model is an entry of VLMEvalKit's registry, one of its classes with a checkpoint path, the
    user's own class (``file.Class``), or our generic class ``EasiVLM``.
    """
    from vlmeval.config import supported_VLM

    from vlmeval import api, vlm

    if model.entry:
        return functools.partial(supported_VLM[model.entry], **model.arguments)
    if "." in model.cls:
        return factory(model.cls, model.path, model.arguments)
    if model.cls == "EasiVLM":
        from .generic import EasiVLM

        arguments: dict[str, Any] = {"model_path": model.path, **model.arguments}
        return functools.partial(EasiVLM, **arguments)
    cls = getattr(vlm, model.cls, None) or getattr(api, model.cls)
    return functools.partial(cls, **{"model_path": model.path, **model.arguments})


def register_model(model: ModelChoice, name: str) -> None:
    """Add the planned model to VLMEvalKit's registry, where its own loop finds it by ``name``."""
    from vlmeval.config import supported_VLM

    supported_VLM[name] = functools.partial(_build, model_factory(model))


def _build(factory: Callable[..., Any], use_vllm: bool = False, **options: Any) -> Any:
    """Call ``factory`` without ``use_vllm`` unless it is set.

    The loop passes ``use_vllm`` to every model with Qwen2.5-VL (or Qwen2-VL, Llama-4) in its name,
    also to classes that do not take it.
    """
    return factory(**options, **({"use_vllm": True} if use_vllm else {}))


def watch_loading(names: Sequence[str]) -> None:
    """Make VLMEvalKit's own loop refuse models with missing weights, as our workers do.

    A weight is missing if it is in no file of the checkpoint.
    """
    from vlmeval.config import supported_VLM

    for name in names:
        entry = supported_VLM.get(name)
        if isinstance(entry, functools.partial):  # stays one: the loop changes its keywords
            supported_VLM[name] = functools.partial(
                build_whole, entry.func, *entry.args, **entry.keywords
            )


def build_whole(build: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """Return what ``build`` makes of the arguments.

    Raises:
        EasiError: Some of the model's weights are in no file of the checkpoint.
    """
    from easi_eval.engine.vlm.missing_weights import refusing_missing_weights

    with refusing_missing_weights():
        return build(*args, **options)
