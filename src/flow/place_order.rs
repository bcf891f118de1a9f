//! A merchant asks to be paid (A3.1).

use std::sync::Arc;

use crate::domain::attempt::Stamp;
use crate::domain::change::ChangeCause;
use crate::domain::identifiers::{AttemptId, MerchantId, PayOrderNo};
use crate::domain::institutions::{BusinessType, Mode};
use crate::domain::order::{NewAttempt, NewOrder, Order, OrderState, OrderTerms};
use crate::domain::refusal::Refusal;
use crate::flow::admit_request::Admitted;
use crate::flow::answer::commit_once::{CommitOutcome, Refused, SpentNonce, refuse, spend};
use crate::flow::begin::begin;
use crate::flow::call_institution::{SendOptions, acquire_permit, begin_create};
use crate::flow::configuration_snapshot::ConfigurationSnapshot;
use crate::flow::list_institutions::{EligibilityCheck, wanted};
use crate::flow::read_order::OrderReference;
use crate::flow::select_institution::{
    Choice, OrderOutcome, OrderReply, create, select_institution,
};
use crate::health::ProbePermit;
use crate::store::{OrderKey, Store};
use crate::world::World;

/// Places an order, or answers how an equal one stands.
///
/// Without an institution nobody is called. With one, order, attempt and nonce are one commit;
/// then the institution is called, and the answer is that of a selection.
///
/// # Errors
/// Everything of `interface.md` for A3.1; the nonce is spent with all but 429, 500 and 503 (Q5).
pub async fn place_order(
    store: &dyn Store,
    world: &World,
    snapshot: &ConfigurationSnapshot,
    caller: Admitted,
    terms: OrderTerms,
) -> Result<(OrderReply, SpentNonce), Refused> {
    let now = world.clock.now();
    let key = OrderKey::MerchantOrderNo(terms.merchant.clone(), terms.merchant_order_no.clone());
    let cause = caller.into_cause();
    let judged = check_eligibility(&EligibilityCheck::new(snapshot, world), &terms);
    // What cannot be placed any more may have been placed before: then it is a repeat. And whoever
    // would wait for a turn looks first, because a repeat needs none.
    if !matches!(judged, Ok(None))
        && let Some(order) = store.order(&key).await?
    {
        return match judged {
            _ if *order.terms == terms => repeated(store, world, snapshot, order, cause).await,
            Ok(_) => Err(refuse(store, (Refusal::OrderConflict, cause), now).await),
            Err(refusal) => Err(refuse(store, (refusal, cause), now).await),
        };
    }
    let choice = match judged {
        Ok(choice) => choice,
        Err(refusal) => return Err(refuse(store, (refusal, cause), now).await),
    };
    let (mut permit, mut pass) = (None, ProbePermit::default());
    if let Some(choice) = &choice {
        // Waited for before anything is written; who does not get one has lost nothing (Q8).
        permit = Some(acquire_permit(world, &choice.institution, &terms.merchant).await?);
        // Judged on what is true after the wait, and leave to go there taken only then.
        let judge = EligibilityCheck::new(snapshot, world);
        match judge.admit(&terms, &choice.institution, Some(choice.mode)) {
            Ok((_, leave)) => pass = leave,
            Err(refusal) => {
                drop(permit);
                return Err(refuse(store, (refusal, cause), judge.now).await);
            }
        }
    }
    let now = world.clock.now();
    let first = choice.and_then(|choice| start(store, world, snapshot, &terms.merchant, &choice));
    let opening = NewOrder {
        no: PayOrderNo::mint(now, world.entropy.draw()),
        page_secret: world.entropy.draw(),
        notice_url: notice_url(snapshot, &terms.merchant),
        terms,
    };
    let change = Order::open(opening, first, cause, now);
    let in_flight = begin_create(world, &change);
    let (order, spent) = match begin(store, world, change).await? {
        CommitOutcome::Done(order, spent) => (*order, spent),
        CommitOutcome::Stale(change) => {
            let refused = (Refusal::Contended, change.into_cause());
            return Err(refuse(store, refused, now).await);
        }
        CommitOutcome::KeyTaken(change) => {
            drop(permit);
            let terms = change.order().map(|order| Arc::clone(&order.terms));
            let cause = change.into_cause();
            return match store.order(&key).await? {
                Some(order) if Some(&order.terms) == terms.as_ref() => {
                    repeated(store, world, snapshot, order, cause).await
                }
                _ => Err(refuse(store, (Refusal::OrderConflict, cause), now).await),
            };
        }
    };
    let Some(in_flight) = in_flight else {
        return Ok((OrderReply::fresh(order), spent));
    };
    let leave = SendOptions::at_once(permit, in_flight);
    let answered = create(store, world, snapshot, (order, pass), leave).await;
    Ok((answered, spent))
}

/// What the enrolment says of these terms: the institution to take, where one must be.
fn check_eligibility(
    judge: &EligibilityCheck<'_, '_>,
    terms: &OrderTerms,
) -> Result<Option<Choice>, Refusal> {
    let routing = &judge.snapshot.routing;
    let merchant = routing
        .merchants
        .get(&terms.merchant)
        .ok_or(Refusal::MerchantNotAdmitted)?;
    if *merchant.name != *terms.merchant_name {
        return Err(Refusal::MerchantNameWrong);
    }
    if !merchant.may_be_notified_at(&terms.return_url) {
        return Err(Refusal::ReturnUrlUnregistered);
    }
    let mode = match terms.business_type {
        BusinessType::Single(mode) => Some(mode),
        BusinessType::Aggregated => terms.named.as_ref().and_then(|(_, mode)| *mode),
    };
    if let Some((institution, _)) = &terms.named {
        return judge.open_to(terms, institution, mode).map(Some);
    }
    match terms.business_type {
        // The payer chooses: on the merchant's cards, or on our page.
        BusinessType::Aggregated | BusinessType::Single(Mode::Webview) => Ok(None),
        BusinessType::Single(mode) => {
            if let Some(default) = merchant.default_institutions.get(&mode) {
                return judge.open_to(terms, default, Some(mode)).map(Some);
            }
            let offers = judge.offers(&wanted(terms, Some(mode), judge.now), None);
            let mut open = offers.iter().filter(|offer| offer.ineligible.is_none());
            match (open.next(), open.next()) {
                (Some(only), None) => judge
                    .open_to(terms, &only.institution.id, Some(mode))
                    .map(Some),
                _ => Err(Refusal::InstitutionRequired),
            }
        }
    }
}

/// What a new attempt through this choice is made of; `None` without a contract.
pub(in crate::flow) fn start(
    store: &dyn Store,
    world: &World,
    snapshot: &ConfigurationSnapshot,
    merchant: &MerchantId,
    choice: &Choice,
) -> Option<NewAttempt> {
    let now = world.clock.now();
    let contract = snapshot.routing.contract(merchant, &choice.institution)?;
    Some(NewAttempt {
        id: AttemptId::mint(now, world.entropy.draw()),
        institution: choice.institution.clone(),
        account: contract.account.clone(),
        receiver: contract.receiver.clone(),
        mode: choice.mode,
        stamp: Stamp {
            now,
            nonce: world.entropy.draw(),
        },
        configuration: snapshot.routing.version,
        epoch: store.epoch(),
    })
}

fn notice_url(snapshot: &ConfigurationSnapshot, merchant: &MerchantId) -> Option<Box<str>> {
    let merchant = snapshot.routing.merchants.get(merchant)?;
    merchant.notice_url.as_deref().map(Into::into)
}

/// An equal request came before: the present state in the form of the first answer (Q7). Where
/// an institution was part of it, the payer gets a usable hand-over again (R-6.1.1-1).
async fn repeated(
    store: &dyn Store,
    world: &World,
    snapshot: &ConfigurationSnapshot,
    order: Order,
    cause: ChangeCause,
) -> Result<(OrderReply, SpentNonce), Refused> {
    let now = world.clock.now();
    // Under way already: the payer gets its hand-over again, made anew where it is gone.
    let through = order
        .live_attempt()
        .filter(|_| names_institution(&order.terms));
    match through.map(|attempt| (attempt.institution.clone(), Some(attempt.mode))) {
        Some(choice) if order.accepts_attempts(now) => {
            let key = OrderKey::PayOrderNo(order.terms.merchant.clone(), order.no.clone());
            select_institution(
                store,
                world,
                snapshot,
                (&OrderReference::by(key), cause),
                choice,
            )
            .await
        }
        _ => {
            let spent = spend(store, cause, now).await?;
            let answered = match order.state {
                OrderState::Paid => OrderReply::paid(order),
                OrderState::Closed => OrderReply {
                    outcome: OrderOutcome::Closed,
                    order,
                    fresh: false,
                },
                OrderState::Open if names_institution(&order.terms) => {
                    OrderReply::standing(order, now)
                }
                OrderState::Open => OrderReply {
                    outcome: OrderOutcome::Accepted,
                    order,
                    fresh: false,
                },
            };
            Ok((answered, spent))
        }
    }
}

/// Whether placing alone decides the institution, by name or because the mode needs one.
fn names_institution(terms: &OrderTerms) -> bool {
    match terms.business_type {
        BusinessType::Aggregated | BusinessType::Single(Mode::Webview) => terms.named.is_some(),
        BusinessType::Single(Mode::Chatbot | Mode::Native) => true,
    }
}
