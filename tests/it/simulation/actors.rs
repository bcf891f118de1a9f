//! The environment of a simulation run besides the gateway: tasks on one thread, flawed adapters, a
//! network that reports silence as "not sent".

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response};
use paymux::domain::amount::CNY;
use paymux::domain::attempt::Stamp;
use paymux::domain::evidence::{Evidence, EvidenceSubject, Finding, Reason};
use paymux::domain::identifiers::{InstitutionId, MerchantId, Timestamp, Uptime};
use paymux::domain::institutions::{CreateSend, Facts, Product, Visibility};
use paymux::institution::{
    Acknowledgement, Call, CallState, Callback, Host, Institution, InstitutionKind, Operation,
    ProvenCallback, Step, Unverified, kind,
};
use paymux::world::sends::{InFlightSend, SendLog, Sends};
use paymux::world::{
    Clock, Outbound, OutboundOptions, OutboundParty, Permit, PermitUnavailable, SendError,
};

use crate::world::clock::ManualClock;
use crate::world::dialect::PlainAdapter;
use crate::world::network::TestNetwork;

/// Set when a task can continue.
struct ReadyFlag {
    ready: AtomicBool,
    runner: Thread,
}

impl Wake for ReadyFlag {
    fn wake(self: Arc<Self>) {
        self.ready.store(true, Ordering::SeqCst);
        self.runner.unpark();
    }
}

type BoxedTask<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// One task of the gateway.
pub(crate) struct SimulatedTask<T> {
    flag: Arc<ReadyFlag>,
    running: BoxedTask<T>,
}

impl<T> SimulatedTask<T> {
    pub(crate) fn new(running: impl Future<Output = T> + Send + 'static) -> Self {
        let flag = ReadyFlag {
            ready: AtomicBool::new(true),
            runner: thread::current(),
        };
        Self {
            flag: Arc::new(flag),
            running: Box::pin(running),
        }
    }

    /// Whether it can continue.
    pub(crate) fn is_ready(&self) -> bool {
        self.flag.ready.load(Ordering::SeqCst)
    }

    /// Runs it until it waits again; returns its result if it finished.
    pub(crate) fn go_on(&mut self) -> Option<T> {
        self.flag.ready.store(false, Ordering::SeqCst);
        let waker = Waker::from(Arc::clone(&self.flag));
        let mut task = Context::from_waker(&waker);
        match self.running.as_mut().poll(&mut task) {
            Poll::Ready(end) => Some(end),
            Poll::Pending => None,
        }
    }
}

/// A gate at which a worker stands still until it opens, like a descheduled thread.
#[derive(Default)]
pub(crate) struct WorkerGate(Mutex<(bool, Option<Waker>)>);

impl WorkerGate {
    pub(crate) fn open(&self) {
        let mut admission = self.0.lock().unwrap();
        admission.0 = true;
        if let Some(waker) = admission.1.take() {
            waker.wake();
        }
    }

    pub(crate) async fn pass(&self) {
        poll_fn(|task| {
            let mut admission = self.0.lock().unwrap();
            if admission.0 {
                return Poll::Ready(());
            }
            admission.1 = Some(task.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

/// An adapter's fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AdapterFlaw {
    /// Reports the requested amount, whatever was paid (E3, O2).
    AskedAmount,
    /// Declares that nothing is ever in flight (A5).
    NoWait,
    /// Treats "not found" as "closed" (A5).
    ClosedForNotFound,
    /// Treats an ambiguous reply, such as a 5xx or a damaged one, as a refusal (V1).
    RefusedForAmbiguous,
    /// Accepts callbacks without verification (C1).
    UnverifiedCallbacks,
    /// Declares that closes of unknown payments are remembered, where they are not (A5).
    ForgetfulClose,
    /// Treats "not found" as a failed refund (R3).
    RefundLost,
    /// Treats an ambiguous reply about a refund as its failure (V1, R3).
    RefundRefusedForAmbiguous,
    /// Declares that creates may be repeated, where they may not (A3).
    RepeatsCreates,
    /// Declares that refunds may be repeated, where they may not (R4).
    RepeatsRefunds,
    /// Acknowledges callbacks whatever their outcome (C4).
    AcknowledgesAlways,
}

fn with_product(mut facts: Facts, change: impl Fn(&mut Product)) -> Facts {
    facts.products.iter_mut().for_each(change);
    facts
}

/// The plain adapter with a flaw.
pub(crate) struct FlawedAdapter {
    plain: PlainAdapter,
    flaw: AdapterFlaw,
}

impl FlawedAdapter {
    pub(crate) fn new(id: InstitutionId, facts: Facts, flaw: AdapterFlaw) -> Self {
        let facts = match flaw {
            AdapterFlaw::NoWait => Facts {
                refund_visibility: Duration::ZERO,
                ..with_product(facts, |product| {
                    product.visibility = Visibility::AfterSend(Duration::ZERO);
                })
            },
            AdapterFlaw::RepeatsCreates => {
                with_product(facts, |product| product.create = CreateSend::Repeatable)
            }
            AdapterFlaw::RepeatsRefunds => Facts {
                repeatable_refund: true,
                ..facts
            },
            AdapterFlaw::RefundLost
            | AdapterFlaw::RefundRefusedForAmbiguous
            | AdapterFlaw::AcknowledgesAlways
            | AdapterFlaw::AskedAmount
            | AdapterFlaw::ClosedForNotFound
            | AdapterFlaw::RefusedForAmbiguous
            | AdapterFlaw::UnverifiedCallbacks
            | AdapterFlaw::ForgetfulClose => facts,
        };
        Self {
            plain: PlainAdapter::new(id, facts),
            flaw,
        }
    }
}

impl Institution for FlawedAdapter {
    fn id(&self) -> &InstitutionId {
        self.plain.id()
    }

    fn kind(&self) -> &'static InstitutionKind {
        kind("standard").unwrap()
    }

    fn facts(&self) -> &Facts {
        self.plain.facts()
    }

    fn origin(&self, host: Host) -> Option<&str> {
        self.plain.origin(host)
    }

    fn begin(&self, call: &Call<'_>, stamp: &Stamp) -> Step<Evidence> {
        self.plain.begin(call, stamp)
    }

    fn next(
        &self,
        call: &Call<'_>,
        state: &CallState,
        reply: &Response<Bytes>,
        stamp: &Stamp,
    ) -> Step<Evidence> {
        let Step::Done(mut read) = self.plain.next(call, state, reply, stamp) else {
            unreachable!("the plain dialect has calls of one step");
        };
        match (&mut read.finding, self.flaw) {
            (Finding::Succeeded(receipt), AdapterFlaw::AskedAmount) => {
                receipt.amount = call.attempt.amount;
            }
            (finding @ Finding::NotFound, AdapterFlaw::ClosedForNotFound) => {
                *finding = Finding::Closed;
            }
            (finding @ Finding::NotFound, AdapterFlaw::ForgetfulClose)
                if matches!(call.operation, Operation::Close) =>
            {
                *finding = Finding::Closed;
            }
            (finding @ Finding::NotFound, AdapterFlaw::RefundLost) if call.refund().is_some() => {
                *finding = Finding::Refused(Reason::from_code("404"));
            }
            (finding @ Finding::Ambiguous(_), AdapterFlaw::RefundRefusedForAmbiguous)
                if call.refund().is_some() =>
            {
                *finding = Finding::Refused(Reason::from_code("500"));
            }
            (finding @ Finding::Ambiguous(_), AdapterFlaw::RefusedForAmbiguous) => {
                *finding = Finding::Refused(Reason::from_code("500"));
            }
            _ => (),
        }
        Step::Done(read)
    }

    fn read_callback<'c>(
        &'c self,
        callback: Callback<'c>,
        now: Timestamp,
    ) -> Result<ProvenCallback<'c>, Unverified> {
        match (self.plain.read_callback(callback, now), self.flaw) {
            (Err(_), AdapterFlaw::UnverifiedCallbacks) => {
                let mut believed = callback.message.clone();
                let body = callback.message.body();
                let proof = crate::world::dialect::proof(self.plain.id.as_str(), body);
                let proof = proof.parse().unwrap();
                believed
                    .headers_mut()
                    .insert(crate::world::dialect::PROOF, proof);
                let believed = Callback::of_institution(&believed);
                let proven = self.plain.read_callback(believed, now)?;
                let (about, evidence) = (proven.about.clone(), proven.evidence(CNY));
                Ok(ProvenCallback::new(about, |_| evidence))
            }
            (read, _) => read,
        }
    }

    fn acknowledge(
        &self,
        callback: Callback<'_>,
        acknowledgement: Acknowledgement,
        request_id: &str,
        stamp: &Stamp,
    ) -> Response<Bytes> {
        let acknowledgement = if self.flaw == AdapterFlaw::AcknowledgesAlways {
            Acknowledgement::Recorded
        } else {
            acknowledgement
        };
        self.plain
            .acknowledge(callback, acknowledgement, request_id, stamp)
    }
}

/// Reports silence as "not sent": the half of E1 that concerns money.
pub(crate) struct SilenceAsUnsentNetwork(pub(crate) Arc<TestNetwork>);

#[async_trait]
impl Outbound for SilenceAsUnsentNetwork {
    async fn send(
        &self,
        party: &OutboundParty,
        request: Request<Bytes>,
        options: OutboundOptions,
    ) -> Result<Response<Bytes>, SendError> {
        self.0
            .send(party, request, options)
            .await
            .map_err(|error| match error {
                SendError::Unknown(why) | SendError::NotSent(why) => SendError::NotSent(why),
                SendError::Throttled(why) | SendError::LocalShortage(why) => {
                    SendError::Throttled(why)
                }
            })
    }

    async fn permit(
        &self,
        institution: &InstitutionId,
        merchant: &MerchantId,
    ) -> Result<Permit, PermitUnavailable> {
        self.0.permit(institution, merchant).await
    }
}

/// A fault in the dating of sends and evidence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MisdatingFlaw {
    /// Dates a send by its decision, not by its end (A5).
    SendsByTheirBeginning,
    /// Dates evidence by its application, not by its query (V5).
    EvidenceByItsApplication,
}

/// A send log with a fault.
pub(crate) struct MisdatedSends {
    misdating: MisdatingFlaw,
    clock: Arc<dyn Clock>,
    log: SendLog,
    /// A log of sends in flight that nothing reads.
    elsewhere: SendLog,
}

impl MisdatedSends {
    pub(crate) fn start(misdating: MisdatingFlaw, clock: &Arc<dyn Clock>) -> Self {
        Self {
            misdating,
            clock: Arc::clone(clock),
            log: SendLog::start(Arc::clone(clock)),
            elsewhere: SendLog::start(Arc::clone(clock)),
        }
    }
}

impl Sends for MisdatedSends {
    fn begin(&self, about: &EvidenceSubject) -> InFlightSend {
        let begun = self.log.begin(about);
        if self.misdating != MisdatingFlaw::SendsByTheirBeginning {
            return begun;
        }
        begun.may_leave();
        self.elsewhere.begin(about)
    }

    fn quiet(&self, about: &EvidenceSubject, queried_at: Uptime) -> Option<Duration> {
        let queried_at = match self.misdating {
            MisdatingFlaw::SendsByTheirBeginning => queried_at,
            MisdatingFlaw::EvidenceByItsApplication => self.clock.uptime(),
        };
        self.log.quiet(about, queried_at)
    }

    fn forget(&self, about: &EvidenceSubject) {
        self.log.forget(about);
    }
}

/// Uses the wall clock for elapsed time (T1, T2).
pub(crate) struct WallUptimeClock(pub(crate) Arc<ManualClock>);

impl Clock for WallUptimeClock {
    fn now(&self) -> Timestamp {
        self.0.now()
    }

    fn uptime(&self) -> Uptime {
        Uptime::from_ms(u64::try_from(self.0.now().ms()).unwrap())
    }
}
