"""The smoke run's model.

Its files are reproducible, its tokenizer keeps any text, and its answers have the requested form.
"""

from __future__ import annotations

import hashlib
import random
import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from PIL import Image, ImageDraw

from rehearsal_data import vocabulary
from rehearsal_data.checkpoint import build

THINGS = (
    "chair",
    "table",
    "sofa",
    "lamp",
    "bed",
    "window",
    "door",
    "sink",
    "stove",
    "mirror",
    "café mug",
    "Küchenschrank",
)

# The forms in which the benchmarks list options; {q} the question, options as lines or in a row.
OPTION_STYLES: dict[str, Callable[[str, Sequence[str]], str]] = {
    "vsi": lambda q, o: (
        f"These are frames of a video.\n{q}\nOptions:\n"
        + _list("{}. {}", o, "\n")
        + "\nAnswer with the option's letter from the given choices directly."
    ),
    "blink": lambda q, o: (
        f"Note: You only need to respond with {', '.join('ABCDEF'[: len(o)])} without providing "
        "any additional information.\n"
        f"{q}\nSelect from the following choices.\n" + _list("({}) {}", o, "\n")
    ),
    "mmsi": lambda q, o: (
        f"{q}\nOptions: "
        + _list("{}: {}", o, ", ")
        + "\nAnswer with the option's letter from the given choices directly. "
        "Enclose the option's letter within ``."
    ),
    "mindcube": lambda q, o: f"{q} " + _list("{}. {}", o, " "),
    "embspatial": lambda q, o: f"{q}\n" + _list("{}) {}", o, "\n"),
    "site": lambda q, o: (
        f"Question: {q}\nOptions:\n"
        + _list("{}: {}", o, "\n")
        + "\nGive me the answer letter directly. The best answer is:"
    ),
}


def _list(form: str, options: Sequence[str], between: str) -> str:
    return between.join(
        form.format(letter, option) for letter, option in zip("ABCDEF", options, strict=False)
    )


def picture(number: int) -> Image.Image:
    dice = random.Random(number)
    image = Image.new("RGB", (96, 64), tuple(dice.randrange(256) for _ in range(3)))
    for _ in range(5):
        x, y = dice.randrange(80), dice.randrange(50)
        ImageDraw.Draw(image).rectangle(
            (x, y, x + 25, y + 20), fill=tuple(dice.randrange(256) for _ in range(3))
        )
    return image


def conversation(text: str, *numbers: int) -> list[dict]:
    images = [{"type": "image", "image": picture(number)} for number in numbers]
    return [{"role": "user", "content": [*images, {"type": "text", "text": text}]}]


def question(number: int) -> str:
    first, second = random.Random(number).sample(THINGS, 2)
    return f"Seen from the {first}, what is closest to the {second}?"


def options(number: int, count: int = 4) -> list[str]:
    return random.Random(f"options {number}").sample(THINGS, count)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture(scope="module")
def ask(folder: Path) -> Callable[..., str]:
    import torch

    from easi_eval.engine.vlm.generic_vlm import Decoding, GenericVLM

    torch.set_num_threads(1)  # so small a model only loses by more
    vlm = GenericVLM(folder, device="cpu")

    def answer(text: str, *pictures: int) -> str:
        (generation,) = vlm.generate([conversation(text, *pictures)], Decoding(64))
        assert generation.finish == "stop"
        return generation.text

    answer.vlm = vlm
    return answer


def digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def test_same_seed_same_bytes_and_another_seed_other_weights(folder: Path, tmp_path: Path) -> None:
    assert digests(build(tmp_path / "again")) == digests(folder)
    other = digests(build(tmp_path / "other", seed=1))
    assert {name for name, digest in other.items() if digest != digests(folder)[name]} == {
        "model.safetensors"
    }


def test_checkpoint_stays_small(folder: Path) -> None:
    assert sum(path.stat().st_size for path in folder.iterdir()) < 5_000_000


def test_tokenizer_keeps_any_text_and_knows_the_words_that_matter(folder: Path) -> None:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    text = "Wo steht der Küchenschrank? 床头柜 🌱\n\n\tPoint A.\r\n  (B) 3.5 m, don't"
    assert tokenizer.decode(tokenizer.encode(text).ids) == text
    whole = [
        "A.",
        " B.",
        "(C)",
        " D:",
        "E)",
        "phrase",
        " float",
        " formatted",
        "_right",
        " centimeters",
        "Answer",
        "<|image_pad|>",
    ]
    assert [len(tokenizer.encode(piece).ids) for piece in whole] == [1] * len(whole)
    # "USA." ends a sentence, it marks no option.
    assert "A." not in tokenizer.encode("made in the USA.").tokens


def test_vocabulary_has_no_token_twice() -> None:
    texts = [token.text for token in vocabulary.tokens()]
    assert len(set(texts)) == len(texts)
    assert texts[:256] == [bytes([value]) for value in range(256)]


@pytest.mark.parametrize("style", OPTION_STYLES)
@pytest.mark.parametrize("count", [2, 4, 6])
def test_choice_is_a_letter_of_the_list(ask: Callable[..., str], style: str, count: int) -> None:
    answers = Counter(
        ask(OPTION_STYLES[style](question(n), options(n, count)), n) for n in range(24)
    )
    assert set(answers) <= set("ABCDEF"[:count])
    assert len(answers) >= min(count, 4)
    assert max(answers.values()) <= 18


def test_choice_follows_its_option_when_the_list_is_turned(ask: Callable[..., str]) -> None:
    kept = 0
    for n in range(24):
        order = options(n)
        turned = order[1:] + order[:1]
        before, after = (
            ask(OPTION_STYLES["vsi"](question(n), given), n) for given in (order, turned)
        )
        kept += order["ABCD".index(before)] == turned["ABCD".index(after)]
    assert kept >= 22


@pytest.mark.parametrize(
    ("unit", "closing"),
    [
        ("many", "single word or phrase"),
        ("centimeters", "single word or phrase"),
        ("meters", "one float number"),
        ("square meters", "one float number"),
    ],
)
def test_number_is_answered_with_fitting_numbers(
    ask: Callable[..., str], unit: str, closing: str
) -> None:
    texts = [
        f"How {unit} {THINGS[n % 12]}?\nPlease answer the question using a {closing}."
        for n in range(24)
    ]
    answers = Counter(float(ask(text, n)) for n, text in enumerate(texts))
    low, high = {
        "many": (1, 10),
        "centimeters": (30, 300),
        "meters": (0.5, 6),
        "square meters": (9, 50),
    }[unit]
    assert all(low <= value <= high for value in answers)
    assert len(answers) >= 3


def test_reasoning_ends_in_the_line_that_was_asked_for(ask: Callable[..., str]) -> None:
    rule = (
        "End your answer with a separate line formatted exactly as:\n\nAnswer: X\n"
        "where X ∈ {A, B, C, D}.\n\n\n"
    )
    answers = [
        ask(rule + question(n) + "\n" + _list("{}. {}", options(n), "\n"), n) for n in range(16)
    ]
    assert all(re.fullmatch(r"[A-Z].{20,}\nAnswer: [A-D]", answer) for answer in answers)
    assert len({answer[-1] for answer in answers}) >= 3
    assert len({answer.split("\n")[0] for answer in answers}) >= 2


def test_movements_are_named_as_spar_names_them(ask: Callable[..., str]) -> None:
    texts = [
        f"How did the camera move past the {thing}? Write move_right:a,rotate_left:b."
        for thing in THINGS
    ]
    answers = [ask(text, n) for n, text in enumerate(texts)]
    assert all(re.fullmatch(r"move_[a-z]+:[\d.]+,rotate_[a-z]+:\d+", answer) for answer in answers)
    assert len(set(answers)) >= 4


def test_answers_depend_on_the_image_and_on_the_question(ask: Callable[..., str]) -> None:
    text = OPTION_STYLES["vsi"]
    by_image = [{ask(text(question(n), options(n)), image) for image in range(6)} for n in range(8)]
    by_question = [
        {ask(text(question(n), options(image)), image) for n in range(6)} for image in range(8)
    ]
    assert sum(len(answers) > 1 for answers in by_image) >= 3
    assert sum(len(answers) > 1 for answers in by_question) >= 3


def test_company_and_threads_change_nothing_and_decisions_are_clear(
    ask: Callable[..., str],
) -> None:
    import torch

    from easi_eval.engine.vlm.generic_vlm import Decoding

    texts = [
        OPTION_STYLES[style](question(n), options(n))
        for n, style in enumerate([*OPTION_STYLES] * 2)
    ]
    texts += [
        f"How many {thing}?\nPlease answer the question using a single word or phrase."
        for thing in THINGS
    ]
    asked = [
        conversation(text, n, n + 1) if n % 2 else conversation(text, n)
        for n, text in enumerate(texts)
    ]
    alone = [ask.vlm.generate([each], Decoding(64))[0].text for each in asked]
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2 if threads == 1 else 1)
        together = [
            g.text
            for at in range(0, len(asked), 8)
            for g in ask.vlm.generate(asked[at : at + 8], Decoding(64))
        ]
    finally:
        torch.set_num_threads(threads)
    assert together == alone
    # logits are of size 10; float32 errs by 1e-5
    assert min(_margin(ask.vlm, each) for each in asked) > 0.01


def _margin(vlm: object, asked: list[dict]) -> float:
    """How far the first token's logit lies above the runner-up's."""
    import torch

    with torch.inference_mode():
        logits = vlm.model(**vlm.encode([vlm.prompt(asked)])).logits[0, -1]
    best, second = logits.topk(2).values.tolist()
    return best - second
