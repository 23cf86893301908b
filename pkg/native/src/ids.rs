//! Ids that are functions of an intent's own names. Twin and description: `hotpath/pure/ids.py`.

use blake2::digest::consts::{U15, U24};
use blake2::{Blake2b, Digest};
use pyo3::prelude::*;
use pyo3::types::PyString;

const LETTERS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

/// Both digits of a byte.
pub fn hex(byte: u8) -> [u8; 2] {
    [byte >> 4, byte & 15].map(|digit| b"0123456789abcdef"[usize::from(digit)])
}

#[pyfunction]
pub fn order_id<'py>(py: Python<'py>, strategy: &str, intent_id: &str) -> PyResult<Bound<'py, PyString>> {
    let mut hash = Blake2b::<U15>::new();
    hash.update(strategy.as_bytes());
    hash.update([0]);
    hash.update(intent_id.as_bytes());
    let mut made = *b"tm-aaaaaaaaaaaaaaaaaaaaaaaa";
    for (five, eight) in hash.finalize().chunks_exact(5).zip(made[3..].chunks_exact_mut(8)) {
        let bits = five.iter().fold(0u64, |bits, byte| bits << 8 | u64::from(*byte));
        for (at, letter) in eight.iter_mut().enumerate() {
            *letter = LETTERS[(bits >> (35 - 5 * at) & 31) as usize];
        }
    }
    PyString::from_bytes(py, &made)
}

#[pyfunction]
pub fn trace_parent<'py>(py: Python<'py>, correlation_id: &str) -> PyResult<Bound<'py, PyString>> {
    let mut made = *b"00-00000000000000000000000000000000-0000000000000000-01";
    for (at, byte) in Blake2b::<U24>::digest(correlation_id.as_bytes()).iter().enumerate() {
        let to = 3 + 2 * at + usize::from(at >= 16);
        made[to..to + 2].copy_from_slice(&hex(*byte));
    }
    PyString::from_bytes(py, &made)
}
