//! What reconciling, and whoever runs the gateway, ask of a store beside its orders: movements of a day,
//! the incidents that differences become (M7), and refunds that are left to people (section 5).

use async_trait::async_trait;

use crate::domain::amount::Amount;
use crate::domain::audit::AuditEntry;
use crate::domain::identifiers::{
    InstitutionId, MerchantId, OperatorId, PayOrderNo, RefundOrderNo, Timestamp,
};
use crate::domain::statement::{
    AccountReceiver, Movement, OurMovement, SettlementDay, StatementDifference, StatementLine,
};
use crate::store::StoreError;

/// Movements read at once.
pub const MOVEMENTS_AT_ONCE: u32 = 1_000;

/// Incidents written at once, so that they hold up no payment.
pub const BREAKS_AT_ONCE: usize = 500;

/// The same store, as whoever reconciles sees it. Moves no order.
#[async_trait]
pub trait ReconciliationLedger: Send + Sync {
    /// What we know of each line's movement at this institution, in the same order, as of one
    /// moment.
    async fn known(
        &self,
        institution: &InstitutionId,
        lines: &[StatementLine],
    ) -> Result<Vec<Option<OurMovement>>, StoreError>;

    /// Our movements of a day at this institution, in the order of time, at most
    /// [`MOVEMENTS_AT_ONCE`], from after the one given.
    async fn moved(
        &self,
        institution: &InstitutionId,
        day: &SettlementDay,
        after: &MovementCursor,
    ) -> Result<(Vec<OurMovement>, Option<MovementCursor>), StoreError>;

    /// The receivers over which money moved in a day.
    async fn receivers(
        &self,
        institution: &InstitutionId,
        day: &SettlementDay,
    ) -> Result<Vec<AccountReceiver>, StoreError>;

    /// Notes differences that remain, at most [`BREAKS_AT_ONCE`], with a record (L2). One that is
    /// known stays the same incident; one that was resolved is open again. Returns how many are new
    /// or open again.
    async fn raise(
        &self,
        of: &Reconciliation,
        remaining: Vec<StatementDifference>,
    ) -> Result<u64, StoreError>;

    /// Resolves the incidents of that institution and day that this reconciliation did not note,
    /// and records it (L5). Returns how many.
    async fn conclude(&self, of: &Reconciliation, result: String) -> Result<u64, StoreError>;

    /// The incidents of an institution and a day, the open ones first.
    async fn breaks(
        &self,
        institution: &InstitutionId,
        day: &SettlementDay,
    ) -> Result<Vec<ReconciliationBreak>, StoreError>;

    /// How many incidents are open, and of them so many shown, the oldest first.
    async fn open_breaks(&self, shown: u32) -> Result<(u64, Vec<ReconciliationBreak>), StoreError>;

    /// Makes an open incident somebody's, and records it (L5). Returns whether there is such a one.
    async fn hand_over(&self, id: i64, to: &str, by: &StaffAct) -> Result<bool, StoreError>;

    /// Ends an open incident by hand, for a reason, and records it (L5). Returns whether there is such
    /// a one.
    async fn resolve(&self, id: i64, because: &str, by: &StaffAct) -> Result<bool, StoreError>;

    /// How many refunds only people can end, and of them so many shown, the oldest first.
    async fn awaiting_manual_review(
        &self,
        shown: u32,
    ) -> Result<(u64, Vec<ManualReviewRefund>), StoreError>;

    /// How long the write-ahead log is.
    fn wal_size(&self) -> WalSize;
}

/// How long the write-ahead log is, and how much of it stands in the store's file as well.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WalSize {
    /// Since it last began anew. Unit: bytes.
    pub bytes: u64,
    /// Of those, carried over. Unit: bytes.
    pub carried_bytes: u64,
    /// How often it began anew since the start.
    pub restarts: u32,
}

/// Whose an incident is that no reconciliation found, until it is handed over.
pub const UNASSIGNED_OWNER: &str = "operators";

/// Who did something to an incident, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StaffAct {
    /// `operator:…`.
    pub who: String,
    /// When.
    pub at: Timestamp,
}

/// A refund in MANUAL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManualReviewRefund {
    /// Which.
    pub refund: RefundOrderNo,
    /// Of which order.
    pub order: PayOrderNo,
    /// Whose order.
    pub merchant: MerchantId,
    /// Who was asked to give it back.
    pub institution: InstitutionId,
    /// How much.
    pub amount: Amount,
    /// When it was reserved.
    pub asked: Timestamp,
    /// Whether nobody asked for it: surplus money.
    pub is_surplus: bool,
    /// What an operator found, if another is still to find the same.
    pub found: Option<FirstDecision>,
}

/// What an operator found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FirstDecision {
    /// Who.
    pub operator: OperatorId,
    /// Whether the money went back.
    pub succeeded: bool,
    /// SHA-256 of the institution's statement.
    pub statement: [u8; 32],
    /// The institution's own number of the refund, if the operator named it.
    pub institution_no: Option<Box<str>>,
    /// When the money went back, if the operator said so.
    pub moved_at: Option<Timestamp>,
}

/// Which reconciliation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reconciliation {
    /// With whom.
    pub institution: InstitutionId,
    /// Of which day.
    pub day: SettlementDay,
    /// Who wanted it: `operator:…`; owns what it finds first.
    pub by: String,
    /// When it began; tells one from the next.
    pub at: Timestamp,
}

impl Reconciliation {
    /// What the audit log says of it.
    pub fn audit_entry(&self, action: &'static str, result: String) -> AuditEntry {
        AuditEntry {
            actor: self.by.clone(),
            action: action.into(),
            object: format!("{} {}", self.institution, self.day.date.as_str()),
            result,
        }
    }
}

/// Where reading a day's movements stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MovementCursor {
    /// Payments first, then refunds.
    pub movement: Movement,
    /// Of the last that was read.
    pub at: Timestamp,
    /// Its number.
    pub number: Box<str>,
}

impl MovementCursor {
    /// Before the first of a day.
    pub fn before(day: &SettlementDay) -> Self {
        Self {
            movement: Movement::Payment,
            at: day.from,
            number: "".into(),
        }
    }
}

/// A difference that people must look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReconciliationBreak {
    /// Its number.
    pub id: i64,
    /// When it was first found.
    pub at: Timestamp,
    /// At which institution.
    pub institution: InstitutionId,
    /// Of which day, `yyyyMMdd`.
    pub day: Box<str>,
    /// The difference.
    pub difference: StatementDifference,
    /// Whose it is.
    pub owner: String,
    /// Whether the latest reconciliation still found it.
    pub is_open: bool,
}
