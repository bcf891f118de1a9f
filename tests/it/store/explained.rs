//! The ledger of one order as people read it, while a process writes.

use std::sync::Arc;

use paymux::domain::identifiers::AttemptId;
use paymux::seal::Seal;
use paymux::store::timeline::Timeline;
use paymux::store::{StoreError, StoreUrl, open_to_explain};

use super::Stores;
use super::builders::{MOBILE, paid, terms};
use super::embedded::EmbeddedStores;
use super::refunds::{refunded, reserve};

fn reported(stores: &EmbeddedStores, named: &str) -> Option<Timeline> {
    explained(stores, EmbeddedStores::seal(), named).unwrap()
}

/// Explains an order from a store with these keys.
pub(super) fn explained(
    stores: &EmbeddedStores,
    seal: Seal,
    named: &str,
) -> Result<Option<Timeline>, StoreError> {
    let opened = open_to_explain(&StoreUrl::of_file(stores.file()), Arc::new(seal)).unwrap();
    opened.timeline(named)
}

/// L4, D1, K4: everything done to an order is listed in sequence, under each of its names, while a
/// process writes; and nothing personal.
#[tokio::test]
async fn an_order_is_explained_completely_while_others_write() {
    let stores = EmbeddedStores::new();
    let store = stores.open();
    for n in 1..20 {
        paid(&store, n, "harbour", terms(n)).await;
    }
    let order = paid(&store, 20, "harbour", terms(20)).await;
    let change = reserve(&store, &order, 1, "B1", 500);
    let order = super::builders::done(&store, change).await;
    let order = super::builders::done(&store, refunded(&order, 500)).await;
    for n in 21..40 {
        paid(&store, n, "harbour", terms(n)).await;
    }
    let attempt: &AttemptId = &order.attempts[0].id;
    for named in [
        order.no.as_str(),
        attempt.as_str(),
        order.refunds[0].no.as_str(),
        "M1/ORDER-20",
    ] {
        let reported = reported(&stores, named).unwrap();
        assert_eq!(reported.order, order, "{named}");
        let audit_entries: Vec<_> = reported
            .audit_entries
            .iter()
            .map(|(_, audit_entry)| &*audit_entry.action)
            .collect();
        assert_eq!(
            audit_entries,
            ["order.place", "order.paid", "refund.reserve", "refund.move"]
        );
        let posted: Vec<_> = reported
            .entries
            .iter()
            .map(|one| one.kind.as_str())
            .collect();
        assert_eq!(
            posted,
            ["ORDER_PAID", "REFUND_RESERVED", "REFUND_SUCCEEDED"]
        );
        let events: Vec<_> = reported
            .events
            .iter()
            .map(|one| one.kind.as_str())
            .collect();
        assert_eq!(events, ["ORDER_PAID", "REFUND_SUCCEEDED"]);
        let said = format!(
            "{:?}{:?}{:?}",
            reported.audit_entries, reported.entries, reported.events
        );
        assert!(!said.contains(MOBILE), "{said}");
    }
    assert!(reported(&stores, "M2/ORDER-20").is_none());
    assert!(reported(&stores, "P00000000000000000000000000").is_none());
    assert!(
        store
            .orders
            .order(&super::refunds::ours(&order))
            .await
            .is_ok()
    );
}
