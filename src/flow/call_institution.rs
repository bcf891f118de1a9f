//! Calls about payments and refunds; every result is evidence. `executor.rs` carries out the steps,
//! the same way for every family of calls.

pub(in crate::flow) mod executor;
mod make_action;

use std::time::Duration;

use bytes::Bytes;
use http::Response;

use crate::domain::attempt::{AttemptState, Stamp};
use crate::domain::change::Change;
use crate::domain::evidence::{
    Ambiguity, Evidence, EvidenceSource, EvidenceSubject, Finding, OriginalPayment, Rejection,
};
use crate::domain::identifiers::{AccountId, InstitutionId, MerchantId, OrderKey, Timestamp};
use crate::domain::institutions::{CallEnd, CallPurpose};
use crate::domain::order::{INTENT_TIMEOUT, Order};
use crate::domain::refund::SendStatus;
use crate::institution::{
    Call, CallState, Institution, Operation, OwnedCall, SigningParty, Step, Unmade,
};
use crate::world::sends::InFlightSend;
use crate::world::signing::{SigningOverloaded, SigningPlace, SigningPool};
use crate::world::{CallTimeouts, Permit, PermitUnavailable, World};
use executor::{Conversation, Failure, Start, execute, sign_in};
pub use make_action::make_action;

/// How long a payer waits for the payment action; after that the reply is "pending" (R-6.4-1a).
pub const CREATE_TIMEOUTS: CallTimeouts = timeouts(5_000, 6_000);

/// How long a worker's query, close or refund send may take, and a query that confirms evidence
/// against a final state (V4).
pub const QUERY_TIMEOUTS: CallTimeouts = timeouts(5_000, 8_000);

/// How long a merchant's query waits for the institution's reply (R-A3.2-3).
pub const READ_TIMEOUTS: CallTimeouts = timeouts(800, 1_000);

/// Bytes of an institution's reply that are read; a longer one proves nothing.
const REPLY_BYTES_MAX: usize = 64 * 1024;

const fn timeouts(head_ms: u64, whole_ms: u64) -> CallTimeouts {
    CallTimeouts {
        head: Duration::from_millis(head_ms),
        whole: Duration::from_millis(whole_ms),
        body_bytes_max: REPLY_BYTES_MAX,
    }
}

/// Sends one query or close and returns the evidence. Creates and refunds use [`send_once`].
pub async fn call_institution(
    world: &World,
    adapter: &dyn Institution,
    call: &Call<'_>,
    timeouts: CallTimeouts,
) -> Evidence {
    let how = ExchangeOptions {
        timeouts,
        permit: None,
        in_flight: None,
        place: None,
    };
    PaymentCall { adapter, call }.carry_out(world, how).await
}

/// How a create or refund is sent.
pub struct SendOptions {
    /// How long it may take.
    pub timeouts: CallTimeouts,
    /// The permit acquired before the intent was written, if any.
    pub permit: Option<Permit>,
    /// Begun before the intent was written.
    pub in_flight: InFlightSend,
    /// The place in the signing pool taken before the intent was written, if our key is slow.
    pub place: Option<SigningPlace>,
}

impl SendOptions {
    /// For a caller that waits for the reply.
    pub fn at_once(permit: Option<Permit>, in_flight: InFlightSend) -> Self {
        Self {
            timeouts: CREATE_TIMEOUTS,
            permit,
            in_flight,
            place: None,
        }
    }

    /// With a place in the signing pool.
    #[must_use]
    pub fn signed_in(self, place: Option<SigningPlace>) -> Self {
        Self { place, ..self }
    }
}

/// Registers the create that a change is about to commit, if any: that of the live attempt, unless
/// it is closing. Of a product that sends nothing it is over at once: from here on the payer may act,
/// and "not found" counts from here, whatever the clock says (A5, T2).
pub fn register_create(world: &World, change: &Change, sends: bool) -> Option<InFlightSend> {
    let live = change.order().and_then(Order::live_attempt);
    let created = live.filter(|attempt| attempt.state != AttemptState::Closing);
    let about = created.map(|attempt| EvidenceSubject::Attempt(attempt.id.clone()))?;
    let in_flight = world.sends.begin(&about);
    if !sends {
        in_flight.may_leave();
        return None;
    }
    Some(in_flight)
}

/// Sends one create or refund and returns the evidence. Its intent was committed before (A1, R4).
pub async fn send_once(
    world: &World,
    adapter: &dyn Institution,
    call: &Call<'_>,
    send: SendOptions,
) -> Evidence {
    let how = ExchangeOptions {
        timeouts: send.timeouts,
        permit: send.permit,
        in_flight: Some(send.in_flight),
        place: send.place,
    };
    PaymentCall { adapter, call }.carry_out(world, how).await
}

/// Sends one query or close with a permit acquired before: for bulk polling, which would be
/// throttled otherwise.
pub async fn ask_with_permit(
    world: &World,
    adapter: &dyn Institution,
    call: &Call<'_>,
    permit: Permit,
) -> Evidence {
    let how = ExchangeOptions {
        timeouts: QUERY_TIMEOUTS,
        permit: Some(permit),
        in_flight: None,
        place: None,
    };
    PaymentCall { adapter, call }.carry_out(world, how).await
}

/// Acquires a permit for an institution, before anything is written.
///
/// # Errors
/// None was available in time: nothing was recorded, no nonce spent (Q8).
pub async fn acquire_permit(
    world: &World,
    institution: &InstitutionId,
    merchant: &MerchantId,
) -> Result<Permit, PermitUnavailable> {
    world.outbound.permit(institution, merchant).await
}

/// Takes a place in the signing pool if our key for this account is slow, before anything is written.
///
/// # Errors
/// None came free in time: nothing was recorded, no nonce spent (Q8).
pub async fn acquire_signing_place(
    world: &World,
    adapter: Option<&dyn Institution>,
    account: &AccountId,
) -> Result<Option<SigningPlace>, SigningOverloaded> {
    let party = SigningParty::Account(account);
    if adapter.is_none_or(|adapter| adapter.slow(party).is_none()) {
        return Ok(None);
    }
    world.signing.place().await.map(Some)
}

/// One call about a payment or refund.
struct PaymentCall<'a> {
    adapter: &'a dyn Institution,
    call: &'a Call<'a>,
}

impl Conversation for PaymentCall<'_> {
    type Outcome = Evidence;

    async fn begin(
        &self,
        stamp: Stamp,
        pool: &SigningPool,
        place: Option<SigningPlace>,
    ) -> Step<Evidence> {
        let party = SigningParty::Account(&self.call.attempt.account);
        let Some(slow) = self.adapter.slow(party) else {
            return self.adapter.begin(self.call, &stamp);
        };
        let own = OwnedCall::of(self.call);
        let signed = sign_in(pool, place, move || {
            own.call().map(|call| slow.begin(&call, &stamp))
        });
        signed
            .await
            .flatten()
            .unwrap_or(Step::Unmade(Unmade::Unsigned))
    }

    fn next(&self, state: &CallState, reply: &Response<Bytes>, stamp: &Stamp) -> Step<Evidence> {
        match self.adapter.next(self.call, state, reply, stamp) {
            Step::Done(read) => Step::Done(self.checked(read, stamp.now)),
            more @ (Step::Send(_) | Step::Unmade(_)) => more,
        }
    }

    fn label(&self) -> &'static str {
        self.call.word()
    }

    fn purpose(&self) -> Option<CallPurpose> {
        Some(match self.call.operation {
            Operation::Create => CallPurpose::Create,
            Operation::Query
            | Operation::Close
            | Operation::Refund(_)
            | Operation::RefundQuery(_) => CallPurpose::Query,
        })
    }

    fn about(&self) -> Option<(EvidenceSubject, &MerchantId)> {
        Some((self.call.about(), &self.call.terms.merchant))
    }

    fn order(&self) -> Option<OrderKey> {
        let attempt = self.call.attempt.id.clone();
        Some(OrderKey::Attempt(self.adapter.id().clone(), attempt))
    }

    fn judge(&self, outcome: &Evidence) -> (CallEnd, String) {
        (answered(&outcome.finding), outcome.finding.class())
    }
}

impl PaymentCall<'_> {
    async fn carry_out(&self, world: &World, how: ExchangeOptions) -> Evidence {
        let Some(stamp) = stamp(world, self.call, how.in_flight.as_ref()) else {
            return self.evidence(Finding::NotSent);
        };
        let start = Start {
            stamp,
            timeouts: how.timeouts,
            permit: how.permit,
            in_flight: how.in_flight,
            place: how.place,
        };
        // Boxed to keep the caller's future small.
        match Box::pin(execute(world, self.adapter, self, start)).await {
            Ok(done) => Evidence {
                asked_at: (!self.call.is_send()).then_some(done.asked_at),
                finding: self.unless_carried_out(done.outcome.finding, done.is_after_money),
                ..done.outcome
            },
            Err(Failure::NotSent(_)) => self.evidence(Finding::NotSent),
            Err(Failure::Unknown(_)) => self.evidence(Finding::Ambiguous(Ambiguity::NoAnswer)),
        }
    }

    /// The evidence of a reply, checked against the call: its amount (V3), an alarm if our
    /// credentials were rejected, and a life for a payment action without one.
    fn checked(&self, read: Evidence, now: Timestamp) -> Evidence {
        let mut read = self.checked_amount(read);
        let (id, call) = (self.adapter.id(), self.call.word());
        if let Finding::NotExecuted(why) = &read.finding
            && why.concerns_credentials()
        {
            tracing::error!(institution.id = %id, account.id = %self.call.attempt.account, call,
                why = why.word(), "the institution rejects our credentials or our clock");
        }
        let product = self.adapter.facts().product(&self.call.attempt.product);
        if let (Finding::Accepted(Some(action)), Some(life)) =
            (&mut read.finding, product.action_life)
            && self.call.means() == EvidenceSource::Create
        {
            action.expires = action.expires.or(Some(now.plus(life)));
        }
        read
    }

    /// A rejection proves that a sending was not carried out, and says nothing of an earlier step
    /// that may have moved money (E1). A refund that is rejected for its rate may have been taken:
    /// institutions count it first.
    fn unless_carried_out(&self, finding: Finding, is_after_money: bool) -> Finding {
        let is_counted_refund = matches!(self.call.operation, Operation::Refund(_))
            && finding == Finding::NotExecuted(Rejection::Rate);
        let is_rejected = matches!(finding, Finding::NotExecuted(_));
        if is_counted_refund || (is_rejected && is_after_money) {
            return Finding::Ambiguous(Ambiguity::NoAnswer);
        }
        finding
    }

    /// Checks the amount in a reply against the amount of the call (V3).
    fn checked_amount(&self, read: Evidence) -> Evidence {
        let call = self.call;
        let amount = call
            .refund()
            .map_or(call.attempt.amount, |refund| refund.amount);
        let found = read.checked_against(amount);
        if found.finding == Finding::Ambiguous(Ambiguity::Mismatch) {
            tracing::error!(institution.id = %found.institution, call = call.word(),
                attempt.id = %call.attempt.id,
                "a reply was rejected: it does not match the call");
        }
        found
    }

    /// Evidence of a call that ended without a reply.
    fn evidence(&self, finding: Finding) -> Evidence {
        Evidence {
            institution: self.adapter.id().clone(),
            accounts: Some(vec![self.call.attempt.account.clone()]),
            receiver: Some(self.call.attempt.receiver.clone()),
            about: self.call.about(),
            by: self.call.means(),
            sum: None,
            along: OriginalPayment::default(),
            asked_at: None,
            proves_arrival: false,
            finding,
        }
    }
}

/// How a call is sent.
struct ExchangeOptions {
    timeouts: CallTimeouts,
    permit: Option<Permit>,
    in_flight: Option<InFlightSend>,
    place: Option<SigningPlace>,
}

/// The time and nonce of a call; `None` if it must not be sent.
fn stamp(world: &World, call: &Call<'_>, in_flight: Option<&InFlightSend>) -> Option<Stamp> {
    // An intent that grew old while the process was suspended already counts as unresolved, and its
    // payer may have given up, so it must not be sent (Q9). Nor must a send that is not registered.
    let is_fresh =
        in_flight.is_some_and(|one| world.clock.uptime().since(one.begun()) < INTENT_TIMEOUT);
    match call.operation {
        Operation::Create | Operation::Refund(_) if !is_fresh => None,
        // A repeated create must be equal (A3): the stored nonce, and the time of the last intent.
        Operation::Create => Some(Stamp {
            now: call.attempt.sent_at,
            nonce: call.attempt.stamp.nonce,
        }),
        // A refund likewise has the time of its last intent to send (R4).
        Operation::Refund(refund) => match refund.sending {
            SendStatus::Left(left) => Some(Stamp {
                now: left,
                nonce: world.entropy.draw(),
            }),
            SendStatus::Waits(_) => None,
        },
        Operation::Query | Operation::Close | Operation::RefundQuery(_) => Some(Stamp {
            now: world.clock.now(),
            nonce: world.entropy.draw(),
        }),
    }
}

/// What a finding says about the institution's health. A refusal, a rejection or an unknown code
/// counts as answered: one merchant's unusual order, or one account's credentials (F3), must not open
/// the circuit breaker for others.
fn answered(finding: &Finding) -> CallEnd {
    match finding {
        Finding::Ambiguous(
            Ambiguity::ServerFault
            | Ambiguity::Unproven
            | Ambiguity::Unreadable
            | Ambiguity::Mismatch,
        ) => CallEnd::Failed,
        Finding::Ambiguous(Ambiguity::NoAnswer | Ambiguity::UnlistedWord)
        | Finding::NotSent
        | Finding::NotExecuted(_)
        | Finding::Refused(_)
        | Finding::Accepted(_)
        | Finding::Succeeded(_)
        | Finding::Closed
        | Finding::Reversed(_)
        | Finding::Hint
        | Finding::NotFound => CallEnd::Answered,
    }
}
