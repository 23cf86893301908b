//! The top of a book update's bytes. Twin and description: `hotpath/pure/top_of_book.py`.

use pyo3::prelude::*;

const FIELDS: usize = 18;

/// Best bid and ask (0 for an empty side), the time of the read (monotonic) and whether the book is stale; None for
/// bytes that are not what this version's feed writes: then `domain.messages` says what they are.
#[pyfunction]
pub fn top_of_book(payload: &[u8]) -> Option<(i64, i64, i64, bool)> {
    let mut read = Reader { rest: payload };
    if read.array()? != FIELDS {
        return None;
    }
    for _ in 0..5 {
        read.integer()?;
    }
    read.text()?;
    read.text()?;
    read.integer()?;
    let bid = read.side()?;
    let ask = read.side()?;
    for _ in 0..4 {
        read.float()?;
    }
    read.integer()?;
    let stale = match read.byte()? {
        0xc2 => false,
        0xc3 => true,
        _ => return None,
    };
    let receive_mono_ns = read.integer()?;
    read.integer()?;
    read.rest.is_empty().then_some((bid, ask, receive_mono_ns, stale))
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl Reader<'_> {
    #[inline(always)]
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*first)
    }

    #[inline(always)]
    fn number<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (bytes, rest) = self.rest.split_first_chunk::<N>()?;
        self.rest = rest;
        Some(*bytes)
    }

    fn array(&mut self) -> Option<usize> {
        match self.byte()? {
            byte @ 0x90..=0x9f => Some(usize::from(byte & 15)),
            0xdc => Some(usize::from(u16::from_be_bytes(self.number()?))),
            _ => None,
        }
    }

    fn text(&mut self) -> Option<()> {
        let size = match self.byte()? {
            byte @ 0xa0..=0xbf => usize::from(byte & 31),
            0xd9 => usize::from(self.byte()?),
            _ => return None,
        };
        let (text, rest) = self.rest.split_at_checked(size)?;
        self.rest = rest;
        text.is_ascii().then_some(())
    }

    #[inline]
    fn integer(&mut self) -> Option<i64> {
        Some(match self.byte()? {
            byte @ 0..=0x7f => i64::from(byte),
            byte @ 0xe0..=0xff => i64::from(byte as i8),
            0xcc => i64::from(self.byte()?),
            0xcd => i64::from(u16::from_be_bytes(self.number()?)),
            0xce => i64::from(u32::from_be_bytes(self.number()?)),
            0xcf => i64::try_from(u64::from_be_bytes(self.number()?)).ok()?,
            0xd0 => i64::from(i8::from_be_bytes(self.number()?)),
            0xd1 => i64::from(i16::from_be_bytes(self.number()?)),
            0xd2 => i64::from(i32::from_be_bytes(self.number()?)),
            0xd3 => i64::from_be_bytes(self.number()?),
            _ => return None,
        })
    }

    fn float(&mut self) -> Option<()> {
        if self.byte()? != 0xcb {
            return None;
        }
        self.number::<8>().map(|_| ())
    }

    /// The price of the first level; every level is looked at.
    fn side(&mut self) -> Option<i64> {
        let count = self.array()?;
        let mut best = 0;
        for level in 0..count {
            if self.byte()? != 0x92 {
                return None;
            }
            let ticks = self.integer()?;
            self.integer()?;
            if level == 0 {
                best = ticks;
            }
        }
        Some(best)
    }
}
