"""The seams: what a core or a service may ask of the outside world, as Protocols.

Implementations live in ``bus``, ``venues``, ``observe`` and the tests; the core imports only this.
"""

from tickmesh.ports.bus import Bus, DurableMessage, KeyValue, KvEntry, Subscription
from tickmesh.ports.clock import Clock
from tickmesh.ports.gate import Gate

__all__ = ["Bus", "Clock", "DurableMessage", "Gate", "KeyValue", "KvEntry", "Subscription"]
