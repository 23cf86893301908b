"""Cluster: the few calls that the operator makes to the API server, on lightkube, with bounded time.

In: manifests as plain dicts. Out: the server's answer as a plain dict. Everything is server-side apply or a merge
patch, so that a repeated call changes nothing; conflicts and refusals raise ClusterError with the server's words.
"""

from __future__ import annotations

import datetime
import hashlib
from typing import Any

import httpx2
from lightkube import AsyncClient
from lightkube.codecs import from_dict
from lightkube.core.exceptions import ApiError
from lightkube.generic_resource import create_namespaced_resource
from lightkube.resources.admissionregistration_v1 import ValidatingWebhookConfiguration
from lightkube.resources.apps_v1 import Deployment
from lightkube.resources.coordination_v1 import Lease
from lightkube.resources.core_v1 import ConfigMap, Secret
from lightkube.types import CascadeType, PatchType

from tickmesh.domain.errors import TickmeshError

Manifest = dict[str, Any]

FIELD_MANAGER = "tickmesh-operator"
_TIMEOUT = httpx2.Timeout(10.0, connect=5.0)

STRATEGY = create_namespaced_resource("tickmesh.io", "v1alpha1", "Strategy", "strategies")
BREAKER = create_namespaced_resource("tickmesh.io", "v1alpha1", "CircuitBreaker", "circuitbreakers")
ACCOUNT = create_namespaced_resource("tickmesh.io", "v1alpha1", "TradingAccount", "tradingaccounts")
_KINDS = {"Strategy": STRATEGY, "CircuitBreaker": BREAKER, "TradingAccount": ACCOUNT}


class ClusterError(TickmeshError):
    """The API server refused or did not answer; ``status`` is its code, 0 for no answer. A later try may work."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(f"API server: {detail}")
        self.status = status


class Cluster:
    """One namespace of one cluster."""

    def __init__(self, client: AsyncClient, namespace: str) -> None:
        self._client = client
        self.namespace = namespace

    @classmethod
    def connect(cls, namespace: str) -> Cluster:
        """From the pod's service account, or from KUBECONFIG."""
        return cls(AsyncClient(timeout=_TIMEOUT, field_manager=FIELD_MANAGER, namespace=namespace), namespace)

    async def apply(self, manifest: Manifest) -> None:
        """Server-side apply; fields of other managers stay, a fight over ours is won."""
        await _told(self._client.apply(from_dict(manifest), field_manager=FIELD_MANAGER, force=True))

    async def names(self, kind: str) -> set[str]:
        """Of the resources of one of our kinds, or of our Deployments. A definition that is not there is an error."""

        async def listed() -> set[str]:
            every: Any = (
                self._client.list(Deployment, labels={"app.kubernetes.io/managed-by": FIELD_MANAGER})
                if kind == "Deployment"
                else self._client.list(_KINDS[kind])
            )
            return {one.metadata.name async for one in every if one.metadata and one.metadata.name}

        found: set[str] = await _told(listed())
        return found

    async def patch(self, kind: str, name: str, patch: Manifest) -> None:
        """Merge patch of metadata or spec."""
        await _told(self._client.patch(_KINDS[kind], name, patch, patch_type=PatchType.MERGE))

    async def patch_status(self, kind: str, name: str, status: Manifest) -> None:
        """Replace the status. A resource that is gone meanwhile is no error."""
        try:
            await _told(self._client.patch(_KINDS[kind].Status, name, {"status": status}, patch_type=PatchType.MERGE))
        except ClusterError as error:
            if error.status != 404:
                raise

    async def delete_deployment(self, name: str) -> None:
        """Delete in the foreground: the object stays until its pods are gone. One that is gone is no error."""
        try:
            await _told(self._client.delete(Deployment, name, cascade=CascadeType.FOREGROUND))
        except ClusterError as error:
            if error.status != 404:
                raise

    async def config_map_key(self, name: str, key: str) -> str | None:
        """Text of one key, or None when the map or the key is not there."""
        try:
            found = await _told(self._client.get(ConfigMap, name))
        except ClusterError as error:
            if error.status == 404:
                return None
            raise
        return (found.data or {}).get(key)

    async def get_lease(self, name: str) -> Any | None:
        """The coordination Lease, or None."""
        try:
            return await _told(self._client.get(Lease, name))
        except ClusterError as error:
            if error.status == 404:
                return None
            raise

    async def write_lease(self, manifest: Manifest, *, create: bool) -> Any | None:
        """Create, or replace at its resourceVersion; None when somebody was faster."""
        try:
            call = self._client.create if create else self._client.replace
            return await _told(call(from_dict(manifest)))
        except ClusterError as error:
            if error.status in (404, 409):
                return None
            raise

    async def get_secret(self, name: str) -> Any | None:
        """A Secret, or None."""
        try:
            return await _told(self._client.get(Secret, name))
        except ClusterError as error:
            if error.status == 404:
                return None
            raise

    async def create_secret(self, manifest: Manifest) -> bool:
        """False when it is there already."""
        try:
            await _told(self._client.create(from_dict(manifest)))
            return True
        except ClusterError as error:
            if error.status == 409:
                return False
            raise

    async def trust_webhook(self, configuration: str, authority: str) -> bool:
        """Put a CA bundle (base64) into a ValidatingWebhookConfiguration; False when it was there already."""
        found = await _told(self._client.get(ValidatingWebhookConfiguration, configuration))
        hooks = found.webhooks or []
        if all(hook.clientConfig.caBundle == authority for hook in hooks):
            return False
        path = "/webhooks/{}/clientConfig/caBundle"
        patch = [{"op": "add", "path": path.format(i), "value": authority} for i in range(len(hooks))]
        kind = ValidatingWebhookConfiguration
        await _told(self._client.patch(kind, configuration, patch, patch_type=PatchType.JSON))
        return True

    async def event(self, about: Manifest, kind: str, reason: str, message: str, *, warning: bool = False) -> None:
        """A Kubernetes Event; the same words about the same generation are one Event, not a stream of them."""
        meta = about["metadata"]
        text = f"{meta['uid']}/{meta.get('generation', 0)}/{reason}/{message}"
        name = f"{meta['name'][:200]}.{hashlib.sha256(text.encode()).hexdigest()[:16]}"
        now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        manifest = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": name, "namespace": self.namespace},
            "involvedObject": {
                "apiVersion": about["apiVersion"],
                "kind": kind,
                "name": meta["name"],
                "namespace": self.namespace,
                "uid": meta["uid"],
            },
            "type": "Warning" if warning else "Normal",
            "reason": reason,
            "message": message[:1000],
            "source": {"component": FIELD_MANAGER},
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        }
        try:
            await _told(self._client.create(from_dict(manifest)))
        except ClusterError as error:
            if error.status != 409:
                raise

    async def close(self) -> None:
        await self._client.close()


async def _told(call: Any) -> Any:
    try:
        return await call
    except ApiError as error:
        raise ClusterError(error.status.code or 0, error.status.message or str(error)) from error
    except (httpx2.HTTPError, OSError) as error:
        raise ClusterError(0, f"no answer ({error or type(error).__name__})") from error
