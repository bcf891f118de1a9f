//! The open block: masked entries are appended until it is large or old enough.

use std::time::Duration;

use crate::domain::identifiers::{OrderKey, Timestamp, Uptime};
use crate::store::exchange_log::{BLOCK_BYTES_MAX, Block, Dropped};
use crate::world::exchange_log::ExchangeEntry;

/// How long a block stays open after its first entry; a crash loses at most this much.
pub const OPEN_MAX: Duration = Duration::from_millis(200);

/// The longest entry; a longer one is dropped. Unit: bytes.
pub const ENTRY_BYTES_MAX: usize = 64 * 1024;

/// Entries not written yet.
#[derive(Default)]
pub struct OpenBlock {
    opened: Option<Uptime>,
    span: Option<(Timestamp, Timestamp)>,
    orders: Vec<OrderKey>,
    lines: Vec<u8>,
}

impl OpenBlock {
    /// Masks and appends an entry. Returns the previous block if it is full.
    ///
    /// # Errors
    /// The entry's kind, if it is too long.
    pub fn append(&mut self, entry: &ExchangeEntry, now: Uptime) -> Result<Option<Block>, String> {
        if self.lines.capacity() == 0 {
            self.lines.reserve(BLOCK_BYTES_MAX);
        }
        let before = self.lines.len();
        super::write(&mut self.lines, entry);
        self.lines.push(b'\n');
        if self.lines.len().saturating_sub(before) > ENTRY_BYTES_MAX {
            self.lines.truncate(before);
            return Err(entry.kind().to_owned());
        }
        let is_full = self.lines.len() > BLOCK_BYTES_MAX;
        let line = is_full.then(|| self.lines.split_off(before));
        let full = line.and_then(|line| {
            let full = self.close();
            self.lines = line;
            full
        });
        self.opened.get_or_insert(now);
        let (first, last) = self.span.unwrap_or((entry.at, entry.at));
        self.span = Some((first.min(entry.at), last.max(entry.at)));
        self.orders.push(entry.about.clone());
        Ok(full)
    }

    /// Whether it has been open for at least [`OPEN_MAX`].
    pub fn is_due(&self, now: Uptime) -> bool {
        self.opened
            .is_some_and(|opened| now.since(opened) >= OPEN_MAX)
    }

    /// Closes the block and returns it, if it is not empty; the writer adds the dropped counts.
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
