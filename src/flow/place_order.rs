//! A merchant asks to be paid (A3.1).

use std::sync::Arc;

use crate::domain::attempt::Stamp;
use crate::domain::change::Cause;
use crate::domain::identifiers::{AttemptId, MerchantId, PayOrderNo};
use crate::domain::institutions::{BusinessType, Mode};
use crate::domain::order::{Opening, Order, OrderState, Start, Terms};
use crate::domain::refusal::Refusal;
use crate::flow::admit_request::Admitted;
use crate::flow::answer::once::{Refused, Spent, Written, refuse, spend};
use crate::flow::begin::begin;
use crate::flow::call_institution::{Leave, begin_create, turn_at};
use crate::flow::list_institutions::{Judge, wanted};
use crate::flow::read_order::Named;
use crate::flow::register::Register;
use crate::flow::select_institution::{Answered, Choice, Outcome, create, select_institution};
use crate::health::Pass;
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
    register: &Register,
    caller: Admitted,
    terms: Terms,
) -> Result<(Answered, Spent), Refused> {
    let now = world.clock.now();
    let key = OrderKey::Theirs(terms.merchant.clone(), terms.merchant_order_no.clone());
    let cause = caller.into_cause();
    let judged = judge_terms(&Judge::new(register, world), &terms);
    // What cannot be placed any more may have been placed before: then it is a repeat. And whoever
    // would wait for a turn looks first, because a repeat needs none.
    if !matches!(judged, Ok(None))
        && let Some(order) = store.order(&key).await?
    {
        return match judged {
            _ if *order.terms == terms => repeated(store, world, register, order, cause).await,
            Ok(_) => Err(refuse(store, (Refusal::OrderConflict, cause), now).await),
            Err(refusal) => Err(refuse(store, (refusal, cause), now).await),
        };
    }
    let choice = match judged {
        Ok(choice) => choice,
        Err(refusal) => return Err(refuse(store, (refusal, cause), now).await),
    };
    let (mut turn, mut pass) = (None, Pass::default());
    if let Some(choice) = &choice {
        // Waited for before anything is written; who does not get one has lost nothing (Q8).
        turn = Some(turn_at(world, &choice.institution, &terms.merchant).await?);
        // Judged on what is true after the wait, and leave to go there taken only then.
        let judge = Judge::new(register, world);
        match judge.admit(&terms, &choice.institution, Some(choice.mode)) {
            Ok((_, leave)) => pass = leave,
            Err(refusal) => {
                drop(turn);
                return Err(refuse(store, (refusal, cause), judge.now).await);
            }
        }
    }
    let now = world.clock.now();
    let first = choice.and_then(|choice| start(store, world, register, &terms.merchant, &choice));
    let opening = Opening {
        no: PayOrderNo::mint(now, world.entropy.draw()),
        page_secret: world.entropy.draw(),
        notice_url: notice_url(register, &terms.merchant),
        terms,
    };
    let change = Order::open(opening, first, cause, now);
    let in_flight = begin_create(world, &change);
    let (order, spent) = match begin(store, world, change).await? {
        Written::Done(order, spent) => (*order, spent),
        Written::Stale(change) => {
            let refused = (Refusal::Contended, change.into_cause());
            return Err(refuse(store, refused, now).await);
        }
        Written::KeyTaken(change) => {
            drop(turn);
            let terms = change.order().map(|order| Arc::clone(&order.terms));
            let cause = change.into_cause();
            return match store.order(&key).await? {
                Some(order) if Some(&order.terms) == terms.as_ref() => {
                    repeated(store, world, register, order, cause).await
                }
                _ => Err(refuse(store, (Refusal::OrderConflict, cause), now).await),
            };
        }
    };
    let Some(in_flight) = in_flight else {
        return Ok((Answered::fresh(order), spent));
    };
    let leave = Leave::at_once(turn, in_flight);
    let answered = create(store, world, register, (order, pass), leave).await;
    Ok((answered, spent))
}

/// What the enrolment says of these terms: the institution to take, where one must be.
fn judge_terms(judge: &Judge<'_, '_>, terms: &Terms) -> Result<Option<Choice>, Refusal> {
    let directory = &judge.register.directory;
    let merchant = directory
        .merchants
        .get(&terms.merchant)
        .ok_or(Refusal::MerchantNotAdmitted)?;
    if *merchant.name != *terms.merchant_name {
        return Err(Refusal::MerchantNameWrong);
    }
    if !merchant.may_be_told_at(&terms.return_url) {
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
            let mut open = offers.iter().filter(|offer| offer.withheld.is_none());
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
    register: &Register,
    merchant: &MerchantId,
    choice: &Choice,
) -> Option<Start> {
    let now = world.clock.now();
    Some(Start {
        id: AttemptId::mint(now, world.entropy.draw()),
        institution: choice.institution.clone(),
        account: register
            .directory
            .account(merchant, &choice.institution)?
            .clone(),
        mode: choice.mode,
        stamp: Stamp {
            now,
            nonce: world.entropy.draw(),
        },
        configuration: register.directory.version,
        epoch: store.epoch(),
    })
}

fn notice_url(register: &Register, merchant: &MerchantId) -> Option<Box<str>> {
    let merchant = register.directory.merchants.get(merchant)?;
    merchant.notice_url.as_deref().map(Into::into)
}

/// An equal request came before: the present state in the form of the first answer (Q7). Where
/// an institution was part of it, the payer gets a usable hand-over again (R-6.1.1-1).
async fn repeated(
    store: &dyn Store,
    world: &World,
    register: &Register,
    order: Order,
    cause: Cause,
) -> Result<(Answered, Spent), Refused> {
    let now = world.clock.now();
    // Under way already: the payer gets its hand-over again, made anew where it is gone.
    let through = order
        .live_attempt()
        .filter(|_| names_institution(&order.terms));
    match through.map(|attempt| (attempt.institution.clone(), Some(attempt.mode))) {
        Some(choice) if order.takes_attempts(now) => {
            let key = OrderKey::Ours(order.terms.merchant.clone(), order.no.clone());
            select_institution(store, world, register, (&Named::by(key), cause), choice).await
        }
        _ => {
            let spent = spend(store, cause, now).await?;
            let answered = match order.state {
                OrderState::Paid => Answered::paid(order),
                OrderState::Closed => Answered {
                    outcome: Outcome::Closed,
                    order,
                    fresh: false,
                },
                OrderState::Open if names_institution(&order.terms) => {
                    Answered::standing(order, now)
                }
                OrderState::Open => Answered {
                    outcome: Outcome::Accepted,
                    order,
                    fresh: false,
                },
            };
            Ok((answered, spent))
        }
    }
}

/// Whether placing alone decides the institution, by name or because the mode needs one.
fn names_institution(terms: &Terms) -> bool {
    match terms.business_type {
        BusinessType::Aggregated | BusinessType::Single(Mode::Webview) => terms.named.is_some(),
        BusinessType::Single(Mode::Chatbot | Mode::Native) => true,
    }
}
