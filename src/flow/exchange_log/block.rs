//! The block that is open: masked entries are appended, until it is long or old enough.

use std::time::Duration;

use crate::domain::identifiers::{OrderKey, Timestamp, Uptime};
use crate::store::exchange_log::{BLOCK_BYTES_MAX, Block, Dropped};
use crate::world::exchange_log::ExchangeEntry;

/// How long a block stays open after its first entry: what a crash loses at most.
pub const OPEN_MAX: Duration = Duration::from_millis(200);

/// The longest entry; a longer one is dropped. Unit: bytes.
pub const ENTRY_BYTES_MAX: usize = 64 * 1024;

/// What is set aside for one at first. Unit: bytes.
const LINE_BYTES: usize = 2 * 1024;

/// An entry as it is stored. Holds nothing personal.
#[derive(Debug)]
pub struct MaskedEntry {
    about: OrderKey,
    at: Timestamp,
    line: Vec<u8>,
}

impl MaskedEntry {
    /// Masks an entry.
    ///
    /// # Errors
    /// Its kind, if it is too long.
    pub fn of(entry: ExchangeEntry) -> Result<Self, String> {
        let mut line = Vec::with_capacity(LINE_BYTES);
        super::write(&mut line, &entry);
        line.push(b'\n');
        if line.len() > ENTRY_BYTES_MAX {
            return Err(entry.kind().to_owned());
        }
        Ok(Self {
            about: entry.about,
            at: entry.at,
            line,
        })
    }
}

/// Entries that are not written yet.
#[derive(Default)]
pub struct OpenBlock {
    opened: Option<Uptime>,
    span: Option<(Timestamp, Timestamp)>,
    orders: Vec<OrderKey>,
    lines: Vec<u8>,
}

impl OpenBlock {
    /// Appends an entry at this moment. Returns what was open before if there was no room for it.
    pub fn append(&mut self, entry: MaskedEntry, now: Uptime) -> Option<Block> {
        let after = self.lines.len().saturating_add(entry.line.len());
        let full = (after > BLOCK_BYTES_MAX).then(|| self.close()).flatten();
        self.opened.get_or_insert(now);
        let (first, last) = self.span.unwrap_or((entry.at, entry.at));
        self.span = Some((first.min(entry.at), last.max(entry.at)));
        self.orders.push(entry.about);
        self.lines.extend(entry.line);
        full
    }

    /// Whether it has been open for long enough.
    pub fn is_due(&self, now: Uptime) -> bool {
        self.opened
            .is_some_and(|opened| now.since(opened) >= OPEN_MAX)
    }

    /// Closes it, if there is anything in it; what was dropped before it, its writer knows.
    pub fn close(&mut self) -> Option<Block> {
        let (first, last) = self.span?;
        let whole = std::mem::take(self);
        Some(Block {
            first,
            last,
            orders: whole.orders,
            lines: whole.lines,
            dropped: Dropped::new(),
        })
    }
}
