"""What should exist for one Strategy: a function of the resource and the installation, nothing else.

In: a Strategy as the API server holds it, an Installation. Out: complete manifests, the same for the same input, so
that applying them again changes nothing. Only what must roll the pods is in the pod template: code, image, resources,
placement. Parameters, limits, mode and pause reach the pods through the ``strategies`` bucket.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

import msgspec

Manifest = dict[str, Any]

MANAGED_BY = "tickmesh-operator"
FINALIZER = "tickmesh.io/orders-cancelled"
STRATEGY_LABEL = "tickmesh.io/strategy"
_ADMIN_PORT = 8080
_PLUGIN_DIR = "/etc/tickmesh/plugin"
_CREDENTIALS_DIR = "/etc/tickmesh/nats"


class Installation(msgspec.Struct, frozen=True, kw_only=True):
    """What the chart told the operator about this installation; the same for every Strategy of the namespace."""

    image: str
    namespace: str
    config_map: str = "tickmesh-config"
    config_checksum: str = ""
    """Of what the ConfigMap holds: pods read it once, so that another one rolls them."""
    secret: str = ""
    """Its keys become environment; a token of NATS, for example."""
    credentials_secret: str = ""
    credentials_key: str = "nats.creds"
    """The .creds file of NATS, mounted where ``nats.credentials_file`` of the ConfigMap says it is."""
    image_pull_policy: str = "IfNotPresent"
    image_pull_secrets: tuple[str, ...] = ()
    priority_class: str = ""
    grace_s: int = 45
    symbols: tuple[str, ...] = ()
    requests: dict[str, str] = msgspec.field(default_factory=lambda: {"cpu": "250m", "memory": "128Mi"})
    limits: dict[str, str] = msgspec.field(default_factory=lambda: {"memory": "256Mi"})
    node_selector: dict[str, str] = msgspec.field(default_factory=dict)
    tolerations: tuple[dict[str, Any], ...] = ()


def labels(name: str) -> dict[str, str]:
    """Labels of everything that belongs to Strategy ``name``."""
    return {
        "app.kubernetes.io/name": "tickmesh-strategy",
        "app.kubernetes.io/instance": name,
        "app.kubernetes.io/part-of": "tickmesh",
        "app.kubernetes.io/managed-by": MANAGED_BY,
        STRATEGY_LABEL: name,
    }


def owner(strategy: Manifest) -> Manifest:
    """The reference that lets Kubernetes collect what the Strategy owned."""
    return {
        "apiVersion": strategy["apiVersion"],
        "kind": strategy["kind"],
        "name": strategy["metadata"]["name"],
        "uid": strategy["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }


def objects(strategy: Manifest, installation: Installation, plugin_source: str = "") -> list[Manifest]:
    """Everything that should exist: service account, disruption budget, one Deployment per shard.

    Args:
        plugin_source: text of the plugin's ConfigMap key; another text rolls the pods. Empty without one.
    """
    name = strategy["metadata"]["name"]
    common = {"namespace": installation.namespace, "labels": labels(name), "ownerReferences": [owner(strategy)]}
    account = {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": f"strategy-{name}", **common},
        "automountServiceAccountToken": False,
    }
    budget = {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": f"strategy-{name}", **common},
        "spec": {
            "maxUnavailable": 1,
            "unhealthyPodEvictionPolicy": "AlwaysAllow",  # a pod that is not ready protects nothing
            "selector": {"matchLabels": {STRATEGY_LABEL: name}},
        },
    }
    shards = strategy["spec"].get("shards", 1)
    deployments = [_deployment(strategy, installation, common, shard, plugin_source) for shard in range(shards)]
    return [account, budget, *deployments]


def deployment_names(strategy: Manifest) -> list[str]:
    """Names of the Deployments, by shard."""
    name, shards = strategy["metadata"]["name"], strategy["spec"].get("shards", 1)
    return [f"strategy-{name}" if shards == 1 else f"strategy-{name}-{i}" for i in range(shards)]


def hot_document(strategy: Manifest) -> bytes:
    """The value of ``spec.<name>`` in the ``strategies`` bucket: what pods follow without a restart.

    The same bytes for the same input, so that an unchanged resource is not written again.
    """
    meta = strategy["metadata"]
    spec = {k: v for k, v in strategy["spec"].items() if k not in ("replicas", "resources", "placement", "image")}
    if meta.get("deletionTimestamp"):
        spec["paused"] = True
    if "configMap" in spec["plugin"]:
        spec["plugin"] = {"file": f"{_PLUGIN_DIR}/{spec['plugin']['configMap'].get('key', 'strategy.py')}"}
    document = {
        "apiVersion": strategy["apiVersion"],
        "kind": strategy["kind"],
        "metadata": {"name": meta["name"], "generation": meta.get("generation", 0), "uid": meta["uid"]},
        "spec": spec,
    }
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


def _deployment(
    strategy: Manifest, installation: Installation, common: Manifest, shard: int, plugin_source: str
) -> Manifest:
    meta, spec = strategy["metadata"], strategy["spec"]
    pod_labels = {**labels(meta["name"]), "tickmesh.io/shard": str(shard)}
    selector = {STRATEGY_LABEL: meta["name"], "tickmesh.io/shard": str(shard)}
    annotations = {
        "prometheus.io/scrape": "true",
        "prometheus.io/port": str(_ADMIN_PORT),
        "prometheus.io/path": "/metrics",
    }
    if installation.config_checksum:
        annotations["checksum/config"] = installation.config_checksum
    if plugin_source:
        annotations["tickmesh.io/plugin-sha256"] = hashlib.sha256(plugin_source.encode()).hexdigest()
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": deployment_names(strategy)[shard], **common},
        "spec": {
            "replicas": spec.get("replicas", 1),
            "revisionHistoryLimit": 3,
            "progressDeadlineSeconds": 300,
            # The new pod is warm and ready before the old one is told to hand over.
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
            "selector": {"matchLabels": selector},
            "template": {
                "metadata": {"labels": pod_labels, "annotations": annotations},
                "spec": _pod(strategy, installation, selector, shard),
            },
        },
    }


def _pod(strategy: Manifest, installation: Installation, selector: Manifest, shard: int) -> Manifest:
    meta, spec = strategy["metadata"], strategy["spec"]
    placement = spec.get("placement", {})
    shared_memory = placement.get("sharedMemory", False)
    volumes: list[Manifest] = [{"name": "tmp", "emptyDir": {"sizeLimit": "64Mi"}}]
    mounts: list[Manifest] = [{"name": "tmp", "mountPath": "/tmp"}]
    source = spec["plugin"].get("configMap")
    if source:
        key = source.get("key", "strategy.py")
        volumes.append({"name": "plugin", "configMap": {"name": source["name"], "items": [{"key": key, "path": key}]}})
        mounts.append({"name": "plugin", "mountPath": _PLUGIN_DIR, "readOnly": True})
    if installation.credentials_secret:
        items = [{"key": installation.credentials_key, "path": "nats.creds"}]
        secret = {"secretName": installation.credentials_secret, "defaultMode": 0o440, "items": items}
        volumes.append({"name": "nats-credentials", "secret": secret})
        mounts.append({"name": "nats-credentials", "mountPath": _CREDENTIALS_DIR, "readOnly": True})
    if shared_memory:
        volumes.append({"name": "shm", "hostPath": {"path": "/dev/shm", "type": "Directory"}})
        mounts.append({"name": "shm", "mountPath": "/dev/shm"})
    pod: Manifest = {
        "serviceAccountName": f"strategy-{meta['name']}",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": installation.grace_s,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 65532,
            "runAsGroup": 65532,
            "fsGroup": 65532,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [_container(strategy, installation, mounts, shard)],
        "volumes": volumes,
        "topologySpreadConstraints": [
            {
                "maxSkew": 1,
                "topologyKey": "kubernetes.io/hostname",
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": selector},
            }
        ],
    }
    if shared_memory:
        # The ring is memory of one node: the pod has to be where the feed of its venue is.
        feed = {"matchLabels": {"app.kubernetes.io/component": "feed", "app.kubernetes.io/part-of": "tickmesh"}}
        term = {"topologyKey": "kubernetes.io/hostname", "labelSelector": feed}
        pod["affinity"] = {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}
        del pod["topologySpreadConstraints"]
    if selected := {**installation.node_selector, **placement.get("nodeSelector", {})}:
        pod["nodeSelector"] = selected
    if tolerations := [*installation.tolerations, *placement.get("tolerations", [])]:
        pod["tolerations"] = tolerations
    if priority := placement.get("priorityClassName") or installation.priority_class:
        pod["priorityClassName"] = priority
    if installation.image_pull_secrets:
        pod["imagePullSecrets"] = [{"name": secret} for secret in installation.image_pull_secrets]
    return pod


def _container(strategy: Manifest, installation: Installation, mounts: list[Manifest], shard: int) -> Manifest:
    meta, spec = strategy["metadata"], strategy["spec"]
    env = {
        "TICKMESH_STRATEGY__RESOURCES": f"bucket:{meta['name']}",
        "TICKMESH_STRATEGY__SHARD": str(shard),
        "TICKMESH_STRATEGY__ADMIN_PORT": str(_ADMIN_PORT),
        "TICKMESH_OBSERVE__HOST": "0.0.0.0",
        "TICKMESH_LOCAL__TRANSPORT": "shm" if spec.get("placement", {}).get("sharedMemory") else "nats",
    }
    if spec.get("account"):
        env["TICKMESH_VENUE__ACCOUNT"] = spec["account"]
    if spec.get("venue"):
        env["TICKMESH_VENUE__NAME"] = spec["venue"]
    sources: list[Manifest] = [{"configMapRef": {"name": installation.config_map}}]
    if installation.secret:
        sources.append({"secretRef": {"name": installation.secret}})
    resources = spec.get("resources", {})
    own_name = {"name": "TICKMESH_OBSERVE__INSTANCE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}
    return {
        "name": "strategy",
        "image": spec.get("image") or installation.image,
        "imagePullPolicy": installation.image_pull_policy,
        "args": ["run", "strategy"],
        "env": [own_name, *({"name": k, "value": v} for k, v in env.items())],
        "envFrom": sources,
        "ports": [{"name": "admin", "containerPort": _ADMIN_PORT}],
        "startupProbe": _probe("/startupz", period=2, failures=60),
        "readinessProbe": _probe("/readyz", period=2, failures=2),
        "livenessProbe": _probe("/healthz", period=10, failures=3),
        "resources": {
            "requests": {**installation.requests, **resources.get("requests", {})},
            "limits": {**installation.limits, **resources.get("limits", {})},
        },
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": mounts,
    }


def _probe(path: str, *, period: int, failures: int) -> Manifest:
    return {
        "httpGet": {"path": path, "port": "admin"},
        "periodSeconds": period,
        "timeoutSeconds": 2,
        "failureThreshold": failures,
    }
