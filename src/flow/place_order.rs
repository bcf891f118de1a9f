//! Places an order for a merchant (A3.1).

use std::sync::Arc;

use crate::domain::change::ChangeCause;
use crate::domain::identifiers::{MerchantId, PayOrderNo};
use crate::domain::institutions::{BusinessType, Mode, PayerTelling};
use crate::domain::order::{NewOrder, Order, OrderState, OrderTerms};
use crate::domain::personal::payer_context::PayerDetails;
use crate::domain::refusal::Refusal;
use crate::flow::FlowScope;
use crate::flow::admit_request::Admitted;
use crate::flow::answer::commit_once::{CommitOutcome, Refused, SpentNonce, refuse, spend};
use crate::flow::call_institution::register_create;
use crate::flow::configuration_snapshot::ConfigurationSnapshot;
use crate::flow::judge::{AttemptStart, Choice, EligibilityCheck, Prospect, StartDecision};
use crate::flow::read_order::OrderReference;
use crate::flow::select_institution::select_institution;
use crate::flow::start_attempt::{
    CreatePermits, OrderOutcome, OrderReply, begin, carry_out_create, new_attempt,
};
use crate::health::ProbePermit;
use crate::store::OrderKey;

/// Places an order, or returns the current state of an equal one.
///
/// Without an institution, nothing is called. With one, order, attempt and nonce are one commit;
/// then the institution is called, and the reply is that of a selection.
///
/// # Errors
/// All errors that `docs/openapi.yaml` lists for A3.1; each spends the nonce except 429, 500 and
/// 503 (Q5).
pub async fn place_order(
    scope: FlowScope<'_>,
    caller: Admitted,
    terms: OrderTerms,
    payer: &PayerDetails,
) -> Result<(OrderReply, SpentNonce), Refused> {
    let FlowScope {
        store,
        world,
        snapshot,
    } = scope;
    let now = world.clock.now();
    let key = OrderKey::MerchantOrderNo(terms.merchant.clone(), terms.merchant_order_no.clone());
    let cause = caller.into_cause();
    let choice = choose(&EligibilityCheck::new(scope), &terms, payer);
    // An order that is no longer eligible may be a repeat of one placed earlier. A request that
    // would wait for a permit is looked up first as well, because a repeat needs none.
    if !matches!(choice, Ok(None))
        && let Some(order) = store.orders.order(&key).await?
    {
        return match choice {
            _ if *order.terms == terms => repeated(scope, order, cause, payer).await,
            Ok(_) => Err(refuse(store, Refusal::OrderConflict, cause, now).await),
            Err(refusal) => Err(refuse(store, refusal, cause, now).await),
        };
    }
    let choice = match choice {
        Ok(choice) => choice,
        Err(refusal) => return Err(refuse(store, refusal, cause, now).await),
    };
    let (mut permits, mut probe) = (CreatePermits::default(), ProbePermit::default());
    if let Some(choice) = &choice {
        permits = CreatePermits::acquire(scope, &terms.merchant, choice).await?;
        // Checked again after the wait; the probe permit is taken only then.
        let check = EligibilityCheck::new(scope);
        match check.admit(Prospect::of_terms(&terms, payer, check.now), choice) {
            Ok(StartDecision::Begins(admitted)) => probe = admitted,
            other => {
                drop(permits);
                let refusal = other.err().unwrap_or(Refusal::Contended);
                return Err(refuse(store, refusal, cause, check.now).await);
            }
        }
    }
    let now = world.clock.now();
    let sends = choice.as_ref().is_some_and(Choice::sends);
    let first = choice.and_then(|choice| new_attempt(scope, &terms.merchant, &choice, payer));
    let opening = NewOrder {
        no: PayOrderNo::mint(now, world.entropy.draw()),
        page_secret: world.entropy.draw(),
        notice_url: notice_url(snapshot, &terms.merchant),
        terms,
    };
    let change = Order::open(opening, first, cause, now);
    let in_flight = register_create(world, &change, sends);
    let (order, spent) = match begin(scope, change).await? {
        CommitOutcome::Done(order, spent) => (*order, spent),
        CommitOutcome::Stale(change) => {
            let cause = change.into_cause();
            return Err(refuse(store, Refusal::Contended, cause, now).await);
        }
        CommitOutcome::KeyTaken(change) => {
            drop(permits);
            let terms = change.order().map(|order| Arc::clone(&order.terms));
            let cause = change.into_cause();
            return match store.orders.order(&key).await? {
                Some(order) if Some(&order.terms) == terms.as_ref() => {
                    repeated(scope, order, cause, payer).await
                }
                _ => Err(refuse(store, Refusal::OrderConflict, cause, now).await),
            };
        }
    };
    let reply = carry_out_create(scope, order, probe, permits, in_flight).await;
    Ok((reply, spent))
}

/// Checks the terms against the configuration and returns the institution to call, if one is
/// needed now: the attempt of a named one may begin on our page.
fn choose(
    check: &EligibilityCheck<'_>,
    terms: &OrderTerms,
    payer: &PayerDetails,
) -> Result<Option<Choice>, Refusal> {
    let payment = Prospect::of_terms(terms, payer, check.now);
    let routing = &check.snapshot.routing;
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
        return Ok(match check.check_start(payment, institution, mode)? {
            AttemptStart::Now(choice) => Some(choice),
            AttemptStart::OnPage(_) => None,
        });
    }
    match terms.business_type {
        // The payer chooses, on the merchant's page or on ours.
        BusinessType::Aggregated | BusinessType::Single(Mode::Webview) => Ok(None),
        BusinessType::Single(mode) => {
            if let Some(default) = merchant.default_institutions.get(&mode) {
                return check.check(payment, default, Some(mode)).map(Some);
            }
            let query = payment.query(Some(mode), PayerTelling::Complete, check.now);
            let offers = check.offers(&query, None);
            let mut eligible = offers.iter().filter(|offer| offer.ineligible.is_none());
            match (eligible.next(), eligible.next()) {
                (Some(only), None) => check
                    .check(payment, &only.institution.id, Some(mode))
                    .map(Some),
                _ => Err(Refusal::InstitutionRequired),
            }
        }
    }
}

fn notice_url(snapshot: &ConfigurationSnapshot, merchant: &MerchantId) -> Option<Box<str>> {
    let merchant = snapshot.routing.merchants.get(merchant)?;
    merchant.notice_url.as_deref().map(Into::into)
}

/// Answers a repeated request with the current state, in the form of the first reply (Q7). If it
/// names an institution, the payer gets a usable payment action (R-6.1.1-1), created again if the
/// stored one has expired.
async fn repeated(
    scope: FlowScope<'_>,
    order: Order,
    cause: ChangeCause,
    payer: &PayerDetails,
) -> Result<(OrderReply, SpentNonce), Refused> {
    let now = scope.world.clock.now();
    if let Some(live) = order.live_attempt()
        && names_institution(&order.terms)
        && order.accepts_attempts(now)
    {
        let key = OrderKey::PayOrderNo(order.terms.merchant.clone(), order.no.clone());
        let reference = OrderReference::by(key);
        let (institution, mode) = (live.institution.clone(), Some(live.mode));
        return select_institution(scope, &reference, cause, institution, mode, payer).await;
    }
    let spent = spend(scope.store, cause, now).await?;
    let reply = match order.state {
        OrderState::Paid => OrderReply::paid(order),
        OrderState::Closed => OrderReply::of(order, OrderOutcome::Closed),
        OrderState::Open if names_institution(&order.terms) => OrderReply::current(order, now),
        OrderState::Open => OrderReply::accepted(order),
    };
    Ok((reply, spent))
}

/// Whether placing the order determines the institution, by name or because the mode requires one.
fn names_institution(terms: &OrderTerms) -> bool {
    match terms.business_type {
        BusinessType::Aggregated | BusinessType::Single(Mode::Webview) => terms.named.is_some(),
        BusinessType::Single(Mode::Chatbot | Mode::Native) => true,
    }
}
