//! What a life is made of beside the gateway: tasks on one thread, an adapter with a flaw, a
//! network that takes silence for "not sent".

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
use paymux::domain::institutions::Facts;
use paymux::institution::{
    Acknowledgement, Call, CallState, Host, Institution, ProvenCallback, Step, Unverified,
};
use paymux::world::sends::{InFlightSend, SendLog, Sends};
use paymux::world::{
    Clock, Outbound, OutboundOptions, OutboundParty, Permit, PermitUnavailable, SendError,
};

use crate::world::clock::ManualClock;
use crate::world::dialect::PlainAdapter;
use crate::world::network::TestNetwork;

/// Set when a task can go on.
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

/// One thing the gateway is doing.
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

    /// Whether it has reason to go on.
    pub(crate) fn is_ready(&self) -> bool {
        self.flag.ready.load(Ordering::SeqCst)
    }

    /// Goes on until it waits again; its end, if it came to that.
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

/// Where somebody stands still until let go: a thread that was not given the processor.
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

/// What an adapter does wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AdapterFlaw {
    /// Reports the sum that was asked, whatever came (E3, O2).
    AskedAmount,
    /// Declares that nothing is ever on its way (A5).
    NoWait,
    /// Takes "not found" for "closed" (A5).
    ClosedForNotFound,
    /// Takes silence's cousins, a 5xx or damage, for a refusal (V1).
    RefusedForAmbiguous,
    /// Believes callbacks without their proof (C1).
    UnverifiedCallbacks,
    /// Says that closes of what it has not seen are remembered, where they are not (A5).
    ForgetfulClose,
    /// Takes "not found" for a refund that has failed (R3).
    RefundLost,
    /// Takes doubt about a refund for its failure (V1, R3).
    RefundRefusedForAmbiguous,
    /// Says that creates may be repeated, where they may not (A3).
    RepeatsCreates,
    /// Says that refunds may be repeated, where they may not (R4).
    RepeatsRefunds,
    /// Acknowledges callbacks whatever became of them (C4).
    AcknowledgesAlways,
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
                visibility_ms: 0,
                ..facts
            },
            AdapterFlaw::RepeatsCreates => Facts {
                repeatable_create: true,
                ..facts
            },
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
                receipt.amount = call.attempt().amount;
            }
            (finding @ Finding::NotFound, AdapterFlaw::ClosedForNotFound) => {
                *finding = Finding::Closed;
            }
            (finding @ Finding::NotFound, AdapterFlaw::ForgetfulClose)
                if matches!(call, Call::Close(..)) =>
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
        callback: &'c Request<Bytes>,
        now: Timestamp,
    ) -> Result<ProvenCallback<'c>, Unverified> {
        match (self.plain.read_callback(callback, now), self.flaw) {
            (Err(_), AdapterFlaw::UnverifiedCallbacks) => {
                let mut believed = callback.clone();
                let proof = crate::world::dialect::proof(self.plain.id.as_str(), callback.body());
                let proof = proof.parse().unwrap();
                believed
                    .headers_mut()
                    .insert(crate::world::dialect::PROOF, proof);
                let told = self.plain.read_callback(&believed, now)?;
                let (about, told) = (told.about.clone(), told.evidence(CNY));
                Ok(ProvenCallback::new(about, |_| told))
            }
            (read, _) => read,
        }
    }

    fn acknowledge(
        &self,
        callback: &Request<Bytes>,
        heard: Acknowledgement,
        request_id: &str,
        stamp: &Stamp,
    ) -> Response<Bytes> {
        let heard = if self.flaw == AdapterFlaw::AcknowledgesAlways {
            Acknowledgement::Recorded
        } else {
            heard
        };
        self.plain.acknowledge(callback, heard, request_id, stamp)
    }
}

/// Takes silence for "not sent": the half of E1 that is money.
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

/// What is wrong with how sends and news are dated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MisdatingFlaw {
    /// A send by when it was decided, not by when it was over (A5).
    SendsByTheirBeginning,
    /// News by when it is weighed, not by when it was asked for (V5).
    EvidenceByItsApplication,
}

/// An account of sends with something wrong.
pub(crate) struct MisdatedSends {
    misdating: MisdatingFlaw,
    clock: Arc<dyn Clock>,
    log: SendLog,
    /// Where what is under way is written down and nobody looks.
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

    fn quiet(&self, about: &EvidenceSubject, asked_at: Uptime) -> Option<Duration> {
        let asked_at = match self.misdating {
            MisdatingFlaw::SendsByTheirBeginning => asked_at,
            MisdatingFlaw::EvidenceByItsApplication => self.clock.uptime(),
        };
        self.log.quiet(about, asked_at)
    }

    fn forget(&self, about: &EvidenceSubject) {
        self.log.forget(about);
    }
}

/// Takes the clock on the wall for time that passed (T1, T2).
pub(crate) struct WallUptimeClock(pub(crate) Arc<ManualClock>);

impl Clock for WallUptimeClock {
    fn now(&self) -> Timestamp {
        self.0.now()
    }

    fn uptime(&self) -> Uptime {
        Uptime::from_ms(u64::try_from(self.0.now().ms()).unwrap())
    }
}
