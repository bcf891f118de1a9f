//! What can be seen of the gateway without asking it: its file, read by somebody else. While it
//! lives, to kill it at a moment that only the file shows; once it is dead, to prove the moment.

use std::collections::BTreeSet;
use std::fs::File;
use std::os::unix::fs::FileExt;

use paymux::command::demo::environment::DemoEnvironment;
use rusqlite::Connection;

/// Where the index of the log says how far it was carried over, and how far that was begun, from
/// the beginning of the `-shm` file (the file format's "WAL-Index Header").
const CARRIED: u64 = 96;
const BEGUN: u64 = 128;

/// Payments that were written down, and of whose reply nothing was. The states that are over are
/// named for the index.
pub(super) const INTENTS: &str = "SELECT attempt_id FROM attempts
    WHERE state <> 'PAID' AND state <> 'FAILED' AND state <> 'CLOSED' AND state = 'INTENT'";

/// Payments that are not over.
pub(super) const UNFINISHED: &str = "SELECT attempt_id FROM attempts
    WHERE state <> 'PAID' AND state <> 'FAILED' AND state <> 'CLOSED'";

/// Payments whose money is known of.
pub(super) const PAID: &str = "SELECT attempt_id FROM attempts WHERE state = 'PAID'";

/// Refunds that were written down as sent, and of whose reply nothing was.
pub(super) const RESERVED: &str = "SELECT refund_order_no FROM refunds
    WHERE state <> 'FAILED' AND state <> 'SUCCEEDED' AND state = 'RESERVED' AND left_at IS NOT NULL";

/// Refunds that are over.
pub(super) const REFUNDED: &str = "SELECT refund_order_no FROM refunds
    WHERE state = 'FAILED' OR state = 'SUCCEEDED'";

/// Events that still have to be told.
pub(super) const UNDELIVERED: &str = "SELECT event_id FROM events WHERE due_at IS NOT NULL";

/// An open file; closed before the next process starts, which then finds the file as a crash left it.
pub(super) struct StoreObserver {
    file: Connection,
    log_index: Option<File>,
}

impl StoreObserver {
    pub(super) fn open(stage: &DemoEnvironment) -> Self {
        let index = stage.config.with_file_name("paymux.sqlite-shm");
        Self {
            file: super::file(stage),
            log_index: File::open(index).ok(),
        }
    }

    /// The first column of what this finds.
    pub(super) fn see(&self, sql: &str) -> BTreeSet<String> {
        let mut asked = self.file.prepare_cached(sql).unwrap();
        let found = asked.query_map([], |row| row.get(0)).unwrap();
        found.map(Result::unwrap).collect()
    }

    /// Whether pages of the log are being carried over into the file: begun and not finished.
    pub(super) fn is_carrying_over(&self) -> bool {
        let number = |at| {
            let mut bytes = [0; 4];
            let index = self.log_index.as_ref()?;
            index.read_exact_at(&mut bytes, at).ok()?;
            Some(u32::from_ne_bytes(bytes))
        };
        number(BEGUN) > number(CARRIED)
    }
}
