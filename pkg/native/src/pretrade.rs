//! The arithmetic of the pre-trade checks of one symbol. Twin and rules: `hotpath/pure/pretrade.py`.
//!
//! It says yes or which check failed; everything that does not fit 64 or 128 bits is no yes.

use crate::open_orders::{BOTH, LONG, OpenOrder, SHORT};
use crate::risk_state::{AccountRisk, RateWindow, SymbolRisk};
use crate::twin;
use pyo3::exceptions::PyOverflowError;
use pyo3::prelude::*;
use pyo3::types::PyString;

const LIMIT: i64 = 0;
const MARKET: i64 = 1;
const PRICED_TRIGGER: i64 = 2;

const UNSURE: i64 = -1;
const FRESHNESS: i64 = -2;
const REDUCING: i64 = -3;
const FORM: i64 = -4;
const MARKET_DATA: i64 = -5;
const FILTERS: i64 = -6;
const UNKNOWN: i64 = -7;
const COLLAR: i64 = -8;
const ORDER_SIZE: i64 = -9;
const REDUCE_ONLY: i64 = -10;
const POSITION: i64 = -11;
const ACCOUNT: i64 = -12;
const SELF_TRADE: i64 = -13;
const MESSAGE_RATE: i64 = -14;
const NOT_PLAIN: i64 = -15;
const IDENTICAL: i64 = -16;
const RESERVED: i64 = 0;
const RESERVED_LAST: i64 = 1;

const FUTURE_NS: i64 = 1_000_000_000;
const SECOND_NS: i128 = 1_000_000_000;
const MINUTE_NS: i128 = 60_000_000_000;
const WHOLE_BPS: i128 = 10_000;

fn wide(number: i64) -> i128 {
    i128::from(number)
}

#[pyclass(module = "tickmesh_native", frozen)]
pub struct PreTradeKernel {
    ticks: (i64, i64),
    resting_lots: (i64, i64),
    market_lots: (i64, i64),
    own_max_lots: i64,
    max_position_lots: i64,
    min_notional_tl: i128,
    max_order_tl: i128,
    max_position_tl: i128,
    max_open_orders: i64,
    max_identical_open: i64,
    collar_bps: i64,
    mark_collar_bps: i64,
    passive_collar_bps: i64,
    max_book_age_ns: i64,
    max_mark_age_ns: i64,
    require_mark: bool,
    unit_atto: i128,
    max_exposure_atto: i128,
    max_leverage: i64,
    margin_use: (i128, i128),
}

/// An order as it came.
struct Order {
    kind: i64,
    buying: bool,
    price: i64,
    stop: i64,
    lots: i64,
    reduce_only: bool,
}

struct Market {
    bid: i64,
    ask: i64,
    mark: i64,
    band: (i64, i64),
    reference: i64,
}

/// Signed position, then lots and tick-lots of the orders that could add to it from either side.
struct Leg {
    position: i64,
    buy: (i64, i64),
    sell: (i64, i64),
}

struct Account {
    exposure: i128,
    margin: i128,
    equity: i128,
    available: i128,
    known: bool,
}

impl Order {
    fn priced(&self) -> bool {
        self.kind == LIMIT || self.kind == PRICED_TRIGGER
    }

    fn conditional(&self) -> bool {
        self.kind >= PRICED_TRIGGER
    }
}

fn first(numbers: [i64; 3]) -> i128 {
    wide(numbers.into_iter().find(|&number| number != 0).unwrap_or(0))
}

impl PreTradeKernel {
    fn worth(&self, order: &Order, market: &Market) -> i128 {
        match order.kind {
            LIMIT if order.buying => wide(order.price),
            LIMIT => wide(order.price.max(market.bid)),
            MARKET => {
                let touch = if order.buying { market.ask } else { market.bid };
                let worst = wide(touch.max(market.mark));
                worst + (worst * wide(self.collar_bps)).div_euclid(WHOLE_BPS) + 1
            }
            _ => wide(order.price.max(order.stop).max(market.mark)),
        }
    }

    fn filters(&self, order: &Order, market: &Market) -> bool {
        let within = |ticks: i64| (self.ticks.0..=self.ticks.1).contains(&ticks);
        if (order.priced() && !within(order.price)) || (order.conditional() && !within(order.stop)) {
            return false;
        }
        let bounds = if order.priced() { self.resting_lots } else { self.market_lots };
        if !(bounds.0..=bounds.1).contains(&order.lots) {
            return false;
        }
        let price = first([order.price, order.stop, market.reference]);
        if !order.reduce_only && price * wide(order.lots) < self.min_notional_tl {
            return false;
        }
        order.kind != LIMIT || if order.buying { order.price <= market.band.1 } else { order.price >= market.band.0 }
    }

    fn collar(&self, order: &Order, market: &Market) -> bool {
        let (mark, stop) = (wide(market.mark), wide(order.stop));
        if order.conditional() {
            let reference = wide(market.reference);
            let price = first([order.price, order.stop, 0]);
            return (stop - reference).abs() * WHOLE_BPS <= reference * wide(self.passive_collar_bps)
                && (price - stop).abs() * WHOLE_BPS <= stop * wide(self.mark_collar_bps);
        }
        let (sign, touch, own_touch) =
            if order.buying { (1, market.ask, market.bid) } else { (-1, market.bid, market.ask) };
        let price = first([order.price, touch, 0]);
        let (touch, own_touch) = (wide(touch), wide(own_touch));
        (price - touch) * sign * WHOLE_BPS <= touch * wide(self.collar_bps)
            && (mark == 0 || (price - mark) * sign * WHOLE_BPS <= mark * wide(self.mark_collar_bps))
            && (own_touch - price) * sign * WHOLE_BPS <= own_touch * wide(self.passive_collar_bps)
    }

    /// 0 when the position and the account can carry the order; None when that cannot be told.
    fn exposure(
        &self,
        order: &Order,
        worth: i128,
        leg: &Leg,
        market: &Market,
        account: &Account,
        leverage: i64,
    ) -> Option<i64> {
        let (reference, lots, position) = (wide(market.reference), wide(order.lots), wide(leg.position));
        let (own, held) = if order.buying { (leg.buy, position) } else { (leg.sell, -position) };
        let own_lots = wide(own.0) + lots;
        let opened = wide(own.1).checked_add(lots.checked_mul(worth)?)?.max(own_lots.checked_mul(reference)?);
        let worst = held.checked_mul(reference)?.checked_add(opened)?;
        if held + own_lots > wide(self.max_position_lots) || worst > self.max_position_tl {
            return Some(POSITION);
        }
        let value = position.checked_mul(reference)?;
        let open = |side: (i64, i64)| Some(wide(side.1).max(wide(side.0).checked_mul(reference)?));
        let now = value.checked_add(open(leg.buy)?)?.max(open(leg.sell)?.checked_sub(value)?).max(0);
        let added = worst.checked_sub(now)?.max(0).checked_mul(self.unit_atto)?;
        if account.exposure.checked_add(added)? > self.max_exposure_atto
            || leverage > self.max_leverage
            || !account.known
        {
            return Some(ACCOUNT);
        }
        if leverage < 1 {
            return None;
        }
        let needed = added.checked_add(wide(leverage) - 1)? / wide(leverage); // rounded up
        if needed > account.available {
            return Some(ACCOUNT);
        }
        let margin = account.margin.checked_add(needed)?.checked_mul(self.margin_use.1)?;
        Some(if margin <= account.equity.checked_mul(self.margin_use.0)? { 0 } else { ACCOUNT })
    }
}

/// Whether anything is halted, stopped or throttled that this strategy's order would need.
fn stopped(
    symbol: &SymbolRisk,
    account: &AccountRisk,
    strategy: &Bound<'_, PyString>,
    active: &Py<PyAny>,
) -> PyResult<bool> {
    let py = strategy.py();
    if !account.open_breakers.bind(py).is_empty()
        || !account.overall.is(active)
        || !account.account_state.is(active)
        || !symbol.state.is(active)
    {
        return Ok(true);
    }
    let throttled = account.throttled.bind(py);
    if !throttled.is_empty() && throttled.contains(strategy)? {
        return Ok(true);
    }
    let states = account.strategy_state.bind(py);
    Ok(!states.is_empty() && states.get_item(strategy)?.is_some_and(|state| !state.is(active)))
}

#[pymethods]
impl PreTradeKernel {
    #[new]
    #[pyo3(signature = (*, min_ticks, max_ticks, min_lots, max_lots, market_min_lots, market_max_lots, own_max_lots,
        max_position_lots, min_notional_tl, max_order_tl, max_position_tl, max_open_orders, max_identical_open, collar_bps,
        mark_collar_bps, passive_collar_bps, max_book_age_ns, max_mark_age_ns, require_mark, unit_atto,
        max_exposure_atto, max_leverage, margin_numerator, margin_denominator))]
    #[allow(clippy::too_many_arguments)]
    fn new(
        min_ticks: i64,
        max_ticks: i64,
        min_lots: i64,
        max_lots: i64,
        market_min_lots: i64,
        market_max_lots: i64,
        own_max_lots: i64,
        max_position_lots: i64,
        min_notional_tl: i128,
        max_order_tl: i128,
        max_position_tl: i128,
        max_open_orders: i64,
        max_identical_open: i64,
        collar_bps: i64,
        mark_collar_bps: i64,
        passive_collar_bps: i64,
        max_book_age_ns: i64,
        max_mark_age_ns: i64,
        require_mark: bool,
        unit_atto: i128,
        max_exposure_atto: i128,
        max_leverage: i64,
        margin_numerator: i128,
        margin_denominator: i128,
    ) -> PyResult<Self> {
        let small = [
            min_ticks,
            max_ticks,
            min_lots,
            max_lots,
            market_min_lots,
            market_max_lots,
            own_max_lots,
            max_position_lots,
            max_open_orders,
            max_identical_open,
            collar_bps,
            mark_collar_bps,
            passive_collar_bps,
            max_book_age_ns,
            max_mark_age_ns,
            max_leverage,
        ];
        let values = [
            min_notional_tl,
            max_order_tl,
            max_position_tl,
            unit_atto,
            max_exposure_atto,
            margin_numerator,
            margin_denominator,
        ];
        if let Some(number) = small.into_iter().map(wide).chain(values).find(|&number| number < 0) {
            return Err(PyOverflowError::new_err(format!("{number} is no bound of a pre-trade check")));
        }
        Ok(PreTradeKernel {
            ticks: (min_ticks, max_ticks),
            resting_lots: (min_lots, max_lots),
            market_lots: (market_min_lots, market_max_lots),
            own_max_lots,
            max_position_lots,
            min_notional_tl,
            max_order_tl,
            max_position_tl,
            max_open_orders,
            max_identical_open,
            collar_bps,
            mark_collar_bps,
            passive_collar_bps,
            max_book_age_ns,
            max_mark_age_ns,
            require_mark,
            unit_atto,
            max_exposure_atto,
            max_leverage,
            margin_use: (margin_numerator, margin_denominator),
        })
    }

    #[allow(clippy::too_many_arguments)]
    fn reserve(
        &self,
        symbol: &Bound<'_, SymbolRisk>,
        mut account: PyRefMut<'_, AccountRisk>,
        mut throttle: PyRefMut<'_, RateWindow>,
        client_order_id: &Bound<'_, PyString>,
        intent_id: &Bound<'_, PyString>,
        strategy: &Bound<'_, PyString>,
        order_type: &Bound<'_, PyAny>,
        side: i64,
        price: i64,
        stop: i64,
        lots: i64,
        time_in_force: &Bound<'_, PyAny>,
        reduce_only: bool,
        position_side: &Bound<'_, PyAny>,
        age_ns: i64,
        ttl_ns: i64,
        now_mono_ns: i64,
    ) -> PyResult<i64> {
        let py = symbol.py();
        let known = twin::orders(py)?;
        let (holder, mut symbol) = (symbol, symbol.borrow_mut());
        if strategy.is_empty()? || intent_id.is_empty()? || stopped(&symbol, &account, strategy, &known.active)? {
            return Ok(NOT_PLAIN);
        }
        let mut seen = account.seen.bind(py).clone().borrow_mut();
        let reservations = account.reservations.bind(py).clone();
        if seen.__contains__(intent_id)? || reservations.contains(client_order_id)? {
            return Ok(NOT_PLAIN);
        }
        let (Some(kind), Some(leg)) =
            (twin::number(&known.kinds, order_type), twin::number(&known.legs, position_side))
        else {
            return Ok(NOT_PLAIN);
        };
        let (buying, price_ticks) = (side > 0, if price != 0 { price } else { stop });
        let mut orders = symbol.orders.bind(py).clone().borrow_mut();
        if orders.alike(strategy, side, price_ticks, lots)? as i64 >= self.max_identical_open {
            return Ok(IDENTICAL);
        }
        let mut second = account.messages_second.bind(py).clone().borrow_mut();
        let mut minute = account.messages_minute.bind(py).clone().borrow_mut();
        let mut held = symbol.leg_of(py, leg).into_bound(py).borrow_mut();
        let (Ok(open_buy_tl), Ok(open_sell_tl)) =
            (i64::try_from(held.open_buy_tick_lots), i64::try_from(held.open_sell_tick_lots))
        else {
            return Ok(UNSURE);
        };
        let worth = self.check(
            kind,
            buying,
            price,
            stop,
            lots,
            time_in_force.is(&known.post_only),
            reduce_only,
            leg,
            account.hedge_mode,
            false,
            age_ns,
            ttl_ns,
            now_mono_ns,
            symbol.bid_ticks,
            symbol.ask_ticks,
            symbol.book_mono_ns,
            symbol.stale,
            symbol.mark_ticks,
            symbol.mark_mono_ns,
            symbol.mark_low_ticks.unwrap_or(0),
            symbol.mark_high_ticks.unwrap_or(i64::MAX),
            symbol.ref_ticks,
            symbol.leverage,
            orders.__len__() as i64,
            !symbol.unknown.bind(py).is_empty(),
            held.position_lots,
            held.open_buy_lots,
            held.open_sell_lots,
            open_buy_tl,
            open_sell_tl,
            orders.nearest(-side),
            account.exposure_atto,
            account.margin_atto,
            account.equity_atto.unwrap_or(0),
            account.available_atto.unwrap_or(0),
            account.equity_atto.is_some() && account.available_atto.is_some(),
            second.oldest_mono_ns(),
            minute.oldest_mono_ns(),
        );
        if worth < 0 {
            return Ok(worth);
        }
        held.open(side, lots, worth);
        drop(held);
        let resting_ticks = if stop != 0 { 0 } else { price };
        let order = OpenOrder {
            strategy: strategy.clone().unbind(),
            side,
            leg,
            price_ticks,
            lots,
            left_lots: lots,
            worth_ticks: worth,
            resting_ticks,
        };
        reservations.set_item(client_order_id, holder)?;
        seen.add(intent_id)?;
        orders.hold(client_order_id, order)?;
        account.refresh(py, &mut symbol);
        second.note(now_mono_ns);
        minute.note(now_mono_ns);
        throttle.note(now_mono_ns);
        Ok(if throttle.full(now_mono_ns) { RESERVED_LAST } else { RESERVED })
    }

    #[allow(clippy::too_many_arguments)]
    fn check(
        &self,
        kind: i64,
        buying: bool,
        price: i64,
        stop: i64,
        lots: i64,
        post_only: bool,
        reduce_only: bool,
        leg: i64,
        hedge: bool,
        reducing: bool,
        age_ns: i64,
        ttl_ns: i64,
        now_mono_ns: i64,
        bid: i64,
        ask: i64,
        book_mono_ns: i64,
        stale: bool,
        mark: i64,
        mark_mono_ns: i64,
        mark_low: i64,
        mark_high: i64,
        r#ref: i64,
        leverage: i64,
        open_orders: i64,
        unknown: bool,
        position: i64,
        open_buy: i64,
        open_sell: i64,
        open_buy_tl: i64,
        open_sell_tl: i64,
        resting: i64,
        exposure: i128,
        margin: i128,
        equity: i128,
        available: i128,
        balances: bool,
        second_mono_ns: i64,
        minute_mono_ns: i64,
    ) -> i64 {
        if age_ns > ttl_ns || age_ns < -FUTURE_NS {
            return FRESHNESS;
        }
        let order = Order { kind, buying, price, stop, lots, reduce_only };
        let market = Market { bid, ask, mark, band: (mark_low, mark_high), reference: r#ref };
        let shrinks = if buying {
            wide(position) + wide(open_buy) + wide(lots) <= 0 && leg != LONG
        } else {
            wide(position) - wide(open_sell) - wide(lots) >= 0 && leg != SHORT
        };
        if reducing && !shrinks {
            return REDUCING;
        }
        let fields = order.priced() == (price > 0) && order.conditional() == (stop > 0);
        if (leg == BOTH) == hedge || !fields || (post_only && kind == MARKET) {
            return FORM;
        }
        let age = |then_ns: i64| wide(now_mono_ns) - wide(then_ns);
        if book_mono_ns == 0 || stale || age(book_mono_ns) > wide(self.max_book_age_ns) || !(0 < bid && bid < ask) {
            return MARKET_DATA;
        }
        let no_mark = if mark != 0 { age(mark_mono_ns) > wide(self.max_mark_age_ns) } else { self.require_mark };
        if no_mark {
            return MARKET_DATA;
        }
        if !self.filters(&order, &market) {
            return FILTERS;
        }
        if unknown && !shrinks {
            return UNKNOWN;
        }
        if !self.collar(&order, &market) {
            return COLLAR;
        }
        let worth = self.worth(&order, &market);
        match worth.checked_mul(wide(lots)) {
            None => return UNSURE,
            Some(value) if value > self.max_order_tl => return ORDER_SIZE,
            _ if lots > self.own_max_lots || open_orders >= self.max_open_orders => return ORDER_SIZE,
            _ => {}
        }
        let closing = (leg == LONG && !buying) || (leg == SHORT && buying);
        if (reduce_only || closing) && !shrinks {
            return REDUCE_ONLY;
        }
        if !shrinks {
            let leg = Leg { position, buy: (open_buy, open_buy_tl), sell: (open_sell, open_sell_tl) };
            let account = Account { exposure, margin, equity, available, known: balances };
            match self.exposure(&order, worth, &leg, &market, &account, leverage) {
                Some(0) => {}
                Some(answer) => return answer,
                None => return UNSURE,
            }
        }
        let crosses = !order.priced() || if buying { price >= resting } else { price <= resting };
        if resting != 0 && !order.conditional() && crosses {
            return SELF_TRADE;
        }
        if age(second_mono_ns) < SECOND_NS || age(minute_mono_ns) < MINUTE_NS {
            return MESSAGE_RATE;
        }
        i64::try_from(worth).unwrap_or(UNSURE)
    }
}
