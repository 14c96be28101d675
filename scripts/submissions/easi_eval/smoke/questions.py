"""The questions of the rehearsal: one list per benchmark, the same for both backends.

They ask what the real benchmarks ask, in our own words and of made-up rooms.  What is true in a
made-up room is arbitrary, so the right letters are dealt evenly and a guess is right by chance.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from . import question_forms as forms
from .question_forms import Form

LETTERS = "ABCDEF"


@dataclass(frozen=True)
class Question:
    """One question.

    ``kind`` is its category as VLMEvalKit's data spells it (VSI, SPAR: the question type), ``options``
    are without letters and empty for an open question; ``answer`` is the letter of the right option, or
    a number, or SPAR's list of movements.  ``scenes`` are the keys of its pictures or of its video.
    """

    index: int
    kind: str
    text: str
    options: tuple[str, ...]
    answer: str
    scenes: tuple[str, ...]
    extra: Mapping[str, str] = field(default_factory=dict)

    def lettered(self, pattern: str, between: str) -> str:
        """The options in one text; the pattern has ``{0}`` for the letter and ``{1}`` for the option."""
        return between.join(pattern.format(*pair) for pair in zip(LETTERS, self.options, strict=False))


class Dealer:
    """Fills forms with things, and deals right answers evenly among the letters."""

    def __init__(self, seed: int, benchmark: str) -> None:
        self.key = f"{seed}/{benchmark}"
        self._random = random.Random(self.key)
        self._bags: dict[int, list[str]] = {}

    def ask(self, index: int, form: Form, scenes: Sequence[str], extra: Mapping[str, str] | None = None) -> Question:
        """One question of that form about those scenes."""
        things = dict(zip("abcd", self._random.sample(forms.THINGS, 4), strict=True))
        options = [option.format(**things) for option in form.options]
        self._random.shuffle(options)
        answer = self._letter(len(options)) if options else self._open(form)
        return Question(index, form.kind, form.text.format(**things), tuple(options), answer, tuple(scenes), extra or {})

    def pictures(self, form: Form, scene: int) -> tuple[str, ...]:
        """The keys of as many pictures as the form needs: views of one scene."""
        return tuple(f"{self.key}/{scene}/{view}" for view in range(form.pictures))

    def _letter(self, count: int) -> str:
        """From a bag that holds each letter once and is filled again when it is empty."""
        bag = self._bags.setdefault(count, [])
        if not bag:
            bag.extend(self._random.sample(LETTERS[:count], count))
        return bag.pop()

    def _open(self, form: Form) -> str:
        if form.moves:
            return ",".join(f"{name}:{self._random.uniform(low, high):.{digits}f}" for name, low, high, digits in form.moves)
        low, high, digits = form.number
        return f"{self._random.uniform(low, high):.{digits}f}"


def picture_questions(seed: int, benchmark: str, asked: Iterable[Form], per_scene: int = 2) -> list[Question]:
    """Questions about pictures; ``per_scene`` neighbours look at the same scene."""
    dealer = Dealer(seed, benchmark)
    return [dealer.ask(index, form, dealer.pictures(form, index // per_scene)) for index, form in enumerate(asked)]


def video_questions(seed: int, benchmark: str, asked: Iterable[Form], videos: int) -> list[Question]:
    """Questions about ``videos`` videos, in turn; a scene's key is the number of its video."""
    dealer = Dealer(seed, benchmark)
    return [dealer.ask(index, form, (str(index % videos),)) for index, form in enumerate(asked)]


def vsi(seed: int) -> list[Question]:
    numeric = [form for form in forms.VSI if not form.options]
    return video_questions(seed, "vsi_bench", [*forms.VSI, *forms.VSI, *numeric], videos=6)


def vsi_debiased(seed: int) -> list[Question]:
    """The part of VSI-Bench that remains after debiasing: every kind is still there."""
    return [question for question in vsi(seed) if question.index < len(forms.VSI) or question.index % 5 == 1]


def mmsi(seed: int) -> list[Question]:
    return picture_questions(seed, "mmsi_bench", forms.MMSI * 2)


def mindcube(seed: int) -> list[Question]:
    return picture_questions(seed, "mindcube_tiny", forms.MINDCUBE * 4, per_scene=len(forms.MINDCUBE))


def viewspatial(seed: int) -> list[Question]:
    return picture_questions(seed, "viewspatial", forms.VIEWSPATIAL * 4)


def site_image(seed: int) -> list[Question]:
    return picture_questions(seed, "site_image", forms.SITE_IMAGE * 2)


def site_video(seed: int) -> list[Question]:
    return video_questions(seed, "site_video", forms.SITE_VIDEO * 3, videos=5)


def blink(seed: int) -> list[Question]:
    """Two questions per task, the tasks one after the other."""
    return picture_questions(seed, "blink", [form for form in forms.BLINK for _ in range(2)], per_scene=1)


def embspatial(seed: int) -> list[Question]:
    sources = ("mp3d", "ai2thor", "scannet")
    dealer = Dealer(seed, "embspatial")
    asked = [(source, form) for source in sources for form in forms.EMBSPATIAL]
    return [dealer.ask(index, form, dealer.pictures(form, index // 2), {"data_source": source})
            for index, (source, form) in enumerate(asked)]


def omnispatial(seed: int) -> list[Question]:
    return picture_questions(seed, "omnispatial", forms.OMNISPATIAL * 2)


def spar(seed: int) -> list[Question]:
    return picture_questions(seed, "spar_bench", forms.SPAR, per_scene=1)


def mmsi_video(seed: int) -> list[Question]:
    """A question's extra: its subsets (empty where it is in none) and ``frames``, per segment, comma separated."""
    dealer = Dealer(seed, "mmsi_video_bench")
    asked = forms.MMSI_VIDEO * 2
    lengths = ("5", "8", "4,4", "34,30", "3,5,2")
    questions = []
    for index, form in enumerate(asked):
        # "Cross-Video" compares videos; the long one is more than the 50 frames that are looked at.
        frames = lengths[2 + index % 3] if form.group == "Cross-Video" else lengths[index % 4 if index % 4 < 2 else 0]
        extra = {"frames": frames, "references": str(form.pictures), **forms.MMSI_VIDEO_SUBSETS[index % 6]}
        questions.append(dealer.ask(index, form, (f"{dealer.key}/{index}",), extra))
    return questions


def three_d(seed: int) -> list[Question]:
    """3DSRBench's circular rows: each question as it is and mirrored, with the options in every rotation.

    A question's extra: ``qid`` (8 characters, then ``-flip``, then ``-<rotation>``) and ``mirrored`` ('' or 'yes').
    """
    dealer = Dealer(seed, "3dsrbench")
    rows: list[Question] = []
    for number, form in enumerate(forms.THREE_D):
        asked = dealer.ask(number, form, dealer.pictures(form, number))
        truth = asked.options[LETTERS.index(asked.answer)]
        qid = random.Random(f"{dealer.key}/{number}").choices("ABCDEFGHJKLMNPQRSTUVWXYZ23456789", k=8)
        for flip in ("", "-flip"):
            right = form.mirror.get(truth, truth) if flip else truth
            for turn in range(len(asked.options)):
                options = asked.options[turn:] + asked.options[:turn]
                extra = {"qid": "".join(qid) + flip + (f"-{turn}" if turn else ""), "mirrored": "yes" if flip else ""}
                rows.append(Question(len(rows), asked.kind, asked.text, options, LETTERS[options.index(right)],
                                     asked.scenes, extra))
    return rows
