"""kopf's decorators, and nothing else: every event goes to ``tickmesh.services.operator``, which decides.

Only ``on.event`` is used, so kopf keeps no progress in annotations, sets no finalizer of its own and retries nothing:
that is the work queue's business. Peering is off; a coordination Lease elects the one that acts.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import tempfile
from pathlib import Path
from typing import Any

import kopf

from tickmesh.bus.nats import NatsBus
from tickmesh.observe.admin import AdminServer
from tickmesh.observe.clock import SystemClock
from tickmesh.observe.health import Health
from tickmesh.observe.metrics import Metrics
from tickmesh.services.operator import webhook
from tickmesh.services.operator.cluster import Cluster
from tickmesh.services.operator.operator import Operator, read_installation
from tickmesh.settings import Settings, load

log = logging.getLogger("tickmesh.operator")

GROUP = "tickmesh.io"
MANAGED = {"app.kubernetes.io/managed-by": "tickmesh-operator"}


class Memo(kopf.Memo):
    """What handlers share."""

    operator: Operator
    tasks: list[asyncio.Task[None]]
    stack: contextlib.AsyncExitStack


@kopf.on.startup()
async def start(settings: kopf.OperatorSettings, memo: Memo, **_: Any) -> None:
    """Connect, elect, and set what kopf must not do."""
    ours = load()
    keys = ours.operator
    settings.posting.enabled = False
    settings.peering.standalone = True
    settings.watching.server_timeout = keys.watch_server_timeout_s
    settings.watching.client_timeout = keys.watch_client_timeout_s
    settings.watching.connect_timeout = 10
    settings.networking.request_timeout = 15
    memo.stack = contextlib.AsyncExitStack()
    cluster = Cluster.connect(keys.namespace)
    memo.stack.push_async_callback(cluster.close)
    bus = await NatsBus.connect(
        ours.nats.url,
        name="tickmesh-operator",
        user_credentials=ours.nats.credentials_file or None,
        token=ours.nats.token.get_secret_value() or None,
        connect_timeout_s=ours.nats.connect_timeout_s,
        replicas=ours.nats.replicas,
    )
    memo.stack.push_async_callback(bus.close)
    metrics, health = Metrics("operator"), Health()
    admin = AdminServer(ours.observe.host, keys.admin_port, metrics, health)
    await admin.start()
    memo.stack.push_async_callback(admin.stop)
    memo.operator = Operator(cluster, bus, SystemClock(), metrics, health, keys, read_installation(keys), _identity())
    memo.tasks = [asyncio.create_task(_work(memo.operator), name="operator")]
    if keys.webhook_port:
        memo.tasks.append(await _serve_webhook(settings, ours, cluster, memo.stack))
    health.set_started()


async def _work(operator: Operator) -> None:
    try:
        await operator.run()
    except BaseException:
        # A replica that does nothing while it looks alive is the worst kind: end the process, Kubernetes restarts it.
        log.exception("the operator's work ended; leaving")
        os._exit(1)


def _identity() -> str:
    return f"{os.environ.get('POD_NAME') or socket.gethostname()}-{os.getpid()}"


async def _serve_webhook(
    settings: kopf.OperatorSettings, ours: Settings, cluster: Cluster, stack: contextlib.AsyncExitStack
) -> asyncio.Task[None]:
    """Let kopf serve the webhook; returns the task that keeps its certificate."""
    keys = ours.operator
    host = keys.webhook_host or "127.0.0.1"
    certificate = await webhook.ensure(cluster, keys.webhook_secret, [host])
    home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tickmesh-webhook-")))
    webhook.store(certificate, home)
    address = "127.0.0.1" if host == "127.0.0.1" else "0.0.0.0"
    settings.admission.server = kopf.WebhookServer(
        addr=address, port=keys.webhook_port, host=host, certfile=home / "tls.crt", pkeyfile=home / "tls.key",
        cafile=home / "ca.crt", file_check_interval=2.0,
    )  # fmt: skip
    settings.admission.managed = None if keys.webhook_configuration else "strategies.tickmesh.io"
    keeping = webhook.keep(cluster, keys.webhook_secret, [host], keys.webhook_configuration, certificate, home)
    return asyncio.create_task(keeping, name="webhook-certificate")


@kopf.on.cleanup()
async def stop(memo: Memo, **_: Any) -> None:
    """Give the leadership back and disconnect."""
    for task in memo.tasks:
        task.cancel()
    await asyncio.gather(*memo.tasks, return_exceptions=True)
    await memo.stack.aclose()


@kopf.on.event(GROUP, "v1alpha1", "strategies")
async def strategy(type: str | None, body: kopf.Body, memo: Memo, **_: Any) -> None:
    memo.operator.saw("Strategy", type, plain(body))


@kopf.on.event(GROUP, "v1alpha1", "circuitbreakers")
async def circuit_breaker(type: str | None, body: kopf.Body, memo: Memo, **_: Any) -> None:
    memo.operator.saw("CircuitBreaker", type, plain(body))


@kopf.on.event(GROUP, "v1alpha1", "tradingaccounts")
async def trading_account(type: str | None, body: kopf.Body, memo: Memo, **_: Any) -> None:
    memo.operator.saw("TradingAccount", type, plain(body))


@kopf.on.event("apps", "v1", "deployments", labels=MANAGED)
async def deployment(type: str | None, body: kopf.Body, memo: Memo, **_: Any) -> None:
    memo.operator.saw("Deployment", type, plain(body))


@kopf.on.event("v1", "configmaps", labels={"tickmesh.io/plugin": kopf.PRESENT})
async def config_map(type: str | None, body: kopf.Body, memo: Memo, **_: Any) -> None:
    memo.operator.saw("ConfigMap", type, plain(body))


def plain(body: kopf.Body) -> dict[str, Any]:
    return dict(body)
