"""The operator as a process against a real API server: what a Strategy becomes, and what happens when things fail."""

from __future__ import annotations

import asyncio
import json
import subprocess
import time

import psutil
import pytest
from lightkube import Client, KubeConfig
from lightkube.types import PatchType
from pace import Pace
from world import World, account, breaker, eventually, strategy

from tickmesh.bus.nats import NatsBus
from tickmesh.domain.enums import IntentAction
from tickmesh.domain.messages import OrderIntent, decode
from tickmesh.kube.desired import FINALIZER
from tickmesh.kube.generate import rendered
from tickmesh.ports.bus import DurableMessage
from tickmesh.services.operator.cluster import STRATEGY


def test_a_strategy_becomes_a_deployment_a_bucket_entry_and_a_status(world: World) -> None:
    world.operator()
    with Pace() as pace:
        world.apply(strategy(replicas=2, parameters={"spread": 3}))
        began = time.monotonic()
        deployment = eventually(lambda: world.get("deployment", "strategy-mm"), what="the Deployment")
        pace.assert_within(5, time.monotonic() - began)
    resource = world.get("strategy", "mm")
    assert resource is not None
    assert deployment["spec"]["replicas"] == 2
    assert deployment["metadata"]["ownerReferences"][0]["uid"] == resource["metadata"]["uid"]
    assert FINALIZER in resource["metadata"]["finalizers"]
    assert world.get("serviceaccount", "strategy-mm")
    assert world.get("poddisruptionbudget", "strategy-mm")
    document = eventually(lambda: world.bucket("strategies", "spec.mm"), what="the bucket entry")
    assert document["spec"]["parameters"] == {"spread": 3}
    status = eventually(lambda: world.status("strategy", "mm"), what="a status")
    assert (status["phase"], status["observedGeneration"]) == ("Starting", 1)
    assert world.condition("mm", "Degraded") == "False"
    assert "Created" in world.events("mm")


def test_hot_changes_reach_the_bucket_within_a_second_and_leave_the_pods_alone(world: World) -> None:
    world.operator()
    world.apply(strategy())
    before = eventually(lambda: world.get("deployment", "strategy-mm"), what="the Deployment")
    eventually(lambda: world.bucket("strategies", "spec.mm"), what="the first entry")
    with Pace() as pace:
        world.apply(strategy(parameters={"spread": 9}, paused=True, limits={"maxPosition": "0.5"}))
        began = time.monotonic()
        eventually(lambda: (world.bucket("strategies", "spec.mm") or {})["spec"].get("paused"), what="paused")
        pace.assert_within(1.5, time.monotonic() - began)  # with the time of a connection per look
    time.sleep(1)
    after = world.get("deployment", "strategy-mm")
    assert after is not None
    assert after["metadata"]["generation"] == before["metadata"]["generation"]
    assert eventually(lambda: world.status("strategy", "mm").get("phase") == "Paused", what="phase Paused")


def test_another_image_rolls_the_pods_and_a_changed_plugin_source_too(world: World) -> None:
    world.operator()
    source = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "code", "labels": {"tickmesh.io/plugin": ""}},
    }
    world.apply({**source, "data": {"strategy.py": "A = 1"}}, strategy(plugin={"configMap": {"name": "code"}}))
    first = eventually(lambda: world.get("deployment", "strategy-mm"), what="the Deployment")
    assert first["spec"]["template"]["spec"]["volumes"][1]["configMap"]["name"] == "code"
    world.apply({**source, "data": {"strategy.py": "A = 2"}})

    def rolled() -> bool:
        found = world.get("deployment", "strategy-mm")
        return bool(found and found["spec"]["template"] != first["spec"]["template"])

    eventually(rolled, what="another template after another source")
    world.apply(strategy(plugin={"configMap": {"name": "code"}}, image="tickmesh:2"))
    eventually(lambda: "tickmesh:2" in json.dumps(world.get("deployment", "strategy-mm")), what="the new image")


def test_drift_is_repaired_and_said(world: World) -> None:
    world.operator()
    world.apply(strategy())
    eventually(lambda: world.get("deployment", "strategy-mm"), what="the Deployment")
    world.kubectl("scale", "deployment", "strategy-mm", "--replicas=7")

    def replicas() -> int:
        found = world.get("deployment", "strategy-mm")
        return int(found["spec"]["replicas"]) if found else -1

    eventually(lambda: replicas() == 1, what="one replica again")
    world.kubectl("delete", "deployment", "strategy-mm")
    eventually(lambda: replicas() == 1, what="the Deployment again")
    eventually(lambda: "Repaired" in world.events("mm"), what="an Event")


def test_another_sharding_waits_until_the_old_pods_are_gone(world: World) -> None:
    world.operator()
    world.apply(strategy(symbols=["BTCUSDT", "ETHUSDT"], shards=2))
    for shard in (0, 1):
        eventually(lambda n=shard: world.get("deployment", f"strategy-mm-{n}"), what=f"shard {shard}")
    world.apply(strategy(symbols=["BTCUSDT", "ETHUSDT"], shards=1))
    eventually(lambda: "Resharding" in world.events("mm"), what="an Event")
    for shard in (0, 1):
        name = f"strategy-mm-{shard}"
        found = eventually(
            lambda n=name: (d := world.get("deployment", n)) and d["metadata"].get("deletionTimestamp") and d,
            what=f"{name} is being deleted",
        )
        assert found["metadata"]["finalizers"] == ["foregroundDeletion"]
        assert world.get("deployment", "strategy-mm") is None
        # The garbage collector's part, which no controller plays here: the pods are gone.
        world.kubectl("patch", "deployment", name, "--type=merge", "-p", '{"metadata":{"finalizers":[]}}')
    eventually(lambda: world.get("deployment", "strategy-mm"), what="the new Deployment")


def test_a_deleted_strategy_goes_only_when_no_order_is_open(world: World) -> None:
    world.operator()
    world.apply(account(), strategy(mode="Live", account="main"))
    eventually(lambda: world.bucket("strategies", "spec.mm"), what="the bucket entry")
    report = {"open_orders": 2, "holder": "pod-1", "epoch": 3, "positions": {"BTCUSDT": "0.01"}, "pnl": "1.5"}
    world.put("strategies", "report.mm", report)
    status = eventually(lambda: (s := world.status("strategy", "mm")).get("epoch") and s, what="the report")
    assert (status["holder"], status["pnl"]) == ("pod-1", "1.5")
    world.kubectl("delete", "strategy", "mm", "--wait=false")
    eventually(lambda: (world.bucket("strategies", "spec.mm") or {})["spec"].get("paused"), what="told to pause")
    time.sleep(2.5)
    assert world.get("strategy", "mm") is not None
    assert world.status("strategy", "mm")["phase"] == "Terminating"
    assert "CancellingOrders" in world.events("mm")
    world.put("strategies", "report.mm", {**report, "open_orders": 0, "paused": True})
    eventually(lambda: world.get("strategy", "mm") is None, what="the Strategy is gone")
    assert world.bucket("strategies", "spec.mm") is None


def test_a_deleted_strategy_without_pods_waits_for_the_word_of_execution_and_says_whose_turn_it_is(
    world: World,
) -> None:
    """Its pods died with two orders open, and execution is dead as well: nobody may say that they are cancelled."""
    world.operator()
    world.apply(account(), strategy(mode="Live", account="main"))
    eventually(lambda: world.bucket("strategies", "spec.mm"), what="the bucket entry")
    world.put("strategies", "report.mm", {"open_orders": 2, "holder": "gone", "epoch": 3, "mode": "Live"})
    eventually(lambda: world.status("strategy", "mm").get("holder") == "gone", what="the last report")
    # A change of mode that no pod has confirmed does not make its orders paper.
    world.apply(strategy(mode="Simulation", account="main"))
    world.put("strategies", "report.mm", None)
    eventually(lambda: world.status("strategy", "mm").get("observedGeneration") == 2, what="another mode")
    world.kubectl("delete", "strategy", "mm", "--wait=false")
    asked = eventually(lambda: world.bus(lambda bus: bus.last("INTENTS", "order.intent.main")), what="asked to cancel")
    assert decode(OrderIntent, asked).action is IntentAction.CANCEL_ALL
    time.sleep(12)
    assert world.get("strategy", "mm") is not None, "nobody has cancelled its orders"
    told = world.kubectl("describe", "strategy", "mm").stdout
    assert "the execution process of account main has not confirmed" in told
    assert "kubectl annotate strategy mm tickmesh.io/force-delete=true" in told

    async def take(bus: NatsBus) -> None:
        taken = asyncio.Event()

        async def cancelled(message: DurableMessage) -> None:
            await message.ack()
            taken.set()

        await bus.consume("INTENTS", "execution-main", cancelled, filter_subjects=("order.intent.main",))
        await asyncio.wait_for(taken.wait(), 20)
        await asyncio.sleep(0.5)

    world.bus(take)
    eventually(lambda: world.get("strategy", "mm") is None, what="gone after execution's word")


def test_a_plugin_that_breaks_is_told_by_an_event_as_well(world: World) -> None:
    world.operator()
    world.apply(strategy(), strategy("other"))
    eventually(lambda: world.condition("mm", "Degraded") == "False", what="not degraded at first")
    report = {"holder": "pod-1", "epoch": 1, "generation": 1, "mode": "Observation"}
    world.put("strategies", "report.mm", {**report, "disabled": True, "last_error": "division by zero"})
    eventually(lambda: world.condition("mm", "Degraded") == "True", what="degraded")
    eventually(lambda: "Degraded" in world.events("mm"), what="an Event")
    assert "division by zero" in world.kubectl("describe", "strategy", "mm").stdout
    assert world.condition("other", "Degraded") == "False"
    world.put("strategies", "report.mm", report)
    eventually(lambda: "Recovered" in world.events("mm"), what="an Event when it is well again")


def test_what_becomes_invalid_later_is_degraded_alone_and_recovers(world: World) -> None:
    world.operator()
    world.apply(account(), strategy("good"), strategy("live", mode="Live", account="main"))
    eventually(lambda: world.condition("live", "Degraded") == "False", what="not degraded at first")
    world.kubectl("delete", "tradingaccount", "main")
    eventually(lambda: world.condition("live", "Degraded") == "True", what="degraded without its account")
    assert world.status("strategy", "live")["phase"] == "Degraded"
    assert "Degraded" in world.events("live")
    assert world.condition("good", "Degraded") == "False"
    world.apply(account())
    eventually(lambda: world.condition("live", "Degraded") == "False", what="well again")


def test_a_restart_at_any_moment_changes_nothing(world: World) -> None:
    names = [f"s{i}" for i in range(6)]
    process = world.operator()
    world.apply(*(strategy(n) for n in names[:3]))
    time.sleep(0.3)
    process.kill()
    world.apply(*(strategy(n) for n in names[3:]))
    world.kubectl("delete", "strategy", "s0", "--wait=false")
    second = world.operator()
    for name in names[1:]:
        eventually(lambda n=name: world.get("deployment", f"strategy-{n}"), what=f"Deployment of {name}")
        eventually(lambda n=name: world.condition(n, "Degraded") == "False", what=f"status of {name}")
    eventually(lambda: world.get("strategy", "s0") is None, what="the deleted one is gone")
    time.sleep(3)
    versions = {n: world.get("deployment", f"strategy-{n}")["metadata"]["resourceVersion"] for n in names[1:]}  # type: ignore[index]
    statuses = {n: world.get("strategy", n)["metadata"]["resourceVersion"] for n in names[1:]}  # type: ignore[index]
    second.kill()
    world.operator()
    time.sleep(6)
    for name in names[1:]:
        deployment, resource = world.get("deployment", f"strategy-{name}"), world.get("strategy", name)
        assert deployment is not None
        assert resource is not None
        assert deployment["metadata"]["resourceVersion"] == versions[name], "applied again although nothing differed"
        assert resource["metadata"]["resourceVersion"] == statuses[name], "status written although nothing differed"


def test_of_two_operators_one_acts_and_the_other_takes_over(world: World) -> None:
    first, second = world.operator(), world.operator()
    world.apply(strategy("a"))
    eventually(lambda: world.get("deployment", "strategy-a"), what="the first Deployment")
    lease = world.get("lease", "tickmesh-operator")
    assert lease is not None
    leader = first if str(first.pid) in lease["spec"]["holderIdentity"] else second
    leader.kill()
    world.apply(strategy("b"))
    eventually(lambda: world.get("deployment", "strategy-b"), 20, "the other one took over")


def test_a_hundred_edits_a_second_end_in_the_last_one_without_a_hot_loop(world: World) -> None:
    process = world.operator()
    world.apply(strategy())
    eventually(lambda: world.bucket("strategies", "spec.mm"), what="the bucket entry")
    before = _calls(world, process)
    client = Client(config=KubeConfig.from_file(world.api.kubeconfig), namespace=world.namespace)
    began = time.monotonic()
    for step in range(100):
        client.patch(STRATEGY, "mm", {"spec": {"parameters": {"step": step}}}, patch_type=PatchType.MERGE)
    print(f"{100 / (time.monotonic() - began):.0f} edits a second")
    eventually(
        lambda: (world.bucket("strategies", "spec.mm") or {})["spec"]["parameters"].get("step") == 99, what="step 99"
    )
    time.sleep(3)
    calls = _calls(world, process)
    time.sleep(4)
    assert _calls(world, process) - calls <= 1, "it goes on reconciling although nothing changes"
    assert calls - before < 150
    resource = world.get("strategy", "mm")
    assert resource is not None
    ours = [a for a in resource["metadata"].get("annotations", {}) if "kopf" in a or "tickmesh" in a]
    assert ours == [], "annotations grow"


def test_a_plugin_whose_map_is_not_watched_is_not_asked_for_with_every_report(world: World) -> None:
    world.operator()
    world.kubectl("create", "configmap", "own", "--from-literal=strategy.py=class A: pass")
    world.apply(strategy(plugin={"configMap": {"name": "own"}}))
    deployment = eventually(lambda: world.get("deployment", "strategy-mm"), what="the Deployment")
    assert deployment["spec"]["template"]["metadata"]["annotations"]["tickmesh.io/plugin-sha256"]
    eventually(lambda: world.status("strategy", "mm").get("phase"), what="a status")
    before = _reads_of_config_maps(world)
    for second in range(1, 6):
        report = {"holder": "a", "epoch": second, "generation": 1, "mode": "Simulation", "open_orders": 0,
                  "positions": {}, "pnl": "0", "last_signal_ns": 0, "paused": False, "written_ns": second}  # fmt: skip
        world.put("strategies", "report.mm", report)
        eventually(lambda second=second: world.status("strategy", "mm").get("epoch") == second, 30, "told")
    assert _reads_of_config_maps(world) - before <= 2, "asked for with every report"


def test_a_deleted_definition_ends_nothing_else_and_comes_back(lonely_world: World) -> None:
    world = lonely_world
    process = world.operator()
    world.apply(strategy("before"), breaker("rest", "VenueREST"))
    eventually(lambda: world.get("deployment", "strategy-before"), what="the Deployment")
    assert world.kubectl("delete", "crd", "strategies.tickmesh.io", "--timeout=60s").returncode == 0
    # Its Strategies go with it, each after its orders; breakers are looked after as before.
    world.apply(breaker("rest", "VenueREST", forced="Open"))
    eventually(lambda: world.status("circuitbreaker", "rest").get("state") == "Open", what="a trip meanwhile")
    calls = _calls(world, process)
    time.sleep(3)
    assert _calls(world, process) - calls <= 3, "a hot loop about a kind that is not there"
    crds = [text for path, text in rendered().items() if path.startswith("k8s/crds/")]
    world.api.apply("\n---\n".join(crds), "--server-side", "--force-conflicts")
    world.api.kubectl("wait", "--for=condition=Established", "--timeout=30s", "crd", "strategies.tickmesh.io")
    eventually(lambda: world.kubectl("get", "strategies").returncode == 0, what="the kind is served again")
    world.apply(strategy("after"))

    def followed() -> bool:
        if process.poll() is not None and len(world.operators) == 1:
            # kopf looked for the kind before it was served: the operator noticed, and as a pod it is started again.
            assert "BlindWatchError" in world.log(-1), world.log(-1)
            world.operator()
        return world.get("deployment", "strategy-after") is not None

    eventually(followed, 90, "work goes on with the kind")


def test_an_api_server_that_is_away_costs_nothing(world: World) -> None:
    if not world.api.processes:
        pytest.skip("KUBECONFIG names a cluster whose API server cannot be stopped here")
    process = world.operator()
    world.apply(strategy("before"))
    eventually(lambda: world.get("deployment", "strategy-before"), what="the Deployment")
    server = psutil.Process(world.api.processes[-1].pid)
    server.suspend()
    time.sleep(12)
    server.resume()
    assert process.poll() is None, world.log(-1)
    world.apply(strategy("after"))
    eventually(lambda: world.get("deployment", "strategy-after"), 40, "work goes on")


def test_without_nats_the_cluster_part_goes_on_and_the_bucket_follows_later(world: World) -> None:
    world.operator()
    world.apply(strategy("a"))
    eventually(lambda: world.bucket("strategies", "spec.a"), what="the bucket entry")
    world.nats.kill()
    world.nats.wait()
    world.apply(strategy("b"))
    eventually(lambda: world.get("deployment", "strategy-b"), what="the Deployment without NATS")
    eventually(lambda: world.condition("b", "Degraded") == "True", 30, "it says that the bucket is away")
    world.start_nats()
    eventually(lambda: world.bucket("strategies", "spec.b"), 90, "the bucket entry afterwards")


def _calls(world: World, process: subprocess.Popen[bytes]) -> float:
    import urllib.request

    with urllib.request.urlopen(f"http://127.0.0.1:{world.ports[process.pid]}/metrics", timeout=5) as answer:
        for line in answer.read().decode().splitlines():
            if "reconcile_calls" in line and not line.startswith("#"):
                return float(line.rsplit(" ", 1)[1])
    raise AssertionError("no reconcile_calls in /metrics")


def _reads_of_config_maps(world: World) -> float:
    """How many single ConfigMaps the API server has handed out, by its own metrics."""
    total = 0.0
    for line in world.kubectl("get", "--raw", "/metrics").stdout.splitlines():
        if line.startswith("apiserver_request_total{") and 'resource="configmaps"' in line and 'verb="GET"' in line:
            total += float(line.rsplit(" ", 1)[1])
    return total
