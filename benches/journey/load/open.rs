//! Open loop: callers come when the schedule says, whether those before them were answered or not,
//! and their waiting counts from that moment. Nobody's slowness hides anybody's waiting.

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

/// Callers who are free, and numbers of work that was not done yet.
pub(crate) struct CallerPool {
    /// The one that was free longest comes first: those who come are many, not the same few.
    free: Mutex<VecDeque<BenchCaller>>,
    permits: Semaphore,
    work: Arc<LoadWork>,
    undone: Mutex<VecDeque<usize>>,
}

/// What somebody does who comes while every connection is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SaturationPolicy {
    /// Waits in line; that waiting counts.
    Waits,
    /// Goes away, and is counted as one who did.
    Leaves,
}

/// How one that came was served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ArrivalOutcome {
    Good,
    Rejected,
    Unexpected,
    /// Every connection was taken, or the prepared requests were used up.
    NotSent,
}

/// One that came.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Arrival {
    /// When it was to come, since the begin. Unit: microseconds.
    pub(crate) at_us: u32,
    /// From then until its answer's last byte. Unit: microseconds.
    pub(crate) latency_us: u32,
    /// From then until its first byte was sent. Unit: microseconds.
    pub(crate) late_us: u32,
    /// Of a payment: from its callback's first byte to the merchant's acknowledgement.
    /// Unit: microseconds.
    pub(crate) told_us: u32,
    pub(crate) served: ArrivalOutcome,
}

/// All that came, and the first surprising answer.
pub(crate) struct Arrivals {
    /// When the first was to come.
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

    /// Lets them come as the phases say, and waits until the last is served.
    pub(crate) async fn come(
        self: &Arc<Self>,
        phases: &[Phase],
        crowded: SaturationPolicy,
    ) -> Result<Arrivals> {
        self.come_until(phases, crowded, || false).await
    }

    /// The same, but nobody comes any more once it is over.
    pub(crate) async fn come_until(
        self: &Arc<Self>,
        phases: &[Phase],
        crowded: SaturationPolicy,
        over: impl Fn() -> bool,
    ) -> Result<Arrivals> {
        let (begin, mut coming) = metronome::start(phases);
        let mut serving: JoinSet<(Arrival, Option<String>)> = JoinSet::new();
        let mut came = Arrivals {
            begin,
            all: Vec::new(),
            oddity: None,
        };
        while let Some(moment) = coming.recv().await {
            if over() {
                break;
            }
            serving.spawn(Arc::clone(self).serve(begin, moment, crowded));
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
        crowded: SaturationPolicy,
    ) -> (Arrival, Option<String>) {
        let us = |from: Instant, to: Instant| {
            let span = to.saturating_duration_since(from);
            u32::try_from(span.as_micros()).unwrap_or(u32::MAX)
        };
        let mut arrival = Arrival {
            at_us: us(begin, moment),
            latency_us: 0,
            late_us: 0,
            told_us: 0,
            served: ArrivalOutcome::NotSent,
        };
        let permit = match crowded {
            SaturationPolicy::Waits => self.permits.acquire().await.ok(),
            SaturationPolicy::Leaves => self.permits.try_acquire().ok(),
        };
        let caller = permit.as_ref().and_then(|_| held(&self.free).pop_front());
        let Some(mut caller) = caller else {
            return (arrival, None);
        };
        let mut oddity = None;
        let at = held(&self.undone).pop_front();
        if let Some(at) = at {
            arrival.late_us = us(moment, Instant::now());
            let done = self.work.once(&mut caller, at).await;
            arrival.latency_us = us(moment, Instant::now());
            arrival.served = match done {
                WorkOutcome::Good { told_us } => {
                    arrival.told_us = told_us;
                    ArrivalOutcome::Good
                }
                WorkOutcome::Rejected { spent } => {
                    // Nothing was recorded and the nonce is not spent: the same may come again.
                    if !spent {
                        held(&self.undone).push_back(at);
                    }
                    ArrivalOutcome::Rejected
                }
                WorkOutcome::Odd(answer) => {
                    oddity = Some(answer);
                    ArrivalOutcome::Unexpected
                }
            };
        }
        held(&self.free).push_back(caller);
        drop(permit);
        (arrival, oddity)
    }
}

/// So many a second come to `party`, whether those before them were answered or not.
pub(crate) async fn scheduled(
    party: &MeasuredProcess,
    open: Vec<BenchCaller>,
    work: Arc<LoadWork>,
    per_second: f64,
    span: RunDurations,
) -> Result<Sustained> {
    let RunDurations { warming, measured } = span;
    let crowd = CallerPool::new(open, work, 0);
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
    let (came, (spent, own)) = tokio::join!(crowd.come(&phases, SaturationPolicy::Waits), warm);
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

    /// An error unless all were served well.
    pub(crate) fn all_well(&self) -> Result<()> {
        let (all, well) = (self.all.len(), self.count(ArrivalOutcome::Good));
        ensure!(
            well == all,
            "{} of {all} were not served well: {} shed, {}",
            all - well,
            self.count(ArrivalOutcome::Rejected),
            self.oddity.as_deref().unwrap_or("nothing odd")
        );
        Ok(())
    }

    /// Forgets those who were to come earlier.
    pub(crate) fn begins_after(&mut self, warming: Duration) {
        self.all
            .retain(|one| u128::from(one.at_us) >= warming.as_micros());
    }

    pub(crate) fn count(&self, served: ArrivalOutcome) -> usize {
        let such = self.all.iter().filter(|one| one.served == served);
        such.count()
    }

    /// Sorted values of those that were served so. Unit: microseconds.
    pub(crate) fn sorted(&self, served: ArrivalOutcome, of: impl Fn(&Arrival) -> u32) -> Vec<u32> {
        let such = self.all.iter().filter(|one| one.served == served);
        let mut values: Vec<u32> = such.map(of).collect();
        values.sort_unstable();
        values
    }
}

fn held<T>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}
