"""What Pace says of a machine is what happened on it."""

import os
import signal
import time

import pytest
from pace import Hindrance, Pace


def test_a_bystander_that_was_stopped_says_for_how_long() -> None:
    with Pace() as pace:
        os.kill(pace._process.pid, signal.SIGSTOP)
        time.sleep(0.4)
        assert pace.seen().worst_s > 0.3, "still held up, and seen already"
        os.kill(pace._process.pid, signal.SIGCONT)
        time.sleep(0.1)
        assert pace.seen().worst_s > 0.3


def test_what_the_machine_does_not_explain_fails() -> None:
    with Pace() as pace:
        time.sleep(0.2)
        pace.assert_within(0.2, 0.1)
        with pytest.raises(AssertionError, match=r"allowed are 0\.2 s"):
            pace.assert_within(0.2, 0.2 * pace.seen().slowdown + pace.seen().worst_s + 3600)


def test_a_limit_grows_by_what_was_lost_and_by_nothing_else() -> None:
    assert Hindrance(1.0, 0.0).allows_s(0.5) == 0.5
    assert Hindrance(2.0, 0.25).allows_s(0.5) == 1.25
