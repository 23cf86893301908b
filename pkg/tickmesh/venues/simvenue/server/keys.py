"""ApiKeys: who a request is from - key, signature and timestamp in, an account or a refusal out.

The signature is HMAC SHA-256 over the query string and the form body as they were sent, without the signature itself.
It keeps secrets in memory and never puts one into a message.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import NamedTuple

from tickmesh.venues.simvenue.server.rest import Call, Endpoint, Security, WireError, missing

DEFAULT_RECV_WINDOW_MS = 5_000
MAX_RECV_WINDOW_MS = 60_000
MAX_AHEAD_MS = 1_000
_MIN_KEY_LENGTH = 8


class Credentials(NamedTuple):
    """A key's secret and the account that it opens."""

    account: str
    secret: str

    def __repr__(self) -> str:
        return f"Credentials({self.account!r}, ***)"


class ApiKeys:
    """The keys that the venue accepts."""

    def __init__(self) -> None:
        self._keys: dict[str, Credentials] = {}

    def add(self, api_key: str, credentials: Credentials) -> None:
        self._keys[api_key] = credentials

    def identify(self, api_key: str) -> Credentials:
        """Raises -2014 for what is no key, -2015 for one that is not ours."""
        if len(api_key) < _MIN_KEY_LENGTH:
            raise WireError(-2014, "API-key format invalid.", 401)
        found = self._keys.get(api_key)
        if found is None:
            raise WireError(-2015, "Invalid API-key, IP, or permissions for action", 401)
        return found

    def admit(self, endpoint: Endpoint, call: Call, query: str, body: str) -> None:
        """Set the call's account as the endpoint demands. Raises WireError."""
        if endpoint.security is Security.NONE:
            return
        credentials = self.identify(call.api_key)
        if endpoint.security is Security.SIGNED:
            self.check_signature(credentials, query, body, call)
        call.account = credentials.account

    def check_signature(self, credentials: Credentials, query: str, body: str, call: Call) -> None:
        """Raises -1102, -1131, -1021 or -1022."""
        given = call.params.pop("signature", "")
        if not given:
            raise missing("signature")
        check_time(call)
        payload = (unsigned(query) + unsigned(body)).encode()
        expected = hmac.new(credentials.secret.encode(), payload, hashlib.sha256).hexdigest()
        if not hmac.compare_digest(expected, given.lower()):
            raise WireError(-1022, "Signature for this request is not valid.")


def check_time(call: Call) -> None:
    """``timestamp`` must lie between ``recvWindow`` ago and a second ahead. Raises -1102, -1131 or -1021."""
    window_ms = call.integer("recvWindow", DEFAULT_RECV_WINDOW_MS) or 0
    if not 0 < window_ms <= MAX_RECV_WINDOW_MS:
        raise WireError(-1131, f"recvWindow must be less than {MAX_RECV_WINDOW_MS}")
    stamp_ms = call.integer("timestamp")
    if stamp_ms is None:
        raise missing("timestamp")
    if stamp_ms > call.shown_ms + MAX_AHEAD_MS:
        raise WireError(-1021, f"Timestamp for this request was {MAX_AHEAD_MS}ms ahead of the server's time.")
    if stamp_ms < call.shown_ms - window_ms:
        raise WireError(-1021, "Timestamp for this request is outside of the recvWindow.")


def unsigned(text: str) -> str:
    """A query string or form body without its signature, else as it was sent."""
    if "signature=" not in text:
        return text
    return "&".join(part for part in text.split("&") if not part.startswith("signature="))
