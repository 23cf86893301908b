"""A client that applies every difference holds the newest picture, however many pictures it skipped."""

import json
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from tickmesh.gateway.live import Pictures, difference
from tickmesh.gateway.view import ServiceView, State

services = st.dictionaries(
    st.sampled_from(["feed", "risk", "account"]),
    st.builds(ServiceView, ready=st.booleans(), because=st.dictionaries(st.just("down"), st.just("gone"))),
)


def state(found: dict[str, ServiceView]) -> State:
    empty: dict[str, Any] = {f.name: {} for f in msgspec.structs.fields(State)}
    return State(**{**empty, "services": found})


def merge(held: dict[str, Any], changed: dict[str, Any]) -> None:
    """What web/live.js does."""
    for section, entries in changed.items():
        for key, value in entries.items():
            if value is None:
                del held[section][key]
            else:
                held[section][key] = value


@given(st.lists(services, min_size=2, max_size=6), st.data())
def test_snapshot_and_differences_give_the_newest_state_with_any_pictures_skipped(steps: Any, data: Any) -> None:
    states = iter([state(found) for found in steps])
    pictures = Pictures(lambda: (1, next(states)), epoch=7)
    made = []
    for _ in steps:
        pictures._made_at_s = float("-inf")
        made.append(pictures.newest())
    taken = data.draw(st.lists(st.sampled_from(range(1, len(made))), unique=True).map(sorted))
    snapshot = json.loads(pictures.snapshot(made[0]))
    held, before = snapshot["state"], made[0]
    seq = snapshot["seq"]
    for index in taken:
        update = json.loads(pictures.update(before, made[index]))
        assert update["previous"] == seq
        merge(held, update["changed"])
        seq, before = update["seq"], made[index]
    assert held == json.loads(msgspec.json.encode(before.state))


def test_equal_pictures_differ_in_nothing() -> None:
    one = state({"feed": ServiceView(ready=True, because={})})
    assert difference(one, state({"feed": ServiceView(ready=True, because={})})) == {}


def test_a_picture_is_made_once_for_clients_that_look_at_the_same_time() -> None:
    calls: list[int] = []

    def make() -> tuple[int, State]:
        calls.append(1)
        return len(calls), state({})

    pictures = Pictures(make, epoch=1)
    assert pictures.newest() is pictures.newest()
    assert len(calls) == 1
