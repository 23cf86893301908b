"""What the simulation found once, played again: each plan is the one that broke a promise, and names its seed."""

from __future__ import annotations

import logging

import pytest

from tickmesh.runtime.simulation.drama import play
from tickmesh.runtime.simulation.plan import LISTS, ORDER, Fault, Plan

FOUND = {
    "seed 10: a start kept a position that the venue had flat": Plan(
        10,
        tuple(
            Fault(number, at_s, kind)
            for number, (at_s, kind) in enumerate(
                [(4.78, "kill"), (5.23, "listen_key"), (7.55, "kill"), (10.24, "kill"), (12.93, "kill"),
                 (13.54, "kill"), (14.11, "listen_key")]
            )
        ),
        False,
    ),
    "seed 48: a clock that jumped during a start refused every request for ever": Plan(
        48,
        (
            Fault(0, 11.0, "nats_cut", 6.94, detail="first"),
            Fault(1, 12.82, "venue_clock", 0.89, -9000),
            Fault(2, 16.0, "kill"),
            Fault(3, 16.6, "venue_clock", 6.0, -9000),
            Fault(4, 22.7, "venue_clock", 3.0, 8000),
        ),
        True,
    ),
    "seed 4: a restart reopened what the execution throttle had shut": Plan(
        4, (Fault(0, 2.0, "runaway", 10.0, detail="s2"), Fault(1, 9.0, "kill")), False
    ),
    "seed 39: a resume did not reopen it": Plan(39, (Fault(0, 8.0, "runaway", 8.0, detail="s1"),), False),
    "seed 40515: a line of a succeeded writer came late and made a filled order look open": Plan(
        40515, (Fault(0, 8.476435738750663, "nats_cut", 7.253419282430254, detail="second"),), True
    ),
    "seed 164: an order by hand that nobody told us of": Plan(
        164, (Fault(0, 8.0, "stream_lost", 12.0, 1.0), Fault(1, 9.0, "by_hand"), Fault(2, 10.0, "kill")), False
    ),
    "a fill was lost, later ones were not: it was never asked for": Plan(
        0, (Fault(0, 8.0, "stream_lost", 8.0, 0.5),), False
    ),
    "an order that waited for a connection left after the halt": Plan(
        4,
        (
            Fault(0, 8.5, "runaway", 4.0, 2.0, "s1"),
            Fault(1, 8.5, "temper", 1.2, 1.0, "hang_lost", ORDER),
            Fault(2, 10.2, "halt", 6.0, detail="account.main"),
        ),
        False,
    ),
    "a writer that took its lapsed lease again had not heard of a halt meanwhile": Plan(
        0,
        (
            Fault(0, 8.0, "nats_cut", 5.0, detail="first"),
            Fault(1, 9.5, "halt", 10.0, detail="account.main"),
            Fault(2, 16.0, "nats_cut", 4.0, detail="first"),
            Fault(3, 17.0, "halt", 10.0, detail="account.main"),
        ),
        False,
    ),
    "seed 60011: a stop disarmed the dead-man switch a second time and ended before its journal was written": Plan(
        60011, (Fault(201, 5.5272812629489945, "stop", detail="cancel"),), False
    ),
    "a list with quantities off the grid ended the comparisons for good": Plan(
        0,
        (
            Fault(0, 8.0, "stream_lost", 8.0, 0.5),
            Fault(1, 6.0, "temper", 12.0, 0.5, "off_grid_done", LISTS),
            Fault(2, 10.0, "kill"),
        ),
        False,
    ),
}  # fmt: skip


@pytest.fixture(autouse=True)
def quiet() -> object:
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("what", FOUND)
def test_what_was_found_is_not_found_again(what: str) -> None:
    outcome = play(FOUND[what])
    assert not outcome.broken, "\n".join([outcome.detail, *outcome.trace[-60:]])
    assert outcome.orders > 10
