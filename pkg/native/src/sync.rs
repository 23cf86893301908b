//! Sequence rules of the venue's diffs. Twin: `hotpath/pure/synchroniser.py`.

use crate::book::{Book, Level};
use std::collections::VecDeque;

pub const MAX_BUFFERED: usize = 2_000;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    Applied = 1,
    Buffered = 2,
    Old = 3,
    Gap = 4,
}

/// A diff on its way; the levels belong to the caller.
#[derive(Clone, Copy)]
pub struct Diff<'a> {
    pub first: i64,
    pub last: i64,
    pub previous: i64,
    pub bids: &'a [Level],
    pub asks: &'a [Level],
}

struct Kept {
    first: i64,
    last: i64,
    previous: i64,
    bids: Vec<Level>,
    asks: Vec<Level>,
}

impl Kept {
    fn diff(&self) -> Diff<'_> {
        Diff { first: self.first, last: self.last, previous: self.previous, bids: &self.bids, asks: &self.asks }
    }
}

pub struct Synchroniser {
    pub book: Book,
    pub synchronised: bool,
    pub last_id: i64,
    pub gaps: u64,
    pub overflows: u64,
    buffer: VecDeque<Kept>,
    waiting_for_first: bool,
    snapshot_id: i64,
}

impl Synchroniser {
    pub fn new() -> Self {
        Synchroniser {
            book: Book::new(),
            synchronised: false,
            last_id: 0,
            gaps: 0,
            overflows: 0,
            buffer: VecDeque::new(),
            waiting_for_first: false,
            snapshot_id: 0,
        }
    }

    pub fn needs_snapshot(&self) -> bool {
        !self.synchronised && !self.waiting_for_first
    }

    pub fn buffered(&self) -> usize {
        self.buffer.len()
    }

    pub fn disconnect(&mut self) {
        self.synchronised = false;
        self.waiting_for_first = false;
        self.buffer.clear();
    }

    #[inline]
    pub fn on_diff(&mut self, diff: Diff<'_>) -> Outcome {
        if self.synchronised {
            if diff.previous == self.last_id {
                self.apply(diff);
                return Outcome::Applied;
            }
            if diff.last <= self.last_id {
                return Outcome::Old;
            }
            self.lose(diff);
            return Outcome::Gap;
        }
        if self.waiting_for_first {
            return self.first(diff);
        }
        self.keep(diff);
        Outcome::Buffered
    }

    pub fn on_snapshot(&mut self, last_update_id: i64, bids: &[Level], asks: &[Level]) -> bool {
        if self.synchronised {
            return true;
        }
        if let Some(oldest) = self.buffer.iter().find(|kept| kept.last >= last_update_id) {
            if oldest.first > last_update_id && oldest.previous > last_update_id {
                return false;
            }
        }
        let usable = std::mem::take(&mut self.buffer);
        self.book.load(bids, asks);
        self.snapshot_id = last_update_id;
        self.last_id = last_update_id;
        self.waiting_for_first = true;
        for kept in usable.iter().filter(|kept| kept.last >= last_update_id) {
            self.on_diff(kept.diff());
        }
        true
    }

    fn first(&mut self, diff: Diff<'_>) -> Outcome {
        if diff.last < self.snapshot_id {
            return Outcome::Old;
        }
        if diff.first > self.snapshot_id && diff.previous > self.snapshot_id {
            self.lose(diff);
            return Outcome::Gap;
        }
        self.waiting_for_first = false;
        self.synchronised = true;
        self.apply(diff);
        Outcome::Applied
    }

    #[inline]
    fn apply(&mut self, diff: Diff<'_>) {
        self.book.apply(diff.bids, diff.asks);
        self.last_id = diff.last;
    }

    fn lose(&mut self, diff: Diff<'_>) {
        self.gaps += 1;
        self.synchronised = false;
        self.waiting_for_first = false;
        self.buffer.clear();
        self.keep(diff);
    }

    fn keep(&mut self, diff: Diff<'_>) {
        if self.buffer.len() >= MAX_BUFFERED {
            self.buffer.pop_front();
            self.overflows += 1;
        }
        let Diff { first, last, previous, bids, asks } = diff;
        self.buffer.push_back(Kept { first, last, previous, bids: bids.to_vec(), asks: asks.to_vec() });
    }
}
