//! The network as a list of exchanges waiting to be answered. A scenario test answers each at once,
//! by a script; a simulation run releases them one at a time, with one of the possible outcomes.

use std::collections::{BTreeMap, VecDeque};
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Poll, Waker};

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use paymux::domain::identifiers::{InstitutionId, MerchantId};
use paymux::domain::merchant::origin;
use paymux::world::sends::InFlightSend;
use paymux::world::{
    Outbound, OutboundOptions, OutboundParty, Permit, PermitUnavailable, SendError,
};

use super::clock::ManualClock;
use super::fake_institution::{FLIGHT_MS_MAX, FakeInstitution};
use super::fake_merchant::FakeMerchant;

/// How an exchange ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ScriptedOutcome {
    /// Arrived, answered.
    Answered,
    /// No byte left.
    NotSent,
    /// No byte left, for lack of local resources.
    Shortage,
    /// Sent, and never arrived.
    LostBefore,
    /// Arrived and was executed; the answer was lost.
    LostAfter,
    /// No answer in time; the request arrives later.
    Late,
    /// Arrived twice; the second answer came back.
    Twice,
    /// Answered with a 500 although it was executed.
    FaultAfter,
    /// Answered with a 502 by an intermediary.
    FaultBefore,
    /// The answer arrived with one byte changed.
    Garbled,
}

type TestSendResult = Result<Response<Bytes>, SendError>;

/// The slot for the reply, shared with the waiting sender.
#[derive(Default)]
struct ReplySlot {
    outcome: Option<TestSendResult>,
    waker: Option<Waker>,
}

/// A request that left the gateway.
pub(crate) struct PendingExchange {
    pub(crate) party: OutboundParty,
    pub(crate) request: Request<Bytes>,
    /// When it left, by the true time. Unit: milliseconds.
    pub(crate) sent: i64,
    /// When the gateway times out.
    pub(crate) until: i64,
    /// The reply, if the request was executed already and the reply is still in flight.
    reply: Option<Response<Bytes>>,
    /// Held until the exchange has ended here.
    _in_flight: Option<InFlightSend>,
    slot: Arc<Mutex<ReplySlot>>,
}

impl PendingExchange {
    /// Whether it was executed and only the reply is still in flight.
    pub(crate) fn has_arrived(&self) -> bool {
        self.reply.is_some()
    }

    /// Whether the sending process still waits for it. A dead process's request has left, or never
    /// will.
    pub(crate) fn is_awaited(&self) -> bool {
        Arc::strong_count(&self.slot) > 1
    }
}

#[derive(Default)]
pub(crate) struct Parties {
    pub(crate) institutions: BTreeMap<InstitutionId, FakeInstitution>,
    /// By origin.
    pub(crate) merchants: BTreeMap<String, FakeMerchant>,
    /// Sent, and waiting to be answered.
    pub(crate) waiting: Vec<PendingExchange>,
    /// Timed out at the gateway and still in flight, with the time it was sent.
    pub(crate) late: Vec<(i64, OutboundParty, Request<Bytes>)>,
    /// Outcomes of the next exchanges when answers are immediate; afterwards all are answered.
    pub(crate) script: VecDeque<ScriptedOutcome>,
    /// Whether exchanges wait to be released.
    pub(crate) held: bool,
    /// Every request that left, in order.
    pub(crate) sent: Vec<(OutboundParty, Request<Bytes>)>,
    /// Of these, the ones that never left (E1).
    pub(crate) unsent: Vec<Request<Bytes>>,
}

impl Parties {
    fn deliver(
        &mut self,
        party: &OutboundParty,
        request: &Request<Bytes>,
        truth: i64,
    ) -> TestSendResult {
        match party {
            OutboundParty::Institution(id) => match self.institutions.get_mut(id) {
                Some(books) => Ok(books.answer(request, truth)),
                None => Err(SendError::NotSent("no such host".into())),
            },
            OutboundParty::Merchant => {
                let at = origin(&request.uri().to_string()).unwrap_or_default();
                match self.merchants.get_mut(&at) {
                    Some(inbox) => Ok(inbox.answer(request)),
                    None => Err(SendError::NotSent("no such host".into())),
                }
            }
        }
    }

    fn end(
        &mut self,
        exchange: &mut PendingExchange,
        ending: ScriptedOutcome,
        truth: i64,
    ) -> TestSendResult {
        let mut act = |parties: &mut Self| match exchange.reply.take() {
            Some(reply) => Ok(reply),
            None => parties.deliver(&exchange.party, &exchange.request, truth),
        };
        let lost = || Err(SendError::Unknown("nobody answered in time".into()));
        match ending {
            ScriptedOutcome::Answered => act(self),
            ScriptedOutcome::NotSent => {
                self.unsent.push(exchange.request.clone());
                Err(SendError::NotSent("connection refused".into()))
            }
            ScriptedOutcome::Shortage => {
                self.unsent.push(exchange.request.clone());
                Err(SendError::LocalShortage("too many open files".into()))
            }
            ScriptedOutcome::LostBefore => lost(),
            ScriptedOutcome::LostAfter => act(self).and_then(|_| lost()),
            ScriptedOutcome::Late => {
                let request = exchange.request.clone();
                self.late
                    .push((exchange.sent, exchange.party.clone(), request));
                lost()
            }
            ScriptedOutcome::Twice => {
                act(self).and_then(|_| self.deliver(&exchange.party, &exchange.request, truth))
            }
            ScriptedOutcome::FaultAfter => {
                act(self).map(|_| fault(StatusCode::INTERNAL_SERVER_ERROR))
            }
            ScriptedOutcome::FaultBefore => Ok(fault(StatusCode::BAD_GATEWAY)),
            ScriptedOutcome::Garbled => act(self).map(garbled),
        }
    }
}

fn fault(status: StatusCode) -> Response<Bytes> {
    let mut answer = Response::new(Bytes::new());
    *answer.status_mut() = status;
    answer
}

fn garbled(reply: Response<Bytes>) -> Response<Bytes> {
    let (head, body) = reply.into_parts();
    let mut bytes = body.to_vec();
    if let Some(byte) = bytes.last_mut() {
        *byte ^= 1;
    }
    Response::from_parts(head, Bytes::from(bytes))
}

pub(crate) struct TestNetwork {
    parties: Mutex<Parties>,
    clock: Arc<ManualClock>,
}

impl TestNetwork {
    pub(crate) fn new(clock: Arc<ManualClock>) -> Self {
        Self {
            parties: Mutex::default(),
            clock,
        }
    }

    /// The external parties, to inspect and to change.
    pub(crate) fn parties(&self) -> MutexGuard<'_, Parties> {
        self.parties.lock().unwrap()
    }

    /// Ends one waiting exchange with this outcome.
    pub(crate) fn release(&self, at: usize, ending: ScriptedOutcome) {
        let truth = self.clock.truth();
        let mut parties = self.parties();
        let mut exchange = parties.waiting.remove(at);
        let outcome = parties.end(&mut exchange, ending, truth);
        drop(parties);
        let mut slot = exchange.slot.lock().unwrap();
        slot.outcome = Some(outcome);
        if let Some(waker) = slot.waker.take() {
            waker.wake();
        }
    }

    /// Delivers and executes a waiting request; the reply stays in flight.
    pub(crate) fn arrive(&self, at: usize) {
        let truth = self.clock.truth();
        let mut parties = self.parties();
        let mut exchange = parties.waiting.remove(at);
        if exchange.reply.is_none() {
            exchange.reply = parties
                .deliver(&exchange.party, &exchange.request, truth)
                .ok();
        }
        parties.waiting.insert(at, exchange);
    }

    /// Delivers a late request; its reply reaches nobody.
    pub(crate) fn arrive_late(&self, at: usize) {
        let truth = self.clock.truth();
        let mut parties = self.parties();
        let (_, party, request) = parties.late.remove(at);
        let _ = parties.deliver(&party, &request, truth);
    }

    /// When the first late request has arrived at the latest, by the true time.
    pub(crate) fn next_late(&self) -> Option<i64> {
        let parties = self.parties();
        parties.late.first().map(|(sent, ..)| sent + FLIGHT_MS_MAX)
    }

    /// The next time at which an exchange in flight must have ended, by the true time.
    pub(crate) fn deadline(&self) -> Option<i64> {
        let parties = self.parties();
        let waits = parties.waiting.iter().map(|exchange| exchange.until);
        let flights = parties.late.iter().map(|(sent, ..)| sent + FLIGHT_MS_MAX);
        waits.chain(flights).min()
    }
}

#[async_trait]
impl Outbound for TestNetwork {
    async fn send(
        &self,
        party: &OutboundParty,
        request: Request<Bytes>,
        options: OutboundOptions,
    ) -> Result<Response<Bytes>, SendError> {
        let truth = self.clock.truth();
        let slot: Arc<Mutex<ReplySlot>> = Arc::default();
        {
            let mut parties = self.parties();
            parties.sent.push((party.clone(), request.clone()));
            let mut exchange = PendingExchange {
                party: party.clone(),
                request,
                sent: truth,
                until: truth + i64::try_from(options.timeouts.whole.as_millis()).unwrap(),
                reply: None,
                _in_flight: options.in_flight,
                slot: Arc::clone(&slot),
            };
            if !parties.held {
                let ending = parties
                    .script
                    .pop_front()
                    .unwrap_or(ScriptedOutcome::Answered);
                return parties.end(&mut exchange, ending, truth);
            }
            parties.waiting.push(exchange);
        }
        poll_fn(|task| {
            let mut slot = slot.lock().unwrap();
            if let Some(outcome) = slot.outcome.take() {
                return Poll::Ready(outcome);
            }
            slot.waker = Some(task.waker().clone());
            Poll::Pending
        })
        .await
    }

    async fn permit(&self, _: &InstitutionId, _: &MerchantId) -> Result<Permit, PermitUnavailable> {
        Ok(Permit::free())
    }
}
