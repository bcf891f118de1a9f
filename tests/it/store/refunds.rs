//! Scenarios of refunds: read back, found only under their own keys, unique numbers, and the
//! refundable amount of an order under concurrent writers.

use std::sync::Arc;

use paymux::domain::amount::{Amount, CNY};
use paymux::domain::change::Change;
use paymux::domain::evidence::{
    Evidence, EvidenceSource, EvidenceSubject, Finding, OriginalPayment, Reason, Receipt,
};
use paymux::domain::identifiers::{RefundOrderNo, RefundRequestNo};
use paymux::domain::institutions::{RefundKinds, RefundRules};
use paymux::domain::order::{Applied, Order, RefundRequest};
use paymux::domain::refund::RefundState;
use paymux::store::{Committed, LeaseKind, OrderKey, Store};
use tokio::task::JoinSet;

use super::Stores;
use super::builders::{at, done, draw, facts, institution, lease, merchant, paid, request, terms};

const RULES: RefundRules = RefundRules {
    kinds: RefundKinds::ALL,
    window: std::time::Duration::from_hours(24),
};

fn fen(minor: i64) -> Amount {
    Amount::from_minor(minor, CNY).unwrap()
}

/// Reserves refund `n` of this amount, by a request with its own nonce.
pub(super) fn reserve(store: &Store, order: &Order, n: u32, number: &str, minor: i64) -> Change {
    let asked = RefundRequest {
        no: RefundOrderNo::mint(at(30), draw(n)),
        number: Some(RefundRequestNo::parse(number).unwrap()),
        amount: fen(minor),
        reason: Some("茶凉了".into()),
        notice_url: Some("https://shop.example/refunds".into()),
        epoch: store.epoch,
    };
    let cause = request(&format!("refunding-{n}-......"));
    order.reserve_refund(asked, &RULES, cause, at(30)).unwrap()
}

/// Applies the finding of a query to the last refund.
pub(super) fn apply(order: &Order, finding: Finding) -> Change {
    let refund = order.refunds.last().unwrap();
    let evidence = Evidence {
        institution: institution("harbour"),
        accounts: None,
        receiver: None,
        about: EvidenceSubject::Refund(refund.no.clone()),
        by: EvidenceSource::Query,
        sum: None,
        along: OriginalPayment::default(),
        asked_at: None,
        proves_arrival: false,
        finding,
    };
    match order.apply(&evidence, &facts(), at(40)) {
        Applied::Commit(change) => *change,
        other @ (Applied::Repeat | Applied::ConfirmByQuery | Applied::Quarantine(_)) => {
            panic!("expected a change, not {other:?}")
        }
    }
}

/// Applies the finding that this amount was returned.
pub(super) fn refunded(order: &Order, minor: i64) -> Change {
    apply(order, back(minor))
}

/// Applies the finding that the refund failed.
pub(super) fn failed(order: &Order) -> Change {
    apply(order, Finding::Refused(Reason::from_code("ACCOUNT_CLOSED")))
}

pub(super) fn ours(order: &Order) -> OrderKey {
    OrderKey::PayOrderNo(order.terms.merchant.clone(), order.no.clone())
}

fn back(minor: i64) -> Finding {
    Finding::Succeeded(Receipt {
        amount: fen(minor),
        institution_no: Some("H-R-1".into()),
        paid_at: at(35),
        fee: None,
    })
}

/// R2, O5: after each change a refund reads back as decided, also after a restart.
pub(crate) async fn a_refund_reads_back_equal(stores: &dyn Stores) {
    let store = stores.open();
    let order = paid(&store, 1, "harbour", terms(1)).await;
    let key = OrderKey::PayOrderNo(merchant("M1"), order.no.clone());
    let order = done(&store, reserve(&store, &order, 1, "B1", 500)).await;
    assert_eq!(
        store.orders.order(&key).await.unwrap().as_ref(),
        Some(&order)
    );
    let order = done(&store, apply(&order, Finding::Accepted(None))).await;
    assert_eq!(
        store.orders.order(&key).await.unwrap().as_ref(),
        Some(&order)
    );
    let order = done(&store, apply(&order, back(500))).await;
    drop(store);
    let store = stores.open();
    assert_eq!(
        store.orders.order(&key).await.unwrap().as_ref(),
        Some(&order)
    );
    assert_eq!(order.refunds[0].state, RefundState::Succeeded);
}

/// K3, C2: a refund is found by its merchant and by its institution, and by no other.
pub(crate) async fn a_refund_is_found_under_its_names_alone(stores: &dyn Stores) {
    let store = stores.open();
    let order = paid(&store, 1, "harbour", terms(1)).await;
    let order = done(&store, reserve(&store, &order, 1, "B1", 500)).await;
    let no = order.refunds[0].no.clone();
    let number = RefundRequestNo::parse("B1").unwrap();
    let found = [
        OrderKey::RefundOrderNo(merchant("M1"), no.clone()),
        OrderKey::MerchantRefundNo(merchant("M1"), number.clone()),
        OrderKey::Refund(institution("harbour"), no.clone()),
    ];
    for key in found {
        assert_eq!(
            store.orders.order(&key).await.unwrap().as_ref(),
            Some(&order),
            "{key:?}"
        );
    }
    let hidden = [
        OrderKey::RefundOrderNo(merchant("M2"), no.clone()),
        OrderKey::MerchantRefundNo(merchant("M2"), number),
        OrderKey::Refund(institution("island"), no),
        OrderKey::RefundOrderNo(merchant("M1"), RefundOrderNo::mint(at(30), draw(9))),
    ];
    for key in hidden {
        assert_eq!(store.orders.order(&key).await, Ok(None), "{key:?}");
    }
}

/// R6: a refund with a number already used by another order's refund writes nothing, not even the
/// nonce.
pub(crate) async fn a_taken_refund_number_writes_nothing(stores: &dyn Stores) {
    let store = stores.open();
    let first = paid(&store, 1, "harbour", terms(1)).await;
    let second = paid(&store, 2, "harbour", terms(2)).await;
    done(&store, reserve(&store, &first, 1, "B1", 500)).await;
    let taken = reserve(&store, &second, 2, "B1", 500);
    assert_eq!(store.changes.commit(&taken).await, Ok(Committed::KeyTaken));
    let key = OrderKey::PayOrderNo(merchant("M1"), second.no.clone());
    assert_eq!(
        store.orders.order(&key).await.unwrap(),
        Some(second.clone())
    );
    let free = reserve(&store, &second, 2, "B2", 500);
    assert_eq!(
        store.changes.commit(&free).await,
        Ok(Committed::Done),
        "the nonce was not spent"
    );
}

/// S1: a refund that a dead process was sending is recovered at the next start, never from a live
/// process.
pub(crate) async fn a_refund_of_a_dead_process_is_orphaned(stores: &dyn Stores) {
    let store = stores.open();
    let order = paid(&store, 1, "harbour", terms(1)).await;
    done(&store, reserve(&store, &order, 1, "B1", 500)).await;
    let orphaned = async |store: &Store| {
        let leases = lease(store, LeaseKind::OrphanedCalls, at(31), 10)
            .await
            .unwrap();
        leases.len()
    };
    assert_eq!(orphaned(&store).await, 0);
    drop(store);
    let store = stores.open();
    assert_eq!(orphaned(&store).await, 1);
}

/// R1: of sixty-four refunds requested concurrently only as many are reserved as fit.
pub(crate) async fn refunds_side_by_side_never_exceed_what_was_paid(stores: &dyn Stores) {
    let store = stores.open();
    let first = paid(&store, 1, "harbour", terms(1)).await;
    let key = OrderKey::PayOrderNo(merchant("M1"), first.no.clone());
    let mut asking = JoinSet::new();
    for n in 0..64 {
        let (store, key) = (Arc::clone(&store), key.clone());
        asking.spawn(async move {
            loop {
                let order = store.orders.order(&key).await.unwrap().unwrap();
                if order.reserved_minor() + 100 > 1_230 {
                    return 0;
                }
                let change = reserve(&store, &order, 10 + n, &format!("B{n}"), 100);
                match store.changes.commit(&change).await.unwrap() {
                    Committed::Done => return 1,
                    Committed::Stale => (),
                    other @ (Committed::KeyTaken | Committed::NonceSpent) => panic!("{other:?}"),
                }
            }
        });
    }
    let reserved: u32 = asking.join_all().await.into_iter().sum();
    assert_eq!(reserved, 12);
    let order = store.orders.order(&key).await.unwrap().unwrap();
    assert_eq!((order.reserved_minor(), order.refunds.len()), (1_200, 12));
}
