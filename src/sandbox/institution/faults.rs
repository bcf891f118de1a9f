//! Fault injection at a simulated institution: by the last two digits of an amount, or through the
//! control interface. A fault changes how the institution behaves, never what its ledger records.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Largest number of times in one order for a fault.
const TIMES_MAX: u32 = 1_000;

/// The calls of the dialect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SandboxCall {
    /// A3.1.
    Create,
    /// A3.2.
    Query,
    ///
    Close,
    /// A3.4.
    Refund,
    ///
    RefundQuery,
    /// A page of a day's statement.
    Statement,
}

impl SandboxCall {
    /// Parses the control interface's word.
    pub fn from_word(word: &str) -> Option<Self> {
        [
            Self::Create,
            Self::Query,
            Self::Close,
            Self::Refund,
            Self::RefundQuery,
            Self::Statement,
        ]
        .into_iter()
        .find(|call| call.word() == word)
    }

    /// The control interface's word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Query => "query",
            Self::Close => "close",
            Self::Refund => "refund",
            Self::RefundQuery => "refund_query",
            Self::Statement => "statement",
        }
    }
}

/// When a fault can occur.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FaultTrigger {
    /// A verified, well-formed call was received.
    Call(SandboxCall),
    /// Money was taken.
    Payment,
    /// A new refund is booked.
    RefundBooked,
    /// A refund was completed, and a callback is due.
    RefundEnded,
}

impl FaultTrigger {
    /// The call that caused it.
    fn call(self) -> SandboxCall {
        match self {
            Self::Call(call) => call,
            Self::Payment => SandboxCall::Create,
            Self::RefundBooked | Self::RefundEnded => SandboxCall::Refund,
        }
    }
}

/// Faults of an institution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InstitutionFault {
    /// Carries out the call, responds after [`InstitutionDelays::slow`].
    SlowAnswer,
    /// Carries out the call, holds the connection open for [`InstitutionDelays::hold`], and closes
    /// it without a response.
    NoAnswer,
    /// Carries out the call, closes the connection at once.
    AnswerLost,
    /// Answers 503 and does nothing.
    ServerError,
    /// Carries out the call, and answers 500.
    ActsThenServerError,
    /// Carries out the call; the response is signed with another key.
    ForgedAnswer,
    /// Carries out the call; the response's `orderStatus` (`refundStatus` at refund calls) is not
    /// in the documented list.
    UnlistedWord,
    /// Refuses a create permanently: 422 `payment_refused`; nothing is booked.
    RefusesPayment,
    /// Takes the payment and calls back before the create call is answered.
    EarlyCallback,
    /// Does not close: 409 `close_refused`.
    RefusesClose,
    /// Confirms a close, but takes the payment [`InstitutionDelays::late`] later.
    PaysAfterClose,
    /// Calls back again after the acknowledgement.
    DuplicateCallback,
    /// Calls back [`InstitutionDelays::late`] after the payment.
    LateCallback,
    /// The first callback has another amount.
    WrongSumCallback,
    /// The first callback is signed with another key.
    ForgedCallback,
    /// Never calls back.
    LostCallback,
    /// Answers a refund with `PROCESSING`, and pays it [`InstitutionDelays::late`] later.
    RefundTakesTime,
    /// Answers a refund with `FAILED`, which is final.
    RefundRefused,
    /// Answers a refund with `PROCESSING`; it fails [`InstitutionDelays::late`] later.
    RefundFailsLate,
    /// Answers a refund with `FAILED`, but pays it [`InstitutionDelays::late`] later, if enough of
    /// the payment is left. Calls back for the success only.
    RefundAfterFailure,
}

/// The published table of faults: fault, word of the control interface, last two digits of the
/// amount that trigger it, effect.
pub const FAULTS: [(InstitutionFault, &str, i64, &str); 20] = [
    (
        InstitutionFault::SlowAnswer,
        "slow_answer",
        61,
        "carries out the call, responds late",
    ),
    (
        InstitutionFault::NoAnswer,
        "no_answer",
        62,
        "carries out the call, holds the connection open, never responds",
    ),
    (
        InstitutionFault::AnswerLost,
        "answer_lost",
        63,
        "carries out the call, closes the connection without a response",
    ),
    (
        InstitutionFault::ServerError,
        "server_error",
        64,
        "does nothing, answers 503",
    ),
    (
        InstitutionFault::ActsThenServerError,
        "acts_then_server_error",
        65,
        "carries out the call, answers 500",
    ),
    (
        InstitutionFault::ForgedAnswer,
        "forged_answer",
        66,
        "carries out the call, the response's signature is forged",
    ),
    (
        InstitutionFault::UnlistedWord,
        "unlisted_word",
        67,
        "carries out the call, the response has the unlisted status SETTLING",
    ),
    (
        InstitutionFault::RefusesPayment,
        "refuses_payment",
        68,
        "refuses permanently, books nothing",
    ),
    (
        InstitutionFault::EarlyCallback,
        "early_callback",
        69,
        "takes the payment, calls back, then responds",
    ),
    (
        InstitutionFault::RefusesClose,
        "refuses_close",
        71,
        "answers a close with 409",
    ),
    (
        InstitutionFault::PaysAfterClose,
        "pays_after_close",
        72,
        "confirms the close, takes the payment later",
    ),
    (
        InstitutionFault::DuplicateCallback,
        "duplicate_callback",
        81,
        "calls back again after the acknowledgement",
    ),
    (
        InstitutionFault::LateCallback,
        "late_callback",
        82,
        "calls back late",
    ),
    (
        InstitutionFault::WrongSumCallback,
        "wrong_sum_callback",
        83,
        "the first callback has another amount",
    ),
    (
        InstitutionFault::ForgedCallback,
        "forged_callback",
        84,
        "the first callback's signature is forged",
    ),
    (
        InstitutionFault::LostCallback,
        "lost_callback",
        85,
        "never calls back",
    ),
    (
        InstitutionFault::RefundTakesTime,
        "refund_takes_time",
        91,
        "answers PROCESSING, refunds later, calls back",
    ),
    (
        InstitutionFault::RefundRefused,
        "refund_refused",
        92,
        "answers FAILED, refunds nothing",
    ),
    (
        InstitutionFault::RefundFailsLate,
        "refund_fails_late",
        93,
        "answers PROCESSING, fails later, calls back",
    ),
    (
        InstitutionFault::RefundAfterFailure,
        "refund_after_failure",
        94,
        "answers FAILED, refunds later nevertheless, calls back",
    ),
];

impl InstitutionFault {
    /// The control interface's word.
    pub fn word(self) -> &'static str {
        FAULTS
            .iter()
            .find_map(|(fault, word, ..)| (*fault == self).then_some(*word))
            .unwrap_or_default()
    }

    /// Parses the control interface's word.
    pub fn from_word(word: &str) -> Option<Self> {
        FAULTS
            .iter()
            .find_map(|(fault, known, ..)| (*known == word).then_some(*fault))
    }

    fn applies_at(self, trigger: FaultTrigger) -> bool {
        match self {
            Self::SlowAnswer
            | Self::NoAnswer
            | Self::AnswerLost
            | Self::ServerError
            | Self::ActsThenServerError
            | Self::ForgedAnswer
            | Self::UnlistedWord => matches!(trigger, FaultTrigger::Call(_)),
            Self::RefusesPayment | Self::EarlyCallback => {
                trigger == FaultTrigger::Call(SandboxCall::Create)
            }
            Self::RefusesClose | Self::PaysAfterClose => {
                trigger == FaultTrigger::Call(SandboxCall::Close)
            }
            Self::DuplicateCallback
            | Self::LateCallback
            | Self::WrongSumCallback
            | Self::ForgedCallback
            | Self::LostCallback => {
                matches!(trigger, FaultTrigger::Payment | FaultTrigger::RefundEnded)
            }
            Self::RefundTakesTime
            | Self::RefundRefused
            | Self::RefundFailsLate
            | Self::RefundAfterFailure => trigger == FaultTrigger::RefundBooked,
        }
    }

    /// The fault triggered by the amount. Response faults occur at the create and the refund call
    /// only, so that the outcome can be queried afterwards.
    fn of_sum(sum_cents: i64, trigger: FaultTrigger) -> Option<Self> {
        let digits = sum_cents.rem_euclid(100);
        FAULTS
            .iter()
            .find_map(|(fault, _, cents, _)| (*cents == digits).then_some(*fault))
            .filter(|fault| fault.applies_at(trigger))
            .filter(|fault| {
                !fault.applies_at(FaultTrigger::Call(SandboxCall::Query))
                    || matches!(
                        trigger,
                        FaultTrigger::Call(SandboxCall::Create | SandboxCall::Refund)
                    )
            })
    }
}

/// The institution's delays.
#[derive(Debug, Clone)]
pub struct InstitutionDelays {
    /// Before a slow response.
    pub slow: Duration,
    /// Before a connection without a response is closed.
    pub hold: Duration,
    /// Before a late callback, before a payment after a close, and before a pending refund
    /// completes.
    pub late: Duration,
    /// Between callbacks until one is acknowledged; the last delay repeats.
    pub again: Vec<Duration>,
}

impl Default for InstitutionDelays {
    fn default() -> Self {
        Self {
            slow: Duration::from_secs(3),
            hold: Duration::from_secs(30),
            late: Duration::from_secs(5),
            again: [1, 2, 5, 10].map(Duration::from_secs).to_vec(),
        }
    }
}

struct OrderedFault {
    fault: InstitutionFault,
    call: Option<SandboxCall>,
    left: u32,
}

/// Injected faults that have not occurred yet.
#[derive(Default)]
pub(super) struct OrderedFaults {
    ordered: Mutex<Vec<OrderedFault>>,
}

impl OrderedFaults {
    /// Injects a fault for the next times that it can occur.
    pub(super) fn order(&self, fault: InstitutionFault, call: Option<SandboxCall>, times: u32) {
        let left = times.min(TIMES_MAX);
        self.ordered
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(OrderedFault { fault, call, left });
    }

    /// The fault to apply now; injected faults take precedence over those of the amount.
    pub(super) fn take(
        &self,
        trigger: FaultTrigger,
        sum_cents: Option<i64>,
    ) -> Option<InstitutionFault> {
        let mut ordered = self.ordered.lock().unwrap_or_else(PoisonError::into_inner);
        ordered.retain(|order| order.left > 0);
        let due = ordered.iter_mut().find(|order| {
            order.fault.applies_at(trigger) && order.call.is_none_or(|call| trigger.call() == call)
        });
        if let Some(order) = due {
            order.left = order.left.saturating_sub(1);
            return Some(order.fault);
        }
        sum_cents.and_then(|sum| InstitutionFault::of_sum(sum, trigger))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CREATE: FaultTrigger = FaultTrigger::Call(SandboxCall::Create);
    const QUERY: FaultTrigger = FaultTrigger::Call(SandboxCall::Query);

    /// C3
    #[test]
    fn words_and_amounts_name_one_fault_each() {
        for (fault, word, cents, _) in FAULTS {
            assert_eq!(InstitutionFault::from_word(word), Some(fault));
            assert_eq!(fault.word(), word);
            let same = FAULTS.iter().filter(|line| line.2 == cents).count();
            assert_eq!(same, 1, "{word}");
        }
    }

    /// E5
    #[test]
    fn an_injected_fault_occurs_as_often_as_ordered() {
        let faults = OrderedFaults::default();
        faults.order(InstitutionFault::AnswerLost, Some(SandboxCall::Query), 2);
        assert_eq!(faults.take(CREATE, None), None);
        assert_eq!(faults.take(QUERY, None), Some(InstitutionFault::AnswerLost));
        assert_eq!(faults.take(QUERY, None), Some(InstitutionFault::AnswerLost));
        assert_eq!(faults.take(QUERY, None), None);
    }

    /// E5
    #[test]
    fn a_refunds_amount_faults_the_refund_call_and_no_query() {
        let faults = OrderedFaults::default();
        let call = |call| faults.take(FaultTrigger::Call(call), Some(1_063));
        assert_eq!(
            call(SandboxCall::Refund),
            Some(InstitutionFault::AnswerLost)
        );
        assert_eq!(call(SandboxCall::RefundQuery), None);
        let booked = |sum| faults.take(FaultTrigger::RefundBooked, Some(sum));
        assert_eq!(booked(91), Some(InstitutionFault::RefundTakesTime));
        assert_eq!(booked(63), None);
        let at_refund = FaultTrigger::Call(SandboxCall::Refund);
        assert_eq!(faults.take(at_refund, Some(91)), None);
        assert_eq!(faults.take(at_refund, Some(68)), None);
    }

    /// E5
    #[test]
    fn a_callback_fault_can_be_injected_for_refunds_only() {
        let faults = OrderedFaults::default();
        faults.order(InstitutionFault::LostCallback, Some(SandboxCall::Refund), 1);
        assert_eq!(faults.take(FaultTrigger::Payment, None), None);
        let ended = faults.take(FaultTrigger::RefundEnded, None);
        assert_eq!(ended, Some(InstitutionFault::LostCallback));
    }

    /// E5
    #[test]
    fn an_amount_faults_the_create_call_and_no_query() {
        let faults = OrderedFaults::default();
        assert_eq!(
            faults.take(CREATE, Some(1_062)),
            Some(InstitutionFault::NoAnswer)
        );
        assert_eq!(faults.take(QUERY, Some(1_062)), None);
        assert_eq!(
            faults.take(FaultTrigger::Payment, Some(85)),
            Some(InstitutionFault::LostCallback)
        );
        assert_eq!(faults.take(CREATE, Some(100)), None);
    }
}
