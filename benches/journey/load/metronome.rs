//! The schedule of independent callers: fixed beforehand and kept by a thread of its own, because
//! the runtime's timer has a resolution of one millisecond.

use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

/// The minimum interval between wake-ups, so that the thread costs the load's core little. Its
/// lateness counts as the callers' latency and is reported.
const WAKE_EVERY: Duration = Duration::from_micros(100);
/// The time until the first arrival.
const LEAD: Duration = Duration::from_millis(20);

/// A rate and its duration.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Phase {
    pub(crate) per_second: f64,
    pub(crate) lasting: Duration,
}

/// The moments of arrival, evenly spaced within each phase, sent when due.
pub(crate) fn start(phases: &[Phase]) -> (Instant, UnboundedReceiver<Instant>) {
    let begin = Instant::now() + LEAD;
    let mut moments = Vec::new();
    let mut offset = Duration::ZERO;
    for phase in phases {
        let gap = Duration::from_secs_f64(1.0 / phase.per_second);
        let count = (phase.lasting.as_secs_f64() * phase.per_second) as u32;
        moments.extend((0..count).map(|at| begin + offset + gap * at));
        offset += phase.lasting;
    }
    let (due, coming) = unbounded_channel();
    thread::spawn(move || {
        let mut wake = begin;
        for moment in moments {
            loop {
                let now = Instant::now();
                if moment <= now {
                    break;
                }
                thread::park_timeout(moment.max(wake).saturating_duration_since(now));
                wake = Instant::now() + WAKE_EVERY;
            }
            if due.send(moment).is_err() {
                return;
            }
        }
    });
    (begin, coming)
}
