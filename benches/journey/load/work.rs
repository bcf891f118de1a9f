//! The work of a caller: one prepared request, or one whole payment. It checks every answer and
//! accepts only the expected one.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::load::BenchCaller;
use crate::load::wire::RawMessage;
use crate::setup::institution::BenchInstitution;
use crate::setup::notification_endpoint::NotificationEndpoint;

/// A merchant that is not notified by then counts as never notified.
const NOTIFIED_WITHIN: Duration = Duration::from_secs(20);

/// What callers do.
pub(crate) enum LoadWork {
    Requests(Requests),
    Payments(Payments),
}

/// Requests that were built and signed beforehand.
pub(crate) struct Requests {
    pub(crate) list: Arc<[Bytes]>,
    /// Contained in the body of every good answer.
    pub(crate) expected: &'static str,
    /// Collects the attempt numbers that the answers contain.
    pub(crate) attempts: Option<Mutex<Vec<String>>>,
}

/// Whole payments: place, select, callback, notification.
pub(crate) struct Payments {
    pub(crate) numbers: Vec<String>,
    pub(crate) place: Arc<[Bytes]>,
    pub(crate) select: Arc<[Bytes]>,
    pub(crate) institution: Arc<BenchInstitution>,
    pub(crate) shop: Arc<NotificationEndpoint>,
}

/// The outcome.
#[derive(Debug)]
pub(crate) enum WorkOutcome {
    /// As expected; of a payment, the time from the first byte of the callback to the merchant's
    /// acknowledgement. Unit: microseconds.
    Good { notified_us: u32 },
    /// Rejected by load shedding: 429 or 503.
    Rejected {
        /// Whether something was recorded before, so that the same request cannot be sent again.
        spent: bool,
    },
    /// Anything else.
    Odd(String),
}

/// A checked answer.
enum CheckedAnswer {
    Good(Option<String>),
    Rejected,
    Odd(String),
}

impl LoadWork {
    /// How many times it can be done, each with its own requests.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Requests(requests) => requests.list.len(),
            Self::Payments(payments) => payments.place.len(),
        }
    }

    /// Does it once.
    pub(crate) async fn once(&self, caller: &mut BenchCaller, at: usize) -> WorkOutcome {
        match self {
            Self::Requests(requests) => requests.once(caller, at).await,
            Self::Payments(payments) => payments.once(caller, at).await,
        }
    }
}

impl Requests {
    /// Prepared requests; each answer must contain `expected`.
    pub(crate) fn of(list: Arc<[Bytes]>, expected: &'static str) -> Arc<LoadWork> {
        Arc::new(LoadWork::Requests(Self {
            list,
            expected,
            attempts: None,
        }))
    }

    async fn once(&self, caller: &mut BenchCaller, at: usize) -> WorkOutcome {
        let request = &self.list[at % self.list.len()];
        let answer = caller
            .merchant
            .ask(request, |answer| check(answer, self.expected));
        match answer.await {
            Ok(CheckedAnswer::Good(attempt)) => {
                if let (Some(attempts), Some(attempt)) = (&self.attempts, attempt) {
                    let mut attempts = attempts.lock().unwrap_or_else(PoisonError::into_inner);
                    attempts.push(attempt);
                }
                WorkOutcome::Good { notified_us: 0 }
            }
            Ok(CheckedAnswer::Rejected) => WorkOutcome::Rejected { spent: false },
            Ok(CheckedAnswer::Odd(answer)) => WorkOutcome::Odd(answer),
            Err(why) => WorkOutcome::Odd(format!("{why:#}")),
        }
    }
}

impl Payments {
    async fn once(&self, caller: &mut BenchCaller, at: usize) -> WorkOutcome {
        match self.paid(caller, at % self.place.len()).await {
            Ok(outcome) => outcome,
            Err(why) => WorkOutcome::Odd(format!("{why:#}")),
        }
    }

    async fn paid(&self, caller: &mut BenchCaller, at: usize) -> anyhow::Result<WorkOutcome> {
        let BenchCaller {
            merchant,
            institution,
        } = caller;
        let placed = merchant.ask(&self.place[at], |answer| check(answer, ACCEPTED));
        match placed.await? {
            CheckedAnswer::Good(_) => (),
            CheckedAnswer::Rejected => return Ok(WorkOutcome::Rejected { spent: false }),
            CheckedAnswer::Odd(answer) => return Ok(WorkOutcome::Odd(answer)),
        }
        let selected = merchant.ask(&self.select[at], |answer| check(answer, ACCEPTED));
        let attempt = match selected.await? {
            CheckedAnswer::Good(Some(attempt)) => attempt,
            CheckedAnswer::Good(None) => {
                return Ok(WorkOutcome::Odd(
                    "a selection's answer has no sdkParameters".to_owned(),
                ));
            }
            CheckedAnswer::Rejected => return Ok(WorkOutcome::Rejected { spent: true }),
            CheckedAnswer::Odd(answer) => return Ok(WorkOutcome::Odd(answer)),
        };
        let acknowledgement = self.shop.expect(&self.numbers[at]);
        let callback = self.institution.callback(&attempt)?;
        let start = Instant::now();
        let receipt = institution.ask(&callback, |answer| check(answer, SUCCESS));
        match receipt.await? {
            CheckedAnswer::Good(_) => (),
            CheckedAnswer::Rejected => return Ok(WorkOutcome::Rejected { spent: true }),
            CheckedAnswer::Odd(answer) => return Ok(WorkOutcome::Odd(answer)),
        }
        let acknowledged = tokio::time::timeout(NOTIFIED_WITHIN, acknowledgement).await??;
        let took = acknowledged.saturating_duration_since(start);
        Ok(WorkOutcome::Good {
            notified_us: u32::try_from(took.as_micros())?,
        })
    }
}

/// In every successful answer to placing, selecting and refunding.
pub(crate) const ACCEPTED: &str = "\"result\":\"ACCEPTED\"";
/// In every answer to a query of an open order.
pub(crate) const OPEN: &str = "\"orderStatus\":\"OPEN\"";
/// In every answer to a query of a paid order.
pub(crate) const PAID: &str = "\"orderStatus\":\"PAID\"";
/// In every answer to closing an order without a payment in progress.
pub(crate) const CLOSED: &str = "\"result\":\"CLOSED\"";
/// In every answer to a recorded callback.
pub(crate) const SUCCESS: &str = "\"noticeResult\":\"SUCCESS\"";

fn check(answer: &RawMessage<'_>, expected: &str) -> CheckedAnswer {
    let status = answer.head.get(9..12).unwrap_or_default();
    if status == b"200" && contains(answer.body, expected.as_bytes()) {
        return CheckedAnswer::Good(attempt(answer.body));
    }
    if status == b"429" || status == b"503" {
        return CheckedAnswer::Rejected;
    }
    let head = String::from_utf8_lossy(answer.head);
    let (line, body) = (head.lines().next(), String::from_utf8_lossy(answer.body));
    let line = line.unwrap_or_default();
    CheckedAnswer::Odd(format!(
        "expected 200 with {expected}, found {line}: {body}"
    ))
}

/// The mock institution puts its attempt number into the SDK parameters; `payUrl` is our own page.
fn attempt(body: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(body).ok()?;
    let (_, after) = text.split_once("\"attempt\":\"")?;
    Some(after.split_once('"')?.0.to_owned())
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}
