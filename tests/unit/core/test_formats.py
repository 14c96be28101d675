"""Numbers as people read them."""

from __future__ import annotations

import pytest

from easi_eval.core.formats import (
    clock_time,
    duration,
    per_time,
    plural,
    short_duration,
    size,
)


@pytest.mark.parametrize(
    ("seconds", "long", "short"),
    [
        (0, "0 s", "0 s"),
        (89, "89 s", "89 s"),
        (91, "2 min", "2 min"),
        (3599, "1 h 00 min", "1h00m"),
        (3900, "1 h 05 min", "1h05m"),
        (86399, "1 d 0 h", "1d00h"),
        (200000, "2 d 7 h", "2d07h"),
    ],
)
def test_durations(seconds: float, long: str, short: str) -> None:
    assert (duration(seconds), short_duration(seconds)) == (long, short)


def test_other_numbers() -> None:
    assert [plural(count, "answer") for count in (0, 1, 2000)] == [
        "0 answers",
        "1 answer",
        "2,000 answers",
    ]
    assert [per_time(rate) for rate in (None, 0.0, 123.4, 3.14, 0.5, 0.01, 0.0001)] == [
        "",
        "",
        "123/s",
        "3.1/s",
        "30/min",
        "36/h",
        "0.4/h",
    ]
    assert [size(count) for count in (0, 999, 1000, 94_000_000_000, 123_456_789)] == [
        "0 B",
        "999 B",
        "1.0 kB",
        "94.0 GB",
        "123 MB",
    ]
    assert clock_time(3 * 3600 + 62.9) == "3:01:02"
