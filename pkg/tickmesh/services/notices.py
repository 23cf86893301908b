"""Alerts as every service raises them: logged here, published on ``alert.<severity>.<kind>``."""

from __future__ import annotations

import logging
from collections.abc import Callable

from tickmesh.domain import subjects
from tickmesh.domain.enums import Severity
from tickmesh.domain.errors import DependencyError
from tickmesh.domain.messages import Alert, encode
from tickmesh.services.service import Service

log = logging.getLogger("tickmesh.notices")
AlertFunction = Callable[[Severity, str, str], None]
"""Tells people: how soon they must look, a kind, one sentence."""
_LEVELS = {Severity.INFO: logging.INFO, Severity.WARNING: logging.WARNING, Severity.CRITICAL: logging.ERROR}


def alert(service: Service, severity: Severity, kind: str, text: str, **fields: str) -> None:
    """Tell a person; without the bus the log line is what remains."""
    log.log(_LEVELS[severity], "%s: %s", kind, text)
    service.metrics.counter("alerts_total", "alerts raised", kind=kind).inc()
    message = Alert(
        publish_ns=service.clock.wall_ns(), severity=severity, kind=kind, text=text, source=service.name, fields=fields
    )
    try:
        service.bus.publish(subjects.alert(severity, kind), encode(message))
    except DependencyError as error:
        log.warning("an alert could not be published: %s", error)
