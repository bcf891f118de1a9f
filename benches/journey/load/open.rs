//! Open loop: callers come when the schedule says, whether those before them were answered or not,
//! and their waiting counts from that moment. Nobody's slowness hides anybody's waiting.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::load::Caller;
use crate::load::closed::{Round, Span, Sustained};
use crate::load::metronome::{self, Phase};
use crate::load::work::{Done, Work};
use crate::stand::cpu::{Party, own_ns};

/// Callers who are free, and numbers of work that was not done yet.
pub(crate) struct Crowd {
    /// The one that was free longest comes first: those who come are many, not the same few.
    free: Mutex<VecDeque<Caller>>,
    permits: Semaphore,
    work: Arc<Work>,
    undone: Mutex<VecDeque<usize>>,
}

/// What somebody does who comes while every connection is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Crowded {
    /// Waits in line; that waiting counts.
    Waits,
    /// Goes away, and is counted as one who did.
    Leaves,
}

/// How one that came was served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Served {
    Well,
    Shed,
    Oddly,
    /// Every connection was taken, or the prepared requests were used up.
    NotAtAll,
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
    pub(crate) served: Served,
}

/// All that came, and the first surprising answer.
pub(crate) struct Came {
    /// When the first was to come.
    pub(crate) begin: Instant,
    pub(crate) arrivals: Vec<Arrival>,
    pub(crate) oddity: Option<String>,
}

impl Crowd {
    pub(crate) fn new(callers: Vec<Caller>, work: Arc<Work>, first: usize) -> Arc<Self> {
        Arc::new(Self {
            permits: Semaphore::new(callers.len()),
            free: Mutex::new(callers.into()),
            undone: Mutex::new((first..work.len()).collect()),
            work,
        })
    }

    /// Lets them come as the phases say, and waits until the last is served.
    pub(crate) async fn come(self: &Arc<Self>, phases: &[Phase], crowded: Crowded) -> Result<Came> {
        self.come_until(phases, crowded, || false).await
    }

    /// The same, but nobody comes any more once it is over.
    pub(crate) async fn come_until(
        self: &Arc<Self>,
        phases: &[Phase],
        crowded: Crowded,
        over: impl Fn() -> bool,
    ) -> Result<Came> {
        let (begin, mut coming) = metronome::start(phases);
        let mut serving: JoinSet<(Arrival, Option<String>)> = JoinSet::new();
        let mut came = Came {
            begin,
            arrivals: Vec::new(),
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
        crowded: Crowded,
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
            served: Served::NotAtAll,
        };
        let permit = match crowded {
            Crowded::Waits => self.permits.acquire().await.ok(),
            Crowded::Leaves => self.permits.try_acquire().ok(),
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
                Done::Good { told_us } => {
                    arrival.told_us = told_us;
                    Served::Well
                }
                Done::Shed { spent } => {
                    // Nothing was recorded and the nonce is not spent: the same may come again.
                    if !spent {
                        held(&self.undone).push_back(at);
                    }
                    Served::Shed
                }
                Done::Odd(answer) => {
                    oddity = Some(answer);
                    Served::Oddly
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
    party: &Party,
    open: Vec<Caller>,
    work: Arc<Work>,
    per_second: f64,
    span: Span,
) -> Result<Sustained> {
    let Span { warming, measured } = span;
    let crowd = Crowd::new(open, work, 0);
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
    let (came, (spent, own)) = tokio::join!(crowd.come(&phases, Crowded::Waits), warm);
    let (mut came, ended, own_ended) = (came?, party.spent(), own_ns());
    came.all_well()?;
    let answered = came.arrivals.len();
    came.begins_after(warming);
    let latencies_us = came.sorted(Served::Well, |one| one.latency_us);
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

impl Came {
    fn take(&mut self, (arrival, oddity): (Arrival, Option<String>)) {
        self.arrivals.push(arrival);
        if self.oddity.is_none() {
            self.oddity = oddity;
        }
    }

    /// An error unless all were served well.
    pub(crate) fn all_well(&self) -> Result<()> {
        let (all, well) = (self.arrivals.len(), self.count(Served::Well));
        ensure!(
            well == all,
            "{} of {all} were not served well: {} shed, {}",
            all - well,
            self.count(Served::Shed),
            self.oddity.as_deref().unwrap_or("nothing odd")
        );
        Ok(())
    }

    /// Forgets those who were to come earlier.
    pub(crate) fn begins_after(&mut self, warming: Duration) {
        self.arrivals
            .retain(|one| u128::from(one.at_us) >= warming.as_micros());
    }

    pub(crate) fn count(&self, served: Served) -> usize {
        let such = self.arrivals.iter().filter(|one| one.served == served);
        such.count()
    }

    /// Sorted values of those that were served so. Unit: microseconds.
    pub(crate) fn sorted(&self, served: Served, of: impl Fn(&Arrival) -> u32) -> Vec<u32> {
        let such = self.arrivals.iter().filter(|one| one.served == served);
        let mut values: Vec<u32> = such.map(of).collect();
        values.sort_unstable();
        values
    }
}

fn held<T>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}
