//! Where our orders stand behind real liquidity. Twin and rules: `hotpath/pure/queue_model.py`.

use crate::twin;
use pyo3::exceptions::{PyKeyError, PyValueError};
use pyo3::prelude::*;
use std::collections::HashMap;

#[derive(Clone, Copy)]
struct Queued {
    id: i64,
    side: i64,
    ticks: i64,
    lots: i64,
    ahead: i64,
}

/// (order id, ticks, lots)
type Fill = (i64, i64, i64);

#[pyclass(module = "tickmesh_native")]
#[derive(Default)]
pub struct QueueModel {
    /// In the order in which they joined.
    orders: Vec<Queued>,
    shown: HashMap<(i64, i64), i64>,
    traded: HashMap<(i64, i64), i64>,
}

impl QueueModel {
    fn place(&self, id: i64) -> Option<usize> {
        self.orders.iter().position(|order| order.id == id)
    }

    /// Ids of the orders at or beyond a price, best price first, then time.
    fn reached(&self, side: i64, ticks: i64) -> Vec<i64> {
        let mut found: Vec<(i64, i64)> = (self.orders.iter())
            .filter(|order| order.side == side && (order.ticks - ticks) * side >= 0)
            .map(|order| (-order.ticks * side, order.id))
            .collect();
        found.sort_by_key(|order| order.0); // stable: time within a price
        found.into_iter().map(|order| order.1).collect()
    }

    fn give(&mut self, id: i64, budget: i64, fills: &mut Vec<Fill>) -> i64 {
        let Some(place) = self.place(id) else { return budget };
        let order = self.orders[place];
        let lots = order.lots.min(budget);
        if lots > 0 {
            fills.push((id, order.ticks, lots));
            self.take_off(place, lots);
        }
        budget - lots
    }

    fn take_off(&mut self, place: usize, lots: i64) {
        self.orders[place].lots -= lots;
        if self.orders[place].lots <= 0 {
            self.forget(place);
        }
    }

    fn forget(&mut self, place: usize) {
        let gone = self.orders.remove(place);
        let key = (gone.side, gone.ticks);
        if !self.orders.iter().any(|order| (order.side, order.ticks) == key) {
            self.shown.remove(&key);
            self.traded.remove(&key);
        }
    }
}

fn out<'py>(py: Python<'py>, fills: &[Fill]) -> PyResult<Vec<Bound<'py, PyAny>>> {
    if fills.is_empty() {
        return Ok(Vec::new());
    }
    let kind = twin::attribute(py, "tickmesh.hotpath.pure.queue_model", "QueueFill")?;
    fills.iter().map(|&fill| kind.call1(fill)).collect()
}

#[pymethods]
impl QueueModel {
    #[new]
    fn new() -> Self {
        QueueModel::default()
    }

    fn __len__(&self) -> usize {
        self.orders.len()
    }

    fn ahead(&self, order_id: i64) -> Option<i64> {
        self.place(order_id).map(|place| self.orders[place].ahead)
    }

    fn join(&mut self, order_id: i64, side: i64, ticks: i64, lots: i64, shown_lots: i64) -> PyResult<()> {
        if self.place(order_id).is_some() || lots <= 0 {
            return Err(PyValueError::new_err(format!("order {order_id} with {lots} lots cannot queue")));
        }
        let key = (side, ticks);
        let shown = *self.shown.entry(key).or_insert(shown_lots);
        let ahead = (shown - self.traded.get(&key).unwrap_or(&0)).max(0);
        self.orders.push(Queued { id: order_id, side, ticks, lots, ahead });
        Ok(())
    }

    fn leave(&mut self, order_id: i64) {
        if let Some(place) = self.place(order_id) {
            self.forget(place);
        }
    }

    fn reduce(&mut self, order_id: i64, lots: i64) -> PyResult<()> {
        let place = self.place(order_id).ok_or_else(|| PyKeyError::new_err(order_id))?;
        self.take_off(place, lots);
        Ok(())
    }

    fn on_trade<'py>(
        &mut self,
        py: Python<'py>,
        ticks: i64,
        lots: i64,
        taker: i64,
    ) -> PyResult<Vec<Bound<'py, PyAny>>> {
        let maker = -taker;
        let (mut left, mut fills) = (lots, Vec::new());
        for id in self.reached(maker, ticks) {
            if self.place(id).is_some_and(|place| self.orders[place].ticks == ticks) {
                break;
            }
            left = self.give(id, left, &mut fills);
        }
        let here = |order: &&Queued| order.side == maker && order.ticks == ticks;
        let at_price: Vec<i64> = self.orders.iter().filter(here).map(|order| order.id).collect();
        if at_price.is_empty() {
            return out(py, &fills);
        }
        *self.traded.entry((maker, ticks)).or_insert(0) += left;
        let mut given = 0;
        for id in at_price {
            let place = self.place(id).expect("only this loop takes orders away");
            let order = &mut self.orders[place];
            let met = order.lots.min(left - order.ahead - given);
            order.ahead = (order.ahead - left).max(0);
            if met > 0 {
                given += met;
                self.give(id, met, &mut fills);
            }
        }
        out(py, &fills)
    }

    fn on_level(&mut self, side: i64, ticks: i64, lots_total: i64) {
        let key = (side, ticks);
        let Some(&shown) = self.shown.get(&key) else { return };
        let before = (shown - self.traded.remove(&key).unwrap_or(0)).max(0);
        let gone = before - lots_total;
        for order in self.orders.iter_mut().filter(|order| (order.side, order.ticks) == key) {
            if gone > 0 && before > 0 {
                let spread = i128::from(gone) * i128::from(order.ahead) / i128::from(before);
                order.ahead -= order.ahead.min(spread as i64);
            }
            order.ahead = order.ahead.min(lots_total);
        }
        self.shown.insert(key, lots_total);
    }

    fn on_quote_through<'py>(
        &mut self,
        py: Python<'py>,
        side: i64,
        opposite_ticks: i64,
        lots: i64,
    ) -> PyResult<Vec<Bound<'py, PyAny>>> {
        let (mut left, mut fills) = (lots, Vec::new());
        for id in self.reached(side, opposite_ticks) {
            left = self.give(id, left, &mut fills);
        }
        out(py, &fills)
    }
}
