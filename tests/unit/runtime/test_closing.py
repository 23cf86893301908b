"""The last words of a run say what it did and whether the venue agrees."""

from typing import Any

from tickmesh.runtime.closing import closing

SUMMARY: dict[str, Any] = {
    "orders": {"CANCELED": 42, "FILLED": 41, "PENDING_SUBMIT": 1}, "fills": 48, "pnl": {"total": "-1.4143"},
    "lost": 0, "duplicated": 0, "differences": [],
}  # fmt: skip


def test_a_sound_run_is_one_sentence() -> None:
    assert closing(SUMMARY) == [
        "84 orders (42 canceled, 41 filled, 1 pending submit), 48 fills, P&L -1.41; "
        "compared with the venue's own record: 0 lost, 0 duplicated"
    ]
    assert closing({**SUMMARY, "orders": {}, "fills": 0, "pnl": {}})[0].startswith("0 orders, 0 fills, P&L not known;")


def test_what_is_amiss_is_named() -> None:
    said = closing({**SUMMARY, "lost": 6, "duplicated": 1, "differences": [f"order {n} differs" for n in range(7)]})
    assert "6 lost, 1 duplicated" in said[0]
    assert said[1:6] == [f"  order {n} differs" for n in range(5)]
    assert said[6] == "  and 2 more; --json lists them"


def test_without_a_record_of_the_venue_nothing_is_claimed() -> None:
    assert closing({"error": "no summary: the venue does not answer"}) == [
        "no summary: the venue does not answer; what was lost or duplicated is not known"
    ]
