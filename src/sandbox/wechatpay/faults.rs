//! What the platform is told to do wrong: at the next answer to a call of some kind, or at the next
//! notification. A fault changes what is said and when; the books record what was done.

use std::sync::{Mutex, PoisonError};

use crate::sandbox::wechatpay::refusal::WechatErrorCode;

/// Most times in one order for a fault.
const TIMES_MAX: u32 = 1_000;

/// The platform's calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WechatCall {
    /// Any of the four products, direct or partner.
    Prepay,
    /// By either number.
    Query,
    /// Close.
    Close,
    /// A refund, or what the merchant does about an abnormal one.
    Refund,
    /// Query of a refund.
    RefundQuery,
    /// `/v3/certificates`.
    Certificates,
    /// `/v3/bill/tradebill`.
    TradeBill,
    /// The file of a bill.
    Download,
}

const CALLS: [(WechatCall, &str); 8] = [
    (WechatCall::Prepay, "prepay"),
    (WechatCall::Query, "query"),
    (WechatCall::Close, "close"),
    (WechatCall::Refund, "refund"),
    (WechatCall::RefundQuery, "refund_query"),
    (WechatCall::Certificates, "certificates"),
    (WechatCall::TradeBill, "trade_bill"),
    (WechatCall::Download, "download"),
];

impl WechatCall {
    /// The call of a word of the control interface.
    pub fn from_word(word: &str) -> Option<Self> {
        CALLS
            .iter()
            .find_map(|(call, known)| (*known == word).then_some(*call))
    }
}

/// Whether the call of a faulty answer is carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carried {
    /// Nothing is done.
    Not,
    /// The effect is in the books.
    Out,
}

/// What is wrong with an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnswerFault {
    /// This code, with its status.
    Code(WechatErrorCode),
    /// The connection stays open for a while, then closes without an answer.
    Silence,
    /// The connection closes at once without an answer.
    Lost,
    /// The first host is lost with this answer, and stays lost; the second works on.
    FirstHostLost,
    /// 502 and an HTML page, unsigned.
    Html,
    /// The right answer without signature headers.
    Unsigned,
    /// A signature probe.
    Probe,
    /// The signature names a serial that nobody knows.
    UnknownSerial,
    /// Signed with another key under the right serial.
    ForeignKey,
    /// Signed ten minutes ago.
    OldTimestamp,
    /// `trade_state` or `status` is not one of the documented words.
    UnlistedState,
    /// One byte of a bill's file is another.
    DamagedFile,
}

/// The published table: fault, word of the control interface, effect.
pub const ANSWER_FAULTS: [(AnswerFault, &str, &str); 11] = [
    (
        AnswerFault::Silence,
        "silence",
        "holds the connection, never answers",
    ),
    (
        AnswerFault::Lost,
        "lost",
        "closes the connection without an answer",
    ),
    (
        AnswerFault::FirstHostLost,
        "first_host_lost",
        "the first host is lost from now on",
    ),
    (AnswerFault::Html, "html", "502 and an HTML page, unsigned"),
    (
        AnswerFault::Unsigned,
        "unsigned",
        "the answer has no signature headers",
    ),
    (
        AnswerFault::Probe,
        "probe",
        "the signature begins with WECHATPAY/SIGNTEST/",
    ),
    (
        AnswerFault::UnknownSerial,
        "unknown_serial",
        "the signature names an unknown serial",
    ),
    (
        AnswerFault::ForeignKey,
        "foreign_key",
        "signed with another key under the right serial",
    ),
    (
        AnswerFault::OldTimestamp,
        "old_timestamp",
        "signed ten minutes ago",
    ),
    (
        AnswerFault::UnlistedState,
        "unlisted_state",
        "trade_state or status is SETTLING",
    ),
    (
        AnswerFault::DamagedFile,
        "damaged_file",
        "one byte of the bill's file is another",
    ),
];

impl AnswerFault {
    /// The fault of a word, or of an error code.
    pub fn from_word(word: &str) -> Option<Self> {
        let code = || WechatErrorCode::from_word(word).map(Self::Code);
        ANSWER_FAULTS
            .iter()
            .find_map(|(fault, known, _)| (*known == word).then_some(*fault))
            .or_else(code)
    }
}

/// What is wrong with a notification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotificationFault {
    /// Sent again after it was acknowledged.
    Duplicate,
    /// Sent twice at the same time.
    Concurrent,
    /// The payer pays and the notification arrives before the prepay call is answered.
    BeforeAnswer,
    /// Never sent.
    NeverSent,
    /// The first has another sum.
    WrongSum,
    /// The first has a state that is not documented.
    UnlistedState,
    /// The first names a serial that nobody knows.
    UnknownSerial,
    /// The first is a signature probe.
    Probe,
    /// The first was signed ten minutes ago.
    OldTimestamp,
    /// The first is signed with another key under the right serial.
    ForeignKey,
    /// The first cannot be decrypted.
    DamagedTag,
}

/// The published table: fault, word of the control interface, effect.
pub const NOTIFICATION_FAULTS: [(NotificationFault, &str, &str); 11] = [
    (
        NotificationFault::Duplicate,
        "duplicate",
        "again after the acknowledgement",
    ),
    (
        NotificationFault::Concurrent,
        "concurrent",
        "twice at the same time",
    ),
    (
        NotificationFault::BeforeAnswer,
        "before_answer",
        "paid and notified before prepay answers",
    ),
    (NotificationFault::NeverSent, "never_sent", "none is sent"),
    (
        NotificationFault::WrongSum,
        "wrong_sum",
        "the first has another sum",
    ),
    (
        NotificationFault::UnlistedState,
        "unlisted_state",
        "the first has the state SETTLING",
    ),
    (
        NotificationFault::UnknownSerial,
        "unknown_serial",
        "the first names an unknown serial",
    ),
    (
        NotificationFault::Probe,
        "probe",
        "the first is a signature probe",
    ),
    (
        NotificationFault::OldTimestamp,
        "old_timestamp",
        "the first was signed ten minutes ago",
    ),
    (
        NotificationFault::ForeignKey,
        "foreign_key",
        "the first is signed with another key",
    ),
    (
        NotificationFault::DamagedTag,
        "damaged_tag",
        "the first cannot be decrypted",
    ),
];

impl NotificationFault {
    /// The fault of a word.
    pub fn from_word(word: &str) -> Option<Self> {
        NOTIFICATION_FAULTS
            .iter()
            .find_map(|(fault, known, _)| (*known == word).then_some(*fault))
    }
}

#[derive(Clone, Copy)]
struct OrderedAnswer {
    call: WechatCall,
    fault: AnswerFault,
    carried: Carried,
    left: u32,
}

#[derive(Default)]
struct OrderedWechat {
    answers: Vec<OrderedAnswer>,
    notifications: Vec<(NotificationFault, u32)>,
}

/// Faults that were ordered and did not occur yet.
#[derive(Default)]
pub(super) struct OrderedWechatFaults(Mutex<OrderedWechat>);

impl OrderedWechatFaults {
    fn change<R>(&self, change: impl FnOnce(&mut OrderedWechat) -> R) -> R {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn order_answer(
        &self,
        call: WechatCall,
        fault: AnswerFault,
        (carried, times): (Carried, u32),
    ) {
        let left = times.min(TIMES_MAX);
        let order = OrderedAnswer {
            call,
            fault,
            carried,
            left,
        };
        self.change(|ordered| ordered.answers.push(order));
    }

    pub(super) fn order_notification(&self, fault: NotificationFault, times: u32) {
        let left = times.min(TIMES_MAX);
        self.change(|ordered| ordered.notifications.push((fault, left)));
    }

    pub(super) fn take_answer(&self, call: WechatCall) -> Option<(AnswerFault, Carried)> {
        self.change(|ordered| {
            ordered.answers.retain(|order| order.left > 0);
            let due = ordered
                .answers
                .iter_mut()
                .find(|order| order.call == call)?;
            due.left = due.left.saturating_sub(1);
            Some((due.fault, due.carried))
        })
    }

    /// The fault of a notification that is sent now.
    pub(super) fn take_notification(&self) -> Option<NotificationFault> {
        self.take_of(|fault| fault != NotificationFault::BeforeAnswer)
    }

    /// Whether a prepay call that is answered now is paid before.
    pub(super) fn take_before_answer(&self) -> bool {
        self.take_of(|fault| fault == NotificationFault::BeforeAnswer)
            .is_some()
    }

    fn take_of(&self, fits: impl Fn(NotificationFault) -> bool) -> Option<NotificationFault> {
        self.change(|ordered| {
            ordered.notifications.retain(|(_, left)| *left > 0);
            let mut due = ordered.notifications.iter_mut();
            let (fault, left) = due.find(|(fault, _)| fits(*fault))?;
            *left = left.saturating_sub(1);
            Some(*fault)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_name_one_fault_each() {
        for (fault, word, _) in ANSWER_FAULTS {
            assert_eq!(AnswerFault::from_word(word), Some(fault));
        }
        for (fault, word, _) in NOTIFICATION_FAULTS {
            assert_eq!(NotificationFault::from_word(word), Some(fault));
        }
        let busy = AnswerFault::Code(WechatErrorCode::FrequencyLimited);
        assert_eq!(AnswerFault::from_word("FREQUENCY_LIMITED"), Some(busy));
    }

    #[test]
    fn a_fault_occurs_as_often_as_ordered_and_at_its_call_alone() {
        let faults = OrderedWechatFaults::default();
        faults.order_answer(WechatCall::Refund, AnswerFault::Lost, (Carried::Out, 2));
        assert_eq!(faults.take_answer(WechatCall::Query), None);
        for _ in 0..2 {
            let taken = faults.take_answer(WechatCall::Refund);
            assert_eq!(taken, Some((AnswerFault::Lost, Carried::Out)));
        }
        assert_eq!(faults.take_answer(WechatCall::Refund), None);
        faults.order_notification(NotificationFault::BeforeAnswer, 1);
        assert_eq!(faults.take_notification(), None);
        assert!(faults.take_before_answer() && !faults.take_before_answer());
    }
}
