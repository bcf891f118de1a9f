//! Manual review of refunds without an answer from the institution: dual approval by two members of
//! staff, each signing what the institution's statement says (docs/requirements.md,
//! Invariants, L5).

use bytes::Bytes;
use http::Request;
use serde::{Deserialize, Serialize};

use crate::crypto::digest::sha256;
use crate::domain::identifiers::{MerchantId, RefundOrderNo, StaffId, Timestamp, hex, unhex};
use crate::domain::order::Order;
use crate::domain::refund::{DecisionIneffective, RefundDecision, RefundState};
use crate::domain::statement::is_number;
use crate::flow::FlowScope;
use crate::signature::verify_request;
use crate::store::{Committed, InboxMessage, InboxStatus, OrderKey, StoreError};

/// The target URI that staff sign: no real host, so that the signature is valid nowhere else.
pub const TARGET: &str = "https://control.paymux.invalid/refunds/decide";

/// How long a signed decision is valid. Unit: seconds.
pub const VALID_FOR_S: i64 = 300;

/// How far in the future it may be dated. Unit: seconds.
const AHEAD_S: i64 = 30;

/// How often a decision is retried after a concurrent write to the same order.
const ROUNDS_MAX: u32 = 5;

/// The JSON body of a signed decision.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RefundDecisionBody {
    /// The merchant of the order.
    pub merchant_id: String,
    /// The refund.
    pub refund_order_no: String,
    /// Whether the money was refunded.
    pub succeeded: bool,
    /// SHA-256 of the institution's statement, in hexadecimal digits.
    pub statement_sha256: String,
    /// The institution's own number of the refund, as in the statement.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub institution_refund_no: Option<String>,
    /// When the money was refunded, as in the statement (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refund_time: Option<String>,
}

/// The outcome of a decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DecisionOutcome {
    /// Stored; a second member of staff must decide the same.
    First,
    /// The refund has ended.
    Ended(RefundState),
}

/// Why a decision was not accepted; nothing changed.
#[derive(Debug, thiserror::Error)]
pub enum DecisionRefused {
    /// The signature is not by an enrolled member of staff, or not recent.
    #[error("expected a decision signed recently by a key of an enrolled [[staff]]: {0}")]
    Unproven(String),
    /// The body is invalid.
    #[error("the decision cannot be read: {0}")]
    Unreadable(&'static str),
    /// It would change nothing.
    #[error(transparent)]
    Ineffective(#[from] DecisionIneffective),
    /// The attached statement is not the signed one.
    #[error("expected the statement that was signed for, SHA-256 {signed}; found one of {found}")]
    AnotherStatement {
        /// Digest in the signed decision.
        signed: String,
        /// Digest of the attachment.
        found: String,
    },
    /// Too many concurrent writes to the order.
    #[error("the order has too many concurrent writes; send the decision again")]
    Contended,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Verifies a signed decision, and stores or applies it. The statement is archived sealed before
/// that, so that the basis of the decision can be reviewed later.
///
/// # Errors
/// [`DecisionRefused`].
pub async fn decide_refund(
    scope: FlowScope<'_>,
    signed: &Request<Bytes>,
    statement: Bytes,
) -> Result<DecisionOutcome, DecisionRefused> {
    let FlowScope { store, world, .. } = scope;
    let (key, no, decision) = read(scope, signed)?;
    let found = sha256(&statement);
    if found != decision.statement {
        return Err(DecisionRefused::AnotherStatement {
            signed: hex(&decision.statement),
            found: hex(&found),
        });
    }
    let mut attached = Some(statement);
    for _ in 0..ROUNDS_MAX {
        let order = store
            .orders
            .order(&key)
            .await?
            .ok_or(DecisionIneffective::Unknown)?;
        let now = world.clock.now();
        let change = order.decide_refund(&no, decision.clone(), now)?;
        let refund = order.refund(&no);
        let of = refund.and_then(|refund| order.attempt_of(refund));
        if let Some((attempt, raw)) = of.zip(attached.take()) {
            let message = InboxMessage {
                institution: attempt.institution.clone(),
                status: InboxStatus::Genuine,
                raw: raw.into(),
                at: now,
            };
            store.archive.archive(&message).await?;
        }
        match store.changes.commit(&change).await? {
            Committed::Done => {
                let state = change.order().and_then(|order| state(order, &no));
                return Ok(match state.filter(|state| state.is_over()) {
                    Some(state) => DecisionOutcome::Ended(state),
                    None => DecisionOutcome::First,
                });
            }
            Committed::Stale | Committed::KeyTaken | Committed::NonceSpent => (),
        }
    }
    Err(DecisionRefused::Contended)
}

fn state(order: &Order, no: &RefundOrderNo) -> Option<RefundState> {
    order.refund(no).map(|refund| refund.state)
}

fn read(
    scope: FlowScope<'_>,
    signed: &Request<Bytes>,
) -> Result<(OrderKey, RefundOrderNo, RefundDecision), DecisionRefused> {
    let FlowScope {
        world, snapshot, ..
    } = scope;
    let now_s = world.clock.now().seconds();
    let proven = verify_request(signed, TARGET, &snapshot.staff, now_s)
        .map_err(|fault| DecisionRefused::Unproven(fault.to_string()))?;
    let recent = now_s.saturating_sub(VALID_FOR_S)..=now_s.saturating_add(AHEAD_S);
    if !recent.contains(&proven.created_s) {
        return Err(DecisionRefused::Unproven(
            "signed too long ago, or in the future".into(),
        ));
    }
    let body: RefundDecisionBody = serde_json::from_slice(signed.body())
        .map_err(|_| DecisionRefused::Unreadable("expected the fields of a decision"))?;
    let unreadable = |what| move |_| DecisionRefused::Unreadable(what);
    let staff = StaffId::parse(&proven.owner).map_err(unreadable("staff"))?;
    let merchant = MerchantId::parse(&body.merchant_id).map_err(unreadable("merchantId"))?;
    let no = RefundOrderNo::parse(&body.refund_order_no).map_err(unreadable("refundOrderNo"))?;
    let statement = unhex(&body.statement_sha256);
    let statement = statement.ok_or(DecisionRefused::Unreadable("statementSha256"))?;
    let number = body.institution_refund_no.as_deref();
    if number.is_some_and(|no| !is_number(no)) {
        return Err(DecisionRefused::Unreadable("institutionRefundNo"));
    }
    let moved_at = body.refund_time.as_deref().map(Timestamp::parse_rfc3339);
    let moved_at = moved_at.transpose().map_err(unreadable("refundTime"))?;
    if moved_at.is_some_and(|at| at > world.clock.now()) {
        return Err(DecisionRefused::Unreadable(
            "expected a refundTime in the past",
        ));
    }
    let decision = RefundDecision {
        staff,
        succeeded: body.succeeded,
        statement,
        institution_no: number.map(Into::into),
        moved_at,
    };
    Ok((OrderKey::RefundOrderNo(merchant, no.clone()), no, decision))
}
