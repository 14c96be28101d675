"""What questions are expected to take, before they are asked."""

from __future__ import annotations

import datasets
import pytest

from easi_eval.engine.cost import count_parts, expected
from easi_eval.engine.work import Item, ItemList
from easi_lmms_eval.costs import shown


def test_more_of_anything_takes_longer() -> None:
    plain = expected(images=1, characters=400, limit=16)
    for more in (
        expected(images=2, characters=400, limit=16),
        expected(images=1, characters=4000, limit=16),
        expected(images=1, characters=400, limit=512),
        expected(frames=32, characters=400, limit=16),
    ):
        assert more > plain
    assert expected() > 0


@pytest.mark.parametrize(
    ("cell", "count"),
    [
        ("iVBORw0KGgo=", 1),
        ("['a.png', 'b.png', 'c.png']", 3),
        (["x", "y"], 2),
        ([], 0),
        ("", 0),
        (float("nan"), 0),
        (None, 0),
    ],
)
def test_images_of_a_cell(cell: object, count: int) -> None:
    assert count_parts(cell) == count


def test_images_of_a_table_are_counted_without_decoding_them() -> None:
    image = {"bytes": b"no image at all", "path": None}
    several = datasets.Features(
        {"images": datasets.Sequence(datasets.Image()), "question": datasets.Value("string")}
    )
    table = datasets.Dataset.from_dict(
        {"images": [[image], [image, image], []], "question": ["a", "b", "c"]}, several
    )
    assert shown(table) == [expected(images=number) for number in (1, 2, 0)]
    assert shown(table.select([1, 0])) == [expected(images=number) for number in (2, 1)]
    assert shown(datasets.Dataset.from_dict({"images": [[b"x"], [b"x"] * 3]})) == [
        expected(images=1),
        expected(images=3),
    ]
    assert shown(
        datasets.Dataset.from_dict(
            {"image": [image]}, datasets.Features({"image": datasets.Image()})
        )
    ) == [expected(images=1)]
    assert len({*shown(datasets.Dataset.from_dict({"video": ["x", "y"]}))}) == 1


def test_a_list_of_questions_keeps_the_costs_and_does_without(tmp_path) -> None:
    ItemList("a", 2, ("x", "y"), None, (2.0, 3.5)).save(tmp_path)
    assert ItemList.load(tmp_path, "a").items() == [Item("a", "x", 2.0), Item("a", "y", 3.5)]
    ItemList("a", 2, ("x", "y")).save(tmp_path)
    assert [item.cost for item in ItemList.load(tmp_path, "a").items()] == [1.0, 1.0]
