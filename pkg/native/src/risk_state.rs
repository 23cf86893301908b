//! What the pre-trade kernel looks at and changes. Twin and rules: `hotpath/pure/risk_state.py`.
//!
//! Sums that could leave 128 bits stay at their bound, which no limit lets pass.

use crate::open_orders::{BOTH, LONG, OpenOrders, RecentIds};
use crate::twin;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PySet, PyTuple};
use std::collections::VecDeque;

const MOST_ATTO: i128 = 1 << 110;
const SEEN_INTENTS: usize = 200_000;
const NEVER_NS: i64 = -(1 << 62);

fn wide(number: i64) -> i128 {
    i128::from(number)
}

#[pyclass(module = "tickmesh_native", get_all, set_all)]
#[derive(Default)]
pub struct Leg {
    pub position_lots: i64,
    pub open_buy_lots: i64,
    pub open_sell_lots: i64,
    pub open_buy_tick_lots: i128,
    pub open_sell_tick_lots: i128,
}

#[pymethods]
impl Leg {
    #[new]
    fn new() -> Self {
        Leg::default()
    }

    pub fn worst_tick_lots(&self, ref_ticks: i64) -> i128 {
        let reference = wide(ref_ticks);
        let held = wide(self.position_lots) * reference;
        let open = |lots: i64, tick_lots: i128| tick_lots.max(wide(lots) * reference);
        let long = held.saturating_add(open(self.open_buy_lots, self.open_buy_tick_lots));
        let short = open(self.open_sell_lots, self.open_sell_tick_lots).saturating_sub(held);
        long.max(short).max(0)
    }

    pub fn open(&mut self, side: i64, lots: i64, worth_ticks: i64) {
        let value = wide(lots) * wide(worth_ticks);
        if side > 0 {
            self.open_buy_lots = self.open_buy_lots.saturating_add(lots);
            self.open_buy_tick_lots = self.open_buy_tick_lots.saturating_add(value);
        } else {
            self.open_sell_lots = self.open_sell_lots.saturating_add(lots);
            self.open_sell_tick_lots = self.open_sell_tick_lots.saturating_add(value);
        }
    }
}

#[pyclass(module = "tickmesh_native")]
pub struct RateWindow {
    #[pyo3(get)]
    size: usize,
    #[pyo3(get)]
    window_ns: i64,
    times: VecDeque<i64>,
}

#[pymethods]
impl RateWindow {
    #[new]
    fn new(size: usize, window_ns: i64) -> Self {
        RateWindow { size, window_ns, times: VecDeque::new() }
    }

    pub fn full(&self, now_mono_ns: i64) -> bool {
        wide(now_mono_ns) - wide(self.oldest_mono_ns()) < wide(self.window_ns)
    }

    #[getter]
    pub fn oldest_mono_ns(&self) -> i64 {
        let before = self.times.len().checked_sub(self.size);
        before.and_then(|index| self.times.get(index)).copied().unwrap_or(NEVER_NS)
    }

    pub fn note(&mut self, now_mono_ns: i64) {
        self.times.push_back(now_mono_ns);
        while self.times.len() > self.size {
            self.times.pop_front();
        }
    }

    fn resized(&self, size: usize, window_ns: i64) -> Self {
        RateWindow { size, window_ns, times: self.times.clone() }
    }
}

#[pyclass(module = "tickmesh_native", subclass, get_all, set_all)]
pub struct SymbolRisk {
    pub unit_atto: i128,
    pub bid_ticks: i64,
    pub ask_ticks: i64,
    pub book_mono_ns: i64,
    pub stale: bool,
    pub mark_ticks: i64,
    pub mark_mono_ns: i64,
    pub ref_ticks: i64,
    pub mark_low_ticks: Option<i64>,
    pub mark_high_ticks: Option<i64>,
    pub leverage: i64,
    pub both: Py<Leg>,
    pub long: Py<Leg>,
    pub short: Py<Leg>,
    pub orders: Py<OpenOrders>,
    pub exposure_atto: i128,
    pub margin_atto: i128,
    pub state: Py<PyAny>,
    pub unknown: Py<PySet>,
}

#[pymethods]
impl SymbolRisk {
    #[new]
    #[pyo3(signature = (*_given, **_named))]
    fn new(py: Python<'_>, _given: &Bound<'_, PyTuple>, _named: Option<&Bound<'_, PyDict>>) -> PyResult<Self> {
        Ok(SymbolRisk {
            unit_atto: 1,
            bid_ticks: 0,
            ask_ticks: 0,
            book_mono_ns: 0,
            stale: true,
            mark_ticks: 0,
            mark_mono_ns: 0,
            ref_ticks: 0,
            mark_low_ticks: None,
            mark_high_ticks: None,
            leverage: 1,
            both: Py::new(py, Leg::default())?,
            long: Py::new(py, Leg::default())?,
            short: Py::new(py, Leg::default())?,
            orders: Py::new(py, OpenOrders::default())?,
            exposure_atto: 0,
            margin_atto: 0,
            state: twin::orders(py)?.active.clone_ref(py),
            unknown: PySet::empty(py)?.unbind(),
        })
    }

    pub fn leg_of(&self, py: Python<'_>, number: i64) -> Py<Leg> {
        match number {
            BOTH => &self.both,
            LONG => &self.long,
            _ => &self.short,
        }
        .clone_ref(py)
    }
}

#[pyclass(module = "tickmesh_native", subclass, get_all, set_all)]
pub struct AccountRisk {
    pub hedge_mode: bool,
    pub equity_atto: Option<i128>,
    pub available_atto: Option<i128>,
    pub exposure_atto: i128,
    pub margin_atto: i128,
    pub messages_second: Py<RateWindow>,
    pub messages_minute: Py<RateWindow>,
    pub overall: Py<PyAny>,
    pub account_state: Py<PyAny>,
    pub strategy_state: Py<PyDict>,
    pub open_breakers: Py<PySet>,
    pub throttled: Py<PySet>,
    pub reservations: Py<PyDict>,
    pub seen: Py<RecentIds>,
}

#[pymethods]
impl AccountRisk {
    #[new]
    #[pyo3(signature = (*_given, **_named))]
    fn new(py: Python<'_>, _given: &Bound<'_, PyTuple>, _named: Option<&Bound<'_, PyDict>>) -> PyResult<Self> {
        Ok(AccountRisk {
            hedge_mode: false,
            equity_atto: None,
            available_atto: None,
            exposure_atto: 0,
            margin_atto: 0,
            messages_second: Py::new(py, RateWindow::new(1, 1_000_000_000))?,
            messages_minute: Py::new(py, RateWindow::new(1, 60_000_000_000))?,
            overall: twin::orders(py)?.active.clone_ref(py),
            account_state: twin::orders(py)?.active.clone_ref(py),
            strategy_state: PyDict::new(py).unbind(),
            open_breakers: PySet::empty(py)?.unbind(),
            throttled: PySet::empty(py)?.unbind(),
            reservations: PyDict::new(py).unbind(),
            seen: Py::new(py, RecentIds::new(py, SEEN_INTENTS)?)?,
        })
    }

    pub fn refresh(&mut self, py: Python<'_>, symbol: &mut SymbolRisk) {
        let reference = symbol.ref_ticks;
        let mut worst = symbol.both.borrow(py).worst_tick_lots(reference);
        if self.hedge_mode {
            for leg in [&symbol.long, &symbol.short] {
                worst = worst.saturating_add(leg.borrow(py).worst_tick_lots(reference));
            }
        }
        let exposure = worst.checked_mul(symbol.unit_atto).unwrap_or(MOST_ATTO).min(MOST_ATTO);
        let margin = exposure.div_euclid(wide(symbol.leverage.max(1)));
        self.exposure_atto += exposure - symbol.exposure_atto;
        self.margin_atto += margin - symbol.margin_atto;
        symbol.exposure_atto = exposure;
        symbol.margin_atto = margin;
    }
}
