"""One process runs a strategy, or one shard of it: the claims of a strategy process, by name of the strategy.

In: plans of strategies. Out: whether we may trade for them now. A strategy that is somebody else's is stood by for.
"""

from __future__ import annotations

from pathlib import Path

from tickmesh.services.claim import Claim
from tickmesh.services.service import Service
from tickmesh.strategy.share import Share


class StrategyLeases:
    """The claims of this process; ``valid`` is asked before every new order."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._folder = Path(service.settings.local.data_dir) / "strategy"
        self._claims: dict[str, Claim] = {}

    def claim(self, name: str, share: Share) -> Claim:
        """Contend for a strategy, or the claim that does so already.

        Raises:
            ConfigError: the lock file cannot be written.
        """
        claim = self._claims.get(name)
        if claim is None:
            service = self._service
            key = f"{service.settings.venue.account}.{share.key(name)}"
            claim = self._claims[name] = Claim(
                service, f"strategy.{key}", self._folder / f"{key}.lock",
                ttl_ms=service.settings.strategy.lease_ttl_ms,
            )  # fmt: skip
            claim.start()
        return claim

    def get(self, name: str) -> Claim | None:
        return self._claims.get(name)

    def valid(self, name: str) -> bool:
        """The fence before a new order."""
        claim = self._claims.get(name)
        return claim is not None and claim.valid()

    def may_cancel(self, name: str) -> bool:
        """The fence before a cancel."""
        claim = self._claims.get(name)
        return claim is not None and claim.unopposed()

    @property
    def overtaken(self) -> str:
        """The name of a strategy that another process has run since we did; empty when there is none."""
        return next((name for name, claim in self._claims.items() if claim.overtaken), "")

    async def release(self, name: str) -> None:
        """Let the next one in."""
        claim = self._claims.pop(name, None)
        if claim is not None:
            await claim.release()

    async def close(self) -> None:
        for name in list(self._claims):
            await self.release(name)
