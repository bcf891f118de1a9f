//! What is kept beside the ledger: bounded for each order, sealed to its row, forgotten in time.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use paymux::domain::identifiers::{PayOrderNo, hex};
use paymux::metrics::Metrics;
use paymux::seal::{Place, Seal};
use paymux::store::timeline::timeline;
use paymux::store::trails::{Kinds, Leaf, ORDER_BYTES_MAX, STRANGERS_BYTES_MAX, Trail, Trails};
use paymux::store::{OrderKey, Store, open_for_all};
use paymux::workers::trail::Notes;
use paymux::world::Clock;

use super::builders::{at, done, draw, institution, merchant, paid, terms};
use super::embedded::Embedded;
use crate::world::clock::Hands;

/// A store, and the same store as whoever takes notes sees it.
fn open(stores: &Embedded) -> (Arc<dyn Store>, Arc<dyn Trails>) {
    let fatal = Box::new(|why: &str| panic!("{why}"));
    let seal = Arc::new(Embedded::seal());
    let opened = open_for_all(
        &stores.file(),
        seal,
        (fatal, Box::new(|_, _| ())),
        Duration::ZERO,
    );
    let (store, _, trails) = opened.unwrap();
    (store, trails)
}

/// A store with one paid order, as whoever takes notes sees it.
async fn one_order(stores: &Embedded) -> (Arc<dyn Store>, Arc<dyn Trails>, PayOrderNo) {
    let (store, trails) = open(stores);
    let order = paid(&*store, 1, "harbour", terms(1)).await;
    (store, trails, order.no)
}

/// A note that hardly gets smaller.
fn leaf(order: &PayOrderNo, n: i64, bytes: usize, is_stranger: bool) -> Leaf {
    let mut seed = u64::try_from(n).unwrap() + 7;
    let mut noise = String::new();
    while noise.len() < bytes {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        write!(noise, "{seed:016x}").unwrap();
    }
    Leaf {
        order: order.clone(),
        at: at(n),
        is_stranger,
        is_paying: false,
        holds: Kinds::from([("query".to_owned(), 1)]),
        lines: format!("{{\"note\":{n},\"noise\":\"{noise}\"}}\n").into_bytes(),
    }
}

fn trail(stores: &Embedded, seal: &Seal, order: &PayOrderNo) -> Trail {
    let read = timeline(&stores.file(), seal, order.as_str());
    read.unwrap().unwrap().trail
}

/// The numbers of the notes that are there.
fn notes(trail: &Trail) -> Vec<u64> {
    let note = |line: &String| {
        let note: serde_json::Value = serde_json::from_str(line).unwrap();
        note["note"].as_u64().unwrap()
    };
    trail.lines.iter().map(note).collect()
}

fn stored_bytes(stores: &Embedded) -> usize {
    let sql = "SELECT COALESCE(SUM(LENGTH(sealed)), 0) FROM trails";
    stores
        .look()
        .query_row(sql, [], |row| row.get::<_, u32>(0))
        .unwrap()
        .try_into()
        .unwrap()
}

/// What an earlier or a later release packed counts as gone, and hides nothing of the rest.
#[tokio::test]
async fn what_another_release_packed_is_passed_over() {
    let stores = Embedded::new();
    let (store, trails, order) = one_order(&stores).await;
    for n in [1, 2] {
        trails.keep(&[leaf(&order, n, 50, false)]).await.unwrap();
    }
    let sql = "SELECT leaf FROM trails ORDER BY at LIMIT 1";
    let first: Vec<u8> = stores.look().query_row(sql, [], |row| row.get(0)).unwrap();
    let row = &format!("{order} {}", hex(&first));
    let (table, column) = ("trails", "sealed");
    let place = Place { table, row, column };
    let seal = Embedded::seal();
    let other = seal.seal(place, &[1, 0x4b, 0x04]).unwrap().into_bytes();
    let sql = "UPDATE trails SET sealed = ?1 WHERE leaf = ?2";
    assert_eq!(stores.look().execute(sql, (other, first)).unwrap(), 1);
    let kept = trail(&stores, &seal, &order);
    assert_eq!((notes(&kept), kept.given_up), (vec![2], 1));
    drop(store);
}

/// L4, D2: what was noted is read back in its order, sealed to its row and to its order, and to nobody
/// without the key.
#[tokio::test]
async fn a_note_is_read_back_by_whoever_has_the_key() {
    let stores = Embedded::new();
    let (store, trails, order) = one_order(&stores).await;
    for n in [1, 2, 3] {
        trails.keep(&[leaf(&order, n, 50, false)]).await.unwrap();
    }
    let kept = trail(&stores, &Embedded::seal(), &order);
    assert_eq!((notes(&kept), kept.given_up), (vec![1, 2, 3], 0));
    let file = stores.look();
    let raw: Vec<u8> = file
        .query_row("SELECT sealed FROM trails LIMIT 1", [], |row| row.get(0))
        .unwrap();
    assert!(!raw.windows(4).any(|part| part == b"note"), "kept as it is");

    let other = Seal::new("2027", [("2027".to_owned(), [9; 32])].into(), [2; 32]).unwrap();
    assert!(timeline(&stores.file(), &other, order.as_str()).is_err());
    let second = paid(&*store, 2, "harbour", terms(2)).await;
    let moved = "UPDATE trails SET pay_order_no = ?1";
    file.execute(moved, [second.no.as_str()]).unwrap();
    let read = timeline(&stores.file(), &Embedded::seal(), second.no.as_str());
    assert!(read.is_err(), "a note of another order was believed");
}

/// The bound of one order: its beginning and its end are kept, what lies between is given up, and it
/// is said how often.
#[tokio::test]
async fn of_a_long_trail_the_middle_is_given_up() {
    let stores = Embedded::new();
    let (_store, trails, order) = one_order(&stores).await;
    for n in 1..=300 {
        trails.keep(&[leaf(&order, n, 400, false)]).await.unwrap();
        assert!(stored_bytes(&stores) <= ORDER_BYTES_MAX, "after {n}");
    }
    let kept = trail(&stores, &Embedded::seal(), &order);
    let found = notes(&kept);
    assert_eq!(&found[..3], &[1, 2, 3]);
    assert_eq!(&found[found.len() - 3..], &[298, 299, 300]);
    let count = u64::try_from(found.len()).unwrap();
    assert_eq!(kept.given_up + count, 300);
    assert_eq!(kept.lost, Kinds::from([("query".to_owned(), 300 - count)]));
    trails
        .keep(&[leaf(&order, 301, 40_000, false)])
        .await
        .unwrap();
    let kept = trail(&stores, &Embedded::seal(), &order);
    assert_eq!(
        kept.given_up + count,
        301,
        "one that is too long is counted"
    );
}

/// L4: the callback that paid is there whatever came before it, with it and after it, and however long
/// it is.
#[tokio::test]
async fn the_callback_that_paid_is_never_given_up() {
    let stores = Embedded::new();
    let (_store, trails, order) = one_order(&stores).await;
    for n in 1..=40 {
        trails.keep(&[leaf(&order, n, 400, false)]).await.unwrap();
    }
    let paying = |n, bytes| Leaf {
        is_paying: true,
        holds: Kinds::from([("callback".to_owned(), 1)]),
        ..leaf(&order, n, bytes, false)
    };
    let strangers = leaf(&order, 43, 300, true);
    let all = [paying(41, 400), paying(42, 5_000), strangers];
    trails.keep(&all).await.unwrap();
    for n in 44..=90 {
        trails.keep(&[leaf(&order, n, 400, false)]).await.unwrap();
    }
    let kept = trail(&stores, &Embedded::seal(), &order);
    let found = notes(&kept);
    assert!(found.contains(&41) && found.contains(&42), "{found:?}");
    assert_eq!(found.last(), Some(&90));
    assert!(kept.lost.contains_key("query") && !kept.lost.contains_key("callback"));
}

/// Whoever knows a number and no key gets a small part of its trail, and drives out nothing.
#[tokio::test]
async fn strangers_do_not_drive_out_what_is_true() {
    let stores = Embedded::new();
    let (_store, trails, order) = one_order(&stores).await;
    trails.keep(&[leaf(&order, 1, 300, false)]).await.unwrap();
    for n in 2..200 {
        trails.keep(&[leaf(&order, n, 300, true)]).await.unwrap();
    }
    for n in 200..203 {
        trails.keep(&[leaf(&order, n, 300, false)]).await.unwrap();
    }
    let found = notes(&trail(&stores, &Embedded::seal(), &order));
    for n in [1, 200, 201, 202] {
        assert!(found.contains(&n), "{n} is gone: {found:?}");
    }
    let sql = "SELECT SUM(LENGTH(sealed)) FROM trails WHERE is_stranger = 1";
    let theirs: u32 = stores.look().query_row(sql, [], |row| row.get(0)).unwrap();
    assert!(usize::try_from(theirs).unwrap() <= STRANGERS_BYTES_MAX);
}

/// What is too old is forgotten, a handful at once, and nothing else.
#[tokio::test]
async fn old_notes_are_forgotten() {
    let stores = Embedded::new();
    let (_store, trails, order) = one_order(&stores).await;
    for n in [1, 2, 3] {
        trails.keep(&[leaf(&order, n, 50, false)]).await.unwrap();
    }
    assert_eq!(trails.forget(at(1)).await, Ok(0));
    assert_eq!(trails.forget(at(3)).await, Ok(2));
    let kept = trail(&stores, &Embedded::seal(), &order);
    assert_eq!(notes(&kept), [3]);
}

/// T2: a clock that is forty days ahead, and may not be trusted yet, deletes nothing; what is as old by a
/// clock that is settled is deleted.
#[tokio::test(flavor = "multi_thread")]
async fn a_clock_ahead_deletes_no_notes() {
    const DAYS_MS: i64 = 40 * 86_400_000;
    let stores = Embedded::new();
    let (_store, trails, order) = one_order(&stores).await;
    let clock = Arc::new(Hands::new());
    let note = Leaf {
        at: clock.now(),
        ..leaf(&order, 1, 50, false)
    };
    trails.keep(&[note]).await.unwrap();
    let writer = Notes::new(30, Arc::new(Metrics::new().unwrap()));
    let (over, stop) = tokio::sync::watch::channel(false);
    let writing = tokio::spawn({
        let (trails, clock) = (Arc::clone(&trails), Arc::clone(&clock));
        async move { writer.write(&*trails, &*clock, stop).await }
    });
    let kept = || notes(&trail(&stores, &Embedded::seal(), &order));
    // It looks ten times a second.
    let a_while = || {
        let nothing = std::future::pending::<()>();
        tokio::time::timeout(std::time::Duration::from_millis(500), nothing)
    };
    let _ = a_while().await;
    clock.doubt(true);
    clock.set_off(DAYS_MS);
    let _ = a_while().await;
    clock.set_off(0);
    let _ = a_while().await;
    clock.doubt(false);
    clock.pass(61_000);
    let _ = a_while().await;
    assert_eq!(kept(), [1]);
    clock.pass(DAYS_MS);
    let gone = async {
        while !kept().is_empty() {
            let _ = a_while().await;
        }
    };
    let gone = tokio::time::timeout(std::time::Duration::from_secs(30), gone).await;
    assert!(gone.is_ok());
    over.send_replace(true);
    writing.await.unwrap();
}

/// K3, C2: a note finds its order under each name that its sender may use, and under no other's.
#[tokio::test]
async fn a_note_finds_its_order_under_its_names_alone() {
    let stores = Embedded::new();
    let (store, trails) = open(&stores);
    let order = paid(&*store, 1, "harbour", terms(1)).await;
    let change = super::refunds::reserve(&*store, &order, 1, "B1", 500);
    let order = done(&*store, change).await;
    let (attempt, refund) = (order.attempts[0].id.clone(), order.refunds[0].no.clone());
    let number = order.terms.merchant_order_no.clone();
    let wish = order.refunds[0].wish().unwrap().number.clone();
    let names = [
        OrderKey::Ours(merchant("M1"), order.no.clone()),
        OrderKey::Theirs(merchant("M1"), number.clone()),
        OrderKey::OfAttempt(institution("harbour"), attempt.clone()),
        OrderKey::OfRefund(institution("harbour"), refund.clone()),
        OrderKey::RefundOurs(merchant("M1"), refund.clone()),
        OrderKey::RefundTheirs(merchant("M1"), wish.clone()),
    ];
    let found = trails.named(&names).await.unwrap();
    assert_eq!(found, vec![Some(order.no.clone()); names.len()]);
    let others = [
        OrderKey::Ours(merchant("M2"), order.no.clone()),
        OrderKey::Theirs(merchant("M2"), number),
        OrderKey::OfAttempt(institution("island"), attempt),
        OrderKey::OfRefund(institution("island"), refund.clone()),
        OrderKey::RefundOurs(merchant("M2"), refund),
        OrderKey::RefundTheirs(merchant("M2"), wish),
        OrderKey::Ours(merchant("M1"), PayOrderNo::mint(at(1), draw(9))),
    ];
    let found = trails.named(&others).await.unwrap();
    assert_eq!(found, vec![None; others.len()]);
}
