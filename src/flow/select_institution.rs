//! The payer chose; the order goes there.

mod order_reply;

use std::time::Duration;

use crate::domain::attempt::{Attempt, AttemptState};
use crate::domain::change::ChangeCause;
use crate::domain::evidence::Reason;
use crate::domain::identifiers::{InstitutionId, Timestamp};
use crate::domain::institutions::{BusinessType, Mode};
use crate::domain::order::{Order, OrderState};
use crate::domain::refusal::Refusal;
use crate::flow::answer::commit_once::{CommitOutcome, Refused, SpentNonce, refuse, spend};
use crate::flow::apply_evidence::{EvidenceOutcome, apply_evidence};
use crate::flow::begin::begin;
use crate::flow::call_institution::{SendOptions, acquire_permit, begin_create, send_once};
use crate::flow::configuration_snapshot::ConfigurationSnapshot;
use crate::flow::list_institutions::EligibilityCheck;
use crate::flow::place_order::start;
use crate::flow::read_order::OrderReference;
pub use crate::flow::select_institution::order_reply::{OrderOutcome, OrderReply};
use crate::health::ProbePermit;
use crate::institution::Call;
use crate::store::{OrderKey, Store};
use crate::world::World;

/// Others may write to the same order meanwhile; so often a choice is decided again.
const ROUNDS_MAX: u32 = 3;

/// What was decided longer ago than this, because a turn had to be waited for, is decided again.
const DECIDED_FOR: Duration = Duration::from_millis(100);

/// How long after a repeated create the next repeat may follow.
const REPEAT_CREATE_AFTER: Duration = Duration::from_secs(5);

/// An institution, and how the payer pays through it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// Which.
    pub institution: InstitutionId,
    /// How.
    pub mode: Mode,
}

impl OrderReply {
    /// A new order that nobody was called for.
    pub(in crate::flow) fn fresh(order: Order) -> Self {
        Self {
            order,
            outcome: OrderOutcome::Accepted,
            fresh: true,
        }
    }

    /// An order whose institution's answer is not known yet.
    fn pending(order: Order) -> Self {
        Self {
            order,
            outcome: OrderOutcome::Pending,
            fresh: false,
        }
    }

    /// A paid order.
    pub(in crate::flow) fn paid(order: Order) -> Self {
        Self {
            order,
            outcome: OrderOutcome::AlreadyPaid,
            fresh: false,
        }
    }

    /// An order whose latest attempt tells what to answer.
    pub(in crate::flow) fn standing(order: Order, now: Timestamp) -> Self {
        let outcome = match order.state {
            OrderState::Paid => OrderOutcome::AlreadyPaid,
            OrderState::Closed => OrderOutcome::Closed,
            OrderState::Open => match order.attempts.last() {
                None => OrderOutcome::Accepted,
                Some(attempt) if attempt.state.is_live() && order.ending.is_some() => {
                    OrderOutcome::Pending
                }
                Some(attempt) => attempt_outcome(attempt, now),
            },
        };
        Self {
            order,
            outcome,
            fresh: false,
        }
    }
}

fn attempt_outcome(attempt: &Attempt, now: Timestamp) -> OrderOutcome {
    match attempt.state {
        AttemptState::Accepted if usable(attempt, now) => OrderOutcome::Accepted,
        AttemptState::Paid => OrderOutcome::AlreadyPaid,
        AttemptState::Failed => OrderOutcome::Refused(
            attempt
                .reason
                .clone()
                .unwrap_or_else(|| Reason::from_code("REFUSED")),
        ),
        AttemptState::Intent
        | AttemptState::Unknown
        | AttemptState::Accepted
        | AttemptState::Closing => OrderOutcome::Pending,
        // The payer may choose again.
        AttemptState::Closed => OrderOutcome::Accepted,
    }
}

/// Whether the stored hand-over still lives.
fn usable(attempt: &Attempt, now: Timestamp) -> bool {
    attempt
        .payment_action
        .as_ref()
        .is_some_and(|payment_action| payment_action.expires.is_none_or(|expires| now < expires))
}

/// Takes an order to the institution that was chosen, by whoever may name the order: the merchant
/// (with a nonce to spend) or the payer on our page.
///
/// # Errors
/// Everything of `interface.md` for X-2; the nonce is spent with all but 429, 500 and 503 (Q5).
pub async fn select_institution(
    store: &Store,
    world: &World,
    snapshot: &ConfigurationSnapshot,
    (named, cause): (&OrderReference, ChangeCause),
    (institution, mode): (InstitutionId, Option<Mode>),
) -> Result<(OrderReply, SpentNonce), Refused> {
    let now = world.clock.now();
    let Some(order) = named.load(store).await? else {
        return Err(refuse(store, (Refusal::OrderUnknown, cause), now).await);
    };
    if order.state == OrderState::Paid {
        let spent = spend(store, cause, now).await?;
        return Ok((OrderReply::paid(order), spent));
    }
    if !order.accepts_attempts(now) {
        return Err(refuse(store, (Refusal::OrderClosed, cause), now).await);
    }
    let mode = match order.terms.business_type {
        BusinessType::Single(only) => match mode {
            Some(other) if other != only => {
                let refusal = Refusal::FieldsDisagree("mode must equal the order's businessType");
                return Err(refuse(store, (refusal, cause), now).await);
            }
            _ => Some(only),
        },
        BusinessType::Aggregated => mode,
    };
    // What is under way already is answered, even if the institution was withdrawn meanwhile.
    let under_way = order
        .live_attempt()
        .filter(|attempt| attempt.institution == institution)
        .filter(|attempt| mode.is_none_or(|mode| mode == attempt.mode));
    let choice = match under_way {
        Some(attempt) => Ok(Choice {
            mode: mode.unwrap_or(attempt.mode),
            institution,
        }),
        None => EligibilityCheck::new(snapshot, world).open_to(&order.terms, &institution, mode),
    };
    match choice {
        Ok(choice) => {
            let by = (&named.key, cause);
            choose(store, world, snapshot, by, (order, choice)).await
        }
        Err(refusal) => Err(refuse(store, (refusal, cause), now).await),
    }
}

/// Brings an order, as it was read, to an institution that is known to be open to it.
async fn choose(
    store: &Store,
    world: &World,
    snapshot: &ConfigurationSnapshot,
    (key, cause): (&OrderKey, ChangeCause),
    (read, choice): (Order, Choice),
) -> Result<(OrderReply, SpentNonce), Refused> {
    let mut cause = cause;
    let mut read = Some(read);
    let mut permit = None;
    for _ in 0..ROUNDS_MAX {
        let now = world.clock.now();
        let mut pass = ProbePermit::default();
        let order = match read.take() {
            Some(order) => order,
            None => match store.orders.order(key).await? {
                Some(order) => order,
                None => return Err(refuse(store, (Refusal::OrderUnknown, cause), now).await),
            },
        };
        if order.state != OrderState::Open {
            return current_reply(store, (order, cause), now).await;
        }
        let step = step(store, world, snapshot, &order, &choice);
        if step.calls() && permit.is_none() {
            permit = Some(acquire_permit(world, &choice.institution, &order.terms.merchant).await?);
            if world.clock.now().since(now) >= DECIDED_FOR {
                continue;
            }
        }
        let change = match step {
            SelectionStep::Answer => return current_reply(store, (order, cause), now).await,
            // Judged on what is true now: somebody may have ended the attempt this choice was for.
            SelectionStep::Start(start) => {
                match admitted(snapshot, world, &order, &choice) {
                    Err(refusal) => return Err(refuse(store, (refusal, cause), now).await),
                    Ok(leave) => pass = leave,
                }
                match order.start_attempt(*start, cause, now) {
                    Ok(change) => change,
                    Err(refused) => return Err(refuse(store, refused, now).await),
                }
            }
            SelectionStep::CreateAgain => match order.live_attempt() {
                Some(attempt) => order.repeat_create(&attempt.id, cause, now),
                None => return Err(refuse(store, (Refusal::Contended, cause), now).await),
            },
            SelectionStep::Release => match order.begin_closing(cause, now) {
                Ok(change) => change,
                Err(cause) => {
                    let spent = spend(store, cause, now).await?;
                    return Ok((OrderReply::pending(order), spent));
                }
            },
            SelectionStep::NotContracted => {
                let refused = (Refusal::InstitutionNotContracted, cause);
                return Err(refuse(store, refused, now).await);
            }
        };
        // Durable before a byte leaves (A1): a crash may lose an answer, never an intent.
        let in_flight = begin_create(world, &change);
        match begin(store, world, change).await? {
            CommitOutcome::Done(order, spent) => {
                let Some(in_flight) = in_flight else {
                    return Ok((OrderReply::pending(*order), spent));
                };
                let leave = SendOptions::at_once(permit, in_flight);
                let answered = create(store, world, snapshot, (*order, pass), leave).await;
                return Ok((answered, spent));
            }
            // Somebody wrote first: decide again on what is there now.
            CommitOutcome::Stale(change) | CommitOutcome::KeyTaken(change) => {
                cause = change.into_cause();
            }
        }
    }
    Err(refuse(store, (Refusal::Contended, cause), world.clock.now()).await)
}

/// Nothing is to be done: the answer is how the order stands.
async fn current_reply(
    store: &Store,
    (order, cause): (Order, ChangeCause),
    now: Timestamp,
) -> Result<(OrderReply, SpentNonce), Refused> {
    let spent = spend(store, cause, now).await?;
    Ok((OrderReply::standing(order, now), spent))
}

/// Whether the institution is open to this order at this moment, and takes it.
fn admitted(
    snapshot: &ConfigurationSnapshot,
    world: &World,
    order: &Order,
    choice: &Choice,
) -> Result<ProbePermit, Refusal> {
    let judge = EligibilityCheck::new(snapshot, world);
    let admitted = judge.admit(&order.terms, &choice.institution, Some(choice.mode));
    admitted.map(|(_, pass)| pass)
}

/// What a choice means for an open order.
enum SelectionStep {
    /// The stored state is the answer.
    Answer,
    /// A new attempt.
    Start(Box<crate::domain::order::NewAttempt>),
    /// The same attempt, created once more: the institution returns the same hand-over (A3).
    CreateAgain,
    /// The live attempt must be closed first (A2).
    Release,
    /// There is no account to pay into.
    NotContracted,
}

impl SelectionStep {
    /// Whether the institution is called for it, so that a turn must be waited for first.
    fn calls(&self) -> bool {
        match self {
            Self::Start(_) | Self::CreateAgain => true,
            Self::Answer | Self::Release | Self::NotContracted => false,
        }
    }
}

fn step(
    store: &Store,
    world: &World,
    snapshot: &ConfigurationSnapshot,
    order: &Order,
    choice: &Choice,
) -> SelectionStep {
    let now = world.clock.now();
    let Some(live) = order.live_attempt() else {
        return match start(store, world, snapshot, &order.terms.merchant, choice) {
            Some(start) => SelectionStep::Start(Box::new(start)),
            None => SelectionStep::NotContracted,
        };
    };
    let same = live.institution == choice.institution && live.mode == choice.mode;
    let repeatable = snapshot
        .adapters
        .get(&live.institution)
        .is_some_and(|adapter| adapter.facts().repeatable_create);
    match live.state {
        AttemptState::Accepted if same && usable(live, now) => SelectionStep::Answer,
        AttemptState::Accepted if same && was_repeated_lately(live, now) => SelectionStep::Answer,
        AttemptState::Accepted if same && !order.accepts_attempts(now) => SelectionStep::Answer,
        AttemptState::Accepted if same && repeatable => SelectionStep::CreateAgain,
        AttemptState::Intent | AttemptState::Unknown | AttemptState::Closing if same => {
            SelectionStep::Answer
        }
        AttemptState::Intent
        | AttemptState::Unknown
        | AttemptState::Accepted
        | AttemptState::Closing
        | AttemptState::Paid
        | AttemptState::Failed
        | AttemptState::Closed => SelectionStep::Release,
    }
}

/// Whether its create was sent once more a moment ago: each repeat is a call to the institution, so
/// pressing again and again must not become a flood there.
fn was_repeated_lately(live: &Attempt, now: Timestamp) -> bool {
    let lately = now >= live.sent_at && now.since(live.sent_at) < REPEAT_CREATE_AFTER;
    live.sent_at > live.stamp.now && lately
}

/// Calls the institution for the live attempt of a committed order, and weighs what comes back. The
/// order's place among those on trial is free again only then.
pub(in crate::flow) async fn create(
    store: &Store,
    world: &World,
    snapshot: &ConfigurationSnapshot,
    (order, _pass): (Order, ProbePermit),
    leave: SendOptions,
) -> OrderReply {
    let Some(attempt) = order.live_attempt() else {
        return OrderReply::standing(order, world.clock.now());
    };
    let Some(adapter) = snapshot.adapters.get(&attempt.institution) else {
        return OrderReply::pending(order);
    };
    let call = Call::Create(attempt, &order.terms);
    let evidence = send_once(world, adapter.as_ref(), &call, leave).await;
    let asked = order.clone();
    let order = match apply_evidence(store, world, adapter.as_ref(), evidence, Some(order)).await {
        Ok(
            EvidenceOutcome::Moved(order)
            | EvidenceOutcome::Known(order)
            | EvidenceOutcome::Unconfirmed(order),
        ) => order,
        // The intent stands, whatever became of the news: never "nothing was recorded" (Q8). The
        // worker that chases doubts goes on from here.
        Ok(
            EvidenceOutcome::Quarantined(_)
            | EvidenceOutcome::Stranger
            | EvidenceOutcome::Contended,
        )
        | Err(_) => {
            return OrderReply::pending(asked);
        }
    };
    OrderReply::standing(order, world.clock.now())
}
