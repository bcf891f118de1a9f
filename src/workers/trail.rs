//! Notes on their way to the store: taken into a queue with bounds, written by the handful. Nothing of
//! a payment waits for it, and what finds no room is counted and gone.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::sync::{Mutex, mpsc, watch};

use super::nap;
use crate::domain::identifiers::{PayOrderNo, Timestamp};
use crate::flow::trail;
use crate::metrics::Metrics;
use crate::store::StoreError;
use crate::store::trails::{FORGOTTEN_AT_ONCE, Kinds, LEAF_BYTES, Leaf, Trails};
use crate::world::Clock;
use crate::world::trail::{Note, Trail};

/// Notes that wait at most.
const WAITING_MAX: usize = 4_096;

/// Of strangers' notes so many: they have a queue of their own, so that a crowd of them drives out
/// nobody else's.
const STRANGERS_WAITING_MAX: usize = 64;

/// Notes that are looked up, masked and kept at once, so that no payment waits long for it.
const AT_ONCE: usize = 64;

/// What was gathered is written over so long: all at once it would take the processor from whoever pays.
const WRITTEN_OVER: Duration = Duration::from_millis(800);

/// How long a note may wait for others to be written with: what is of one order goes into one leaf.
const GATHERED_FOR: Duration = Duration::from_secs(1);

/// So many do not wait any longer.
const CROWD: usize = WAITING_MAX / 4;

/// With so many there is no time to rest.
const NO_REST: usize = WAITING_MAX / 4 * 3;

/// How often it is looked whether there are so many.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// How often old leaves are looked for.
const FORGET_EVERY: Duration = Duration::from_mins(1);

const DAY_MS: i64 = 86_400_000;

/// Takes notes for the worker.
pub struct Notes {
    known: mpsc::Sender<Note>,
    strangers: mpsc::Sender<Note>,
    /// Callbacks that paid: nothing else takes their room.
    paying: mpsc::Sender<Note>,
    days: AtomicU32,
    metrics: Arc<Metrics>,
    waiting: Mutex<Waiting>,
}

struct Waiting {
    known: mpsc::Receiver<Note>,
    strangers: mpsc::Receiver<Note>,
    paying: mpsc::Receiver<Note>,
}

impl Notes {
    /// Takes notes that are kept for so many days; none if for 0.
    pub fn new(days: u32, metrics: Arc<Metrics>) -> Self {
        let (known, of_known) = mpsc::channel(WAITING_MAX);
        let (strangers, of_strangers) = mpsc::channel(STRANGERS_WAITING_MAX);
        let (paying, of_paying) = mpsc::channel(WAITING_MAX);
        let waiting = Waiting {
            known: of_known,
            strangers: of_strangers,
            paying: of_paying,
        };
        Self {
            known,
            strangers,
            paying,
            days: AtomicU32::new(days),
            metrics,
            waiting: Mutex::new(waiting),
        }
    }

    /// Writes what comes, until told to stop; then writes what is there.
    pub async fn write(
        &self,
        trails: &dyn Trails,
        clock: &dyn Clock,
        mut stop: watch::Receiver<bool>,
    ) {
        let mut waiting = self.waiting.lock().await;
        let (mut looked, mut wrote) = (clock.now(), clock.now());
        let mut ticks = tokio::time::interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let is_over = tokio::select! {
                _ = ticks.tick() => false,
                _ = stop.wait_for(|stop| *stop) => true,
            };
            // Before it wrote last: the clock was set back.
            let now = clock.now();
            let is_time = now.since(wrote) >= GATHERED_FOR || now < wrote;
            if !is_time && !is_over && waiting.known.len() < CROWD {
                continue;
            }
            wrote = clock.now();
            self.keep(trails, &mut waiting, is_over).await;
            if is_over {
                return;
            }
            if clock.now() < looked {
                looked = clock.now();
            }
            // Under a clock that may be ahead none: what is gone does not come back when it is put right.
            if clock.now().since(looked) >= FORGET_EVERY && clock.is_settled() {
                looked = clock.now();
                self.forget(trails, looked).await;
            }
        }
    }

    /// What is of one order lies side by side; a handful at once, and a rest between two, unless `is_over`
    /// or too many wait already.
    async fn keep(&self, trails: &dyn Trails, waiting: &mut Waiting, is_over: bool) {
        let notes = waiting.all();
        // Each handful is looked up and kept.
        let steps = notes.len().div_ceil(AT_ONCE).saturating_mul(2);
        let steps = u32::try_from(steps).unwrap_or(u32::MAX);
        let rest = match notes.len() {
            0..=AT_ONCE => Duration::ZERO,
            _ => WRITTEN_OVER.checked_div(steps).unwrap_or_default(),
        };
        let rested = async |waiting: &Waiting| {
            if !is_over && waiting.known.len() < NO_REST {
                nap(rest).await;
            }
        };
        let mut found = Vec::with_capacity(notes.len());
        for some in notes.chunks(AT_ONCE) {
            let keys: Vec<_> = some.iter().map(|note| note.about.clone()).collect();
            match trails.named(&keys).await {
                // What is about no order that is there explains nothing.
                Ok(orders) => {
                    let orders = some.iter().zip(orders);
                    found.extend(orders.filter_map(|(note, order)| Some((note, order?))));
                }
                Err(fault) => self.lost(some.len(), &fault),
            }
            rested(waiting).await;
        }
        found.sort_by(|(_, one), (_, other)| one.cmp(other));
        let mut found = found.into_iter().peekable();
        while found.peek().is_some() {
            let leaves = gathered(found.by_ref().take(AT_ONCE));
            if let Err(fault) = trails.keep(&leaves).await {
                self.lost(leaves.len(), &fault);
            }
            rested(waiting).await;
        }
    }

    fn lost(&self, count: usize, fault: &StoreError) {
        tracing::warn!(%fault, count, "notes about orders are lost");
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        self.metrics.memory.notes_lost(count);
    }

    async fn forget(&self, trails: &dyn Trails, now: Timestamp) {
        let days = self.days.load(Ordering::Relaxed);
        let kept_ms = i64::from(days).saturating_mul(DAY_MS);
        let before = Timestamp::from_ms(now.ms().saturating_sub(kept_ms));
        loop {
            match trails.forget(before).await {
                Ok(gone) if gone >= u64::from(FORGOTTEN_AT_ONCE) => (),
                Ok(_) => return,
                Err(fault) => {
                    tracing::warn!(%fault, "old notes about orders are still there");
                    return;
                }
            }
        }
    }
}

/// Notes of one order side by side, as much as goes into one leaf.
fn gathered<'a>(notes: impl Iterator<Item = (&'a Note, PayOrderNo)>) -> Vec<Leaf> {
    let mut leaves = Vec::new();
    let mut open: BTreeMap<(PayOrderNo, bool, bool), Leaf> = BTreeMap::new();
    let mut line = Vec::new();
    for (note, order) in notes {
        let key = (order, note.is_stranger, note.is_paying);
        line.clear();
        trail::write(&mut line, note);
        let is_full = |leaf: &Leaf| leaf.lines.len().saturating_add(line.len()) > LEAF_BYTES;
        if open.get(&key).is_some_and(is_full) {
            leaves.extend(open.remove(&key));
        }
        let leaf = open
            .entry(key)
            .or_insert_with_key(|(order, is_stranger, is_paying)| Leaf {
                order: order.clone(),
                at: note.at,
                is_stranger: *is_stranger,
                is_paying: *is_paying,
                holds: Kinds::new(),
                lines: Vec::new(),
            });
        leaf.lines.extend(&line);
        leaf.lines.push(b'\n');
        // How often one was delivered is in the note.
        let kind = note.what.split(',').next().unwrap_or_default();
        let count = leaf.holds.entry(kind.to_owned()).or_default();
        *count = count.saturating_add(1);
    }
    leaves.extend(open.into_values());
    leaves
}

impl Waiting {
    /// What waits, in the order in which it came.
    fn all(&mut self) -> Vec<Note> {
        let mut notes = Vec::with_capacity(self.known.len());
        for queue in [&mut self.known, &mut self.strangers, &mut self.paying] {
            // As many as are there now: more may come for as long as this takes.
            for _ in 0..queue.len() {
                notes.extend(queue.try_recv());
            }
        }
        notes
    }
}

impl Trail for Notes {
    fn is_kept(&self) -> bool {
        self.days.load(Ordering::Relaxed) > 0
    }

    fn note(&self, note: Note) {
        if !self.is_kept() {
            return;
        }
        let queue = match (note.is_paying, note.is_stranger) {
            (true, _) => &self.paying,
            (false, true) => &self.strangers,
            (false, false) => &self.known,
        };
        if queue.try_send(note).is_err() {
            self.metrics.memory.notes_lost(1);
        }
    }

    fn keep_for(&self, days: u32) {
        self.days.store(days, Ordering::Relaxed);
    }
}
