"""Standard conditions and times of a status: pure, the same words for the same knowledge."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

Manifest = dict[str, Any]


def timestamp(now_ns: int) -> str:
    """RFC 3339 in whole seconds, as metav1.Time is."""
    return datetime.fromtimestamp(now_ns // 1_000_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def condition(
    before: Manifest, kind: str, holds: bool, reason: str, message: str, generation: int, now: str
) -> Manifest:
    """A metav1.Condition; while its status stays what it was in ``before`` (a status), so does its transition time."""
    state = "True" if holds else "False"
    old = next((c for c in before.get("conditions", []) if c["type"] == kind), None)
    return {
        "type": kind,
        "status": state,
        "reason": reason,
        "message": message,
        "lastTransitionTime": old["lastTransitionTime"] if old is not None and old["status"] == state else now,
        "observedGeneration": generation,
    }
