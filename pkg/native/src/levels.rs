//! The Python face of the book alone. Twin: `hotpath/pure/book.py`.

use crate::book::{Book, Level};
use pyo3::prelude::*;

#[pyclass(module = "tickmesh_native")]
pub struct L2Book {
    book: Book,
}

#[pymethods]
impl L2Book {
    #[new]
    fn new() -> Self {
        L2Book { book: Book::new() }
    }

    fn clear(&mut self) {
        self.book.bids.clear();
        self.book.asks.clear();
    }

    fn load(&mut self, bids: Vec<Level>, asks: Vec<Level>) {
        self.book.load(&bids, &asks);
    }

    fn apply(&mut self, bids: Vec<Level>, asks: Vec<Level>) {
        self.book.apply(&bids, &asks);
    }

    fn set_bid(&mut self, ticks: i64, lots: i64) {
        self.book.apply(&[(ticks, lots)], &[]);
    }

    fn set_ask(&mut self, ticks: i64, lots: i64) {
        self.book.apply(&[], &[(ticks, lots)]);
    }

    #[getter]
    fn best_bid(&self) -> Option<Level> {
        self.book.best_bid()
    }

    #[getter]
    fn best_ask(&self) -> Option<Level> {
        self.book.best_ask()
    }

    #[getter]
    fn crossed(&self) -> bool {
        matches!((self.book.best_bid(), self.book.best_ask()), (Some(bid), Some(ask)) if bid.0 >= ask.0)
    }

    #[pyo3(signature = (count = 0))]
    fn bids(&self, count: usize) -> Vec<Level> {
        self.book.top_bids(count).collect()
    }

    #[pyo3(signature = (count = 0))]
    fn asks(&self, count: usize) -> Vec<Level> {
        self.book.top_asks(count).collect()
    }

    fn bids_below(&self, ticks: i64, count: usize) -> Vec<Level> {
        let mut found = Vec::new();
        self.book.bids.copy_below(ticks, count, 1, &mut found);
        found
    }

    fn asks_above(&self, ticks: i64, count: usize) -> Vec<Level> {
        let mut found = Vec::new();
        self.book.asks.copy_below(-ticks, count, -1, &mut found);
        found
    }

    fn __len__(&self) -> usize {
        self.book.bids.len() + self.book.asks.len()
    }

    fn checksum(&self) -> u32 {
        self.book.checksum()
    }
}
