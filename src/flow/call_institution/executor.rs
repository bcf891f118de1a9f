//! Carries out the steps of one call of any family: the only place that sends requests to an
//! institution. Permits, deadline, exchange log, health and E1 are handled here, once.
//!
//! A call that ends without an outcome ends in a [`Failure`]; its family decides what that is
//! evidence of.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};

use crate::domain::attempt::Stamp;
use crate::domain::evidence::EvidenceSubject;
use crate::domain::identifiers::{MerchantId, OrderKey, Timestamp, Uptime};
use crate::domain::institutions::{CallEnd, CallPurpose};
use crate::domain::order::INTENT_TIMEOUT;
use crate::flow::call_institution::QUERY_TIMEOUTS;
use crate::institution::{CallState, Effect, Institution, Outgoing, STEPS_MAX, Step, Unmade};
use crate::world::exchange_log::{ExchangeEntry, ReplyCopy, RequestCopy};
use crate::world::sends::InFlightSend;
use crate::world::signing::{SigningPlace, SigningPool};
use crate::world::{
    CallTimeouts, OutboundOptions, OutboundParty, Permit, SendError, ThrottleFlag, World,
};

/// One call of one family, as the executor sees it.
pub(in crate::flow) trait Conversation: Sync {
    /// The outcome of a call that completes.
    type Outcome: Send + 'static;

    /// The first step, signed in this place of the signing pool if the key is slow; without a place in
    /// the next that comes free.
    fn begin(
        &self,
        stamp: Stamp,
        pool: &SigningPool,
        place: Option<SigningPlace>,
    ) -> impl Future<Output = Step<Self::Outcome>> + Send;

    /// The next step after a reply.
    fn next(
        &self,
        state: &CallState,
        reply: &Response<Bytes>,
        stamp: &Stamp,
    ) -> Step<Self::Outcome>;

    /// A stable label for metrics and logs.
    fn label(&self) -> &'static str;

    /// How it counts in the institution's health; `None` if it does not count.
    fn purpose(&self) -> Option<CallPurpose>;

    /// The payment or refund it may move money for, and the merchant its permits count for.
    fn about(&self) -> Option<(EvidenceSubject, &MerchantId)>;

    /// The order under which its exchanges are logged.
    fn order(&self) -> Option<OrderKey>;

    /// What an outcome says about the institution's health, and its class for the exchange log.
    fn judge(&self, outcome: &Self::Outcome) -> (CallEnd, String);
}

/// What a call begins with.
pub(in crate::flow) struct Start {
    /// Time and nonce of its first request.
    pub(in crate::flow) stamp: Stamp,
    /// How long all its steps may take in total.
    pub(in crate::flow) timeouts: CallTimeouts,
    /// The permit acquired before.
    pub(in crate::flow) permit: Option<Permit>,
    /// For a call that may move money: registered before its intent was written.
    pub(in crate::flow) in_flight: Option<InFlightSend>,
    /// The place in the signing pool taken before.
    pub(in crate::flow) place: Option<SigningPlace>,
}

/// Why a call ended without an outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::flow) enum Failure {
    /// Nothing that may move money was sent (E1). The text is for the log.
    NotSent(String),
    /// Something may have arrived, with unknown outcome (E5). The text is for the log.
    Unknown(String),
}

/// How a call ended.
pub(in crate::flow) struct Finished<T> {
    /// What the last reply says.
    pub(in crate::flow) outcome: T,
    /// The time just before the request that produced it was sent (V5).
    pub(in crate::flow) asked_at: Uptime,
    /// Whether an earlier step may have moved money: then a rejection of the last one is no proof
    /// that nothing was carried out (E1).
    pub(in crate::flow) is_after_money: bool,
}

/// Carries out a call to its end.
///
/// # Errors
/// [`Failure`]: the network failed, a limit of ours stopped it, or a request could not be built.
pub(in crate::flow) async fn execute<C: Conversation>(
    world: &World,
    adapter: &dyn Institution,
    call: &C,
    start: Start,
) -> Result<Finished<C::Outcome>, Failure> {
    let mut run = Run {
        world,
        adapter,
        call,
        begun: world.clock.uptime(),
        timeouts: start.timeouts,
        kept_back: start.permit.as_ref().map(Permit::watch),
        permit: start.permit,
        in_flight: start.in_flight,
        may_have_moved_money: false,
        steps: 0,
    };
    let (mut asked_at, mut is_after_money) = (run.begun, false);
    let mut step = call.begin(start.stamp, &world.signing, start.place).await;
    loop {
        let outgoing = match step {
            Step::Done(outcome) => {
                return Ok(Finished {
                    outcome,
                    asked_at,
                    is_after_money,
                });
            }
            Step::Unmade(why) => return Err(run.unmade(why)),
            Step::Send(outgoing) => *outgoing,
        };
        is_after_money = run.may_have_moved_money;
        (step, asked_at) = run.exchange(outgoing).await?;
    }
}

/// A call in progress.
struct Run<'a, C> {
    world: &'a World,
    adapter: &'a dyn Institution,
    call: &'a C,
    begun: Uptime,
    timeouts: CallTimeouts,
    kept_back: Option<ThrottleFlag>,
    permit: Option<Permit>,
    in_flight: Option<InFlightSend>,
    may_have_moved_money: bool,
    steps: usize,
}

impl<C: Conversation> Run<'_, C> {
    /// Sends one request and reads its reply.
    async fn exchange(
        &mut self,
        outgoing: Outgoing,
    ) -> Result<(Step<C::Outcome>, Uptime), Failure> {
        let (world, id) = (self.world, self.adapter.id());
        let Outgoing {
            request,
            to,
            effect,
            state,
        } = outgoing;
        if self.adapter.origin(to) != origin(&request).as_deref() {
            return Err(self.unmade(Unmade::Malformed));
        }
        let timeouts = self.take_step(effect).await?;
        // Logged as signed; the connection may still change its form on the wire.
        let logged = self.copy(&request);
        let mut options = OutboundOptions {
            timeouts,
            label: self.call.label(),
            permit: self.permit.take(),
            in_flight: None,
        };
        if effect == Effect::MayMoveMoney
            && let Some(in_flight) = self.in_flight.take()
        {
            // The send stays in flight for as long as its connection carries it.
            in_flight.may_leave();
            options.in_flight = Some(in_flight);
        }
        let health = world.health.begin(id, world.clock.now());
        // Taken before the first byte is sent (V5).
        let asked_at = world.clock.uptime();
        let party = OutboundParty::Institution(id.clone());
        let sent = world.outbound.send(&party, request, options).await;
        let stamp = Stamp {
            now: world.clock.now(),
            nonce: world.entropy.draw(),
        };
        let reply = logged.as_ref().and(sent.as_ref().ok()).map(ReplyCopy::of);
        self.may_have_moved_money |= effect == Effect::MayMoveMoney
            && !matches!(&sent, Err(fault) if is_proof_of_nothing_sent(fault));
        let (step, end, class) = match sent {
            Ok(reply) => {
                let step = self.call.next(&state, &reply, &stamp);
                let (end, class) = match &step {
                    Step::Done(outcome) => self.call.judge(outcome),
                    Step::Send(_) | Step::Unmade(_) => (CallEnd::Answered, "goes on".to_owned()),
                };
                (Ok(step), Some(end), class)
            }
            Err(fault) => {
                let (failure, end) = self.failed(fault);
                let class = failure.class();
                (Err(failure), end, class)
            }
        };
        if let Some((at, request)) = logged {
            self.log(at, request, class, reply);
        }
        if let Some((purpose, end)) = self.call.purpose().zip(end) {
            world.health.end(id, health, purpose, end, stamp.now);
        }
        step.map(|step| (step, asked_at))
    }

    /// Allows one more step and returns the remaining time of the call. Checks the number of steps
    /// and, before money may move, that the intent is fresh (Q9); acquires a permit for a further
    /// step.
    async fn take_step(&mut self, effect: Effect) -> Result<CallTimeouts, Failure> {
        self.steps = self.steps.saturating_add(1);
        if self.steps > STEPS_MAX {
            return Err(self.interrupted("too many steps in one call"));
        }
        let intended = self.in_flight.as_ref().map(InFlightSend::begun);
        if self.steps > 1
            && let Some((about, merchant)) = self.call.about()
        {
            if effect == Effect::MayMoveMoney && self.in_flight.is_none() {
                self.in_flight = Some(self.world.sends.begin(&about));
            }
            // The first step used the permit acquired before.
            if self.kept_back.is_some() {
                let permit = self
                    .world
                    .outbound
                    .permit(self.adapter.id(), merchant)
                    .await;
                self.permit =
                    Some(permit.map_err(|_| self.interrupted("no permit for a further step"))?);
            }
        }
        // Checked after the wait for a permit, during which the process may be suspended.
        if effect == Effect::MayMoveMoney && !self.is_fresh(intended) {
            return Err(self.interrupted("its intent is too old to be sent"));
        }
        let spent = if self.steps > 1 {
            self.world.clock.uptime().since(self.begun)
        } else {
            Duration::ZERO
        };
        let timeouts = CallTimeouts {
            whole: self.timeouts.whole.saturating_sub(spent),
            ..self.timeouts
        };
        if timeouts.whole.is_zero() {
            return Err(self.interrupted("the call ran out of time"));
        }
        Ok(timeouts)
    }

    /// Whether the intent of a send that may move money is recent enough. A further step counts
    /// from the start of the call if it has no intent of its own; a first step without one is never
    /// sent.
    fn is_fresh(&self, intended: Option<Uptime>) -> bool {
        let intended = intended.or((self.steps > 1).then_some(self.begun));
        let uptime = self.world.clock.uptime();
        intended.is_some_and(|intended| uptime.since(intended) < INTENT_TIMEOUT)
    }

    /// How a send without a reply ends the call, and what it says about the institution's health.
    fn failed(&self, fault: SendError) -> (Failure, Option<CallEnd>) {
        let (id, label) = (self.adapter.id(), self.call.label());
        match fault {
            SendError::NotSent(why) => {
                tracing::warn!(institution.id = %id, call = label, why, "not sent");
                (self.interrupted(&why), Some(CallEnd::Unreachable))
            }
            // H1: provably no byte was sent (E1), and it says nothing about the institution.
            ours @ (SendError::Throttled(_) | SendError::LocalShortage(_)) => {
                let why = ours.to_string();
                tracing::warn!(institution.id = %id, call = label, why,
                    "not sent: throttled or short of local resources");
                self.kept_back.iter().for_each(ThrottleFlag::set);
                (self.interrupted(&why), None)
            }
            SendError::Unknown(why) => {
                tracing::warn!(institution.id = %id, call = label, why, "outcome unknown");
                // A merchant's query waits too briefly for silence to count against the
                // institution.
                let is_silence = self.timeouts.whole >= QUERY_TIMEOUTS.whole
                    || self.call.purpose() == Some(CallPurpose::Create);
                (Failure::Unknown(why), is_silence.then_some(CallEnd::Failed))
            }
        }
    }

    /// A request that could not be built. H1: nothing was sent, and the cause is local.
    fn unmade(&self, why: Unmade) -> Failure {
        let (id, label) = (self.adapter.id(), self.call.label());
        tracing::error!(institution.id = %id, call = label, %why,
            "a request could not be built or signed");
        self.kept_back.iter().for_each(ThrottleFlag::set);
        self.interrupted(&why.to_string())
    }

    /// This step was not sent: E1, unless an earlier step may have moved money.
    fn interrupted(&self, why: &str) -> Failure {
        if self.may_have_moved_money {
            Failure::Unknown(why.to_owned())
        } else {
            Failure::NotSent(why.to_owned())
        }
    }

    fn copy(&self, request: &Request<Bytes>) -> Option<(Timestamp, RequestCopy)> {
        let is_logged = self.world.exchange_log.is_on() && self.call.order().is_some();
        is_logged.then(|| {
            let copy = RequestCopy::of(request, request.uri().to_string());
            (self.world.clock.now(), copy)
        })
    }

    fn log(&self, at: Timestamp, request: RequestCopy, result: String, reply: Option<ReplyCopy>) {
        let Some(about) = self.call.order() else {
            return;
        };
        self.world.exchange_log.append(ExchangeEntry {
            about,
            at,
            took: self.world.clock.now().since(at),
            with: format!("institution {}", self.adapter.id()),
            what: self.call.label().to_owned(),
            result,
            is_unproven: false,
            is_paying: false,
            format: self.adapter.kind().message_format(),
            request,
            reply,
        });
    }
}

impl Failure {
    /// Its class for the exchange log.
    fn class(&self) -> String {
        match self {
            Self::NotSent(_) => "E1 not sent".to_owned(),
            Self::Unknown(_) => "E5 no_answer".to_owned(),
        }
    }

    /// The reason, for logs.
    pub(in crate::flow) fn why(self) -> String {
        match self {
            Self::NotSent(why) | Self::Unknown(why) => why,
        }
    }
}

/// E1: no byte of the request was sent.
fn is_proof_of_nothing_sent(fault: &SendError) -> bool {
    match fault {
        SendError::NotSent(_) | SendError::Throttled(_) | SendError::LocalShortage(_) => true,
        SendError::Unknown(_) => false,
    }
}

/// `https://host[:port]` of a request.
fn origin(request: &Request<Bytes>) -> Option<String> {
    let (scheme, authority) = (request.uri().scheme_str()?, request.uri().authority()?);
    Some(format!("{scheme}://{authority}"))
}

/// Signs in a place of the pool, or in the next that comes free; `None` if none did in time.
pub(in crate::flow) async fn sign_in<T: Send + 'static>(
    pool: &SigningPool,
    place: Option<SigningPlace>,
    sign: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    match place {
        Some(place) => place.sign(sign).await,
        None => pool.sign(sign).await,
    }
}
