//! tickmesh_native: the native half of the hot path.
//!
//! Every class here has a twin of the same name in `tickmesh.hotpath.pure`, which is its specification; the tests in
//! `tests/parity` hold the two equal. No class does I/O, reads a clock or starts a thread.

mod book;
mod counting;
mod features;
mod grid;
mod histogram;
mod ids;
mod levels;
mod market;
mod matching;
mod open_orders;
mod order_requests;
mod pack;
mod pretrade;
mod queue_model;
mod replica;
mod ring;
mod risk_state;
mod scan;
mod signal;
mod sync;
mod token_bucket;
mod top_of_book;
mod twin;

use pyo3::prelude::*;

/// Raised with every change that the Python side must know of; see `tickmesh.hotpath.INTERFACE`.
const INTERFACE: u32 = 14;

#[pymodule]
fn tickmesh_native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("INTERFACE", INTERFACE)?;
    module.add_class::<levels::L2Book>()?;
    module.add_class::<replica::BookReplica>()?;
    module.add_class::<market::Market>()?;
    module.add_class::<matching::MatchingBook>()?;
    module.add_class::<queue_model::QueueModel>()?;
    module.add_class::<histogram::Histogram>()?;
    module.add_class::<token_bucket::TokenBucket>()?;
    module.add_class::<open_orders::OpenOrder>()?;
    module.add_class::<open_orders::OpenOrders>()?;
    module.add_class::<open_orders::RecentIds>()?;
    module.add_class::<pretrade::PreTradeKernel>()?;
    module.add_class::<risk_state::Leg>()?;
    module.add_class::<risk_state::RateWindow>()?;
    module.add_class::<risk_state::SymbolRisk>()?;
    module.add_class::<risk_state::AccountRisk>()?;
    module.add_class::<signal::LeanSignal>()?;
    module.add_class::<order_requests::OrderRequests>()?;
    module.add_class::<ring::RingWriter>()?;
    module.add_class::<ring::RingReader>()?;
    module.add_class::<ring::Taken>()?;
    for (name, code) in [
        ("OTHER", market::OTHER),
        ("APPLIED", market::APPLIED),
        ("BUFFERED", market::BUFFERED),
        ("OLD", market::OLD),
        ("GAP", market::GAP),
        ("TOP", market::TOP),
        ("TOP_OLD", market::TOP_OLD),
        ("TRADE", market::TRADE),
    ] {
        module.add(name, code)?;
    }
    module.add_function(wrap_pyfunction!(top_of_book::top_of_book, module)?)?;
    module.add_function(wrap_pyfunction!(ids::order_id, module)?)?;
    module.add_function(wrap_pyfunction!(ids::trace_parent, module)?)?;
    module.add_function(wrap_pyfunction!(counting::allocations, module)?)
}
