from __future__ import annotations

import pytest

from easi_eval.core.log_lines import LONGEST_LINE, LineCleaner
from easi_eval.core.redact import Redactor


def clean(*pieces: bytes, step: float = 0.0, secrets: tuple[str, ...] = ()) -> list[str]:
    """All lines of a stream that arrives in ``pieces``, ``step`` seconds apart."""
    cleaner = LineCleaner(Redactor(secrets), every=10)
    lines = [
        line for number, piece in enumerate(pieces) for line in cleaner.feed(piece, number * step)
    ]
    return lines + cleaner.close(len(pieces) * step)


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        ((b"a\nb\n",), ["a", "b"]),
        ((b"a\r\nb\r\r\n",), ["a", "b"]),
        ((b"a\r", b"\nb"), ["a", "b"]),
        ((b"un", b"finished"), ["unfinished"]),
        ((b"",), []),
        ((b"\n\n\na\n\n\nb\n",), ["a", "b"]),
        ((b"a  \t\n",), ["a"]),
        ((b"a\tb\x00\x07\n",), ["a\tb\\x00\\x07"]),
        ((b"\x1b[1;31mred\x1b[0m\x1b]0;title\x07 plain\n",), ["red plain"]),
        ((b"\xff caf\xc3", b"\xa9\n"), ["\\xff café"]),
    ],
)
def test_lines(pieces: tuple[bytes, ...], expected: list[str]) -> None:
    assert clean(*pieces) == expected


def test_of_a_progress_bar_one_state_in_ten_seconds_and_the_last_are_kept() -> None:
    bar = [f"\r{percent}%".encode() for percent in range(1, 41)]
    assert clean(*bar, b"\ndone\n", step=1.0) == ["1%", "11%", "21%", "31%", "40%", "done"]


def test_a_bar_that_ends_each_state_with_a_carriage_return_keeps_its_last() -> None:
    assert clean(b"1%\r", b"2%\r", b"3%\r", b"\ndone\n") == ["1%", "3%", "done"]
    assert clean(b"1%\r", b"2%\r", b"3%\r") == ["1%", "3%"]


def test_a_waiting_state_comes_through_when_nothing_follows() -> None:
    cleaner = LineCleaner(Redactor(), every=10)
    assert cleaner.feed(b"\r1%\r2%\r3%", 0.0) == ["1%"]
    assert cleaner.feed(b"", 9.0) == []
    assert cleaner.feed(b"", 10.0) == ["2%"]


def test_bars_drawn_one_above_the_other_do_not_flood() -> None:
    frames = [b"\rupper %d%%\n\rlower %d%%\x1b[A" % (n, n) for n in range(500)]
    lines = clean(*frames, b"\n\n", b"done\n", step=0.01)
    assert len(lines) < 6 and lines[-2:] == ["lower 499%", "done"]


def test_lines_between_states_all_stay() -> None:
    pieces = [b"\r%d%%\nwarning %d\n" % (n, n) for n in range(3)]
    assert [line for line in clean(*pieces) if line.startswith("warning")] == [
        "warning 0",
        "warning 1",
        "warning 2",
    ]


@pytest.mark.parametrize("ending", [b"\nafter\n", b"\rafter\n"])
def test_an_overlong_line_is_cut_and_the_next_one_whole(ending: bytes) -> None:
    lines = clean(*[b"x" * 50_000] * 20, ending)
    assert lines[-1] == "after" and len(lines) == 2
    assert (
        lines[0].endswith("[the rest of this line is not logged]") and len(lines[0]) < LONGEST_LINE
    )


@pytest.mark.parametrize("before", range(LONGEST_LINE - 12, LONGEST_LINE + 3))
def test_no_half_of_a_secret_is_left_at_a_cut(before: int) -> None:
    assert "sesame" not in "".join(
        clean(b"x" * before + b"open-sesame-open", b"y" * 100, secrets=("open-sesame-open",))
    )


def test_a_secret_that_arrives_in_two_pieces_is_one() -> None:
    assert clean(b"a open-ses", b"ame b\n", secrets=("open-sesame",)) == ["a [redacted] b"]
