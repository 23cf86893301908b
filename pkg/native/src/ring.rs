//! The shared-memory ring. Twin and description of the layout: `hotpath/pure/ring.py`.
//!
//! Every word of the memory is read and written as an atomic, because another process does the same at the same
//! time. Ordering: the lock of a slot goes to odd before its body changes and to even (release) after it; a reader
//! loads the lock (acquire), copies, and looks again behind an acquire fence. The CRC of the twin is kept, because
//! either side may be the twin.

use crate::twin;
use pyo3::buffer::PyBuffer;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering, fence};

const MAGIC: u64 = u64::from_le_bytes(*b"tmring\x01\n");
const HEADER_BYTES: usize = 256;
const SLOT_OVERHEAD: usize = 24;
const MAX_SUBJECTS: usize = 65_536;

// Words of the header.
const W_MAGIC: usize = 0;
const W_SLOTS: usize = 1;
const W_SLOT_BYTES: usize = 2;
const W_GENERATION: usize = 3;
const W_STATE: usize = 4;
const W_PID: usize = 5;
const W_WRITTEN: usize = 8;
const W_SLEEPERS: usize = 16;

const OPEN: u64 = 1;
const CLOSED: u64 = 2;

fn format_error(py: Python<'_>, sentence: String) -> PyErr {
    match twin::attribute(py, "tickmesh.hotpath.pure.ring", "RingFormatError").and_then(|kind| kind.call1((sentence,)))
    {
        Ok(error) => PyErr::from_value(error),
        Err(error) => error,
    }
}

/// A mapped buffer as atomic words; gone after `release`.
struct Memory {
    buffer: Option<PyBuffer<u8>>,
    words: usize,
}

impl Memory {
    fn new(buffer: &Bound<'_, PyAny>) -> PyResult<Self> {
        let buffer = PyBuffer::<u8>::get(buffer)?;
        if buffer.readonly() || !buffer.is_c_contiguous() || buffer.buf_ptr() as usize % 8 != 0 {
            return Err(PyValueError::new_err("a ring needs a writable, contiguous, aligned buffer"));
        }
        let words = buffer.len_bytes() / 8;
        Ok(Memory { buffer: Some(buffer), words })
    }

    #[inline(always)]
    fn start(&self) -> PyResult<*mut u8> {
        match &self.buffer {
            Some(buffer) => Ok(buffer.buf_ptr().cast()),
            None => Err(PyValueError::new_err("the ring's buffer was released")),
        }
    }

    #[inline(always)]
    fn word(&self, index: usize) -> PyResult<&AtomicU64> {
        let start = self.start()?;
        assert!(index < self.words, "a word outside the ring");
        // SAFETY: aligned, inside the buffer that `self` keeps alive, and only ever used as an atomic.
        Ok(unsafe { AtomicU64::from_ptr(start.cast::<u64>().add(index)) })
    }

    fn byte(&self, index: usize) -> PyResult<&AtomicU8> {
        let start = self.start()?;
        assert!(index < self.words * 8, "a byte outside the ring");
        // SAFETY: as for `word`.
        Ok(unsafe { AtomicU8::from_ptr(start.add(index)) })
    }

    /// `count` words from `first`.
    #[inline(always)]
    fn slice(&self, first: usize, count: usize) -> PyResult<&[AtomicU64]> {
        let start = self.start()?;
        assert!(first + count <= self.words, "words outside the ring");
        // SAFETY: as for `word`.
        Ok(unsafe { std::slice::from_raw_parts(start.cast::<AtomicU64>().add(first), count) })
    }

    fn flag(&self, bell: usize) -> PyResult<&AtomicU8> {
        if bell >= 8 {
            return Err(PyValueError::new_err("there are 8 bells"));
        }
        self.byte(W_SLEEPERS * 8 + bell)
    }
}

fn crc32(payload: &[u8], number: u64) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(number as u32);
    hasher.update(payload);
    hasher.finalize()
}

#[pyclass(module = "tickmesh_native")]
pub struct RingWriter {
    memory: Memory,
    slots: u64,
    slot_words: usize,
    #[pyo3(get)]
    written: u64,
    body: Vec<u8>,
}

#[pymethods]
impl RingWriter {
    #[new]
    #[pyo3(signature = (buffer, slots, slot_bytes, *, generation, pid = 0))]
    fn new(buffer: &Bound<'_, PyAny>, slots: u64, slot_bytes: u64, generation: u64, pid: u64) -> PyResult<Self> {
        if slot_bytes % 64 != 0 || !(64..=65472).contains(&slot_bytes) || slots < 2 {
            return Err(PyValueError::new_err(format!(
                "a ring of {slots} slots of {slot_bytes} bytes is not possible: use multiples of 64"
            )));
        }
        let memory = Memory::new(buffer)?;
        let room = (memory.words as u64).saturating_sub(HEADER_BYTES as u64 / 8) / (slot_bytes / 8);
        if slots > room {
            return Err(PyValueError::new_err("the buffer is too small for this ring"));
        }
        let words = HEADER_BYTES / 8 + (slots * slot_bytes / 8) as usize;
        let load = |index: usize| memory.word(index).map(|word| word.load(Ordering::Acquire));
        let fits = (load(W_MAGIC)?, load(W_SLOTS)?, load(W_SLOT_BYTES)?) == (MAGIC, slots, slot_bytes);
        if !fits {
            memory.slice(0, words)?.iter().for_each(|word| word.store(0, Ordering::Relaxed));
        }
        let written = if fits { load(W_WRITTEN)? } else { 0 };
        for (index, value) in [(W_SLOTS, slots), (W_SLOT_BYTES, slot_bytes), (W_PID, pid)] {
            memory.word(index)?.store(value, Ordering::Relaxed);
        }
        memory.word(W_GENERATION)?.store(generation, Ordering::Relaxed);
        memory.word(W_STATE)?.store(OPEN, Ordering::Relaxed);
        memory.word(W_MAGIC)?.store(MAGIC, Ordering::Release);
        let body = Vec::with_capacity(slot_bytes as usize);
        Ok(RingWriter { memory, slots, slot_words: (slot_bytes / 8) as usize, written, body })
    }

    #[getter]
    fn room(&self) -> usize {
        self.slot_words * 8 - SLOT_OVERHEAD
    }

    fn write(&mut self, subject: &str, payload: &[u8]) -> PyResult<()> {
        let (head, size) = (subject.len(), payload.len());
        if head + size > self.room() {
            return Err(PyValueError::new_err(format!(
                "{} bytes on {subject} do not fit a slot of {}; make slots larger",
                head + size,
                self.room()
            )));
        }
        let number = self.written + 1;
        self.body.clear();
        self.body.extend_from_slice(&crc32(payload, number).to_le_bytes());
        self.body.extend_from_slice(&(head as u16).to_le_bytes());
        self.body.extend_from_slice(&(size as u16).to_le_bytes());
        self.body.extend_from_slice(subject.as_bytes());
        self.body.extend_from_slice(payload);
        self.body.resize(self.body.len().next_multiple_of(8), 0);
        let lock = HEADER_BYTES / 8 + (number % self.slots) as usize * self.slot_words;
        let slot = self.memory.slice(lock, self.slot_words)?;
        slot[0].store(2 * number - 1, Ordering::Relaxed);
        fence(Ordering::Release); // the odd lock before any of the body
        for (word, bytes) in slot[1..].iter().zip(self.body.chunks_exact(8)) {
            word.store(u64::from_le_bytes(bytes.try_into().expect("chunks of eight")), Ordering::Relaxed);
        }
        slot[0].store(2 * number, Ordering::Release);
        self.memory.word(W_WRITTEN)?.store(number, Ordering::Release);
        self.written = number;
        Ok(())
    }

    fn sleepers(&self) -> PyResult<u64> {
        fence(Ordering::SeqCst); // our message first, then who sleeps; the reader does the reverse
        Ok(self.memory.word(W_SLEEPERS)?.load(Ordering::Relaxed))
    }

    fn woken(&self, bell: usize) -> PyResult<()> {
        self.memory.flag(bell)?.store(0, Ordering::Relaxed);
        Ok(())
    }

    fn close(&self) -> PyResult<()> {
        self.memory.word(W_STATE)?.store(CLOSED, Ordering::Release);
        Ok(())
    }

    fn release(&mut self) {
        self.memory.buffer = None;
    }
}

/// What one read found: a message, or only `lost` above zero when the writer lapped the reader.
#[pyclass(module = "tickmesh_native", frozen)]
pub struct Taken {
    subject: Py<PyString>,
    payload: Py<PyBytes>,
    #[pyo3(get)]
    lost: u64,
}

#[pymethods]
impl Taken {
    #[getter]
    fn subject(&self, py: Python<'_>) -> Py<PyString> {
        self.subject.clone_ref(py)
    }

    #[getter]
    fn payload(&self, py: Python<'_>) -> Py<PyBytes> {
        self.payload.clone_ref(py)
    }
}

#[pyclass(module = "tickmesh_native")]
pub struct RingReader {
    memory: Memory,
    slots: u64,
    slot_words: usize,
    next: u64,
    #[pyo3(get)]
    generation: u64,
    #[pyo3(get)]
    lost: u64,
    body: Vec<u8>,
    subjects: HashMap<Vec<u8>, Py<PyString>>,
}

#[pymethods]
impl RingReader {
    #[new]
    #[pyo3(signature = (buffer, *, from_oldest = false))]
    fn new(py: Python<'_>, buffer: &Bound<'_, PyAny>, from_oldest: bool) -> PyResult<Self> {
        let memory = Memory::new(buffer)?;
        if memory.words * 8 < HEADER_BYTES {
            return Err(format_error(py, format!("{} bytes are too few for a ring", memory.words * 8)));
        }
        let load = |index: usize| memory.word(index).map(|word| word.load(Ordering::Acquire));
        let (magic, slots, slot_bytes) = (load(W_MAGIC)?, load(W_SLOTS)?, load(W_SLOT_BYTES)?);
        let room = ((memory.words * 8 - HEADER_BYTES) as u64).checked_div(slot_bytes).unwrap_or(0);
        if magic != MAGIC || slots < 2 || slot_bytes % 64 != 0 || slots > room {
            return Err(format_error(py, "this is not a ring, or one that is still being made".into()));
        }
        let (generation, written) = (load(W_GENERATION)?, load(W_WRITTEN)?);
        let next = if from_oldest { (written + 2).saturating_sub(slots).max(1) } else { written + 1 };
        let slot_words = (slot_bytes / 8) as usize;
        let body = Vec::with_capacity(slot_bytes as usize);
        Ok(RingReader { memory, slots, slot_words, next, generation, lost: 0, body, subjects: HashMap::new() })
    }

    #[getter]
    fn pending(&self) -> PyResult<i64> {
        Ok(self.written()? as i64 - self.next as i64 + 1)
    }

    #[getter]
    fn closed(&self) -> PyResult<bool> {
        Ok(self.memory.word(W_STATE)?.load(Ordering::Acquire) == CLOSED)
    }

    fn restarted(&mut self) -> PyResult<bool> {
        let found = self.memory.word(W_GENERATION)?.load(Ordering::Acquire);
        let changed = found != self.generation;
        self.generation = found;
        Ok(changed)
    }

    fn read(&mut self, py: Python<'_>) -> PyResult<Option<Taken>> {
        let mut lost = 0;
        loop {
            let (number, written) = (self.next, self.written()?);
            if number > written {
                return match lost {
                    0 => Ok(None),
                    _ => Ok(Some(Taken {
                        subject: PyString::new(py, "").unbind(),
                        payload: PyBytes::new(py, b"").unbind(),
                        lost,
                    })),
                };
            }
            if written - number >= self.slots - 1 {
                // Lapped. Land a quarter of the ring behind the writer's oldest, or it laps us again at once.
                lost += self.skip(written + 2 + self.slots / 4 - self.slots)?;
                continue;
            }
            if let Some((head, size)) = self.copy(number)? {
                self.next = number + 1;
                let payload = PyBytes::new(py, &self.body[8 + head..8 + head + size]).unbind();
                return Ok(Some(Taken { subject: self.subject(py, head)?, payload, lost }));
            }
            // The writer is in this slot already, one lap ahead.
            lost += self.skip(number + 1)?;
        }
    }

    fn set_sleeping(&self, bell: usize, sleeping: bool) -> PyResult<()> {
        self.memory.flag(bell)?.store(u8::from(sleeping), Ordering::Relaxed);
        fence(Ordering::SeqCst); // our flag first, then whether there is a message; the writer does the reverse
        Ok(())
    }

    fn release(&mut self) {
        self.memory.buffer = None;
    }
}

impl RingReader {
    #[inline(always)]
    fn written(&self) -> PyResult<u64> {
        Ok(self.memory.word(W_WRITTEN)?.load(Ordering::Acquire))
    }

    /// Copy message `number` into `body`; its lengths of subject and payload, None when it is not whole.
    #[inline]
    fn copy(&mut self, number: u64) -> PyResult<Option<(usize, usize)>> {
        let lock = HEADER_BYTES / 8 + (number % self.slots) as usize * self.slot_words;
        let slot = self.memory.slice(lock, self.slot_words)?;
        if slot[0].load(Ordering::Acquire) != 2 * number {
            return Ok(None);
        }
        let lengths = slot[1].load(Ordering::Relaxed).to_le_bytes();
        let crc = u32::from_le_bytes([lengths[0], lengths[1], lengths[2], lengths[3]]);
        let head = usize::from(u16::from_le_bytes([lengths[4], lengths[5]]));
        let size = usize::from(u16::from_le_bytes([lengths[6], lengths[7]]));
        if 16 + head + size > self.slot_words * 8 {
            return Ok(None);
        }
        self.body.clear();
        for word in &slot[1..2 + (head + size).div_ceil(8)] {
            self.body.extend_from_slice(&word.load(Ordering::Relaxed).to_le_bytes());
        }
        fence(Ordering::Acquire); // all of the body before the second look
        let whole = slot[0].load(Ordering::Relaxed) == 2 * number;
        let payload = &self.body[8 + head..8 + head + size];
        Ok(if whole && crc32(payload, number) == crc { Some((head, size)) } else { None })
    }

    fn subject(&mut self, py: Python<'_>, head: usize) -> PyResult<Py<PyString>> {
        let name = &self.body[8..8 + head];
        if let Some(known) = self.subjects.get(name) {
            return Ok(known.clone_ref(py));
        }
        let made = PyBytes::new(py, name).call_method0("decode")?.cast_into::<PyString>()?.unbind();
        if self.subjects.len() >= MAX_SUBJECTS {
            self.subjects.clear();
        }
        self.subjects.insert(name.to_vec(), made.clone_ref(py));
        Ok(made)
    }

    fn skip(&mut self, to: u64) -> PyResult<u64> {
        let to = to.min(self.written()? + 1);
        let skipped = to.saturating_sub(self.next);
        self.next += skipped;
        self.lost += skipped;
        Ok(skipped)
    }
}
