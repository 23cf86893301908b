"""The admission webhook as the API server calls it, over TLS with the operator's own certificate."""

from __future__ import annotations

import base64
import datetime
import json
import ssl
from collections.abc import Iterator
from importlib.metadata import entry_points

import pytest
import yaml
from apiserver import ApiServer, free_port
from world import World, account, eventually, strategy

from tickmesh.services.operator import webhook


@pytest.fixture(autouse=True)
def local(api: ApiServer) -> Iterator[None]:
    if not api.processes:
        pytest.skip("the API server of KUBECONFIG cannot call a webhook on this machine's loopback")
    yield
    api.kubectl("delete", "validatingwebhookconfiguration", "strategies.tickmesh.io", "--ignore-not-found")


def test_live_without_its_account_is_refused_with_field_and_reason(world: World) -> None:
    world.operator(TICKMESH_OPERATOR__WEBHOOK_PORT=str(free_port()))
    live = yaml.safe_dump(strategy("live", mode="Live", account="main"))

    def refused() -> str:
        done = world.kubectl("apply", "-f", "-", "--dry-run=server", stdin=live)
        return done.stderr if done.returncode else ""

    message = eventually(refused, 40, "the webhook refuses")
    assert "spec.account: mode Live needs the TradingAccount 'main', which is not there (there are: none)" in message
    world.apply(account())
    eventually(lambda: not refused(), what="admitted with its account")
    if not entry_points(group="tickmesh.strategies"):
        return  # run from a checkout that was not installed: the operator knows no plugins then
    unknown = yaml.safe_dump(strategy("x", plugin={"entryPoint": "moon-shot"}))
    done = world.kubectl("apply", "-f", "-", "--dry-run=server", stdin=unknown)
    assert "spec.plugin.entryPoint: 'moon-shot' is not in this image; there are " in done.stderr
    secret = world.get("secret", "tickmesh-webhook")
    assert secret is not None
    assert set(secret["data"]) == {"tls.crt", "tls.key", "ca.crt"}


def test_an_account_and_its_strategies_come_in_one_command(world: World) -> None:
    """The watch brings the account a moment after the webhook is asked about what trades it."""
    world.operator(TICKMESH_OPERATOR__WEBHOOK_PORT=str(free_port()))
    live = yaml.safe_dump(strategy("live", mode="Live", account="main"))

    def refused() -> bool:
        return world.kubectl("apply", "-f", "-", "--dry-run=server", stdin=live).returncode != 0

    eventually(refused, 40, "the webhook refuses")
    for turn in range(5):
        world.apply(account(f"a{turn}"), strategy(f"s{turn}", mode="Live", account=f"a{turn}"))


def test_a_certificate_that_ends_soon_is_renewed_while_the_webhook_serves(world: World) -> None:
    """Two months are left of it, and no restart comes: each replica serves the new one, and no request is lost."""
    ports = [free_port(), free_port()]
    world.operator(TICKMESH_OPERATOR__WEBHOOK_PORT=str(ports[0]))
    live = yaml.safe_dump(strategy("live", mode="Live", account="main"))

    def refused() -> bool:
        return world.kubectl("apply", "-f", "-", "--dry-run=server", stdin=live).returncode != 0

    eventually(refused, 40, "the webhook refuses")
    world.operator(TICKMESH_OPERATOR__WEBHOOK_PORT=str(ports[1]))
    began = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=300)
    old = webhook.make(["127.0.0.1"], began)
    data = {"tls.crt": base64.b64encode(old.certificate).decode(), "tls.key": base64.b64encode(old.key).decode()}
    done = world.kubectl("patch", "secret", "tickmesh-webhook", "--type=merge", "-p", json.dumps({"data": data}))
    assert done.returncode == 0, done.stderr

    def kept() -> dict[str, str]:
        found = world.get("secret", "tickmesh-webhook")
        assert found is not None
        return {key: base64.b64decode(text).decode() for key, text in found["data"].items()}

    eventually(lambda: kept()["tls.crt"] != old.certificate.decode(), 60, "renewed")
    for port in ports:
        eventually(
            lambda port=port: ssl.get_server_certificate(("127.0.0.1", port)).strip() == kept()["tls.crt"].strip(),
            60, f"the replica at {port} serves the new one",
        )  # fmt: skip
    assert kept()["ca.crt"] == kept()["tls.crt"] + old.certificate.decode(), "the former one is trusted, too"
    eventually(refused, 40, "the API server trusts it")


def test_while_the_operator_is_away_cel_alone_decides(world: World) -> None:
    process = world.operator(TICKMESH_OPERATOR__WEBHOOK_PORT=str(free_port()))
    live = yaml.safe_dump(strategy("live", mode="Live", account="main"))

    def refused() -> bool:
        return world.kubectl("apply", "-f", "-", "--dry-run=server", stdin=live).returncode != 0

    eventually(refused, 40, "the webhook refuses")
    process.kill()
    process.wait()
    world.apply(strategy("plain"))
    shapeless = yaml.safe_dump(strategy("bad", mode="Live"))
    assert "mode Live needs an account" in world.kubectl("apply", "-f", "-", stdin=shapeless).stderr
