//! Features of a book. Twin: `hotpath/pure/features.py`; same operations in the same order, so the same bits.
//!
//! `exp`, `log` and `pow` are the C library's, which is also what Python calls.

use crate::book::Level;
use std::hint::black_box;

mod libm {
    unsafe extern "C" {
        pub safe fn exp(x: f64) -> f64;
        pub safe fn log(x: f64) -> f64;
        pub safe fn pow(x: f64, y: f64) -> f64;
    }
}

/// `n / d` rounded once to the nearest double, as Python divides integers; `d` is above zero and below 2^62.
#[inline]
pub fn divide(n: i128, d: i128) -> f64 {
    const EXACT: i128 = 1 << 53;
    if (-EXACT..=EXACT).contains(&n) && d <= EXACT {
        return n as f64 / d as f64;
    }
    divide_wide(n, d)
}

#[cold]
fn divide_wide(n: i128, d: i128) -> f64 {
    let (size, divisor) = (n.unsigned_abs(), d as u128);
    let bits = |x: u128| 128 - x.leading_zeros() as i32;
    // At least 65 bits of quotient; what is cut off is remembered in its last bit, and only then it is rounded.
    let shift = (66 - (bits(size) - bits(divisor))).max(0);
    let shifted = size << shift;
    let mut quotient = shifted / divisor;
    if shifted % divisor != 0 {
        quotient |= 1;
    }
    let value = quotient as f64 * 2f64.powi(-shift);
    if n < 0 { -value } else { value }
}

#[inline]
pub fn imbalance(bids: &[Level], asks: &[Level]) -> f64 {
    let bid: i128 = bids.iter().map(|level| i128::from(level.1)).sum();
    let ask: i128 = asks.iter().map(|level| i128::from(level.1)).sum();
    let total = bid + ask;
    if total != 0 { divide(bid - ask, total) } else { 0.0 }
}

#[inline]
pub fn microprice_ticks(bids: &[Level], asks: &[Level]) -> f64 {
    let (Some(&(bid, bid_lots)), Some(&(ask, ask_lots))) = (bids.first(), asks.first()) else {
        return 0.0;
    };
    let (bid_lots, ask_lots) = (i128::from(bid_lots), i128::from(ask_lots));
    divide(i128::from(bid) * ask_lots + i128::from(ask) * bid_lots, bid_lots + ask_lots)
}

#[inline]
pub fn mid_ticks(bid: i64, ask: i64) -> f64 {
    (bid + ask) as f64 / 2.0
}

pub struct OrderFlow {
    rate: f64,
    bid: Level,
    ask: Level,
    at_ns: i64,
    pub value: f64,
}

impl OrderFlow {
    pub fn new(half_life_ns: i64) -> Self {
        let rate = libm::log(black_box(2.0)) / half_life_ns as f64;
        OrderFlow { rate, bid: (0, 0), ask: (0, 0), at_ns: 0, value: 0.0 }
    }

    pub fn reset(&mut self) {
        self.at_ns = 0;
        self.value = 0.0;
    }

    #[inline]
    pub fn update(&mut self, bid: Level, ask: Level, now_ns: i64) {
        if self.at_ns != 0 {
            let mut flow = 0;
            if bid != self.bid {
                let arrived = if bid.0 >= self.bid.0 { bid.1 } else { 0 };
                flow = arrived - if bid.0 <= self.bid.0 { self.bid.1 } else { 0 };
            }
            if ask != self.ask {
                let arrived = if ask.0 <= self.ask.0 { ask.1 } else { 0 };
                flow -= arrived - if ask.0 >= self.ask.0 { self.ask.1 } else { 0 };
            }
            let passed = now_ns - self.at_ns;
            let value = if passed > 0 { self.value * libm::exp(-self.rate * passed as f64) } else { self.value };
            self.value = value + flow as f64;
        }
        self.bid = bid;
        self.ask = ask;
        if now_ns > self.at_ns {
            self.at_ns = now_ns;
        }
    }
}

pub struct RealisedVolatility {
    interval_ns: i64,
    decay: f64,
    last_mid: f64,
    next_ns: i64,
    variance: f64,
    pub value: f64,
}

impl RealisedVolatility {
    pub fn new(interval_ns: i64, half_life_ns: i64) -> Self {
        let decay = libm::pow(black_box(0.5), interval_ns as f64 / half_life_ns as f64);
        RealisedVolatility { interval_ns, decay, last_mid: 0.0, next_ns: 0, variance: 0.0, value: 0.0 }
    }

    pub fn reset(&mut self) {
        self.last_mid = 0.0;
    }

    #[inline]
    pub fn update(&mut self, mid: f64, now_ns: i64) {
        if mid <= 0.0 {
            return;
        }
        if self.last_mid == 0.0 {
            self.last_mid = mid;
            self.next_ns = now_ns + self.interval_ns;
        } else if now_ns >= self.next_ns {
            let intervals = 1 + (now_ns - self.next_ns) / self.interval_ns;
            let change = libm::log(mid / self.last_mid);
            let squared = change * change / intervals as f64;
            let keep = libm::pow(self.decay, intervals as f64);
            self.variance = self.variance * keep + squared * (1.0 - keep);
            self.last_mid = mid;
            self.next_ns += intervals * self.interval_ns;
            self.value = 10_000.0 * self.variance.sqrt();
        }
    }
}
