//! When to kill: at points that are visible from outside, so that the product needs no hooks. The
//! state of the store, the ledger and the inboxes afterwards proves whether the point was hit.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use paymux::command::demo::environment::DemoEnvironment;
use paymux::sandbox::{
    InstitutionFault, InstitutionLedger, MerchantFault, NotificationInbox, PaymentState,
    SandboxCall, SandboxPayment, SandboxRefundState,
};

use super::load::BuyerLoad;
use super::pass;
use super::served::TortureGateway;
use super::store_observer::{self, StoreObserver};
use crate::world::random::SeededRandom;

/// The maximum time it is frozen: long enough for callbacks, notifications and payers to come and
/// go.
const FROZEN_MAX: Duration = Duration::from_secs(3);

/// How long a named point is waited for.
const TIMEOUT: Duration = Duration::from_secs(4);

/// What just happened when it is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum KillPoint {
    /// A random number of answers after the start, and a few milliseconds more.
    Drawn,
    /// It does not listen yet: the store is open and orphaned calls are being recovered.
    Starting,
    /// It has just begun to listen.
    JustStarted,
    /// The intent is durable and its call has not arrived.
    IntentDurable,
    /// The institution has recorded the create and nothing of its reply is durable here; the reply
    /// is in flight.
    CreateArrived,
    /// The same, with a late reply.
    CreateUnanswered,
    /// Money was taken that is not known here; the callback is in flight.
    MoneyTaken,
    /// A callback was acknowledged.
    CallbackAcknowledged,
    /// The event is durable and none of it has arrived.
    EventDurable,
    /// A merchant has acknowledged a notification whose lease is not completed.
    NoticeArrived,
    /// A merchant has rejected one whose lease is not completed.
    NoticeRefused,
    /// The refund is reserved and its call has not arrived.
    RefundReserved,
    /// Its call was recorded there and nothing of the reply is durable here; the reply is in
    /// flight.
    RefundArrived,
    /// The same, with a late reply.
    RefundUnanswered,
    /// A refund's end was reported by a callback and acknowledged.
    RefundAcknowledged,
    /// The institution has closed an attempt that is not final here.
    CloseArrived,
    /// A query about an unresolved outcome arrived.
    QueryArrived,
    /// A merchant has its response.
    Answered,
    /// The log is being checkpointed.
    Checkpointed,
    /// It was frozen for a while (SIGSTOP) during its work, while institutions, payers and
    /// merchants continued, and then resumed as if no time had passed.
    Suspended,
}

/// The named points, taken in turn.
pub(super) const KILL_POINTS: [KillPoint; 19] = [
    KillPoint::IntentDurable,
    KillPoint::CreateArrived,
    KillPoint::CreateUnanswered,
    KillPoint::Starting,
    KillPoint::MoneyTaken,
    KillPoint::CallbackAcknowledged,
    KillPoint::EventDurable,
    KillPoint::NoticeArrived,
    KillPoint::NoticeRefused,
    KillPoint::RefundReserved,
    KillPoint::RefundArrived,
    KillPoint::RefundUnanswered,
    KillPoint::RefundAcknowledged,
    KillPoint::CloseArrived,
    KillPoint::QueryArrived,
    KillPoint::Answered,
    KillPoint::Checkpointed,
    KillPoint::JustStarted,
    KillPoint::Suspended,
];

/// Where a kill point is observed.
enum KillTrigger {
    /// Not observed: at once.
    Now,
    /// At the buyers: after this many answers, and a few milliseconds more.
    Answers(u64, Duration),
    /// In the store: this query returns a new row.
    File(&'static str),
    /// In the log's index.
    LogIndex,
    /// By the process that freezes it: after this many answers, for this long.
    Frozen(u64, Duration),
    /// In the first merchant's inbox, rejected or acknowledged.
    Inbox { refused: bool },
    /// In the institution's ledger, when this count grows; the next such call is answered late.
    Book(fn(&InstitutionLedger) -> u64, Option<SandboxCall>),
}

fn of_payments(book: &InstitutionLedger, count: fn(&SandboxPayment) -> u32) -> u64 {
    book.payments().map(|one| u64::from(count(one))).sum()
}

fn creates(book: &InstitutionLedger) -> u64 {
    of_payments(book, |one| one.creates)
}

fn refund_requests(book: &InstitutionLedger) -> u64 {
    book.refunds().map(|one| u64::from(one.asks)).sum()
}

fn refund_acknowledgements(book: &InstitutionLedger) -> u64 {
    let refunds = book.refunds();
    let ended = refunds.filter(|one| one.standing != SandboxRefundState::Processing);
    ended.map(|one| u64::from(one.acknowledged)).sum()
}

/// Refund numbers in an institution's ledger.
fn refunds_of(book: &InstitutionLedger) -> BTreeSet<String> {
    let refunds = book.refunds();
    refunds.map(|one| one.merchant_refund_no.clone()).collect()
}

/// Events that merchants acknowledged, or that arrived.
fn notified(stage: &DemoEnvironment, acknowledged: bool) -> BTreeSet<String> {
    let inboxes = [&stage.tea, &stage.books].map(|shop| shop.merchant.inbox());
    let deliveries = inboxes.iter().flat_map(|inbox| &inbox.deliveries);
    let of = deliveries.filter(|one| one.acknowledged || !acknowledged);
    of.map(|one| one.event_id.clone()).collect()
}

impl KillPoint {
    fn trigger(self, dice: &mut SeededRandom) -> KillTrigger {
        match self {
            Self::Starting | Self::JustStarted => KillTrigger::Now,
            Self::Drawn => {
                let answers = u64::try_from(dice.between(1, 24)).unwrap();
                KillTrigger::Answers(answers, Duration::from_micros(dice.draw() % 30_000))
            }
            // After the first few, so that it is in the middle of its work.
            Self::Answered => KillTrigger::Answers(8, Duration::ZERO),
            Self::IntentDurable => KillTrigger::File(store_observer::INTENTS),
            Self::RefundReserved => KillTrigger::File(store_observer::RESERVED),
            Self::EventDurable => KillTrigger::File(store_observer::UNDELIVERED),
            Self::Checkpointed => KillTrigger::LogIndex,
            Self::Suspended => {
                let answers = u64::try_from(dice.between(1, 12)).unwrap();
                let longest = u64::try_from(FROZEN_MAX.as_micros()).unwrap();
                KillTrigger::Frozen(answers, Duration::from_micros(dice.draw() % longest))
            }
            Self::NoticeArrived => KillTrigger::Inbox { refused: false },
            Self::NoticeRefused => KillTrigger::Inbox { refused: true },
            Self::CreateArrived => KillTrigger::Book(creates, None),
            Self::CreateUnanswered => KillTrigger::Book(creates, Some(SandboxCall::Create)),
            Self::RefundArrived => KillTrigger::Book(refund_requests, None),
            Self::RefundUnanswered => KillTrigger::Book(refund_requests, Some(SandboxCall::Refund)),
            Self::RefundAcknowledged => KillTrigger::Book(refund_acknowledgements, None),
            Self::MoneyTaken => KillTrigger::Book(
                |book| of_payments(book, |one| u32::from(one.state == PaymentState::Paid)),
                None,
            ),
            Self::CallbackAcknowledged => {
                KillTrigger::Book(|book| of_payments(book, |one| one.acknowledged), None)
            }
            Self::CloseArrived => {
                KillTrigger::Book(|book| of_payments(book, |one| one.closes), None)
            }
            Self::QueryArrived => {
                KillTrigger::Book(|book| of_payments(book, |one| one.queries), None)
            }
        }
    }

    /// Waits for the point, kills at once, and returns whether it was hit.
    pub(super) async fn kill_when_reached(
        self,
        stage: &Arc<DemoEnvironment>,
        load: &BuyerLoad,
        dice: &mut SeededRandom,
        served: TortureGateway,
    ) -> bool {
        let came = match self.trigger(dice) {
            KillTrigger::Now => true,
            KillTrigger::Answers(answers, more) => {
                let came = load.answers(answers, TIMEOUT).await;
                if !more.is_zero() {
                    pass(more).await;
                }
                came
            }
            KillTrigger::File(sql) => appears(stage, &served, Some(sql)).await,
            KillTrigger::LogIndex => appears(stage, &served, None).await,
            KillTrigger::Frozen(answers, still) => {
                stands_still(load, &served, answers, still).await
            }
            KillTrigger::Inbox { refused } => {
                let merchant = &stage.tea.merchant;
                let before = merchant.inbox().deliveries.len();
                if refused {
                    merchant.next(MerchantFault::Refuses, 1);
                }
                let more = |inbox: &NotificationInbox| {
                    let new = inbox.deliveries.get(before..)?;
                    new.iter().find(|one| one.acknowledged != refused).map(drop)
                };
                merchant.wait_for(more, TIMEOUT).await.is_some()
            }
            KillTrigger::Book(count, late) => {
                let before = count(&stage.blue.books());
                if let Some(call) = late {
                    stage
                        .blue
                        .control()
                        .next_at(call, InstitutionFault::SlowAnswer, 1);
                }
                let more = |book: &InstitutionLedger| (count(book) > before).then_some(());
                stage.blue.wait_for(more, TIMEOUT).await.is_some()
            }
        };
        served.kill();
        served.ended().await;
        came && self.is_proven(stage)
    }

    /// Whether the store, the ledger and the inboxes show that this point was hit.
    fn is_proven(self, stage: &DemoEnvironment) -> bool {
        let eye = StoreObserver::open(stage);
        let book = stage.blue.books();
        let booked = |id: &String| book.payment(id).is_some();
        let stands = |id: &String, state| book.payment(id).is_some_and(|one| one.state == state);
        match self {
            Self::IntentDurable => !eye.see(store_observer::INTENTS).iter().all(booked),
            Self::CreateArrived | Self::CreateUnanswered => {
                eye.see(store_observer::INTENTS).iter().any(booked)
            }
            Self::MoneyTaken => eye
                .see(store_observer::UNFINISHED)
                .iter()
                .any(|id| stands(id, PaymentState::Paid)),
            Self::CloseArrived => eye
                .see(store_observer::UNFINISHED)
                .iter()
                .any(|id| stands(id, PaymentState::Closed)),
            Self::RefundReserved => !eye
                .see(store_observer::RESERVED)
                .is_subset(&refunds_of(&book)),
            Self::RefundArrived | Self::RefundUnanswered => !eye
                .see(store_observer::RESERVED)
                .is_disjoint(&refunds_of(&book)),
            Self::EventDurable => !eye
                .see(store_observer::UNDELIVERED)
                .is_subset(&notified(stage, false)),
            Self::NoticeArrived => !eye
                .see(store_observer::UNDELIVERED)
                .is_disjoint(&notified(stage, true)),
            Self::NoticeRefused => {
                let (arrived, acknowledged) = (notified(stage, false), notified(stage, true));
                let undelivered = eye.see(store_observer::UNDELIVERED);
                undelivered
                    .iter()
                    .any(|id| arrived.contains(id) && !acknowledged.contains(id))
            }
            Self::Checkpointed => eye.is_carrying_over(),
            Self::Drawn
            | Self::Starting
            | Self::JustStarted
            | Self::Suspended
            | Self::CallbackAcknowledged
            | Self::RefundAcknowledged
            | Self::QueryArrived
            | Self::Answered => true,
        }
    }
}

/// Freezes it during its work for this long, then waits for answers again; returns whether there
/// were any.
async fn stands_still(
    load: &BuyerLoad,
    served: &TortureGateway,
    answers: u64,
    still: Duration,
) -> bool {
    let came = load.answers(answers, TIMEOUT).await;
    served.signal("-STOP");
    pass(still).await;
    served.signal("-CONT");
    came && load.answers(answers, TIMEOUT).await
}

/// Watches the store until a new row appears, or until its log is being checkpointed, and kills at
/// once.
async fn appears(
    stage: &Arc<DemoEnvironment>,
    served: &TortureGateway,
    sql: Option<&'static str>,
) -> bool {
    let (stage, killer) = (Arc::clone(stage), served.killer());
    let watching = move || {
        let eye = StoreObserver::open(&stage);
        let until = tokio::time::Instant::now() + TIMEOUT;
        let before = sql.map(|sql| eye.see(sql)).unwrap_or_default();
        while tokio::time::Instant::now() < until {
            let came = match sql {
                Some(sql) => !eye.see(sql).is_subset(&before),
                None => eye.is_carrying_over(),
            };
            if came {
                killer.kill();
                return true;
            }
            std::thread::yield_now();
        }
        false
    };
    tokio::task::spawn_blocking(watching).await.unwrap()
}

/// Kills a gateway at a random time before it listens, based on the last start's duration; returns
/// whether it was that early.
pub(super) async fn kill_while_starting(
    stage: &DemoEnvironment,
    took: Duration,
    dice: &mut SeededRandom,
) -> bool {
    let served = TortureGateway::spawn(stage);
    let took = u64::try_from(took.as_micros()).unwrap().max(1);
    pass(Duration::from_micros(dice.draw() % took)).await;
    served.kill();
    served.ended().await
}
