"""The charts against a real API server: schema, install, upgrade, the operator with exactly the rights they give."""

from __future__ import annotations

import json
import tarfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from apiserver import ApiServer
from chart import CHART, ROOT, VALUES, Helm, examples, program
from service_account import as_service_account
from world import World, account, breaker, eventually, strategy

from tickmesh.kube.generate import rendered

PREVIOUS = sorted((ROOT / "tests" / "kube" / "previous").glob("tickmesh-*.tgz"))


@pytest.fixture(scope="module")
def helm() -> Helm:
    found = program()
    if found is None:
        pytest.skip("no helm here: make helm builds one (needs a Go toolchain)")
    return Helm(found)


@pytest.fixture
def installer(helm: Helm, api: ApiServer) -> Helm:
    return Helm(helm.program, api)


@pytest.fixture
def namespace(api: ApiServer) -> Iterator[str]:
    """A fresh one where Pod Security refuses what is not restricted, and says so about workloads."""
    name = f"c-{uuid.uuid4().hex[:8]}"
    guard = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn")}
    api.apply(yaml.safe_dump({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": guard}}))
    yield name
    api.kubectl("delete", "namespace", name, "--wait=false")


def test_lint_finds_nothing_wrong(helm: Helm) -> None:
    for chart in ("tickmesh", "tickmesh-crds", "tickmesh-infra"):
        told = helm.ok("lint", "--strict", str(ROOT / "charts" / chart))
        assert "0 chart(s) failed" in told and "WARNING" not in told, told
    for values in VALUES.values():
        helm.ok("lint", "--strict", str(CHART), *values)


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ("feed.replicaz=2", "/feed': additional properties 'replicaz' not allowed"),
        ("feed.replicas=two", "/feed/replicas': got string, want integer"),
        ("execution.replicas=9", "/execution/replicas': maximum: got 9, want 2"),
        ("nats.replicas=2", "/nats/replicas': value must be one of 1, 3, 5"),
        ("nats.syncCheck=perhaps", "/nats/syncCheck': value must be one of"),
        ("nats.url=somewhere", "/nats/url': 'somewhere' does not match"),
        ("image.tag=latest", "/image/tag'"),
        ("image.digest=sha256:abc", "/image/digest': 'sha256:abc' does not match"),
        ("accounts[0].name=Main Desk", "/accounts/0/name': 'Main Desk' does not match"),
        ("accounts[0].existing=keys", "/accounts/0': additional properties 'existing' not allowed"),
        ("config.feed.book_depth=500", "/config/feed/book_depth': maximum: got 500, want 50"),
        ("config.feed.book_dept=5", "/config/feed': additional properties 'book_dept' not allowed"),
        ("config.observe.host=127.0.0.1", "/config/observe': additional properties 'host' not allowed"),
        ("risk.resources.limits.memory=lots", "/risk/resources/limits/memory': 'lots' does not match"),
        ("networkPolicies.venue.ports={99999}", "/networkPolicies/venue/ports/0': maximum"),
        ("infra.nats.image=nats:latest", "/nats/image': 'nats:latest' does not match"),
        ("crds.kep=true", "additional properties 'kep' not allowed"),
        ("infra.enabled=false", "nats.url is empty: say where NATS is"),
        ("simvenue.enabled=false", "venue.restUrl is empty: say where the venue is"),
    ],
)
def test_a_bad_value_is_refused_by_its_name(helm: Helm, values: str, named: str) -> None:
    done = helm.run("template", "tickmesh", str(CHART), "--set", values)
    assert done.returncode != 0
    assert named in done.stderr


def test_a_venue_without_keys_and_servers_without_addresses_are_refused_in_words(helm: Helm) -> None:
    for without, words in (
        ("accounts[0].existingSecret=", "main has no existingSecret: name the Secret with the keys api-key"),
        ("postgres.existingSecret=", "postgres.existingSecret is empty"),
        ("redis.existingSecret=", "redis.existingSecret is empty"),
        ("networkPolicies.nats.to=null", "networkPolicies.nats.to"),
    ):
        done = helm.run("template", "tickmesh", str(CHART), *VALUES["production"], "--set", without,
                        "--set", "accounts[0].name=main")  # fmt: skip
        assert done.returncode != 0, without
        assert words in done.stderr


@pytest.mark.parametrize("values", VALUES)
def test_the_api_server_accepts_every_manifest(helm: Helm, cluster: ApiServer, namespace: str, values: str) -> None:
    if cluster.kubectl("get", "crd", "scaledobjects.keda.sh").returncode:
        cluster.apply((ROOT / "tests" / "kube" / "scaledobject.yaml").read_text())
        cluster.kubectl("wait", "--for=condition=Established", "--timeout=30s", "crd", "scaledobjects.keda.sh")
    manifests = helm.render(*VALUES[values], "--set", "crds.enabled=false", namespace=namespace)
    manifests += examples(manifests)
    document = yaml.safe_dump_all(manifests)
    done = cluster.kubectl("-n", namespace, "apply", "--dry-run=server", "--validate=strict", "-f", "-", stdin=document)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == len(manifests)
    warnings = [line for line in done.stderr.splitlines() if "Warning" in line]
    if values == "shared-memory":
        # The option says what it needs: a privileged namespace, because of the ring's hostPath and nothing else.
        said = '(volume "shm" uses restricted volume type "hostPath")'
        assert warnings == [
            f'Warning: would violate PodSecurity "restricted:latest": restricted volume types {said}'
        ], warnings
    else:
        assert warnings == []


def test_one_command_installs_everything_into_a_fresh_namespace(helm: Helm, empty_api: ApiServer) -> None:
    api, installer = empty_api, Helm(helm.program, empty_api)
    name = f"c-{uuid.uuid4().hex[:8]}"
    told = installer.ok("install", "tickmesh", str(CHART), "--namespace", name, "--create-namespace")
    assert f"kubectl -n {name} apply -f k8s/examples/account.yaml" in told, "the notes say what to do next"
    deployments = json.loads(api.kubectl("-n", name, "get", "deployments", "-o", "json").stdout)["items"]
    components = {d["metadata"]["labels"]["app.kubernetes.io/component"] for d in deployments}
    assert components == {"feed", "execution", "account", "risk", "recorder", "gateway", "simvenue", "operator"}
    for example in sorted(p.name for p in (ROOT / "k8s" / "examples").glob("*.yaml")):
        done = api.kubectl("-n", name, "apply", "-f", str(ROOT / "k8s" / "examples" / example))
        assert done.returncode == 0, done.stderr
    # Removing the release leaves the definitions, and with them every resource.
    installer.ok("uninstall", "tickmesh", "--namespace", name)
    assert api.kubectl("get", "crd", "strategies.tickmesh.io").returncode == 0
    assert "market-making" in api.kubectl("-n", name, "get", "strategies").stdout
    assert api.kubectl("-n", name, "get", "deployments", "-o", "name").stdout == ""


def test_what_an_install_made_up_survives_an_upgrade(installer: Helm, cluster: ApiServer, namespace: str) -> None:
    def passwords() -> dict[str, Any]:
        listed = json.loads(cluster.kubectl("-n", namespace, "get", "secrets", "-o", "json").stdout)["items"]
        return {s["metadata"]["name"]: s["data"] for s in listed if s["type"] == "Opaque"}

    arguments = ("tickmesh", str(CHART), "--namespace", namespace, "--set", "crds.enabled=false")
    installer.ok("install", *arguments)
    before = passwords()
    assert set(before) == {"tickmesh-gateway", "tickmesh-nats", "tickmesh-postgres", "tickmesh-valkey"}
    installer.ok("upgrade", *arguments, "--set", "feed.resources.limits.memory=300Mi")
    assert passwords() == before
    installer.ok("rollback", "tickmesh", "--namespace", namespace)
    assert passwords() == before


@pytest.mark.parametrize("package", PREVIOUS, ids=lambda p: p.stem)
def test_an_upgrade_from_the_previous_chart_changes_in_place(
    installer: Helm, cluster: ApiServer, namespace: str, package: Path
) -> None:
    common = ("--namespace", namespace, "--set", "crds.enabled=false")
    installer.ok("install", "tickmesh", str(package), *common)

    def uids() -> dict[str, str]:
        kinds = "deployments,statefulsets,services,serviceaccounts,configmaps,poddisruptionbudgets,networkpolicies"
        listed = json.loads(cluster.kubectl("-n", namespace, "get", kinds, "-o", "json").stdout)["items"]
        return {f"{o['kind']}/{o['metadata']['name']}": o["metadata"]["uid"] for o in listed}

    before = uids()
    installer.ok("upgrade", "tickmesh", str(CHART), *common)
    after = uids()
    made_again = [name for name in before if name in after and before[name] != after[name]]
    assert made_again == [], "an object that is made again is a gap"
    lost = {name for name in before if name not in after}
    assert not any(name.startswith(("Deployment", "StatefulSet", "Service/")) for name in lost), lost
    installer.ok("rollback", "tickmesh", "1", "--namespace", namespace)


@pytest.mark.parametrize("package", PREVIOUS, ids=lambda p: p.stem)
def test_an_upgrade_of_the_definitions_keeps_every_resource(
    helm: Helm, empty_api: ApiServer, tmp_path: Path, package: Path
) -> None:
    api, installer, namespace = empty_api, Helm(helm.program, empty_api), "trading"
    with tarfile.open(package) as packed:
        packed.extractall(tmp_path, filter="data")
    installer.ok("install", "crds", str(tmp_path / "tickmesh" / "charts" / "tickmesh-crds"), "--namespace", namespace,
                 "--create-namespace")  # fmt: skip
    api.kubectl("wait", "--for=condition=Established", "--timeout=30s", "crd", "strategies.tickmesh.io")
    examples = ROOT / "k8s" / "examples"
    for name in ("account.yaml", "momentum.yaml", "breakers.yaml"):
        done = api.kubectl("-n", namespace, "apply", "-f", str(examples / name))
        assert done.returncode == 0, done.stderr

    def resources() -> dict[str, tuple[str, int]]:
        kinds = "strategies,circuitbreakers,tradingaccounts"
        listed = json.loads(api.kubectl("-n", namespace, "get", kinds, "-o", "json").stdout)["items"]
        found = {f"{o['kind']}/{o['metadata']['name']}": o["metadata"] for o in listed}
        return {name: (meta["uid"], meta["generation"]) for name, meta in found.items()}

    before = resources()
    assert {"Strategy/momentum", "TradingAccount/main"} <= before.keys()
    installer.ok("upgrade", "crds", str(ROOT / "charts" / "tickmesh-crds"), "--namespace", namespace)
    for text in (text for path, text in rendered().items() if path.startswith("k8s/crds/")):
        wanted = yaml.safe_load(text)
        name = wanted["metadata"]["name"]
        have = json.loads(api.kubectl("get", "crd", name, "-o", "json").stdout)
        served = have["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
        asked = wanted["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
        assert served.keys() == asked.keys(), f"{name} is not the new one"
    assert resources() == before, "a resource was made again or changed"
    assert api.kubectl("-n", namespace, "patch", "strategy", "momentum", "--type=merge", "-p",
                       '{"spec":{"paused":true}}').returncode == 0  # fmt: skip


def test_the_operator_works_with_exactly_the_rights_of_the_chart(
    installer: Helm, cluster: ApiServer, tmp_path: Path
) -> None:
    world = World(cluster, tmp_path)
    try:
        release = ("tickmesh", str(CHART), "--namespace", world.namespace, "--set", "crds.enabled=false")
        installer.ok("install", *release)
        started = as_service_account(world, "tickmesh-operator")
        world.operator(**started)
        world.apply(account(), strategy(mode="Live", account="main"), breaker("rest", "VenueREST"))
        deployment = eventually(lambda: world.get("deployment", "strategy-mm"), what="the Deployment")
        container = deployment["spec"]["template"]["spec"]["containers"][0]
        assert container["image"] == "tickmesh:0.1.0"
        assert container["envFrom"] == [
            {"configMapRef": {"name": "tickmesh-config"}},
            {"secretRef": {"name": "tickmesh-nats"}},
        ]
        for kind in ("serviceaccount", "poddisruptionbudget"):
            assert world.get(kind, "strategy-mm"), kind
        eventually(lambda: world.status("strategy", "mm").get("phase"), what="a status")
        eventually(lambda: world.status("circuitbreaker", "rest").get("state"), what="the breaker's status")
        eventually(lambda: "Created" in world.events("mm"), what="an Event")
        assert world.get("lease", "tickmesh-operator")
        name = f"{world.namespace}-tickmesh-strategies"

        def trusted() -> bool:
            hook = world.get("validatingwebhookconfiguration", name)
            return bool(hook and hook["webhooks"][0]["clientConfig"].get("caBundle"))

        eventually(trusted, what="the webhook's certificate in its configuration")
        # Drift is repaired and a deletion ends, with the same rights.
        world.kubectl("scale", "deployment", "strategy-mm", "--replicas=7")
        eventually(lambda: world.get("deployment", "strategy-mm")["spec"]["replicas"] == 1, what="repaired")  # type: ignore[index]
        world.kubectl("delete", "strategy", "mm", "--wait=false")
        # No pod and no execution runs here: somebody has to say that no order is open.
        world.put("strategies", "report.mm", {"open_orders": 0, "paused": True, "mode": "Live"})
        eventually(lambda: world.get("strategy", "mm") is None, 40, what="the finalizer lets go")
        log = (tmp_path / "operator-0.log").read_text(errors="replace")
        assert "forbidden" not in log.lower() and "Not enough permissions" not in log, log[-3000:]
        # An upgrade leaves the operator's certificate in place.
        installer.ok("upgrade", *release)
        assert trusted()
    finally:
        world.close()


def test_the_operator_may_do_nothing_else(installer: Helm, cluster: ApiServer, namespace: str) -> None:
    installer.ok("install", "tickmesh", str(CHART), "--namespace", namespace, "--set", "crds.enabled=false")
    me = f"--as=system:serviceaccount:{namespace}:tickmesh-operator"

    def may(*what: str) -> bool:
        return cluster.kubectl("auth", "can-i", *what, me).stdout.strip() == "yes"

    assert may("patch", "deployments.apps", "-n", namespace)
    assert may("get", "secret/tickmesh-webhook", "-n", namespace)
    for what in (
        ("get", "secret/tickmesh-nats", "-n", namespace),
        ("list", "secrets", "-n", namespace),
        ("delete", "deployments.apps", "-n", "default"),
        ("delete", "serviceaccounts", "-n", namespace),
        ("delete", "strategies.tickmesh.io", "-n", namespace),
        ("create", "pods", "-n", namespace),
        ("create", "roles.rbac.authorization.k8s.io", "-n", namespace),
        ("update", "lease/another", "-n", namespace),
        ("get", "deployments.apps", "-n", "default"),
        ("patch", "strategies.tickmesh.io", "-n", "default"),
        ("create", "validatingwebhookconfigurations.admissionregistration.k8s.io"),
        ("patch", "validatingwebhookconfiguration/another"),
        ("delete", "customresourcedefinitions.apiextensions.k8s.io"),
    ):
        assert not may(*what), what
