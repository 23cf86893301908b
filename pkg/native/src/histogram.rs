//! Mergeable histogram of durations. Twin and description: `hotpath/pure/histogram.py`.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

const LARGEST: i64 = (1 << 46) - 1;
const BUCKETS: usize = ((46 - 8) << 7) + 256;

#[pyclass(module = "tickmesh_native")]
pub struct Histogram {
    counts: Box<[u64]>,
    #[pyo3(get)]
    count: u64,
    #[pyo3(get)]
    sum: i128,
    #[pyo3(get)]
    max: i64,
}

fn highest_in(bucket: usize) -> i64 {
    let shift = (bucket >> 7).saturating_sub(1);
    (((bucket - (shift << 7) + 1) as i64) << shift) - 1
}

#[pymethods]
impl Histogram {
    #[new]
    fn new() -> Self {
        Histogram { counts: vec![0; BUCKETS].into(), count: 0, sum: 0, max: 0 }
    }

    #[inline]
    fn record(&mut self, value: i64) {
        let value = value.clamp(0, LARGEST);
        let shift = (64 - value.leading_zeros() as usize).saturating_sub(8);
        self.counts[(shift << 7) + (value >> shift) as usize] += 1;
        self.count += 1;
        self.sum += i128::from(value);
        self.max = self.max.max(value);
    }

    fn percentile(&self, percent: f64) -> i64 {
        let wanted = ((percent / 100.0 * self.count as f64).ceil() as u64).max(1);
        let mut seen = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return highest_in(bucket).min(self.max);
            }
        }
        if self.count == 0 { 0 } else { self.max }
    }

    fn merge(&mut self, counts: Vec<(i64, i64)>, total: i128, largest: i64) -> PyResult<()> {
        if counts.iter().any(|&(bucket, count)| !(0..BUCKETS as i64).contains(&bucket) || count < 0) {
            return Err(PyValueError::new_err("these are not the counts of such a histogram"));
        }
        for (bucket, count) in counts {
            self.counts[bucket as usize] += count as u64;
            self.count += count as u64;
        }
        self.sum += total;
        self.max = self.max.max(largest);
        Ok(())
    }

    fn counts(&self) -> Vec<(usize, u64)> {
        let counted = self.counts.iter().copied().enumerate();
        counted.filter(|&(_, count)| count != 0).collect()
    }

    fn clear(&mut self) {
        self.counts.fill(0);
        (self.count, self.sum, self.max) = (0, 0, 0);
    }
}
