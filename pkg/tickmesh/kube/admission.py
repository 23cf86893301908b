"""What may not be admitted although its shape is right: a function of the Strategy and of what else there is.

In: the new Strategy, the old one, the accounts and plugins that exist. Out: errors by field, and warnings. CEL has
already checked shape and what concerns the resource alone; this is only what needs a look at others.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import msgspec

Manifest = dict[str, Any]


class Findings(msgspec.Struct, kw_only=True):
    """``errors`` refuse the resource, ``warnings`` are shown by kubectl."""

    errors: list[str] = []
    warnings: list[str] = []


def check_strategy(
    strategy: Manifest,
    old: Manifest | None,
    *,
    accounts: Collection[str],
    entry_points: Collection[str] | None,
) -> Findings:
    """Errors name the field.

    Args:
        accounts: names of the TradingAccounts of the namespace.
        entry_points: plugins of the image, or None when they are not known.
    """
    spec = strategy["spec"]
    found = Findings()
    account = spec.get("account", "")
    live = spec.get("mode", "Observation") == "Live"
    was_live = old is not None and old["spec"].get("mode") == "Live"
    if live and account not in accounts:
        known = ", ".join(sorted(accounts)) or "none"
        found.errors.append(
            f"spec.account: mode Live needs the TradingAccount {account!r}, which is not there (there are: {known})"
        )
    elif account and account not in accounts:
        found.warnings.append(f"spec.account: there is no TradingAccount {account!r} yet")
    entry_point = spec["plugin"].get("entryPoint")
    if entry_point and entry_points is not None and entry_point not in entry_points and "image" not in spec:
        found.errors.append(
            f"spec.plugin.entryPoint: {entry_point!r} is not in this image; there are {', '.join(sorted(entry_points))}"
        )
    if live and not was_live and old is not None:
        found.warnings.append("spec.mode: this strategy will send real orders from now on")
    if old is not None and old["spec"].get("account", "") != account and was_live and live:
        found.errors.append("spec.account: pause the strategy or leave mode Live before moving it to another account")
    return found
