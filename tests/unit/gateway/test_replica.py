"""The replica shows the same whatever order, and however often, events arrive; and it is bounded."""

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from tickmesh.domain.enums import OrderState, Side
from tickmesh.domain.instrument import Instrument
from tickmesh.domain.messages import AccountSnapshot, BookUpdate, FillEvent, OrderEvent, Stamps, encode
from tickmesh.gateway.guard import RateLimit
from tickmesh.gateway.replica import Replica

BTC = Instrument(
    venue="v", symbol="BTCUSDT", base="BTC", quote="USDT", tick_size=Decimal("0.10"), lot_size=Decimal("0.001")
)
LIFE = [OrderState.VALIDATING, OrderState.PENDING_SUBMIT, OrderState.SUBMITTED, OrderState.PARTIALLY_FILLED]


def messages() -> list[tuple[str, bytes]]:
    result = []
    for number, final in enumerate((OrderState.FILLED, OrderState.CANCELED, OrderState.SUBMITTED)):
        client_id = f"c{number}"
        for seq, state in enumerate([*LIFE, final]):
            partial = seq >= LIFE.index(OrderState.PARTIALLY_FILLED)
            cum = 10 if state is OrderState.FILLED else 4 * partial
            event = OrderEvent(
                account="main", venue="v", symbol="BTCUSDT", client_order_id=client_id, state=state, cum_lots=cum,
                qty_lots=10, price_ticks=600_000, seq=seq, publish_ns=seq,
                stamps=Stamps(tick_receive_mono_ns=1_000, sent_mono_ns=301_000) if seq > 1 else Stamps(),
            )  # fmt: skip
            result.append((f"order.event.main.{client_id}", encode(event)))
    for trade_id in range(3):
        fill = FillEvent(
            account="main", venue="v", symbol="BTCUSDT", trade_id=trade_id, client_order_id="c0", venue_order_id=1,
            side=Side.BUY, price_ticks=600_000, qty_lots=2, maker=True,
        )  # fmt: skip
        result.append(("fill.main.BTCUSDT", encode(fill)))
    return result


def picture(replica: Replica) -> object:
    orders = {e.client_order_id: (e.state, e.cum_lots) for e in replica.orders.values()}
    assert sum(s.fills for s in replica.strategies()) == replica.fill_count
    counts = replica.fill_count, replica.maker_count, replica.order_counts()
    return orders, replica.strategies(), counts, replica.stages.quantiles_us(1)


@given(st.permutations(messages() + messages()[:9]))
def test_order_and_repetition_of_events_do_not_matter(shuffled: list[tuple[str, bytes]]) -> None:
    straight, replica = Replica(), Replica()
    for subject, payload in messages():
        straight.on_message(subject, payload)
    for subject, payload in shuffled:
        replica.on_message(subject, payload)
    assert picture(replica) == picture(straight)
    assert replica.fill_count == 3


def test_prices_are_exact_decimals_of_the_newest_book() -> None:
    replica = Replica()
    replica.instruments[("v", "BTCUSDT")] = BTC
    for bid in (600_000, 600_001):
        update = BookUpdate(venue="v", symbol="BTCUSDT", bids=[(bid, 5)], asks=[(bid + 1, 7)], publish_ns=1_000_000)
        replica.on_message("md.book.v.BTCUSDT", encode(update))
    price = replica.prices(now_ns=6_000_000, depth=1)["BTCUSDT"]
    assert (price.bid, price.mid, price.age_ms) == (Decimal("60000.1"), Decimal("60000.15"), 5)
    assert price.asks == [(Decimal("60000.2"), Decimal("0.007"))]


def test_an_older_account_snapshot_does_not_replace_a_newer_one() -> None:
    replica = Replica()
    for at in (5, 3):
        snapshot = AccountSnapshot(account="main", venue="v", equity=Decimal(at), publish_ns=at)
        replica.on_message("account.main.snapshot", encode(snapshot))
    assert replica.accounts["main"].equity == 5


def test_garbage_is_counted_and_skipped() -> None:
    replica = Replica()
    replica.on_message("fill.main.BTCUSDT", b"\xc1")
    replica.on_message("order.event.main.x", b"")
    replica.on_message("md.book.v.BTCUSDT", b"garbage")
    assert replica.prices(now_ns=1) == {}
    assert replica.decode_errors == 3


def test_a_client_above_its_rate_is_refused_and_others_are_not() -> None:
    limit = RateLimit(10)
    assert sum(limit.allow("a", 1.0) for _ in range(50)) == 10
    assert limit.allow("b", 1.0)
    assert limit.allow("a", 1.2)
