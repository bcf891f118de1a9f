//! Whether there is more to do than can be done, measured, and who is refused then (R-6.4-1c).
//!
//! What is measured is how late a clock tick is served by the runtime that serves everything: the
//! time that anything that is ready waits for its turn, whatever it waits behind. While ticks stay
//! late, a growing part of new orders is refused, and of choices when that is not enough; while they
//! are in time, a growing part is let in again. What helps no payment along is refused as soon as one
//! order is. Everything else is refused only for want of places.
//!
//! All that holds for those who have proven who they are. Strangers have a few of the places only, and
//! while they are most of what comes they are refused first, whatever path they ask for
//! (`docs/decisions/0047`).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::Bounds;
use super::places::{Places, Seat};
use crate::api::rank::Rank;

/// How often the clock ticks.
pub(super) const TICK: Duration = Duration::from_millis(10);
/// So many ticks late in a row are a standing queue; one may be a burst that is over already.
const LATE_MIN: u32 = 2;
/// With fewer requests than this under way nobody is refused for lateness: it is not their doing.
const CROWD_MIN: u32 = 32;
/// What is let in at least, of 2³²: a probe that finds out when it is over.
const ORDERS_MIN: u32 = 1 << 26;
const CHOICES_MIN: u32 = 1 << 28;
const STRANGERS_MIN: u32 = 1 << 26;

/// However many were refused, none stays unread for longer.
const PAUSE_MAX: Duration = Duration::from_secs(1);
const MICROS: u64 = 1_000_000;

/// Who asks, as far as is known before a signature was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Caller {
    /// Its connection has proven something, or shows an enrolled certificate, or comes from where a
    /// party proved itself lately.
    Known,
    /// Anybody.
    Stranger,
}

/// Why a request was refused before it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shed {
    /// As many are under way as its rank may fill.
    Places,
    /// What is ready waits too long for its turn.
    Delay,
    /// Too many come who have proven nothing.
    Strangers,
}

impl Shed {
    /// The word in the metrics.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Places => "places",
            Self::Delay => "delay",
            Self::Strangers => "strangers",
        }
    }
}

/// One listener's load.
pub(super) struct Load {
    places: Arc<Places>,
    orders: Part,
    choices: Part,
    strangers: Part,
    /// Requests since the last tick: of those who are known, and of strangers.
    came: [AtomicU32; 2],
    late: AtomicU32,
    over: AtomicBool,
    /// Refused since it was last said, by rank.
    refused: [AtomicU64; 4],
    began: Instant,
    /// When the next refused connection is considered at the earliest, in microseconds from then.
    read_again_us: AtomicU64,
}

impl Load {
    pub(super) fn new(places: Arc<Places>) -> Self {
        Self {
            places,
            orders: Part::whole(),
            choices: Part::whole(),
            strangers: Part::whole(),
            came: [const { AtomicU32::new(0) }; 2],
            late: AtomicU32::new(0),
            over: AtomicBool::new(false),
            refused: [const { AtomicU64::new(0) }; 4],
            began: Instant::now(),
            read_again_us: AtomicU64::new(0),
        }
    }

    /// Whether a request of this rank is worth reading: decided from its first lines, and from what
    /// is known of its caller.
    pub(super) fn judge(&self, rank: Rank, caller: Caller, bounds: &Bounds) -> Result<(), Shed> {
        let [known, strangers] = &self.came;
        let (came, is_stranger) = match caller {
            Caller::Known => (known, false),
            Caller::Stranger => (strangers, true),
        };
        came.fetch_add(1, Ordering::Relaxed);
        let under_way = self.places.requests_open();
        if under_way >= places_max(rank, bounds) {
            return Err(self.refused(rank, Shed::Places));
        }
        if is_stranger && self.places.strangers_open() >= strangers_max(bounds) {
            return Err(self.refused(rank, Shed::Strangers));
        }
        if under_way <= CROWD_MIN {
            return Ok(());
        }
        if is_stranger && !self.strangers.lets_in() {
            return Err(self.refused(rank, Shed::Strangers));
        }
        let is_let_in = match rank {
            Rank::Other => self.orders.is_whole() && self.strangers.is_whole(),
            Rank::Order => self.orders.lets_in(),
            Rank::Choice => self.choices.lets_in(),
            Rank::Rest => true,
        };
        if is_let_in {
            Ok(())
        } else {
            Err(self.refused(rank, Shed::Delay))
        }
    }

    /// Takes a place for a request that was read whole: not before, or slow senders would hold them
    /// all.
    pub(super) fn seat(&self, rank: Rank, caller: Caller, bounds: &Bounds) -> Result<Seat, Shed> {
        let places_max = places_max(rank, bounds);
        let seat = match caller {
            Caller::Known => self.places.request(places_max),
            Caller::Stranger => self.places.request_of_stranger(places_max),
        };
        seat.ok_or_else(|| self.refused(rank, Shed::Places))
    }

    fn refused(&self, rank: Rank, why: Shed) -> Shed {
        let refused = match rank {
            Rank::Other => self.refused.first(),
            Rank::Order => self.refused.get(1),
            Rank::Choice => self.refused.get(2),
            Rank::Rest => self.refused.get(3),
        };
        if let Some(refused) = refused {
            refused.fetch_add(1, Ordering::Relaxed);
        }
        why
    }

    /// Whether ticks have been late for a while and there is a crowd: then new connections wait for
    /// each other's handshakes as well.
    pub(super) fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// A tick was served this late.
    pub(super) fn tick(&self, late_by: Duration, late_max: Duration) {
        let came = |of: &AtomicU32| of.swap(0, Ordering::Relaxed);
        let [known, strangers] = self.came.each_ref().map(came);
        if late_by <= late_max {
            self.late.store(0, Ordering::Relaxed);
            self.over.store(false, Ordering::Relaxed);
            // Choices come back whole before new orders do, and both before strangers.
            if !self.choices.grow(8) && !self.orders.grow(16) {
                self.strangers.grow(16);
            }
            return;
        }
        let late = self.late.fetch_add(1, Ordering::Relaxed);
        if late.saturating_add(1) < LATE_MIN || self.places.requests_open() <= CROWD_MIN {
            return;
        }
        self.over.store(true, Ordering::Relaxed);
        let by = if late_by > late_max.saturating_mul(2) {
            2
        } else {
            8
        };
        // Those who have proven nothing go first where they are the crowd; where they are not, a
        // payer who comes for the first time is not given up for the sake of new orders.
        if strangers > known && self.strangers.shrink(by, STRANGERS_MIN) {
            return;
        }
        if !self.orders.shrink(by, ORDERS_MIN) {
            self.choices.shrink(by, CHOICES_MIN);
        }
    }

    /// How long a refused connection is not considered. All together they are only so often in a
    /// second: refusing costs little, and still everything if enough of them come back at once. What
    /// they owe is never more than the longest pause, so that it is over as soon (Z4).
    pub(super) fn pause(&self, bounds: &Bounds) -> Duration {
        let now_us = micros(self.began.elapsed());
        let step_us = MICROS.checked_div(u64::from(bounds.sheds_per_second_max));
        let step_us = step_us.unwrap_or(MICROS).max(1);
        let latest_us = now_us.saturating_add(micros(PAUSE_MAX));
        let next = |before: u64| {
            let next = before.max(now_us).saturating_add(step_us);
            Some(next.min(latest_us))
        };
        let before_us = self
            .read_again_us
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, next)
            .unwrap_or(now_us);
        Duration::from_micros(before_us.saturating_sub(now_us))
            .clamp(bounds.shed_pause, bounds.shed_pause.max(PAUSE_MAX))
    }

    /// How many of each rank were refused since the last question.
    pub(super) fn refused_lately(&self) -> [u64; 4] {
        [0, 1, 2, 3].map(|rank: usize| {
            let refused = self.refused.get(rank);
            refused.map_or(0, |refused| refused.swap(0, Ordering::Relaxed))
        })
    }
}

fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

/// How many may be under way for one more of this rank.
fn places_max(rank: Rank, bounds: &Bounds) -> u32 {
    let of_rank = match rank {
        Rank::Other => bounds.in_flight_orders_max.div_ceil(2),
        Rank::Order => bounds.in_flight_orders_max,
        Rank::Choice => bounds.in_flight_choices_max,
        Rank::Rest => bounds.in_flight_max,
    };
    of_rank.min(bounds.in_flight_max)
}

/// How many requests of strangers may be under way: half of what new orders may fill.
fn strangers_max(bounds: &Bounds) -> u32 {
    bounds.in_flight_orders_max.div_ceil(2)
}

/// A part of what comes, evenly: of 2³² parts so many are let in, and what is left over counts for
/// the next. No chance is needed and none is spent.
struct Part {
    of_all: AtomicU32,
    credit: AtomicU32,
}

impl Part {
    fn whole() -> Self {
        Self {
            of_all: AtomicU32::new(u32::MAX),
            credit: AtomicU32::new(0),
        }
    }

    fn is_whole(&self) -> bool {
        self.of_all.load(Ordering::Relaxed) == u32::MAX
    }

    fn lets_in(&self) -> bool {
        let part = self.of_all.load(Ordering::Relaxed);
        if part == u32::MAX {
            return true;
        }
        let before = self.credit.fetch_add(part, Ordering::Relaxed);
        before.checked_add(part).is_none()
    }

    /// Takes a fraction away; whether there was any to take.
    fn shrink(&self, by: u32, least: u32) -> bool {
        let part = self.of_all.load(Ordering::Relaxed);
        let step = part.checked_div(by).unwrap_or(0);
        let less = part.saturating_sub(step).max(least);
        self.of_all.store(less, Ordering::Relaxed);
        less < part
    }

    /// Gives a fraction back; whether there was any to give.
    fn grow(&self, by: u32) -> bool {
        let part = self.of_all.load(Ordering::Relaxed);
        let step = part.checked_div(by).unwrap_or(0);
        let more = part.saturating_add(step);
        self.of_all.store(more, Ordering::Relaxed);
        more > part
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: Duration = Duration::from_millis(25);
    const LATE: Duration = Duration::from_millis(30);

    fn bounds() -> Bounds {
        Bounds {
            in_flight_orders_max: 200,
            in_flight_choices_max: 300,
            in_flight_max: 400,
            ..Bounds::default()
        }
    }

    fn admitted(load: &Load, rank: Rank) -> Result<Seat, Shed> {
        of(load, rank, Caller::Known)
    }

    fn of(load: &Load, rank: Rank, caller: Caller) -> Result<Seat, Shed> {
        load.judge(rank, caller, &bounds())?;
        load.seat(rank, caller, &bounds())
    }

    /// A load with so many requests under way.
    fn crowded(by: usize) -> (Load, Vec<Seat>) {
        let load = Load::new(Arc::default());
        let seats = (0..by).map(|_| admitted(&load, Rank::Rest).ok().unwrap());
        let seats = seats.collect();
        (load, seats)
    }

    /// How many of 64 are let in, none of them staying.
    fn let_in(load: &Load, rank: Rank) -> usize {
        let tries = (0..64).map(|_| admitted(load, rank).is_ok());
        tries.filter(|admitted| *admitted).count()
    }

    /// R-6.4-1c: by places, new orders are refused before choices, and both before the rest.
    #[test]
    fn ranks_are_refused_one_after_the_other_as_places_fill() {
        for (taken, open) in [
            (99, [true, true, true, true]),
            (100, [false, true, true, true]),
            (199, [false, true, true, true]),
            (200, [false, false, true, true]),
            (300, [false, false, false, true]),
            (400, [false, false, false, false]),
        ] {
            let (load, _seats) = crowded(taken);
            let found = Rank::ALL.map(|rank| admitted(&load, rank).is_ok());
            assert_eq!(found, open, "{taken} places taken");
        }
        let (load, seats) = crowded(400);
        assert_eq!(admitted(&load, Rank::Order).err(), Some(Shed::Places));
        drop(seats);
        assert!(admitted(&load, Rank::Order).is_ok(), "Z4");
        assert_eq!(load.refused_lately(), [0, 1, 0, 0]);
        assert_eq!(load.refused_lately(), [0, 0, 0, 0]);
    }

    /// R-6.4-1c, Z4: while ticks stay late ever fewer new orders are let in, then fewer choices,
    /// never fewer of the rest; when they are in time again, everything is back within a few seconds.
    #[test]
    fn late_ticks_shut_orders_out_first_and_ticks_in_time_let_them_in_again() {
        let (load, _seats) = crowded(50);
        load.tick(LATE, MAX);
        assert_eq!(let_in(&load, Rank::Order), 64, "one late tick is a burst");
        load.tick(LATE, MAX);
        assert_eq!(let_in(&load, Rank::Order), 56);
        assert_eq!(let_in(&load, Rank::Other), 0, "before the second order");
        assert!(load.is_over());
        for _ in 0..40 {
            load.tick(LATE, MAX);
        }
        assert_eq!(
            let_in(&load, Rank::Order),
            1,
            "somebody finds out when it is over"
        );
        assert!(let_in(&load, Rank::Choice) < 64);
        assert_eq!(let_in(&load, Rank::Rest), 64);
        let mut ticks = 0;
        while let_in(&load, Rank::Order) < 64 {
            load.tick(TICK, MAX);
            assert!(!load.is_over());
            ticks += 1;
            let choices = let_in(&load, Rank::Choice);
            assert!(choices == 64 || let_in(&load, Rank::Order) <= 1);
        }
        assert!(ticks < 200, "{ticks} ticks of {TICK:?}");
    }

    /// R-6.4-1c: however many strangers ask, and whatever path they ask for, half of the places of new
    /// orders is left to those who are known.
    #[test]
    fn strangers_fill_only_a_few_places() {
        let load = Load::new(Arc::default());
        let mut seats = Vec::new();
        while let Ok(seat) = of(&load, Rank::Rest, Caller::Stranger) {
            seats.push(seat);
        }
        assert_eq!(seats.len(), 100);
        let shut_out = of(&load, Rank::Rest, Caller::Stranger).err();
        assert_eq!(shut_out, Some(Shed::Strangers));
        for _ in 0..100 {
            seats.push(admitted(&load, Rank::Order).ok().unwrap());
        }
        drop(seats);
        assert!(of(&load, Rank::Rest, Caller::Stranger).is_ok(), "Z4");
    }

    /// R-6.4-1c: while strangers are most of what comes they are shut out before any order is; while
    /// they are not, orders are given up before a payer who comes for the first time.
    #[test]
    fn strangers_are_shut_out_first_where_they_are_the_crowd() {
        let of_strangers = |load: &Load| {
            let tries = (0..64).map(|_| of(load, Rank::Rest, Caller::Stranger).is_ok());
            tries.filter(|admitted| *admitted).count()
        };
        let (load, _seats) = crowded(50);
        for _ in 0..20 {
            of_strangers(&load);
            load.tick(LATE, MAX);
        }
        assert_eq!(let_in(&load, Rank::Order), 64);
        assert!(of_strangers(&load) < 16);
        while of_strangers(&load) < 64 {
            load.tick(TICK, MAX);
        }
        let (load, _seats) = crowded(50);
        for _ in 0..20 {
            let_in(&load, Rank::Order);
            load.tick(LATE, MAX);
        }
        assert!(let_in(&load, Rank::Order) < 16);
        assert_eq!(of_strangers(&load), 64);
    }

    /// What is far too late halves what is let in with every tick.
    #[test]
    fn a_sudden_flood_is_shut_out_quickly() {
        let (load, _seats) = crowded(50);
        for _ in 0..5 {
            load.tick(LATE * 3, MAX);
        }
        assert_eq!(let_in(&load, Rank::Order), 4);
        assert_eq!(let_in(&load, Rank::Choice), 64);
    }

    /// Refused connections are read again only so often in a second, all together, and each within
    /// a second.
    #[test]
    fn refused_connections_come_back_one_by_one() {
        let (load, _seats) = crowded(0);
        let bounds = Bounds {
            sheds_per_second_max: 1_000,
            shed_pause: Duration::from_millis(15),
            ..bounds()
        };
        let pauses: Vec<_> = (0..3_000).map(|_| load.pause(&bounds)).collect();
        assert_eq!(pauses[0], Duration::from_millis(15));
        // However long this test takes, a thousand refusals fill a second.
        assert!(pauses[900] <= Duration::from_millis(900));
        assert!(pauses.is_sorted_by(|one, next| *next <= *one + Duration::from_millis(1)));
        assert!(pauses.iter().all(|pause| *pause <= PAUSE_MAX));
        assert!(pauses[2_999] > Duration::from_millis(15) || load.began.elapsed() > PAUSE_MAX);
        // Z4: a flood that is over leaves no pause longer than the longest.
        let again_us = load.read_again_us.load(Ordering::Relaxed);
        assert!(again_us <= micros(load.began.elapsed() + PAUSE_MAX));
    }

    /// A gateway that has little to do is not the cause of its own lateness.
    #[test]
    fn without_a_crowd_nobody_is_refused_for_lateness() {
        let (load, _seats) = crowded(3);
        for _ in 0..100 {
            load.tick(LATE, MAX);
        }
        assert_eq!(let_in(&load, Rank::Order), 64);
        assert!(!load.is_over());
    }
}
