"""SharedBudget: one RateBudget kept in step with those of other processes, through the ``budgets`` bucket.

Every process writes its own key, ``<egress>.<account>.<process>``, when it knows more than it has heard; every process
reads all keys. Counts of the same minute and waiting times only grow, so the larger one is right whatever the order of
arrival. Without NATS each process goes on with the venue's headers alone. See docs/decisions/0151.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable

import msgspec

from tickmesh.domain.errors import DependencyError
from tickmesh.domain.subjects import token
from tickmesh.execution.budget import BudgetNews, RateBudget
from tickmesh.ports import KvEntry
from tickmesh.services.buckets import follow, take_all
from tickmesh.services.service import Service
from tickmesh.settings import Settings

log = logging.getLogger("tickmesh.budget")

BUCKET = "budgets"
_TELL_EVERY_S = 0.2
_RETRY_S = 0.5


def budget_of(settings: Settings) -> RateBudget:
    """The budget that every process of this address and account starts with."""
    own = settings.execution
    return RateBudget(own.weight_per_min, own.orders_per_10s, own.orders_per_min, own.cancel_reserve)


class SharedBudget:
    """``budget`` is this process's view; ``run`` keeps it and everybody else's together."""

    def __init__(self, service: Service, account: str, budget: RateBudget) -> None:
        self.budget = budget
        self._service = service
        self._egress, self._account = token(service.settings.venue.egress), token(account)
        admin_port = getattr(service.settings, service.name).admin_port
        process = f"{token(service.name)}-{token(socket.gethostname())}-{admin_port}"
        self._key = f"{self._egress}.{self._account}.{process}"
        self._heard = BudgetNews(at_ns=0)
        self._now = asyncio.Event()
        self._used = service.metrics.gauge("venue_weight_used", "request weight of this minute, all processes")
        self._waiting = service.metrics.gauge("venue_wait_seconds", "how long the venue has told this address to wait")
        self.offset_ms: Callable[[], int] = lambda: 0
        """The venue's time minus our wall clock, as measured last."""
        self._keep_time()

    def _keep_time(self) -> None:
        clock = self._service.clock
        self.budget.venue_ahead_ns = clock.wall_ns() - clock.mono_ns() + self.offset_ms() * 1_000_000

    def tell_now(self) -> None:
        """Something that nobody should learn late."""
        self._now.set()

    def on_entry(self, entry: KvEntry) -> None:
        """Take over what another process, or a former life of ours, knew."""
        if not entry.value:
            return
        egress, _, rest = entry.key.partition(".")
        try:
            news = msgspec.json.decode(entry.value, type=BudgetNews)
        except msgspec.MsgspecError as error:
            log.warning("%s/%s cannot be read (%s); it is skipped", BUCKET, entry.key, error)
            return
        same_address, same_account = egress == self._egress, rest.partition(".")[0] == self._account
        self.budget.hear(news, self._service.clock.mono_ns(), same_address=same_address, same_account=same_account)
        if same_address and same_account:
            self._heard = news

    async def load(self) -> None:
        """Take over what others know before the first request. Raises DependencyError."""
        await take_all(await self._service.bus.kv(BUCKET), self.on_entry)

    async def run(self) -> None:
        """Tell and hear for ever."""
        async with asyncio.TaskGroup() as group:
            group.create_task(follow(self._service.bus, BUCKET, self.on_entry))
            group.create_task(self._tell())

    async def _tell(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_TELL_EVERY_S):
                    await self._now.wait()
            self._now.clear()
            self._keep_time()
            now_ns = self._service.clock.mono_ns()
            news = self.budget.news(now_ns)
            self._used.set(news.weight_1m)
            self._waiting.set(self.budget.wait_for_cancel_s(now_ns))
            if not _is_more(news, self._heard):
                continue
            try:
                bucket = await self._service.bus.kv(BUCKET)
                await bucket.put(self._key, msgspec.json.encode(news))
                self._heard = news
            except DependencyError as error:
                log.debug("the budget is not told yet: %s", error)
                await asyncio.sleep(_RETRY_S)


def _is_more(news: BudgetNews, heard: BudgetNews) -> bool:
    """Whether ``news`` says anything that ``heard`` does not; counts of an ended minute say nothing."""
    fresh = {
        name: getattr(heard, name) if news.at_ns // length == heard.at_ns // length else 0
        for name, length in (("weight_1m", 60 * 10**9), ("orders_10s", 10 * 10**9), ("orders_1m", 60 * 10**9))
    }
    waits = ("banned_until_ns", "limited_until_ns", "orders_until_ns")
    return any(getattr(news, name) > was for name, was in fresh.items()) or any(
        getattr(news, name) > getattr(heard, name) + 1_000_000 for name in waits
    )
