//! Faults on demand: the control interface orders them for the next calls or notifications. A
//! fault changes how the gateway behaves, never what its books say of it.

use std::sync::{Mutex, PoisonError};

/// Largest number of times in one order.
const TIMES_MAX: u32 = 1_000;

/// Faults of the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AlipayFault {
    /// Carries out the call, answers after [`slow`](super::AlipayDelays::slow).
    SlowAnswer,
    /// Carries out the call, holds the connection for [`hold`](super::AlipayDelays::hold), answers
    /// nothing.
    NoAnswer,
    /// Carries out the call, closes the connection.
    AnswerLost,
    /// Carries out nothing, closes the connection.
    RequestLost,
    /// Carries out nothing, refuses with the ordered code, signed.
    Refuses,
    /// Carries out the call, answers with the ordered code, signed.
    ActsThenRefuses,
    /// Carries out nothing, refuses with the ordered code in an unsigned `error_response`.
    RefusesUnsigned,
    /// Carries out nothing, answers with a page.
    HtmlPage,
    /// Carries out the call; the answer is signed with another key.
    ForgedAnswer,
    /// Carries out the call; the answer has no signature.
    UnsignedAnswer,
    /// Carries out the call; `trade_status` is no documented word.
    UnlistedStatus,
    /// Carries out the call; `total_amount` is another.
    WrongAmountAnswer,
    /// The payer pays and the notification is sent before the answer.
    PaidEarly,
    /// A bar code payment waits for the payer's password: 10003.
    PayerConfirms,
    /// A cancel does nothing and asks to be called again.
    CancelAgain,
    /// A refund is booked and completed by the control interface.
    RefundPending,
    /// A refund is answered with `fund_change` `N` and not booked.
    RefundForgotten,
    /// A refund query does not show the refund.
    RefundHidden,
    /// The notification comes again after it was acknowledged.
    NoticeTwice,
    /// The notification is sent twice at once.
    NoticeConcurrent,
    /// The notification is not sent.
    NoticeLost,
    /// The first notification has another amount.
    NoticeWrongAmount,
    /// The first notification has another seller.
    NoticeWrongSeller,
    /// The first notification is signed with another key.
    NoticeForged,
}

/// Word of the control interface and effect of each fault.
pub const ALIPAY_FAULTS: [(AlipayFault, &str, &str); 24] = [
    (AlipayFault::SlowAnswer, "slow_answer", "acts, answers late"),
    (
        AlipayFault::NoAnswer,
        "no_answer",
        "acts, holds the connection, answers nothing",
    ),
    (
        AlipayFault::AnswerLost,
        "answer_lost",
        "acts, closes the connection",
    ),
    (
        AlipayFault::RequestLost,
        "request_lost",
        "does nothing, closes the connection",
    ),
    (
        AlipayFault::Refuses,
        "refuses",
        "does nothing, answers code and subCode, signed",
    ),
    (
        AlipayFault::ActsThenRefuses,
        "acts_then_refuses",
        "acts, answers code and subCode, signed",
    ),
    (
        AlipayFault::RefusesUnsigned,
        "refuses_unsigned",
        "does nothing, unsigned error_response",
    ),
    (
        AlipayFault::HtmlPage,
        "html_page",
        "does nothing, answers with a page",
    ),
    (
        AlipayFault::ForgedAnswer,
        "forged_answer",
        "acts, the answer is signed with another key",
    ),
    (
        AlipayFault::UnsignedAnswer,
        "unsigned_answer",
        "acts, the answer has no signature",
    ),
    (
        AlipayFault::UnlistedStatus,
        "unlisted_status",
        "acts, trade_status is TRADE_SETTLING",
    ),
    (
        AlipayFault::WrongAmountAnswer,
        "wrong_amount_answer",
        "acts, total_amount is another",
    ),
    (
        AlipayFault::PaidEarly,
        "paid_early",
        "precreate, create: paid and notified first",
    ),
    (
        AlipayFault::PayerConfirms,
        "payer_confirms",
        "pay: 10003 until the payer acts",
    ),
    (
        AlipayFault::CancelAgain,
        "cancel_again",
        "cancel: does nothing, retry_flag Y",
    ),
    (
        AlipayFault::RefundPending,
        "refund_pending",
        "refund: fund_change N, completed on control",
    ),
    (
        AlipayFault::RefundForgotten,
        "refund_forgotten",
        "refund: fund_change N, nothing booked",
    ),
    (
        AlipayFault::RefundHidden,
        "refund_hidden",
        "refund query: without refund_status",
    ),
    (
        AlipayFault::NoticeTwice,
        "notice_twice",
        "notifies again after success",
    ),
    (
        AlipayFault::NoticeConcurrent,
        "notice_concurrent",
        "notifies twice at once",
    ),
    (AlipayFault::NoticeLost, "notice_lost", "does not notify"),
    (
        AlipayFault::NoticeWrongAmount,
        "notice_wrong_amount",
        "first notification: another amount",
    ),
    (
        AlipayFault::NoticeWrongSeller,
        "notice_wrong_seller",
        "first notification: another seller",
    ),
    (
        AlipayFault::NoticeForged,
        "notice_forged",
        "first notification: signed with another key",
    ),
];

/// What the sheet documents for these calls: `code`, and its `sub_code`s. Any other can be ordered
/// as well.
pub const ALIPAY_CODES: [(&str, &[&str]); 9] = [
    ("20000", &["isp.unknow-error", "aop.unknow-error"]),
    (
        "20001",
        &[
            "aop.invalid-auth-token",
            "aop.auth-token-time-out",
            "aop.invalid-app-auth-token",
        ],
    ),
    (
        "40001",
        &[
            "isv.missing-method",
            "isv.missing-signature",
            "isv.missing-app-id",
        ],
    ),
    (
        "40002",
        &[
            "isv.invalid-signature",
            "isv.invalid-app-id",
            "isv.invalid-timestamp",
        ],
    ),
    ("40003", &["isv.missing-signature-config"]),
    (
        "40004",
        &[
            "ACQ.SYSTEM_ERROR",
            "ACQ.TRADE_NOT_EXIST",
            "ACQ.CONTEXT_INCONSISTENT",
            "ACQ.DISCORDANT_REPEAT_REQUEST",
            "ACQ.SELLER_BALANCE_NOT_ENOUGH",
            "ACQ.BUYER_BALANCE_NOT_ENOUGH",
            "ACQ.TRADE_HAS_SUCCESS",
            "ACQ.TRADE_HAS_CLOSE",
            "ACQ.TRADE_HAS_FINISHED",
            "ACQ.TRADE_STATUS_ERROR",
            "ACQ.REASON_TRADE_STATUS_INVALID",
            "ACQ.REASON_TRADE_BEEN_FREEZEN",
            "ACQ.REASON_TRADE_REFUND_FEE_ERR",
            "ACQ.TRADE_NOT_ALLOW_REFUND",
            "ACQ.REFUND_AMT_NOT_EQUAL_TOTAL",
            "ACQ.INVALID_PARAMETER",
            "ACQ.ACCESS_FORBIDDEN",
            "ACQ.PARTNER_ERROR",
            "ACQ.TOTAL_FEE_EXCEED",
            "ACQ.SELLER_BEEN_BLOCKED",
            "ACQ.PAYMENT_AUTH_CODE_INVALID",
            "ACQ.PAYMENT_FAIL",
            "ACQ.PAYMENT_REQUEST_HAS_RISK",
        ],
    ),
    (
        "40004",
        &[
            "NO_BILL_DATA",
            "BILL_NOT_EXIST",
            "SYSTEM_RATE_LIMIT",
            "USER_RATE_LIMIT",
            "UNKNOWN_ERROR",
            "BILL_DATE_BEFORE_REGISTRATION",
            "INVAILID_ARGUMENTS",
            "TYPE_NOT_SUPPORTED",
        ],
    ),
    ("40005", &["isv.app-call-limited"]),
    ("40006", &["isv.insufficient-isv-permissions"]),
];

impl AlipayFault {
    /// The control interface's word.
    pub fn word(self) -> &'static str {
        let found = ALIPAY_FAULTS.iter().find(|(fault, ..)| *fault == self);
        found.map_or("", |(_, word, _)| word)
    }

    /// Parses the control interface's word.
    pub fn from_word(word: &str) -> Option<Self> {
        let found = ALIPAY_FAULTS.iter().find(|(_, known, _)| *known == word);
        found.map(|(fault, ..)| *fault)
    }

    /// Faults that any server call can show.
    pub(super) fn is_of_a_call(self) -> bool {
        match self {
            Self::SlowAnswer
            | Self::NoAnswer
            | Self::AnswerLost
            | Self::RequestLost
            | Self::Refuses
            | Self::ActsThenRefuses
            | Self::RefusesUnsigned
            | Self::HtmlPage
            | Self::ForgedAnswer
            | Self::UnsignedAnswer
            | Self::UnlistedStatus
            | Self::WrongAmountAnswer => true,
            Self::PaidEarly
            | Self::PayerConfirms
            | Self::CancelAgain
            | Self::RefundPending
            | Self::RefundForgotten
            | Self::RefundHidden
            | Self::NoticeTwice
            | Self::NoticeConcurrent
            | Self::NoticeLost
            | Self::NoticeWrongAmount
            | Self::NoticeWrongSeller
            | Self::NoticeForged => false,
        }
    }

    /// Faults that a notification can show.
    pub(super) fn is_of_a_notice(self) -> bool {
        matches!(
            self,
            Self::NoticeTwice
                | Self::NoticeConcurrent
                | Self::NoticeLost
                | Self::NoticeWrongAmount
                | Self::NoticeWrongSeller
                | Self::NoticeForged
        )
    }
}

/// A fault to show.
#[derive(Debug, Clone)]
pub struct AlipaySteered {
    /// The fault.
    pub fault: AlipayFault,
    /// The method whose calls or trades show it; any if `None`.
    pub method: Option<String>,
    /// How many times.
    pub times: u32,
    /// `code` of a refusal.
    pub code: String,
    /// `sub_code` of a refusal.
    pub sub_code: String,
}

impl AlipaySteered {
    /// A fault once, at any method; a refusal says 20000.
    pub fn once(fault: AlipayFault) -> Self {
        Self {
            fault,
            method: None,
            times: 1,
            code: "20000".to_owned(),
            sub_code: "isp.unknow-error".to_owned(),
        }
    }
}

/// Ordered faults that have not come yet.
#[derive(Default)]
pub(super) struct AlipaySteering {
    ordered: Mutex<Vec<AlipaySteered>>,
}

impl AlipaySteering {
    pub(super) fn order(&self, mut order: AlipaySteered) {
        order.times = order.times.min(TIMES_MAX);
        self.ordered
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(order);
    }

    /// The fault to show now, among those that apply here.
    pub(super) fn take(
        &self,
        method: &str,
        applies: impl Fn(AlipayFault) -> bool,
    ) -> Option<AlipaySteered> {
        let mut ordered = self.ordered.lock().unwrap_or_else(PoisonError::into_inner);
        ordered.retain(|order| order.times > 0);
        let due = ordered.iter_mut().find(|order| {
            let is_here = order.method.as_deref().is_none_or(|only| only == method);
            is_here && applies(order.fault)
        })?;
        due.times = due.times.saturating_sub(1);
        Some(due.clone())
    }

    /// Whether one certain fault is to be shown now.
    pub(super) fn shows(&self, method: &str, fault: AlipayFault) -> bool {
        self.take(method, |ordered| ordered == fault).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A fault comes where it was ordered, as often as it was ordered.
    #[test]
    fn each_word_names_one_fault_that_comes_as_often_as_ordered() {
        for (fault, word, _) in ALIPAY_FAULTS {
            assert_eq!(AlipayFault::from_word(word), Some(fault));
            assert_eq!(fault.word(), word);
        }
        let steering = AlipaySteering::default();
        steering.order(AlipaySteered {
            method: Some("alipay.trade.query".to_owned()),
            times: 2,
            ..AlipaySteered::once(AlipayFault::HtmlPage)
        });
        let take = |method| steering.take(method, AlipayFault::is_of_a_call).is_some();
        assert!(!take("alipay.trade.refund"));
        assert!(take("alipay.trade.query") && take("alipay.trade.query"));
        assert!(!take("alipay.trade.query"));
    }
}
