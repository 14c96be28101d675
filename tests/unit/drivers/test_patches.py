"""What VLMEvalKit needs a nudge for, tried on the real library below it."""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image
from transformers import (
    AutoModelForImageTextToText,
    PreTrainedModel,
    Qwen2_5_VLForConditionalGeneration,
)

from easi_vlmevalkit import media_names, patches
from rehearsal_data import checkpoint

without_flash_attn = pytest.mark.skipif(
    importlib.util.find_spec("flash_attn") is not None, reason="flash-attn is installed here"
)


@pytest.fixture
def restored() -> Iterator[None]:
    before = PreTrainedModel.get_correct_attn_implementation
    yield
    PreTrainedModel.get_correct_attn_implementation = before


@without_flash_attn
# as Qwen2VLChat and Qwen3VLChat load
@pytest.mark.parametrize("cls", [Qwen2_5_VLForConditionalGeneration, AutoModelForImageTextToText])
def test_a_class_that_asks_for_flash_attention_runs_without_it(
    cls: type, tmp_path: Path, restored: None, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = checkpoint.build(tmp_path / "tiny")
    with pytest.raises(ImportError, match="flash"):  # the trap
        cls.from_pretrained(folder, attn_implementation="flash_attention_2")
    assert patches.replace_missing_flash_attention()
    model = cls.from_pretrained(
        folder, attn_implementation="flash_attention_2", torch_dtype=torch.float32
    )
    assert (
        model.config._attn_implementation
        == model.model.visual.config._attn_implementation
        == "sdpa"
    )
    assert capsys.readouterr().out.count("sdpa instead of flash_attention_2") == 1


@without_flash_attn
def test_what_asks_for_something_else_gets_it(
    tmp_path: Path, restored: None, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = checkpoint.build(tmp_path / "tiny")
    assert patches.replace_missing_flash_attention()
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(folder, attn_implementation="eager")
    assert model.config._attn_implementation == "eager"
    assert capsys.readouterr().out == ""


@pytest.fixture
def media_types(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from vlmeval.api.base import BaseAPI
    from vlmeval.vlm.base import BaseModel

    for base in (BaseModel, BaseAPI):
        monkeypatch.setattr(base, "preproc_content", base.preproc_content)
    (tmp_path / "LMUData").mkdir()
    monkeypatch.setenv("LMUData", str(tmp_path / "LMUData"))
    monkeypatch.chdir(tmp_path)
    patches.take_media_types_from_content()


@pytest.mark.parametrize(
    ("name", "format", "ending"),
    [
        ("0000_0", "PNG", ".png"),
        ("0000_1.5", "JPEG", ".jpg"),
        ("view?id=3&type=.mp4", "WEBP", ".webp"),
        ("A.PNG", "PNG", ""),
        ("a.jpg", "PNG", ""),
        ("b.WebP", "WEBP", ""),
        ("c.mp4", "JPEG", ".jpg"),
        ("d.bin", "GIF", ".gif"),
    ],
)
def test_a_picture_is_known_by_its_content(
    name: str, format: str, ending: str, tmp_path: Path, media_types: None
) -> None:
    from mimetypes import guess_type

    from PIL import Image
    from vlmeval.api.base import BaseAPI
    from vlmeval.vlm.base import BaseModel

    Image.new("RGB", (4, 3), "red").save(tmp_path / name, format=format)
    (tmp_path / "Yes").write_text("a file that a text happens to name")
    for base in (BaseModel, BaseAPI):
        message = [
            {"type": "image", "value": str(tmp_path / name)},
            {"type": "text", "value": "Yes"},
        ]
        made = base.preproc_content(
            object.__new__(type("Model", (base,), {"generate_inner": None})), message
        )
        assert made is message, "what was made ready for a message is found by it"
        picture = made[0]["value"]
        assert Path(picture).suffix == ending if ending else picture == str(tmp_path / name)
        assert (guess_type(picture)[0] or "image/webp").startswith("image/") and Path(
            picture
        ).samefile(tmp_path / name)
        assert made[1] == {"type": "text", "value": "Yes"}


def test_a_video_without_an_ending_is_given_one_and_others_stay(
    tmp_path: Path, media_types: None
) -> None:
    (tmp_path / "clip").write_bytes(b"\0\0\0\x18ftypisom")
    (tmp_path / "clip.MKV").write_bytes(b"\x1aE\xdf\xa3")
    (tmp_path / "other").write_bytes(b"\x1aE\xdf\xa3")
    assert [
        Path(media_names.named_by_content(str(tmp_path / name), "video")).suffix
        for name in ("clip", "clip.MKV", "other")
    ] == [".mp4", ".MKV", ".webm"]
    assert media_names.named_by_content(
        str(tmp_path / "clip"), "video"
    ) == media_names.named_by_content(str(tmp_path / "clip"), "video")


# ---- pictures that several prompts share ---------------------------------------------------------


def test_a_picture_is_replaced_as_a_whole_and_a_failed_one_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image.Image, "save", Image.Image.save)  # restores it
    patches.save_pictures_whole()
    path = tmp_path / "frame.jpg"
    Image.new("RGB", (8, 8), "red").save(path)
    before = path.read_bytes()
    with path.open("rb") as reader:
        Image.new("RGB", (64, 64), "blue").save(str(path))
        assert reader.read() == before
    assert Image.open(path).size == (64, 64)
    with pytest.raises(OSError, match="RGBA"):
        Image.new("RGBA", (8, 8)).save(tmp_path / "never.jpg")
    Image.new("RGB", (8, 8)).save(io.BytesIO(), "PNG")
    assert [each.name for each in tmp_path.iterdir()] == ["frame.jpg"]
