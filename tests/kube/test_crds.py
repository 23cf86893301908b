"""The custom resources against a real API server: accepted, defaulted, and refused with the field and the reason."""

import json
from pathlib import Path

import pytest
import yaml
from apiserver import ApiServer

from tickmesh.kube.generate import rendered

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def cluster(api: ApiServer) -> ApiServer:
    api.apply(
        "\n---\n".join(text for path, text in rendered().items() if path.startswith("k8s/crds/")), "--server-side"
    )
    done = api.kubectl("wait", "--for=condition=Established", "--timeout=30s", "crd", "--all")
    assert done.returncode == 0, done.stderr
    return api


def strategy(name: str = "mm", **spec: object) -> str:
    body = {"plugin": {"entryPoint": "market-making"}, **spec}
    document = {"apiVersion": "tickmesh.io/v1alpha1", "kind": "Strategy", "metadata": {"name": name}, "spec": body}
    return yaml.safe_dump(document)


def breaker(name: str = "cb", **spec: object) -> str:
    document = {
        "apiVersion": "tickmesh.io/v1alpha1",
        "kind": "CircuitBreaker",
        "metadata": {"name": name},
        "spec": spec,
    }
    return yaml.safe_dump(document)


def test_the_files_in_the_repository_are_what_the_code_generates() -> None:
    for path, text in rendered().items():
        assert (ROOT / path).read_text(encoding="utf-8") == text, f"{path} is stale: make crds"


def test_the_definitions_are_structural_and_established(cluster: ApiServer) -> None:
    listed = json.loads(cluster.kubectl("get", "crd", "-o", "json").stdout)["items"]
    ours = [d for d in listed if d["spec"]["group"] == "tickmesh.io"]
    assert len(ours) == 3
    for definition in ours:
        states = {c["type"]: c for c in definition["status"]["conditions"]}
        assert states["Established"]["status"] == "True"
        assert states.get("NonStructuralSchema", {"status": "False"})["status"] == "False", states


def test_defaults_are_filled_in_by_the_server(cluster: ApiServer) -> None:
    cluster.apply(strategy("defaults", limits={}))
    spec = json.loads(cluster.kubectl("get", "strategy", "defaults", "-o", "json").stdout)["spec"]
    assert (spec["mode"], spec["paused"], spec["replicas"]) == ("Observation", False, 1)
    assert spec["limits"]["maxPosition"] == "0.1"


def test_short_names_categories_and_columns(cluster: ApiServer) -> None:
    cluster.apply(strategy("columns"))
    for word in ("strat", "st", "tickmesh"):
        assert "columns" in cluster.kubectl("get", word).stdout
    header = cluster.kubectl("get", "strat").stdout.splitlines()[0].split()
    assert header[:5] == ["NAME", "MODE", "PHASE", "READY", "PAUSED"]


REFUSED = {
    "live without an account": (strategy(mode="Live", limits={}), "spec.account", "mode Live needs an account"),
    "live without limits": (strategy(mode="Live", account="main"), "spec.limits", "mode Live needs limits"),
    "two plugins": (
        strategy(plugin={"entryPoint": "momentum", "module": "a.b:C"}),
        "spec.plugin",
        "give exactly one of entryPoint, module, file and configMap",
    ),
    "no plugin": (strategy(plugin={}), "spec.plugin", "exactly one of"),
    "unknown mode": (strategy(mode="Turbo"), "spec.mode", "Unsupported value"),
    "a float for money": (strategy(limits={"maxPosition": 0.1}), "spec.limits.maxPosition", "must be of type string"),
    "negative money": (strategy(limits={"maxPosition": "-1"}), "spec.limits.maxPosition", "should match"),
    "lower-case symbol": (strategy(symbols=["btcusdt"]), "spec.symbols[0]", "should match"),
    "a symbol twice": (strategy(symbols=["BTCUSDT", "BTCUSDT"]), "spec.symbols[1]", "Duplicate"),
    "more shards than symbols": (strategy(symbols=["BTCUSDT"], shards=2), "spec.shards", "more shards than symbols"),
    "an unknown field": (strategy(simbols=["BTCUSDT"]), "simbols", "unknown field"),
    "a name that is too long": (strategy("x" * 53), "name", "52 characters"),
    "a breaker without a target": (breaker(), "spec.target", "Required"),
    "a breaker of no account": (breaker(target={"kind": "Account"}), "spec.target.name", "needs its name"),
    "forced half open": (breaker(target={"kind": "Everything"}, forced="HalfOpen"), "spec.forced", "Unsupported"),
    "no failures": (breaker(target={"kind": "Bus"}, failureThreshold=0), "spec.failureThreshold", "greater than"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_wrong_resource_is_refused_with_the_field_and_the_reason(cluster: ApiServer, case: str) -> None:
    manifest, field, reason = REFUSED[case]
    done = cluster.kubectl("apply", "-f", "-", "--validate=strict", stdin=manifest)
    assert done.returncode != 0
    assert field in done.stderr
    assert reason in done.stderr


def test_the_target_of_a_breaker_cannot_be_changed(cluster: ApiServer) -> None:
    cluster.apply(breaker("fixed", target={"kind": "Bus"}))
    done = cluster.kubectl("apply", "-f", "-", stdin=breaker("fixed", target={"kind": "Database"}))
    assert "the target cannot be changed" in done.stderr


def test_scale_and_status_are_resources_of_their_own(cluster: ApiServer) -> None:
    cluster.apply(strategy("scaled", replicas=1))
    assert cluster.kubectl("scale", "strategy", "scaled", "--replicas=2").returncode == 0
    patch = '{"status":{"phase":"Running","readyReplicas":2,"replicas":2}}'
    assert (
        cluster.kubectl("patch", "strategy", "scaled", "--subresource=status", "--type=merge", "-p", patch).returncode
        == 0
    )
    cluster.apply(strategy("scaled", replicas=2))
    found = json.loads(cluster.kubectl("get", "strategy", "scaled", "-o", "json").stdout)
    assert found["spec"]["replicas"] == 2
    assert found["status"]["phase"] == "Running"
