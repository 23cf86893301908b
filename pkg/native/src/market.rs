//! Frames of a venue connection, straight into the replicas. Twin: `hotpath/pure/market.py`.
//!
//! The scanner takes what the venue usually sends. Everything else goes to the twin's `read`, which answers or raises,
//! and its answer goes into the same native books: one behaviour, two speeds.

use crate::book::Level;
use crate::replica::{BookReplica, Core};
use crate::scan::{self, Kind};
use crate::twin;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyTuple};

pub const OTHER: u8 = 0;
pub const APPLIED: u8 = 1;
pub const BUFFERED: u8 = 2;
pub const OLD: u8 = 3;
pub const GAP: u8 = 4;
pub const TOP: u8 = 5;
pub const TOP_OLD: u8 = 6;
pub const TRADE: u8 = 7;

#[pyclass(module = "tickmesh_native")]
pub struct Market {
    replicas: Vec<(Vec<u8>, Py<BookReplica>)>,
    grids: Py<PyDict>,
    read: Py<PyAny>,
    #[pyo3(get)]
    last: i64,
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
        Ok(Market { replicas: Vec::new(), grids: PyDict::new(py).unbind(), read, last: -1, likely: 0, left_to_twin: 0 })
    }

    fn add(&mut self, py: Python<'_>, replica: Py<BookReplica>) -> PyResult<usize> {
        let (symbol, prices, quantities) = {
            let found = replica.borrow(py);
            (found.core.symbol.clone(), found.prices(py), found.quantities(py))
        };
        self.grids.bind(py).set_item(&symbol, (prices, quantities))?;
        let name = symbol.into_bytes();
        Ok(match self.replicas.iter().position(|known| known.0 == name) {
            Some(number) => {
                self.replicas[number].1 = replica;
                number
            }
            None => {
                self.replicas.push((name, replica));
                self.replicas.len() - 1
            }
        })
    }

    fn on_frame(&mut self, py: Python<'_>, frame: &Bound<'_, PyBytes>) -> PyResult<u8> {
        let text = frame.as_bytes();
        if let Some(head) = scan::head(text) {
            let index = match self.replicas.get(self.likely) {
                Some(known) if known.0 == head.symbol => Some(self.likely),
                _ => self.replicas.iter().position(|known| known.0 == head.symbol),
            };
            if let Some(index) = index {
                let mut replica = self.replicas[index].1.try_borrow_mut(py)?;
                if let Some(outcome) = take(&mut replica.core, text, &head) {
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
}

#[inline]
fn take(core: &mut Core, text: &[u8], head: &scan::Head<'_>) -> Option<u8> {
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
    /// By the twin's parser: any order of fields, white space, escapes, and every error.
    fn slowly(&mut self, py: Python<'_>, frame: &Bound<'_, PyBytes>) -> PyResult<u8> {
        let found = self.read.bind(py).call1((frame, &self.grids))?;
        if found.is_none() {
            return Ok(OTHER);
        }
        let found = found.cast::<PyTuple>()?;
        let symbol: String = found.get_item(0)?.extract()?;
        let exchange_ns: i64 = found.get_item(1)?.extract()?;
        let Some(index) = self.replicas.iter().position(|known| known.0 == symbol.as_bytes()) else {
            return Ok(OTHER);
        };
        let mut replica = self.replicas[index].1.try_borrow_mut(py)?;
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
