//! Which side of the touch a leaning book speaks for. Twin and description: `hotpath/pure/signal.py`.

use crate::replica::BookReplica;
use pyo3::prelude::*;

#[pyclass(module = "tickmesh_native")]
pub struct LeanSignal {
    min_lean: f64,
    max_spread_ticks: i64,
    #[pyo3(get)]
    lean: f64,
}

#[pymethods]
impl LeanSignal {
    #[new]
    fn new(min_lean: f64, max_spread_ticks: i64) -> Self {
        LeanSignal { min_lean, max_spread_ticks, lean: 0.0 }
    }

    fn decide(&mut self, lean: f64, bid_ticks: i64, ask_ticks: i64) -> i64 {
        self.lean = lean;
        let spread = ask_ticks - bid_ticks;
        if lean.abs() < self.min_lean || spread <= 0 || spread > self.max_spread_ticks {
            return 0;
        }
        if lean > 0.0 { bid_ticks } else { -ask_ticks }
    }

    fn of(&mut self, mut replica: PyRefMut<'_, BookReplica>) -> i64 {
        match replica.core.leaning() {
            Some((lean, bid_ticks, ask_ticks)) => self.decide(lean, bid_ticks, ask_ticks),
            None => {
                self.lean = 0.0;
                0
            }
        }
    }
}
