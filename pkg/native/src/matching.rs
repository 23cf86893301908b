//! Price-time priority matching of one symbol on integers. Twin: `hotpath/pure/matching.py`.
//!
//! Orders live in a slab and are linked in time order within their level. What goes out (fills, resting orders) are
//! the twin's own types. The callback of `take` may change the book: it is never called while the book is borrowed.

use crate::twin;
use pyo3::exceptions::{PyKeyError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyList, PyTuple};
use std::collections::{BTreeMap, HashMap, HashSet};

const FLOW_OWNER: i64 = 0;
const NONE: usize = usize::MAX;
const MODULE: &str = "tickmesh.hotpath.pure.matching";

#[derive(Clone, Copy)]
struct Order {
    id: i64,
    side: i64,
    ticks: i64,
    lots: i64,
    owner: i64,
    before: usize,
    behind: usize,
}

struct Level {
    first: usize,
    last: usize,
    total: i64,
}

/// What one step of a sweep did.
enum Step {
    Done,
    Expired(i64),
    Stopped,
    Filled { maker: i64, ticks: i64, lots: i64, maker_lots: i64 },
}

#[derive(Default)]
struct Book {
    /// By ticks * side, ascending towards the best price; bids and asks.
    levels: [BTreeMap<i64, Level>; 2],
    orders: Vec<Order>,
    free: Vec<usize>,
    places: HashMap<i64, usize>,
    changed: Vec<(i64, i64)>,
    changed_set: HashSet<(i64, i64)>,
}

fn index(side: i64) -> usize {
    usize::from(side < 0)
}

impl Book {
    fn best(&self, side: i64) -> Option<i64> {
        self.levels[index(side)].last_key_value().map(|(key, _)| key * side)
    }

    fn touch(&mut self, side: i64, ticks: i64) {
        if self.changed_set.insert((side, ticks)) {
            self.changed.push((side, ticks));
        }
    }

    fn rest(&mut self, id: i64, side: i64, ticks: i64, lots: i64, owner: i64) {
        let order = Order { id, side, ticks, lots, owner, before: NONE, behind: NONE };
        let place = match self.free.pop() {
            Some(place) => {
                self.orders[place] = order;
                place
            }
            None => {
                self.orders.push(order);
                self.orders.len() - 1
            }
        };
        let empty = Level { first: place, last: NONE, total: 0 };
        let level = self.levels[index(side)].entry(ticks * side).or_insert(empty);
        if level.last != NONE {
            self.orders[level.last].behind = place;
            self.orders[place].before = level.last;
        }
        level.last = place;
        level.total += lots;
        self.places.insert(id, place);
        self.touch(side, ticks);
    }

    /// Take `lots` off an order; without any left it is gone, and with the last order its level.
    fn shrink(&mut self, place: usize, lots: i64) {
        self.orders[place].lots -= lots;
        let Order { id, side, ticks, lots: left, before, behind, .. } = self.orders[place];
        let levels = &mut self.levels[index(side)];
        let level = levels.get_mut(&(ticks * side)).expect("a resting order has a level");
        level.total -= lots;
        if left == 0 {
            match before {
                NONE => level.first = behind,
                _ => self.orders[before].behind = behind,
            }
            match behind {
                NONE => level.last = before,
                _ => self.orders[behind].before = before,
            }
            if level.first == NONE {
                levels.remove(&(ticks * side));
            }
            self.places.remove(&id);
            self.free.push(place);
        }
        self.touch(side, ticks);
    }

    fn step(&mut self, side: i64, limit: Option<i64>, lots: i64, owner: i64, prevent: &str) -> Step {
        let Some(best) = self.best(-side) else { return Step::Done };
        if lots <= 0 || limit.is_some_and(|limit| (best - limit) * side > 0) {
            return Step::Done;
        }
        let place = self.levels[index(-side)][&(best * -side)].first;
        let maker = self.orders[place];
        if owner != FLOW_OWNER && maker.owner == owner && prevent != "NONE" {
            if prevent != "EXPIRE_TAKER" {
                self.shrink(place, maker.lots);
                return Step::Expired(maker.id);
            }
            return Step::Stopped;
        }
        let traded = lots.min(maker.lots);
        self.shrink(place, traded);
        Step::Filled { maker: maker.id, ticks: best, lots: traded, maker_lots: maker.lots - traded }
    }

    fn at(&self, side: i64, key: i64) -> impl Iterator<Item = &Order> {
        let first = self.levels[index(side)].get(&key).map_or(NONE, |level| level.first);
        let next = |&place: &usize| Some(self.orders[place].behind).filter(|&behind| behind != NONE);
        std::iter::successors(Some(first).filter(|&first| first != NONE), next).map(|place| &self.orders[place])
    }

    /// Orders that a taker would meet, in priority order.
    fn crossing(&self, taker: i64, limit: Option<i64>) -> impl Iterator<Item = &Order> {
        let reached = move |&&key: &&i64| limit.is_none_or(|limit| (key * -taker - limit) * taker <= 0);
        let keys = self.levels[index(-taker)].keys().rev().take_while(reached);
        keys.flat_map(move |&key| self.at(-taker, key))
    }
}

#[pyclass(module = "tickmesh_native")]
pub struct MatchingBook {
    book: Book,
}

fn resting<'py>(py: Python<'py>, order: &Order) -> PyResult<Bound<'py, PyAny>> {
    let side = twin::side(py, order.side)?;
    twin::attribute(py, MODULE, "Resting")?.call1((order.id, side, order.ticks, order.lots, order.owner))
}

#[pymethods]
impl MatchingBook {
    #[new]
    fn new() -> Self {
        MatchingBook { book: Book::default() }
    }

    fn __contains__(&self, order_id: i64) -> bool {
        self.book.places.contains_key(&order_id)
    }

    fn get<'py>(&self, py: Python<'py>, order_id: i64) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.book.places.get(&order_id).map(|&place| resting(py, &self.book.orders[place])).transpose()
    }

    fn best(&self, side: i64) -> Option<i64> {
        self.book.best(side)
    }

    fn total(&self, side: i64, ticks: i64) -> i64 {
        self.book.levels[index(side)].get(&(ticks * side)).map_or(0, |level| level.total)
    }

    #[pyo3(signature = (side, limit = None))]
    fn levels(&self, side: i64, limit: Option<usize>) -> Vec<(i64, i64)> {
        let levels = self.book.levels[index(side)].iter().rev();
        // The twin's slice has it so: a limit of 0 is no limit.
        let limit = limit.filter(|&limit| limit != 0).unwrap_or(usize::MAX);
        levels.take(limit).map(|(key, level)| (key * side, level.total)).collect()
    }

    fn orders_at<'py>(&self, py: Python<'py>, side: i64, ticks: i64) -> PyResult<Vec<Bound<'py, PyAny>>> {
        self.book.at(side, ticks * side).map(|order| resting(py, order)).collect()
    }

    fn crossing<'py>(&self, py: Python<'py>, taker: i64, limit_ticks: Option<i64>) -> PyResult<Bound<'py, PyAny>> {
        let orders: PyResult<Vec<_>> = self.book.crossing(taker, limit_ticks).map(|order| resting(py, order)).collect();
        Ok(PyList::new(py, orders?)?.try_iter()?.into_any())
    }

    #[pyo3(signature = (taker, limit_ticks, wanted, owner = FLOW_OWNER))]
    fn available(&self, taker: i64, limit_ticks: Option<i64>, wanted: i64, owner: i64) -> i64 {
        let mut found = 0;
        for order in self.book.crossing(taker, limit_ticks) {
            if owner == FLOW_OWNER || order.owner != owner {
                found += order.lots;
            }
            if found >= wanted {
                return wanted;
            }
        }
        found
    }

    #[pyo3(signature = (order_id, side, ticks, lots, owner = FLOW_OWNER))]
    fn rest(&mut self, order_id: i64, side: i64, ticks: i64, lots: i64, owner: i64) -> PyResult<()> {
        if self.book.places.contains_key(&order_id) || lots <= 0 {
            return Err(PyValueError::new_err(format!("order {order_id} with {lots} lots cannot rest")));
        }
        if let Some(opposite) = self.book.best(-side).filter(|opposite| (ticks - opposite) * side >= 0) {
            return Err(PyValueError::new_err(format!(
                "order {order_id} at {ticks} would cross the best {opposite}: take first"
            )));
        }
        self.book.rest(order_id, side, ticks, lots, owner);
        Ok(())
    }

    fn cancel(&mut self, order_id: i64) -> i64 {
        let Some(&place) = self.book.places.get(&order_id) else { return 0 };
        let lots = self.book.orders[place].lots;
        self.book.shrink(place, lots);
        lots
    }

    fn reduce(&mut self, order_id: i64, lots: i64) -> PyResult<()> {
        let place = *self.book.places.get(&order_id).ok_or_else(|| PyKeyError::new_err(order_id))?;
        let held = self.book.orders[place].lots;
        if !(0 < lots && lots <= held) {
            return Err(PyValueError::new_err(format!("cannot take {lots} off {held}")));
        }
        self.book.shrink(place, lots);
        Ok(())
    }

    #[pyo3(signature = (side, limit_ticks, lots, *, owner = FLOW_OWNER, prevent = "NONE", on_fill = None))]
    fn take<'py>(
        slf: &Bound<'py, Self>,
        side: i64,
        limit_ticks: Option<i64>,
        lots: i64,
        owner: i64,
        prevent: &str,
        on_fill: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let kind = twin::attribute(py, MODULE, "Fill")?;
        let fills = PyList::empty(py);
        let (mut left, mut expired, mut stopped) = (lots, Vec::new(), false);
        loop {
            // The borrow ends before anybody is called.
            let step = slf.borrow_mut().book.step(side, limit_ticks, left, owner, prevent);
            match step {
                Step::Done => break,
                Step::Stopped => {
                    stopped = true;
                    break;
                }
                Step::Expired(maker) => {
                    expired.push(maker);
                    if prevent != "EXPIRE_MAKER" {
                        stopped = true;
                        break;
                    }
                }
                Step::Filled { maker, ticks, lots, maker_lots } => {
                    left -= lots;
                    let fill = kind.call1((maker, ticks, lots, maker_lots))?;
                    fills.append(&fill)?;
                    if let Some(call) = on_fill {
                        let cap = call.call1((fill,))?;
                        if !cap.is_none() {
                            left = left.min(cap.extract()?);
                        }
                    }
                }
            }
        }
        let prevented = twin::attribute(py, MODULE, "Prevented")?.call1((expired, stopped))?;
        twin::attribute(py, MODULE, "Taken")?.call1((fills, left, prevented))
    }

    fn drain_changed<'py>(&mut self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyTuple>>> {
        let changed = std::mem::take(&mut self.book.changed);
        self.book.changed_set.clear();
        let entry =
            |&(side, ticks): &(i64, i64)| (twin::side(py, side)?, ticks, self.total(side, ticks)).into_pyobject(py);
        changed.iter().map(entry).collect()
    }
}
