//! Open loop: requests arrive by schedule, whether earlier ones were answered or not, and latency
//! counts from the scheduled moment, so slow answers do not hide latency (no coordinated omission).

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::load::BenchCaller;
use crate::load::closed::{Round, RunDurations, Sustained};
use crate::load::metronome::{self, Phase};
use crate::load::work::{LoadWork, WorkOutcome};
use crate::setup::cpu::{MeasuredProcess, own_ns};

/// Idle callers, and the indices of work that was not done yet.
pub(crate) struct CallerPool {
    /// The longest idle comes first, so that all are used, not the same few.
    free: Mutex<VecDeque<BenchCaller>>,
    permits: Semaphore,
    work: Arc<LoadWork>,
    undone: Mutex<VecDeque<usize>>,
}

/// What an arrival does if every connection is in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SaturationPolicy {
    /// Waits in a queue; the wait counts as latency.
    Waits,
    /// Leaves, and is counted.
    Leaves,
}

/// The outcome of an arrival.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ArrivalOutcome {
    Good,
    Rejected,
    Unexpected,
    /// Every connection was in use, or the prepared requests were used up.
    NotSent,
}

/// One arrival.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Arrival {
    /// Its scheduled time since the start. Unit: microseconds.
    pub(crate) at_us: u32,
    /// From then until the last byte of the answer. Unit: microseconds.
    pub(crate) latency_us: u32,
    /// From then until its first byte was sent. Unit: microseconds.
    pub(crate) late_us: u32,
    /// Of a payment: from the callback's first byte to the merchant's acknowledgement. Unit:
    /// microseconds.
    pub(crate) notified_us: u32,
    pub(crate) served: ArrivalOutcome,
}

/// All arrivals, and the first unexpected answer.
pub(crate) struct Arrivals {
    /// When the first was scheduled.
    pub(crate) begin: Instant,
    pub(crate) all: Vec<Arrival>,
    pub(crate) oddity: Option<String>,
}

impl CallerPool {
    pub(crate) fn new(callers: Vec<BenchCaller>, work: Arc<LoadWork>, first: usize) -> Arc<Self> {
        Arc::new(Self {
            permits: Semaphore::new(callers.len()),
            free: Mutex::new(callers.into()),
            undone: Mutex::new((first..work.len()).collect()),
            work,
        })
    }

    /// Runs the phases, and waits until the last request is answered.
    pub(crate) async fn come(
        self: &Arc<Self>,
        phases: &[Phase],
        when_saturated: SaturationPolicy,
    ) -> Result<Arrivals> {
        self.come_until(phases, when_saturated, || false).await
    }

    /// The same, but stops arrivals once `over` returns true.
    pub(crate) async fn come_until(
        self: &Arc<Self>,
        phases: &[Phase],
        when_saturated: SaturationPolicy,
        over: impl Fn() -> bool,
    ) -> Result<Arrivals> {
        let (begin, mut arrivals) = metronome::start(phases);
        let mut serving: JoinSet<(Arrival, Option<String>)> = JoinSet::new();
        let mut came = Arrivals {
            begin,
            all: Vec::new(),
            oddity: None,
        };
        while let Some(moment) = arrivals.recv().await {
            if over() {
                break;
            }
            serving.spawn(Arc::clone(self).serve(begin, moment, when_saturated));
            while let Some(served) = serving.try_join_next() {
                came.take(served?);
            }
        }
        while let Some(served) = serving.join_next().await {
            came.take(served?);
        }
        Ok(came)
    }

    async fn serve(
        self: Arc<Self>,
        begin: Instant,
        moment: Instant,
        when_saturated: SaturationPolicy,
    ) -> (Arrival, Option<String>) {
        let us = |from: Instant, to: Instant| {
            let span = to.saturating_duration_since(from);
            u32::try_from(span.as_micros()).unwrap_or(u32::MAX)
        };
        let mut arrival = Arrival {
            at_us: us(begin, moment),
            latency_us: 0,
            late_us: 0,
            notified_us: 0,
            served: ArrivalOutcome::NotSent,
        };
        let permit = match when_saturated {
            SaturationPolicy::Waits => self.permits.acquire().await.ok(),
            SaturationPolicy::Leaves => self.permits.try_acquire().ok(),
        };
        let caller = permit.as_ref().and_then(|_| lock(&self.free).pop_front());
        let Some(mut caller) = caller else {
            return (arrival, None);
        };
        let mut oddity = None;
        let at = lock(&self.undone).pop_front();
        if let Some(at) = at {
            arrival.late_us = us(moment, Instant::now());
            let done = self.work.once(&mut caller, at).await;
            arrival.latency_us = us(moment, Instant::now());
            arrival.served = match done {
                WorkOutcome::Good { notified_us } => {
                    arrival.notified_us = notified_us;
                    ArrivalOutcome::Good
                }
                WorkOutcome::Rejected { spent } => {
                    // Nothing was recorded and the nonce is not spent: the same request can be sent
                    // again.
                    if !spent {
                        lock(&self.undone).push_back(at);
                    }
                    ArrivalOutcome::Rejected
                }
                WorkOutcome::Odd(answer) => {
                    oddity = Some(answer);
                    ArrivalOutcome::Unexpected
                }
            };
        }
        lock(&self.free).push_back(caller);
        drop(permit);
        (arrival, oddity)
    }
}

/// Sends a scheduled rate to `party`, independent of its answers.
pub(crate) async fn scheduled(
    party: &MeasuredProcess,
    open: Vec<BenchCaller>,
    work: Arc<LoadWork>,
    per_second: f64,
    span: RunDurations,
) -> Result<Sustained> {
    let RunDurations { warming, measured } = span;
    let pool = CallerPool::new(open, work, 0);
    let phases = [Phase {
        per_second,
        lasting: warming + measured,
    }];
    let warm = async {
        let warm = tokio::time::Instant::now() + warming;
        let mut warmed = tokio::time::interval_at(warm, measured);
        warmed.tick().await;
        (party.spent(), own_ns())
    };
    let (came, (spent, own)) = tokio::join!(pool.come(&phases, SaturationPolicy::Waits), warm);
    let (mut came, ended, own_ended) = (came?, party.spent(), own_ns());
    came.all_well()?;
    let answered = came.all.len();
    came.begins_after(warming);
    let latencies_us = came.sorted(ArrivalOutcome::Good, |one| one.latency_us);
    let round = Round {
        requests: latencies_us.len(),
        wall_s: measured.as_secs_f64(),
        latencies_us,
        spent: ended.since(&spent),
        ended,
        load_ns: own_ended.saturating_sub(own),
    };
    Ok(Sustained { round, answered })
}

impl Arrivals {
    fn take(&mut self, (arrival, oddity): (Arrival, Option<String>)) {
        self.all.push(arrival);
        if self.oddity.is_none() {
            self.oddity = oddity;
        }
    }

    /// An error unless all succeeded.
    pub(crate) fn all_well(&self) -> Result<()> {
        let (all, well) = (self.all.len(), self.count(ArrivalOutcome::Good));
        ensure!(
            well == all,
            "{} of {all} did not succeed: {} shed, {}",
            all - well,
            self.count(ArrivalOutcome::Rejected),
            self.oddity.as_deref().unwrap_or("no unexpected answer")
        );
        Ok(())
    }

    /// Drops those scheduled earlier.
    pub(crate) fn begins_after(&mut self, warming: Duration) {
        self.all
            .retain(|one| u128::from(one.at_us) >= warming.as_micros());
    }

    pub(crate) fn count(&self, served: ArrivalOutcome) -> usize {
        let such = self.all.iter().filter(|one| one.served == served);
        such.count()
    }

    /// Sorted values of those with this outcome. Unit: microseconds.
    pub(crate) fn sorted(&self, served: ArrivalOutcome, of: impl Fn(&Arrival) -> u32) -> Vec<u32> {
        let such = self.all.iter().filter(|one| one.served == served);
        let mut values: Vec<u32> = such.map(of).collect();
        values.sort_unstable();
        values
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
