"""The smoke run's questions: what one holds, and how forms are filled in and answers dealt.

They resemble those of the real benchmarks, in other words and about made-up rooms. The answers are
arbitrary, so the right letters are distributed evenly and a guess is right by chance.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

LETTERS = "ABCDEF"

# Names as people write them: with accents, other scripts and signs.
THINGS = (
    "armchair",
    "bookshelf",
    "café mug",
    "ceiling lamp",
    "coffee table",
    "desk",
    "fridge",
    "houseplant 🌱",
    "Küchenschrank",
    "mirror",
    "nightstand (床头柜)",
    "pillow",
    "piñata",
    "radiator",
    "sofá",
    "stove",
    "trash bin",
    "TV",
    "wardrobe",
    "window",
)

YES_NO = ("Yes", "No")
SIDES = ("left", "right")
FOUR_SIDES = ("left", "right", "front", "back")
CORNERS = ("front-left", "front-right", "back-left", "back-right")
FOUR_THINGS = ("{a}", "{b}", "{c}", "{d}")
POINTS = ("Point A", "Point B", "Point C", "Point D")
IMAGE_NAMES = ("the first image", "the second image", "the third image", "the fourth image")


@dataclass(frozen=True)
class QuestionForm:
    """One kind of question.

    ``{a}`` to ``{d}`` in text and options are replaced by names of things.

    Attributes:
        kind: The category or question type.
        text: The question.
        options: The options; without any, the answer is ``number`` or ``moves``.
        pictures: How many pictures the question has.
        number: Lowest and highest answer, and its number of decimals.
        moves: For SPAR; the name, lowest and highest value and decimals of each movement.
        mirror: The answers that change when the picture is mirrored, and what they become.
        group: The task above ``kind`` (OmniSpatial, MMSI-Video), the dataset that the question
            comes from (SITE), or the first part of its id (MindCube).
    """

    kind: str
    text: str
    options: tuple[str, ...] = ()
    pictures: int = 1
    number: tuple[float, float, int] = (1, 4, 1)
    moves: tuple[tuple[str, float, float, int], ...] = ()
    mirror: Mapping[str, str] = field(default_factory=dict)
    group: str = ""


@dataclass(frozen=True)
class Question:
    """One question.

    Attributes:
        index: Its number in the benchmark, from 0.
        kind: Its category as VLMEvalKit's data spells it (VSI, SPAR: the question type).
        group: As in ``QuestionForm``.
        text: The question without its options.
        options: The options without letters; empty for an open question.
        answer: The letter of the right option, a number, or SPAR's list of movements.
        scene: Questions with the same number are about the same video or pictures.
        views: The keys of its pictures.
        extra: Further columns, by benchmark.
    """

    index: int
    kind: str
    group: str
    text: str
    options: tuple[str, ...]
    answer: str
    scene: int
    views: tuple[str, ...]
    extra: Mapping[str, str] = field(default_factory=dict)

    def lettered(self, pattern: str, between: str) -> str:
        """The options as one text; in ``pattern``, ``{0}`` is the letter and ``{1}`` the option."""
        return between.join(
            pattern.format(*pair) for pair in zip(LETTERS, self.options, strict=False)
        )


class Dealer:
    """Fills forms with names of things, and distributes right answers evenly over the letters."""

    def __init__(self, seed: int, benchmark: str) -> None:
        self.key = f"{seed}/{benchmark}"
        self._random = random.Random(self.key)
        self._bags: dict[int, list[str]] = {}

    def ask(
        self, index: int, form: QuestionForm, scene: int, extra: Mapping[str, str] | None = None
    ) -> Question:
        """One question of that form about that scene; it has as many pictures as the form says."""
        things = dict(zip("abcd", self._random.sample(THINGS, 4), strict=True))
        options = [option.format(**things) for option in form.options]
        self._random.shuffle(options)
        answer = self._letter(len(options)) if options else self._open(form)
        views = tuple(f"{self.key}/{scene}/{view}" for view in range(form.pictures))
        return Question(
            index,
            form.kind,
            form.group,
            form.text.format(**things),
            tuple(options),
            answer,
            scene,
            views,
            extra or {},
        )

    def _letter(self, count: int) -> str:
        """A letter from a bag that holds each letter once and is refilled when it is empty."""
        bag = self._bags.setdefault(count, [])
        if not bag:
            bag.extend(self._random.sample(LETTERS[:count], count))
        return bag.pop()

    def _open(self, form: QuestionForm) -> str:
        if form.moves:
            return ",".join(
                f"{name}:{self._random.uniform(low, high):.{digits}f}"
                for name, low, high, digits in form.moves
            )
        low, high, digits = form.number
        return f"{self._random.uniform(low, high):.{digits}f}"


def about_pictures(
    seed: int, benchmark: str, asked: Iterable[QuestionForm], per_scene: int = 2
) -> list[Question]:
    """Questions in the order of the forms; so many neighbours look at the same scene."""
    dealer = Dealer(seed, benchmark)
    return [dealer.ask(index, form, index // per_scene) for index, form in enumerate(asked)]


def about_videos(
    seed: int, benchmark: str, asked: Iterable[QuestionForm], videos: int
) -> list[Question]:
    """Questions in the order of the forms, about ``videos`` videos in turn."""
    dealer = Dealer(seed, benchmark)
    return [
        dealer.ask(index, replace(form, pictures=0), index % videos)
        for index, form in enumerate(asked)
    ]


def each(asked: Sequence[QuestionForm], times: int) -> list[QuestionForm]:
    """Every form so many times in a row."""
    return [form for form in asked for _ in range(times)]
