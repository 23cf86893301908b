//! The orders of one symbol that may still fill. Twin and rules: `hotpath/pure/open_orders.py`.

use pyo3::prelude::*;
use pyo3::types::{PySet, PyString};
use std::collections::VecDeque;

/// Positions that orders are open against.
pub const BOTH: i64 = 0;
pub const LONG: i64 = 1;
pub const SHORT: i64 = 2;

/// One order; its strategy's name is the intent's own string, so that holding an order asks for no memory.
#[pyclass(module = "tickmesh_native", frozen, get_all)]
pub struct OpenOrder {
    pub strategy: Py<PyString>,
    pub side: i64,
    pub leg: i64,
    pub price_ticks: i64,
    pub lots: i64,
    pub left_lots: i64,
    pub worth_ticks: i64,
    pub resting_ticks: i64,
}

#[pymethods]
impl OpenOrder {
    #[new]
    #[allow(clippy::too_many_arguments)]
    fn new(
        strategy: Py<PyString>,
        side: i64,
        leg: i64,
        price_ticks: i64,
        lots: i64,
        left_lots: i64,
        worth_ticks: i64,
        resting_ticks: i64,
    ) -> Self {
        OpenOrder { strategy, side, leg, price_ticks, lots, left_lots, worth_ticks, resting_ticks }
    }
}

impl OpenOrder {
    fn with_left(&self, py: Python<'_>, left_lots: i64) -> Self {
        OpenOrder { strategy: self.strategy.clone_ref(py), left_lots, ..*self }
    }
}

struct Held {
    id: Py<PyString>,
    order: OpenOrder,
}

/// A row rather than a map: a symbol has a few, 200 at most, and every order that comes is compared with all of them.
#[pyclass(module = "tickmesh_native")]
#[derive(Default)]
pub struct OpenOrders {
    held: Vec<Held>,
}

fn equal(one: &Py<PyString>, other: &Bound<'_, PyString>) -> PyResult<bool> {
    Ok(one.is(other) || one.bind(other.py()).as_any().eq(other)?)
}

impl OpenOrders {
    pub fn hold(&mut self, client_order_id: &Bound<'_, PyString>, order: OpenOrder) -> PyResult<()> {
        match self.place(client_order_id)? {
            Some(place) => self.held[place].order = order,
            None => self.held.push(Held { id: client_order_id.clone().unbind(), order }),
        }
        Ok(())
    }

    fn place(&self, client_order_id: &Bound<'_, PyString>) -> PyResult<Option<usize>> {
        for (place, held) in self.held.iter().enumerate() {
            if equal(&held.id, client_order_id)? {
                return Ok(Some(place));
            }
        }
        Ok(None)
    }
}

#[pymethods]
impl OpenOrders {
    #[new]
    fn new() -> Self {
        OpenOrders::default()
    }

    pub fn __len__(&self) -> usize {
        self.held.len()
    }

    #[allow(clippy::too_many_arguments)]
    fn add(
        &mut self,
        client_order_id: &Bound<'_, PyString>,
        strategy: Py<PyString>,
        side: i64,
        leg: i64,
        price_ticks: i64,
        lots: i64,
        worth_ticks: i64,
        resting_ticks: i64,
    ) -> PyResult<()> {
        let order = OpenOrder { strategy, side, leg, price_ticks, lots, left_lots: lots, worth_ticks, resting_ticks };
        self.hold(client_order_id, order)
    }

    fn get(&self, client_order_id: &Bound<'_, PyString>) -> PyResult<Option<OpenOrder>> {
        let found = self.place(client_order_id)?.map(|place| &self.held[place].order);
        Ok(found.map(|order| order.with_left(client_order_id.py(), order.left_lots)))
    }

    fn take(&mut self, client_order_id: &Bound<'_, PyString>) -> PyResult<Option<OpenOrder>> {
        Ok(self.place(client_order_id)?.map(|place| self.held.swap_remove(place).order))
    }

    fn leave(&mut self, client_order_id: &Bound<'_, PyString>, left_lots: i64) -> PyResult<()> {
        if let Some(place) = self.place(client_order_id)? {
            let order = &mut self.held[place].order;
            *order = order.with_left(client_order_id.py(), left_lots);
        }
        Ok(())
    }

    pub fn alike(&self, strategy: &Bound<'_, PyString>, side: i64, price_ticks: i64, lots: i64) -> PyResult<usize> {
        let mut found = 0;
        for Held { order, .. } in &self.held {
            if order.price_ticks == price_ticks && order.side == side && order.lots == lots {
                found += usize::from(equal(&order.strategy, strategy)?);
            }
        }
        Ok(found)
    }

    pub fn nearest(&self, side: i64) -> i64 {
        let orders = self.held.iter().map(|held| &held.order);
        let prices = orders.filter(|o| o.side == side && o.resting_ticks != 0).map(|o| o.resting_ticks);
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
        Ok(RecentIds { most, held: PySet::empty(py)?.unbind(), order: VecDeque::with_capacity(most + 1) })
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
