"""Five hundred Strategies: everything applied, then silence."""

from __future__ import annotations

import json
import time

import psutil
import pytest
import yaml
from world import World, eventually, strategy

COUNT = 500


@pytest.mark.timeout(420)
def test_five_hundred_strategies_are_reconciled_within_256_mib_and_then_nothing_is_written(world: World) -> None:
    process = world.operator()
    documents = [strategy(f"s{i:03d}", parameters={"n": i}) for i in range(COUNT)]
    done = world.kubectl("create", "-f", "-", stdin=yaml.safe_dump_all(documents))
    assert done.returncode == 0, done.stderr[-500:]

    def deployments() -> int:
        return len(world.kubectl("get", "deployments", "-o", "name").stdout.split())

    eventually(lambda: deployments() == COUNT, 240, "a Deployment for each")

    def told() -> int:
        listed = json.loads(world.kubectl("get", "strategies", "-o", "json").stdout)["items"]
        return sum(s.get("status", {}).get("observedGeneration") == 1 for s in listed)

    eventually(lambda: told() == COUNT, 120, "a status for each")
    time.sleep(5)
    operator = psutil.Process(process.pid)
    versions = _versions(world)
    before = operator.cpu_times()
    time.sleep(10)
    after = operator.cpu_times()
    share = (after.user + after.system - before.user - before.system) / 10
    memory_mib = operator.memory_info().rss / 2**20
    print(f"{COUNT} strategies at rest: {share:.1%} of a core, {memory_mib:.0f} MiB")
    assert _versions(world) == versions, "something is written although nothing changes"
    assert memory_mib < 256
    assert share < 0.2, "CPU time, not wall time: a busy machine does not change it"


def _versions(world: World) -> dict[str, str]:
    found: dict[str, str] = {}
    for kind in ("strategies", "deployments"):
        for item in json.loads(world.kubectl("get", kind, "-o", "json").stdout)["items"]:
            found[f"{kind}/{item['metadata']['name']}"] = item["metadata"]["resourceVersion"]
    return found
