"""Names of the subjects on the bus: the one place that builds them."""

from __future__ import annotations

import re
from functools import lru_cache

from tickmesh.domain.enums import Severity

_TOKEN = re.compile(r"[^A-Za-z0-9_\-]")


def token(text: str) -> str:
    """Make ``text`` safe as one subject token (dots, wildcards and blanks become ``_``)."""
    return _TOKEN.sub("_", text) or "_"


@lru_cache(4096)
def is_token(text: str) -> bool:
    """Whether a name can be a subject's token as it is: two that differ then differ on the bus, too."""
    return token(text) == text


def book(venue: str, symbol: str) -> str:
    return f"md.book.{venue}.{symbol}"


def trade(venue: str, symbol: str) -> str:
    return f"md.trade.{venue}.{symbol}"


def mark(venue: str, symbol: str) -> str:
    return f"md.mark.{venue}.{symbol}"


def signal(strategy: str) -> str:
    return f"signal.{token(strategy)}"


def intent(account: str) -> str:
    return f"order.intent.{token(account)}"


def order_event(account: str, client_order_id: str) -> str:
    return f"order.event.{token(account)}.{token(client_order_id)}"


def fill(account: str, symbol: str) -> str:
    return f"fill.{token(account)}.{symbol}"


def account_snapshot(account: str) -> str:
    return f"account.{token(account)}.snapshot"


def clean_scope(scope: str) -> str:
    """A scope of ``messages.Control`` safe in a subject: ``all`` or ``<kind>.<name>``, the name made one token."""
    kind, dot, name = scope.partition(".")
    return f"{token(kind)}.{token(name)}" if dot else token(kind)


def control(verb: str, scope: str) -> str:
    return f"ctl.{token(verb)}.{clean_scope(scope)}"


def alert(severity: Severity, kind: str) -> str:
    return f"alert.{severity.value}.{token(kind)}"


def audit(source: str) -> str:
    return f"audit.{token(source)}"
