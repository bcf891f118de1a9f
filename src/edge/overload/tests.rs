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

fn at(overload: &Overload, ms: u64) -> Instant {
    let since = Duration::from_millis(ms);
    overload.began.checked_add(since).unwrap()
}

/// Serves ticks that come late by so much, one each ten milliseconds.
fn late(overload: &Overload, by: Duration, ms: std::ops::Range<u64>) {
    for ms in ms.step_by(10) {
        let now = at(overload, ms);
        overload.tick(by, &bounds(), now);
    }
}

/// The windows of new orders and of selections.
fn windows(overload: &Overload) -> [u32; 2] {
    [overload.orders.size(), overload.selections.size()]
}

/// So many new orders and selections in flight.
async fn crowd(overload: &Overload, orders: usize, selections: usize) -> Vec<InFlight> {
    let mut held = Vec::new();
    for (priority, many) in [
        (Priority::NewOrder, orders),
        (Priority::Selection, selections),
    ] {
        for _ in 0..many {
            held.push(
                admitted(overload, priority, Caller::Proven)
                    .await
                    .ok()
                    .unwrap(),
            );
        }
    }
    held
}

/// How many requests of each priority get a permit at once, each priority by itself.
fn room(overload: &Overload) -> [usize; 4] {
    Priority::ALL.map(|priority| {
        let held: Vec<_> = std::iter::from_fn(|| overload.take_now(priority)).collect();
        held.len()
    })
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

/// R-6.4-1c, Z4: while ready tasks wait too long for the processor, fewer new orders may be in flight,
/// then fewer selections, never fewer of the rest; all may again soon after they do not.
#[tokio::test]
async fn a_standing_wait_narrows_orders_first_and_its_end_lets_them_in_again() {
    let overload = overload();
    let held = crowd(&overload, 120, 60).await;
    late(&overload, TARGET * 3, 0..100);
    assert_eq!(windows(&overload), [200, 300], "it may be a burst");
    late(&overload, TARGET * 3, 100..110);
    assert_eq!(windows(&overload), [60, 300], "half at most at a time");
    late(&overload, TARGET * 3, 110..300);
    assert_eq!(windows(&overload), [32, 300]);
    late(&overload, TARGET * 8, 300..500);
    assert_eq!(windows(&overload), [32, 32]);
    drop(held);
    late(&overload, TARGET * 3, 500..510);
    assert_eq!(windows(&overload), [32, 34]);
    late(&overload, TARGET / 2, 510..1_000);
    assert_eq!(windows(&overload), [200, 300]);
}

/// With few requests in flight a late processor is not their doing.
#[test]
fn a_few_are_admitted_however_late_it_is() {
    let overload = overload();
    late(&overload, TARGET * 9, 0..1_000);
    assert_eq!(room(&overload), [100, 32, 32, 400]);
}

/// R-6.4-1c: a narrowed window rejects for the delay, and what is at no path of ours is rejected as well,
/// until nobody is any more.
#[tokio::test]
async fn a_narrowed_window_rejects_before_a_request_is_read() {
    let overload = overload();
    late(&overload, TARGET * 9, 0..1_000);
    let check = |priority| overload.check(priority, Caller::Proven, &bounds());
    assert_eq!(check(Priority::Unrouted), Ok(()));
    let _held: Vec<_> = (0..32)
        .map(|_| overload.take_now(Priority::NewOrder))
        .collect();
    let queue = &overload.waiting[1];
    let _waiting = queue.take_now(queue.free());
    assert_eq!(check(Priority::NewOrder), Err(Cause::Delay));
    assert_eq!(check(Priority::Unrouted), Err(Cause::Delay));
    assert_eq!(check(Priority::Selection), Ok(()));
    assert_eq!(check(Priority::Other), Ok(()));
    assert_eq!(overload.rejected_lately(), [1, 1, 0, 0]);
    assert_eq!(overload.rejected_lately(), [0; 4]);
}

/// R-6.4-1c: where unauthenticated callers are the majority, fewer of them may be in flight before any
/// order is rejected; where they are not, as many as ever.
#[tokio::test]
async fn unauthenticated_callers_are_rejected_first_where_they_are_the_crowd() {
    for (caller, size) in [(Caller::Unauthenticated, 32), (Caller::Proven, 100)] {
        let overload = overload();
        for ms in (0..1_000).step_by(10) {
            for caller in [caller, caller, Caller::Unauthenticated, Caller::Proven] {
                overload.count(caller);
            }
            late(&overload, TARGET * 3 / 4, ms..ms + 1);
        }
        assert_eq!(overload.unauthenticated.size(), size);
        assert_eq!(windows(&overload), [200, 300]);
    }
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
