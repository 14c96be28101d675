"""The smoke run's questions: one list per benchmark, the same for both backends.

They resemble those of the real benchmarks, in other words and about made-up rooms. The answers are
arbitrary, so the right letters are distributed evenly and a guess is right by chance.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from . import question_forms as forms
from .question_forms import QuestionForm

LETTERS = "ABCDEF"


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
        things = dict(zip("abcd", self._random.sample(forms.THINGS, 4), strict=True))
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


def _about_pictures(
    seed: int, benchmark: str, asked: Iterable[QuestionForm], per_scene: int = 2
) -> list[Question]:
    """Questions in the order of the forms; so many neighbours look at the same scene."""
    dealer = Dealer(seed, benchmark)
    return [dealer.ask(index, form, index // per_scene) for index, form in enumerate(asked)]


def _about_videos(
    seed: int, benchmark: str, asked: Iterable[QuestionForm], videos: int
) -> list[Question]:
    """Questions in the order of the forms, about ``videos`` videos in turn."""
    dealer = Dealer(seed, benchmark)
    return [
        dealer.ask(index, replace(form, pictures=0), index % videos)
        for index, form in enumerate(asked)
    ]


def _each(asked: Sequence[QuestionForm], times: int) -> list[QuestionForm]:
    """Every form so many times in a row."""
    return [form for form in asked for _ in range(times)]


def vsi(seed: int) -> list[Question]:
    """VSI-Bench: all kinds twice, the numeric ones three times."""
    numeric = [form for form in forms.VSI if not form.options]
    return _about_videos(seed, "vsi_bench", [*forms.VSI, *forms.VSI, *numeric], videos=6)


def vsi_debiased(seed: int) -> list[Question]:
    """VSI-Bench after debiasing: a part of the questions, with all kinds."""
    return [
        question
        for question in vsi(seed)
        if question.index < len(forms.VSI) or question.index % 5 == 1
    ]


def mmsi(seed: int) -> list[Question]:
    """MMSI-Bench: two questions per type."""
    return _about_pictures(seed, "mmsi_bench", forms.MMSI * 2)


def mindcube(seed: int) -> list[Question]:
    """MindCube: four questions per form."""
    return _about_pictures(seed, "mindcube_tiny", _each(forms.MINDCUBE, 4))


def viewspatial(seed: int) -> list[Question]:
    """ViewSpatial-Bench: four questions per type."""
    return _about_pictures(seed, "viewspatial", _each(forms.VIEWSPATIAL, 4))


def site_image(seed: int) -> list[Question]:
    """SITE-Bench, images: two questions per form."""
    return _about_pictures(seed, "site_image", _each(forms.SITE_IMAGE, 2))


def site_video(seed: int) -> list[Question]:
    """SITE-Bench, videos: three questions per form."""
    return _about_videos(seed, "site_video", forms.SITE_VIDEO * 3, videos=5)


def blink(seed: int) -> list[Question]:
    """BLINK: two questions per task, sorted by task."""
    return _about_pictures(seed, "blink", _each(forms.BLINK, 2), per_scene=1)


def embspatial(seed: int) -> list[Question]:
    """EmbSpatial-Bench; ``extra`` holds ``source``, the dataset that the picture is from."""
    dealer = Dealer(seed, "embspatial")
    asked = [
        (source, form) for source in ("mp3d", "ai2thor", "scannet") for form in forms.EMBSPATIAL
    ]
    return [
        dealer.ask(index, form, index // 2, {"source": source})
        for index, (source, form) in enumerate(asked)
    ]


def omnispatial(seed: int) -> list[Question]:
    """OmniSpatial: two questions per sub-task."""
    return _about_pictures(seed, "omnispatial", _each(forms.OMNISPATIAL, 2))


def spar(seed: int) -> list[Question]:
    """SPAR-Bench: one question per task."""
    return _about_pictures(seed, "spar_bench", forms.SPAR, per_scene=1)


def mmsi_video(seed: int) -> list[Question]:
    """MMSI-Video-Bench: each question has the frames of its scene's video and reference images.

    The views are the reference images. ``extra`` holds the question's subsets, and in ``frames``
    the number of frames of each segment, comma separated.
    """
    dealer = Dealer(seed, "mmsi_video_bench")
    # Only "Cross-Video" has several videos. The long ones have more than the 50 frames that are
    # used.
    several, one = ("4,4,3", "34,30"), ("5", "8", "3", "56")
    questions = []
    for index, form in enumerate(_each(forms.MMSI_VIDEO, 2)):
        scene = index // 2
        frames = several[scene % 2] if form.group == "Cross-Video" else one[scene % 4]
        extra = {
            "frames": frames,
            **forms.MMSI_VIDEO_SUBSETS[index % len(forms.MMSI_VIDEO_SUBSETS)],
        }
        questions.append(dealer.ask(index, form, scene, extra))
    return questions


def three_d(seed: int) -> list[Question]:
    """3DSRBench's circular rows: each question plain and mirrored, with its options rotated.

    ``extra`` holds ``qid`` (8 characters, then ``-flip`` if mirrored, then ``-<rotation>`` if
    rotated) and ``mirrored`` ('' or 'yes').
    """
    dealer = Dealer(seed, "3dsrbench")
    rows: list[Question] = []
    for number, form in enumerate(forms.THREE_D):
        asked = dealer.ask(number, form, number)
        truth = asked.options[LETTERS.index(asked.answer)]
        qid = random.Random(f"{dealer.key}/{number}").choices(
            "ABCDEFGHJKLMNPQRSTUVWXYZ23456789", k=8
        )
        for flip in ("", "-flip"):
            right = form.mirror.get(truth, truth) if flip else truth
            for turn in range(len(asked.options)):
                options = asked.options[turn:] + asked.options[:turn]
                extra = {
                    "qid": "".join(qid) + flip + (f"-{turn}" if turn else ""),
                    "mirrored": "yes" if flip else "",
                }
                answer = LETTERS[options.index(right)]
                rows.append(
                    replace(asked, index=len(rows), options=options, answer=answer, extra=extra)
                )
    return rows
