//! Queries for reconciliation and operations: the movements of a day, reconciliation breaks (M7),
//! and refunds in manual review (L5).

use async_trait::async_trait;

use crate::domain::amount::Amount;
use crate::domain::audit::AuditEntry;
use crate::domain::identifiers::{
    InstitutionId, MerchantId, PayOrderNo, RefundOrderNo, StaffId, Timestamp,
};
use crate::domain::statement::{
    AccountReceiver, Movement, OurMovement, SettlementDay, StatementDifference, StatementLine,
};
use crate::store::StoreError;

/// Maximum number of movements read in one call.
pub const MOVEMENTS_AT_ONCE: u32 = 1_000;

/// Maximum number of breaks written in one transaction, so that payments are not delayed.
pub const BREAKS_AT_ONCE: usize = 500;

/// The part of the store used by reconciliation. Never changes an order.
#[async_trait]
pub trait ReconciliationLedger: Send + Sync {
    /// Our movement for each statement line of this institution, in the order of the lines, read in
    /// one snapshot.
    async fn known(
        &self,
        institution: &InstitutionId,
        lines: &[StatementLine],
    ) -> Result<Vec<Option<OurMovement>>, StoreError>;

    /// Our movements of a day at this institution after the cursor, in order of time, at most
    /// [`MOVEMENTS_AT_ONCE`].
    async fn moved(
        &self,
        institution: &InstitutionId,
        day: &SettlementDay,
        after: &MovementCursor,
    ) -> Result<(Vec<OurMovement>, Option<MovementCursor>), StoreError>;

    /// The receivers with at least one movement that day.
    async fn receivers(
        &self,
        institution: &InstitutionId,
        day: &SettlementDay,
    ) -> Result<Vec<AccountReceiver>, StoreError>;

    /// Records the remaining differences as breaks, at most [`BREAKS_AT_ONCE`], with an audit entry
    /// (L2). A known difference keeps its break; a resolved one is reopened. Returns how many are
    /// new or reopened.
    async fn raise(
        &self,
        of: &Reconciliation,
        remaining: Vec<StatementDifference>,
    ) -> Result<u64, StoreError>;

    /// Resolves the breaks of that institution and day that this reconciliation did not find, and
    /// writes an audit entry (L5). Returns how many.
    async fn conclude(&self, of: &Reconciliation, result: String) -> Result<u64, StoreError>;

    /// The breaks of an institution and a day, open ones first.
    async fn breaks(
        &self,
        institution: &InstitutionId,
        day: &SettlementDay,
    ) -> Result<Vec<ReconciliationBreak>, StoreError>;

    /// The number of open breaks, and the oldest of them, at most `shown`.
    async fn open_breaks(&self, shown: u32) -> Result<(u64, Vec<ReconciliationBreak>), StoreError>;

    /// Assigns an open break to an owner, and writes an audit entry (L5). Returns whether there is
    /// such a break.
    async fn hand_over(&self, id: i64, to: &str, by: &StaffAct) -> Result<bool, StoreError>;

    /// Resolves an open break manually, with a reason, and writes an audit entry (L5). Returns
    /// whether there is such a break.
    async fn resolve(&self, id: i64, because: &str, by: &StaffAct) -> Result<bool, StoreError>;

    /// The number of refunds in manual review, and the oldest of them, at most `shown`.
    async fn awaiting_manual_review(
        &self,
        shown: u32,
    ) -> Result<(u64, Vec<ManualReviewRefund>), StoreError>;

    /// The size of the write-ahead log.
    fn wal_size(&self) -> WalSize;
}

/// The size of the write-ahead log, and how much of it is checkpointed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WalSize {
    /// Since the log last restarted. Unit: bytes.
    pub bytes: u64,
    /// Of those, checkpointed into the database file. Unit: bytes.
    pub carried_bytes: u64,
    /// Number of log restarts since the process started.
    pub restarts: u32,
}

/// The owner of a break that no reconciliation found, until it is assigned.
pub const UNASSIGNED_OWNER: &str = "unassigned";

/// Who acted on a break, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StaffAct {
    /// The staff member, as `staff:…`.
    pub who: String,
    /// When.
    pub at: Timestamp,
}

/// A refund in state MANUAL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManualReviewRefund {
    /// The refund's number.
    pub refund: RefundOrderNo,
    /// The order it belongs to.
    pub order: PayOrderNo,
    /// The order's merchant.
    pub merchant: MerchantId,
    /// The institution that was asked to refund.
    pub institution: InstitutionId,
    /// How much.
    pub amount: Amount,
    /// When it was reserved.
    pub asked: Timestamp,
    /// Whether it returns an excess payment rather than serving a merchant's request.
    pub is_excess: bool,
    /// The first staff decision, while a second one is still required.
    pub found: Option<FirstDecision>,
}

/// The first staff member's decision about a refund.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FirstDecision {
    /// The staff member who decided.
    pub staff: StaffId,
    /// Whether the money was returned.
    pub succeeded: bool,
    /// SHA-256 of the institution's statement file.
    pub statement: [u8; 32],
    /// The institution's refund number, if the staff member gave it.
    pub institution_no: Option<Box<str>>,
    /// When the money was returned, if the staff member gave it.
    pub moved_at: Option<Timestamp>,
}

/// Identifies one reconciliation run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reconciliation {
    /// The institution.
    pub institution: InstitutionId,
    /// The day reconciled.
    pub day: SettlementDay,
    /// Who started it, as `staff:…`; the initial owner of the breaks it finds.
    pub by: String,
    /// When it started; distinguishes one run from the next.
    pub at: Timestamp,
}

impl Reconciliation {
    /// The audit entry for this run.
    pub fn audit_entry(&self, action: &'static str, result: String) -> AuditEntry {
        AuditEntry {
            actor: self.by.clone(),
            action: action.into(),
            object: format!("{} {}", self.institution, self.day.date.as_str()),
            result,
        }
    }
}

/// The position in a day's movements.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MovementCursor {
    /// The kind of the last movement read; payments come before refunds.
    pub movement: Movement,
    /// The time of the last movement read.
    pub at: Timestamp,
    /// Its number.
    pub number: Box<str>,
}

impl MovementCursor {
    /// The position before the first movement of a day.
    pub fn before(day: &SettlementDay) -> Self {
        Self {
            movement: Movement::Payment,
            at: day.from,
            number: "".into(),
        }
    }
}

/// A reconciliation break: a difference that requires investigation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReconciliationBreak {
    /// Its number.
    pub id: i64,
    /// When the break was first found.
    pub at: Timestamp,
    /// The institution.
    pub institution: InstitutionId,
    /// The settlement day, `yyyyMMdd`.
    pub day: Box<str>,
    /// The difference.
    pub difference: StatementDifference,
    /// The owner.
    pub owner: String,
    /// Whether the break is still open.
    pub is_open: bool,
}
