"""Samples and workbooks in their smaller forms come back as they were."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from easi_eval.benchmarks import ALL_KEYS, LMMS_EVAL, VLMEVALKIT, by_key
from easi_eval.core.errors import EasiError
from easi_eval.submission.archive.cells import read_cells, write_cells
from easi_eval.submission.archive.compact import Key, compact, restore
from easi_eval.submission.archive.forms import Form, Leave, fold, leave_of, unfold
from genuine import genuine


def lines(*samples: dict[str, Any]) -> list[str]:
    return [json.dumps(sample, ensure_ascii=False) for sample in samples]


def there_and_back(given: list[str]) -> tuple[list[dict[str, Any]], Key]:
    made = compact(given)
    assert made is not None
    rows, key = made
    again = Key.from_json(json.loads(json.dumps(key.to_json())))
    assert again == key and restore(rows, again) == given
    return [json.loads(row) for row in rows], key


def test_repeated_columns_are_stored_once() -> None:
    given = lines(
        *(
            {
                "doc_id": n,
                "filtered_resps": text,
                "hash": "c" * 64,
                "all": {"q": f"q{n}", "pred": text, "s": n % 2},
                "one": {"q": f"q{n}", "pred": text, "s": n % 2},
                "other": {"s": n % 2, "kind": "x"},
                "input": f"Q: q{n}",
            }
            for n, text in enumerate(("a", "b", 'c\n"é\u2028'))
        )
    )
    rows, key = there_and_back(given)
    assert rows[1] == {
        "doc_id": 1,
        "filtered_resps": "b",
        "all": {"q": "q1", "s": 1},
        "input": "Q: q1",
    }
    assert set(key.constant) == {("hash",), ("other", "kind")}
    assert key.same[("one", "pred")] == ("filtered_resps",)


def test_a_metric_that_is_there_where_it_is_named_is_told_by_the_name() -> None:
    """As in MMSI-Bench and OmniSpatial: a category's metric is in its own samples only.

    The metric of the whole stands beside it in every sample.
    """
    given = []
    for n, kind in enumerate(("a", "b", "a", "c")):
        entry = {"id": n, "kind": kind, "score": n / 4}
        given += lines({"doc_id": n, kind: entry, "average": entry, "input": f"i{n}"})
    rows, key = there_and_back(given)
    assert rows[3] == {"doc_id": 3, "average": {"kind": "c", "score": 0.75}, "input": "i3"}
    assert key.named[("b", "kind")] == (("average", "kind"), "b", ("average", "kind"))


@pytest.mark.parametrize(
    "samples",
    [
        [{"a": {}}, {"a": {"b": 1}}],
        [{"a": None, "b": []}, {"a": 1.5, "b": [{"c": 1}]}],
        [{"a": {"b": 1}}, {"a": "text"}],
        [{"a": float("nan"), "b": float("inf")}, {"a": 1e300, "b": -0.0}],
        [{"": {"": 1}}, {"": {"": 2}}],
        [{"a": 1}],
        [],
    ],
)
def test_odd_samples_come_back(samples: list[dict[str, Any]]) -> None:
    there_and_back(lines(*samples))


@pytest.mark.parametrize(
    "given",
    [
        ['{"a":1}', '{"a":2}'],  # not as lmms-eval writes it
        ['{"a": 1, "b": 2}', '{"b": 1, "a": 2}'],  # no one order of columns
        ['{"a": {"x": 1}, "b": 1, "a": 3}', '{"a": 1, "b": 2}'],
        ["not json"],
        ["[1]", "[2]"],
        ["1"],
    ],
)
def test_what_would_not_come_back_is_left_as_it_is(given: list[str]) -> None:
    assert compact(given) is None
    data = "".join(line + "\n" for line in given).encode()
    assert fold("blink/x_samples_y.jsonl", data, lambda name: b"", (), Leave()) == (data, Form())


def test_columns_of_the_dataset_are_left_out_and_the_rest_comes_back() -> None:
    given = lines(
        *({"doc_id": n, "input": f"long {n}", "m": {"question": f"q{n}", "s": n}} for n in range(3))
    )
    made = compact(given, lambda path: path[-1] in ("input", "question"))
    assert made is not None
    assert restore(*made) == lines(*({"doc_id": n, "m": {"s": n}} for n in range(3)))
    assert set(made[1].left_out) == {("input",), ("m", "question")}


@pytest.mark.parametrize(
    "value",
    [
        None,
        1,
        {},
        {"order": [["a", "b", "c"]]},
        {"order": 1, "constant": [], "same": [], "named": [], "left_out": []},
    ],
)
def test_a_damaged_key_is_refused(value: Any) -> None:
    with pytest.raises(EasiError, match="key"):
        Key.from_json(value)


def test_lines_of_another_key_are_refused() -> None:
    key = Key((("a",),), {}, {}, {("b",): (("a",), "x", ("gone",))})
    with pytest.raises(EasiError, match="line 1"):
        restore(['{"a": "x"}'], key)
    with pytest.raises(EasiError, match="line 1"):
        restore(["["], key)


def test_a_key_that_makes_much_of_little_is_refused() -> None:
    key = Key((("a",),), {("a",): '"' + "x" * 1000 + '"'}, {}, {})
    with pytest.raises(EasiError, match="more than"):
        restore(["{}"] * 20, key, largest=10_000)


@pytest.mark.parametrize(
    "form", [{"name": "other"}, {"name": "samples"}, {"name": "rest"}, {"name": "", "key": {}}]
)
def test_unknown_forms_are_refused(form: dict[str, Any]) -> None:
    with pytest.raises(EasiError):
        Form.from_json(form)


# ---- workbooks -----------------------------------------------------------------------------------


def test_cells_come_back(tmp_path: Path) -> None:
    rows = [
        ["a", "b", "a"],
        ["=1+1", "  \n\tx\r\n&<>\"'", None],
        [None, None, None],
        ["", True, 1.5],
        ["_x000D_ €😀]]>", -3, 1e-9],
        [False, 0, 10**15],
    ]
    path = tmp_path / "x.xlsx"
    path.write_bytes(write_cells('A & "B"', rows))
    assert read_cells(path) == ('A & "B"', rows)
    assert write_cells('A & "B"', rows) == path.read_bytes()


@pytest.mark.parametrize("key", ALL_KEYS)
def test_genuine_workbooks_come_back(key: str, tmp_path: Path) -> None:
    (path, *_) = genuine(VLMEVALKIT, by_key(key)).rows
    leave = leave_of(VLMEVALKIT, by_key(key).source(VLMEVALKIT))
    for chosen in (Leave(), leave):
        data, form = fold(f"{key}/{path.name}", path.read_bytes(), lambda name: b"", (), chosen)
        (tmp_path / path.name).write_bytes(unfold(data, form, lambda name: b""))
        before, after = pd.read_excel(path), pd.read_excel(tmp_path / path.name)
        assert list(before.columns) == list(after.columns)
        kept = [name for name in before.columns if name not in form.left_out]
        assert after[kept].equals(before[kept]) and after[list(form.left_out)].isna().all(axis=None)
    assert "question" in form.left_out or "input_prompt" in form.left_out
    needed = by_key(key).source(VLMEVALKIT).rows
    assert not {
        needed.item,
        needed.target,
        needed.question_type,
        needed.cluster,
        needed.options,
        "prediction",
        "hit",
    } & set(form.left_out)


@pytest.mark.parametrize("key", ALL_KEYS)
def test_genuine_samples_come_back(key: str) -> None:
    for path in genuine(LMMS_EVAL, by_key(key)).rows:
        data, form = fold(f"{key}/{path.name}", path.read_bytes(), lambda name: b"", (), Leave())
        assert form.name == "samples" and unfold(data, form, lambda name: b"") == path.read_bytes()


def test_exact_answers_are_stored_where_the_workbook_has_others() -> None:
    workbook = write_cells(
        "S", [["index", "prediction"], [0, "plain"], [1, 5], [2, None], [3, "cut"]]
    )
    answers = {"0": "plain", "1": "5", "2": "", "3": "cut off by the cell"}
    data = "".join(
        json.dumps({"index": item, "prediction": text}) + "\n" for item, text in answers.items()
    ).encode()
    names = ["blink/M_BLINK.jsonl", "blink/M_BLINK_x_result.xlsx"]
    small, form = fold(names[0], data, lambda name: workbook, names, Leave())
    assert form == Form("rest", beside=names[1]) and len(small.splitlines()) == 1
    assert unfold(small, form, lambda name: workbook) == data
    for other in ([names[0]], [*names, "blink/M_BLINK_y.xlsx"]):  # none beside it, or two
        assert fold(names[0], data, lambda name: workbook, other, Leave()) == (data, Form())
    fewer = write_cells("S", [["index", "prediction"], [0, "plain"]])
    assert fold(names[0], data, lambda name: fewer, names, Leave()) == (data, Form())
