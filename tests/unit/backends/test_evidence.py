"""The evidence on which a benchmark is accepted.

It is the backend's own complete files, whose numbers are those of their rows.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import openpyxl
import pytest

from easi_eval.backends import make_backend
from easi_eval.backends.completeness import gather
from easi_eval.backends.evidence import Evidence
from easi_eval.benchmarks import BACKENDS, BENCHMARKS, LMMS_EVAL, VLMEVALKIT, Benchmark, by_key
from easi_eval.config import RunConfig
from easi_eval.core.errors import EasiError
from easi_eval.data.needs import HubSettings
from easi_eval.engine.work import ItemList
from easi_eval.scores.recompute import recompute
from easi_eval.scores.row_table import frame
from easi_eval.scores.score_table import State
from easi_eval.scores.scorer_notes import (
    NOTES_FILE,
    FailedItem,
    ScorerNotes,
    add_failed,
    add_notes,
    failed_records,
    notes_file,
)
from genuine import genuine

EACH = pytest.mark.parametrize(
    "bench, backend",
    [(bench, backend) for bench in BENCHMARKS for backend in BACKENDS],
    ids=lambda value: getattr(value, "key", value),
)


class Folder:
    """One benchmark's files of one backend, to be tampered with and accepted or not."""

    def __init__(self, bench: Benchmark, backend: str, folder: Path) -> None:
        self.bench, self.folder = bench, folder
        self.backend = make_backend(backend, HubSettings("http://127.0.0.1:1", folder))
        found = genuine(backend, bench)
        for path in found.files:
            shutil.copyfile(path, folder / path.name)
        self.out = self.backend.outputs(bench, folder)
        self.items = tuple(self.backend.rows(bench, self.out)["item"])

    def gather(self) -> Evidence:
        lmms = self.backend.name == LMMS_EVAL
        cfg = RunConfig(
            model="qwen2_5_vl" if lmms else "org/model",
            backend=self.backend.name,
            model_args="pretrained=org/model" if lmms else "",
        )
        return gather(
            cfg,
            self.backend,
            self.bench,
            self.folder,
            "mark",
            ItemList(self.bench.key, len(self.items), self.items),
            [],
        )


@EACH
def test_what_the_backends_left_is_accepted(bench: Benchmark, backend: str, tmp_path: Path) -> None:
    made = Folder(bench, backend, tmp_path)
    score = made.gather().score
    assert (score.state, score.failed, score.n, score.total) == (
        State.COMPLETE,
        0,
        len(made.items),
        len(made.items),
    )
    if not bench.source(backend).corrections:
        assert (
            score.reading.overall
            == made.backend.read(bench, made.out, made.backend.rows(bench, made.out)).overall
        )


@EACH
def test_a_changed_headline_is_refused_with_both_numbers(
    bench: Benchmark, backend: str, tmp_path: Path
) -> None:
    made = Folder(bench, backend, tmp_path)
    before = made.backend.read(bench, made.out, made.backend.rows(bench, made.out)).overall or 0.0
    path, source = made.out.scores[0], bench.source(backend)
    if backend == LMMS_EVAL:
        content = json.loads(path.read_text())
        content["results"][source.task][f"{source.overall},none"] += 1 / source.scale
        path.write_text(json.dumps(content))
    else:
        text = path.read_text()
        own = max(
            re.findall(r"-?\d+\.\d+(?:e-?\d+)?", text),
            key=lambda number: (abs(float(number) * source.scale - before) < 1e-3, len(number)),
        )
        path.write_text(text.replace(own, repr(float(own) + 1 / source.scale)))
    with pytest.raises(EasiError) as refused:
        made.gather()
    said = re.search(r"the score is (-?[\d.]+), its rows give (-?[\d.]+)", refused.value.message)
    assert said and [float(number) for number in said.groups()] == pytest.approx(
        [before + 1, before], abs=0.006
    )


@pytest.mark.parametrize("key", ["vsi_bench", "mmsi_bench", "site_image", "spar_bench"])
def test_a_score_that_is_not_that_of_its_answer_is_refused(key: str, tmp_path: Path) -> None:
    made = Folder(by_key(key), VLMEVALKIT, tmp_path)
    path = made.out.rows[0]
    book = openpyxl.load_workbook(path)
    sheet = book.worksheets[0]
    header = [cell.value for cell in sheet[1]]
    hit, extracted = header.index("hit") + 1, header.index("pred_extracted") + 1
    row = next(
        number
        for number in range(2, sheet.max_row + 1)
        if sheet.cell(number, hit).value == 1
        and sheet.cell(number, extracted).value in list("ABCD")
    )
    sheet.cell(row, extracted).value = "Z"
    book.save(path)
    item = sheet.cell(row, header.index("index") + 1).value
    with pytest.raises(EasiError, match=rf"question {item} is scored 1, its parsed answer gives 0"):
        made.gather()


def changed_sample(path: Path, change: Callable[[dict], None]) -> None:
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    change(lines[0])
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


@pytest.mark.parametrize("key", ["mindcube_tiny", "viewspatial", "3dsrbench", "embspatial"])
def test_a_changed_row_is_refused(key: str, tmp_path: Path) -> None:
    made = Folder(by_key(key), LMMS_EVAL, tmp_path)
    rule = made.bench.source(LMMS_EVAL).rows
    changed_sample(
        made.out.rows[0],
        lambda line: line[rule.entry].update(
            {rule.score[0]: 1 - float(line[rule.entry][rule.score[0]])}
        ),
    )
    with pytest.raises(EasiError, match="the score is .*, its rows give"):
        made.gather()


# ---- failed questions, as notes and as rows


ITEM = FailedItem("7", "left", "B", "OSError: gone", "cluster", "AAAAAAAA", 4)


def test_notes_are_added_to_and_read_back(tmp_path: Path) -> None:
    assert ScorerNotes.of(tmp_path / "rows.xlsx", tmp_path) == ScorerNotes()
    add_notes(tmp_path, lossy=[1], coin_flips=2, flipped=["a"], unparsed=["a", "b"])
    add_failed(tmp_path, [])
    assert "failed" not in json.loads((tmp_path / NOTES_FILE).read_text())
    add_failed(tmp_path, [ITEM])
    assert json.loads((tmp_path / NOTES_FILE).read_text())["lossy"] == [1]
    assert ScorerNotes.of(tmp_path / "model" / "rows.jsonl", tmp_path) == ScorerNotes(
        2, ("a",), ("a", "b"), (ITEM,)
    )


def test_notes_above_the_folder_are_not_its_own(tmp_path: Path) -> None:
    inside = tmp_path / "outputs"
    inside.mkdir()
    add_notes(tmp_path, coin_flips=1)
    assert notes_file(inside / "rows.xlsx", inside) is None
    assert notes_file(inside / "rows.xlsx", tmp_path) == tmp_path / NOTES_FILE


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"failed": [{"item": "7"}]}', '{"failed": [7]}', '{"unparsed": 3}']
)
def test_damaged_notes_are_an_error_that_names_them(text: str, tmp_path: Path) -> None:
    (tmp_path / NOTES_FILE).write_text(text)
    with pytest.raises(EasiError, match="scorer_notes.json is damaged"):
        ScorerNotes.of(tmp_path / "rows.xlsx", tmp_path)


@EACH
def test_a_failed_question_is_a_row_that_lowers_the_score(
    bench: Benchmark, backend: str, tmp_path: Path
) -> None:
    """In the full denominator: as if the question had been answered wrongly."""
    made = Folder(bench, backend, tmp_path)
    rows = made.backend.rows(bench, made.out)
    right = rows[rows["score"] > 0].iloc[0]
    wrong = rows.assign(score=rows["score"].where(rows["item"] != right["item"], 0.0))
    one = FailedItem(
        right["item"],
        right["question_type"],
        right["target"],
        "gone",
        right["cluster"],
        right["variant"],
        None if not bench.group else int(right["options"]),
    )
    kept = rows[rows["item"] != right["item"]].to_dict("records")
    with_failed = frame([*kept, *failed_records(bench.key, [one])])
    source = bench.source(backend)
    failed, answered = recompute(bench, source, with_failed), recompute(bench, source, rows)
    assert failed.overall == pytest.approx(recompute(bench, source, wrong).overall)
    assert failed.parts == pytest.approx(recompute(bench, source, wrong).parts)
    assert (failed.overall or 0) < (answered.overall or 0)


@pytest.mark.parametrize("backend", BACKENDS)
def test_more_failures_than_half_a_percent_are_refused_whatever_the_notes_say(
    backend: str, tmp_path: Path
) -> None:
    made = Folder(by_key("mindcube_tiny"), backend, tmp_path)
    prefix = "" if backend == VLMEVALKIT else "mindcube_tiny:"
    add_failed(tmp_path, [FailedItem(f"{prefix}900", "around", "A", "gone")])
    made.items = (*made.items, f"{prefix}900")
    if backend == LMMS_EVAL:
        path = made.out.scores[0]
        content = json.loads(path.read_text())
        content["n-samples"]["mindcube_tiny"] = {
            "original": len(made.items),
            "effective": len(made.items),
        }
        path.write_text(json.dumps(content))
    with pytest.raises(
        EasiError, match=f"1 of {len(made.items)} questions of MindCube-Tiny failed"
    ):
        made.gather()


def test_what_our_scorer_watched_tells_what_the_files_do_not(tmp_path: Path) -> None:
    made = Folder(by_key("site_image"), LMMS_EVAL, tmp_path)
    plain = made.gather().score
    assert plain.unparsed is None and plain.coin_flips is None
    drawn = list(made.items[:3])
    add_notes(tmp_path, coin_flips=3, flipped=drawn, unparsed=drawn)
    score = made.gather().score
    assert score.unparsed == score.coin_flips == 3
    assert made.folder / NOTES_FILE in made.backend.outputs(made.bench, tmp_path).files
    rows = made.backend.rows(made.bench, made.backend.outputs(made.bench, tmp_path)).set_index(
        "item"
    )
    assert set(rows.index[rows["coin_flip"]]) == set(rows.index[~rows["parsed"]]) == set(drawn)


def test_a_file_is_read_again_only_if_the_file_system_tells_of_a_change(tmp_path: Path) -> None:
    """The files here are links to those of the repository, which did not change for seconds."""
    made, folder = Folder(by_key("blink"), VLMEVALKIT, tmp_path), tmp_path / "linked"
    found = made.gather()
    folder.mkdir()
    for path in genuine(VLMEVALKIT, made.bench).files:
        (folder / path.name).symlink_to(path)
    seen = found.with_seen(folder)
    assert seen.seen.keys() == found.files.keys() and seen.with_seen(folder) == seen
    seen.save(folder)
    assert Evidence.load(folder) == seen
    name = made.out.scores[0].name
    other = replace(seen, files={**seen.files, name: "another digest"})
    other.save(folder)
    assert Evidence.load(folder) == other, "it is not read"

    seen.save(folder)
    before, data = (folder / name).stat(), (folder / name).read_bytes()
    (folder / name).unlink()
    (folder / name).write_bytes(data.swapcase())
    os.utime(folder / name, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert Evidence.load(folder) is None, "as large and as old, but another file"
    (folder / name).write_bytes(data)
    assert Evidence.load(folder) == seen
    (folder / name).unlink()
    assert Evidence.load(folder) is None
