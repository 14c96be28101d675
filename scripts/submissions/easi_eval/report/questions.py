"""The data of the report's question browser: every question of a run in a given number of bytes.

Three deflated blocks. The first has a column per fact of all questions, the second the beginning
and end of each answer. The third has what else fits (whole long answers, what was asked) for one
question after another: failed ones first, then answers that could not be parsed, wrong ones, and
the others.
"""

from __future__ import annotations

import json
import re
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .subject import readable

if TYPE_CHECKING:
    import pandas as pd

FAILED, UNPARSED, WRONG, PARTLY, RIGHT = OUTCOMES = "fuwpr"
NOT_RECORDED = "not recorded"  # what was read, where the backend's files do not tell
HEAD, TAIL = WHOLE = 100, 200  # characters of a long answer that are shown
# With fewer characters where even these do not fit: of answers that are not right, and of others.
LEVELS = (
    (WHOLE, WHOLE),
    (WHOLE, (60, 100)),
    (WHOLE, (12, 28)),
    ((60, 100), (12, 28)),
    ((30, 40), (12, 12)),
    ((0, 0), (0, 0)),
)
SHARE = 0.9  # of the room that facts and beginnings of answers take at most, if they can
SAMPLE = 16  # one answer in so many tells how well all can be deflated
FACT = 100  # characters of a category, of what was read, and of the right answer
LONGEST = 40_000  # characters of an answer or of a question that is shown whole
PICTURES = 120  # per benchmark that may become thumbnails
CHUNK = 1 << 15  # bytes of details that are taken or left together
CANDIDATES = 40 << 20  # bytes of details that are held; more never fit
_SURROGATES = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class AnswerFacts:
    """What the journal tells of an answer besides its text."""

    seconds: float
    worker: str
    at: float
    tokens: int | None
    truncated: bool | None


@dataclass
class Columns:
    """The facts of all questions, one list per fact; benchmarks follow each other.

    Attributes:
        spans: Key of each benchmark and the number of its questions.
        facts: Lists of texts by name: item, category, read, truth.
        answers: The head, the tail and the length of each answer, or the whole of a short one.
        outcomes: One letter of OUTCOMES per question.
        scores: 0-100.
        seconds: Time of each answer; None if it is not known.
        workers: Who gave it; "" if that is not known.
        details: What does not always fit, by outcome and benchmark.
        pictures: Images of the questions that come first: by benchmark, the name in the report and
            the name in the backend's file.
    """

    spans: list[tuple[str, int]] = field(default_factory=list)
    facts: dict[str, list[str]] = field(
        default_factory=lambda: {name: [] for name in ("item", "category", "read", "truth")}
    )
    answers: list[str | tuple[str, str, int]] = field(default_factory=list)
    outcomes: list[str] = field(default_factory=list)
    scores: list[int] = field(default_factory=list)
    seconds: list[float | None] = field(default_factory=list)
    workers: list[str] = field(default_factory=list)
    details: dict[tuple[str, str], list[Chunk]] = field(default_factory=dict)
    pictures: dict[str, dict[str, str]] = field(default_factory=dict)

    def add(
        self,
        key: str,
        rows: pd.DataFrame,
        told: Mapping[str, AnswerFacts],
        titles: Mapping[str, str],
        room: int = CANDIDATES,
    ) -> None:
        """Add the questions of a benchmark: a table of ``Reader.questions``.

        Args:
            key: The benchmark.
            rows: The table.
            told: What the journal tells, by item.
            titles: What the types of questions are called; a name of words where one is not there.
            room: Bytes of details to hold; those that come first where they are more.
        """
        from ..scores.row_table import cluster_of  # loads pandas

        first = len(self.outcomes)
        columns = {name: rows[name].tolist() for name in rows.columns}
        self.spans.append((key, len(rows)))
        self.facts["category"] += [
            _fact(titles.get(kind) or readable(kind)) for kind in columns["question_type"]
        ]
        for name, column in (("item", "item"), ("truth", "target")):
            self.facts[name] += [_fact(value) for value in columns[column]]
        self.facts["read"] += map(
            read_as, columns["extracted"], columns["failed"], columns["parsed"]
        )
        self.answers += [excerpt(text) for text in columns["answer"]]
        outcomes = [
            outcome(failed, parsed, score)
            for failed, parsed, score in zip(
                columns["failed"], columns["parsed"], columns["score"], strict=True
            )
        ]
        self.outcomes += outcomes
        self.scores += [round(100 * score) for score in columns["score"]]
        known = [told.get(item) for item in columns["item"]]
        self.seconds += [round(one.seconds, 2) if one else None for one in known]
        self.workers += [one.worker if one else "" for one in known]
        media = [
            cluster_of(own or scene)
            for own, scene in zip(columns["media"], columns["cluster"], strict=True)
        ]
        asked = list(zip(columns["answer"], columns["question"], media, strict=True))
        pictures = self.pictures.setdefault(key, {})
        for kind in OUTCOMES:
            places = [place for place, its in enumerate(outcomes) if its == kind]
            for place in places[: PICTURES - len(pictures)]:
                # The first of several images.
                name, where = (
                    text.partition("\n")[0] for text in (media[place], columns["media"][place])
                )
                if where:
                    pictures[name] = where
            chunks = _chunks((first + place, *asked[place]) for place in places)
            kept = self.details.setdefault((kind, key), [])
            for chunk in chunks:
                if room <= 0:
                    break
                room -= len(chunk.lines)
                kept.append(chunk)

    def __len__(self) -> int:
        return len(self.outcomes)


@dataclass(frozen=True)
class Chunk:
    """JSON lines of some questions, ``[row, question, whole long answer, media]`` each."""

    lines: bytes
    answers: int
    questions: int


@dataclass(frozen=True)
class Blocks:
    """The three blocks, deflated, and what they lack.

    Attributes:
        columns: The facts.
        answers: Beginnings and ends of answers.
        details: What else fits.
        shortened: Number of answers of which only a part is there.
        unasked: Number of questions without what was asked.
        shown: Characters of the beginning and the end of a shortened answer, at least.
    """

    columns: bytes
    answers: bytes
    details: bytes
    shortened: int
    unasked: int
    shown: tuple[int, int]


def outcome(failed: bool, parsed: Any, score: float) -> str:
    """Return what became of a question: one of OUTCOMES."""
    if failed:
        return FAILED
    if parsed is False:  # missing where the backend does not say
        return UNPARSED
    return WRONG if score <= 0 else RIGHT if score >= 1 else PARTLY


def read_as(extracted: object, failed: bool, parsed: Any) -> str:
    """Return what was read of an answer, or in the filter's words why there is nothing."""
    words = {FAILED: "failed", UNPARSED: "unparsed"}
    return _fact(extracted) or words.get(outcome(failed, parsed, 0.0), NOT_RECORDED)


def excerpt(text: str, head: int = HEAD, tail: int = TAIL) -> str | tuple[str, str, int]:
    """Return a short text as it is, of a long one its beginning, its end and its length."""
    if len(text) <= head + tail:
        return text
    return text[:head], text[len(text) - tail :], len(text)


def pack(columns: Columns, room: int, extra: Mapping[str, object]) -> Blocks:
    """Return the blocks in at most ``room`` bytes, if the facts without answers fit.

    ``extra`` goes into the first block.
    """
    facts = zlib.compress(_json({**_table(columns), **extra}), 6)
    levels = LEVELS[_level(columns, int(SHARE * room) - len(facts)) :]
    for level in levels:
        answers = _excerpts(columns, level)
        begun = zlib.compress(_json(answers), 6)
        left = room - len(facts) - len(begun)
        if left >= 0:
            break
    details, whole, asked = _fill(_in_turn(columns), left)
    cut = sum(not isinstance(answer, str) for answer in answers)
    return Blocks(facts, begun, details, cut - whole, len(columns) - asked, level[1])


def _level(columns: Columns, room: int) -> int:
    """Return the first of LEVELS at which all answers fit, judging by some of them."""
    for number, level in enumerate(LEVELS[:-1]):
        sample = _json(_excerpts(columns, level, SAMPLE))
        if SAMPLE * len(zlib.compress(sample, 6)) <= room:
            return number
    return len(LEVELS) - 1


def _excerpts(
    columns: Columns, level: tuple[tuple[int, int], tuple[int, int]], every: int = 1
) -> list[str | tuple[str, str, int]]:
    """Return the answers as short as a level of LEVELS has them, or only one in ``every``."""
    answers = columns.answers[::every]
    if level == LEVELS[0]:
        return answers
    sizes = (level[kind == RIGHT] for kind in columns.outcomes[::every])
    return [_shorter(one, *size) for one, size in zip(answers, sizes, strict=True)]


def _shorter(
    answer: str | tuple[str, str, int], head: int, tail: int
) -> str | tuple[str, str, int]:
    if isinstance(answer, str):
        return excerpt(answer, head, tail)
    return answer[0][:head], answer[1][len(answer[1]) - tail :], answer[2]


def _table(columns: Columns) -> dict[str, object]:
    named = {name: _indexed(columns.facts[name]) for name in ("category", "read", "truth")}
    return {
        "item": columns.facts["item"],
        "outcome": "".join(columns.outcomes),
        "score": columns.scores,
        "seconds": columns.seconds,
        "worker": _indexed(columns.workers),
        **named,
    }


def _indexed(texts: Sequence[str]) -> dict[str, object]:
    """Return a column of few different texts as these and the place of each."""
    places = {text: place for place, text in enumerate(dict.fromkeys(texts))}
    return {"texts": list(places), "at": [places[text] for text in texts]}


def _fact(value: Any) -> str:
    text = "" if value is None or value != value else str(value)
    return text if len(text) <= FACT else text[: FACT - 1] + "…"


def _chunks(questions: Iterable[tuple[int, str, str, str]]) -> Iterator[Chunk]:
    """Yield the details of questions; one that is longer than LONGEST is left out."""
    lines: list[bytes] = []
    counts: Counter[str] = Counter()
    size = 0
    for row, answer, question, media in questions:
        whole = answer if HEAD + TAIL < len(answer) <= LONGEST else ""
        asked = question if len(question) <= LONGEST else ""
        if not (whole or asked or media):
            continue
        lines.append(_json([row, asked, whole, media[:500]]))
        counts.update(answers=bool(whole), questions=bool(asked))
        size += len(lines[-1])
        if size >= CHUNK:
            yield Chunk(b"\n".join(lines) + b"\n", counts["answers"], counts["questions"])
            lines, size = [], 0
            counts.clear()
    if lines:
        yield Chunk(b"\n".join(lines) + b"\n", counts["answers"], counts["questions"])


def _in_turn(columns: Columns) -> Iterator[Chunk]:
    """Yield the chunks by outcome; those of one outcome from one benchmark after the other."""
    for kind in OUTCOMES:
        waiting = [iter(columns.details.get((kind, key), ())) for key, _ in columns.spans]
        while waiting:
            found = [(chunks, next(chunks, None)) for chunks in waiting]
            yield from (chunk for _, chunk in found if chunk)
            waiting = [chunks for chunks, chunk in found if chunk]


def _fill(chunks: Iterable[Chunk], room: int) -> tuple[bytes, int, int]:
    """Deflate chunks until the room is used.

    Returns:
        The block, and how many long answers and questions it has.
    """
    made, size, answers, questions = zlib.compressobj(6), 0, 0, 0
    pieces: list[bytes] = []
    for chunk in chunks:
        before = made.copy()
        piece = made.compress(chunk.lines) + made.flush(zlib.Z_SYNC_FLUSH)
        if size + len(piece) > room:
            made = before
            break
        pieces.append(piece)
        size += len(piece)
        answers += chunk.answers
        questions += chunk.questions
    return b"".join((*pieces, made.flush())), answers, questions


def _json(value: object) -> bytes:
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError:  # half a character
        return _SURROGATES.sub("\ufffd", text).encode("utf-8")
