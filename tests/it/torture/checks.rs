//! Invariants at rest: acknowledged promises, the gateway's store, the institution's ledger and the
//! merchants' inboxes, compared with each other (section 14 of the invariants).

use std::collections::{BTreeMap, BTreeSet};

use paymux::command::demo::environment::DemoEnvironment;
use paymux::sandbox::{InstitutionLedger, PaymentState, SandboxRefundState};
use rusqlite::Connection;

use super::journal;
use super::load::ReportedState;
use super::store_observer::{self, StoreObserver};

/// What is not at rest, a line each.
pub(super) fn unfinished(file: &Connection) -> Vec<String> {
    [
        "SELECT 'attempt', attempt_id, state, sent_at FROM attempts
            WHERE state NOT IN ('PAID', 'FAILED', 'CLOSED')",
        "SELECT 'refund', refund_order_no, state, created FROM refunds
            WHERE state NOT IN ('SUCCEEDED', 'FAILED')",
        "SELECT 'event', event_id, state, tries FROM events WHERE state <> 'DELIVERED'",
        "SELECT 'order', pay_order_no, state, tries FROM orders WHERE state = 'OPEN'",
    ]
    .into_iter()
    .flat_map(|sql| {
        rows(file, sql, |row| {
            let words: [String; 3] = [row.get(0)?, row.get(1)?, row.get(2)?];
            Ok(format!("{} {}", words.join(" "), row.get::<_, i64>(3)?))
        })
    })
    .collect()
}

/// The rows of a query.
pub(super) fn rows<T>(
    file: &Connection,
    sql: &str,
    read: impl Fn(&rusqlite::Row<'_>) -> rusqlite::Result<T>,
) -> Vec<T> {
    let mut asked = file.prepare(sql).unwrap();
    let found = asked.query_map([], |row| read(row)).unwrap();
    found.map(Result::unwrap).collect()
}

/// A payment in the gateway's store.
struct StoredAttempt {
    order: String,
    id: String,
    cents: i64,
    state: String,
    settles: bool,
}

/// A refund in the gateway's store.
struct StoredRefund {
    no: String,
    attempt: String,
    cents: i64,
    state: String,
    is_excess: bool,
}

/// C4, after a kill: what it acknowledged to the institution is in its store.
pub(super) fn acknowledged(stage: &DemoEnvironment) -> Result<(), String> {
    let eye = StoreObserver::open(stage);
    let book = stage.blue.books();
    let (paid, refunded) = (
        eye.see(store_observer::PAID),
        eye.see(store_observer::REFUNDED),
    );
    let payments = book.payments().filter(|one| one.acknowledged > 0);
    let payments = payments.map(|one| (&one.terms.merchant_order_no, &paid));
    let refunds = book.refunds().filter(|one| one.acknowledged > 0);
    let refunds = refunds.map(|one| (&one.merchant_refund_no, &refunded));
    match payments
        .chain(refunds)
        .find(|(no, over)| !over.contains(*no))
    {
        Some((no, _)) => Err(format!("C4: {no} was acknowledged and is not in the store")),
        None => Ok(()),
    }
}

/// All checks; returns the number of events, or every violation, a line each.
pub(super) fn all(stage: &DemoEnvironment, reported: &ReportedState) -> Result<usize, String> {
    let file = super::file(stage);
    let book = stage.blue.books();
    let mut broken = reported.broken.clone();
    broken.extend(unfinished(&file));
    let damage = rows(&file, "PRAGMA integrity_check", |row| {
        row.get::<_, String>(0)
    });
    broken.extend(damage.into_iter().filter(|found| found != "ok"));
    let attempts = rows(
        &file,
        "SELECT a.pay_order_no, a.attempt_id, a.minor, a.state, a.attempt_id = o.paying_attempt
            FROM attempts a JOIN orders o USING (pay_order_no)",
        |row| {
            Ok(StoredAttempt {
                order: row.get(0)?,
                id: row.get(1)?,
                cents: row.get(2)?,
                state: row.get(3)?,
                settles: row.get::<_, Option<bool>>(4)?.unwrap_or_default(),
            })
        },
    );
    let refunds = rows(
        &file,
        "SELECT refund_order_no, attempt_id, minor, state, cause IS NOT NULL FROM refunds",
        |row| {
            Ok(StoredRefund {
                no: row.get(0)?,
                attempt: row.get(1)?,
                cents: row.get(2)?,
                state: row.get(3)?,
                is_excess: row.get(4)?,
            })
        },
    );
    promised(&file, reported, &mut broken);
    payments(&attempts, &refunds, &book, &mut broken);
    returned(&attempts, &refunds, &book, &mut broken);
    let delivered = events(&file, (stage, reported), &mut broken);
    journal::money(&file, &book, &mut broken);
    journal::audited(&file, &mut broken);
    if broken.is_empty() {
        Ok(delivered)
    } else {
        Err(broken.join("\n"))
    }
}

/// Every acknowledged order and refund is stored, as it was acknowledged.
fn promised(file: &Connection, reported: &ReportedState, broken: &mut Vec<String>) {
    let read = |row: &rusqlite::Row<'_>| {
        let found: (String, String, i64) = (row.get(1)?, row.get(2)?, row.get(3)?);
        Ok((row.get::<_, String>(0)?, found))
    };
    let orders: BTreeMap<_, _> = rows(
        file,
        "SELECT merchant_order_no, pay_order_no, state, minor FROM orders",
        read,
    )
    .into_iter()
    .collect();
    for (number, order) in &reported.orders {
        let state = if order.state == "OPEN" {
            orders
                .get(number)
                .map(|found| found.1.clone())
                .unwrap_or_default()
        } else {
            order.state.clone()
        };
        let expected = (order.pay_order_no.clone(), state, order.cents);
        if orders.get(number) != Some(&expected) {
            let found = orders.get(number);
            broken.push(format!(
                "order {number}: promised {order:?}, found {found:?}"
            ));
        }
    }
    let refunds: BTreeMap<_, _> = rows(
file,
"SELECT request_no, refund_order_no, state, minor FROM refunds WHERE request_no IS NOT NULL",
read,
)
.into_iter()
.collect();
    for (number, refund) in &reported.refunds {
        let found = refunds.get(number);
        let ended = matches!(refund.state.as_str(), "SUCCEEDED" | "FAILED");
        let holds = found.is_some_and(|(no, state, cents)| {
            *no == refund.refund_order_no
                && *cents == refund.cents
                && (!ended || *state == refund.state)
        });
        if !holds {
            broken.push(format!(
                "refund {number}: promised {refund:?}, found {found:?}"
            ));
        }
    }
}

/// A7, A8, K2: every payment taken is known here, and at most one payment per order is retained.
fn payments(
    attempts: &[StoredAttempt],
    refunds: &[StoredRefund],
    book: &InstitutionLedger,
    broken: &mut Vec<String>,
) {
    let known: BTreeMap<_, _> = attempts.iter().map(|one| (one.id.as_str(), one)).collect();
    let mut kept: BTreeMap<&str, usize> = BTreeMap::new();
    for payment in book.payments() {
        let id = payment.terms.merchant_order_no.as_str();
        let Some(attempt) = known.get(id) else {
            broken.push(format!("A1: {id} is in the institution's ledger only"));
            continue;
        };
        let is_paid = payment.state == PaymentState::Paid;
        if payment.state == PaymentState::Open {
            broken.push(format!(
                "A5: {id} is final here and can still be paid there"
            ));
        }
        if is_paid != (attempt.state == "PAID") || payment.terms.sum_cents != attempt.cents {
            let (theirs, ours) = (payment.state, &attempt.state);
            broken.push(format!("{id}: {theirs:?} in its ledger, {ours} here"));
        }
        let excess = |one: &&StoredRefund| one.attempt == id && one.is_excess;
        let back = refunds.iter().filter(excess);
        let is_back = back.clone().any(|one| one.state == "SUCCEEDED");
        if attempt.settles && back.count() > 0 {
            broken.push(format!(
                "A4: {id} pays its order and was refunded as an excess payment"
            ));
        }
        if is_paid && !is_back {
            *kept.entry(attempt.order.as_str()).or_default() += 1;
            if !attempt.settles {
                broken.push(format!(
                    "A4: {id} is an excess payment and was never refunded"
                ));
            }
        }
    }
    for attempt in attempts.iter().filter(|one| one.state == "PAID") {
        if book.payment(&attempt.id).is_none() {
            broken.push(format!("{} is PAID here and in no ledger", attempt.id));
        }
    }
    let twice = kept.into_iter().filter(|(_, many)| *many > 1);
    broken.extend(twice.map(|(order, many)| format!("A7: {order} was charged {many} times")));
}

/// R1, R5: the institution refunded exactly the refunds that are SUCCEEDED here, and never more
/// than was paid.
fn returned(
    attempts: &[StoredAttempt],
    refunds: &[StoredRefund],
    book: &InstitutionLedger,
    broken: &mut Vec<String>,
) {
    let theirs: BTreeSet<_> = book
        .refunds()
        .filter(|one| one.standing == SandboxRefundState::Succeeded)
        .map(|one| {
            let of = one.terms.merchant_order_no.clone();
            (one.merchant_refund_no.clone(), of, one.terms.sum_cents)
        })
        .collect();
    let ours: BTreeSet<_> = refunds
        .iter()
        .filter(|one| one.state == "SUCCEEDED")
        .map(|one| (one.no.clone(), one.attempt.clone(), one.cents))
        .collect();
    for refund in theirs.symmetric_difference(&ours) {
        broken.push(format!(
            "R1: {refund:?} succeeded in one of the two ledgers only"
        ));
    }
    for attempt in attempts {
        let back = theirs.iter().filter(|(_, of, _)| *of == attempt.id);
        let back: i64 = back.map(|(.., cents)| cents).sum();
        if back > attempt.cents {
            broken.push(format!(
                "R1: {back} of {} was refunded of {}",
                attempt.cents, attempt.id
            ));
        }
    }
}

/// N1 to N4: one event per transition, each acknowledged by its merchant, the same each time.
fn events(
    file: &Connection,
    (stage, reported): (&DemoEnvironment, &ReportedState),
    broken: &mut Vec<String>,
) -> usize {
    for shop in [&stage.tea, &stage.books] {
        let inbox = shop.merchant.inbox();
        let acknowledged: BTreeSet<_> = inbox
            .events
            .iter()
            .map(|one| one.event_id.as_str())
            .collect();
        let sql = "SELECT event_id, sequence, merchant_id FROM events ORDER BY sequence";
        let events = rows(file, sql, |row| {
            Ok((
                row.get::<_, String>(0)?,
                usize::try_from(row.get::<_, i64>(1)?).unwrap(),
                row.get::<_, String>(2)?,
            ))
        });
        let events: Vec<_> = events.iter().filter(|one| one.2 == shop.role.id).collect();
        for (at, (id, sequence, _)) in events.iter().enumerate() {
            if *sequence != at + 1 {
                broken.push(format!(
                    "K1: {id} has number {sequence}, expected {}",
                    at + 1
                ));
            }
            if !acknowledged.contains(id.as_str()) {
                broken.push(format!("N2: {id} is not in the inbox of {}", shop.role.id));
            }
        }
        let listed = reported.listed.get(shop.role.id);
        if !listed.is_some_and(|listed| listed.iter().eq(events.iter().map(|one| &one.0))) {
            broken.push(format!(
                "N3: /v1/events of {} differs: {listed:?}",
                shop.role.id
            ));
        }
        let (mut bodies, mut versions) = (BTreeMap::new(), BTreeMap::new());
        for notice in &inbox.deliveries {
            let id = notice.event_id.as_str();
            if !events.iter().any(|one| one.0 == id) {
                broken.push(format!("N1: {id} was delivered and is not in the store"));
            }
            if *bodies.entry(id).or_insert(&notice.body) != &notice.body {
                broken.push(format!("N3: {id} had other content before"));
            }
            let order = notice.fields["payOrderNo"].to_string();
            let of = (order, notice.version);
            if *versions.entry(of.clone()).or_insert(id) != id {
                broken.push(format!("N4: {of:?} has two events"));
            }
        }
    }
    let expected = "SELECT count(*) FROM orders WHERE state <> 'OPEN'";
    let refunds = "SELECT count(*) FROM refunds WHERE state IN ('SUCCEEDED', 'FAILED')";
    let count = |sql| file.query_one(sql, [], |row| row.get::<_, i64>(0)).unwrap();
    let ended = count(expected) + count(refunds);
    let delivered = count("SELECT count(*) FROM events");
    if delivered != ended {
        broken.push(format!(
            "N1: {ended} things ended, {delivered} events report them"
        ));
    }
    usize::try_from(delivered).unwrap()
}
