//! Decimal text to whole steps, exactly, and only where that is plain: everything else is left to the twin.
//!
//! Twin: `hotpath/pure/grid.py`. `read` answers for digits with an optional fraction; None means "ask the twin",
//! which then either finds the answer or raises the error.

use pyo3::prelude::*;

pub const MAX_UNITS: u64 = 1 << 53;
const MAX_DIGITS: usize = 18;

const POW10: [u64; 19] = {
    let mut table = [1u64; 19];
    let mut i = 1;
    while i < 19 {
        table[i] = table[i - 1] * 10;
        i += 1;
    }
    table
};

/// A step of `mantissa * 10^-decimals`.
#[derive(Clone, Copy)]
pub struct Grid {
    mantissa: u64,
    decimals: usize,
}

impl Grid {
    /// From a Decimal. A step that does not fit is one that nothing fits: the twin then does all of it.
    pub fn from_decimal(step: &Bound<'_, PyAny>) -> PyResult<Self> {
        let parts = step.call_method0("as_tuple")?;
        let never = Grid { mantissa: 0, decimals: 0 };
        let Ok((sign, digits, exponent)) = parts.extract::<(u8, Vec<u8>, i32)>() else {
            return Ok(never); // the exponent of a NaN or an infinity is a letter
        };
        if sign != 0 || digits.len() > 15 {
            return Ok(never);
        }
        let mut mantissa = digits.iter().fold(0u64, |sum, &digit| sum * 10 + u64::from(digit));
        let mut exponent = exponent;
        while mantissa != 0 && mantissa % 10 == 0 {
            mantissa /= 10;
            exponent += 1;
        }
        if exponent > 0 {
            if exponent > 3 {
                return Ok(never);
            }
            mantissa *= POW10[exponent as usize];
            exponent = 0;
        }
        let decimals = (-exponent) as usize;
        Ok(if decimals > 15 { never } else { Grid { mantissa, decimals } })
    }

    /// Steps of the number that starts at `text[0]`, and how many bytes it has.
    #[inline(always)]
    pub fn read(&self, text: &[u8]) -> Option<(i64, usize)> {
        self.read_packed(text).or_else(|| self.read_split(text)).or_else(|| self.read_any(text))
    }

    /// Numbers with a fraction in at most eight bytes, all at once.
    #[inline(always)]
    fn read_packed(&self, text: &[u8]) -> Option<(i64, usize)> {
        let (values, others) = classify(text)?;
        let point = others.trailing_zeros() as usize / 8;
        let end = (others & others.wrapping_sub(1)).trailing_zeros() as usize / 8;
        let wanted = point + self.decimals;
        // `end` is above `point` unless there is neither: no digit before the point, none behind it, no room.
        if point == 0 || end <= point + 1 || wanted > 8 || self.mantissa != 1 || text[point] != b'.' {
            return None;
        }
        if end == 8 && text.get(8)?.is_ascii_digit() {
            return None;
        }
        // Close the gap of the point; what is behind the last digit is zero, as a missing digit counts.
        let before = (1u64 << (8 * point)) - 1;
        let digits = (values & before | values >> 8 & !before) & ((1u64 << (8 * (end - 1))) - 1);
        if digits.checked_shr(8 * wanted as u32).unwrap_or(0) != 0 {
            return None; // off the grid
        }
        Some((number(digits << (64 - 8 * wanted)) as i64, end))
    }

    /// Numbers of at most seven digits before and after the point, eight bytes at a time.
    #[inline(never)]
    fn read_split(&self, text: &[u8]) -> Option<(i64, usize)> {
        let (whole, count) = digits(text)?;
        if count == 0 || count == 8 || self.decimals > 7 || self.mantissa != 1 {
            return None;
        }
        let value = number(whole << (64 - 8 * count));
        if text[count] != b'.' {
            let units = value * POW10[self.decimals];
            return Some((units as i64, count));
        }
        let (fraction, digits) = digits(text.get(count + 1..)?)?;
        if digits == 0 || digits == 8 {
            return None;
        }
        // Bytes behind the last digit are zero, which is what a missing digit counts as.
        let fraction = fraction & ((1 << (8 * digits)) - 1);
        if fraction >> (8 * self.decimals) != 0 {
            return None; // off the grid
        }
        let fraction = if self.decimals == 0 { 0 } else { number(fraction << (64 - 8 * self.decimals)) };
        Some(((value * POW10[self.decimals] + fraction) as i64, count + 1 + digits))
    }

    /// Any plain number, digit by digit.
    #[inline(never)]
    fn read_any(&self, text: &[u8]) -> Option<(i64, usize)> {
        let mut value = 0u64;
        let mut at = 0;
        loop {
            let digit = text.get(at)?.wrapping_sub(b'0');
            if digit > 9 {
                break;
            }
            value = value.wrapping_mul(10).wrapping_add(u64::from(digit));
            at += 1;
        }
        if at == 0 || at > MAX_DIGITS {
            return None;
        }
        let mut missing = self.decimals;
        if text[at] == b'.' {
            at += 1;
            let start = at;
            loop {
                let digit = text.get(at)?.wrapping_sub(b'0');
                if digit > 9 {
                    break;
                }
                if missing > 0 {
                    value = value.wrapping_mul(10).wrapping_add(u64::from(digit));
                    missing -= 1;
                } else if digit != 0 {
                    return None; // off the grid
                }
                at += 1;
            }
            if at == start || at > MAX_DIGITS + 1 {
                return None;
            }
        }
        // At most 18 digits so far: no wrap. What is missing to the grid's decimals may add too many.
        let value = if missing == 0 { value } else { value.checked_mul(POW10[missing])? };
        let units = match self.mantissa {
            1 => value,
            0 => return None,
            step => {
                if value % step != 0 {
                    return None;
                }
                value / step
            }
        };
        if units > MAX_UNITS { None } else { Some((units as i64, at)) }
    }
}

/// The first eight bytes as digits' values, first one lowest, and the high bit of each byte that is no digit.
#[inline(always)]
fn classify(text: &[u8]) -> Option<(u64, u64)> {
    let values = u64::from_le_bytes(*text.first_chunk::<8>()?) ^ 0x3030_3030_3030_3030;
    let above_nine = (values & 0x7f7f_7f7f_7f7f_7f7f) + 0x7676_7676_7676_7676;
    Some((values, (above_nine | values) & 0x8080_8080_8080_8080))
}

/// The digits that the first eight bytes begin with, and how many they are.
#[inline(always)]
fn digits(text: &[u8]) -> Option<(u64, usize)> {
    let (values, others) = classify(text)?;
    Some((values, others.trailing_zeros() as usize / 8))
}

/// Eight digits' values, first one lowest, as a number (Lemire 2022).
#[inline(always)]
fn number(values: u64) -> u64 {
    const MASK: u64 = 0x0000_00ff_0000_00ff;
    let pairs = values.wrapping_mul(10).wrapping_add(values >> 8);
    let low = (pairs & MASK).wrapping_mul(0x000f_4240_0000_0064);
    let high = (pairs >> 16 & MASK).wrapping_mul(0x0000_2710_0000_0001);
    low.wrapping_add(high) >> 32
}
