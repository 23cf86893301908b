//! L2 book: levels in ticks and lots, both sides ordered, best level in constant time.
//!
//! Twin: `hotpath/pure/book.py`. Nearly all changes fall within some thousand ticks of the touch, so each side is an
//! array indexed by tick with a bitmap of the levels that exist, and a sorted vector for the rest far away from the
//! touch. The window follows the touch. Decision record 0111.

use std::io::Write;

pub type Level = (i64, i64);

const WINDOW: usize = 1 << 15;
const WORDS: usize = WINDOW / 64;
/// Where the best level stands in a window that was just moved; above it is room for the price to improve.
const BEST_AT: usize = WINDOW / 4 * 3;

/// One side. Keys ascend towards the best price: ticks for bids, minus ticks for asks.
pub struct Side {
    base: i64,
    /// Index of the best level in the window; 0 when the window is empty, see `occupied`.
    best: usize,
    lots: Box<[i64; WINDOW]>,
    words: Box<[u64; WORDS]>,
    /// A bit for every word that is not zero.
    summary: [u64; WORDS / 64],
    /// Levels below the window, ascending.
    far: Vec<Level>,
}

impl Side {
    pub fn new() -> Self {
        let lots: Box<[i64]> = vec![0; WINDOW].into();
        Side {
            base: 0,
            best: 0,
            lots: lots.try_into().expect("it has that length"),
            words: Box::new([0; WORDS]),
            summary: [0; WORDS / 64],
            far: Vec::with_capacity(4096),
        }
    }

    pub fn clear(&mut self) {
        self.clear_window();
        self.far.clear();
    }

    pub fn len(&self) -> usize {
        self.words.iter().map(|word| word.count_ones() as usize).sum::<usize>() + self.far.len()
    }

    fn clear_window(&mut self) {
        self.words.fill(0);
        self.summary.fill(0);
        self.best = 0;
    }

    #[inline(always)]
    fn holds(&self, index: usize) -> bool {
        self.words[index >> 6] >> (index & 63) & 1 != 0
    }

    #[inline(always)]
    fn occupied(&self) -> bool {
        self.holds(self.best)
    }

    /// The highest level of the window at or below `index`.
    #[inline]
    fn below(&self, index: usize) -> Option<usize> {
        let at = index >> 6;
        let word = self.words[at] & (u64::MAX >> (63 - (index & 63)));
        if word != 0 {
            return Some((at << 6) + 63 - word.leading_zeros() as usize);
        }
        let mut block = at >> 6;
        let mut words = self.summary[block] & ((1u64 << (at & 63)) - 1);
        while words == 0 {
            block = block.checked_sub(1)?;
            words = self.summary[block];
        }
        let at = (block << 6) + 63 - words.leading_zeros() as usize;
        Some((at << 6) + 63 - self.words[at].leading_zeros() as usize)
    }

    /// Set the total at `key`; 0 or less removes it.
    #[inline(always)]
    pub fn set(&mut self, key: i64, lots: i64) {
        let index = key.wrapping_sub(self.base) as u64 as usize;
        if index >= WINDOW {
            return self.set_outside(key, lots);
        }
        let there = u64::from(lots > 0);
        self.lots[index] = lots;
        let at = index >> 6;
        let word = self.words[at] & !(1 << (index & 63)) | there << (index & 63);
        self.words[at] = word;
        let block = &mut self.summary[at >> 6];
        *block = *block & !(1 << (at & 63)) | u64::from(word != 0) << (at & 63);
        if lots > 0 {
            self.best = self.best.max(index);
        } else if index == self.best {
            self.best_gone();
        }
    }

    #[inline(never)]
    fn best_gone(&mut self) {
        match self.below(self.best) {
            Some(index) => {
                self.best = index;
                // Too deep in the window: little depth is left below. The move is paid for by many changes.
                if index < WINDOW / 4 && !self.far.is_empty() {
                    self.move_window(self.base + index as i64);
                }
            }
            None => {
                self.best = 0;
                if let Some(&(key, _)) = self.far.last() {
                    self.move_window(key);
                }
            }
        }
    }

    #[inline(never)]
    fn set_outside(&mut self, key: i64, lots: i64) {
        if key < self.base && self.occupied() {
            match self.far.binary_search_by_key(&key, |level| level.0) {
                Ok(at) if lots > 0 => self.far[at].1 = lots,
                Ok(at) => {
                    self.far.remove(at);
                }
                Err(at) if lots > 0 => self.far.insert(at, (key, lots)),
                Err(_) => {}
            }
        } else if lots > 0 {
            // Better than all of the window, or the first level at all.
            self.move_window(key);
            self.set(key, lots);
        }
    }

    /// Put the window so that `best` stands at its place, and every level where it then belongs.
    fn move_window(&mut self, best: i64) {
        let mut levels: Vec<Level> = self.best_first().collect();
        levels.reverse();
        self.clear();
        self.base = best - BEST_AT as i64;
        let near = levels.partition_point(|level| level.0 < self.base);
        for &(key, lots) in &levels[near..] {
            self.set(key, lots);
        }
        levels.truncate(near);
        self.far.extend(levels);
    }

    /// Replace everything; levels without lots are skipped, and of two with one key the later counts.
    pub fn load(&mut self, levels: impl Iterator<Item = Level>) {
        let mut found: Vec<Level> = levels.filter(|level| level.1 > 0).collect();
        found.sort_by_key(|level| level.0); // stable: the later one of two stays behind the other
        self.clear();
        self.base = found.last().map_or(0, |level| level.0) - BEST_AT as i64;
        for (key, lots) in found.into_iter().rev().scan(None, |last, level| {
            let fresh = *last != Some(level.0);
            *last = Some(level.0);
            Some(if fresh { level } else { (level.0, 0) })
        }) {
            if lots > 0 {
                self.set(key, lots);
            }
        }
    }

    /// (key, lots), best first.
    pub fn best_first(&self) -> impl Iterator<Item = Level> + '_ {
        let start = if self.occupied() { Some(self.best) } else { None };
        let window = std::iter::successors(start, |&index| index.checked_sub(1).and_then(|below| self.below(below)));
        window.map(|index| (self.base + index as i64, self.lots[index])).chain(self.far.iter().rev().copied())
    }

    /// Append the best `count` as (sign * key, lots), best first.
    #[inline]
    pub fn copy_best(&self, count: usize, sign: i64, out: &mut Vec<Level>) {
        let start = if self.occupied() { Some(self.best) } else { None };
        self.copy(start, self.far.len(), count, sign, out);
    }

    /// Append the best `count` of those below `key`, like `copy_best`.
    pub fn copy_below(&self, key: i64, count: usize, sign: i64, out: &mut Vec<Level>) {
        let end = key.saturating_sub(self.base);
        let start = if end > 0 { self.below((end as usize).min(WINDOW) - 1) } else { None };
        let far = self.far.partition_point(|level| level.0 < key);
        self.copy(start, far, count, sign, out);
    }

    #[inline]
    fn copy(&self, start: Option<usize>, far: usize, count: usize, sign: i64, out: &mut Vec<Level>) {
        let mut left = count;
        if let Some(start) = start {
            let mut at = start >> 6;
            let mut word = self.words[at] & (u64::MAX >> (63 - (start & 63)));
            loop {
                while word != 0 {
                    if left == 0 {
                        return;
                    }
                    let bit = 63 - word.leading_zeros() as usize;
                    word &= !(1 << bit);
                    let index = (at << 6) + bit;
                    out.push((sign * (self.base + index as i64), self.lots[index]));
                    left -= 1;
                }
                match at.checked_sub(1).and_then(|next| self.below((next << 6) + 63)) {
                    Some(index) => at = index >> 6,
                    None => break,
                }
                word = self.words[at];
            }
        }
        out.extend(self.far[..far].iter().rev().take(left).map(|&(key, lots)| (sign * key, lots)));
    }

    #[inline]
    pub fn best(&self) -> Option<Level> {
        if self.occupied() {
            return Some((self.base + self.best as i64, self.lots[self.best]));
        }
        self.far.last().copied()
    }
}

pub struct Book {
    pub bids: Side,
    pub asks: Side,
}

impl Book {
    pub fn new() -> Self {
        Book { bids: Side::new(), asks: Side::new() }
    }

    pub fn load(&mut self, bids: &[Level], asks: &[Level]) {
        self.bids.load(bids.iter().copied());
        self.asks.load(asks.iter().map(|&(ticks, lots)| (-ticks, lots)));
    }

    #[inline]
    pub fn apply(&mut self, bids: &[Level], asks: &[Level]) {
        for &(ticks, lots) in bids {
            self.bids.set(ticks, lots);
        }
        for &(ticks, lots) in asks {
            self.asks.set(-ticks, lots);
        }
    }

    #[inline]
    pub fn best_bid(&self) -> Option<Level> {
        self.bids.best()
    }

    #[inline]
    pub fn best_ask(&self) -> Option<Level> {
        self.asks.best().map(|(key, lots)| (-key, lots))
    }

    /// Bids, best first; 0 for all.
    pub fn top_bids(&self, count: usize) -> impl Iterator<Item = Level> + '_ {
        self.bids.best_first().take(if count == 0 { usize::MAX } else { count })
    }

    /// Asks, best first; 0 for all.
    pub fn top_asks(&self, count: usize) -> impl Iterator<Item = Level> + '_ {
        let all = self.asks.best_first().map(|(key, lots)| (-key, lots));
        all.take(if count == 0 { usize::MAX } else { count })
    }

    /// CRC-32 of all levels as text, see the twin.
    pub fn checksum(&self) -> u32 {
        let mut text = Vec::with_capacity(16 * (self.bids.len() + self.asks.len()) + 1);
        for (ticks, lots) in self.top_bids(0) {
            let _ = write!(text, "{ticks}:{lots},"); // writing to a vector cannot fail
        }
        text.push(b'|');
        for (ticks, lots) in self.top_asks(0) {
            let _ = write!(text, "{ticks}:{lots},");
        }
        crc32fast::hash(&text)
    }
}
