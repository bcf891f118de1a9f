//! Refunds an order for its merchant (A3.4), and reads refunds. The amount is reserved before
//! a byte is sent (R4), and freed only by a definite failure (R3).

use crate::domain::attempt::Attempt;
use crate::domain::evidence::EvidenceSubject;
use crate::domain::identifiers::{
    AccountId, CalendarDay, InstitutionId, MerchantId, RefundOrderNo,
};
use crate::domain::institutions::{RefundKinds, RefundRules};
use crate::domain::order::{Order, RefundRequest};
use crate::domain::refund::{Refund, RefundState};
use crate::domain::refusal::Refusal;
use crate::flow::FlowScope;
use crate::flow::admit_request::Admitted;
use crate::flow::answer::commit_once::{CommitOutcome, Refused, SpentNonce, commit, refuse, spend};
use crate::flow::apply_evidence::{EvidenceOutcome, apply_evidence};
use crate::flow::call_institution::{
    READ_TIMEOUTS, SendOptions, acquire_permit, acquire_signing_place, call_institution, send_once,
};
use crate::flow::configuration_snapshot::ConfigurationSnapshot;
use crate::flow::read_order::OrderReference;
use crate::institution::Operation;
use crate::store::{OrderKey, Store, StoreError};
use crate::world::signing::SigningPlace;
use crate::world::{Permit, World};

/// How often a refund is decided again after a concurrent write to the same order (R1).
const ROUNDS_MAX: u32 = 64;

/// How long refunds are possible through an institution that is no longer configured.
const WINDOW_OF_REMOVED_INSTITUTION: std::time::Duration =
    std::time::Duration::from_hours(365 * 24);

/// The current state of an order and one of its refunds.
pub struct RefundReply {
    /// The order.
    pub order: Order,
    /// The refund.
    pub no: RefundOrderNo,
    /// It repeats an earlier request without a number (R7).
    pub same_by_sum: bool,
}

/// How a merchant names the order to refund (A3.4): all fields must match.
pub struct PaidOrderReference {
    /// Its number, and the payer's mobile number.
    pub named: OrderReference,
    /// `orderDate`.
    pub order_date: CalendarDay,
}

impl PaidOrderReference {
    async fn load(&self, store: &Store) -> Result<Option<Order>, StoreError> {
        let found = self.named.load(store).await?;
        Ok(found.filter(|order| order.terms.order_date == self.order_date))
    }
}

/// Reserves the amount, calls the institution once, and returns the state of the refund. An equal
/// request returns the state of the first one (R6, R7).
///
/// # Errors
/// The order is unknown or not paid, the number is used by a different request, the amount exceeds
/// what is refundable, or the institution or the window does not allow it. Nothing has changed
/// then.
pub async fn refund_order(
    scope: FlowScope<'_>,
    caller: Admitted,
    paid: &PaidOrderReference,
    requested: RefundRequest,
) -> Result<(RefundReply, SpentNonce), Refused> {
    let FlowScope {
        store,
        world,
        snapshot,
    } = scope;
    let mut cause = caller.into_cause();
    let mut permits: Option<RefundPermits> = None;
    for _ in 0..ROUNDS_MAX {
        let now = world.clock.now();
        let Some(order) = paid.load(store).await? else {
            return Err(refuse(store, Refusal::OrderUnknown, cause, now).await);
        };
        match order.find_repeated_request(&requested) {
            Ok(None) => (),
            Ok(Some(known)) => {
                let (no, same_by_sum) = (known.no.clone(), requested.number.is_none());
                let spent = spend(store, cause, now).await?;
                let refunded = RefundReply {
                    order,
                    no,
                    same_by_sum,
                };
                return Ok((refunded, spent));
            }
            Err(refusal) => return Err(refuse(store, refusal, cause, now).await),
        }
        // Checked before waiting for a permit, and again on the order as it is then.
        let rules = rules(snapshot, &order);
        let change = match order.reserve_refund(requested.clone(), &rules, cause, now) {
            Ok(change) => change,
            Err((refusal, cause)) => return Err(refuse(store, refusal, cause, now).await),
        };
        let is_usable = |one: &&Attempt| {
            let adapter = snapshot.usable_adapter(&one.institution, &one.account, now);
            adapter.is_some()
        };
        let paying = order.paying_attempt().filter(is_usable);
        let Some(through) = paying else {
            return Err(refuse(store, Refusal::Unavailable, change.into_cause(), now).await);
        };
        if permits.as_ref().is_none_or(|one| !one.are_for(through)) {
            let merchant = &order.terms.merchant;
            permits = Some(RefundPermits::acquire(world, snapshot, through, merchant).await?);
            cause = change.into_cause();
            continue;
        }
        let in_flight = world
            .sends
            .begin(&EvidenceSubject::Refund(requested.no.clone()));
        match commit(store, change).await? {
            CommitOutcome::Done(order, spent) => {
                let (permit, place) = permits.map(|one| (one.permit, one.place)).unzip();
                let options = SendOptions::at_once(permit, in_flight).signed_in(place.flatten());
                let refunded = call(scope, *order, requested.no, options).await;
                return Ok((refunded, spent));
            }
            CommitOutcome::Stale(change) => cause = change.into_cause(),
            CommitOutcome::KeyTaken(change) => {
                cause = change.into_cause();
                if let Err(refusal) = check_number_owner(store, paid, &requested).await {
                    return Err(refuse(store, refusal, cause, now).await);
                }
            }
        }
    }
    Err(refuse(store, Refusal::Contended, cause, world.clock.now()).await)
}

/// What a refund needs before anything is written.
struct RefundPermits {
    institution: InstitutionId,
    account: AccountId,
    permit: Permit,
    /// In the signing pool, if our key is slow.
    place: Option<SigningPlace>,
}

impl RefundPermits {
    /// Acquires them; without them, no state has changed (Q8).
    async fn acquire(
        world: &World,
        snapshot: &ConfigurationSnapshot,
        through: &Attempt,
        merchant: &MerchantId,
    ) -> Result<Self, Refused> {
        let Attempt {
            institution,
            account,
            ..
        } = through;
        let adapter = snapshot.adapters.get(institution).map(AsRef::as_ref);
        Ok(Self {
            permit: acquire_permit(world, institution, merchant).await?,
            place: acquire_signing_place(world, adapter, account).await?,
            institution: institution.clone(),
            account: account.clone(),
        })
    }

    fn are_for(&self, through: &Attempt) -> bool {
        through.institution == self.institution && through.account == self.account
    }
}

/// The number is taken: `Ok` if by an equal, concurrent request, a conflict if by another refund
/// (R6).
async fn check_number_owner(
    store: &Store,
    paid: &PaidOrderReference,
    requested: &RefundRequest,
) -> Result<(), Refusal> {
    let order = paid.load(store).await?.ok_or(Refusal::OrderUnknown)?;
    match order.find_repeated_request(requested)? {
        Some(_) => Ok(()),
        None => Err(Refusal::RefundConflict),
    }
}

fn rules(snapshot: &ConfigurationSnapshot, order: &Order) -> RefundRules {
    let through = order.paying_attempt().map(|attempt| &attempt.institution);
    let known = through.and_then(|id| snapshot.routing.institutions.get(id));
    known.map_or(
        RefundRules {
            kinds: RefundKinds::ALL,
            window: WINDOW_OF_REMOVED_INSTITUTION,
        },
        |institution| institution.refunds,
    )
}

/// Makes the first call, with the permit acquired before. The committed state is valid whatever
/// happened to the evidence (Q8).
async fn call(
    scope: FlowScope<'_>,
    order: Order,
    no: RefundOrderNo,
    options: SendOptions,
) -> RefundReply {
    let as_reserved = |order| RefundReply {
        order,
        no: no.clone(),
        same_by_sum: false,
    };
    let parts = order
        .refund(&no)
        .and_then(|one| Some((one, order.attempt_of(one)?)));
    let Some((refund, attempt)) = parts else {
        return as_reserved(order);
    };
    let Some(adapter) = scope.snapshot.adapters.get(&attempt.institution) else {
        return as_reserved(order);
    };
    let call = scope
        .snapshot
        .call(Operation::Refund(refund), attempt, &order.terms);
    let evidence = send_once(scope.world, adapter.as_ref(), &call, options).await;
    let committed = order.clone();
    let outcome = apply_evidence(scope, adapter.as_ref(), evidence, Some(order)).await;
    as_reserved(current(outcome, committed))
}

fn current(outcome: Result<EvidenceOutcome, StoreError>, committed: Order) -> Order {
    let order = outcome.ok().and_then(EvidenceOutcome::into_order);
    order.unwrap_or(committed)
}

/// Reads the state of a refund; an unresolved one is queried within a small time budget.
///
/// # Errors
/// There is no such refund of this merchant (K3).
pub async fn read_refund(scope: FlowScope<'_>, key: &OrderKey) -> Result<RefundReply, Refusal> {
    let order = scope
        .store
        .orders
        .order(key)
        .await?
        .ok_or(Refusal::RefundUnknown)?;
    let no = named(&order, key).ok_or(Refusal::RefundUnknown)?.no.clone();
    let order = refresh(scope, order, &no).await;
    Ok(RefundReply {
        order,
        no,
        same_by_sum: false,
    })
}

fn named<'a>(order: &'a Order, key: &OrderKey) -> Option<&'a Refund> {
    match key {
        OrderKey::RefundOrderNo(_, no) => order.refund(no),
        OrderKey::MerchantRefundNo(_, number) => {
            let mut all = order.refunds.iter();
            all.find(|one| {
                one.request()
                    .is_some_and(|request| request.number == *number)
            })
        }
        OrderKey::PayOrderNo(..)
        | OrderKey::MerchantOrderNo(..)
        | OrderKey::Attempt(..)
        | OrderKey::Refund(..)
        | OrderKey::Page(_) => None,
    }
}

async fn refresh(scope: FlowScope<'_>, order: Order, no: &RefundOrderNo) -> Order {
    let parts = order
        .refund(no)
        .and_then(|one| Some((one, order.attempt_of(one)?)));
    let unresolved =
        |one: &Refund| matches!(one.state, RefundState::Unknown | RefundState::Processing);
    let Some((refund, attempt)) = parts.filter(|(one, _)| unresolved(one)) else {
        return order;
    };
    let Some(adapter) = scope.snapshot.adapters.get(&attempt.institution) else {
        return order;
    };
    let call = scope
        .snapshot
        .call(Operation::RefundQuery(refund), attempt, &order.terms);
    let evidence = call_institution(scope.world, adapter.as_ref(), &call, READ_TIMEOUTS).await;
    let committed = order.clone();
    let outcome = apply_evidence(scope, adapter.as_ref(), evidence, Some(order)).await;
    current(outcome, committed)
}
