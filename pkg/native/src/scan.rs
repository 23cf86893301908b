//! Frames of Binance USD-M as the venue writes them: compact JSON, `e` first, `s` before prices and quantities.
//!
//! Twin: `hotpath/pure/binance_frames.py` with `read` in `hotpath/pure/market.py`. This scanner accepts a subset of
//! what the twin accepts and gives the same values for it; for anything else (white space, escapes, a field twice,
//! nesting it does not know, errors) it says None and the twin decides. Fields may come in the order of the captures
//! or of the documentation, with plain ones between them that we do not know. It changes nothing while it reads,
//! never recurses, and looks at each byte once.

use crate::book::Level;
use crate::grid::Grid;

const MAX_MILLIS: u64 = 9_000_000_000_000;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Depth,
    Top,
    Trade,
}

/// What was read up to the symbol, and where the rest begins.
pub struct Head<'a> {
    pub kind: Kind,
    pub symbol: &'a [u8],
    at: usize,
    combined: bool,
    plain: Plain,
}

/// Fields that need no grid; `seen` has a bit for each field that we use.
#[derive(Clone, Copy, Default)]
struct Plain {
    seen: u32,
    event: u64,
    first: i64,
    /// `u`, or `t` of a trade.
    id: i64,
    previous: i64,
    buyer_is_maker: bool,
}

const EVENT: u32 = 1;
const TRANSACTION: u32 = 1 << 1;
const FIRST: u32 = 1 << 2;
const ID: u32 = 1 << 3;
const PREVIOUS: u32 = 1 << 4;
const MAKER: u32 = 1 << 5;
const MARKET: u32 = 1 << 6;
const BID: u32 = 1 << 7;
const ASK: u32 = 1 << 8;
const BID_LOTS: u32 = 1 << 9;
const ASK_LOTS: u32 = 1 << 10;

/// `pu`, which is the only name of two letters; 0 stands for all that we do not know.
const PU: u8 = 1;
const UNKNOWN: u8 = 0;

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

#[derive(Clone, Copy)]
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

    /// A field's name up to and with its colon: its only letter, PU or UNKNOWN.
    #[inline(always)]
    fn name(&mut self) -> Option<u8> {
        let start = self.text.get(self.at..self.at + 4)?;
        if start[0] == b'"' && start[2] == b'"' && start[3] == b':' && start[1].is_ascii_alphabetic() {
            self.at += 4;
            return Some(start[1]);
        }
        self.expect(b"\"")?;
        let name = self.plain()?;
        self.expect(b":")?;
        Some(if name == b"pu" { PU } else { UNKNOWN })
    }

    /// Whether another field follows; anything but a comma or the closing brace is None.
    #[inline(always)]
    fn more(&mut self) -> Option<bool> {
        match self.next()? {
            b',' => Some(true),
            b'}' => Some(false),
            _ => None,
        }
    }

    /// Step over a plain value of a field that we do not use.
    fn skip(&mut self) -> Option<()> {
        match *self.text.get(self.at)? {
            b'"' => {
                self.at += 1;
                self.plain().map(|_| ())
            }
            b't' => self.expect(b"true"),
            b'f' => self.expect(b"false"),
            b'n' => self.expect(b"null"),
            _ => {
                self.integer()?;
                // A fraction or an exponent would be another number.
                if matches!(self.text.get(self.at)?, b',' | b'}') { Some(()) } else { None }
            }
        }
    }

    /// A number in quotes.
    #[inline(always)]
    fn quoted(&mut self, grid: &Grid) -> Option<i64> {
        self.expect(b"\"")?;
        let units = self.units(grid)?;
        self.expect(b"\"")?;
        Some(units)
    }

    fn end(&mut self, combined: bool) -> Option<()> {
        if combined {
            self.expect(b"}")?;
        }
        if self.at == self.text.len() { Some(()) } else { None }
    }
}

impl Plain {
    /// Note that a field is there; a second time is for the twin.
    #[inline(always)]
    fn mark(&mut self, field: u32) -> Option<()> {
        let fresh = self.seen & field == 0;
        self.seen |= field;
        if fresh { Some(()) } else { None }
    }

    /// Whether exactly these are there, but for a trade's market.
    fn complete(&self, fields: u32) -> Option<()> {
        if self.seen & !MARKET == fields { Some(()) } else { None }
    }

    /// Read the value of a field that needs no grid; None for one that does.
    #[inline(always)]
    fn field(&mut self, kind: Kind, name: u8, cursor: &mut Cursor<'_>) -> Option<()> {
        match (kind, name) {
            (_, b'E') => {
                self.mark(EVENT)?;
                self.event = cursor.millis()?;
            }
            (_, b'T') => {
                self.mark(TRANSACTION)?;
                cursor.millis()?;
            }
            (Kind::Depth, b'U') => {
                self.mark(FIRST)?;
                self.first = cursor.id()?;
            }
            (Kind::Depth | Kind::Top, b'u') | (Kind::Trade, b't') => {
                self.mark(ID)?;
                self.id = cursor.id()?;
            }
            (Kind::Depth, PU) => {
                self.mark(PREVIOUS)?;
                self.previous = cursor.id()?;
            }
            (Kind::Trade, b'm') => {
                self.mark(MAKER)?;
                self.buyer_is_maker = *cursor.text.get(cursor.at)? == b't';
                cursor.expect(if self.buyer_is_maker { b"true" } else { b"false" })?;
            }
            (Kind::Trade, b'X') => {
                self.mark(MARKET)?;
                cursor.expect(b"\"MARKET\"")?;
            }
            (_, b's' | b'e') => return None, // a second one
            (Kind::Depth, b'b' | b'a') | (Kind::Top, b'b' | b'B' | b'a' | b'A') | (Kind::Trade, b'p' | b'q') => {
                return None; // before the symbol, which says what the grid is
            }
            _ => cursor.skip()?,
        }
        Some(())
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
    let kind = match cursor.plain()? {
        b"depthUpdate" => Kind::Depth,
        b"bookTicker" => Kind::Top,
        b"trade" => Kind::Trade,
        _ => return None,
    };
    let mut plain = Plain::default();
    while cursor.more()? {
        let name = cursor.name()?;
        if name == b's' {
            cursor.expect(b"\"")?;
            let symbol = cursor.plain()?;
            return Some(Head { kind, symbol, at: cursor.at, combined, plain });
        }
        plain.field(kind, name, &mut cursor)?;
    }
    None
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
    let (mut cursor, mut plain) = (Cursor { text, at: head.at }, head.plain);
    while cursor.more()? {
        let name = cursor.name()?;
        let (field, levels) = match name {
            b'b' => (BID, &mut *bids),
            b'a' => (ASK, &mut *asks),
            _ => {
                plain.field(Kind::Depth, name, &mut cursor)?;
                continue;
            }
        };
        plain.mark(field)?;
        cursor.expect(b"[")?;
        cursor.levels(prices, quantities, levels)?;
    }
    cursor.end(head.combined)?;
    plain.complete(EVENT | TRANSACTION | FIRST | ID | PREVIOUS | BID | ASK)?;
    let Plain { event, first, id, previous, .. } = plain;
    Some(DepthIds { exchange_ns: nanos(event), first, last: id, previous })
}

/// The rest of a bookTicker frame.
#[inline]
pub fn top(text: &[u8], head: &Head<'_>, prices: &Grid, quantities: &Grid) -> Option<Top> {
    let (mut cursor, mut plain) = (Cursor { text, at: head.at }, head.plain);
    let (mut bid, mut ask) = ((0, 0), (0, 0));
    while cursor.more()? {
        let name = cursor.name()?;
        let (field, grid, value) = match name {
            b'b' => (BID, prices, &mut bid.0),
            b'B' => (BID_LOTS, quantities, &mut bid.1),
            b'a' => (ASK, prices, &mut ask.0),
            b'A' => (ASK_LOTS, quantities, &mut ask.1),
            _ => {
                plain.field(Kind::Top, name, &mut cursor)?;
                continue;
            }
        };
        plain.mark(field)?;
        *value = cursor.quoted(grid)?;
    }
    cursor.end(head.combined)?;
    plain.complete(EVENT | TRANSACTION | ID | BID | BID_LOTS | ASK | ASK_LOTS)?;
    Some(Top { exchange_ns: nanos(plain.event), id: plain.id, bid, ask })
}

/// The rest of a trade frame of the market; one with another `X` is left to the twin.
#[inline]
pub fn trade(text: &[u8], head: &Head<'_>, prices: &Grid, quantities: &Grid) -> Option<Trade> {
    let (mut cursor, mut plain) = (Cursor { text, at: head.at }, head.plain);
    let (mut ticks, mut lots) = (0, 0);
    while cursor.more()? {
        let name = cursor.name()?;
        let (field, grid, value) = match name {
            b'p' => (BID, prices, &mut ticks),
            b'q' => (BID_LOTS, quantities, &mut lots),
            _ => {
                plain.field(Kind::Trade, name, &mut cursor)?;
                continue;
            }
        };
        plain.mark(field)?;
        *value = cursor.quoted(grid)?;
    }
    cursor.end(head.combined)?;
    plain.complete(EVENT | TRANSACTION | ID | MAKER | BID | BID_LOTS)?;
    let Plain { event, id, buyer_is_maker, .. } = plain;
    Some(Trade { exchange_ns: nanos(event), id, ticks, lots, buyer_is_maker })
}
