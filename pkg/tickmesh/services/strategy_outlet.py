"""What leaves the strategy service: intents first and at once, then signals and alerts for the record.

In: what desks want to say. Out: messages on the bus. It refuses to send an order without a connection and without the
strategy's lease: such an intent is withdrawn, not queued, as it would be late when it left. An intent gets its time
before the lease is looked at: a process that was stopped between that look and the send is late by its time to live.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Final

from tickmesh.bus.ring import INTENTS, RingWriter
from tickmesh.domain import subjects
from tickmesh.domain.enums import IntentAction
from tickmesh.domain.errors import ConfigError, DependencyError
from tickmesh.domain.messages import Alert, Message, OrderIntent, SignalMessage, encode
from tickmesh.hotpath import trace_parent
from tickmesh.observe.metrics import Counter
from tickmesh.services.service import Service
from tickmesh.services.strategy_lease import StrategyLeases
from tickmesh.strategy.desk import Desk
from tickmesh.strategy.floor import Outgoing

log = logging.getLogger(__name__)

# Members of enumerations as constants: looking one up through its class costs ten times as much.
_PLACE: Final = IntentAction.PLACE


class Outlet:
    """The way out of one process."""

    def __init__(self, service: Service, leases: StrategyLeases) -> None:
        self.epoch = 0
        self.ring: RingWriter | None = None
        """With the shm transport, the ring that execution reads; written when the stream has the intent."""
        self._bus, self._clock, self._metrics = service.bus, service.clock, service.metrics
        self._leases = leases
        self._subject = subjects.intent(service.settings.venue.account)
        self._seqs: dict[str, int] = {}
        self._intents: dict[tuple[str, IntentAction], Counter] = {}
        metrics = service.metrics
        self._decision = metrics.latency("strategy_decision_latency_us", "book received until intent published")
        self._not_sent = metrics.counter("intents_not_sent_total", "intents withheld: no connection or no lease")

    def open_ring(self, data_dir: str) -> None:
        """Write intents to the ring too, unless another process is its writer still."""
        if self.ring is not None:
            return
        try:
            self.ring = RingWriter(data_dir, INTENTS, slots=1024, slot_bytes=1024)
        except ConfigError as error:
            log.info("intents go over NATS only: %s", error)

    def close(self) -> None:
        """Give the ring back."""
        if self.ring is not None:
            self.ring.close()
            self.ring = None

    def send(self, outgoing: Iterable[Outgoing]) -> None:
        """Publish in order, each intent before the next one is made."""
        later: list[Outgoing] = []
        for each in outgoing:
            if type(each.message) is OrderIntent:
                self._send_intent(each.desk, each.message)
            else:
                later.append(each)
        for desk, message in later:
            if isinstance(message, SignalMessage):
                self.publish(subjects.signal(desk.name), message)
            elif isinstance(message, Alert):
                if message.kind.startswith("plugin_"):
                    self._metrics.counter("plugin_errors_total", "errors of plugins", strategy=desk.name).inc()
                self.alert(message)

    def alert(self, alert: Alert) -> None:
        """Log and publish."""
        log.error("%s", alert.text)
        self.publish(subjects.alert(alert.severity, alert.kind), alert)

    def publish(self, subject: str, message: Message) -> None:
        """Publish what is only for the record; when the bus is away it is lost."""
        message.seq, message.epoch = self._seq(subject), self.epoch
        message.publish_ns = self._clock.wall_ns()
        try:
            self._bus.publish(subject, encode(message))
        except DependencyError as error:
            log.warning("%s", error)

    def ours(self, desk: Desk) -> bool:
        """Whether we hold the strategy's lease at this moment."""
        return self._leases.valid(desk.name)

    def _send_intent(self, desk: Desk, intent: OrderIntent) -> None:
        placing = intent.action is _PLACE
        intent.publish_ns = intent.publish_ns or self._clock.wall_ns()  # one that is asked again keeps its time
        ours = self.ours(desk) if placing else self._leases.may_cancel(desk.name)
        if not ours or not self._bus.connected:
            self._not_sent.value += 1
            desk.not_sent(intent)
            return
        headers = {"Nats-Msg-Id": intent.intent_id, "traceparent": trace_parent(intent.correlation_id)}
        intent.seq = self._seq(self._subject)
        stamps = intent.stamps
        now = stamps.intent_publish_mono_ns = self._clock.mono_ns()
        try:
            payload = encode(intent)
            self._bus.publish(self._subject, payload, headers=headers)
            if self.ring is not None:
                self.ring.publish(self._subject, payload)
        except DependencyError as error:
            log.warning("%s", error)
            self._not_sent.value += 1
            desk.not_sent(intent)
            return
        if placing and stamps.tick_receive_mono_ns:
            self._decision.record_ns(now - stamps.strategy_receive_mono_ns)
        counter = self._intents.get((desk.name, intent.action))
        if counter is None:
            counter = self._intents[desk.name, intent.action] = self._metrics.counter(
                "intents_total", "order intents published", strategy=desk.name, action=intent.action.value
            )
        counter.value += 1

    def _seq(self, subject: str) -> int:
        seq = self._seqs[subject] = self._seqs.get(subject, 0) + 1
        return seq
