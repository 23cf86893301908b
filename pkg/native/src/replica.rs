//! One symbol's market: book, overlay of the faster top of book, last trade, features, and their messages.
//!
//! Twin: `hotpath/pure/replica.py`. `Core` is plain Rust; `BookReplica` is its Python face.

use crate::book::{Book, Level, Side};
use crate::features::{OrderFlow, RealisedVolatility, imbalance, microprice_ticks, mid_ticks};
use crate::grid::Grid;
use crate::pack::Packer;
use crate::scan;
use crate::sync::{Diff, Outcome, Synchroniser};
use crate::twin;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList};

/// Trades that `Market.run` keeps of one symbol before it stops at the next one.
const MAX_KEPT_TRADES: usize = 256;

/// The stamps that a message gets when it is published.
#[derive(Clone, Copy)]
pub struct Stamps {
    pub receive_ns: i64,
    pub publish_ns: i64,
    pub seq: i64,
    pub epoch: i64,
    pub receive_mono_ns: i64,
    pub publish_mono_ns: i64,
}

impl Stamps {
    /// The first five fields of every message.
    fn pack_head(&self, exchange_ns: i64, out: &mut Packer<'_>) {
        for value in [exchange_ns, self.receive_ns, self.publish_ns, self.seq, self.epoch] {
            out.integer(value);
        }
    }

    /// The last two fields of a market message.
    fn pack_tail(&self, out: &mut Packer<'_>) {
        out.integer(self.receive_mono_ns);
        out.integer(self.publish_mono_ns);
    }
}

pub struct Core {
    pub venue: String,
    pub symbol: String,
    pub price_grid: Grid,
    pub lot_grid: Grid,
    pub sync: Synchroniser,
    pub pending: i64,
    pub silent: bool,
    pub exchange_ns: i64,
    depth: usize,
    flow: OrderFlow,
    volatility: RealisedVolatility,
    top_id: i64,
    top_bid: Level,
    top_ask: Level,
    trade: scan::Trade,
    /// The id that the next trade has when none is missing; below zero while nobody knows.
    pub next_trade: i64,
    kept_trades: Vec<scan::Trade>,
    // Reused for every frame: nothing is allocated on the steady path.
    pub frame_bids: Vec<Level>,
    pub frame_asks: Vec<Level>,
    shown_bids: Vec<Level>,
    shown_asks: Vec<Level>,
    packed: Vec<u8>,
}

impl Core {
    pub fn behind_top(&self) -> bool {
        self.top_id > self.sync.last_id
    }

    pub fn stale(&self) -> bool {
        self.silent || !self.sync.synchronised
    }

    /// Take the diff whose levels are in `frame_bids` and `frame_asks`.
    #[inline]
    pub fn on_frame_diff(&mut self, ids: &scan::DepthIds) -> Outcome {
        let Core { sync, frame_bids, frame_asks, .. } = self;
        let diff =
            Diff { first: ids.first, last: ids.last, previous: ids.previous, bids: frame_bids, asks: frame_asks };
        let outcome = sync.on_diff(diff);
        match outcome {
            Outcome::Applied => {
                self.silent = false;
                self.exchange_ns = ids.exchange_ns;
                self.pending += 1;
                if self.top_id <= self.sync.last_id {
                    if let (Some(bid), Some(ask)) = (self.sync.book.best_bid(), self.sync.book.best_ask()) {
                        self.account(bid, ask, ids.exchange_ns);
                    }
                }
            }
            Outcome::Gap => self.interrupt(),
            Outcome::Buffered | Outcome::Old => {}
        }
        outcome
    }

    pub fn on_snapshot(&mut self, last_update_id: i64, bids: &[Level], asks: &[Level], exchange_ns: i64) -> bool {
        let was = self.sync.synchronised;
        let used = self.sync.on_snapshot(last_update_id, bids, asks);
        if self.sync.synchronised && !was {
            self.silent = false;
            self.pending += 1;
            self.exchange_ns = self.exchange_ns.max(exchange_ns);
        }
        used
    }

    #[inline]
    pub fn on_top(&mut self, top: &scan::Top) -> bool {
        if top.id <= self.top_id || !self.sync.synchronised || top.id <= self.sync.last_id {
            return false;
        }
        (self.top_id, self.top_bid, self.top_ask) = (top.id, top.bid, top.ask);
        self.silent = false;
        self.exchange_ns = top.exchange_ns;
        self.pending += 1;
        if top.bid.1 != 0 && top.ask.1 != 0 {
            self.account(top.bid, top.ask, top.exchange_ns);
        }
        true
    }

    pub fn on_trade(&mut self, trade: scan::Trade) {
        self.trade = trade;
    }

    /// Keep the last trade when it is the next one and there is room; false leaves it to the caller.
    #[inline]
    pub fn keep_next_trade(&mut self) -> bool {
        let plain = self.trade.id == self.next_trade && self.kept_trades.len() < MAX_KEPT_TRADES;
        if plain {
            self.next_trade += 1;
            self.kept_trades.push(self.trade);
        }
        plain
    }

    pub fn disconnect(&mut self) {
        self.sync.disconnect();
        self.interrupt();
    }

    #[inline]
    fn account(&mut self, bid: Level, ask: Level, exchange_ns: i64) {
        self.flow.update(bid, ask, exchange_ns);
        self.volatility.update(mid_ticks(bid.0, ask.0), exchange_ns);
    }

    fn interrupt(&mut self) {
        self.top_id = 0;
        self.flow.reset();
        self.volatility.reset();
    }

    /// Fill `shown_bids` and `shown_asks` with the best levels, the newer top over them.
    #[inline]
    fn show(&mut self) {
        let overlay = self.behind_top();
        let Core { sync, shown_bids, shown_asks, depth, top_bid, top_ask, .. } = self;
        shown_bids.clear();
        shown_asks.clear();
        let Book { bids, asks } = &sync.book;
        if overlay {
            over(shown_bids, bids, *top_bid, *depth, 1);
            over(shown_asks, asks, *top_ask, *depth, -1);
        } else {
            bids.copy_best(*depth, 1, shown_bids);
            asks.copy_best(*depth, -1, shown_asks);
        }
    }

    /// Mid, spread, imbalance, microprice, order flow, volatility.
    pub fn features(&mut self) -> [f64; 6] {
        self.show();
        let (bids, asks) = (&self.shown_bids, &self.shown_asks);
        let (mid, spread) = match (bids.first(), asks.first()) {
            (Some(bid), Some(ask)) => (mid_ticks(bid.0, ask.0), (ask.0 - bid.0) as f64),
            _ => (0.0, 0.0),
        };
        let (imbalance, microprice) = (imbalance(bids, asks), microprice_ticks(bids, asks));
        [mid, spread, imbalance, microprice, self.flow.value, self.volatility.value]
    }

    /// Imbalance and best prices of what is shown; None when it is stale or a side is empty.
    #[inline]
    pub fn leaning(&mut self) -> Option<(f64, i64, i64)> {
        self.show();
        if self.stale() {
            return None;
        }
        let (bid, ask) = (self.shown_bids.first()?.0, self.shown_asks.first()?.0);
        Some((imbalance(&self.shown_bids, &self.shown_asks), bid, ask))
    }

    fn take_conflated(&mut self) -> i64 {
        let conflated = (self.pending - 1).max(0);
        self.pending = 0;
        conflated
    }

    fn shown_stale(&self) -> bool {
        let crossed = match (self.shown_bids.first(), self.shown_asks.first()) {
            (Some(bid), Some(ask)) => bid.0 >= ask.0,
            _ => false,
        };
        crossed || self.stale()
    }

    /// The BookUpdate in `packed`. Fields and order: `domain/messages.py`.
    pub fn pack_update(&mut self, stamps: &Stamps) -> &[u8] {
        self.show();
        let conflated = self.take_conflated();
        let stale = self.shown_stale();
        let update_id = self.sync.last_id.max(self.top_id);
        let (bids, asks) = (&self.shown_bids, &self.shown_asks);
        let mut out = Packer::new(&mut self.packed);
        out.array(18);
        stamps.pack_head(self.exchange_ns, &mut out);
        out.text(&self.venue);
        out.text(&self.symbol);
        out.integer(update_id);
        for side in [bids, asks] {
            out.array(side.len());
            for &(ticks, lots) in side {
                out.array(2);
                out.integer(ticks);
                out.integer(lots);
            }
        }
        out.float(imbalance(bids, asks));
        out.float(microprice_ticks(bids, asks));
        out.float(self.flow.value);
        out.float(self.volatility.value);
        out.integer(conflated);
        out.boolean(stale);
        stamps.pack_tail(&mut out);
        &self.packed
    }

    /// A trade in `packed`.
    fn pack_trade(&mut self, trade: scan::Trade, stamps: &Stamps) -> &[u8] {
        let mut out = Packer::new(&mut self.packed);
        out.array(13);
        stamps.pack_head(trade.exchange_ns, &mut out);
        out.text(&self.venue);
        out.text(&self.symbol);
        out.integer(trade.id);
        out.integer(trade.ticks);
        out.integer(trade.lots);
        out.integer(if trade.buyer_is_maker { -1 } else { 1 });
        stamps.pack_tail(&mut out);
        &self.packed
    }
}

/// `top` and the best levels behind it: what lies before it is gone; a top without lots says its side is empty.
fn over(shown: &mut Vec<Level>, side: &Side, top: Level, depth: usize, sign: i64) {
    if top.1 == 0 {
        return;
    }
    shown.push(top);
    side.copy_below(top.0 * sign, depth.saturating_sub(1), sign, shown);
}

/// The Python face of a replica.
#[pyclass(module = "tickmesh_native")]
pub struct BookReplica {
    pub core: Core,
    prices: Py<PyAny>,
    quantities: Py<PyAny>,
}

#[pymethods]
impl BookReplica {
    #[new]
    #[pyo3(signature = (venue, symbol, *, tick_size, lot_size, depth, flow_half_life_ns, volatility_interval_ns,
                        volatility_half_life_ns))]
    #[allow(clippy::too_many_arguments)]
    fn new(
        py: Python<'_>,
        venue: String,
        symbol: String,
        tick_size: &Bound<'_, PyAny>,
        lot_size: &Bound<'_, PyAny>,
        depth: usize,
        flow_half_life_ns: i64,
        volatility_interval_ns: i64,
        volatility_half_life_ns: i64,
    ) -> PyResult<Self> {
        let grid = twin::attribute(py, "tickmesh.hotpath.pure.grid", "Grid")?;
        let prices = grid.call1((tick_size, "price", &symbol))?.unbind();
        let quantities = grid.call1((lot_size, "quantity", &symbol))?.unbind();
        let core = Core {
            venue,
            symbol,
            price_grid: Grid::from_decimal(tick_size)?,
            lot_grid: Grid::from_decimal(lot_size)?,
            sync: Synchroniser::new(),
            pending: 0,
            silent: false,
            exchange_ns: 0,
            depth,
            flow: OrderFlow::new(flow_half_life_ns),
            volatility: RealisedVolatility::new(volatility_interval_ns, volatility_half_life_ns),
            top_id: 0,
            top_bid: (0, 0),
            top_ask: (0, 0),
            trade: scan::Trade { exchange_ns: 0, id: 0, ticks: 0, lots: 0, buyer_is_maker: false },
            next_trade: -1,
            kept_trades: Vec::with_capacity(MAX_KEPT_TRADES),
            frame_bids: Vec::with_capacity(4096),
            frame_asks: Vec::with_capacity(4096),
            shown_bids: Vec::with_capacity(64),
            shown_asks: Vec::with_capacity(64),
            packed: Vec::with_capacity(4096),
        };
        Ok(BookReplica { core, prices, quantities })
    }

    #[getter]
    fn venue(&self) -> &str {
        &self.core.venue
    }

    #[getter]
    fn symbol(&self) -> &str {
        &self.core.symbol
    }

    #[getter]
    pub fn prices(&self, py: Python<'_>) -> Py<PyAny> {
        self.prices.clone_ref(py)
    }

    #[getter]
    pub fn quantities(&self, py: Python<'_>) -> Py<PyAny> {
        self.quantities.clone_ref(py)
    }

    #[getter]
    fn pending(&self) -> i64 {
        self.core.pending
    }

    #[getter]
    fn silent(&self) -> bool {
        self.core.silent
    }

    #[setter]
    fn set_silent(&mut self, silent: bool) {
        self.core.silent = silent;
    }

    #[getter]
    fn exchange_ns(&self) -> i64 {
        self.core.exchange_ns
    }

    #[getter]
    fn stale(&self) -> bool {
        self.core.stale()
    }

    #[getter]
    fn synchronised(&self) -> bool {
        self.core.sync.synchronised
    }

    #[getter]
    fn needs_snapshot(&self) -> bool {
        self.core.sync.needs_snapshot()
    }

    #[getter]
    fn last_id(&self) -> i64 {
        self.core.sync.last_id
    }

    #[getter]
    fn gaps(&self) -> u64 {
        self.core.sync.gaps
    }

    #[getter]
    fn overflows(&self) -> u64 {
        self.core.sync.overflows
    }

    #[getter]
    fn buffered(&self) -> usize {
        self.core.sync.buffered()
    }

    #[getter]
    fn trade_id(&self) -> i64 {
        self.core.trade.id
    }

    #[getter]
    fn next_trade(&self) -> i64 {
        self.core.next_trade
    }

    #[setter]
    fn set_next_trade(&mut self, trade_id: i64) {
        self.core.next_trade = trade_id;
    }

    /// (trade id, ticks, lots, taker's side as a sign, exchange_ns) of the last trade.
    #[getter]
    fn last_trade(&self) -> (i64, i64, i64, i64, i64) {
        let scan::Trade { exchange_ns, id, ticks, lots, buyer_is_maker } = self.core.trade;
        (id, ticks, lots, if buyer_is_maker { -1 } else { 1 }, exchange_ns)
    }

    #[getter]
    fn behind_top(&self) -> bool {
        self.core.behind_top()
    }

    fn on_diff(&mut self, py: Python<'_>, diff: twin::Diff, exchange_ns: i64) -> PyResult<Py<PyAny>> {
        let (first, last, previous, bids, asks) = diff;
        (self.core.frame_bids, self.core.frame_asks) = (bids, asks);
        let outcome = self.core.on_frame_diff(&scan::DepthIds { exchange_ns, first, last, previous });
        twin::outcome(py, outcome)
    }

    #[pyo3(signature = (last_update_id, bids, asks, exchange_ns = 0))]
    fn on_snapshot(&mut self, last_update_id: i64, bids: Vec<Level>, asks: Vec<Level>, exchange_ns: i64) -> bool {
        self.core.on_snapshot(last_update_id, &bids, &asks, exchange_ns)
    }

    fn on_top(&mut self, update_id: i64, bid: Level, ask: Level, exchange_ns: i64) -> bool {
        self.core.on_top(&scan::Top { exchange_ns, id: update_id, bid, ask })
    }

    fn on_trade(&mut self, trade_id: i64, ticks: i64, lots: i64, taker_side: i64, exchange_ns: i64) {
        self.core.on_trade(scan::Trade { exchange_ns, id: trade_id, ticks, lots, buyer_is_maker: taker_side < 0 });
    }

    fn keep_trade(&mut self) {
        self.core.kept_trades.push(self.core.trade);
    }

    fn disconnect(&mut self) {
        self.core.disconnect();
    }

    fn levels(&mut self) -> (Vec<Level>, Vec<Level>) {
        self.core.show();
        (self.core.shown_bids.clone(), self.core.shown_asks.clone())
    }

    #[pyo3(signature = (count = 0))]
    fn bids(&self, count: usize) -> Vec<Level> {
        self.core.sync.book.top_bids(count).collect()
    }

    #[pyo3(signature = (count = 0))]
    fn asks(&self, count: usize) -> Vec<Level> {
        self.core.sync.book.top_asks(count).collect()
    }

    fn checksum(&self) -> u32 {
        self.core.sync.book.checksum()
    }

    fn features(&mut self) -> (f64, f64, f64, f64, f64, f64) {
        let [mid, spread, imbalance, microprice, flow, volatility] = self.core.features();
        (mid, spread, imbalance, microprice, flow, volatility)
    }

    fn update(&mut self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let [_, _, imbalance, microprice, flow, volatility] = self.core.features();
        let conflated = self.core.take_conflated();
        let core = &self.core;
        let fields = PyDict::new(py);
        fields.set_item("exchange_ns", core.exchange_ns)?;
        fields.set_item("venue", &core.venue)?;
        fields.set_item("symbol", &core.symbol)?;
        fields.set_item("update_id", core.sync.last_id.max(core.top_id))?;
        fields.set_item("bids", core.shown_bids.clone())?;
        fields.set_item("asks", core.shown_asks.clone())?;
        fields.set_item("imbalance", imbalance)?;
        fields.set_item("microprice_ticks", microprice)?;
        fields.set_item("order_flow_imbalance", flow)?;
        fields.set_item("volatility_bps", volatility)?;
        fields.set_item("conflated", conflated)?;
        fields.set_item("stale", core.shown_stale())?;
        let kind = twin::attribute(py, "tickmesh.domain.messages", "BookUpdate")?;
        Ok(kind.call((), Some(&fields))?.unbind())
    }

    #[allow(clippy::too_many_arguments)] // the twin's interface
    fn encode_update<'py>(
        &mut self,
        py: Python<'py>,
        receive_ns: i64,
        publish_ns: i64,
        seq: i64,
        epoch: i64,
        receive_mono_ns: i64,
        publish_mono_ns: i64,
    ) -> Bound<'py, PyBytes> {
        let stamps = Stamps { receive_ns, publish_ns, seq, epoch, receive_mono_ns, publish_mono_ns };
        PyBytes::new(py, self.core.pack_update(&stamps))
    }

    #[allow(clippy::too_many_arguments)]
    fn encode_trades<'py>(
        &mut self,
        py: Python<'py>,
        receive_ns: i64,
        publish_ns: i64,
        first_seq: i64,
        epoch: i64,
        receive_mono_ns: i64,
        publish_mono_ns: i64,
    ) -> PyResult<Bound<'py, PyList>> {
        let messages = PyList::empty(py);
        let mut stamps = Stamps { receive_ns, publish_ns, seq: first_seq, epoch, receive_mono_ns, publish_mono_ns };
        for index in 0..self.core.kept_trades.len() {
            let trade = self.core.kept_trades[index];
            messages.append(PyBytes::new(py, self.core.pack_trade(trade, &stamps)))?;
            stamps.seq = stamps.seq.wrapping_add(1);
        }
        self.core.kept_trades.clear();
        Ok(messages)
    }
}
