"""What simvenue does when it cannot save, cannot listen, or is given a capture that is none: one sentence each."""

from __future__ import annotations

import resource
import urllib.error
import urllib.request
from decimal import Decimal
from pathlib import Path
from random import Random

import pytest
from venue_process import KEY, SECRET, VenueProcess

from tickmesh.domain.errors import DependencyError
from tickmesh.domain.instrument import Instrument
from tickmesh.observe.clock import SystemClock
from tickmesh.venues.binance_usdm.codec_trading import Outcome, VenueCallError
from tickmesh.venues.binance_usdm.rest import BinanceUsdmRest
from tickmesh.venues.simvenue.exchange.exchange import Exchange
from tickmesh.venues.simvenue.exchange.types import Event
from tickmesh.venues.simvenue.server.clock import VenueClock
from tickmesh.venues.simvenue.server.faults import Faults
from tickmesh.venues.simvenue.server.hub import Hub
from tickmesh.venues.simvenue.server.listing import instruments_for
from tickmesh.venues.simvenue.server.store import Store
from tickmesh.venues.simvenue.server.venue import Venue

ORDER = {
    "symbol": "BTCUSDT",
    "side": "BUY",
    "type": "LIMIT",
    "timeInForce": "GTC",
    "quantity": "0.01",
    "price": "60000",
}


def test_what_cannot_be_saved_is_not_sent_and_nothing_is_sent_afterwards(tmp_path: Path) -> None:
    instruments: dict[str, Instrument] = instruments_for(["BTCUSDT"])
    clock, store = VenueClock(lambda: 1_000_000_000), Store(tmp_path)
    exchange, hub = Exchange(list(instruments.values())), Hub(max_buffer_bytes=1, replay_wait_s=1)
    venue = Venue(exchange, instruments, hub, clock, store, Faults(clock, Random(1), lambda: 0.0), replay=False)
    told: list[list[Event]] = []
    venue.users.on_events = told.append  # type: ignore[method-assign]
    exchange.add_account("a", Decimal(5))
    venue.commit()
    assert len(told) == 1
    store._db.execute("PRAGMA query_only = 1")  # what a full disk does to a write
    exchange.add_account("b", Decimal(5))
    with pytest.raises(DependencyError, match="free the disk"):
        venue.commit()
    store._db.execute("PRAGMA query_only = 0")
    with pytest.raises(DependencyError):
        venue.commit()
    assert len(told) == 1
    store.close()
    saved = Store(tmp_path).load(10)
    assert saved is not None and [account.account_id for account in saved.accounts] == ["a"]


async def test_a_full_disk_answers_unknown_and_ends_the_venue_with_one_sentence(tmp_path: Path) -> None:
    with VenueProcess(tmp_path, flow_rate=0) as venue:
        assert venue.process is not None
        rest = BinanceUsdmRest(venue.url, KEY, SECRET, 5000, SystemClock())
        size = (tmp_path / "simvenue" / "venue.sqlite-wal").stat().st_size
        resource.prlimit(venue.process.pid, resource.RLIMIT_FSIZE, (size, size))  # no file may grow: a full disk
        with pytest.raises(VenueCallError) as unknown:
            await rest.place({**ORDER, "newClientOrderId": "unsaved"})
        assert unknown.value.outcome is Outcome.UNKNOWN
        assert venue.process.wait(10) == 1
        assert "free the disk and start again" in venue.log.read_text() and "Traceback" not in venue.log.read_text()
        await rest.close()
        venue.start()
        assert venue.record()["orders"] == []


@pytest.mark.parametrize(
    ("environ", "sentence"),
    [
        ({"TICKMESH_SIMVENUE__REPLAY": "/nowhere/capture.gz"}, "/nowhere/capture.gz"),
        ({"TICKMESH_VENUE__SYMBOLS": '["NOTHING"]'}, "NOTHING is not quoted in"),
        ({"TICKMESH_SIMVENUE__DEPOSIT": "-1"}, "deposit"),
    ],
)
def test_wrong_settings_end_the_start_with_one_sentence(tmp_path: Path, environ: dict[str, str], sentence: str) -> None:
    venue = VenueProcess(tmp_path, environ)
    with pytest.raises(AssertionError) as said:
        venue.start()
    assert sentence in str(said.value) and "Traceback" not in str(said.value)
    assert venue.process is not None and venue.process.wait(5) == 2


def test_a_busy_port_is_named(tmp_path: Path) -> None:
    with VenueProcess(tmp_path / "one", flow_rate=0) as first:
        second = VenueProcess(tmp_path / "two", port=first.port)
        with pytest.raises(AssertionError, match="is busy; stop what uses it or set TICKMESH_SIMVENUE__PORT"):
            second.start()


def test_requests_that_are_no_http_parameters_are_refused_politely(tmp_path: Path) -> None:
    with VenueProcess(tmp_path, flow_rate=0) as venue:
        for path in ("/fapi/v1/depth?symbol=%FF%FE", "/fapi/v1/depth?limit=x&symbol=BTCUSDT", "/fapi/v1/klines"):
            with pytest.raises(urllib.error.HTTPError) as refused:
                urllib.request.urlopen(venue.url + path, timeout=5)
            assert refused.value.code == 400, path
        assert venue.get(f"{venue.url}/fapi/v1/ping") == {}
