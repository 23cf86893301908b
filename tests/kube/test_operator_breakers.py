"""CircuitBreaker resources and the breakers bucket: trips by hand and by themselves, with and without an operator."""

from __future__ import annotations

import json
import signal
import time
from typing import Any

from pace import Pace
from world import World, breaker, eventually


def state(world: World, name: str) -> str:
    return str(world.status("cb", name).get("state", ""))


def patch(world: World, name: str, spec: dict[str, Any]) -> None:
    done = world.kubectl("patch", "cb", name, "--type=merge", "-p", json.dumps({"spec": spec}))
    assert done.returncode == 0, done.stderr


def test_a_trip_by_hand_is_in_the_bucket_and_released_again(world: World) -> None:
    world.operator()
    world.apply(breaker("venue", "VenueREST", failureThreshold=7, openSeconds=11))
    config = eventually(lambda: world.bucket("breakers", "config.venue-rest"), what="its thresholds in the bucket")
    assert (config["failures"], config["open_ns"]) == (7, 11_000_000_000)
    with Pace() as pace:
        patch(world, "venue", {"forced": "Open", "reason": "maintenance at the venue"})
        began = time.monotonic()
        force = eventually(lambda: world.bucket("breakers", "force.venue-rest"), what="the force in the bucket")
        pace.assert_within(1.5, time.monotonic() - began)
    assert (force["state"], force["reason"]) == ("Open", "maintenance at the venue")
    eventually(lambda: state(world, "venue") == "Open", what="status Open")
    assert "maintenance at the venue" in world.kubectl("get", "cb").stdout
    patch(world, "venue", {"forced": None, "reason": None})
    eventually(lambda: world.bucket("breakers", "force.venue-rest") is None, what="released")
    eventually(lambda: state(world, "venue") == "Closed", what="status Closed")
    assert {"Open", "Closed"} <= set(world.events("venue"))


def test_a_breaker_that_opens_by_itself_shows_within_a_second(world: World) -> None:
    world.operator()
    world.apply(breaker("db", "Database"))
    eventually(lambda: state(world, "db") == "Closed", what="a first status")
    now = time.time_ns()
    record = {
        "name": "postgres-recorder", "target": "database", "state": "Open", "failures": 5, "since_ns": now,
        "next_probe_ns": now + 30_000_000_000, "reason": "5 failures in 30 s",
        "transitions": [{"at_ns": now, "before": "Closed", "after": "Open", "reason": "5 failures in 30 s"}],
    }  # fmt: skip
    with Pace() as pace:
        world.put("breakers", "state.postgres-recorder", record)
        began = time.monotonic()
        eventually(lambda: state(world, "db") == "Open", what="status Open")
        pace.assert_within(1.5, time.monotonic() - began)
    status = world.status("cb", "db")
    assert status["failures"] == 5
    assert status["nextProbeAt"] > status["openedAt"]
    assert [t["to"] for t in status["transitions"]] == ["Open"]
    world.put("breakers", "state.postgres-recorder", {**record, "state": "Closed", "failures": 0})
    eventually(lambda: state(world, "db") == "Closed", what="closed again")


def test_a_trip_in_the_bucket_stands_and_a_later_edit_of_the_resource_wins_again(world: World) -> None:
    world.operator()
    world.apply(breaker("all", "Everything"))
    eventually(lambda: state(world, "all") == "Closed", what="a first status")
    world.put("breakers", "force.everything", {"state": "Open", "actor": "ann", "at_ns": time.time_ns()})
    eventually(lambda: state(world, "all") == "Open", what="the bucket's trip in the status")
    synced = next(c for c in world.status("cb", "all")["conditions"] if c["type"] == "Synced")
    assert (synced["status"], synced["reason"]) == ("False", "OverriddenInBucket")
    time.sleep(2)
    assert world.bucket("breakers", "force.everything"), "the resource's old generation must not release it"
    patch(world, "all", {"forced": "Closed"})
    eventually(
        lambda: (world.bucket("breakers", "force.everything") or {}).get("state") == "Closed", what="the edit wins"
    )


def test_what_happens_while_the_operator_is_away_is_caught_up_both_ways(world: World) -> None:
    process = world.operator()
    world.apply(breaker("ws", "VenueWebSocket"), breaker("acc", "Account", of="main"))
    eventually(lambda: state(world, "acc") == "Closed", what="a first status")
    process.send_signal(signal.SIGKILL)
    process.wait()
    patch(world, "ws", {"forced": "Open"})
    world.put("breakers", "force.account.main", {"state": "Open", "actor": "bob", "at_ns": time.time_ns()})
    world.operator()
    eventually(
        lambda: (world.bucket("breakers", "force.venue-websocket") or {}).get("state") == "Open", what="carried over"
    )
    eventually(lambda: state(world, "acc") == "Open", what="told")


def test_a_reset_is_asked_for_once(world: World) -> None:
    world.operator()
    world.apply(breaker("bus", "Bus"))
    eventually(lambda: state(world, "bus") == "Closed", what="a first status")
    patch(world, "bus", {"resetAt": "2026-11-21T10:00:00Z"})
    asked = eventually(lambda: world.bucket("breakers", "reset.bus"), what="a reset in the bucket")
    assert asked == {"at": "2026-11-21T10:00:00Z"}
    world.put("breakers", "reset.bus", None)
    patch(world, "bus", {"openSeconds": 60})
    eventually(lambda: (world.bucket("breakers", "config.bus") or {}).get("open_ns") == 60_000_000_000, what="an edit")
    assert world.bucket("breakers", "reset.bus") is None
