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

use std::collections::VecDeque;
use std::num::NonZeroU32;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::domain::identifiers::MerchantId;

/// The declared rate holds for any span of one second; a little more, so that no reading of a clock
/// makes it less.
const SPAN: Duration = Duration::from_millis(1_001);
/// One in so many turns is kept for questions.
const KEPT_ONE_IN: u32 = 8;

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

/// What a call is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A payer waits for it.
    Create,
    /// A query or a close; it can be asked later.
    Question,
}

/// A number of each kind.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Count {
    creates: u32,
    questions: u32,
}

impl Count {
    pub(super) fn all(self) -> u32 {
        self.creates.saturating_add(self.questions)
    }

    fn of(&mut self, kind: Kind) -> &mut u32 {
        match kind {
            Kind::Create => &mut self.creates,
            Kind::Question => &mut self.questions,
        }
    }

    fn up(&mut self, kind: Kind) {
        let count = self.of(kind);
        *count = count.saturating_add(1);
    }

    fn down(&mut self, kind: Kind) {
        let count = self.of(kind);
        *count = count.saturating_sub(1);
    }

    /// Whether one more create fits under `max`, of which some are kept for questions.
    fn takes_create(self, max: u32) -> bool {
        self.all() < max && self.creates < max.saturating_sub(kept(max))
    }

    /// Whether one more question fits under `max`; while creates wait, only what is kept.
    fn takes_question(self, max: u32, creates_wait: bool) -> bool {
        self.all() < max && (!creates_wait || self.questions < kept(max).max(1))
    }
}

/// Of so many turns, those that creates leave.
fn kept(max: u32) -> u32 {
    if max < 2 {
        return 0;
    }
    max.checked_div(KEPT_ONE_IN).unwrap_or(0).max(1)
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
        Count {
            creates: self.lately.creates.saturating_add(self.reserved.creates),
            questions: self
                .lately
                .questions
                .saturating_add(self.reserved.questions),
        }
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
mod tests {
    use super::*;

    const PATIENCE: Patience = Patience {
        within: Duration::from_secs(2),
        waiting_in_all_max: 16,
        waiting_max: 8,
        waiting_per_merchant_max: 5,
    };

    fn line(calls_per_second: u32, calls_at_once: u32) -> Line {
        Line::new(Pace {
            calls_per_second: NonZeroU32::new(calls_per_second),
            calls_at_once: NonZeroU32::new(calls_at_once).unwrap(),
        })
    }

    fn merchant(name: &str) -> MerchantId {
        MerchantId::parse(name).unwrap()
    }

    fn after(start: Instant, ms: u64) -> Instant {
        start.checked_add(Duration::from_millis(ms)).unwrap()
    }

    /// A create that leaves as soon as it has its turn.
    fn at_once(line: &mut Line, now: Instant) -> bool {
        let turn = matches!(line.join(&merchant("M1"), &PATIENCE, now), Joined::Now);
        turn && line.depart(Kind::Create, now).is_ok()
    }

    /// A question that has a turn now, or goes away.
    fn asks(line: &mut Line, now: Instant) -> bool {
        matches!(line.ask(now), Joined::Now)
    }

    /// A question that leaves as soon as it has its turn.
    fn asks_at_once(line: &mut Line, now: Instant) -> bool {
        asks(line, now) && line.depart(Kind::Question, now).is_ok()
    }

    /// A question that stands in front of the creates.
    fn stands_in_front(line: &mut Line, now: Instant) -> (u64, oneshot::Receiver<()>) {
        let Joined::Waiting(number, called) = line.ask(now) else {
            panic!("it does not wait");
        };
        (number, called)
    }

    fn stands(line: &mut Line, who: &str, now: Instant) -> oneshot::Receiver<()> {
        let Joined::Waiting(_, called) = line.join(&merchant(who), &PATIENCE, now) else {
            panic!("{who} does not wait");
        };
        called
    }

    /// The declared rate is not passed in any second, wherever it begins, by creates and questions
    /// together, however hard everybody tries and however long each is held up before it leaves.
    #[test]
    fn no_second_holds_more_calls_than_were_declared() {
        for (rate, held_up) in [1, 2, 3, 10, 50].iter().flat_map(|r| [(*r, 1), (*r, 400)]) {
            let (mut line, start) = (line(rate, 1_000), Instant::now());
            let (mut ready, mut left) = (Vec::new(), Vec::new());
            for ms in 0..6_000 {
                let now = after(start, ms);
                line.advance(now);
                let joined = |line: &mut Line| line.join(&merchant("M1"), &PATIENCE, now);
                if ms % 7 == 0 && line.waiting == 0 && matches!(joined(&mut line), Joined::Now) {
                    ready.push((ms + ms * 37 % held_up, Kind::Create));
                }
                if ms % 3 == 0 && asks(&mut line, now) {
                    ready.push((ms + ms * 53 % held_up, Kind::Question));
                }
                ready.retain(|(at, kind)| {
                    let leaves = *at <= ms;
                    if leaves {
                        line.depart(*kind, now).unwrap();
                        line.end(*kind, true, now);
                        left.push(ms);
                    }
                    !leaves
                });
            }
            let most = left.iter().map(|from| {
                let second = *from..=*from + 1_000;
                left.iter().filter(|at| second.contains(at)).count()
            });
            let rate = usize::try_from(rate).unwrap();
            assert_eq!(most.max(), Some(rate), "{rate} in a second");
            assert!(left.len() >= 4 * rate, "and it is used: {}", left.len());
        }
    }

    /// A turn counts for a second from the moment its call leaves, not from the one it was given at;
    /// and one that is never used gives its count back.
    #[test]
    fn a_turn_counts_from_its_departure() {
        let (mut line, start) = (line(1, 9), Instant::now());
        assert!(matches!(
            line.join(&merchant("M1"), &PATIENCE, start),
            Joined::Now
        ));
        let mut next = stands(&mut line, "M1", after(start, 1_500));
        line.depart(Kind::Create, after(start, 1_500)).unwrap();
        line.advance(after(start, 2_500));
        assert!(next.try_recv().is_err(), "a second has not passed");
        line.advance(after(start, 2_501));
        assert!(next.try_recv().is_ok());
        let mut last = stands(&mut line, "M1", after(start, 2_501));
        line.end(Kind::Create, false, after(start, 2_502));
        assert!(last.try_recv().is_ok(), "the one before never left");
        let at = after(start, 2_503);
        line.depart(Kind::Create, at).unwrap();
        line.stay(Kind::Create, at);
        assert!(!asks(&mut line, after(start, 9_000)), "it may still leave");
        line.depart(Kind::Create, after(start, 9_000)).unwrap();
        assert!(!asks(&mut line, after(start, 10_000)));
        assert!(asks(&mut line, after(start, 10_001)));
    }

    /// Where less may leave than had turns, because the rate was lowered, they leave one by one.
    #[test]
    fn a_lower_rate_holds_for_turns_already_given() {
        let (mut line, start) = (line(3, 9), Instant::now());
        for _ in 0..2 {
            let joined = line.join(&merchant("M1"), &PATIENCE, start);
            assert!(matches!(joined, Joined::Now));
        }
        let (calls_per_second, calls_at_once) = (NonZeroU32::new(1), line.pace.calls_at_once);
        let slower = Pace {
            calls_per_second,
            calls_at_once,
        };
        line.repace(slower, start);
        assert_eq!(line.depart(Kind::Create, start), Ok(()));
        let again = line.depart(Kind::Create, after(start, 1_000)).unwrap_err();
        assert_eq!(again, after(start, 1_001));
        assert_eq!(line.depart(Kind::Create, again), Ok(()));
    }

    /// N7 for creates: merchants are called in turn; one that floods waits behind itself.
    #[test]
    fn a_flood_of_one_merchant_does_not_starve_another() {
        let (mut line, start) = (line(0, 1), Instant::now());
        assert!(at_once(&mut line, start));
        let mut flood: Vec<_> = (0..5).map(|_| stands(&mut line, "M1", start)).collect();
        assert!(matches!(
            line.join(&merchant("M1"), &PATIENCE, start),
            Joined::Full(_)
        ));
        let mut other = stands(&mut line, "M2", start);
        line.end(Kind::Create, true, start);
        assert!(flood[0].try_recv().is_ok() && other.try_recv().is_err());
        line.end(Kind::Create, true, start);
        assert!(other.try_recv().is_ok(), "second, not sixth");
        line.end(Kind::Create, true, start);
        assert!(flood[1].try_recv().is_ok());
    }

    /// However many merchants come, only so many wait.
    #[test]
    fn the_line_is_bounded() {
        let (mut line, start) = (line(2, 10), Instant::now());
        assert!(at_once(&mut line, start));
        let names = ["M1", "M2", "M3", "M4", "M5", "M6", "M7", "M8"];
        let _waiting: Vec<_> = names.map(|name| stands(&mut line, name, start)).into();
        let Joined::Full(wait) = line.join(&merchant("M9"), &PATIENCE, start) else {
            panic!("nine wait");
        };
        assert_eq!(wait, Duration::from_secs(4));
    }

    /// A slow institution holds no more of us than it may, and who is called has a call's place.
    #[test]
    fn calls_at_once_are_bounded() {
        let (mut line, start) = (line(0, 2), Instant::now());
        assert!(at_once(&mut line, start));
        let mut second = stands(&mut line, "M1", after(start, 60_000));
        assert!(asks(&mut line, start), "one place is kept for questions");
        assert!(!asks(&mut line, start));
        line.end(Kind::Question, true, start);
        assert!(second.try_recv().is_err());
        line.end(Kind::Create, true, start);
        assert!(second.try_recv().is_ok());
        assert_eq!(line.under_way.all(), 1);
    }

    /// Z1: creates that wait leave an eighth of the turns to questions, and one of two where there
    /// is only one in a second; and questions take no more than that from creates that wait.
    #[test]
    fn questions_and_creates_do_not_starve_each_other() {
        for (rate, least) in [(16, 2), (2, 1)] {
            let (mut line, start) = (line(rate, 100), Instant::now());
            while at_once(&mut line, start) {}
            let asked = (0..100).filter(|_| asks_at_once(&mut line, start)).count();
            assert_eq!(asked, least, "{rate} in a second");
        }
        let (mut line, start) = (line(1, 100), Instant::now());
        assert!(at_once(&mut line, start));
        let mut waits = stands(&mut line, "M1", start);
        let mut turns = Vec::new();
        for ms in 1..3_100 {
            let now = after(start, ms);
            if asks_at_once(&mut line, now) {
                turns.push("question");
            }
            line.advance(now);
            if waits.try_recv().is_ok() {
                line.depart(Kind::Create, now).unwrap();
                turns.push("create");
                waits = stands(&mut line, "M1", now);
            }
        }
        assert_eq!(turns.len(), 3);
        assert!(turns.contains(&"create"), "{turns:?}");
    }

    /// Z1: where one call may be under way, or leave in a second, a question has the next turn after a
    /// create, and a create the one after that. One question stands there and no more; once it leaves,
    /// another may.
    #[test]
    fn a_question_has_the_next_turn_where_there_is_only_one() {
        for (rate, at_once_max) in [(0, 1), (1, 9), (16, 1)] {
            let (mut line, start) = (line(rate, at_once_max), Instant::now());
            assert!(at_once(&mut line, start));
            let mut create = stands(&mut line, "M1", start);
            let (number, _gone) = stands_in_front(&mut line, start);
            assert!(matches!(line.ask(start), Joined::Full(_)));
            assert!(line.leave(number) && !line.leave(number));
            let (_, mut first) = stands_in_front(&mut line, start);
            let end = |line: &mut Line, kind, at| {
                line.end(kind, true, at);
                line.advance(after(at, 1_001));
            };
            end(&mut line, Kind::Create, start);
            assert!(first.try_recv().is_ok() && create.try_recv().is_err());
            let later = after(start, 1_001);
            line.depart(Kind::Question, later).unwrap();
            let (_, mut second) = stands_in_front(&mut line, later);
            end(&mut line, Kind::Question, later);
            assert!(create.try_recv().is_ok() && second.try_recv().is_err());
            line.depart(Kind::Create, after(later, 1_001)).unwrap();
            end(&mut line, Kind::Create, after(later, 1_001));
            assert!(second.try_recv().is_ok());
        }
    }

    /// Who leaves is not called, and his turn goes to the next.
    #[test]
    fn who_leaves_uses_up_no_turn() {
        let (mut line, start) = (line(0, 1), Instant::now());
        assert!(at_once(&mut line, start));
        let gone = stands(&mut line, "M1", start);
        assert!(line.leave(0) && !line.leave(0));
        drop(gone);
        drop(stands(&mut line, "M2", start));
        let mut next = stands(&mut line, "M3", start);
        line.end(Kind::Create, true, start);
        assert!(next.try_recv().is_ok());
        assert_eq!((line.waiting, line.under_way.all()), (0, 1));
    }

    /// F1: another pace counts from what was counted, at once.
    #[test]
    fn another_pace_keeps_what_was_counted() {
        let (mut line, start) = (line(4, 9), Instant::now());
        while at_once(&mut line, start) {}
        let mut waits = stands(&mut line, "M1", start);
        let faster = |rate| Pace {
            calls_per_second: NonZeroU32::new(rate),
            calls_at_once: NonZeroU32::new(9).unwrap(),
        };
        line.repace(faster(3), start);
        assert!(waits.try_recv().is_err());
        line.repace(faster(8), start);
        assert!(waits.try_recv().is_ok());
    }
}
