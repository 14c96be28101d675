"""Result files of a real run's size, made from the files of a rehearsal.

The layout is the backends' own. Every row is as a genuine row was scored, with other texts. Texts
are words drawn one by one from English prose: deflate needs 2.9 bits per character for them, and
2.3 for the prose itself. Questions and options, which in the real benchmarks are mostly templates,
are such texts too, of the length they have there.
"""

from __future__ import annotations

import copy
import csv
import io
import json
import random
import re
import string
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import pandas as pd

from cells import read_cells
from easi_eval.backends import make_backend
from easi_eval.benchmarks import ALL_KEYS, LMMS_EVAL, VLMEVALKIT, Benchmark, by_key
from easi_eval.data.needs import HubSettings
from easi_eval.scores.outputs import Outputs
from easi_eval.scores.recompute import recompute
from easi_eval.scores.score_table import Reading
from easi_eval.submission.archive.size_forecast import REASONED, questions
from genuine import facts

# Questions in each benchmark. VLMEvalKit's table of 3DSRBench has the flipped and the circular
# rows; lmms-eval's data set has fewer rows, and is taken to have as many.
ROWS = {key: questions(key, VLMEVALKIT) for key in ALL_KEYS}
FACTS = {key: facts(key) for key in ALL_KEYS}
ANSWER = 60
SNAPSHOT = (
    "/home/somebody/.cache/huggingface/hub/datasets--org--data/"
    "snapshots/13883221f3cee3de9b2a5a8a762b78c51dadf8b4"
)
_WORD = re.compile(r"[A-Za-z][A-Za-z'-]*[,.;:]?")
_OPTION_COLUMNS = ("A", "B", "C", "D", "E", "F")


class Prose:
    """Texts without end, the same for the same seed."""

    def __init__(self, seed: str) -> None:
        self.random = random.Random(seed)
        self._words = _WORD.findall(" ".join(topics.values()))

    def text(self, length: float) -> str:
        words: list[str] = []
        size = 0
        while size < length:
            words.append(self.random.choice(self._words))
            size += len(words[-1]) + 1
        return " ".join(words)[: max(1, int(length))].strip() or "a"

    def around(self, length: int) -> str:
        return self.text(max(1.0, self.random.gauss(length, length / 4)))

    def name(self, letters: str, length: int) -> str:
        return "".join(self.random.choice(letters) for _ in range(length))


@dataclass(frozen=True)
class Size:
    """How large the files become.

    ``share`` is the share of the real number of rows; ``answer`` is the mean number of characters
    of an answer, except where the prompt asks to reason.
    """

    share: float = 1.0
    answer: int = ANSWER

    def rows(self, key: str) -> int:
        return max(100, round(ROWS[key] * self.share))

    def length(self, key: str) -> int:
        return REASONED if by_key(key).reasons else self.answer


def expand(backend: str, files: Path, target: Path, key: str, size: Size = Size()) -> Outputs:
    """Make the files of one benchmark in ``target``, from genuine ones in ``files``."""
    target.mkdir(parents=True)
    make = _expand_lmms if backend == LMMS_EVAL else _expand_vlmevalkit
    return make(
        by_key(key),
        make_backend(backend, HubSettings()).outputs(by_key(key), files),
        target,
        size,
    )


def _drawn(prose: Prose, groups: Sequence[Sequence[Any]], count: int) -> Iterator[tuple[str, Any]]:
    """Draw ``count`` genuine rows, each with the new name of its group.

    Groups are taken whole, except for the last one.
    """
    made = 0
    while made < count:
        name = prose.name(string.ascii_uppercase + string.digits, 8)
        for row in prose.random.choice(groups)[: count - made]:
            made += 1
            yield name, row


# ---- lmms-eval


def _expand_lmms(bench: Benchmark, genuine: Outputs, target: Path, size: Size) -> Outputs:
    prose = Prose(bench.key)
    whole = json.loads(genuine.scores[0].read_text(encoding="utf-8"))
    for place, path in enumerate(genuine.rows):
        share, more = divmod(size.rows(bench.key), len(genuine.rows))
        count = share + (place < more)
        samples = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        with (target / path.name).open("w", encoding="utf-8") as file:
            for number, (name, sample) in enumerate(_drawn(prose, _by_question(samples), count)):
                file.write(
                    json.dumps(
                        _sample(bench.key, prose, size, copy.deepcopy(sample), number, name),
                        ensure_ascii=False,
                    )
                    + "\n"
                )
        whole["n-samples"][path.stem.rpartition("_samples_")[2]] = {
            "original": count,
            "effective": count,
        }
    scores = target / genuine.scores[0].name
    scores.write_text(json.dumps(whole), encoding="utf-8")
    backend = make_backend(LMMS_EVAL, HubSettings())
    out = backend.outputs(bench, target)
    for name, value in _numbers(bench, LMMS_EVAL, out).items():
        task, _, metric = name.rpartition("|")
        whole["results"][task or bench.source(LMMS_EVAL, out.task).task][f"{metric},none"] = value
    scores.write_text(json.dumps(whole, indent=2, ensure_ascii=False), encoding="utf-8")
    return out


def _by_question(samples: Sequence[Mapping[str, Any]]) -> list[list[Mapping[str, Any]]]:
    groups: dict[object, list[Mapping[str, Any]]] = defaultdict(list)
    for place, sample in enumerate(samples):
        qid = next(
            (
                value["qid"][:8]
                for value in sample.values()
                if isinstance(value, dict) and "qid" in value
            ),
            place,
        )
        groups[qid].append(sample)
    return list(groups.values())


def _sample(
    key: str, prose: Prose, size: Size, sample: dict[str, Any], number: int, name: str
) -> dict[str, Any]:
    answer, question, scene = (
        prose.around(size.length(key)),
        prose.text(FACTS[key]["question_length"]),
        prose.name("0123456789abcdef", 10),
    )
    old = sample["filtered_resps"]
    sample |= {
        "doc_id": number,
        "filtered_resps": answer,
        "token_counts": [{"output_tokens": len(answer) // 4}],
    }
    sample["input"] = sample["input"][:60] + question + sample["input"][-60:]
    if "input_media" in sample:
        sample["input_media"] = [
            f"{scene}/{frame:05d}.jpg" for frame in range(FACTS[key].get("media", 1))
        ]
    for entry in (value for value in sample.values() if isinstance(value, dict)):
        for member, value in entry.items():
            if member in ("prediction", "pred") and value == old:
                entry[member] = answer
            elif member == "question":
                entry[member] = question
            elif member == "query":
                entry[member] = value[:1400] + question
            elif member == "qid":
                entry[member] = name + value[8:]
            elif member in ("id", "question_id", "index"):
                entry[member] = number if isinstance(value, int) else str(number)
            elif member == "scene_name":
                entry[member] = scene
    return sample


# ---- VLMEvalKit


def _expand_vlmevalkit(bench: Benchmark, genuine: Outputs, target: Path, size: Size) -> Outputs:
    prose, backend = Prose(bench.key), make_backend("vlmevalkit", HubSettings())
    title, (header, *rows) = read_cells(genuine.rows[0])
    qid = header.index("qid") if "qid" in header else None
    groups: dict[object, list[list[Any]]] = defaultdict(list)
    for place, row in enumerate(rows):
        groups[place if qid is None else row[qid][:8]].append(row)
    made = [
        _row(bench.key, prose, size, header, list(row), number, name)
        for number, (name, row) in enumerate(
            _drawn(prose, list(groups.values()), size.rows(bench.key))
        )
    ]
    path = target / genuine.rows[0].name
    # Stock VLMEvalKit writes with the same engine; texts that begin with "=" are none here.
    pd.DataFrame(made, columns=range(len(header))).to_excel(
        path, index=False, header=header, sheet_name=title, engine="xlsxwriter"
    )
    index, prediction = header.index("index"), header.index("prediction")
    if len(genuine.rows) > 1:
        lines = (
            json.dumps({"index": str(row[index]), "prediction": row[prediction]}) for row in made
        )
        (target / genuine.rows[1].name).write_text(
            "".join(line + "\n" for line in lines), encoding="utf-8"
        )
    scores = target / genuine.scores[0].name
    scores.write_bytes(genuine.scores[0].read_bytes())
    out = backend.outputs(bench, target)
    layout = bench.source("vlmevalkit").layout
    scores.write_text(
        _filled(scores.read_text(encoding="utf-8"), layout, _numbers(bench, "vlmevalkit", out)),
        encoding="utf-8",
    )
    return out


def _row(
    key: str,
    prose: Prose,
    size: Size,
    header: Sequence[str],
    row: list[Any],
    number: int,
    name: str,
) -> list[Any]:
    scene, asked = prose.name("0123456789abcdef", 10), FACTS[key]["question_length"]
    media = [f"{SNAPSHOT}/{scene}/{frame:05d}.jpg" for frame in range(FACTS[key].get("media", 1))]
    made: dict[str, Any] = {
        "index": number,
        "prediction": prose.around(size.length(key)),
        "question": prose.text(asked * 2 / 3),
        "id": f"among_group{number:03d}_q{number}",
        "image_path": str(media) if len(media) > 1 else media[0],
        "video": f"{scene}.mp4",
        "video_path": f"{scene}.mp4",
        "scene_name": scene,
    }
    for place, column in enumerate(header):
        value = row[place]
        if value is None:
            continue
        if column in made:
            row[place] = made[column]
        elif column == "qid":
            row[place] = name + value[8:]
        elif column in _OPTION_COLUMNS:
            row[place] = prose.text(14)
        elif column in ("options", "candidates"):
            row[place] = (
                str(
                    [
                        prose.text(10)
                        for _ in range(max(2, value.count(",") + 1 if value.startswith("[") else 4))
                    ]
                )
                if value.startswith("[")
                else prose.text(40)
            )
        elif column in ("user_prompt", "input_prompt"):
            row[place] = value[:50] + prose.text(asked) + value[-60:]
    return row


def _filled(text: str, layout: str, numbers: Mapping[str, float]) -> str:
    """A genuine score file with these numbers in the places of its own."""
    delimiter = "," if layout == "comma" else "\t"
    lines = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter))
    header = lines[0]
    for line in lines[1:]:
        if layout == "key_value":
            line[1] = repr(numbers.get(line[0], line[1])) if line[0] in numbers else line[1]
            continue
        for place, column in enumerate(header):
            name = f"{line[0]}|{column}" if layout == "settings" else column
            if name in numbers and line[place] != "":
                line[place] = repr(numbers[name])
    made = io.StringIO()
    csv.writer(made, delimiter=delimiter, lineterminator="\n").writerows(lines)
    return made.getvalue()


# ---- aggregates


def _numbers(bench: Benchmark, backend: str, out: Outputs) -> dict[str, float]:
    """The backend's own numbers for the rows that were made, by key, in its scale."""
    source = bench.source(backend, out.task)
    own: Reading = recompute(bench, source, make_backend(backend, HubSettings()).rows(bench, out))
    numbers = {} if own.overall is None else {source.overall: own.overall / source.scale}
    for part in source.parts:
        value = own.parts.get(part.name)
        if part.key and value is not None:
            numbers[part.key] = value / part.scale
    return numbers
