"""The admission webhook: imported only where one is configured, because kopf insists on a server then."""

from __future__ import annotations

from typing import Any

import kopf
from handlers import GROUP, Memo, plain

_FINDING_LIMIT = 16


@kopf.on.validate(GROUP, "v1alpha1", "strategies", operations=["CREATE", "UPDATE"], ignore_failures=True)
async def admit(body: kopf.Body, old: Any, warnings: list[str], memo: Memo, **_: Any) -> None:
    """Refuse what CEL cannot see. While no operator answers, CEL alone decides (failurePolicy Ignore)."""
    before = dict(old) if old else None
    found = await memo.operator.admit(plain(body), before if before and "spec" in before else None)
    warnings.extend(found.warnings[:_FINDING_LIMIT])
    if found.errors:
        raise kopf.AdmissionError("; ".join(found.errors[:_FINDING_LIMIT]), code=422)
