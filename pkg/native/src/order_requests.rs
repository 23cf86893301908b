//! A plain limit order as the bytes of its signed request. Twin and description: `hotpath/pure/order_requests.py`.

use crate::ids::hex;
use hmac::{Hmac, Mac};
use pyo3::exceptions::{PyIndexError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use sha2::Sha256;

const MOST_COEFFICIENT: u64 = 1_000_000_000_000;
const MOST_DECIMALS: usize = 18;

/// A step of `coefficient * 10^-decimals`.
struct Step {
    coefficient: u64,
    decimals: usize,
}

impl Step {
    fn new(coefficient: u64, decimals: usize) -> PyResult<Self> {
        if coefficient == 0 || coefficient > MOST_COEFFICIENT || decimals > MOST_DECIMALS {
            return Err(PyValueError::new_err("a step that orders cannot be written in"));
        }
        Ok(Step { coefficient, decimals })
    }

    fn write(&self, units: i64, out: &mut Vec<u8>) {
        let value = units as u128 * u128::from(self.coefficient);
        if self.decimals == 0 {
            return write_number(value, 1, out);
        }
        let scale = 10u128.pow(self.decimals as u32);
        write_number(value / scale, 1, out);
        out.push(b'.');
        write_number(value % scale, self.decimals, out);
    }
}

struct Symbol {
    text: Vec<u8>,
    tick: Step,
    lot: Step,
}

#[pyclass(module = "tickmesh_native")]
pub struct OrderRequests {
    keyed: Hmac<Sha256>,
    before: Vec<u8>,
    tail: Vec<u8>,
    after: Vec<u8>,
    symbols: Vec<Symbol>,
    out: Vec<u8>,
}

#[pymethods]
impl OrderRequests {
    #[new]
    fn new(secret: &[u8], before: &[u8], tail: &[u8], after: &[u8]) -> PyResult<Self> {
        let keyed = Hmac::new_from_slice(secret).map_err(|error| PyValueError::new_err(error.to_string()))?;
        let (before, tail, after) = (before.to_vec(), tail.to_vec(), after.to_vec());
        Ok(OrderRequests { keyed, before, tail, after, symbols: Vec::new(), out: Vec::new() })
    }

    fn add(
        &mut self,
        symbol: &str,
        tick_coefficient: u64,
        tick_decimals: usize,
        lot_coefficient: u64,
        lot_decimals: usize,
    ) -> PyResult<usize> {
        plain(symbol, "symbol")?;
        let (tick, lot) = (Step::new(tick_coefficient, tick_decimals)?, Step::new(lot_coefficient, lot_decimals)?);
        self.symbols.push(Symbol { text: symbol.as_bytes().to_vec(), tick, lot });
        Ok(self.symbols.len() - 1)
    }

    #[allow(clippy::too_many_arguments)]
    fn limit<'py>(
        &mut self,
        py: Python<'py>,
        number: usize,
        buying: bool,
        lots: i64,
        ticks: i64,
        order_id: &str,
        time_in_force: &str,
        reduce_only: bool,
        now_ms: i64,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let Some(symbol) = self.symbols.get(number) else {
            return Err(PyIndexError::new_err("no such symbol"));
        };
        if lots <= 0 || ticks <= 0 || now_ms <= 0 {
            return Err(PyValueError::new_err("lots, ticks and the time of an order are above zero"));
        }
        plain(order_id, "order id")?;
        plain(time_in_force, "time in force")?;
        let out = &mut self.out;
        out.clear();
        out.extend_from_slice(&self.before);
        out.extend_from_slice(b"symbol=");
        out.extend_from_slice(&symbol.text);
        out.extend_from_slice(if buying { b"&side=BUY" } else { b"&side=SELL" });
        out.extend_from_slice(b"&type=LIMIT&quantity=");
        symbol.lot.write(lots, out);
        out.extend_from_slice(b"&newClientOrderId=");
        out.extend_from_slice(order_id.as_bytes());
        out.extend_from_slice(b"&newOrderRespType=RESULT&price=");
        symbol.tick.write(ticks, out);
        out.extend_from_slice(b"&timeInForce=");
        out.extend_from_slice(time_in_force.as_bytes());
        if reduce_only {
            out.extend_from_slice(b"&reduceOnly=true");
        }
        out.extend_from_slice(&self.tail);
        write_number(now_ms as u128, 1, out);
        let mut keyed = self.keyed.clone();
        keyed.update(&out[self.before.len()..]);
        out.extend_from_slice(b"&signature=");
        for byte in keyed.finalize().into_bytes() {
            out.extend_from_slice(&hex(byte));
        }
        out.extend_from_slice(&self.after);
        Ok(PyBytes::new(py, out))
    }
}

/// Decimal digits, with zeros in front up to `width`.
fn write_number(mut value: u128, width: usize, out: &mut Vec<u8>) {
    let mut digits = [b'0'; 40];
    let mut at = digits.len();
    if let Ok(mut small) = u64::try_from(value) {
        while small > 0 {
            at -= 1;
            digits[at] = b'0' + (small % 10) as u8;
            small /= 10;
        }
    } else {
        while value > 0 {
            at -= 1;
            digits[at] = b'0' + (value % 10) as u8;
            value /= 10;
        }
    }
    out.extend_from_slice(&digits[at.min(digits.len() - width)..]);
}

/// Refuse what an address would have to quote.
fn plain(text: &str, what: &str) -> PyResult<()> {
    if text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.~-".contains(&byte)) {
        return Ok(());
    }
    Err(PyValueError::new_err(format!("{what} has letters that an address must quote")))
}
