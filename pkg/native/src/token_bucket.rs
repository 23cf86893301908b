//! So many actions a second with a bounded burst. Twin and description: `hotpath/pure/token_bucket.py`.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

const MAX_NS: i64 = 1 << 62;

#[pyclass(module = "tickmesh_native")]
pub struct TokenBucket {
    interval_ns: i64,
    capacity_ns: i64,
    full_at_ns: i64,
}

#[pymethods]
impl TokenBucket {
    #[new]
    fn new(capacity: i64, interval_ns: i64) -> PyResult<Self> {
        let capacity_ns = capacity.checked_mul(interval_ns).filter(|&ns| ns < MAX_NS);
        match capacity_ns {
            Some(capacity_ns) if capacity >= 1 && interval_ns >= 1 => {
                Ok(TokenBucket { interval_ns, capacity_ns, full_at_ns: -MAX_NS })
            }
            _ => Err(PyValueError::new_err(format!(
                "a bucket of {capacity} tokens, one each {interval_ns} ns, is not possible"
            ))),
        }
    }

    fn wait_ns(&self, tokens: i64, now_ns: i64) -> PyResult<i64> {
        if tokens < 0 {
            return Err(PyValueError::new_err("tokens must not be negative"));
        }
        if tokens > self.capacity_ns / self.interval_ns {
            return Ok(-1);
        }
        // In 128 bits: the sum of two times may not fit 64.
        let full_at_ns = i128::from(self.full_at_ns.max(now_ns)) + i128::from(tokens * self.interval_ns);
        Ok((full_at_ns - i128::from(now_ns) - i128::from(self.capacity_ns)).max(0) as i64)
    }

    fn take(&mut self, tokens: i64, now_ns: i64) -> PyResult<bool> {
        if self.wait_ns(tokens, now_ns)? != 0 {
            return Ok(false);
        }
        self.full_at_ns = self.full_at_ns.max(now_ns).saturating_add(tokens * self.interval_ns);
        Ok(true)
    }
}
