//! Evidence: what a reply, a callback or a missing answer proves (E1 to E5).

use std::borrow::Cow;

use crate::domain::amount::{Amount, Fee};
use crate::domain::identifiers::{
    AccountId, AttemptId, InstitutionId, ReceiverId, RefundOrderNo, Timestamp, Uptime,
};
use crate::domain::personal::code_or_masked;

/// What one message, or its absence, proves about one attempt or refund.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence {
    /// Its source; determined by the address that received the message, never by the message (C1).
    pub institution: InstitutionId,
    /// The accounts whose key proves it: evidence of another account's attempt it is not (C2). `None`
    /// where no key proves it: nothing was received.
    pub accounts: Option<Vec<AccountId>>,
    /// The receiver that it names; `None` where its messages do not name one.
    pub receiver: Option<ReceiverId>,
    /// What it is about (K2).
    pub about: EvidenceSubject,
    /// The kind of message.
    pub by: EvidenceSource,
    /// The amount named by an unsolicited message: evidence with a different amount concerns
    /// something else (V3). A reply is bound to its request instead.
    pub sum: Option<Amount>,
    /// For an unsolicited message about a refund: the original payment that it names.
    pub along: OriginalPayment,
    /// For a reply to a query: when the query was about to be sent. The evidence is as old as that,
    /// not as its receipt (V5).
    pub asked_at: Option<Uptime>,
    /// It shows that the institution has the number, whatever else it says (V5).
    pub proves_arrival: bool,
    /// What it proves.
    pub finding: Finding,
}

impl Evidence {
    /// A reply with another amount than requested concerns something else (V3); one rule for the
    /// replies to all calls. Whether the call took effect is then unknown.
    #[must_use]
    pub fn checked_against(self, expected: Amount) -> Self {
        if let Finding::Succeeded(receipt) | Finding::Reversed(Reversal::Returned(receipt)) =
            &self.finding
            && receipt.amount != expected
        {
            return Self {
                finding: Finding::Ambiguous(Ambiguity::Mismatch),
                ..self
            };
        }
        self
    }
}

/// The original payment of a refund, as far as a message names it: if it is a different one, the
/// message concerns something else (V3).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OriginalPayment {
    /// Number of the payment.
    pub number: Option<Box<str>>,
    /// Amount of the payment; some institutions put the refund amount here.
    pub paid: Option<Amount>,
}

impl OriginalPayment {
    /// Whether it can be this payment, with this refund amount.
    pub fn is_of(&self, payment: &AttemptId, paid: Amount, refund: Amount) -> bool {
        let number = self.number.as_deref();
        number.is_none_or(|number| number == payment.as_str())
            && self.paid.is_none_or(|sum| sum == paid || sum == refund)
    }
}

/// The object that evidence is about, by our number (K2).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum EvidenceSubject {
    /// A payment.
    Attempt(AttemptId),
    /// A refund.
    Refund(RefundOrderNo),
}

/// Kind of message: only the reply to a query of ours can confirm a contradiction (V4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EvidenceSource {
    /// The reply to a create call.
    Create,
    /// The reply to a query.
    Query,
    /// The reply to a close call.
    Close,
    /// The reply to a refund call.
    Refund,
    /// An unsolicited message from the institution.
    Callback,
}

/// What evidence proves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// E1: no byte of the call left this machine.
    NotSent,
    /// This sending was rejected before it was processed. Like "not sent" it ends only what no
    /// earlier sending may have begun.
    NotExecuted(Rejection),
    /// E2: a final refusal, with the institution's own code.
    Refused(Reason),
    /// E3: accepted: waiting for the payer, or a refund in progress; with the payment action if
    /// given.
    Accepted(Option<PaymentAction>),
    /// E3: the money moved.
    Succeeded(Receipt),
    /// E4: it can no longer be paid.
    Closed,
    /// E4: it was reversed, and can no longer be paid.
    Reversed(Reversal),
    /// Something moved, and only a question tells what: it is asked at once.
    Hint,
    /// The institution does not know the number; conclusive only if queried late enough (A5).
    NotFound,
    /// E5: everything else.
    Ambiguous(Ambiguity),
}

impl Finding {
    /// Its class and finding, for the timeline: `E3 succeeded`.
    pub fn class(&self) -> String {
        match self {
            Self::NotSent => "E1 not sent".into(),
            Self::NotExecuted(why) => format!("E1 not executed {}", why.word()),
            Self::Refused(reason) => format!("E2 refused {}", reason.shown()),
            Self::Accepted(_) => "E3 accepted".into(),
            Self::Succeeded(_) => "E3 succeeded".into(),
            Self::Closed => "E4 closed".into(),
            Self::Reversed(Reversal::Unpaid) => "E4 reversed".into(),
            Self::Reversed(Reversal::Returned(_)) => "E4 reversed, money returned".into(),
            Self::Hint => "hint".into(),
            Self::NotFound => "A5 not found".into(),
            Self::Ambiguous(why) => format!("E5 {}", why.word()),
        }
    }
}

/// Why an institution rejected a sending before processing it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rejection {
    /// Our signature, certificate or key.
    Signature,
    /// Our clock.
    Clock,
    /// We may not call this.
    Authorisation,
    /// Too many calls.
    Rate,
    /// The form of the request.
    Format,
}

impl Rejection {
    /// Stable name for the timeline, and the reason that an attempt or refund ends with.
    pub fn word(self) -> &'static str {
        match self {
            Self::Signature => "REJECTED_SIGNATURE",
            Self::Clock => "REJECTED_CLOCK",
            Self::Authorisation => "REJECTED_AUTHORISATION",
            Self::Rate => "REJECTED_RATE",
            Self::Format => "REJECTED_FORMAT",
        }
    }

    /// Whether every call of this account will be rejected until somebody acts.
    pub fn concerns_credentials(self) -> bool {
        match self {
            Self::Signature | Self::Clock | Self::Authorisation => true,
            Self::Rate | Self::Format => false,
        }
    }
}

/// What a reversal found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reversal {
    /// Nothing had been taken.
    Unpaid,
    /// The institution had taken the money and has given it back, before an order here was paid
    /// with it (A9).
    Returned(Receipt),
}

/// Why a message proves nothing (E5). Counted; never a reason to end anything (V1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ambiguity {
    /// No complete reply arrived in time, or the connection broke.
    NoAnswer,
    /// A reply with a 5xx status.
    ServerFault,
    /// A reply that is unsigned, or not signed by the institution's key.
    Unproven,
    /// A reply that does not have the expected format.
    Unreadable,
    /// A status or code that the adapter does not list (C3).
    UnlistedWord,
    /// A reply about something other than requested.
    Mismatch,
}

impl Ambiguity {
    /// Stable name for metrics and the timeline.
    pub fn word(self) -> &'static str {
        match self {
            Self::NoAnswer => "no_answer",
            Self::ServerFault => "server_fault",
            Self::Unproven => "unproven",
            Self::Unreadable => "unreadable",
            Self::UnlistedWord => "unlisted_word",
            Self::Mismatch => "mismatch",
        }
    }
}

/// The institution's own code for a refusal: at most 64 printable ASCII characters. It may contain
/// anything, so it is stored sealed and printed as [`Reason::shown`].
#[derive(Clone, PartialEq, Eq)]
pub struct Reason(Box<str>);

impl std::fmt::Debug for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.shown())
    }
}

impl Reason {
    /// Keeps the printable characters of a code, so that it is safe in replies and logs.
    pub fn from_code(code: &str) -> Self {
        Self(
            code.chars()
                .filter(char::is_ascii_graphic)
                .take(64)
                .collect(),
        )
    }

    /// The code for display: free text from an institution is masked (D1).
    pub fn shown(&self) -> Cow<'_, str> {
        code_or_masked(&self.0)
    }

    /// The code.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What the payer needs to pay, and until when it is valid.
#[derive(Clone, PartialEq, Eq)]
pub struct PaymentAction {
    /// Link or parameters.
    pub way: PaymentActionKind,
    /// When it expires, if the institution states it.
    pub expires: Option<Timestamp>,
}

/// Kinds of payment action.
#[derive(Clone, PartialEq, Eq)]
pub enum PaymentActionKind {
    /// An https address of the institution's payment page (R-5.1.1-0a).
    Redirect(Box<str>),
    /// Signed start parameters of the institution's SDK, as JSON text (R-5.1.3-2).
    SdkParameters(Box<str>),
    /// The content of a code that the payer scans with the institution's application.
    QrCode(Box<str>),
    /// Fields that the payer's browser posts to the institution's payment page.
    Form(PaymentForm),
}

/// A form that leads to an institution's payment page.
#[derive(Clone, PartialEq, Eq)]
pub struct PaymentForm {
    /// Where it is posted: an https address.
    pub url: Box<str>,
    /// Names and values, in order.
    pub fields: Vec<(Box<str>, Box<str>)>,
}

/// A link lets its holder pay, so it is not printed.
impl std::fmt::Debug for PaymentAction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self.way {
            PaymentActionKind::Redirect(_) => "PaymentAction(link)",
            PaymentActionKind::SdkParameters(_) => "PaymentAction(sdk)",
            PaymentActionKind::QrCode(_) => "PaymentAction(code)",
            PaymentActionKind::Form(_) => "PaymentAction(form)",
        })
    }
}

/// The institution's confirmation of a payment or refund: all that A3.2 and a statement need.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// The amount moved; must equal the requested amount (E3, O2).
    pub amount: Amount,
    /// The institution's number of the payment or refund. Absent if a dual-approved decision ended
    /// the refund without naming one.
    pub institution_no: Option<Box<str>>,
    /// When it moved, by the institution's clock.
    pub paid_at: Timestamp,
    /// The institution's fee for a payment, if stated: exact, and not part of the amount.
    pub fee: Option<Fee>,
}
