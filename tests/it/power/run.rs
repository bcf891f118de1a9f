//! The recorded run: whole journeys on the embedded store, several concurrently, so that commits
//! are batched; the log is checkpointed in between, and each process except the last ends without
//! closing.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use paymux::domain::identifiers::Timestamp;
use paymux::flow::notify_merchant::{Delivery, notify_merchant};
use paymux::flow::poll_unresolved::recover_orphaned;
use paymux::seal::Seal;
use paymux::store::{LeaseKind, LeasedWork, OpenError, Store, open};
use paymux::world::Clock;
use rusqlite::Connection;
use serde_json::json;

use super::acknowledgement_recorder::AcknowledgementRecorder;
use crate::journey::races::{RaceTestbed, selecting};
use crate::store::builders::lease;
use crate::world::enrolment::order_fields;
use crate::world::test_gateway::naming;

/// The store's file, in the watched folder.
pub(super) const FILE: &str = "paymux.db";

/// Rounds of one process.
const ROUNDS: usize = 3;

/// Orders of a round.
const ORDERS: usize = 6;

/// The time between two processes, so that their data cannot be confused.
const APART_S: i64 = 86_400;

/// The age at which nonces are deleted.
const FORGOTTEN_BEHIND_MS: i64 = 600_000;

/// Opens the store as every process here does.
pub(super) fn opened(file: &Path) -> Result<Arc<Store>, OpenError> {
    let keys = BTreeMap::from([("2026".to_owned(), [5; 32])]);
    let seal = Seal::new("2026", keys, [6; 32]).unwrap();
    let fatal = Box::new(|why: &str| panic!("{why}"));
    open(file, Arc::new(seal), fatal, Box::new(|_, _| ()))
}

/// The work of one process, from opening the store.
pub(super) async fn run_process(folder: &Path, process: i64) -> RaceTestbed {
    let file = folder.join(FILE);
    let recorder = Arc::new(AcknowledgementRecorder::new(opened(&file).unwrap(), folder));
    let arena = RaceTestbed::on(recorder.handles());
    arena.gateway.advance_s(process * APART_S);
    let now = arena.gateway.clock.now();
    let until = Timestamp::from_ms(now.ms() - FORGOTTEN_BEHIND_MS);
    arena.api.store.nonces.forget_nonces(until).await.unwrap();
    recover_orphaned(&arena.api.store, now).await.unwrap();
    let checkpoints = Connection::open(&file).unwrap();
    checkpoints
        .execute_batch("PRAGMA synchronous = FULL")
        .unwrap();
    for round in 0..ROUNDS {
        let numbers: Vec<_> = (0..ORDERS)
            .map(|n| format!("W{process}-{round}-{n}"))
            .collect();
        begin(&arena, &numbers).await;
        let carry = "PRAGMA wal_checkpoint(PASSIVE)";
        checkpoints.query_row(carry, [], |_| Ok(())).unwrap();
        end(&arena, &numbers).await;
        deliver(&arena, &recorder).await;
    }
    arena
}

/// Places orders; all but one are selected, one of them with an ambiguous answer; three are paid.
async fn begin(arena: &RaceTestbed, numbers: &[String]) {
    let place = |no: &String| arena.request("/v1/orders", &order_fields("M1", no));
    arena.all(numbers.iter().map(place).collect()).await;
    let select = |no: &String| arena.request("/v1/orders/select", &selecting(no, "bank"));
    arena.all(numbers[..4].iter().map(select).collect()).await;
    arena
        .gateway
        .at("bank", |books| books.behaviours.uses_unlisted_word = true);
    arena.all(vec![select(&numbers[4])]).await;
    arena
        .gateway
        .at("bank", |books| books.behaviours.uses_unlisted_word = false);
    let truth = arena.gateway.clock.truth();
    let mut callbacks = Vec::new();
    for no in &numbers[..3] {
        let id = arena.attempt(no).await;
        arena.gateway.at("bank", |books| books.pay(&id, truth));
        callbacks.extend([arena.callback(&id), arena.callback(&id)]);
    }
    arena.all(callbacks).await;
}

/// Partial and full refunds, a close followed by a payment, polling of unresolved outcomes, and
/// expiry.
async fn end(arena: &RaceTestbed, numbers: &[String]) {
    let back = |no: &String, n: usize, sum: &str| {
        let body = json!({
            "merchantOrderNo": no, "orderDate": "20260925", "merchantId": "M1",
            "refundAmount": sum, "mobileNo": "13812345678", "merchantRefundNo": format!("{no}-{n}"),
        });
        arena.request("/v1/refunds", &body)
    };
    let refunds = [(0, 1, "0.50"), (0, 2, "1"), (1, 1, "12.30"), (1, 2, "5")];
    let refunds = refunds.map(|(at, n, sum)| back(&numbers[at], n, sum));
    arena.all(refunds.into()).await;
    let closing = arena.request("/v1/orders/close", &naming(&numbers[3]));
    arena.all(vec![closing]).await;
    let truth = arena.gateway.clock.truth();
    let late = arena.gateway.at("bank", |books| {
        books.behaviours.takes_after_end = true;
        let late = books.payable(truth);
        for id in &late {
            books.pay(id, truth);
        }
        books.behaviours.takes_after_end = false;
        late
    });
    arena
        .all(late.iter().map(|id| arena.callback(id)).collect())
        .await;
    for wait_s in [20, 2_000, 100] {
        arena.gateway.advance_s(wait_s);
        arena.poll_unresolved().await;
    }
}

/// Delivers the outbox.
async fn deliver(arena: &RaceTestbed, recorder: &AcknowledgementRecorder) {
    let (store, world) = (&*arena.api.store, &arena.api.world);
    let leases = lease(store, LeaseKind::Events, world.clock.now(), 100).await;
    for lease in leases.unwrap() {
        let delivery = notify_merchant(arena.api.scope(), &lease).await;
        if let (Delivery::Delivered(_), LeasedWork::Event(event, _)) =
            (delivery.unwrap(), &lease.of)
        {
            recorder.delivered(event);
        }
    }
}
