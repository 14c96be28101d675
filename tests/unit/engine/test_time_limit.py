"""SIGUSR2, which Slurm sends before a time limit."""

from __future__ import annotations

import signal
import time

import pytest

from easi_eval.engine.processes.interrupts import interruptible, time_limit


def test_it_ends_what_is_going_on_for_the_time_limit() -> None:
    with time_limit:
        with pytest.raises(KeyboardInterrupt), interruptible():
            signal.raise_signal(signal.SIGUSR2)
            time.sleep(60)
        assert time_limit.near and time_limit.leaves
    assert not time_limit.near and not time_limit.leaves


def test_with_questions_in_hand_it_is_noted_and_they_are_given_up_in_the_end() -> None:
    with time_limit:
        time_limit.drains = True
        with pytest.raises(KeyboardInterrupt), interruptible():
            signal.raise_signal(signal.SIGUSR2)
            assert time_limit.near and not time_limit.leaves and not time_limit.overdue
            time_limit.leave()
            time.sleep(60)
        assert time_limit.leaves


def test_a_job_that_was_cancelled_does_not_leave_for_the_time_limit() -> None:
    with time_limit:
        with pytest.raises(KeyboardInterrupt), interruptible():
            try:
                signal.raise_signal(signal.SIGTERM)
            finally:
                signal.raise_signal(signal.SIGUSR2)
        assert time_limit.near and not time_limit.leaves
