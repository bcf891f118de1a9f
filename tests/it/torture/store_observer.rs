//! Observes the gateway through its store, read by another process: while it runs, to kill it at a
//! point that only the store shows; after a kill, to prove the point.

use std::collections::BTreeSet;
use std::fs::File;
use std::os::unix::fs::FileExt;

use paymux::command::demo::environment::DemoEnvironment;
use rusqlite::Connection;

/// The offset, in the `-shm` file, of the checkpoint progress (the file format's "WAL-Index
/// Header").
const CARRIED: u64 = 96;
const BEGUN: u64 = 128;

/// Payments with an intent and without a reply. The final states are listed for the index.
pub(super) const INTENTS: &str = "SELECT attempt_id FROM attempts
    WHERE state <> 'PAID' AND state <> 'FAILED' AND state <> 'CLOSED' AND state = 'INTENT'";

/// Payments that are not final.
pub(super) const UNFINISHED: &str = "SELECT attempt_id FROM attempts
    WHERE state <> 'PAID' AND state <> 'FAILED' AND state <> 'CLOSED'";

/// Payments whose money is known here.
pub(super) const PAID: &str = "SELECT attempt_id FROM attempts WHERE state = 'PAID'";

/// Refunds sent according to the store, without a reply.
pub(super) const RESERVED: &str = "SELECT refund_order_no FROM refunds
    WHERE state <> 'FAILED' AND state <> 'SUCCEEDED' AND state = 'RESERVED' AND left_at IS NOT NULL";

/// Final refunds.
pub(super) const REFUNDED: &str = "SELECT refund_order_no FROM refunds
    WHERE state = 'FAILED' OR state = 'SUCCEEDED'";

/// Events still to be delivered.
pub(super) const UNDELIVERED: &str = "SELECT event_id FROM events WHERE due_at IS NOT NULL";

/// An open store; closed before the next process starts, which then finds the files as the crash
/// left them.
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

    /// The first column of a query's rows.
    pub(super) fn see(&self, sql: &str) -> BTreeSet<String> {
        let mut asked = self.file.prepare_cached(sql).unwrap();
        let found = asked.query_map([], |row| row.get(0)).unwrap();
        found.map(Result::unwrap).collect()
    }

    /// Whether a checkpoint of the log is in progress.
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
