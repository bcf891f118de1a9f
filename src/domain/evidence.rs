//! The one shape all news takes: what a reply, a callback or a silence proves (E1 to E5).

use std::borrow::Cow;
use std::time::Duration;

use crate::domain::amount::{Amount, Fee};
use crate::domain::identifiers::{
    AccountId, AttemptId, InstitutionId, ReceiverId, RefundOrderNo, Timestamp, Uptime,
};
use crate::domain::institutions::Facts;
use crate::domain::personal::code_or_masked;

/// What one message, or its absence, proves about one attempt or refund.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence {
    /// Whose word it is; decided by the address it came to, never by the message (C1).
    pub institution: InstitutionId,
    /// The account whose key proves it; `None` where the key is of several or of none.
    pub account: Option<AccountId>,
    /// The receiver that it names; `None` where its messages do not name one.
    pub receiver: Option<ReceiverId>,
    /// What it is about (K2).
    pub about: EvidenceSubject,
    /// How we came to hear it.
    pub by: EvidenceSource,
    /// The sum that it speaks of, where a message nobody asked for names one: news of another sum is of
    /// something else (V3). An answer is bound to its question instead.
    pub sum: Option<Amount>,
    /// Of news of a refund that nobody asked for: the payment that it says the money goes back of.
    pub along: OriginalPayment,
    /// Of an answer to a question: when the question was about to leave. News is as old as that, not
    /// as its reading (V5).
    pub asked_at: Option<Uptime>,
    /// It names the number as one that the institution has, whatever else it says (V5).
    pub proves_arrival: bool,
    /// What it says.
    pub finding: Finding,
}

impl Evidence {
    /// Whether "not found" counts (A5, V5): its question left after nothing had been sent of what it is
    /// about for `quiet`, and that is at least the visibility limit. Whatever passed between question
    /// and weighing is no waiting.
    pub fn is_not_found_conclusive(quiet: Option<Duration>, facts: &Facts) -> bool {
        quiet.is_some_and(|quiet| quiet >= Duration::from_millis(facts.visibility_ms))
    }

    /// An answer about another sum than was asked is about something else (V3): one rule for the answers
    /// to all calls. Whether the call had its effect is then not known.
    #[must_use]
    pub fn checked_against(self, asked: Amount) -> Self {
        if let Finding::Succeeded(receipt) = &self.finding
            && receipt.amount != asked
        {
            return Self {
                finding: Finding::Ambiguous(Ambiguity::Mismatch),
                ..self
            };
        }
        self
    }
}

/// The payment along which money goes back, as far as news of a refund names it: where it is another
/// one, the news is of something else (V3).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OriginalPayment {
    /// The number of the payment.
    pub number: Option<Box<str>>,
    /// What was paid; some name what goes back here instead.
    pub paid: Option<Amount>,
}

impl OriginalPayment {
    /// Whether it may be this payment, of which that sum goes back.
    pub fn is_of(&self, payment: &AttemptId, paid: Amount, back: Amount) -> bool {
        let number = self.number.as_deref();
        number.is_none_or(|number| number == payment.as_str())
            && self.paid.is_none_or(|sum| sum == paid || sum == back)
    }
}

/// What an institution knows something of ours by (K2).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum EvidenceSubject {
    /// A payment.
    Attempt(AttemptId),
    /// Money on its way back.
    Refund(RefundOrderNo),
}

/// How news came: only what we asked for ourselves can confirm what contradicts (V4).
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
    /// A message the institution sent unasked.
    Callback,
}

/// What the news says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// E1: no byte of the call left this machine.
    NotSent,
    /// E2: a final refusal, with the institution's own word for the reason.
    Refused(Reason),
    /// E3: taken, waiting for the payer, or under way back; the hand-over where the reply carries one.
    Accepted(Option<PaymentAction>),
    /// E3: the money moved.
    Succeeded(Receipt),
    /// E4: it can no longer be paid.
    Closed,
    /// The institution does not know the number; proves nothing unless it was asked late enough (A5).
    NotFound,
    /// E5: everything else.
    Ambiguous(Ambiguity),
}

impl Finding {
    /// Its class and what it says, for the timeline: `E3 succeeded`.
    pub fn class(&self) -> String {
        match self {
            Self::NotSent => "E1 not sent".into(),
            Self::Refused(reason) => format!("E2 refused {}", reason.shown()),
            Self::Accepted(_) => "E3 accepted".into(),
            Self::Succeeded(_) => "E3 succeeded".into(),
            Self::Closed => "E4 closed".into(),
            Self::NotFound => "A5 not known there".into(),
            Self::Ambiguous(why) => format!("E5 {}", why.word()),
        }
    }
}

/// Why a message proves nothing (E5). Counted; never a reason to end anything (V1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ambiguity {
    /// No whole answer came in time, or the connection broke.
    NoAnswer,
    /// An answer with a 5xx status.
    ServerFault,
    /// An answer that is not signed, or not by the institution's key.
    Unproven,
    /// An answer that does not have the dialect's shape.
    Unreadable,
    /// A status or code that the adapter does not list (C3).
    UnlistedWord,
    /// An answer about something else than was asked.
    Mismatch,
}

impl Ambiguity {
    /// A stable word for metrics and the timeline.
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

/// The institution's own code for a refusal: at most 64 printable ASCII characters. What stands there may
/// be anything, so it is stored sealed and printed as [`Reason::shown`].
#[derive(Clone, PartialEq, Eq)]
pub struct Reason(Box<str>);

impl std::fmt::Debug for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.shown())
    }
}

impl Reason {
    /// Keeps what is printable of a code, so that it may stand in an answer and a log.
    pub fn from_code(code: &str) -> Self {
        Self(
            code.chars()
                .filter(char::is_ascii_graphic)
                .take(64)
                .collect(),
        )
    }

    /// The code for whoever explains an order: an institution's free words are masked (D1).
    pub fn shown(&self) -> Cow<'_, str> {
        code_or_masked(&self.0)
    }

    /// The code.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What the payer needs to go and pay, and how long it lives.
#[derive(Clone, PartialEq, Eq)]
pub struct PaymentAction {
    /// Link or parameters.
    pub way: PaymentActionKind,
    /// When it stops working, where the institution says.
    pub expires: Option<Timestamp>,
}

/// The forms a hand-over takes.
#[derive(Clone, PartialEq, Eq)]
pub enum PaymentActionKind {
    /// An https address of the institution's payment page (R-5.1.1-0a).
    Redirect(Box<str>),
    /// Signed start parameters of the institution's SDK, as JSON text (R-5.1.3-2).
    SdkParameters(Box<str>),
}

/// A link lets its holder pay, so it is not printed.
impl std::fmt::Debug for PaymentAction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self.way {
            PaymentActionKind::Redirect(_) => "Handover(link)",
            PaymentActionKind::SdkParameters(_) => "Handover(sdk)",
        })
    }
}

/// What a success tells, of a payment or a refund: all that A3.2 and a statement need.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// What moved; must equal what was asked (E3, O2).
    pub amount: Amount,
    /// The institution's own number of the payment or refund. Absent where two operators ended a refund
    /// and named none.
    pub institution_no: Option<Box<str>>,
    /// When it moved, by the institution's clock.
    pub paid_at: Timestamp,
    /// The institution's fee of a payment, where it tells: exact, and no part of what moved.
    pub fee: Option<Fee>,
}
