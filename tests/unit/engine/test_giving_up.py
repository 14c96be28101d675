"""When a model that cannot run is given up.

From what happened in a run follow what is set aside and whether the run ends.
"""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from easi_eval.engine.giving_up import (
    Answered,
    Died,
    Event,
    Joined,
    Listed,
    LoadFailed,
    Raised,
    Started,
    decide,
    lacked_memory,
)

VALUE, OTHER, MEMORY = (
    "ValueError: no video",
    "KeyError: 'x'",
    "OutOfMemoryError: CUDA out of memory",
)
A, B, SMALL = Listed("a", 5130, 5130), Listed("b", 1000, 1000), Listed("s", 7, 7)


def raised(benchmark: str, count: int, error: str = VALUE, first: int = 0) -> list[Event]:
    return [Raised(benchmark, str(number), error) for number in range(first, first + count)]


def died(
    benchmark: str,
    count: int,
    how: str = "SIGSEGV",
    line: str = "Fatal Python error: Segmentation fault",
) -> list[Event]:
    return [Died(benchmark, how, line)] * count


def failed(
    worker: str, count: int, line: str = "ValueError: no weights", how: str = "exit code 1"
) -> list[Event]:
    return [LoadFailed(worker, how, line)] * count


@pytest.mark.parametrize(
    "events, aside, ended",
    [
        ([], [], False),
        ([A, *raised("a", 19)], [], False),
        ([A, *raised("a", 20)], ["a"], False),
        ([A, *raised("a", 19), *raised("a", 19)], [], False),  # each twice: still 19 questions
        ([A, *raised("a", 19), Raised("a", "x", OTHER)], [], False),
        # its first 20 decide
        ([A, *raised("a", 20, "ValueError: 1"), Raised("a", "x", OTHER)], ["a"], False),
        ([A, *[Raised("a", str(n), f"ValueError: picture {n}") for n in range(20)]], ["a"], False),
        (
            [
                A,
                *[
                    Raised("a", str(n), f"AssertionError: no text, at model.py:{n} in forward")
                    for n in range(20)
                ],
            ],
            ["a"],
            False,
        ),
        (
            [
                A,
                *raised("a", 19, "AssertionError: no text, at model.py:7 in forward"),
                Raised("a", "x", VALUE),
            ],
            [],
            False,
        ),
        ([A, *raised("a", 20, MEMORY)], [], False),
        ([A, *raised("a", 20), Answered("a")], [], False),
        ([A, Answered("b"), *raised("a", 20)], ["a"], False),
        ([SMALL, *raised("s", 6)], [], False),
        ([SMALL, *raised("s", 7)], ["s"], False),
        (raised("a", 20), [], False),  # its questions are not known yet
        # so few failures make no benchmark incomplete
        ([Listed("a", 5130, 25), *raised("a", 25)], [], False),
        # answered in an earlier launch: such questions fail one by one, others of it may be fine
        ([Listed("a", 5130, 26), *raised("a", 26)], [], False),
        (
            [
                Listed("a", 5130, 130),
                Listed("b", 3808, 40),
                *raised("a", 20),
                *raised("b", 20),
            ],
            [],
            False,
        ),
        ([Listed("a", 5130, 130), B, *raised("b", 20)], ["b"], False),
        ([A, *died("a", 2)], [], False),
        ([A, *died("a", 3)], ["a"], False),
        ([A, *died("a", 3), Answered("a")], [], False),
        ([A, *died("a", 3, line="torch.OutOfMemoryError: CUDA out of memory")], [], False),
        ([Listed("a", 5130, 1), *died("a", 3)], [], False),
        # two alike
        ([A, B, *raised("a", 20), *raised("b", 20)], ["a", "b"], True),
        ([A, B, *raised("a", 20), *raised("b", 20, OTHER)], ["a", "b"], False),
        ([A, B, *raised("a", 20), *raised("b", 20), Answered("c")], ["a", "b"], False),
        ([A, B, *died("a", 3), *died("b", 3)], ["a", "b"], True),
        ([A, B, *died("a", 3), *died("b", 3, "SIGABRT")], ["a", "b"], False),
        ([A, B, *died("a", 3), *raised("b", 20)], ["a", "b"], False),
        (
            [A, B, *died("a", 3, "exit code 1", "E: x"), *died("b", 3, "exit code 1", "E: y")],
            ["a", "b"],
            True,
        ),
        (
            [A, B, SMALL, *raised("a", 20), *raised("b", 20, OTHER), *raised("s", 7)],
            ["a", "b", "s"],
            True,
        ),
        # loading
        ([Started(1), *failed("w0", 1)], [], False),
        ([Started(1), *failed("w0", 2)], [], True),
        ([Started(1), *failed("w0", 1), *failed("w0", 1, "KeyError: 'y'")], [], False),
        (
            [
                Started(1),
                *failed("w0", 1, "OSError: port 2931"),
                *failed("w0", 1, "OSError: port 4"),
            ],
            [],
            True,
        ),
        ([Started(2), *failed("w0", 4)], [], False),
        # One machine that cannot load it ends no run of several.
        ([Started(0), Joined(1), *failed("n1w0", 2)], [], True),
        ([Started(1), Joined(2), *failed("n1w0", 2), *failed("n1w1", 2)], [], False),
        ([Started(2), *failed("w0", 2), *failed("w1", 1)], [], False),
        ([Started(2), *failed("w0", 2), *failed("w1", 2)], [], True),
        ([Started(2), *failed("w0", 2), *failed("w1", 2, "KeyError: 'y'")], [], False),
        ([Started(1), *failed("w0", 2, "torch.OutOfMemoryError: CUDA out of memory")], [], False),
        ([Started(1), *failed("w0", 2, how="SIGKILL")], [], False),  # as somebody else's kill
        ([Started(2), *failed("w0", 2), *failed("w1", 1), Started(1), *failed("w0", 1)], [], False),
    ],
)
def test_what_is_given_up(events: Sequence[Event], aside: Sequence[str], ended: bool) -> None:
    decision = decide(events)
    assert sorted(decision.aside) == sorted(aside) and (decision.end is not None) == ended


def test_the_reasons_name_the_error() -> None:
    decision = decide([A, B, *raised("a", 20), *raised("b", 20)])
    assert (
        decision.aside["a"].text
        == "set aside: its first 20 questions raised ValueError, none was answered"
    )
    assert (
        decision.aside["a"].error == VALUE
        and decision.end is not None
        and decision.end.error == VALUE
    )
    assert (
        decide([A, *died("a", 3)]).aside["a"].error
        == "SIGSEGV: Fatal Python error: Segmentation fault"
    )
    loading = decide([Started(1), *failed("w0", 2)]).end
    assert (
        loading is not None
        and loading.error == "exit code 1 after 2 starts: ValueError: no weights"
    )


@pytest.mark.parametrize(
    "events, lacked",
    [
        ([], False),
        ([Started(2), *failed("w0", 4, MEMORY)], False),
        ([Started(2), *failed("w0", 4, MEMORY), *failed("w1", 4, MEMORY)], True),
        ([Started(2), *failed("w0", 4, MEMORY), *failed("w1", 4)], False),
        ([Started(2), *failed("w0", 4, MEMORY), *failed("w1", 4, MEMORY), Started(1)], False),
    ],
)
def test_a_model_that_does_not_fit_goes_to_fewer_workers(
    events: Sequence[Event], lacked: bool
) -> None:
    assert lacked_memory(events) is lacked
