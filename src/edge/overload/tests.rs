//! Who is rejected, and in which order.

use super::*;

const TARGET: Duration = Duration::from_millis(20);

fn bounds() -> Bounds {
    Bounds {
        in_flight_orders_max: 200,
        in_flight_selections_max: 300,
        in_flight_max: 400,
        delay_max: TARGET,
        ..Bounds::default()
    }
}

fn overload() -> Overload {
    Overload::new(&bounds())
}

async fn admitted(
    overload: &Overload,
    priority: Priority,
    caller: Caller,
) -> Result<InFlight, Cause> {
    overload.check(priority, caller, &bounds())?;
    overload.enter(priority, caller, &bounds()).await
}

async fn filled(overload: &Overload, by: usize) -> Vec<InFlight> {
    let mut held = Vec::new();
    for _ in 0..by {
        let one = admitted(overload, Priority::Other, Caller::Proven).await;
        held.push(one.ok().unwrap());
    }
    held
}

/// A span of milliseconds in which the processor is late by so much.
struct Late(Duration, std::ops::Range<u64>);

fn at(overload: &Overload, ms: u64) -> Instant {
    overload
        .began
        .checked_add(Duration::from_millis(ms))
        .unwrap()
}

/// What is decided about a request that need not wait for a permit.
fn judged(
    overload: &Overload,
    priority: Priority,
    caller: Caller,
    now: Instant,
) -> Result<(), Cause> {
    let waits = |waited| RequestWait {
        priority,
        caller,
        waited,
        now,
    };
    overload.judge(&waits(overload.left(now)), &bounds(), Codel::is_flooded)?;
    overload.judge(&waits(overload.delay()), &bounds(), Codel::rejects)
}

/// How many of each priority were admitted, of one a millisecond.
fn let_in(
    overload: &Overload,
    caller: Caller,
    Late(delay, ms): Late,
    priorities: [Priority; 4],
) -> [u64; 4] {
    let mut counts = [0_u64; 4];
    for ms in ms {
        let now = at(overload, ms);
        overload.tick(delay, now);
        for (count, priority) in counts.iter_mut().zip(priorities) {
            overload.count(caller);
            let is_let_in = judged(overload, priority, caller, now).is_ok();
            *count = count.saturating_add(u64::from(is_let_in));
        }
    }
    counts
}

/// R-6.4-1c: as permits are taken, new orders are rejected before selections, and both before the
/// rest; released permits can be used again (Z4).
#[tokio::test]
async fn priorities_are_rejected_one_after_the_other_as_permits_are_taken() {
    for (taken, open) in [
        (99, [true, true, true, true]),
        (100, [false, true, true, true]),
        (199, [false, true, true, true]),
        (200, [false, false, true, true]),
        (300, [false, false, false, true]),
        (400, [false, false, false, false]),
    ] {
        let overload = overload();
        let held = filled(&overload, taken).await;
        for (priority, open) in Priority::ALL.into_iter().zip(open) {
            let came = admitted(&overload, priority, Caller::Proven).await.is_ok();
            assert_eq!(came, open, "{priority:?} with {taken} taken");
        }
        drop(held);
        assert!(
            admitted(&overload, Priority::NewOrder, Caller::Proven)
                .await
                .is_ok()
        );
    }
}

/// A burst past the bound waits briefly for permits, and no more requests wait than may.
#[tokio::test]
async fn a_burst_waits_shortly() {
    let overload = Arc::new(overload());
    let mut held = filled(&overload, 200).await;
    let mut waiting = tokio::task::JoinSet::new();
    for _ in 0..26 {
        let overload = Arc::clone(&overload);
        waiting.spawn(async move {
            admitted(&overload, Priority::NewOrder, Caller::Proven)
                .await
                .is_ok()
        });
    }
    assert_eq!(
        waiting.join_next().await.unwrap().ok(),
        Some(false),
        "25 wait"
    );
    held.truncate(150);
    let came = waiting.join_all().await;
    assert_eq!(came, [true; 25]);
    let _held = filled(&overload, 50).await;
    let late = admitted(&overload, Priority::NewOrder, Caller::Proven).await;
    assert_eq!(late.err(), Some(Cause::Delay));
}

/// R-6.4-1c: however many unauthenticated requests come, and for whatever path, half of the permits of
/// new orders is left to authenticated callers.
#[tokio::test]
async fn unauthenticated_callers_fill_only_a_part() {
    let overload = overload();
    let mut held = Vec::new();
    while let Ok(one) = admitted(&overload, Priority::Other, Caller::Unauthenticated).await {
        held.push(one);
    }
    assert_eq!(held.len(), 100);
    let next = admitted(&overload, Priority::Other, Caller::Unauthenticated).await;
    assert_eq!(next.err(), Some(Cause::Unauthenticated));
    for _ in 0..100 {
        let order = admitted(&overload, Priority::NewOrder, Caller::Proven).await;
        held.push(order.ok().unwrap());
    }
    held.clear();
    assert!(
        admitted(&overload, Priority::Other, Caller::Unauthenticated)
            .await
            .is_ok()
    );
}

/// R-6.4-1c, Z4: while ready tasks wait too long for the processor, new orders are rejected, then
/// selections, never the rest; all are admitted again as soon as they do not.
#[tokio::test]
async fn a_standing_wait_shuts_orders_out_first_and_its_end_lets_them_in_again() {
    let overload = overload();
    let _held = filled(&overload, 50).await;
    let let_in = |delay, ms| let_in(&overload, Caller::Proven, Late(delay, ms), Priority::ALL);
    assert_eq!(let_in(TARGET * 3, 1..51), [50; 4], "it may be a burst");
    let_in(TARGET * 3, 51..200);
    assert_eq!(let_in(TARGET * 3, 200..250), [0, 0, 50, 50]);
    let_in(TARGET * 9, 250..360);
    assert_eq!(let_in(TARGET * 9, 360..380), [0, 0, 0, 20]);
    let_in(TARGET / 2, 380..500);
    assert_eq!(let_in(TARGET / 2, 500..520), [20; 4]);
    let rejected = overload.rejected_lately();
    assert!(rejected.iter().take(3).all(|count| *count > 0));
    assert_eq!(overload.rejected_lately(), [0; 4]);
}

/// R-6.4-1c: where unauthenticated callers are the majority, they are rejected before any order; where
/// they are not, new orders are rejected before a payer's first request.
#[tokio::test]
async fn unauthenticated_callers_are_rejected_first_where_they_are_the_crowd() {
    let overload = overload();
    let _held = filled(&overload, 50).await;
    let (late, very_late) = (TARGET * 3 / 4, TARGET * 3);
    let from = |caller, late, priority| let_in(&overload, caller, late, [priority; 4]);
    let mut came = [1; 4];
    for ms in 1..200 {
        came = from(
            Caller::Unauthenticated,
            Late(late, ms..ms + 1),
            Priority::Other,
        );
        let order = judged(
            &overload,
            Priority::NewOrder,
            Caller::Proven,
            at(&overload, ms),
        );
        assert!(order.is_ok(), "at {ms} ms");
    }
    assert_eq!(came, [0; 4]);
    from(
        Caller::Proven,
        Late(very_late, 200..400),
        Priority::NewOrder,
    );
    let orders = from(
        Caller::Proven,
        Late(very_late, 400..401),
        Priority::NewOrder,
    );
    assert_eq!(orders, [0; 4]);
    let now = at(&overload, 401);
    overload.tick(very_late, now);
    let payer = Caller::Unauthenticated;
    assert!(judged(&overload, Priority::Other, payer, now).is_ok());
}

/// The wait for the processor shrinks as tasks run: only as many requests are rejected as necessary.
#[tokio::test]
async fn orders_are_let_in_again_before_the_processor_runs_dry() {
    let overload = overload();
    let _held = filled(&overload, 50).await;
    let orders = [Priority::NewOrder; 4];
    let_in(&overload, Caller::Proven, Late(TARGET * 3, 1..150), orders);
    let order = |ms| {
        judged(
            &overload,
            Priority::NewOrder,
            Caller::Proven,
            at(&overload, ms),
        )
    };
    assert_eq!(
        order(168).err(),
        Some(Cause::Delay),
        "more than 40 ms are left of 60"
    );
    assert!(order(170).is_ok());
}

/// Rejected connections are read again only so often in a second, all together, and each within
/// a second.
#[tokio::test]
async fn rejected_connections_come_back_one_by_one() {
    let overload = overload();
    let bounds = Bounds {
        rejections_per_second_max: 1_000,
        rejection_pause: Duration::from_millis(15),
        ..bounds()
    };
    let pauses: Vec<_> = (0..3_000).map(|_| overload.pause(&bounds)).collect();
    assert_eq!(pauses[0], Duration::from_millis(15));
    // However long this test takes, a thousand rejections fill a second.
    assert!(pauses[900] <= Duration::from_millis(900));
    assert!(pauses.is_sorted_by(|one, next| *next <= *one + Duration::from_millis(1)));
    assert!(pauses.iter().all(|pause| *pause <= PAUSE_MAX));
    assert!(pauses[2_999] > Duration::from_millis(15) || overload.began.elapsed() > PAUSE_MAX);
    // Z4: a flood that is over leaves no pause longer than the longest.
    let again_us = overload.read_again_us.load(Ordering::Relaxed);
    assert!(again_us <= micros(overload.began.elapsed() + PAUSE_MAX));
}

/// With few requests in flight a late processor is not their doing.
#[tokio::test]
async fn without_a_crowd_nobody_is_rejected_for_waiting() {
    let overload = overload();
    let _held = filled(&overload, 3).await;
    let late = Late(TARGET * 9, 1..121);
    assert_eq!(
        let_in(&overload, Caller::Proven, late, Priority::ALL),
        [120; 4]
    );
}
