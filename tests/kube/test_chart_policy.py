"""What the rendered chart promises whoever guards the cluster: restricted pods, no tokens, pinned images."""

from __future__ import annotations

import re
from typing import Any

import pytest
from chart import VALUES, Helm, examples, pod_specs, program

Manifest = dict[str, Any]


@pytest.fixture(scope="module")
def helm() -> Helm:
    found = program()
    if found is None:
        pytest.skip("no helm here: make helm builds one (needs a Go toolchain)")
    return Helm(found)


@pytest.fixture(params=VALUES)
def manifests(helm: Helm, request: pytest.FixtureRequest) -> list[Manifest]:
    """The chart's, and what its operator makes of Strategies: both have to keep the promises."""
    made = helm.render(*VALUES[request.param])
    return [*made, *examples(made)]


def kind(manifests: list[Manifest], *kinds: str) -> list[Manifest]:
    return [m for m in manifests if m["kind"] in kinds]


def test_every_pod_is_restricted_but_for_the_ring(helm: Helm, manifests: list[Manifest]) -> None:
    for name, pod in pod_specs(manifests):
        spec = pod["spec"]
        context = spec["securityContext"]
        assert context["runAsNonRoot"] and context["runAsUser"] > 0, name
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert not {"hostPID", "hostIPC", "hostNetwork"} & set(spec), name
        for container in [*spec["containers"], *spec.get("initContainers", [])]:
            security = container["securityContext"]
            assert security["allowPrivilegeEscalation"] is False, name
            assert security["readOnlyRootFilesystem"] is True, name
            assert security["capabilities"] == {"drop": ["ALL"]}, name
        allowed = {"emptyDir", "configMap", "secret", "persistentVolumeClaim", "projected", "downwardAPI"}
        for volume in spec.get("volumes", []):
            (source,) = set(volume) - {"name"}
            ring = volume == {"name": "shm", "hostPath": {"path": "/dev/shm", "type": "Directory"}}
            assert source in allowed or ring, (name, volume)
            if ring:
                labels = pod["metadata"]["labels"]
                assert labels.get("app.kubernetes.io/component") in ("feed", "execution") or _ring_asked(labels), name


def _ring_asked(labels: dict[str, str]) -> bool:
    return labels.get("tickmesh.io/strategy") == "momentum"  # chart.examples lets this one ask


def test_the_ring_is_there_only_when_asked_for(helm: Helm) -> None:
    def rings(*values: str) -> list[str]:
        made = helm.render(*values)
        return [name for name, pod in pod_specs([*made, *examples(made)]) if "hostPath" in str(pod)]

    assert rings() == []
    assert rings(*VALUES["production"]) == []
    assert rings(*VALUES["shared-memory"]) == [
        "Deployment/tickmesh-execution-main", "Deployment/tickmesh-feed", "Deployment/strategy-momentum"
    ]  # fmt: skip


def test_a_feed_that_replaces_another_one_comes_to_the_ring_of_that_node(helm: Helm) -> None:
    made = helm.render(*VALUES["shared-memory"])
    for deployment in kind(made, "Deployment"):
        pod = deployment["spec"]["template"]
        if pod["metadata"]["labels"]["app.kubernetes.io/component"] in ("feed", "execution"):
            (term,) = pod["spec"]["affinity"]["podAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
            wanted = term["labelSelector"]["matchLabels"]
            assert wanted["app.kubernetes.io/component"] == "feed" and term["topologyKey"] == "kubernetes.io/hostname"


def test_only_the_operator_has_a_token(manifests: list[Manifest]) -> None:
    accounts = {m["metadata"]["name"]: m for m in kind(manifests, "ServiceAccount")}
    assert all(m["automountServiceAccountToken"] is False for m in accounts.values())
    with_token = []
    for name, pod in pod_specs(manifests):
        assert pod["spec"]["serviceAccountName"] in accounts, f"{name} runs as default or as somebody unknown"
        if pod["spec"]["automountServiceAccountToken"] is not False:
            with_token.append(name)
    assert with_token == ["Deployment/tickmesh-operator"]


def test_rights_have_no_wildcards_and_secrets_are_named(manifests: list[Manifest]) -> None:
    rules = [(m["kind"], rule) for m in kind(manifests, "Role", "ClusterRole") for rule in m["rules"]]
    assert rules
    for where, rule in rules:
        for field in ("apiGroups", "resources", "verbs"):
            assert not any("*" in value for value in rule[field]), rule
        assert "deletecollection" not in rule["verbs"], rule
        if "delete" in rule["verbs"]:  # pods of another sharding go before the new ones come
            assert (where, rule["resources"]) == ("Role", ["deployments"]), rule
        assert not {"escalate", "bind", "impersonate"} & set(rule["verbs"]), rule
        if "secrets" in rule["resources"] and rule["verbs"] != ["create"]:
            assert rule["resourceNames"] == ["tickmesh-webhook"], rule
        if where == "ClusterRole" and not {"list", "watch"} >= set(rule["verbs"]):
            assert rule.get("resourceNames"), f"a cluster-wide right without a name: {rule}"
    subjects = [s for m in kind(manifests, "RoleBinding", "ClusterRoleBinding") for s in m["subjects"]]
    assert {s["name"] for s in subjects} == {"tickmesh-operator"}


def test_every_image_is_pinned_and_every_container_bounded(manifests: list[Manifest]) -> None:
    for name, pod in pod_specs(manifests):
        for container in pod["spec"]["containers"]:
            assert re.search(r"(:[\w.-]*\d[\w.-]*|@sha256:[0-9a-f]{64})$", container["image"]), (
                name,
                container["image"],
            )
            assert not container["image"].endswith(":latest")
            for bound in ("requests", "limits"):
                assert set(container["resources"][bound]) == {"cpu", "memory"}, (name, bound)


def test_every_long_lived_pod_has_three_probes_and_time_to_drain(manifests: list[Manifest]) -> None:
    for deployment in kind(manifests, "Deployment"):
        spec = deployment["spec"]["template"]["spec"]
        paths = [spec["containers"][0][probe]["httpGet"]["path"] for probe in
                 ("startupProbe", "readinessProbe", "livenessProbe")]  # fmt: skip
        assert paths == ["/startupz", "/readyz", "/healthz"], deployment["metadata"]["name"]
        assert spec["terminationGracePeriodSeconds"] >= 20
        assert spec["enableServiceLinks"] is False, "TICKMESH_*_PORT would be read as an unknown configuration key"
        assert deployment["spec"]["strategy"]["type"] == "RollingUpdate"
    names = {m["metadata"]["name"] for m in kind(manifests, "Deployment")}
    budgets = {m["metadata"]["name"]: m["spec"] for m in kind(manifests, "PodDisruptionBudget")}
    assert budgets.keys() == names
    assert all(b["maxUnavailable"] == 1 and b["unhealthyPodEvictionPolicy"] == "AlwaysAllow" for b in budgets.values())


def test_every_pod_is_denied_by_default_and_selected_by_what_opens(manifests: list[Manifest]) -> None:
    policies = {m["metadata"]["name"]: m["spec"] for m in kind(manifests, "NetworkPolicy")}
    deny = policies["tickmesh-default-deny"]
    assert deny["policyTypes"] == ["Ingress", "Egress"] and "ingress" not in deny
    assert [port["port"] for rule in deny["egress"] for port in rule["ports"]] == [53, 53]
    for name, pod in pod_specs(manifests):
        labels = pod["metadata"]["labels"]
        if labels["app.kubernetes.io/part-of"] == "tickmesh":
            assert _selects(deny["podSelector"], labels), name
        else:
            assert any(_selects(p["podSelector"], labels) and "ingress" in p for p in policies.values()), name
    for name, policy in policies.items():
        for rule in [*policy.get("ingress", []), *policy.get("egress", [])]:
            assert rule.get("ports"), f"{name} opens every port"
            assert rule.get("from") or rule.get("to"), f"{name} opens to everybody"


def _selects(selector: Manifest, labels: dict[str, str]) -> bool:
    for key, value in selector.get("matchLabels", {}).items():
        if labels.get(key) != value:
            return False
    for expression in selector.get("matchExpressions", []):
        inside = labels.get(expression["key"]) in expression["values"]
        if inside != (expression["operator"] == "In"):
            return False
    return True


def test_production_guarantees_whole_cores_to_the_data_plane(helm: Helm) -> None:
    by_name = {m["metadata"]["name"]: m for m in helm.render(*VALUES["production"]) if m["kind"] == "Deployment"}
    for name in ("tickmesh-feed", "tickmesh-execution-main"):
        spec = by_name[name]["spec"]["template"]["spec"]
        resources = spec["containers"][0]["resources"]
        assert resources["requests"] == resources["limits"], "class Guaranteed"
        assert resources["limits"]["cpu"].isdigit(), "whole CPUs"
        assert spec["nodeSelector"] == {"tickmesh.io/data-plane": "true"}
        assert spec["priorityClassName"] == "tickmesh-data-plane"
        assert spec["tolerations"][0]["key"] == "tickmesh.io/data-plane"
    affinity = by_name["tickmesh-execution-main"]["spec"]["template"]["spec"]["affinity"]
    assert "feed" in str(affinity["podAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"])


def test_on_the_hosts_network_what_shares_a_node_shares_no_port_and_no_roll_out_waits_for_one(helm: Helm) -> None:
    two = [
        "--set",
        "accounts[0].name=main,accounts[0].existingSecret=a,accounts[1].name=other,accounts[1].existingSecret=b",
    ]
    made = helm.render(*VALUES["production"], "--set", "dataPlane.hostNetwork=true", *two)
    ports: dict[str, int] = {}
    for deployment in kind(made, "Deployment"):
        pod, name = deployment["spec"]["template"], deployment["metadata"]["name"]
        component = pod["metadata"]["labels"]["app.kubernetes.io/component"]
        (container,) = pod["spec"]["containers"]
        if not pod["spec"].get("hostNetwork"):
            assert component not in ("feed", "execution"), name
            continue
        assert component in ("feed", "execution"), name
        assert deployment["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 0, "maxUnavailable": 1}, name
        assert deployment["spec"]["replicas"] == 2, "one hands over to the other"
        (port,) = (p["containerPort"] for p in container["ports"])
        env = {e["name"]: e.get("value") for e in container["env"]}
        assert env[f"TICKMESH_{component.upper()}__ADMIN_PORT"] == str(port), name
        assert pod["metadata"]["annotations"]["prometheus.io/port"] == str(port), name
        ports[name] = port
    assert len(ports) == 3 and len(set(ports.values())) == 3, ports


def test_credentials_of_nats_are_a_file_in_every_pod_that_talks_to_it(helm: Helm) -> None:
    made = helm.render(*VALUES["credentials"])
    (path,) = (m["data"]["TICKMESH_NATS__CREDENTIALS_FILE"] for m in kind(made, "ConfigMap") if
               "TICKMESH_NATS__URL" in m["data"])  # fmt: skip
    talking = 0
    for name, pod in pod_specs([*made, *examples(made)]):
        (container,) = pod["spec"]["containers"]
        if not any("configMapRef" in s for s in container.get("envFrom", [])) or "simvenue" in name:
            assert "desk-creds" not in str(pod), f"{name} has no business with NATS"
            continue
        talking += 1
        (volume,) = (v["secret"] for v in pod["spec"]["volumes"] if v["name"] == "nats-credentials")
        (mount,) = (m for m in container["volumeMounts"] if m["name"] == "nats-credentials")
        assert volume["secretName"] == "desk-creds" and volume["defaultMode"] == 0o440, name
        (item,) = volume["items"]
        assert item["key"] == "trader.creds" and mount["readOnly"], name
        assert f"{mount['mountPath']}/{item['path']}" == path, name
    assert talking == 8 + 5, "services with the layout's Job, and the example strategies"
    assert "nats-credentials" not in str(helm.render()), "only when asked for"


def test_whoever_has_a_successor_hands_over_and_keeps_its_halts_on_a_writable_disk(manifests: list[Manifest]) -> None:
    (config,) = (m["data"] for m in kind(manifests, "ConfigMap") if "TICKMESH_NATS__URL" in m["data"])
    assert config["TICKMESH_EXECUTION__DRAIN"] == "hand_over"
    for name, pod in pod_specs(manifests):
        if pod["metadata"]["labels"].get("app.kubernetes.io/component") != "execution":
            continue
        mounts = {m["mountPath"]: m for m in pod["spec"]["containers"][0]["volumeMounts"]}
        volumes = {v["name"]: v for v in pod["spec"]["volumes"]}
        for folder in (config["TICKMESH_EXECUTION__STATE_DIR"], "/tmp"):
            assert not mounts[folder].get("readOnly"), name
            assert {"emptyDir", "persistentVolumeClaim"} & set(volumes[mounts[folder]["name"]]), name
        assert config["TICKMESH_LOCAL__DATA_DIR"].startswith("/tmp/"), name


def test_what_the_lag_scales_is_what_the_recorder_consumes(helm: Helm) -> None:
    from tickmesh.services.recorder import LANES

    durables = {(lane.stream, lane.durable) for lane in LANES}
    for values in (VALUES["autoscaled"], ["--set", "recorder.autoscaling.enabled=true"]):
        made = helm.render(*values)
        (scaled,) = kind(made, "ScaledObject")
        target = scaled["spec"]["scaleTargetRef"]["name"]
        (deployment,) = (d for d in kind(made, "Deployment") if d["metadata"]["name"] == target)
        assert "replicas" not in deployment["spec"], "an upgrade would undo what the scaler has decided"
        for trigger in scaled["spec"]["triggers"]:
            asked = trigger["metadata"]
            assert (asked["stream"], asked["consumer"]) in durables
            assert re.fullmatch(r"[a-z.-]+\.(svc|nats\.svc):8222", asked["natsServerMonitoringEndpoint"])
            assert all(isinstance(value, str) for value in asked.values()), "KEDA takes text only"


def test_environment_is_made_of_keys_that_exist(manifests: list[Manifest]) -> None:
    from tickmesh.settings.load import OTHER_VARIABLES, keys, variable

    known = {variable(path) for path, _ in keys()} | OTHER_VARIABLES
    used = [key for m in kind(manifests, "ConfigMap") for key in m["data"] if key.startswith("TICKMESH_")]
    used += [e["name"] for _, pod in pod_specs(manifests) for c in pod["spec"]["containers"]
             for e in c.get("env", []) if e["name"].startswith("TICKMESH_")]  # fmt: skip
    assert len(used) > 30
    assert set(used) <= known, sorted(set(used) - known)
