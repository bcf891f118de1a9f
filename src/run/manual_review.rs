//! Manual review over the control socket: refunds that no institution resolves (L5), and
//! reconciliation breaks (M7, R9).

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use http::{HeaderMap, Request, header};
use serde::{Deserialize, Serialize};

use super::reload::{ReloadScope, audit_entry, recorded};
use crate::domain::change::ConfigurationChange;
use crate::domain::refund::{DecisionIneffective, RefundState};
use crate::files;
use crate::flow::refunds::decide_refund::{
    DecisionOutcome, DecisionRefused, TARGET, decide_refund,
};
use crate::store::StoreError;
use crate::store::ledger::{
    ManualReviewRefund, ReconciliationBreak, ReconciliationLedger, StaffAct,
};

/// The prefix of such a request on the control socket; the rest of the line is a
/// [`ManualReviewRequest`] in JSON.
pub(super) const REQUEST_PREFIX: &str = "people ";

/// The most rows in one reply; `count` still counts all of them.
const SHOWN_MAX: u32 = 100;

/// The largest statement that can be attached to a decision. Unit: bytes.
pub const STATEMENT_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// The longest owner's name and reason of a resolution. Unit: characters.
pub const WORDS_MAX: usize = 200;

/// A request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum ManualReviewRequest {
    /// Lists the refunds in MANUAL.
    Manual,
    /// Records a decision, or carries it out if it is the second that agrees.
    Decide {
        /// As signed by staff.
        decision: SignedDecision,
        /// Absolute path of the institution's statement.
        statement: PathBuf,
    },
    /// Lists the open breaks.
    Breaks,
    /// Assigns a break to an owner.
    Assign {
        /// Which.
        id: i64,
        /// The new owner.
        to: String,
    },
    /// Resolves a break.
    Resolve {
        /// Which.
        id: i64,
        /// Why.
        because: String,
    },
}

/// A decision and the three fields that prove who signed it (RFC 9421, RFC 9530); valid for five
/// minutes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SignedDecision {
    /// A [`RefundDecisionBody`](crate::flow::refunds::decide_refund::RefundDecisionBody) in JSON,
    /// byte for byte.
    pub body: String,
    /// `Content-Digest`.
    pub content_digest: String,
    /// `Signature-Input`.
    pub signature_input: String,
    /// `Signature`.
    pub signature: String,
}

impl SignedDecision {
    /// An unsigned request for [`TARGET`] with this body.
    ///
    /// # Errors
    /// The body cannot be put into a request.
    pub fn unsigned(body: Vec<u8>) -> http::Result<Request<Bytes>> {
        Request::post(TARGET)
            .header(header::CONTENT_TYPE, "application/json")
            .body(body.into())
    }

    /// Reads it from a signed request; `None` if the request is not signed.
    pub fn of(signed: &Request<Bytes>) -> Option<Self> {
        let field = |headers: &HeaderMap, name: &str| {
            let value = headers.get(name)?.to_str().ok()?;
            Some(value.to_owned())
        };
        Some(Self {
            body: String::from_utf8(signed.body().to_vec()).ok()?,
            content_digest: field(signed.headers(), "content-digest")?,
            signature_input: field(signed.headers(), "signature-input")?,
            signature: field(signed.headers(), "signature")?,
        })
    }

    fn request(self) -> http::Result<Request<Bytes>> {
        Request::post(TARGET)
            .header(header::CONTENT_TYPE, "application/json")
            .header("content-digest", self.content_digest)
            .header("signature-input", self.signature_input)
            .header("signature", self.signature)
            .body(self.body.into())
    }
}

/// The gateway's reply.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "result", rename_all = "camelCase")]
pub enum ManualReviewReply {
    /// Refunds in MANUAL.
    Manual {
        /// How many.
        count: u64,
        /// The oldest of them.
        shown: Vec<ManualRefund>,
    },
    /// The decision is recorded; a second staff member must decide the same.
    Kept,
    /// Two staff members decided the same, and the refund is finished.
    Ended {
        /// `SUCCEEDED` or `FAILED`.
        state: String,
    },
    /// Open breaks.
    Breaks {
        /// How many.
        count: u64,
        /// The oldest of them.
        shown: Vec<OpenBreak>,
    },
    /// The break was changed as requested.
    Done,
    /// Nothing has that number, so nothing changed.
    Unknown {
        /// What was expected, what was found.
        why: String,
    },
    /// Rejected; nothing changed.
    Refused {
        /// What was expected, what was found.
        why: String,
    },
    /// The store failed.
    Failed {
        /// The fault.
        fault: String,
    },
}

/// A refund in MANUAL, without personal data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ManualRefund {
    /// Our refund number, which the institution knows too.
    pub refund_order_no: String,
    /// The order.
    pub pay_order_no: String,
    /// The order's merchant.
    pub merchant_id: String,
    /// The institution of the refund.
    pub institution_id: String,
    /// A decimal amount with its currency.
    pub amount: String,
    /// When the refund was requested, RFC 3339.
    pub asked: String,
    /// Whether it returns an excess payment.
    pub is_excess: bool,
    /// The first decision, by whom and on which statement, if there is one.
    pub found: Option<String>,
}

/// An open reconciliation break.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OpenBreak {
    /// Its number.
    pub id: i64,
    /// Since when, RFC 3339.
    pub since: String,
    /// The institution.
    pub institution_id: String,
    /// The statement's day, `yyyyMMdd`.
    pub day: String,
    /// The kind of difference, a stable word.
    pub kind: String,
    /// `PAYMENT` or `REFUND`.
    pub movement: String,
    /// The number of the movement.
    pub number: String,
    /// Our value.
    pub expected: String,
    /// The institution's value.
    pub found: String,
    /// The owner.
    pub owner: String,
}

/// Sends a request to the gateway on this socket.
///
/// # Errors
/// Nobody listens there, it belongs to another user, or the reply cannot be parsed.
pub fn ask(socket: &Path, request: &ManualReviewRequest) -> io::Result<ManualReviewReply> {
    let request = serde_json::to_string(request).map_err(io::Error::other)?;
    super::control::ask(socket, &format!("{REQUEST_PREFIX}{request}"))
}

/// Answers a request of the control socket.
pub(super) async fn answer(reloading: &ReloadScope, line: &str, by: String) -> ManualReviewReply {
    let request = match serde_json::from_str(line) {
        Ok(request) => request,
        Err(error) => {
            let why = format!("the request cannot be read: {error}");
            return ManualReviewReply::Refused { why };
        }
    };
    let by = StaffAct {
        who: by,
        at: reloading.clock.now(),
    };
    let ledger = &*reloading.reconciler.ledger;
    let answered = match request {
        ManualReviewRequest::Manual => manual(ledger).await,
        ManualReviewRequest::Breaks => breaks(ledger).await,
        ManualReviewRequest::Assign { id, to } => match check_text(&to) {
            Ok(()) => ledger.hand_over(id, &to, &by).await.map(done),
            Err(refused) => Ok(refused),
        },
        ManualReviewRequest::Resolve { id, because } => match check_text(&because) {
            Ok(()) => ledger.resolve(id, &because, &by).await.map(done),
            Err(refused) => Ok(refused),
        },
        ManualReviewRequest::Decide {
            decision,
            statement,
        } => {
            let decided = decide(reloading, decision, &statement).await;
            if let Ok(ManualReviewReply::Refused { .. } | ManualReviewReply::Unknown { .. }) =
                &decided
            {
                record_refused(reloading, &by).await;
            }
            decided
        }
    };
    answered.unwrap_or_else(|fault| ManualReviewReply::Failed {
        fault: fault.to_string(),
    })
}

/// L5: records that a decision was rejected for its signature, its signer or the refund's state.
async fn record_refused(reloading: &ReloadScope, by: &StaffAct) {
    let refused = ConfigurationChange {
        version: None,
        endpoints: Vec::new(),
        accounts: Vec::new(),
        audit_entry: audit_entry(&by.who, "refund.decide", "refused"),
    };
    if let Err(fault) = recorded(&*reloading.store.changes, refused, by.at).await {
        tracing::error!(%fault, "a refused decision could not be recorded");
    }
}

/// The text goes into the audit log, which is read on terminals.
fn check_text(text: &str) -> Result<(), ManualReviewReply> {
    let length = text.chars().count();
    let is_good = (1..=WORDS_MAX).contains(&length) && !text.chars().any(char::is_control);
    is_good
        .then_some(())
        .ok_or_else(|| ManualReviewReply::Refused {
            why: format!("expected 1 to {WORDS_MAX} characters in one line, found {length}"),
        })
}

fn done(is_done: bool) -> ManualReviewReply {
    if is_done {
        ManualReviewReply::Done
    } else {
        ManualReviewReply::Unknown {
            why: "expected the number of an open break; paymux breaks list shows them".into(),
        }
    }
}

async fn manual(ledger: &dyn ReconciliationLedger) -> Result<ManualReviewReply, StoreError> {
    let (count, left) = ledger.awaiting_manual_review(SHOWN_MAX).await?;
    let shown = left.iter().map(of_refund).collect();
    Ok(ManualReviewReply::Manual { count, shown })
}

fn of_refund(left: &ManualReviewRefund) -> ManualRefund {
    let found = left.found.as_ref().map(|found| {
        let decision = if found.succeeded {
            RefundState::Succeeded
        } else {
            RefundState::Failed
        };
        let statement = crate::domain::identifiers::hex(&found.statement);
        let (staff, decision) = (&found.staff, decision.name());
        let number = found.institution_no.as_ref();
        let number = number.map_or_else(String::new, |no| format!(" as {no}"));
        let moved = found.moved_at.map(|at| format!(" at {}", at.rfc3339()));
        let moved = moved.unwrap_or_default();
        format!("{staff} found {decision}{number}{moved} on the statement {statement}")
    });
    ManualRefund {
        refund_order_no: left.refund.to_string(),
        pay_order_no: left.order.to_string(),
        merchant_id: left.merchant.to_string(),
        institution_id: left.institution.to_string(),
        amount: format!("{} {}", left.amount, left.amount.currency().code()),
        asked: left.asked.rfc3339(),
        is_excess: left.is_excess,
        found,
    }
}

async fn breaks(ledger: &dyn ReconciliationLedger) -> Result<ManualReviewReply, StoreError> {
    let (count, open) = ledger.open_breaks(SHOWN_MAX).await?;
    let shown = open.into_iter().map(open_break).collect();
    Ok(ManualReviewReply::Breaks { count, shown })
}

fn open_break(open_break: ReconciliationBreak) -> OpenBreak {
    let difference = open_break.difference;
    OpenBreak {
        id: open_break.id,
        since: open_break.at.rfc3339(),
        institution_id: open_break.institution.to_string(),
        day: open_break.day.into(),
        kind: difference.kind.word().to_owned(),
        movement: difference.movement.name().to_owned(),
        number: difference.number.into(),
        expected: difference.expected.into(),
        found: difference.found.into(),
        owner: open_break.owner,
    }
}

async fn decide(
    reloading: &ReloadScope,
    decision: SignedDecision,
    statement: &Path,
) -> Result<ManualReviewReply, StoreError> {
    let refused = |why: String| Ok(ManualReviewReply::Refused { why });
    let path = statement.to_owned();
    let read = tokio::task::spawn_blocking(move || read(&path)).await;
    let statement = match read.unwrap_or_else(|_| Err(io::Error::other("it could not be read"))) {
        Ok(statement) => statement,
        Err(error) => return refused(format!("{}: {error}", statement.display())),
    };
    let Ok(signed) = decision.request() else {
        return refused("expected the output of paymux refunds sign, unchanged".into());
    };
    let in_force = reloading.in_force.load_full();
    match decide_refund(in_force.api.scope(), &signed, statement).await {
        Ok(DecisionOutcome::First) => Ok(ManualReviewReply::Kept),
        Ok(DecisionOutcome::Ended(state)) => Ok(ManualReviewReply::Ended {
            state: state.name().to_owned(),
        }),
        Err(DecisionRefused::Store(fault)) => Err(fault),
        Err(why @ DecisionRefused::Ineffective(DecisionIneffective::Unknown)) => {
            Ok(ManualReviewReply::Unknown {
                why: why.to_string(),
            })
        }
        Err(why) => refused(why.to_string()),
    }
}

/// Reads a file up to the size limit.
fn read(path: &Path) -> io::Result<Bytes> {
    let file = files::open(path)?;
    let mut bytes = Vec::new();
    let mut limited = file.take(STATEMENT_BYTES_MAX.saturating_add(1));
    limited.read_to_end(&mut bytes)?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > STATEMENT_BYTES_MAX {
        let why = format!(
            "expected {STATEMENT_BYTES_MAX} bytes at most; attach only the part about this refund"
        );
        return Err(io::Error::other(why));
    }
    Ok(bytes.into())
}
