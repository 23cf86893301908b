//! What the native half takes from the Python side: the twin's classes, looked up by name.

use crate::book::Level;
use crate::open_orders::{BOTH, LONG, SHORT};
use crate::sync::Outcome;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

/// A diff as Python gives it: first, last and previous id, bids, asks.
pub type Diff = (i64, i64, i64, Vec<Level>, Vec<Level>);

pub fn attribute<'py>(py: Python<'py>, module: &str, name: &str) -> PyResult<Bound<'py, PyAny>> {
    py.import(module)?.getattr(name)
}

/// The twin's own enum member for an outcome.
pub fn outcome(py: Python<'_>, outcome: Outcome) -> PyResult<Py<PyAny>> {
    static MEMBERS: PyOnceLock<[Py<PyAny>; 4]> = PyOnceLock::new();
    let members = MEMBERS.get_or_try_init(py, || {
        let kind = attribute(py, "tickmesh.hotpath.pure.synchroniser", "Outcome")?;
        let member = |name: &str| kind.getattr(name).map(Bound::unbind);
        Ok::<_, PyErr>([member("APPLIED")?, member("BUFFERED")?, member("OLD")?, member("GAP")?])
    })?;
    Ok(members[outcome as usize - 1].clone_ref(py))
}

/// The member of `tickmesh.domain.enums.Side` for a sign.
pub fn side(py: Python<'_>, sign: i64) -> PyResult<Py<PyAny>> {
    static MEMBERS: PyOnceLock<[Py<PyAny>; 2]> = PyOnceLock::new();
    let members = MEMBERS.get_or_try_init(py, || {
        let kind = attribute(py, "tickmesh.domain.enums", "Side")?;
        Ok::<_, PyErr>([kind.getattr("BUY")?.unbind(), kind.getattr("SELL")?.unbind()])
    })?;
    Ok(members[usize::from(sign < 0)].clone_ref(py))
}

/// The members of `tickmesh.domain.enums` that an order is judged by; they are compared by identity.
pub struct Orders {
    pub active: Py<PyAny>,
    pub post_only: Py<PyAny>,
    /// With the kernel's number of each kind and leg.
    pub kinds: [(Py<PyAny>, i64); 6],
    pub legs: [(Py<PyAny>, i64); 3],
}

pub fn orders(py: Python<'_>) -> PyResult<&Orders> {
    static MEMBERS: PyOnceLock<Orders> = PyOnceLock::new();
    MEMBERS.get_or_try_init(py, || {
        let member =
            |kind: &str, name: &str| attribute(py, "tickmesh.domain.enums", kind)?.getattr(name).map(Bound::unbind);
        let kind = |name, number| Ok::<_, PyErr>((member("OrderType", name)?, number));
        let leg = |name, number| Ok::<_, PyErr>((member("PositionSide", name)?, number));
        Ok(Orders {
            active: member("RiskState", "ACTIVE")?,
            post_only: member("TimeInForce", "GTX")?,
            kinds: [
                kind("LIMIT", 0)?,
                kind("MARKET", 1)?,
                kind("STOP", 2)?,
                kind("TAKE_PROFIT", 2)?,
                kind("STOP_MARKET", 3)?,
                kind("TAKE_PROFIT_MARKET", 3)?,
            ],
            legs: [leg("BOTH", BOTH)?, leg("LONG", LONG)?, leg("SHORT", SHORT)?],
        })
    })
}

/// The number of `member` among `known`.
pub fn number(known: &[(Py<PyAny>, i64)], member: &Bound<'_, PyAny>) -> Option<i64> {
    known.iter().find(|(each, _)| each.is(member)).map(|&(_, number)| number)
}
