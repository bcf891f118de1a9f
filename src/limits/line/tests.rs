//! How the line in front of an institution moves, moment by moment.

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

/// So many background questions as have a turn now.
fn asks_behind(line: &mut Line, share: Share, now: Instant) -> u32 {
    let of = (share, Background { rate_percent: 25 });
    let mut asked = 0_u32;
    while matches!(line.ask_behind(of, now), Joined::Now) {
        line.depart(Kind::Background(share), now).unwrap();
        asked = asked.saturating_add(1);
    }
    asked
}

/// Z1: questions that nobody waits for take a quarter of the rate while creates come and nine tenths
/// while none do, the less urgent less of it, and never what is kept for those about doubt.
#[test]
fn the_background_takes_its_part_and_no_more() {
    let start = Instant::now();
    let mut alone = line(40, 1_000);
    assert_eq!(asks_behind(&mut alone, Share::Some, start), 27);
    assert_eq!(asks_behind(&mut alone, Share::Most, start), 5);
    assert_eq!(asks_behind(&mut alone, Share::Whole, start), 3);
    let doubts = (0..40).filter(|_| asks_at_once(&mut alone, start)).count();
    assert_eq!(doubts, 5, "what is kept");
    let mut crowded = line(40, 1_000);
    assert!(at_once(&mut crowded, start));
    assert_eq!(asks_behind(&mut crowded, Share::Some, start), 8);
    assert_eq!(asks_behind(&mut crowded, Share::Whole, start), 2);
    let creates = (0..40).filter(|_| at_once(&mut crowded, start)).count();
    assert_eq!(creates, 24);
    assert_eq!(asks_behind(&mut crowded, Share::Whole, start), 0);
    let doubts = (0..40)
        .filter(|_| asks_at_once(&mut crowded, start))
        .count();
    assert_eq!(doubts, 5);
    let later = after(start, 1_002);
    let asked = asks_behind(&mut crowded, Share::Some, later);
    assert_eq!(asked, 8, "creates still wait");
}

/// Where one call at once is all that an institution takes, what waits for payers waits for everybody.
#[test]
fn of_a_single_turn_the_background_takes_what_is_left() {
    let start = Instant::now();
    let mut line = line(1, 1);
    assert_eq!(asks_behind(&mut line, Share::Some, start), 1);
    let (_, _called) = stands_in_front(&mut line, start);
    assert_eq!(asks_behind(&mut line, Share::Whole, after(start, 5_000)), 0);
}
