//! Frames of Binance USD-M as the venue writes them: compact JSON, fields in its fixed order.
//!
//! Twin: `hotpath/pure/binance_frames.py` with `read` in `hotpath/pure/market.py`. This scanner accepts a subset of
//! what the twin accepts and gives the same values for it; for anything else (other order, white space, escapes,
//! more fields, errors) it says None and the twin decides. It changes nothing while it reads, never recurses, and
//! looks at each byte once.

use crate::book::Level;
use crate::grid::Grid;

const MAX_MILLIS: u64 = 9_000_000_000_000;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Depth,
    Top,
    Trade,
}

/// Where the fields after the symbol start, and what was before it.
pub struct Head<'a> {
    pub kind: Kind,
    pub symbol: &'a [u8],
    at: usize,
    /// Milliseconds of `E` for depth and trade; the update id for bookTicker.
    number: u64,
    combined: bool,
}

pub struct DepthIds {
    pub exchange_ns: i64,
    pub first: i64,
    pub last: i64,
    pub previous: i64,
}

pub struct Top {
    pub exchange_ns: i64,
    pub id: i64,
    pub bid: Level,
    pub ask: Level,
}

pub struct Trade {
    pub exchange_ns: i64,
    pub id: i64,
    pub ticks: i64,
    pub lots: i64,
    pub buyer_is_maker: bool,
}

struct Cursor<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    #[inline(always)]
    fn expect(&mut self, literal: &[u8]) -> Option<()> {
        if self.text.get(self.at..)?.starts_with(literal) {
            self.at += literal.len();
            Some(())
        } else {
            None
        }
    }

    #[inline(always)]
    fn next(&mut self) -> Option<u8> {
        let byte = *self.text.get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    /// An integer of JSON without sign, fraction or exponent; at most 18 digits.
    #[inline(always)]
    fn integer(&mut self) -> Option<u64> {
        let start = self.at;
        let mut value = 0u64;
        loop {
            let digit = self.text.get(self.at)?.wrapping_sub(b'0');
            if digit > 9 {
                break;
            }
            value = value.wrapping_mul(10).wrapping_add(u64::from(digit));
            self.at += 1;
        }
        let digits = self.at - start;
        let plain = digits == 1 || (digits > 1 && digits <= 18 && self.text[start] != b'0');
        if plain { Some(value) } else { None }
    }

    #[inline(always)]
    fn id(&mut self) -> Option<i64> {
        self.integer().map(|value| value as i64)
    }

    #[inline(always)]
    fn millis(&mut self) -> Option<u64> {
        self.integer().filter(|&value| value <= MAX_MILLIS)
    }

    /// The inside of a string up to and with its closing quote; printable ASCII without escapes.
    #[inline(always)]
    fn plain(&mut self) -> Option<&'a [u8]> {
        let start = self.at;
        loop {
            let byte = self.next()?;
            if byte == b'"' {
                return Some(&self.text[start..self.at - 1]);
            }
            if !(0x20..0x7f).contains(&byte) || byte == b'\\' {
                return None;
            }
        }
    }

    #[inline(always)]
    fn units(&mut self, grid: &Grid) -> Option<i64> {
        let (units, bytes) = grid.read(self.text.get(self.at..)?)?;
        self.at += bytes;
        Some(units)
    }

    /// `[["1.0","2"],...]` behind its opening bracket, appended to `levels`.
    #[inline(always)]
    fn levels(&mut self, prices: &Grid, quantities: &Grid, levels: &mut Vec<Level>) -> Option<()> {
        if *self.text.get(self.at)? == b']' {
            self.at += 1;
            return Some(());
        }
        loop {
            self.expect(b"[\"")?;
            let ticks = self.units(prices)?;
            self.expect(b"\",\"")?;
            let lots = self.units(quantities)?;
            self.expect(b"\"]")?;
            levels.push((ticks, lots));
            match self.next()? {
                b',' => {}
                b']' => return Some(()),
                _ => return None,
            }
        }
    }

    fn end(&mut self, combined: bool) -> Option<()> {
        self.expect(if combined { b"}}" } else { b"}" })?;
        if self.at == self.text.len() { Some(()) } else { None }
    }
}

fn nanos(millis: u64) -> i64 {
    (millis * 1_000_000) as i64
}

/// What the frame is and whose; None for what is not for the fast way.
#[inline]
pub fn head(text: &[u8]) -> Option<Head<'_>> {
    let mut cursor = Cursor { text, at: 0 };
    let combined = text.starts_with(b"{\"stream\":\"");
    if combined {
        cursor.at = 11;
        cursor.plain()?;
        cursor.expect(b",\"data\":")?;
    }
    cursor.expect(b"{\"e\":\"")?;
    let name = cursor.plain()?;
    let (kind, number) = match name {
        b"bookTicker" => {
            cursor.expect(b",\"u\":")?;
            (Kind::Top, cursor.integer()?)
        }
        b"depthUpdate" | b"trade" => {
            cursor.expect(b",\"E\":")?;
            let event = cursor.millis()?;
            cursor.expect(b",\"T\":")?;
            cursor.millis()?;
            (if name == b"trade" { Kind::Trade } else { Kind::Depth }, event)
        }
        _ => return None,
    };
    cursor.expect(b",\"s\":\"")?;
    let symbol = cursor.plain()?;
    Some(Head { kind, symbol, at: cursor.at, number, combined })
}

/// The rest of a depth frame; levels are appended to `bids` and `asks`, which the caller has cleared.
#[inline]
pub fn depth(
    text: &[u8],
    head: &Head<'_>,
    prices: &Grid,
    quantities: &Grid,
    bids: &mut Vec<Level>,
    asks: &mut Vec<Level>,
) -> Option<DepthIds> {
    let mut cursor = Cursor { text, at: head.at };
    cursor.expect(b",\"U\":")?;
    let first = cursor.id()?;
    cursor.expect(b",\"u\":")?;
    let last = cursor.id()?;
    cursor.expect(b",\"pu\":")?;
    let previous = cursor.id()?;
    cursor.expect(b",\"b\":[")?;
    cursor.levels(prices, quantities, bids)?;
    cursor.expect(b",\"a\":[")?;
    cursor.levels(prices, quantities, asks)?;
    cursor.end(head.combined)?;
    Some(DepthIds { exchange_ns: nanos(head.number), first, last, previous })
}

/// The rest of a bookTicker frame.
#[inline]
pub fn top(text: &[u8], head: &Head<'_>, prices: &Grid, quantities: &Grid) -> Option<Top> {
    let mut cursor = Cursor { text, at: head.at };
    cursor.expect(b",\"b\":\"")?;
    let bid_ticks = cursor.units(prices)?;
    cursor.expect(b"\",\"B\":\"")?;
    let bid_lots = cursor.units(quantities)?;
    cursor.expect(b"\",\"a\":\"")?;
    let ask_ticks = cursor.units(prices)?;
    cursor.expect(b"\",\"A\":\"")?;
    let ask_lots = cursor.units(quantities)?;
    cursor.expect(b"\",\"T\":")?;
    cursor.millis()?;
    cursor.expect(b",\"E\":")?;
    let event = cursor.millis()?;
    cursor.end(head.combined)?;
    Some(Top {
        exchange_ns: nanos(event),
        id: head.number as i64,
        bid: (bid_ticks, bid_lots),
        ask: (ask_ticks, ask_lots),
    })
}

/// The rest of a trade frame of the market; one with another `X` is left to the twin.
#[inline]
pub fn trade(text: &[u8], head: &Head<'_>, prices: &Grid, quantities: &Grid) -> Option<Trade> {
    let mut cursor = Cursor { text, at: head.at };
    cursor.expect(b",\"t\":")?;
    let id = cursor.id()?;
    cursor.expect(b",\"p\":\"")?;
    let ticks = cursor.units(prices)?;
    cursor.expect(b"\",\"q\":\"")?;
    let lots = cursor.units(quantities)?;
    cursor.expect(b"\",\"")?;
    if cursor.text.get(cursor.at..)?.starts_with(b"X") {
        cursor.expect(b"X\":\"MARKET\",\"")?;
    }
    cursor.expect(b"m\":")?;
    let buyer_is_maker = if cursor.text.get(cursor.at..)?.starts_with(b"true") {
        cursor.at += 4;
        true
    } else {
        cursor.expect(b"false")?;
        false
    };
    cursor.end(head.combined)?;
    Some(Trade { exchange_ns: nanos(head.number), id, ticks, lots, buyer_is_maker })
}
