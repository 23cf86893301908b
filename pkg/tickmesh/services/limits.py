"""Limits from the ``limits`` bucket, live: key ``default`` over the built-in values, key ``<account>`` over that.

A document that cannot be used leaves the last good one in force and is alerted. The bucket's absence is no
error: built-in limits hold until NATS is there.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from tickmesh.domain.enums import Severity
from tickmesh.domain.errors import DependencyError
from tickmesh.domain.subjects import token
from tickmesh.ports import KvEntry
from tickmesh.risk.limits import Limits, LimitsError, parse
from tickmesh.services.notices import alert
from tickmesh.services.service import Service

log = logging.getLogger("tickmesh.limits")

BUCKET = "limits"
DEFAULT_KEY = "default"
_RETRY_S = 0.5


class LimitsBook:
    """Limits of every account, as the bucket has them now."""

    def __init__(self) -> None:
        self._documents: dict[str, bytes] = {}
        self._default = Limits()
        self._of: dict[str, Limits] = {}

    def of(self, account: str) -> Limits:
        return self._of.get(token(account), self._default)

    def on_entry(self, entry: KvEntry) -> None:
        """Take over one change; a deleted key falls back to what is below it.

        Raises:
            LimitsError: the document is refused; nothing was changed.
        """
        documents = {**self._documents, entry.key: entry.value or b""}
        if not entry.value:
            del documents[entry.key]
        default = parse(documents.get(DEFAULT_KEY, b"{}"), Limits())
        accounts = {key: parse(text, default) for key, text in documents.items() if key != DEFAULT_KEY}
        self._documents, self._default, self._of = documents, default, accounts


async def load_limits(service: Service, book: LimitsBook) -> None:
    """Take over what the bucket holds, before anything is judged by it. Raises DependencyError."""
    bucket = await service.bus.kv(BUCKET)
    for key in sorted(await bucket.keys(), key=lambda key: key != DEFAULT_KEY):
        entry = await bucket.get(key)
        if entry is not None:
            _take(service, book, entry)


async def watch_limits(service: Service, book: LimitsBook, on_change: Callable[[], None] | None = None) -> None:
    """Keep ``book`` current for ever; ``on_change`` is called after each accepted change."""
    while True:
        try:
            bucket = await service.bus.kv(BUCKET)
            async for entry in bucket.watch():
                if _take(service, book, entry) and on_change is not None:
                    on_change()
        except DependencyError as error:
            log.warning("cannot watch the limits: %s; retrying", error)
            await asyncio.sleep(_RETRY_S)


def _take(service: Service, book: LimitsBook, entry: KvEntry) -> bool:
    try:
        book.on_entry(entry)
    except LimitsError as error:
        alert(service, Severity.WARNING, "bad_limits", f"limits/{entry.key}: {error}; the old ones hold")
        return False
    log.info("limits of %s are at revision %d", entry.key, entry.revision)
    return True
