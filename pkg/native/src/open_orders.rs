//! The orders of one symbol that may still fill. Twin and rules: `hotpath/pure/open_orders.py`.

use pyo3::prelude::*;
use pyo3::types::{PySet, PyString};
use std::collections::VecDeque;

/// What the twin calls an `OpenOrder`; `strategy` is kept as text, so that dropping one needs no interpreter.
#[pyclass(module = "tickmesh_native", frozen, get_all, skip_from_py_object)]
#[derive(Clone)]
pub struct OpenOrder {
    pub strategy: String,
    pub side: i64,
    pub leg: i64,
    pub price_ticks: i64,
    pub lots: i64,
    pub left_lots: i64,
    pub worth_ticks: i64,
    pub resting_ticks: i64,
}

/// A row rather than a map: a symbol has a few, 200 at most, and every order that comes is compared with all of them.
#[pyclass(module = "tickmesh_native")]
#[derive(Default)]
pub struct OpenOrders {
    orders: Vec<(String, OpenOrder)>,
}

impl OpenOrders {
    pub fn hold(&mut self, client_order_id: &str, order: OpenOrder) {
        match self.place(client_order_id) {
            Some(place) => self.orders[place].1 = order,
            None => self.orders.push((client_order_id.to_owned(), order)),
        }
    }

    fn place(&self, client_order_id: &str) -> Option<usize> {
        self.orders.iter().position(|(id, _)| id == client_order_id)
    }
}

#[pymethods]
impl OpenOrders {
    #[new]
    fn new() -> Self {
        OpenOrders::default()
    }

    fn __len__(&self) -> usize {
        self.orders.len()
    }

    #[allow(clippy::too_many_arguments)]
    fn add(
        &mut self,
        client_order_id: &str,
        strategy: &str,
        side: i64,
        leg: i64,
        price_ticks: i64,
        lots: i64,
        worth_ticks: i64,
        resting_ticks: i64,
    ) {
        let strategy = strategy.to_owned();
        let order = OpenOrder { strategy, side, leg, price_ticks, lots, left_lots: lots, worth_ticks, resting_ticks };
        self.hold(client_order_id, order);
    }

    fn get(&self, client_order_id: &str) -> Option<OpenOrder> {
        self.place(client_order_id).map(|place| self.orders[place].1.clone())
    }

    fn take(&mut self, client_order_id: &str) -> Option<OpenOrder> {
        self.place(client_order_id).map(|place| self.orders.swap_remove(place).1)
    }

    fn leave(&mut self, client_order_id: &str, left_lots: i64) {
        if let Some(place) = self.place(client_order_id) {
            self.orders[place].1.left_lots = left_lots;
        }
    }

    pub fn alike(&self, strategy: &str, side: i64, price_ticks: i64, lots: i64) -> usize {
        let same = |order: &&OpenOrder| {
            order.price_ticks == price_ticks && order.side == side && order.lots == lots && order.strategy == strategy
        };
        self.orders.iter().map(|(_, order)| order).filter(same).count()
    }

    pub fn nearest(&self, side: i64) -> i64 {
        let resting =
            self.orders.iter().map(|(_, order)| order).filter(|order| order.side == side && order.resting_ticks != 0);
        let prices = resting.map(|order| order.resting_ticks);
        if side > 0 { prices.max() } else { prices.min() }.unwrap_or(0)
    }
}

/// The set is Python's: its strings know their hashes already.
#[pyclass(module = "tickmesh_native")]
pub struct RecentIds {
    #[pyo3(get)]
    most: usize,
    held: Py<PySet>,
    order: VecDeque<Py<PyString>>,
}

#[pymethods]
impl RecentIds {
    #[new]
    pub fn new(py: Python<'_>, most: usize) -> PyResult<Self> {
        Ok(RecentIds { most, held: PySet::empty(py)?.unbind(), order: VecDeque::new() })
    }

    fn __len__(&self) -> usize {
        self.order.len()
    }

    pub fn __contains__(&self, what: &Bound<'_, PyString>) -> PyResult<bool> {
        self.held.bind(what.py()).contains(what)
    }

    pub fn add(&mut self, what: &Bound<'_, PyString>) -> PyResult<()> {
        let held = self.held.bind(what.py());
        if held.contains(what)? {
            return Ok(());
        }
        held.add(what)?;
        self.order.push_back(what.clone().unbind());
        if self.order.len() > self.most
            && let Some(oldest) = self.order.pop_front()
        {
            held.discard(oldest)?;
        }
        Ok(())
    }
}
