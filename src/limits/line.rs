//! The line in front of one institution: who is next, and when. The time is handed in; nothing waits.
//!
//! A rate is kept where the bytes leave: a turn takes a place of it when it is given, and a second
//! from its departure on it is free again. A call that is held up in between (by a commit, a slow
//! key, a connection being made) keeps its place, so that it cannot leave together with later ones.
//!
//! Creates stand in it merchant by merchant and are called in rotation, so that one merchant's flood
//! only ever waits behind itself. Questions get a turn now or come again later, and an eighth of all
//! turns is kept for them, so that a flood of creates never keeps what is in doubt in doubt (Z1). Of a
//! single turn nothing can be kept: there one question stands in front of the creates, and the two
//! kinds are called by turns.

mod kinds;

use std::collections::VecDeque;
use std::num::NonZeroU32;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::domain::identifiers::MerchantId;
pub(super) use crate::limits::line::kinds::{Background, Count, Kind, Share};

/// The declared rate holds for any span of one second; a little more, so that no reading of a clock
/// makes it less.
const SPAN: Duration = Duration::from_millis(1_001);

/// What one institution takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// Calls that may begin in any second; none: as many as there are.
    pub calls_per_second: Option<NonZeroU32>,
    /// Calls under way at once.
    pub calls_at_once: NonZeroU32,
}

/// How long, and how many, may wait for a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// How long a create waits for its turn.
    pub within: Duration,
    /// Creates waiting at all institutions together.
    pub waiting_in_all_max: usize,
    /// Of them, at one institution.
    pub waiting_max: usize,
    /// Of them, of one merchant.
    pub waiting_per_merchant_max: usize,
}

/// What became of who wants a turn.
#[derive(Debug)]
pub(super) enum Joined {
    /// It has one.
    Now,
    /// It stands in line under this number, and will be called.
    Waiting(u64, oneshot::Receiver<()>),
    /// Too many stand there, or nobody of his kind stands; not before so long.
    Full(Duration),
}

/// Those of one merchant, by number, each with the way to call him.
type Lane = VecDeque<(u64, oneshot::Sender<()>)>;

/// The line, and what is counted of calls.
pub(super) struct Line {
    pace: Pace,
    /// Turns given to calls that have not left yet.
    reserved: Count,
    /// When calls left, in the last span; oldest first.
    departed: VecDeque<(Instant, Kind)>,
    lately: Count,
    last: Kind,
    /// Calls under way.
    pub(super) under_way: Count,
    /// Merchants in rotation, each with those who wait for it, first come first.
    lanes: VecDeque<(MerchantId, Lane)>,
    /// The question that stands in front of them all, where no turn can be kept for questions.
    asker: Option<(u64, oneshot::Sender<()>)>,
    /// In all lanes.
    pub(super) waiting: usize,
    next_number: u64,
}

impl Line {
    pub(super) fn new(pace: Pace) -> Self {
        Self {
            pace,
            reserved: Count::default(),
            departed: VecDeque::new(),
            lately: Count::default(),
            last: Kind::Create,
            under_way: Count::default(),
            lanes: VecDeque::new(),
            asker: None,
            waiting: 0,
            next_number: 0,
        }
    }

    /// Another pace; what was counted stays counted.
    pub(super) fn repace(&mut self, pace: Pace, now: Instant) {
        self.pace = pace;
        self.advance(now);
    }

    /// A create wants a turn.
    pub(super) fn join(
        &mut self,
        merchant: &MerchantId,
        patience: &Patience,
        now: Instant,
    ) -> Joined {
        self.advance(now);
        if self.waiting == 0 && self.has_room() {
            self.begin(Kind::Create);
            return Joined::Now;
        }
        let lane = self.lanes.iter().position(|(of, _)| of == merchant);
        let theirs = lane.and_then(|at| self.lanes.get(at));
        let theirs = theirs.map_or(0, |(_, lane)| lane.len());
        if self.waiting >= patience.waiting_max || theirs >= patience.waiting_per_merchant_max {
            return Joined::Full(self.emptied_in());
        }
        let (number, (call, called)) = (self.number(), oneshot::channel());
        self.waiting = self.waiting.saturating_add(1);
        if let Some((_, lane)) = lane.and_then(|at| self.lanes.get_mut(at)) {
            lane.push_back((number, call));
        } else {
            let lane = VecDeque::from([(number, call)]);
            self.lanes.push_back((merchant.clone(), lane));
        }
        Joined::Waiting(number, called)
    }

    /// A question wants a turn.
    pub(super) fn ask(&mut self, now: Instant) -> Joined {
        self.forget(now);
        let is_single = self.is_single();
        // One that has gone stands in nobody's way.
        let stands = self.asker.as_ref().is_some_and(|(_, it)| !it.is_closed());
        let yields = is_single && self.waiting > 0 && self.last == Kind::Question;
        if !stands && self.has_room_for_question() && !(yields && self.has_room()) {
            self.begin(Kind::Question);
            return Joined::Now;
        }
        if stands || !is_single {
            return Joined::Full(SPAN);
        }
        let (number, (call, called)) = (self.number(), oneshot::channel());
        self.asker = Some((number, call));
        Joined::Waiting(number, called)
    }

    /// A question that nobody waits for wants a turn: it has one now, or comes again.
    pub(super) fn ask_behind(
        &mut self,
        (share, background): (Share, Background),
        now: Instant,
    ) -> Joined {
        if self.background_room((share, background), now) == 0 {
            return Joined::Full(SPAN);
        }
        self.begin(Kind::Background(share));
        Joined::Now
    }

    /// How many such questions may begin now.
    pub(super) fn background_room(&mut self, of: (Share, Background), now: Instant) -> u32 {
        self.forget(now);
        // Whoever stands in line with a question stands before them.
        if self.asker.is_some() {
            return 0;
        }
        let creates_wait = self.waiting > 0;
        let at_once = self.pace.calls_at_once.get();
        let rate = self.pace.calls_per_second.map_or(u32::MAX, |rate| {
            let paced = self.paced();
            paced.background_room(rate.get(), of, creates_wait)
        });
        let at_once = self.under_way.background_room(at_once, of, creates_wait);
        at_once.min(rate)
    }

    /// How many questions about what is in doubt may begin now.
    pub(super) fn question_room(&mut self, now: Instant) -> u32 {
        self.forget(now);
        let (creates_wait, at_once) = (self.waiting > 0, self.pace.calls_at_once.get());
        let rate = self.pace.calls_per_second.map_or(u32::MAX, |rate| {
            self.paced().question_room(rate.get(), creates_wait)
        });
        let flying = self.under_way.question_room(at_once, creates_wait);
        // Where one turn is all there is, one may stand in line for it.
        let may_stand = self.is_single() && self.asker.is_none();
        flying.min(rate).max(u32::from(may_stand))
    }

    /// A call with a turn is about to leave: it is counted, or it has to look again at that moment.
    /// The rate may have become less since its turn was given.
    pub(super) fn depart(&mut self, kind: Kind, now: Instant) -> Result<(), Instant> {
        self.forget(now);
        let rate = self.pace.calls_per_second;
        let full = rate.is_some_and(|rate| self.lately.all() >= rate.get());
        if let Some((first, _)) = self.departed.front().filter(|_| full) {
            return Err(first.checked_add(SPAN).unwrap_or(now));
        }
        self.reserved.down(kind);
        self.lately.up(kind);
        self.departed.push_back((now, kind));
        Ok(())
    }

    /// What was counted as leaving at that moment did not leave; its turn is as it was.
    pub(super) fn stay(&mut self, kind: Kind, at: Instant) {
        if let Some(place) = self.departed.iter().position(|it| *it == (at, kind)) {
            self.departed.remove(place);
            self.lately.down(kind);
        }
        self.reserve(kind);
    }

    /// A call that has left is to leave once more, in the same turn.
    pub(super) fn reserve(&mut self, kind: Kind) {
        self.reserved.up(kind);
    }

    /// A call ended; whether it ever left.
    pub(super) fn end(&mut self, kind: Kind, left: bool, now: Instant) {
        self.under_way.down(kind);
        if !left {
            self.reserved.down(kind);
        }
        self.advance(now);
    }

    /// Calls whoever is next, as long as there is room.
    pub(super) fn advance(&mut self, now: Instant) {
        self.forget(now);
        loop {
            let creates = self.waiting > 0 && self.has_room();
            let asks = self.asker.is_some() && self.has_room_for_question();
            if asks && !(creates && self.last == Kind::Question) {
                if self.asker.take().is_some_and(|(_, it)| it.send(()).is_ok()) {
                    self.begin(Kind::Question);
                }
                continue;
            }
            if !creates {
                return;
            }
            let Some((merchant, mut lane)) = self.lanes.pop_front() else {
                return;
            };
            let next = lane.pop_front();
            if !lane.is_empty() {
                self.lanes.push_back((merchant, lane));
            }
            self.waiting = self.waiting.saturating_sub(1);
            // Whoever has gone uses up no turn.
            if next.is_some_and(|(_, call)| call.send(()).is_ok()) {
                self.begin(Kind::Create);
            }
        }
    }

    /// Takes somebody out of the line; whether he stood there.
    pub(super) fn leave(&mut self, number: u64) -> bool {
        if self.asker.take_if(|(known, _)| *known == number).is_some() {
            return true;
        }
        for at in 0..self.lanes.len() {
            let Some((_, lane)) = self.lanes.get_mut(at) else {
                return false;
            };
            if let Some(place) = lane.iter().position(|(known, _)| *known == number) {
                lane.remove(place);
                if lane.is_empty() {
                    self.lanes.remove(at);
                }
                self.waiting = self.waiting.saturating_sub(1);
                return true;
            }
        }
        false
    }

    /// When it is worth looking whether it is one's turn; none: when a call ends, and then one is
    /// called. Each looks when the turn of his place comes, so that not all look at once.
    pub(super) fn next_look(&self, number: u64, now: Instant) -> Option<Instant> {
        self.pace.calls_per_second?;
        let firsts = self.lanes.iter().filter_map(|(_, lane)| lane.front());
        let first = firsts.map(|(number, _)| *number).min().unwrap_or(number);
        let in_front = self.asker.as_ref().is_some_and(|(it, _)| *it == number);
        let ahead = if in_front {
            0
        } else {
            number.saturating_sub(first)
        };
        let ahead = usize::try_from(ahead).unwrap_or(usize::MAX);
        let at = ahead.min(self.departed.len().saturating_sub(1));
        // Of what has not even left, nothing is free before a span has passed.
        let after = self.departed.get(at).map_or(now, |(left, _)| *left);
        after.checked_add(SPAN)
    }

    fn has_room(&self) -> bool {
        self.under_way.takes_create(self.pace.calls_at_once.get())
            && self
                .pace
                .calls_per_second
                .is_none_or(|rate| self.paced().takes_create(rate.get()))
    }

    fn has_room_for_question(&self) -> bool {
        let (creates_wait, pace) = (self.waiting > 0, self.pace);
        let at_once = pace.calls_at_once.get();
        self.under_way.takes_question(at_once, creates_wait)
            && pace
                .calls_per_second
                .is_none_or(|rate| self.paced().takes_question(rate.get(), creates_wait))
    }

    /// Whether there is one turn only, at once or in a second, so that none can be kept.
    fn is_single(&self) -> bool {
        let rate = self.pace.calls_per_second;
        self.pace.calls_at_once.get() < 2 || rate.is_some_and(|rate| rate.get() < 2)
    }

    fn number(&mut self) -> u64 {
        let number = self.next_number;
        self.next_number = number.wrapping_add(1);
        number
    }

    /// What counts against the rate: calls that left within the last span, and those that still may.
    fn paced(&self) -> Count {
        self.lately.and(self.reserved)
    }

    fn begin(&mut self, kind: Kind) {
        self.under_way.up(kind);
        self.last = kind;
        self.reserve(kind);
    }

    /// Forgets calls that left a span ago.
    fn forget(&mut self, now: Instant) {
        while let Some((left, kind)) = self.departed.front().copied() {
            if now.saturating_duration_since(left) < SPAN {
                return;
            }
            self.departed.pop_front();
            self.lately.down(kind);
        }
    }

    /// About how long until those who wait have had their turn; a second at least.
    fn emptied_in(&self) -> Duration {
        let waiting = u64::try_from(self.waiting).unwrap_or(u64::MAX);
        let seconds = self.pace.calls_per_second.and_then(|rate| {
            let rate = u64::from(rate.get());
            waiting.checked_div(rate)
        });
        Duration::from_secs(seconds.unwrap_or(1).max(1))
    }
}

#[cfg(test)]
mod tests;
