"""The webhook's certificate: made once, kept in a Secret that all replicas share, renewed before it ends.

In: a Secret's name and the host names of the Service. Out: certificate, key and CA bundle as PEM. The bundle is what
all replicas may be serving at this moment, so that a renewal refuses nobody. It never touches another Secret than the
one it is told.
"""

from __future__ import annotations

import asyncio
import base64
import datetime
import ipaddress
import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tickmesh.services.operator.cluster import Cluster, ClusterError

log = logging.getLogger(__name__)

_LOOK_AGAIN_S = 15.0
_RETRY_S = 2.0
_LIFE = datetime.timedelta(days=365)
_RENEW_BEFORE = datetime.timedelta(days=90)


@dataclass(frozen=True, slots=True)
class Certificate:
    """PEM texts; the certificate signs itself. ``former`` is the one before, which another replica may still serve."""

    certificate: bytes
    key: bytes
    former: bytes = b""

    @property
    def authority(self) -> bytes:
        """What the API server is to trust."""
        return self.certificate + self.former

    @property
    def ends(self) -> datetime.datetime:
        return x509.load_pem_x509_certificate(self.certificate).not_valid_after_utc


def make(hosts: list[str], now: datetime.datetime) -> Certificate:
    """A self-signed server certificate for ``hosts`` (names or addresses)."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, hosts[0][:64])])
    names: list[x509.GeneralName] = []
    for host in hosts:
        try:
            names.append(x509.IPAddress(ipaddress.ip_address(host)))
        except ValueError:
            names.append(x509.DNSName(host))
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + _LIFE)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return Certificate(certificate.public_bytes(serialization.Encoding.PEM), pem)


async def ensure(cluster: Cluster, secret: str, hosts: list[str]) -> Certificate:
    """The shared certificate; made by whoever comes first, renewed by whoever sees that it ends soon.

    Raises:
        ClusterError: the Secret can neither be read nor made.
    """
    now = datetime.datetime.now(datetime.UTC)
    found = await cluster.get_secret(secret)
    if found is not None and (kept := _read(found)) is not None and kept.ends - now > _RENEW_BEFORE:
        return kept
    made = make(hosts, now)
    if found is not None and (old := _read(found)) is not None:
        made = replace(made, former=old.certificate)
    manifest: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": secret,
            "namespace": cluster.namespace,
            "labels": {"app.kubernetes.io/part-of": "tickmesh"},
        },
        "type": "kubernetes.io/tls",
        "data": {
            "tls.crt": base64.b64encode(made.certificate).decode(),
            "tls.key": base64.b64encode(made.key).decode(),
            "ca.crt": base64.b64encode(made.authority).decode(),
        },
    }
    if found is None:
        if await cluster.create_secret(manifest):
            return made
        kept = _read(await cluster.get_secret(secret))
        if kept is None:
            raise ClusterError(0, f"Secret {secret} holds no certificate; delete it and the operator makes another")
        return kept
    await cluster.apply(manifest)
    return made


def store(certificate: Certificate, home: Path) -> None:
    """Put it where kopf's server reads it; that notices the change and serves the new one."""
    (home / "tls.key").touch(mode=0o600)
    (home / "tls.key").write_bytes(certificate.key)
    (home / "ca.crt").write_bytes(certificate.authority)
    (home / "tls.crt").write_bytes(certificate.certificate)


async def keep(
    cluster: Cluster, secret: str, hosts: list[str], configuration: str, served: Certificate, home: Path
) -> None:
    """Renew what ends soon, serve what another replica renewed, and tell the API server first, for ever.

    ``configuration`` is somebody else's (the chart's); empty: kopf tells its own. While the API server is away this
    tries again: CEL alone decides meanwhile.
    """
    told = ""
    while True:
        try:
            present = await ensure(cluster, secret, hosts)
            bundle = base64.b64encode(present.authority).decode()
            if configuration and await cluster.trust_webhook(configuration, bundle):
                log.info("the API server trusts our webhook (%s)", configuration)
            if present != served:
                store(present, home)
                served = present
                log.info("the webhook's certificate is another one; it ends at %s", present.ends.isoformat())
            told = ""
        except ClusterError as error:
            if str(error) != told:
                log.warning("the webhook's certificate cannot be looked after: %s; trying again", error)
            told = str(error)
        await asyncio.sleep(_RETRY_S if told else _LOOK_AGAIN_S)


def _read(secret: Any) -> Certificate | None:
    data = (secret.data or {}) if secret is not None else {}
    if "tls.crt" not in data or "tls.key" not in data:
        return None
    try:
        certificate, bundle = base64.b64decode(data["tls.crt"]), base64.b64decode(data.get("ca.crt", ""))
        former = bundle.removeprefix(certificate) if bundle.startswith(certificate) else b""
        kept = Certificate(certificate, base64.b64decode(data["tls.key"]), former)
        _ = kept.ends
    except ValueError:
        return None
    return kept
