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
use paymux::domain::evidence::{About, Evidence, Finding, Reason};
use paymux::domain::identifiers::{InstitutionId, MerchantId, Timestamp, Uptime};
use paymux::domain::institutions::Facts;
use paymux::institution::{Call, CallState, Heard, Host, Institution, Step, Told, Unverified};
use paymux::world::sends::{InFlight, SendLog, Sends};
use paymux::world::{Clock, Outbound, Party, Patience, SendError, TooMany, Turn};

use crate::world::clock::Hands;
use crate::world::dialect::Plain;
use crate::world::network::Network;

/// Set when a task can go on.
struct Flag {
    ready: AtomicBool,
    runner: Thread,
}

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.ready.store(true, Ordering::SeqCst);
        self.runner.unpark();
    }
}

type Running<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// One thing the gateway is doing.
pub(crate) struct Task<T> {
    flag: Arc<Flag>,
    running: Running<T>,
}

impl<T> Task<T> {
    pub(crate) fn new(running: impl Future<Output = T> + Send + 'static) -> Self {
        let flag = Flag {
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
pub(crate) struct Gate(Mutex<(bool, Option<Waker>)>);

impl Gate {
    pub(crate) fn open(&self) {
        let mut gate = self.0.lock().unwrap();
        gate.0 = true;
        if let Some(waker) = gate.1.take() {
            waker.wake();
        }
    }

    pub(crate) async fn pass(&self) {
        poll_fn(|task| {
            let mut gate = self.0.lock().unwrap();
            if gate.0 {
                return Poll::Ready(());
            }
            gate.1 = Some(task.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

/// What an adapter does wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flaw {
    /// Reports the sum that was asked, whatever came (E3, O2).
    AskedAmount,
    /// Declares that nothing is ever on its way (A5).
    NoWait,
    /// Takes "not found" for "closed" (A5).
    ClosedForNotFound,
    /// Takes silence's cousins, a 5xx or damage, for a refusal (V1).
    RefusedForAmbiguous,
    /// Believes callbacks without their proof (C1).
    Credulous,
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
    Eager,
}

/// The plain adapter with a flaw.
pub(crate) struct Flawed {
    plain: Plain,
    flaw: Flaw,
}

impl Flawed {
    pub(crate) fn new(id: InstitutionId, facts: Facts, flaw: Flaw) -> Self {
        let facts = match flaw {
            Flaw::NoWait => Facts {
                visibility_ms: 0,
                ..facts
            },
            Flaw::RepeatsCreates => Facts {
                repeatable_create: true,
                ..facts
            },
            Flaw::RepeatsRefunds => Facts {
                repeatable_refund: true,
                ..facts
            },
            Flaw::RefundLost
            | Flaw::RefundRefusedForAmbiguous
            | Flaw::Eager
            | Flaw::AskedAmount
            | Flaw::ClosedForNotFound
            | Flaw::RefusedForAmbiguous
            | Flaw::Credulous
            | Flaw::ForgetfulClose => facts,
        };
        Self {
            plain: Plain::new(id, facts),
            flaw,
        }
    }
}

impl Institution for Flawed {
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
            (Finding::Succeeded(receipt), Flaw::AskedAmount) => {
                receipt.amount = call.attempt().amount;
            }
            (finding @ Finding::NotFound, Flaw::ClosedForNotFound) => *finding = Finding::Closed,
            (finding @ Finding::NotFound, Flaw::ForgetfulClose)
                if matches!(call, Call::Close(..)) =>
            {
                *finding = Finding::Closed;
            }
            (finding @ Finding::NotFound, Flaw::RefundLost) if call.refund().is_some() => {
                *finding = Finding::Refused(Reason::from_code("404"));
            }
            (finding @ Finding::Ambiguous(_), Flaw::RefundRefusedForAmbiguous)
                if call.refund().is_some() =>
            {
                *finding = Finding::Refused(Reason::from_code("500"));
            }
            (finding @ Finding::Ambiguous(_), Flaw::RefusedForAmbiguous) => {
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
    ) -> Result<Told<'c>, Unverified> {
        match (self.plain.read_callback(callback, now), self.flaw) {
            (Err(_), Flaw::Credulous) => {
                let mut believed = callback.clone();
                let proof = crate::world::dialect::proof(self.plain.id.as_str(), callback.body());
                let proof = proof.parse().unwrap();
                believed
                    .headers_mut()
                    .insert(crate::world::dialect::PROOF, proof);
                let told = self.plain.read_callback(&believed, now)?;
                let (about, told) = (told.about.clone(), told.evidence(CNY));
                Ok(Told::new(about, |_| told))
            }
            (read, _) => read,
        }
    }

    fn acknowledge(
        &self,
        callback: &Request<Bytes>,
        heard: Heard,
        request_id: &str,
        stamp: &Stamp,
    ) -> Response<Bytes> {
        let heard = if self.flaw == Flaw::Eager {
            Heard::Recorded
        } else {
            heard
        };
        self.plain.acknowledge(callback, heard, request_id, stamp)
    }
}

/// Takes silence for "not sent": the half of E1 that is money.
pub(crate) struct Hasty(pub(crate) Arc<Network>);

#[async_trait]
impl Outbound for Hasty {
    async fn send(
        &self,
        party: &Party,
        request: Request<Bytes>,
        patience: Patience,
    ) -> Result<Response<Bytes>, SendError> {
        self.0
            .send(party, request, patience)
            .await
            .map_err(|error| match error {
                SendError::Unknown(why) | SendError::NotSent(why) => SendError::NotSent(why),
                SendError::KeptBack(why) | SendError::OurShortage(why) => SendError::KeptBack(why),
            })
    }

    async fn turn(
        &self,
        institution: &InstitutionId,
        merchant: &MerchantId,
    ) -> Result<Turn, TooMany> {
        self.0.turn(institution, merchant).await
    }
}

/// What is wrong with how sends and news are dated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Misdating {
    /// A send by when it was decided, not by when it was over (A5).
    SendsByTheirBeginning,
    /// News by when it is weighed, not by when it was asked for (V5).
    NewsByItsWeighing,
}

/// An account of sends with something wrong.
pub(crate) struct Misdated {
    misdating: Misdating,
    clock: Arc<dyn Clock>,
    log: SendLog,
    /// Where what is under way is written down and nobody looks.
    elsewhere: SendLog,
}

impl Misdated {
    pub(crate) fn start(misdating: Misdating, clock: &Arc<dyn Clock>) -> Self {
        Self {
            misdating,
            clock: Arc::clone(clock),
            log: SendLog::start(Arc::clone(clock)),
            elsewhere: SendLog::start(Arc::clone(clock)),
        }
    }
}

impl Sends for Misdated {
    fn begin(&self, about: &About) -> InFlight {
        let begun = self.log.begin(about);
        if self.misdating != Misdating::SendsByTheirBeginning {
            return begun;
        }
        begun.may_leave();
        self.elsewhere.begin(about)
    }

    fn quiet(&self, about: &About, asked_at: Uptime) -> Option<Duration> {
        let asked_at = match self.misdating {
            Misdating::SendsByTheirBeginning => asked_at,
            Misdating::NewsByItsWeighing => self.clock.uptime(),
        };
        self.log.quiet(about, asked_at)
    }

    fn forget(&self, about: &About) {
        self.log.forget(about);
    }
}

/// Takes the clock on the wall for time that passed (T1, T2).
pub(crate) struct Wall(pub(crate) Arc<Hands>);

impl Clock for Wall {
    fn now(&self) -> Timestamp {
        self.0.now()
    }

    fn uptime(&self) -> Uptime {
        Uptime::from_ms(u64::try_from(self.0.now().ms()).unwrap())
    }
}
