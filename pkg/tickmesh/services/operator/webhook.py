"""The webhook's certificate: made once, kept in a Secret that all replicas share, renewed before it ends.

In: a Secret's name and the host names of the Service. Out: certificate, key and CA bundle as PEM. It never touches
another Secret than the one it is told.
"""

from __future__ import annotations

import asyncio
import base64
import datetime
import ipaddress
import logging
from dataclasses import dataclass
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tickmesh.services.operator.cluster import Cluster, ClusterError

log = logging.getLogger(__name__)

_LOOK_AGAIN_S = 60.0
_RETRY_S = 2.0
_LIFE = datetime.timedelta(days=365)
_RENEW_BEFORE = datetime.timedelta(days=90)


@dataclass(frozen=True, slots=True)
class Certificate:
    """PEM texts; the certificate signs itself, so it is its own CA bundle."""

    certificate: bytes
    key: bytes

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


async def announce(cluster: Cluster, configuration: str, authority: bytes) -> None:
    """Keep our CA in a configuration that somebody else (the chart) made, for ever; the rest of it is not ours.

    Until it is there, and while the API server is away, this tries again: CEL alone decides meanwhile.
    """
    told = ""
    while True:
        try:
            if await cluster.trust_webhook(configuration, base64.b64encode(authority).decode()):
                log.info("the API server trusts our webhook (%s)", configuration)
            told = ""
        except ClusterError as error:
            if str(error) != told:
                log.warning("%s cannot be told our webhook's certificate: %s; trying again", configuration, error)
            told = str(error)
        await asyncio.sleep(_RETRY_S if told else _LOOK_AGAIN_S)


def _read(secret: Any) -> Certificate | None:
    data = (secret.data or {}) if secret is not None else {}
    if "tls.crt" not in data or "tls.key" not in data:
        return None
    try:
        kept = Certificate(base64.b64decode(data["tls.crt"]), base64.b64decode(data["tls.key"]))
        _ = kept.ends
    except ValueError:
        return None
    return kept
