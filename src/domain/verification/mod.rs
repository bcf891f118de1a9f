//! Invariants of stored data, each rule once: of an order and everything recorded about it, of the
//! audit chains, of event numbers and of account totals.
//!
//! Written from docs/requirements.md, Invariants, independently of the code that fills the store,
//! so that a fault in one is not repeated in the other. Performs no I/O: callers pass rows in.

mod blocks;
mod chain;
mod chains;
mod counting;
mod money;
mod order;

pub use blocks::{BlockHead, BlockRow, Blocks, block_hash, chained};
pub use chain::{AuditRecord, Chain};
pub use chains::{AuditChains, RegisteredChain};
pub use counting::EventNumberCheck;
pub use money::{JournalSums, JournalTotals};

use crate::domain::amount::Amount;
use crate::domain::attempt::AttemptState;
use crate::domain::event::EventType;
use crate::domain::identifiers::{AttemptId, InstitutionId, PayOrderNo, RefundOrderNo};
use crate::domain::order::OrderState;
use crate::domain::refund::RefundState;

/// A violation of an invariant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Breach {
    /// The invariant: `L1`, `M1` …; `FILE` is the database's own integrity check, `READABLE` a row
    /// that this release cannot parse.
    pub rule: &'static str,
    /// What it concerns: one of our numbers, or a place in the store.
    pub object: String,
    /// What should be there.
    pub expected: String,
    /// What is there.
    pub found: String,
}

impl Breach {
    /// A breach of a rule.
    pub fn of(
        rule: &'static str,
        object: impl Into<String>,
        expected: impl Into<String>,
        found: impl Into<String>,
    ) -> Self {
        Self {
            rule,
            object: object.into(),
            expected: expected.into(),
            found: found.into(),
        }
    }
}

/// Receives breaches.
pub type BreachSink<'a> = dyn FnMut(Breach) + 'a;

/// Everything the ledger has about one order, without personal data.
#[derive(Debug)]
pub struct StoredOrder {
    /// The order.
    pub order: OrderRow,
    /// Its attempts, by sequence number.
    pub attempts: Vec<AttemptRow>,
    /// Its refunds, by sequence number.
    pub refunds: Vec<RefundRow>,
    /// Its postings.
    pub entries: Vec<EntryRow>,
    /// Events for its merchant.
    pub events: Vec<EventRow>,
    /// Its audit records from all chains, by version.
    pub recorded: Vec<RecordedVersion>,
}

/// An order's own row.
#[derive(Debug)]
pub struct OrderRow {
    /// Our number.
    pub no: PayOrderNo,
    /// The merchant.
    pub merchant: String,
    /// The amount.
    pub amount: Amount,
    /// Its state.
    pub state: OrderState,
    /// The attempt that paid it.
    pub paying_attempt_id: Option<AttemptId>,
    /// Stored amount reserved for or already refunded. Unit: minor units.
    pub reserved_minor: i64,
    /// Number of changes, including its creation (K4).
    pub version: u64,
    /// Whether a next check is scheduled.
    pub is_due: bool,
}

/// An attempt's row.
#[derive(Debug)]
pub struct AttemptRow {
    /// Its number.
    pub id: AttemptId,
    /// Its sequence number in the order, from 1.
    pub seq: u64,
    /// The institution.
    pub institution: InstitutionId,
    /// The amount.
    pub amount: Amount,
    /// Its state.
    pub state: AttemptState,
    /// The amount that the institution confirmed.
    pub receipt: Option<Amount>,
}

impl AttemptRow {
    /// Whether the institution took its money and gave it back before it paid anything (A9).
    fn is_returned(&self) -> bool {
        !self.state.is_live() && self.state != AttemptState::Paid && self.receipt.is_some()
    }
}

/// A refund's row.
#[derive(Debug)]
pub struct RefundRow {
    /// Its number.
    pub no: RefundOrderNo,
    /// Its sequence number in the order, from 1.
    pub seq: u64,
    /// The attempt being refunded.
    pub attempt: AttemptId,
    /// The amount.
    pub amount: Amount,
    /// Its state.
    pub state: RefundState,
    /// Not requested by a merchant: it returns an excess payment (A4).
    pub is_excess: bool,
    /// It succeeded after it had failed (V4).
    pub is_late: bool,
    /// The part of it beyond the refundable amount (R9). Unit: minor units.
    pub over_refunded_minor: i64,
    /// A receipt states the amount and time of the refund.
    pub has_receipt: bool,
}

/// A posting's row.
#[derive(Debug)]
pub struct EntryRow {
    /// Its number in the journal.
    pub id: i64,
    /// Name of the event that caused it.
    pub kind: String,
    /// The debited account.
    pub debit: String,
    /// The credited account.
    pub credit: String,
    /// The amount.
    pub amount: Amount,
}

/// An event's row.
#[derive(Debug)]
pub struct EventRow {
    /// Its id.
    pub id: String,
    /// The order it names.
    pub order: String,
    /// The merchant to notify.
    pub merchant: String,
    /// What it reports.
    pub kind: EventType,
    /// The order version it reports.
    pub version: u64,
    /// A next delivery is scheduled if and only if the event is undelivered.
    pub is_rightly_due: bool,
}

/// An audit record of an order.
#[derive(Debug)]
pub struct RecordedVersion {
    /// The order's version after the recorded action; 0 in the first chain, whose records have
    /// none and come before all others.
    pub version: u64,
    /// Its chain.
    pub chain: String,
    /// Its number in that chain.
    pub seq: u64,
    /// The states recorded.
    pub result: String,
}

/// Result of a verification: counts and totals.
#[derive(Debug, Default)]
pub struct Report {
    /// Orders.
    pub orders: u64,
    /// Attempts.
    pub attempts: u64,
    /// Refunds.
    pub refunds: u64,
    /// Postings.
    pub entries: u64,
    /// Events.
    pub events: u64,
    /// Audit records.
    pub records: u64,
    /// Blocks of the exchange log.
    pub blocks: u64,
    /// Audit chains.
    pub chains: u64,
    /// The last record of each audit chain that no other chain names: chain, number and hash.
    pub heads: Vec<(String, u64, [u8; 32])>,
    /// The totals over all accounts of each currency (M2).
    pub totals: JournalTotals,
    /// Number of breaches.
    pub breaches: u64,
}
