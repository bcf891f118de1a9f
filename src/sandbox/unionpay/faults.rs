//! Fault injection at UnionPay's counterpart, through the control interface or by the last two
//! digits of an amount. A fault changes what is answered and notified, never what the books record.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::sandbox::unionpay::request::UnionPayCall;

/// Largest number of times in one order for a fault.
const TIMES_MAX: u32 = 1_000;

/// Faults of the counterpart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnionPayFault {
    /// Does nothing, and answers this code.
    Refuses(&'static str),
    /// Carries out the call, and answers this code.
    ActsThenAnswers(&'static str),
    /// Does nothing, and answers 200 with a page.
    HtmlPage,
    /// Does nothing, and answers 503 with a page.
    ServerError,
    /// Does nothing, and closes the connection.
    NotReceived,
    /// Carries out the call, and closes the connection.
    AnswerLost,
    /// Carries out the call, holds the connection open for [`UnionPayDelays::hold`], and closes it.
    NoAnswer,
    /// Carries out the call, and answers after [`UnionPayDelays::slow`].
    SlowAnswer,
    /// The signature is by a key that does not fit the certificate.
    WrongSignature,
    /// The signature is over the text instead of its hash.
    SingleHash,
    /// No signature.
    Unsigned,
    /// The message claims another signature method.
    Downgrade,
    /// The certificate is of somebody else in the same chain.
    OtherName,
    /// The certificate has expired.
    ExpiredCertificate,
    /// The certificate is of another chain, whose authorities have the same names.
    ForeignChain,
    /// The whole answer is in braces; this is allowed.
    Wrapped,
    /// The payment is taken and notified before the call is answered.
    EarlyNotification,
    /// The first notification has another amount.
    WrongAmount,
    /// Notifies again after the acknowledgement.
    DuplicateNotification,
    /// Notifies [`UnionPayDelays::late`] after the end.
    LateNotification,
    /// Never notifies.
    LostNotification,
    /// The payer gets a discount: less is settled than was to be paid.
    Discount,
    /// The payer's bank refuses.
    BankRefuses,
    /// The payment succeeds with a defect (A6).
    Defect,
    /// What was accepted takes [`UnionPayDelays::late`].
    TakesTime,
    /// What was accepted fails.
    FailsLater,
}

/// A fault, its word, the last two digits of the amount that trigger it, and its effect.
type UnionPayFaultLine = (UnionPayFault, &'static str, Option<i64>, &'static str);

/// The published table of faults.
#[rustfmt::skip]
pub const UNIONPAY_FAULTS: [UnionPayFaultLine; 36] = [
    (UnionPayFault::SlowAnswer, "slow_answer", Some(61), "carries out the call, answers late"),
    (UnionPayFault::NoAnswer, "no_answer", Some(62), "carries out the call, holds the connection open, never answers"),
    (UnionPayFault::AnswerLost, "answer_lost", Some(63), "carries out the call, closes the connection"),
    (UnionPayFault::ServerError, "server_error", Some(64), "does nothing, answers 503"),
    (UnionPayFault::NotReceived, "not_received", Some(65), "does nothing, closes the connection"),
    (UnionPayFault::WrongSignature, "wrong_signature", Some(66), "the signature does not fit the certificate"),
    (UnionPayFault::Refuses("88"), "unknown_code", Some(67), "does nothing, answers 88, which no table has"),
    (UnionPayFault::BankRefuses, "bank_refuses", Some(68), "the payer's bank refuses (60)"),
    (UnionPayFault::EarlyNotification, "early_notification", Some(69), "takes the payment, notifies, then answers"),
    (UnionPayFault::HtmlPage, "html_page", Some(70), "does nothing, answers 200 with a page"),
    (UnionPayFault::ActsThenAnswers("03"), "acts_03", Some(73), "carries out the call, answers 03"),
    (UnionPayFault::ActsThenAnswers("04"), "acts_04", Some(74), "carries out the call, answers 04"),
    (UnionPayFault::ActsThenAnswers("05"), "acts_05", Some(75), "carries out the call, answers 05"),
    (UnionPayFault::OtherName, "other_name", Some(76), "the certificate's CN names somebody else"),
    (UnionPayFault::ForeignChain, "foreign_chain", Some(77), "the certificate is of another chain"),
    (UnionPayFault::ExpiredCertificate, "expired_certificate", Some(78), "the certificate has expired"),
    (UnionPayFault::DuplicateNotification, "duplicate_notification", Some(81), "notifies again after 200"),
    (UnionPayFault::LateNotification, "late_notification", Some(82), "notifies late"),
    (UnionPayFault::WrongAmount, "wrong_amount", Some(83), "the first notification has another amount"),
    (UnionPayFault::LostNotification, "lost_notification", Some(85), "never notifies"),
    (UnionPayFault::Discount, "discount", Some(86), "settleAmt is below txnAmt"),
    (UnionPayFault::Defect, "defect", Some(87), "the payment succeeds with a defect (A6)"),
    (UnionPayFault::TakesTime, "takes_time", Some(91), "what was accepted takes long (05)"),
    (UnionPayFault::FailsLater, "fails_later", Some(93), "what was accepted fails later"),
    (UnionPayFault::SingleHash, "single_hash", None, "the signature is over the text, not its hash"),
    (UnionPayFault::Unsigned, "unsigned", None, "no signature"),
    (UnionPayFault::Downgrade, "downgrade", None, "the message says signMethod 11"),
    (UnionPayFault::Wrapped, "wrapped", None, "the answer is in braces, which is allowed"),
    (UnionPayFault::Refuses("02"), "refuses_02", None, "does nothing, answers 02"),
    (UnionPayFault::Refuses("06"), "refuses_06", None, "does nothing, answers 06"),
    (UnionPayFault::Refuses("10"), "refuses_10", None, "does nothing, answers 10"),
    (UnionPayFault::Refuses("11"), "refuses_11", None, "does nothing, answers 11"),
    (UnionPayFault::Refuses("12"), "refuses_12", None, "does nothing, answers 12"),
    (UnionPayFault::Refuses("13"), "refuses_13", None, "does nothing, answers 13"),
    (UnionPayFault::Refuses("37"), "refuses_37", None, "does nothing, answers 37"),
    (UnionPayFault::Refuses("98"), "refuses_98", None, "does nothing, answers 98"),
];

impl UnionPayFault {
    /// The control interface's word.
    pub fn word(self) -> &'static str {
        UNIONPAY_FAULTS
            .iter()
            .find_map(|(fault, word, ..)| (*fault == self).then_some(*word))
            .unwrap_or_default()
    }

    /// Parses the control interface's word.
    pub fn from_word(word: &str) -> Option<Self> {
        UNIONPAY_FAULTS
            .iter()
            .find_map(|(fault, known, ..)| (*known == word).then_some(*fault))
    }

    fn occurs_at(self, trigger: UnionPayTrigger) -> bool {
        let (is_answer, is_notification) = match trigger {
            UnionPayTrigger::Received(_) => (true, false),
            UnionPayTrigger::Notified => (false, true),
            UnionPayTrigger::Booked(_) | UnionPayTrigger::Paying(_) => (false, false),
        };
        match self {
            Self::Refuses(_)
            | Self::ActsThenAnswers(_)
            | Self::HtmlPage
            | Self::ServerError
            | Self::NotReceived
            | Self::AnswerLost
            | Self::NoAnswer
            | Self::SlowAnswer
            | Self::Wrapped => is_answer,
            Self::WrongSignature
            | Self::SingleHash
            | Self::Unsigned
            | Self::Downgrade
            | Self::OtherName
            | Self::ExpiredCertificate
            | Self::ForeignChain => is_answer || is_notification,
            Self::WrongAmount
            | Self::DuplicateNotification
            | Self::LateNotification
            | Self::LostNotification => is_notification,
            Self::EarlyNotification => {
                matches!(trigger, UnionPayTrigger::Booked(call) if call.is_payment())
            }
            Self::TakesTime | Self::FailsLater => matches!(
                trigger,
                UnionPayTrigger::Booked(
                    UnionPayCall::Barcode | UnionPayCall::Refund | UnionPayCall::Revoke
                )
            ),
            Self::Discount | Self::BankRefuses | Self::Defect => {
                matches!(trigger, UnionPayTrigger::Paying(_))
            }
        }
    }

    /// The fault that the amount triggers: at the first call of a transaction, not at queries.
    fn of_amount(amount_fen: i64, trigger: UnionPayTrigger) -> Option<Self> {
        let digits = amount_fen.rem_euclid(100);
        let fault = UNIONPAY_FAULTS
            .iter()
            .find_map(|(fault, _, cents, _)| (*cents == Some(digits)).then_some(*fault))?;
        let is_late = trigger == UnionPayTrigger::Notified
            && fault.occurs_at(UnionPayTrigger::Received(UnionPayCall::App));
        (fault.occurs_at(trigger) && !is_late).then_some(fault)
    }
}

/// When a fault can occur.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum UnionPayTrigger {
    /// A verified, well-formed call was received.
    Received(UnionPayCall),
    /// A payment, refund or revoke was booked.
    Booked(UnionPayCall),
    /// A payer pays.
    Paying(UnionPayCall),
    /// A notification is due.
    Notified,
}

impl UnionPayTrigger {
    fn call(self) -> UnionPayCall {
        match self {
            Self::Received(call) | Self::Booked(call) | Self::Paying(call) => call,
            Self::Notified => UnionPayCall::Notification,
        }
    }
}

/// The counterpart's delays.
#[derive(Debug, Clone)]
pub struct UnionPayDelays {
    /// Before what was accepted takes effect: a payment by code, a refund, a revoke.
    pub soon: Duration,
    /// Before a slow answer.
    pub slow: Duration,
    /// Before a connection without an answer is closed.
    pub hold: Duration,
    /// Before what is late.
    pub late: Duration,
    /// How long a documented minute between two notifications takes.
    pub minute: Duration,
    /// How long an acknowledgement may take; 10 s by the document.
    pub acknowledgement: Duration,
}

impl Default for UnionPayDelays {
    fn default() -> Self {
        Self {
            soon: Duration::from_secs(1),
            slow: Duration::from_secs(3),
            hold: Duration::from_secs(30),
            late: Duration::from_secs(5),
            minute: Duration::from_secs(1),
            acknowledgement: Duration::from_secs(10),
        }
    }
}

struct OrderedUnionPayFault {
    fault: UnionPayFault,
    call: Option<UnionPayCall>,
    left: u32,
}

/// Injected faults that have not occurred yet.
#[derive(Default)]
pub(super) struct OrderedUnionPayFaults {
    ordered: Mutex<Vec<OrderedUnionPayFault>>,
}

impl OrderedUnionPayFaults {
    /// Injects a fault for the next times that it can occur, at any call or at one.
    pub(super) fn order(&self, fault: UnionPayFault, call: Option<UnionPayCall>, times: u32) {
        let left = times.min(TIMES_MAX);
        self.ordered
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(OrderedUnionPayFault { fault, call, left });
    }

    /// The fault to apply now; injected faults take precedence over those of the amount.
    pub(super) fn take(
        &self,
        trigger: UnionPayTrigger,
        amount_fen: Option<i64>,
    ) -> Option<UnionPayFault> {
        let mut ordered = self.ordered.lock().unwrap_or_else(PoisonError::into_inner);
        ordered.retain(|order| order.left > 0);
        let due = ordered.iter_mut().find(|order| {
            order.fault.occurs_at(trigger) && order.call.is_none_or(|call| trigger.call() == call)
        });
        if let Some(order) = due {
            order.left = order.left.saturating_sub(1);
            return Some(order.fault);
        }
        amount_fen.and_then(|amount| UnionPayFault::of_amount(amount, trigger))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CREATE: UnionPayTrigger = UnionPayTrigger::Received(UnionPayCall::Qr);
    const QUERY: UnionPayTrigger = UnionPayTrigger::Received(UnionPayCall::Query);

    /// Words and amounts name one fault each.
    #[test]
    fn words_and_amounts_name_one_fault_each() {
        for (fault, word, cents, _) in UNIONPAY_FAULTS {
            assert_eq!(UnionPayFault::from_word(word), Some(fault));
            assert_eq!(fault.word(), word);
            let same = UNIONPAY_FAULTS.iter().filter(|line| line.2 == cents);
            assert!(cents.is_none() || same.count() == 1, "{word}");
        }
    }

    /// An injected fault occurs as often as ordered, where it was ordered.
    #[test]
    fn an_injected_fault_occurs_as_often_as_ordered() {
        let faults = OrderedUnionPayFaults::default();
        faults.order(UnionPayFault::AnswerLost, Some(UnionPayCall::Query), 2);
        assert_eq!(faults.take(CREATE, None), None);
        assert_eq!(faults.take(QUERY, None), Some(UnionPayFault::AnswerLost));
        assert_eq!(faults.take(QUERY, None), Some(UnionPayFault::AnswerLost));
        assert_eq!(faults.take(QUERY, None), None);
    }

    /// An amount's fault shows at the first answer, and not again at the notification.
    #[test]
    fn an_amount_spoils_the_answer_and_no_notification() {
        let faults = OrderedUnionPayFaults::default();
        let wrong = Some(UnionPayFault::WrongSignature);
        assert_eq!(faults.take(CREATE, Some(166)), wrong);
        assert_eq!(faults.take(UnionPayTrigger::Notified, Some(166)), None);
        faults.order(
            UnionPayFault::WrongSignature,
            Some(UnionPayCall::Notification),
            1,
        );
        assert_eq!(faults.take(CREATE, Some(100)), None);
        assert_eq!(faults.take(UnionPayTrigger::Notified, Some(100)), wrong);
    }
}
