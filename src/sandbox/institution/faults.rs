//! What a pretend institution does wrong on demand: by the last two digits of a sum, or because its
//! control interface was told so. A fault shapes how the institution behaves, never what its book says.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Times a fault may be ordered for at once.
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
    /// The word the control interface knows it by.
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

    /// See [`SandboxCall::from_word`].
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

/// When a fault can show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FaultTrigger {
    /// A proven, readable call came.
    Call(SandboxCall),
    /// Money was taken.
    Payment,
    /// A new refund is booked.
    RefundBooked,
    /// A refund ended, and somebody waits to be told.
    RefundEnded,
}

impl FaultTrigger {
    /// The call it comes of.
    fn call(self) -> SandboxCall {
        match self {
            Self::Call(call) => call,
            Self::Payment => SandboxCall::Create,
            Self::RefundBooked | Self::RefundEnded => SandboxCall::Refund,
        }
    }
}

/// What can go wrong at an institution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InstitutionFault {
    /// Acts, answers after [`InstitutionDelays::slow`].
    SlowAnswer,
    /// Acts, holds the connection for [`InstitutionDelays::hold`] and closes it without an answer.
    NoAnswer,
    /// Acts, closes the connection at once.
    AnswerLost,
    /// Answers 503 and does nothing.
    ServerError,
    /// Acts, and answers 500.
    ActsThenServerError,
    /// Acts; the answer's signature is not the institution's.
    ForgedAnswer,
    /// Acts; the answer's `orderStatus`, at refund calls `refundStatus`, is a word nobody lists.
    UnlistedWord,
    /// Refuses a create for good: 422 `payment_refused`; nothing is booked.
    RefusesPayment,
    /// Takes the money and calls back before the create call is answered.
    EarlyCallback,
    /// Does not close: 409 `close_refused`.
    RefusesClose,
    /// Confirms a close, and takes the money [`InstitutionDelays::late`] later all the same.
    PaysAfterClose,
    /// Calls back again after the acknowledgement.
    DuplicateCallback,
    /// Calls back [`InstitutionDelays::late`] after the payment.
    LateCallback,
    /// The first callback names another sum.
    WrongSumCallback,
    /// The first callback's signature is not the institution's.
    ForgedCallback,
    /// Never calls back.
    LostCallback,
    /// Answers a refund with `PROCESSING`, sends the money back [`InstitutionDelays::late`] later.
    RefundTakesTime,
    /// Answers a refund with `FAILED` for good.
    RefundRefused,
    /// Answers a refund with `PROCESSING`; it fails [`InstitutionDelays::late`] later.
    RefundFailsLate,
    /// Answers a refund with `FAILED`, and sends the money back [`InstitutionDelays::late`] later all the same,
    /// if it is still there. Calls back for the success only.
    RefundAfterFailure,
}

/// One line of the published table: fault, word for the control interface, last two digits of the
/// sum that cause it, what happens.
pub const FAULTS: [(InstitutionFault, &str, i64, &str); 20] = [
    (
        InstitutionFault::SlowAnswer,
        "slow_answer",
        61,
        "acts, answers late",
    ),
    (
        InstitutionFault::NoAnswer,
        "no_answer",
        62,
        "acts, holds the connection, never answers",
    ),
    (
        InstitutionFault::AnswerLost,
        "answer_lost",
        63,
        "acts, closes the connection at once",
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
        "acts, answers 500",
    ),
    (
        InstitutionFault::ForgedAnswer,
        "forged_answer",
        66,
        "acts, the answer is signed by a stranger",
    ),
    (
        InstitutionFault::UnlistedWord,
        "unlisted_word",
        67,
        "acts, the answer says SETTLING",
    ),
    (
        InstitutionFault::RefusesPayment,
        "refuses_payment",
        68,
        "refuses for good, books nothing",
    ),
    (
        InstitutionFault::EarlyCallback,
        "early_callback",
        69,
        "takes the money, calls back, then answers",
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
        "confirms the close, takes the money later",
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
        "the first callback names another sum",
    ),
    (
        InstitutionFault::ForgedCallback,
        "forged_callback",
        84,
        "the first callback is signed by a stranger",
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
        "answers FAILED for good, refunds nothing",
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
        "answers FAILED, refunds later all the same, calls back",
    ),
];

impl InstitutionFault {
    /// The word the control interface knows it by.
    pub fn word(self) -> &'static str {
        FAULTS
            .iter()
            .find_map(|(fault, word, ..)| (*fault == self).then_some(*word))
            .unwrap_or_default()
    }

    /// See [`InstitutionFault::word`].
    pub fn from_word(word: &str) -> Option<Self> {
        FAULTS
            .iter()
            .find_map(|(fault, known, ..)| (*known == word).then_some(*fault))
    }

    fn applies_at(self, occasion: FaultTrigger) -> bool {
        match self {
            Self::SlowAnswer
            | Self::NoAnswer
            | Self::AnswerLost
            | Self::ServerError
            | Self::ActsThenServerError
            | Self::ForgedAnswer
            | Self::UnlistedWord => matches!(occasion, FaultTrigger::Call(_)),
            Self::RefusesPayment | Self::EarlyCallback => {
                occasion == FaultTrigger::Call(SandboxCall::Create)
            }
            Self::RefusesClose | Self::PaysAfterClose => {
                occasion == FaultTrigger::Call(SandboxCall::Close)
            }
            Self::DuplicateCallback
            | Self::LateCallback
            | Self::WrongSumCallback
            | Self::ForgedCallback
            | Self::LostCallback => {
                matches!(occasion, FaultTrigger::Payment | FaultTrigger::RefundEnded)
            }
            Self::RefundTakesTime
            | Self::RefundRefused
            | Self::RefundFailsLate
            | Self::RefundAfterFailure => occasion == FaultTrigger::RefundBooked,
        }
    }

    /// What the sum itself asks for. Faults of answers show at the create and the refund call only,
    /// so that what went wrong there can be found out afterwards.
    fn of_sum(sum_cents: i64, occasion: FaultTrigger) -> Option<Self> {
        let digits = sum_cents.rem_euclid(100);
        FAULTS
            .iter()
            .find_map(|(fault, _, cents, _)| (*cents == digits).then_some(*fault))
            .filter(|fault| fault.applies_at(occasion))
            .filter(|fault| {
                !fault.applies_at(FaultTrigger::Call(SandboxCall::Query))
                    || matches!(
                        occasion,
                        FaultTrigger::Call(SandboxCall::Create | SandboxCall::Refund)
                    )
            })
    }
}

/// How long the institution's delays are.
#[derive(Debug, Clone)]
pub struct InstitutionDelays {
    /// Before a slow answer.
    pub slow: Duration,
    /// Until a connection is closed on which no answer will come.
    pub hold: Duration,
    /// Before a late callback, before money is taken after a close, and before a refund ends that
    /// did not end at once.
    pub late: Duration,
    /// Between callbacks until one is acknowledged; the last one repeats.
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

/// Faults that were ordered and have not happened yet.
#[derive(Default)]
pub(super) struct OrderedFaults {
    ordered: Mutex<Vec<OrderedFault>>,
}

impl OrderedFaults {
    /// Orders a fault for the next occasions at which it can show.
    pub(super) fn order(&self, fault: InstitutionFault, call: Option<SandboxCall>, times: u32) {
        let left = times.min(TIMES_MAX);
        self.ordered
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(OrderedFault { fault, call, left });
    }

    /// What goes wrong now: what was ordered comes before what the sum asks for.
    pub(super) fn take(
        &self,
        occasion: FaultTrigger,
        sum_cents: Option<i64>,
    ) -> Option<InstitutionFault> {
        let mut ordered = self.ordered.lock().unwrap_or_else(PoisonError::into_inner);
        ordered.retain(|order| order.left > 0);
        let due = ordered.iter_mut().find(|order| {
            order.fault.applies_at(occasion)
                && order.call.is_none_or(|call| occasion.call() == call)
        });
        if let Some(order) = due {
            order.left = order.left.saturating_sub(1);
            return Some(order.fault);
        }
        sum_cents.and_then(|sum| InstitutionFault::of_sum(sum, occasion))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CREATE: FaultTrigger = FaultTrigger::Call(SandboxCall::Create);
    const QUERY: FaultTrigger = FaultTrigger::Call(SandboxCall::Query);

    /// C3
    #[test]
    fn words_and_sums_name_one_fault_each() {
        for (fault, word, cents, _) in FAULTS {
            assert_eq!(InstitutionFault::from_word(word), Some(fault));
            assert_eq!(fault.word(), word);
            let same = FAULTS.iter().filter(|line| line.2 == cents).count();
            assert_eq!(same, 1, "{word}");
        }
    }

    /// E5
    #[test]
    fn an_ordered_fault_shows_as_often_as_ordered() {
        let faults = OrderedFaults::default();
        faults.order(InstitutionFault::AnswerLost, Some(SandboxCall::Query), 2);
        assert_eq!(faults.take(CREATE, None), None);
        assert_eq!(faults.take(QUERY, None), Some(InstitutionFault::AnswerLost));
        assert_eq!(faults.take(QUERY, None), Some(InstitutionFault::AnswerLost));
        assert_eq!(faults.take(QUERY, None), None);
    }

    /// E5
    #[test]
    fn a_refunds_sum_faults_the_refund_call_and_no_query() {
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
    fn a_callbacks_fault_can_be_ordered_for_refunds_alone() {
        let faults = OrderedFaults::default();
        faults.order(InstitutionFault::LostCallback, Some(SandboxCall::Refund), 1);
        assert_eq!(faults.take(FaultTrigger::Payment, None), None);
        let ended = faults.take(FaultTrigger::RefundEnded, None);
        assert_eq!(ended, Some(InstitutionFault::LostCallback));
    }

    /// E5
    #[test]
    fn a_sum_faults_the_create_call_and_no_query() {
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
