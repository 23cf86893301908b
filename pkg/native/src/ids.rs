//! Ids that are functions of an intent's own names. Twin and description: `hotpath/pure/ids.py`.

use blake2::digest::consts::{U15, U24};
use blake2::{Blake2b, Digest};
use pyo3::prelude::*;

const LETTERS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
const HEX: &[u8; 16] = b"0123456789abcdef";

#[pyfunction]
pub fn order_id(strategy: &str, intent_id: &str) -> String {
    let mut hash = Blake2b::<U15>::new();
    hash.update(strategy.as_bytes());
    hash.update([0]);
    hash.update(intent_id.as_bytes());
    let mut made = String::with_capacity(27);
    made.push_str("tm-");
    for five in hash.finalize().chunks_exact(5) {
        let bits = five.iter().fold(0u64, |bits, byte| bits << 8 | u64::from(*byte));
        for shift in (0..40).step_by(5).rev() {
            made.push(char::from(LETTERS[(bits >> shift & 31) as usize]));
        }
    }
    made
}

#[pyfunction]
pub fn trace_parent(correlation_id: &str) -> String {
    let mut made = String::with_capacity(55);
    made.push_str("00-");
    for (at, byte) in Blake2b::<U24>::digest(correlation_id.as_bytes()).iter().enumerate() {
        if at == 16 {
            made.push('-');
        }
        made.push(char::from(HEX[usize::from(byte >> 4)]));
        made.push(char::from(HEX[usize::from(byte & 15)]));
    }
    made.push_str("-01");
    made
}
