//! What must be true of everything that is stored, each rule once: of one order with all that was
//! written about it, of the audit chain, of merchants' numbers and of the sums over all accounts.
//!
//! Written from the tables of the invariants and not from the code that fills the store, so that a
//! fault of the one does not hide in the other. Reads nothing: whoever has rows hands them in.

mod blocks;
mod chain;
mod counting;
mod money;
mod order;

pub use blocks::{BlockHead, BlockRow, Blocks, block_hash, chained};
pub use chain::{AuditRecord, Chain};
pub use counting::EventNumberCheck;
pub use money::{JournalSums, JournalTotals};

use crate::domain::amount::Amount;
use crate::domain::attempt::AttemptState;
use crate::domain::event::EventType;
use crate::domain::identifiers::{AttemptId, InstitutionId, PayOrderNo, RefundOrderNo};
use crate::domain::order::OrderState;
use crate::domain::refund::RefundState;

/// One thing that does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Breach {
    /// The invariant: `L1`, `M1` …; `FILE` is the database's own account of itself, `READABLE` a row that
    /// this release cannot read.
    pub rule: &'static str,
    /// Of what: a number as the gateway gave it, or a place in the file.
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

/// Who hears of breaches.
pub type BreachSink<'a> = dyn FnMut(Breach) + 'a;

/// Everything the ledger has of one order, nothing personal among it.
#[derive(Debug)]
pub struct StoredOrder {
    /// The order.
    pub order: OrderRow,
    /// Its attempts, by their sequence.
    pub attempts: Vec<AttemptRow>,
    /// Its refunds, by their sequence.
    pub refunds: Vec<RefundRow>,
    /// What was posted for it.
    pub entries: Vec<EntryRow>,
    /// What its merchant was owed.
    pub events: Vec<EventRow>,
    /// What the audit log has of it.
    pub recorded: Option<AuditSummary>,
}

/// An order's own row.
#[derive(Debug)]
pub struct OrderRow {
    /// Our number.
    pub no: PayOrderNo,
    /// Whose.
    pub merchant: String,
    /// How much.
    pub amount: Amount,
    /// Where it stands.
    pub state: OrderState,
    /// The attempt that paid it.
    pub paying_attempt_id: Option<AttemptId>,
    /// What it says is held of what was paid. Unit: minor units.
    pub reserved_minor: i64,
    /// How often it changed, its placing included (K4).
    pub version: u64,
    /// It has a time when it is looked at again.
    pub is_due: bool,
}

/// An attempt's row.
#[derive(Debug)]
pub struct AttemptRow {
    /// Its number.
    pub id: AttemptId,
    /// Which of its order's, from 1.
    pub seq: u64,
    /// Through whom.
    pub institution: InstitutionId,
    /// How much.
    pub amount: Amount,
    /// Where it stands.
    pub state: AttemptState,
    /// What the institution confirmed.
    pub receipt: Option<Amount>,
}

/// A refund's row.
#[derive(Debug)]
pub struct RefundRow {
    /// Its number.
    pub no: RefundOrderNo,
    /// Which of its order's, from 1.
    pub seq: u64,
    /// The attempt along which the money goes back.
    pub attempt: AttemptId,
    /// How much.
    pub amount: Amount,
    /// Where it stands.
    pub state: RefundState,
    /// Nobody asked for it: the money was surplus (A4).
    pub is_surplus: bool,
    /// It succeeded after it had failed (V4).
    pub is_late: bool,
    /// What of it went back beyond what there was (R9). Unit: minor units.
    pub over_refunded_minor: i64,
    /// It is known what went back, and when.
    pub has_receipt: bool,
}

/// A posting's row.
#[derive(Debug)]
pub struct EntryRow {
    /// Its number in the journal.
    pub id: i64,
    /// What happened.
    pub happening: String,
    /// The account that was debited.
    pub debit: String,
    /// The account that was credited.
    pub credit: String,
    /// How much.
    pub amount: Amount,
}

/// An event's row.
#[derive(Debug)]
pub struct EventRow {
    /// Its id.
    pub id: String,
    /// The order it says it is about.
    pub order: String,
    /// Who is owed.
    pub merchant: String,
    /// What it reports.
    pub kind: EventType,
    /// The order's version that it reports.
    pub version: u64,
    /// It has a time for its next delivery if and only if one is owed.
    pub is_rightly_due: bool,
}

/// What the audit log has of one order.
#[derive(Debug)]
pub struct AuditSummary {
    /// Records about it.
    pub count: u64,
    /// The states after it, in the last of them.
    pub last: String,
}

/// How much was looked at, and what it comes to.
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
    /// The last record of each audit chain: its chain, number and hash.
    pub heads: Vec<(String, u64, [u8; 32])>,
    /// The sums over all accounts of each currency (M2).
    pub totals: JournalTotals,
    /// Things that do not hold.
    pub breaches: u64,
}
