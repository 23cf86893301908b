"""The operator's environment in a release, and a kubeconfig with nothing but its ServiceAccount's token."""

from __future__ import annotations

import os

import yaml
from apiserver import free_port
from chart import pod_specs
from world import World


def as_service_account(world: World, name: str) -> dict[str, str]:
    """The operator's environment as the chart gives it, but for addresses, with the ServiceAccount's own token."""
    token = world.kubectl("create", "token", name, "--duration=1h").stdout.strip()
    assert token
    config = yaml.safe_load(world.api.kubeconfig.read_text())
    config["users"] = [{"name": "operator", "user": {"token": token}}]
    config["contexts"][0]["context"] |= {"user": "operator", "namespace": world.namespace}
    kubeconfig = world.home / "operator.kubeconfig"
    kubeconfig.write_text(yaml.safe_dump(config))
    installation = world.get("configmap", "tickmesh-installation")
    deployment = world.get("deployment", "tickmesh-operator")
    assert installation is not None and deployment is not None
    (world.home / "chart-installation.json").write_text(installation["data"]["installation.json"])
    ((_, template),) = pod_specs([deployment])
    given = {e["name"]: e["value"] for e in template["spec"]["containers"][0]["env"] if "value" in e}
    return {
        **{k: v for k, v in os.environ.items() if k == "PATH"},
        **given,
        "KUBECONFIG": str(kubeconfig),
        "TICKMESH_OPERATOR__INSTALLATION_FILE": str(world.home / "chart-installation.json"),
        "TICKMESH_OPERATOR__WEBHOOK_PORT": str(free_port()),
    }
