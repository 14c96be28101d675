"""The generic class on tiny random checkpoints of three families.

Media, batches, decoding, and what it refuses.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from PIL import Image

from easi_eval.core.errors import EasiError
from easi_eval.engine.vlm import video
from easi_eval.engine.vlm.finite import refuse_noise, refuse_nonfinite
from easi_eval.engine.vlm.generic_vlm import Decoding, GenericVLM
from rehearsal_data import checkpoint

torch.set_num_threads(1)  # models this small only lose by more

TEMPLATE = (
    "{{ bos_token or '' }}{% for message in messages %}{{ message.role }}: {% for part in "
    "message.content %}"
    "{% if part.type == 'image' %}<image>{% elif part.type == 'video' %}<video>{% else %}{{ "
    "part.text }}{% endif %}"
    "{% endfor %}\n{% endfor %}assistant:"
)
TEXT_SIZES = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 4096,
    "initializer_range": 0.5,
}


def tokenizer(folder: Path, *extra: str, **named: str) -> transformers.PreTrainedTokenizerFast:
    """The tiny checkpoint's tokenizer under a plain class, with the family's own special tokens."""
    checkpoint.build(folder)
    plain = transformers.PreTrainedTokenizerFast(
        tokenizer_file=str(folder / "tokenizer.json"),
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        extra_special_tokens=named,
        model_input_names=["input_ids", "attention_mask"],
    )
    plain.add_special_tokens({"additional_special_tokens": list(extra)})
    return plain


def save(model: Any, processor: Any, folder: Path) -> Path:
    torch.manual_seed(0)
    model = model.float()
    for parameter in model.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.3)
    # What many published checkpoints carry: greedy decoding must not inherit it.
    model.generation_config = transformers.GenerationConfig(
        do_sample=True,
        temperature=0.7,
        top_k=20,
        top_p=0.8,
        bos_token_id=processor.tokenizer.bos_token_id,
        eos_token_id=processor.tokenizer.eos_token_id,
        pad_token_id=processor.tokenizer.pad_token_id,
    )
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def idefics3(folder: Path) -> Path:
    """Images are split and described by row and column.

    Pixel values are nested per conversation.
    """
    words = tokenizer(
        folder / "words",
        "<fake_token_around_image>",
        "<image>",
        "<end_of_utterance>",
        "<global-img>",
        *(f"<row_{row}_col_{column}>" for row in range(1, 5) for column in range(1, 5)),
    )
    pictures = transformers.Idefics3ImageProcessor(
        size={"longest_edge": 64}, max_image_size={"longest_edge": 32}
    )
    processor = transformers.Idefics3Processor(
        pictures, words, image_seq_len=4, chat_template=TEMPLATE
    )
    image = words.convert_tokens_to_ids("<image>")
    config = transformers.Idefics3Config(
        image_token_id=image,
        scale_factor=2,
        pad_token_id=words.pad_token_id,
        vision_config={
            "hidden_size": 32,
            "intermediate_size": 32,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "image_size": 32,
            "patch_size": 8,
        },
        text_config={
            "model_type": "llama",
            "vocab_size": len(words),
            "pad_token_id": words.pad_token_id,
            **TEXT_SIZES,
        },
    )
    return save(transformers.Idefics3ForConditionalGeneration(config), processor, folder / "model")


def llava_onevision(folder: Path) -> Path:
    """Images of any shape are cut into tiles; takes videos as such."""
    words = tokenizer(folder / "words", "<image>", "<video>")
    sizes = {"height": 16, "width": 16}
    grid = [[16, 16], [16, 32], [32, 16], [32, 32]]
    processor = transformers.LlavaOnevisionProcessor(
        image_processor=transformers.LlavaOnevisionImageProcessor(
            size=sizes, image_grid_pinpoints=grid
        ),
        tokenizer=words,
        video_processor=transformers.LlavaOnevisionVideoProcessor(size=sizes),
        num_image_tokens=4,
        vision_feature_select_strategy="full",
        chat_template=TEMPLATE,
    )
    config = transformers.LlavaOnevisionConfig(
        vision_config={
            "model_type": "siglip_vision_model",
            "hidden_size": 32,
            "intermediate_size": 32,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "image_size": 16,
            "patch_size": 8,
            "vision_use_head": False,
        },
        text_config={"model_type": "qwen2", "vocab_size": len(words), **TEXT_SIZES},
        image_grid_pinpoints=grid,
        image_token_index=words.convert_tokens_to_ids("<image>"),
        video_token_index=words.convert_tokens_to_ids("<video>"),
        vision_feature_select_strategy="full",
        vision_feature_layer=-1,
        tie_word_embeddings=False,
    )
    return save(
        transformers.LlavaOnevisionForConditionalGeneration(config), processor, folder / "model"
    )


def gemma3(folder: Path) -> Path:
    """The template writes the begin token, which the tokenizer would add again.

    Attention is bidirectional over images.
    """
    words = tokenizer(
        folder / "words", boi_token="<image>", eoi_token="<end_of_image>", image_token="<soft>"
    )
    pictures = transformers.Gemma3ImageProcessor(size={"height": 16, "width": 16})
    processor = transformers.Gemma3Processor(
        pictures, words, chat_template=TEMPLATE, image_seq_length=4
    )
    config = transformers.Gemma3Config(
        mm_tokens_per_image=4,
        boi_token_index=words.convert_tokens_to_ids("<image>"),
        eoi_token_index=words.convert_tokens_to_ids("<end_of_image>"),
        image_token_index=words.convert_tokens_to_ids("<soft>"),
        vision_config={
            "hidden_size": 32,
            "intermediate_size": 32,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "image_size": 16,
            "patch_size": 4,
        },
        text_config={
            "vocab_size": len(words),
            "head_dim": 8,
            "sliding_window": 64,
            "tie_word_embeddings": False,
            **TEXT_SIZES,
        },
        tie_word_embeddings=False,
    )
    return save(transformers.Gemma3ForConditionalGeneration(config), processor, folder / "model")


def picture(seed: int, width: int = 40, height: int = 24) -> Image.Image:
    return Image.fromarray(
        np.random.RandomState(seed).randint(0, 255, (height, width, 3), dtype=np.uint8)
    )


def shows(text: str, *seeds: int) -> list[dict]:
    """Images stand between the words, of different shapes."""
    parts: list[dict] = []
    for number, seed in enumerate(seeds):
        parts += [
            {"type": "text", "text": f"Picture {number}: "},
            {"type": "image", "image": picture(seed, 24 + 16 * (seed % 3))},
        ]
    return [{"role": "user", "content": [*parts, {"type": "text", "text": text}]}]


CONVERSATIONS = [
    shows("Where is the sofa?", 1),
    shows("Which one is closer to the door?", 2, 3),
    shows("How many?", 4),
    shows("No picture here."),
    shows("Left or right of the stove, seen from the window?", 5),
]


@pytest.fixture(
    scope="module", params=[idefics3, llava_onevision, gemma3], ids=lambda family: family.__name__
)
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> GenericVLM:
    folder: Callable[[Path], Path] = request.param
    return GenericVLM(folder(tmp_path_factory.mktemp(request.param.__name__)), device="cpu")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> GenericVLM:
    return GenericVLM(checkpoint.build(tmp_path_factory.mktemp("tiny") / "model"), device="cpu")


def test_batch_answers_as_singles_do(family: GenericVLM) -> None:
    decoding = Decoding(max_new_tokens=8)
    singles = [family.generate([each], decoding)[0] for each in CONVERSATIONS]
    batch = family.generate(CONVERSATIONS, decoding)
    assert [(each.text, each.tokens, each.finish, each.prompt) for each in batch] == [
        (each.text, each.tokens, each.finish, each.prompt) for each in singles
    ]
    assert [each.frames for each in batch] == [1, 2, 1, 0, 1]
    assert len({each.text for each in batch}) > 1


def test_no_family_is_taken_for_noise(
    family: GenericVLM, capfd: pytest.CaptureFixture[str]
) -> None:
    def ask(image: Image.Image, question: str) -> str:
        parts = [{"type": "image", "image": image}, {"type": "text", "text": question}]
        return family.generate([[{"role": "user", "content": parts}]])[0].text

    refuse_nonfinite(family)
    refuse_noise(family, ask)
    said = capfd.readouterr().out
    assert "weights are finite" in said and "the test question was answered" in said


def test_greedy_is_greedy_whatever_the_checkpoint_samples_with(family: GenericVLM) -> None:
    first = family.generate(CONVERSATIONS[:1], Decoding(max_new_tokens=8))[0].text
    torch.manual_seed(123)
    assert family.generate(CONVERSATIONS[:1], Decoding(max_new_tokens=8))[0].text == first


def test_image_changes_the_answer(family: GenericVLM) -> None:
    answers = {
        family.generate([shows("Where is it?", seed)], Decoding(max_new_tokens=8))[0].text
        for seed in range(6)
    }
    assert len(answers) > 1


def test_begin_token_is_there_once(family: GenericVLM) -> None:
    tokens = family.encode([family.prompt(CONVERSATIONS[0])])["input_ids"][0].tolist()
    assert tokens.count(family.tokenizer.bos_token_id) == 1


def test_sampling_does_not_depend_on_neighbours(family: GenericVLM) -> None:
    decoding = Decoding(max_new_tokens=6, temperature=1.5)
    state = torch.random.get_rng_state()
    together = [each.text for each in family.generate(CONVERSATIONS, decoding, seeds=range(5))]
    assert torch.equal(torch.random.get_rng_state(), state)
    alone = [
        family.generate([each], decoding, seeds=[seed])[0].text
        for seed, each in enumerate(CONVERSATIONS)
    ]
    assert together == alone
    again = [
        family.generate(CONVERSATIONS[:1], decoding, seeds=[seed])[0].text for seed in range(5)
    ]
    assert len(set(again)) > 1


def test_system_messages_and_plain_strings_are_understood(tiny: GenericVLM) -> None:
    parts = [
        {"role": "system", "content": [{"type": "text", "text": "Be brief."}]},
        {"role": "user", "content": [{"type": "text", "text": "A. x B. y"}]},
    ]
    plain = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "A. x B. y"}]
    first, second = tiny.generate([parts, plain])
    assert first.prompt == second.prompt and first.text == second.text


def test_an_answer_says_why_it_ended(tiny: GenericVLM) -> None:
    asked = [shows("Line formatted exactly as: Answer: X\nA. chair\nB. table", 1)]
    (whole,) = tiny.generate(asked, Decoding(max_new_tokens=64))
    (cut,) = tiny.generate(asked, Decoding(max_new_tokens=2))
    assert (whole.finish, cut.finish, cut.tokens) == ("stop", "length", 2)
    assert whole.tokens > 3 and whole.text.startswith(cut.text)
    # Ending exactly at the limit is an end, not a cut.
    assert tiny.generate(asked, Decoding(max_new_tokens=whole.tokens))[0].finish == "stop"


def test_short_answers_are_not_counted_with_their_neighbours_padding(tiny: GenericVLM) -> None:
    long, short = tiny.generate(
        [
            shows("Line formatted exactly as: Answer: X\nA. chair\nB. table", 1),
            shows("A. chair\nB. table", 1),
        ],
        Decoding(64),
    )
    assert short.tokens == 2 < long.tokens


@pytest.mark.parametrize("frames", [3, 8])
def test_video_file_is_sampled_evenly(tiny: GenericVLM, tmp_path: Path, frames: int) -> None:
    path = tmp_path / "walk.mp4"
    _write_video(path, 12)
    vlm = GenericVLM(tiny.path, device="cpu", num_frames=frames)
    (answer,) = vlm.generate(
        [
            [
                {
                    "role": "user",
                    "content": [
                        {"type": "video", "video": str(path)},
                        {"type": "text", "text": "A. up\nB. down"},
                    ],
                }
            ]
        ]
    )
    assert answer.frames == frames
    assert (
        "<|video_pad|>"
        in vlm.prompt([{"role": "user", "content": [{"type": "video", "video": path}]}]).text
    )


def test_both_readers_of_videos_see_the_same_frames(tmp_path: Path) -> None:
    path = tmp_path / "walk.mp4"
    _write_video(path, 9)
    with_decord, with_av = video._read_with_decord(str(path), 4), video._read_with_av(str(path), 4)
    assert with_decord[1:] == with_av[1:] == ((0, 2, 5, 8), 9, 4.0)
    for one, other in zip(with_decord[0], with_av[0], strict=True):
        # they convert colours a little differently
        assert np.abs(np.asarray(one, int) - np.asarray(other, int)).mean() < 8


def test_video_is_shown_as_pictures_to_a_family_without_videos(tmp_path: Path) -> None:
    vlm = GenericVLM(gemma3(tmp_path), device="cpu")
    frames = [picture(seed) for seed in range(4)]
    shown = vlm.prompt(
        [
            {
                "role": "user",
                "content": [{"type": "video", "video": frames}, {"type": "text", "text": "Where?"}],
            }
        ]
    )
    assert (len(shown.images), len(shown.videos), shown.text.count("<image>")) == (4, 0, 4)


def test_videos_of_different_length_share_a_batch(tmp_path: Path) -> None:
    vlm = GenericVLM(llava_onevision(tmp_path), device="cpu")
    asked = [
        [
            {
                "role": "user",
                "content": [
                    {"type": "video", "video": [picture(seed) for seed in range(count)]},
                    {"type": "text", "text": "Where?"},
                ],
            }
        ]
        for count in (4, 4)
    ]
    batch = vlm.generate(asked, Decoding(max_new_tokens=6))
    assert [each.text for each in batch] == [
        vlm.generate([each], Decoding(max_new_tokens=6))[0].text for each in asked
    ]


def test_unreadable_video_is_named(tiny: GenericVLM, tmp_path: Path) -> None:
    (tmp_path / "cut.mp4").write_bytes(b"\0\0\0\x20ftypisom")
    for name in ("gone.mp4", "cut.mp4"):
        with pytest.raises(EasiError, match=name):
            tiny.generate(
                [[{"role": "user", "content": [{"type": "video", "video": str(tmp_path / name)}]}]]
            )


def test_processor_options_reach_the_processor(tiny: GenericVLM) -> None:
    small = GenericVLM(tiny.path, device="cpu", min_pixels=784, max_pixels=784)
    asked = [tiny.prompt(shows("Where?", 1))]
    assert small.encode(asked)["input_ids"].shape[1] < tiny.encode(asked)["input_ids"].shape[1]


@pytest.fixture
def broken(tiny: GenericVLM, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny.path, tmp_path / "broken"))


def test_checkpoint_without_chat_template_is_refused(broken: Path) -> None:
    (broken / "chat_template.jinja").unlink()
    _edit(broken / "tokenizer_config.json", chat_template=None)
    with pytest.raises(EasiError, match="no chat template"):
        GenericVLM(broken, device="cpu")


def test_text_only_template_is_refused_and_one_kept_with_the_tokenizer_is_used(
    broken: Path,
) -> None:
    (broken / "chat_template.jinja").unlink()
    assert GenericVLM(broken, device="cpu").processor.chat_template
    _edit(
        broken / "tokenizer_config.json",
        chat_template="{% for m in messages %}{{ m.content }}{% endfor %}",
    )
    with pytest.raises(EasiError, match="no chat template"):
        GenericVLM(broken, device="cpu")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model_type": "qwen2"}, "qwen2"),
        ({"model_type": "quite_new"}, "quite_new"),
        (
            {"model_type": "quite_new", "auto_map": {"AutoModelForImageTextToText": "own.Model"}},
            "its own Python code",
        ),
    ],
)
def test_other_checkpoints_are_refused_by_name(
    broken: Path, change: dict[str, object], said: str
) -> None:
    _edit(broken / "config.json", **change)
    with pytest.raises(EasiError, match=said):
        GenericVLM(broken, device="cpu")


def test_code_that_comes_with_a_type_transformers_knows_is_not_needed(broken: Path) -> None:
    _edit(broken / "config.json", auto_map={"AutoModelForImageTextToText": "own.Model"})
    assert (
        type(GenericVLM(broken, device="cpu").model).__name__
        == "Qwen2_5_VLForConditionalGeneration"
    )


def test_checkpoint_with_missing_weights_is_refused(broken: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(broken / "model.safetensors")
    del weights["lm_head.weight"]
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(EasiError, match="lm_head.weight"):
        GenericVLM(broken, device="cpu")


def test_folder_without_config_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EasiError, match="config.json"):
        GenericVLM(tmp_path, device="cpu")


def test_missing_processor_files_are_refused(broken: Path) -> None:
    for name in ("preprocessor_config.json", "video_preprocessor_config.json"):
        (broken / name).unlink()
    with pytest.raises(EasiError, match="processor"):
        GenericVLM(broken, device="cpu")


def _edit(path: Path, **changes: object) -> None:
    content = json.loads(path.read_text()) | changes
    path.write_text(
        json.dumps({name: value for name, value in content.items() if value is not None})
    )


def _write_video(path: Path, frames: int) -> None:
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=4)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for seed in range(frames):
            container.mux(stream.encode(av.VideoFrame.from_image(picture(seed, 64, 48))))
        container.mux(stream.encode())
