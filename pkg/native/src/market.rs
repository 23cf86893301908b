//! Frames of a venue connection, straight into the replicas. Twin: `hotpath/pure/market.py`.
//!
//! The scanner takes what the venue usually sends. Everything else goes to the twin's `read`, which answers or raises,
//! and its answer goes into the same native books: one behaviour, two speeds.

use crate::book::Level;
use crate::replica::{BookReplica, Core};
use crate::scan::{self, Kind};
use crate::twin;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyTuple};
use std::mem::take;

pub const OTHER: u8 = 0;
pub const APPLIED: u8 = 1;
pub const BUFFERED: u8 = 2;
pub const OLD: u8 = 3;
pub const GAP: u8 = 4;
pub const TOP: u8 = 5;
pub const TOP_OLD: u8 = 6;
pub const TRADE: u8 = 7;

/// A symbol of the connection, and what the frames taken by `run` did to it since `touched` was asked.
struct Known {
    name: Vec<u8>,
    replica: Py<BookReplica>,
    frames: u64,
    changed: bool,
    applied: bool,
    trades: u64,
}

/// (number, whether its book changed, whether by a diff, its trades)
type Touched = (usize, bool, bool, u64);

#[pyclass(module = "tickmesh_native")]
pub struct Market {
    replicas: Vec<Known>,
    /// Numbers of those with frames, in the order of the first one.
    touched: Vec<usize>,
    grids: Py<PyDict>,
    read: Py<PyAny>,
    #[pyo3(get)]
    last: i64,
    /// Where `run` stands in its frames, and the outcome of the frame there.
    #[pyo3(get)]
    at: usize,
    #[pyo3(get)]
    outcome: u8,
    likely: usize,
    /// Frames that the scanner left to the twin; a rising number says that the venue's layout has changed.
    #[pyo3(get)]
    left_to_twin: u64,
}

#[pymethods]
impl Market {
    #[new]
    fn new(py: Python<'_>) -> PyResult<Self> {
        let read = twin::attribute(py, "tickmesh.hotpath.pure.market", "read")?.unbind();
        Ok(Market {
            replicas: Vec::new(),
            touched: Vec::new(),
            grids: PyDict::new(py).unbind(),
            read,
            last: -1,
            at: 0,
            outcome: OTHER,
            likely: 0,
            left_to_twin: 0,
        })
    }

    fn add(&mut self, py: Python<'_>, replica: Py<BookReplica>) -> PyResult<usize> {
        let (symbol, prices, quantities) = {
            let found = replica.borrow(py);
            (found.core.symbol.clone(), found.prices(py), found.quantities(py))
        };
        self.grids.bind(py).set_item(&symbol, (prices, quantities))?;
        let name = symbol.into_bytes();
        Ok(match self.replicas.iter().position(|known| known.name == name) {
            Some(number) => {
                self.replicas[number].replica = replica;
                number
            }
            None => {
                self.replicas.push(Known { name, replica, frames: 0, changed: false, applied: false, trades: 0 });
                self.touched.reserve(self.replicas.len());
                self.replicas.len() - 1
            }
        })
    }

    fn on_frame(&mut self, py: Python<'_>, frame: &Bound<'_, PyBytes>) -> PyResult<u8> {
        let text = frame.as_bytes();
        if let Some(head) = scan::head(text) {
            let index = match self.replicas.get(self.likely) {
                Some(known) if known.name == head.symbol => Some(self.likely),
                _ => self.replicas.iter().position(|known| known.name == head.symbol),
            };
            if let Some(index) = index {
                let mut replica = self.replicas[index].replica.try_borrow_mut(py)?;
                if let Some(outcome) = apply(&mut replica.core, text, &head) {
                    drop(replica);
                    self.last = index as i64;
                    self.likely = index;
                    return Ok(outcome);
                }
            }
        }
        self.last = -1;
        self.left_to_twin += 1;
        self.slowly(py, frame)
    }

    fn run(&mut self, py: Python<'_>, frames: &Bound<'_, PyList>, start: usize) -> PyResult<usize> {
        self.at = start;
        while self.at < frames.len() {
            let frame = frames.get_item(self.at)?;
            let outcome = self.on_frame(py, frame.cast::<PyBytes>()?)?;
            let traded = outcome == TRADE && self.keep_next_trade(py)?;
            if !traded && !matches!(outcome, TOP | TOP_OLD | APPLIED) {
                self.outcome = outcome;
                return Ok(self.at);
            }
            let known = &mut self.replicas[self.last as usize];
            if known.frames == 0 {
                self.touched.push(self.last as usize);
            }
            known.frames += 1;
            known.changed |= matches!(outcome, TOP | APPLIED);
            known.applied |= outcome == APPLIED;
            known.trades += u64::from(traded);
            self.at += 1;
        }
        Ok(self.at)
    }

    fn touched(&mut self) -> Vec<Touched> {
        let replicas = &mut self.replicas;
        let told = self.touched.drain(..).map(|number| {
            let Known { frames, changed, applied, trades, .. } = &mut replicas[number];
            *frames = 0;
            (number, take(changed), take(applied), take(trades))
        });
        told.collect()
    }
}

#[inline]
fn apply(core: &mut Core, text: &[u8], head: &scan::Head<'_>) -> Option<u8> {
    let (prices, quantities) = (core.price_grid, core.lot_grid);
    Some(match head.kind {
        Kind::Depth => {
            core.frame_bids.clear();
            core.frame_asks.clear();
            let Core { frame_bids, frame_asks, .. } = core;
            let ids = scan::depth(text, head, &prices, &quantities, frame_bids, frame_asks)?;
            core.on_frame_diff(&ids) as u8
        }
        Kind::Top => {
            let top = scan::top(text, head, &prices, &quantities)?;
            if core.on_top(&top) { TOP } else { TOP_OLD }
        }
        Kind::Trade => {
            let trade = scan::trade(text, head, &prices, &quantities)?;
            if trade.ticks == 0 || trade.lots == 0 {
                return None; // the twin has a word for that
            }
            core.on_trade(trade);
            TRADE
        }
    })
}

impl Market {
    /// Whether the last frame's trade is kept for `encode_trades`.
    #[inline]
    fn keep_next_trade(&self, py: Python<'_>) -> PyResult<bool> {
        Ok(self.replicas[self.last as usize].replica.try_borrow_mut(py)?.core.keep_next_trade())
    }

    /// By the twin's parser: any order of fields, white space, escapes, and every error.
    fn slowly(&mut self, py: Python<'_>, frame: &Bound<'_, PyBytes>) -> PyResult<u8> {
        let found = self.read.bind(py).call1((frame, &self.grids))?;
        if found.is_none() {
            return Ok(OTHER);
        }
        let found = found.cast::<PyTuple>()?;
        let symbol: String = found.get_item(0)?.extract()?;
        let exchange_ns: i64 = found.get_item(1)?.extract()?;
        let Some(index) = self.replicas.iter().position(|known| known.name == symbol.as_bytes()) else {
            return Ok(OTHER);
        };
        let mut replica = self.replicas[index].replica.try_borrow_mut(py)?;
        let core = &mut replica.core;
        let outcome = match found.len() {
            3 => {
                let (first, last, previous, bids, asks): twin::Diff = found.get_item(2)?.extract()?;
                (core.frame_bids, core.frame_asks) = (bids, asks);
                core.on_frame_diff(&scan::DepthIds { exchange_ns, first, last, previous }) as u8
            }
            5 => {
                let id: i64 = found.get_item(2)?.extract()?;
                let bid: Level = found.get_item(3)?.extract()?;
                let ask: Level = found.get_item(4)?.extract()?;
                if core.on_top(&scan::Top { exchange_ns, id, bid, ask }) { TOP } else { TOP_OLD }
            }
            _ => {
                let id: i64 = found.get_item(2)?.extract()?;
                let ticks: i64 = found.get_item(3)?.extract()?;
                let lots: i64 = found.get_item(4)?.extract()?;
                let taker: i64 = found.get_item(5)?.extract()?;
                core.on_trade(scan::Trade { exchange_ns, id, ticks, lots, buyer_is_maker: taker < 0 });
                TRADE
            }
        };
        drop(replica);
        self.last = index as i64;
        Ok(outcome)
    }
}
