//! Scenarios of writing, reading back, spending nonces and archiving messages.

use std::collections::BTreeSet;

use paymux::domain::audit::AuditEntry;
use paymux::domain::change::{Change, ChangeCause, ConfigurationChange};
use paymux::domain::evidence::{EvidenceSource, Finding, Reason};
use paymux::domain::identifiers::{AccountId, FreshNonce, MerchantOrderNo, PageToken, ReceiverId};
use paymux::domain::order::{CloseReason, NewAttempt, Order, OrderTerms};
use paymux::domain::personal::MobileNo;
use paymux::store::{
    ArchiveOutcome, Committed, Dependents, FORGED_ARCHIVED_MAX, InboxMessage, InboxStatus,
    OrderKey, Store,
};
use tokio::task::JoinSet;

use super::Stores;
use super::builders::{
    MOBILE, accepted, apply, at, done, draw, institution, merchant, nonce, opening, paid, place,
    request, start, succeeded, terms,
};

fn ours(order: &Order) -> OrderKey {
    OrderKey::PayOrderNo(order.terms.merchant.clone(), order.no.clone())
}

async fn reads_back(store: &Store, order: &Order) {
    let read = store.orders.order(&ours(order)).await.unwrap().unwrap();
    assert_eq!(&read, order);
    // Values that are not printed are compared by their content.
    assert_eq!(read.terms.mobile.expose(), order.terms.mobile.expose());
    assert_eq!(read.page_secret, order.page_secret);
}

/// O5, K4: after each change an order reads back as decided.
pub(crate) async fn what_was_written_reads_back_equal(stores: &dyn Stores) {
    let store = stores.open();
    let first = Some(start(1, "harbour", store.epoch));
    let order = done(&store, place(1, first)).await;
    reads_back(&store, &order).await;
    let order = done(
        &store,
        apply(&order, 1, accepted(), EvidenceSource::Create, 2),
    )
    .await;
    reads_back(&store, &order).await;
    let order = done(
        &store,
        apply(&order, 1, succeeded(), EvidenceSource::Callback, 20),
    )
    .await;
    assert!(order.paying_attempt_id.is_some());
    reads_back(&store, &order).await;

    let bare = OrderTerms {
        goods_no: None,
        goods_name: None,
        goods_description: None,
        attach: None,
        named: None,
        ..terms(2)
    };
    let mut sparse = opening(2, bare);
    sparse.notice_url = None;
    let open = done(&store, Order::open(sparse, None, ChangeCause::Page, at(1))).await;
    reads_back(&store, &open).await;
    let chosen = open.choose(institution("harbour"), ChangeCause::Page, at(2));
    let open = done(&store, chosen.unwrap()).await;
    assert!(open.chosen.is_some());
    reads_back(&store, &open).await;
    let closed = open
        .end(CloseReason::Merchant, ChangeCause::Clock, at(3))
        .unwrap();
    let closed = done(&store, closed).await;
    drop(store);
    let store = stores.open();
    reads_back(&store, &closed).await;
    reads_back(&store, &order).await;
}

/// A4, V4: refusals, a second attempt, a late payment and its refund read back as well.
pub(crate) async fn an_excess_payment_reads_back_equal(stores: &dyn Stores) {
    let store = stores.open();
    let order = done(&store, place(1, Some(start(1, "harbour", store.epoch)))).await;
    let refused = Finding::Refused(Reason::from_code("NO_FUNDS"));
    let order = done(&store, apply(&order, 1, refused, EvidenceSource::Create, 2)).await;
    reads_back(&store, &order).await;
    let second = order.start_attempt(start(2, "island", store.epoch), ChangeCause::Page, at(3));
    let order = done(&store, second.unwrap()).await;
    let order = done(
        &store,
        apply(&order, 2, succeeded(), EvidenceSource::Query, 20),
    )
    .await;
    let order = done(
        &store,
        apply(&order, 1, succeeded(), EvidenceSource::Query, 30),
    )
    .await;
    assert_eq!(order.refunds.len(), 1);
    assert!(order.attempts[0].late_success);
    reads_back(&store, &order).await;
}

/// K3, C2: each key finds the order for its owner, and for no other.
pub(crate) async fn an_order_is_found_under_its_names_alone(stores: &dyn Stores) {
    let store = stores.open();
    let order = done(&store, place(1, Some(start(1, "harbour", store.epoch)))).await;
    let (no, theirs) = (order.no.clone(), order.terms.merchant_order_no.clone());
    let attempt = order.attempts[0].id.clone();
    for key in [
        OrderKey::PayOrderNo(merchant("M1"), no.clone()),
        OrderKey::MerchantOrderNo(merchant("M1"), theirs.clone()),
        OrderKey::Attempt(institution("harbour"), attempt.clone()),
        OrderKey::Page(order.page_token()),
    ] {
        let read = store.orders.order(&key).await.unwrap();
        assert_eq!(read.as_ref(), Some(&order), "{key:?}");
    }
    for key in [
        OrderKey::PayOrderNo(merchant("M2"), no.clone()),
        OrderKey::MerchantOrderNo(merchant("M2"), theirs),
        OrderKey::MerchantOrderNo(merchant("M1"), MerchantOrderNo::parse("ORDER-9").unwrap()),
        OrderKey::Attempt(institution("island"), attempt),
        OrderKey::Page(PageToken::new(no, [8; 16])),
    ] {
        assert_eq!(store.orders.order(&key).await, Ok(None), "{key:?}");
    }
}

/// Section 1: a merchant's number is unique; the second use writes nothing, not even a spent nonce.
pub(crate) async fn a_taken_number_writes_nothing(stores: &dyn Stores) {
    let store = stores.open();
    let order = done(&store, place(1, None)).await;
    let again = Order::open(
        opening(2, terms(1)),
        None,
        request("second-nonce-...."),
        at(2),
    );
    assert_eq!(store.changes.commit(&again).await, Ok(Committed::KeyTaken));
    assert_eq!(
        store.orders.order(&ours(again.order().unwrap())).await,
        Ok(None)
    );
    reads_back(&store, &order).await;
    let spend = Change::spend(nonce("second-nonce-...."), at(3));
    assert_eq!(store.changes.commit(&spend).await, Ok(Committed::Done));
    let elsewhere = OrderTerms {
        merchant: merchant("M2"),
        ..terms(1)
    };
    let other = Order::open(opening(3, elsewhere), None, ChangeCause::Page, at(2));
    assert_eq!(store.changes.commit(&other).await, Ok(Committed::Done));
}

/// K4: a decision on an older version changes nothing and leaves its nonce unspent.
pub(crate) async fn a_stale_change_writes_nothing(stores: &dyn Stores) {
    let store = stores.open();
    let before = done(&store, place(1, None)).await;
    let by_page = before
        .start_attempt(start(1, "harbour", store.epoch), ChangeCause::Page, at(2))
        .unwrap();
    let late = before
        .end(CloseReason::Merchant, request("closing-nonce-..."), at(2))
        .unwrap();
    let order = done(&store, by_page).await;
    assert_eq!(store.changes.commit(&late).await, Ok(Committed::Stale));
    reads_back(&store, &order).await;
    let spend = Change::spend(nonce("closing-nonce-..."), at(3));
    assert_eq!(store.changes.commit(&spend).await, Ok(Committed::Done));
}

/// Q5: a nonce is spent once, at once and after a restart; under another key it is another.
pub(crate) async fn a_spent_nonce_is_refused_for_ever(stores: &dyn Stores) {
    let store = stores.open();
    done(&store, place(1, None)).await;
    let replay = || {
        Order::open(
            opening(2, terms(2)),
            None,
            request("placing-1-........"),
            at(2),
        )
    };
    assert_eq!(
        store.changes.commit(&replay()).await,
        Ok(Committed::NonceSpent)
    );
    drop(store);
    let store = stores.open();
    let change = replay();
    assert_eq!(
        store.changes.commit(&change).await,
        Ok(Committed::NonceSpent)
    );
    assert_eq!(
        store.orders.order(&ours(change.order().unwrap())).await,
        Ok(None)
    );
    let other_key = FreshNonce {
        key: paymux::domain::identifiers::KeyId::parse("key-2").unwrap(),
        ..nonce("placing-1-........")
    };
    let spend = Change::spend(other_key, at(3));
    assert_eq!(store.changes.commit(&spend).await, Ok(Committed::Done));
}

/// Q5: a repeat's answer and a refusal for reasons of state spend their nonce too.
pub(crate) async fn a_nonce_is_spent_without_an_effect(stores: &dyn Stores) {
    let store = stores.open();
    for expected in [Committed::Done, Committed::NonceSpent] {
        let spend = Change::spend(nonce("only-the-nonce-..."), at(2));
        assert_eq!(store.changes.commit(&spend).await, Ok(expected));
    }
}

/// Q5: of sixty-four copies of one request, sent at once, one has an effect.
pub(crate) async fn of_equal_requests_exactly_one_is_done(stores: &dyn Stores) {
    let store = stores.open();
    let mut copies = JoinSet::new();
    for n in 0..64 {
        let store = store.clone();
        copies.spawn(async move {
            let cause = request("the-same-nonce-...");
            let change = Order::open(opening(n, terms(n)), None, cause, at(1));
            store.changes.commit(&change).await.unwrap()
        });
    }
    let outcomes = copies.join_all().await;
    let done = outcomes.iter().filter(|one| **one == Committed::Done);
    assert_eq!(done.count(), 1);
    let spent = outcomes.iter().filter(|one| **one == Committed::NonceSpent);
    assert_eq!(spent.count(), 63);
}

/// Q6: deleted nonces stay rejected, after a restart too.
pub(crate) async fn what_is_forgotten_stays_refused(stores: &dyn Stores) {
    let store = stores.open();
    let spend = |created| {
        let nonce = FreshNonce {
            created,
            ..nonce("a-nonce-of-old-...")
        };
        Change::spend(nonce, at(9))
    };
    assert_eq!(
        store.changes.commit(&spend(at(1))).await,
        Ok(Committed::Done)
    );
    store.nonces.forget_nonces(at(5)).await.unwrap();
    assert!(store.replay_floor.forgotten().contains(at(1)));
    assert_eq!(
        store.changes.commit(&spend(at(1))).await,
        Ok(Committed::NonceSpent)
    );
    // Nothing is left to delete, and the earlier deletion is still recorded.
    store.nonces.forget_nonces(at(2)).await.unwrap();
    drop(store);
    let store = stores.open();
    assert!(store.replay_floor.forgotten().contains(at(1)));
    assert_eq!(
        store.changes.commit(&spend(at(1))).await,
        Ok(Committed::NonceSpent)
    );
    // The same value, signed again at another time, is another request.
    assert_eq!(
        store.changes.commit(&spend(at(6))).await,
        Ok(Committed::Done)
    );
}

/// Q6, H2: a clock that was ahead for a while rejects only the seconds in which nonces were spent
/// under it.
pub(crate) async fn seconds_ahead_shut_out_themselves(stores: &dyn Stores) {
    let store = stores.open();
    let spend = |value: &str, created| {
        let nonce = FreshNonce {
            created,
            ..nonce(value)
        };
        Change::spend(nonce, created)
    };
    for (value, second) in [("right-nonce-00001", 10), ("ahead-nonce-00001", 3_600)] {
        let done = store.changes.commit(&spend(value, at(second))).await;
        assert_eq!(done, Ok(Committed::Done));
    }
    store.nonces.forget_nonces(at(5_000)).await.unwrap();
    let mut store = Some(store);
    for _ in 0..2 {
        // The next process starts after the previous one is gone.
        let store = store.take().unwrap_or_else(|| stores.open());
        for (second, outcome) in [
            (10, Committed::NonceSpent),
            (3_600, Committed::NonceSpent),
            (90, Committed::Done),
            (3_500, Committed::Done),
            (3_700, Committed::Done),
        ] {
            let value = format!("another-nonce-{second:04}-{}", store.epoch.0);
            let done = store.changes.commit(&spend(&value, at(second))).await;
            assert_eq!(done, Ok(outcome), "{second}");
        }
    }
}

/// S1: no two processes write the same epoch to their attempts.
pub(crate) async fn each_opening_is_an_epoch_of_its_own(stores: &dyn Stores) {
    let epochs: BTreeSet<_> = (0..3).map(|_| stores.open().epoch).collect();
    assert_eq!(epochs.len(), 3);
}

/// R-A2.4.1-3a: the institution last used comes first, for this payer at this merchant alone.
pub(crate) async fn the_last_institution_is_remembered(stores: &dyn Stores) {
    let store = stores.open();
    let payer = MobileNo::parse(MOBILE).unwrap();
    let of = |name| (merchant(name), payer.clone());
    let (m1, payer_1) = of("M1");
    assert_eq!(store.orders.last_institution(&m1, &payer_1).await, Ok(None));
    let unpaid = done(&store, place(9, Some(start(9, "island", store.epoch)))).await;
    assert_eq!(store.orders.last_institution(&m1, &payer_1).await, Ok(None));
    assert_eq!(unpaid.paying_attempt_id, None);
    paid(&store, 1, "harbour", terms(1)).await;
    let last = store.orders.last_institution(&m1, &payer_1).await;
    assert_eq!(last, Ok(Some(institution("harbour"))));
    paid(&store, 2, "island", terms(2)).await;
    let last = store.orders.last_institution(&m1, &payer_1).await;
    assert_eq!(last, Ok(Some(institution("island"))));
    assert_eq!(
        store.orders.last_institution(&merchant("M2"), &payer).await,
        Ok(None)
    );
    let other = MobileNo::parse("13900000000").unwrap();
    assert_eq!(store.orders.last_institution(&m1, &other).await, Ok(None));
}

fn message(from: &str, status: InboxStatus, raw: impl Into<Vec<u8>>) -> InboxMessage {
    InboxMessage {
        institution: institution(from),
        status,
        raw: raw.into(),
        at: at(5),
    }
}

/// C5, section 1: the same bytes of the same institution are archived once.
pub(crate) async fn a_message_is_archived_once(stores: &dyn Stores) {
    let store = stores.open();
    let genuine = message("harbour", InboxStatus::Genuine, "paid");
    assert_eq!(
        store.archive.archive(&genuine).await,
        Ok(ArchiveOutcome::New)
    );
    assert_eq!(
        store.archive.archive(&genuine).await,
        Ok(ArchiveOutcome::Seen)
    );
    let other = message("harbour", InboxStatus::Genuine, "paid.");
    assert_eq!(store.archive.archive(&other).await, Ok(ArchiveOutcome::New));
    let elsewhere = message("island", InboxStatus::Genuine, "paid");
    assert_eq!(
        store.archive.archive(&elsewhere).await,
        Ok(ArchiveOutcome::New)
    );
    drop(store);
    assert_eq!(
        stores.open().archive.archive(&genuine).await,
        Ok(ArchiveOutcome::Seen)
    );
}

/// A flood of forged messages fills only the sample of its institution.
pub(crate) async fn of_forged_messages_a_sample_is_archived(stores: &dyn Stores) {
    let store = stores.open();
    for n in 0..FORGED_ARCHIVED_MAX {
        let forged = message("harbour", InboxStatus::Forged, n.to_be_bytes());
        assert_eq!(
            store.archive.archive(&forged).await,
            Ok(ArchiveOutcome::New)
        );
    }
    let more = message("harbour", InboxStatus::Forged, "one more");
    assert_eq!(
        store.archive.archive(&more).await,
        Ok(ArchiveOutcome::Dropped)
    );
    let known = message("harbour", InboxStatus::Forged, 0_u32.to_be_bytes());
    assert_eq!(
        store.archive.archive(&known).await,
        Ok(ArchiveOutcome::Seen)
    );
    let genuine = message("harbour", InboxStatus::Genuine, draw(1));
    assert_eq!(
        store.archive.archive(&genuine).await,
        Ok(ArchiveOutcome::New)
    );
    let elsewhere = message("island", InboxStatus::Forged, "one more");
    assert_eq!(
        store.archive.archive(&elsewhere).await,
        Ok(ArchiveOutcome::New)
    );
}

/// V3: a message archived as genuine and then quarantined is known as quarantined; it takes no
/// place in the sample of forged ones.
pub(crate) async fn the_status_of_the_same_bytes_only_hardens(stores: &dyn Stores) {
    let store = stores.open();
    let same = |decision| message("harbour", decision, "paid");
    assert_eq!(
        store.archive.archive(&same(InboxStatus::Genuine)).await,
        Ok(ArchiveOutcome::New)
    );
    assert_eq!(
        store.archive.archive(&same(InboxStatus::Quarantined)).await,
        Ok(ArchiveOutcome::Seen)
    );
    assert_eq!(
        store.archive.archive(&same(InboxStatus::Forged)).await,
        Ok(ArchiveOutcome::Seen)
    );
}

/// F2, L5: the highest applied version survives the process, whatever is written later; a rejected
/// configuration does not raise it.
pub(crate) async fn a_configurations_version_never_sinks(stores: &dyn Stores) {
    let store = stores.open();
    assert_eq!(
        store.configuration.dependents(at(0)).await.unwrap().version,
        0
    );
    for version in [Some(7), Some(5), None] {
        let audit_entry = AuditEntry {
            actor: "local".into(),
            action: "configuration.reload".into(),
            object: "configuration".into(),
            version: 0,
            result: "accepted".into(),
        };
        let configured = ConfigurationChange {
            version,
            endpoints: Vec::new(),
            accounts: Vec::new(),
            audit_entry,
        };
        let change = Change::configured(configured, at(1));
        assert_eq!(store.changes.commit(&change).await, Ok(Committed::Done));
        assert_eq!(
            store.configuration.dependents(at(0)).await.unwrap().version,
            7
        );
    }
    drop(store);
    assert_eq!(
        stores
            .open()
            .configuration
            .dependents(at(0))
            .await
            .unwrap()
            .version,
        7
    );
}

/// F2: an institution's live attempts and those that ended after a given time, by our clock, are
/// its dependents; a late payment renews them.
pub(crate) async fn the_dependents_of_an_institution_are_counted(stores: &dyn Stores) {
    let store = stores.open();
    let through = |name| Some(start(1, name, store.epoch));
    let order = done(&store, place(1, through("harbour"))).await;
    done(&store, place(2, Some(start(2, "island", store.epoch)))).await;
    let held = async |since| {
        store
            .configuration
            .dependents(at(since))
            .await
            .unwrap()
            .held
    };
    let of = |name: &str, unfinished, ended| (institution(name), Dependents { unfinished, ended });
    let island = of("island", 1, 0);
    assert_eq!(held(0).await, [of("harbour", 1, 0), island.clone()].into());
    let refused = Finding::Refused(Reason::from_code("NO_FUNDS"));
    let failed = done(
        &store,
        apply(&order, 1, refused, EvidenceSource::Callback, 20),
    )
    .await;
    let ended = [of("harbour", 0, 1), island.clone()].into();
    for since in [0, 20] {
        assert_eq!(held(since).await, ended, "since {since}");
    }
    assert_eq!(held(21).await, [island.clone()].into());
    let late = apply(&failed, 1, succeeded(), EvidenceSource::Query, 30);
    done(&store, late).await;
    assert_eq!(held(30).await, ended);
    assert_eq!(held(31).await, [island].into());
}

/// F2, R5: dependents are counted per account, and an account's receiver id survives the process.
pub(crate) async fn the_dependents_of_an_account_are_counted(stores: &dyn Stores) {
    let store = stores.open();
    let through = |n, name: &str| {
        let account = AccountId::parse(name).unwrap();
        let first = start(n, "harbour", store.epoch);
        Some(NewAttempt { account, ..first })
    };
    let order = done(&store, place(1, through(1, "shop"))).await;
    done(&store, place(2, through(2, "tea"))).await;
    done(&store, place(3, Some(start(3, "island", store.epoch)))).await;
    let refused = Finding::Refused(Reason::from_code("NO_FUNDS"));
    done(
        &store,
        apply(&order, 1, refused, EvidenceSource::Callback, 20),
    )
    .await;
    let key = |at: &str, name: &str| (institution(at), AccountId::parse(name).unwrap());
    let number = ReceiverId::parse("88001001").unwrap();
    let configured = ConfigurationChange {
        version: Some(1),
        endpoints: Vec::new(),
        accounts: vec![(key("harbour", "shop"), number.clone())],
        audit_entry: AuditEntry {
            actor: "local".into(),
            action: "configuration.reload".into(),
            object: "configuration".into(),
            version: 0,
            result: "accepted".into(),
        },
    };
    let change = Change::configured(configured, at(21));
    assert_eq!(store.changes.commit(&change).await, Ok(Committed::Done));
    let guard = store.configuration.dependents(at(0)).await.unwrap();
    let of =
        |at: &str, name: &str, unfinished, ended| (key(at, name), Dependents { unfinished, ended });
    let expected = [
        of("harbour", "shop", 0, 1),
        of("harbour", "tea", 1, 0),
        of("island", "ACC-1", 1, 0),
    ];
    assert_eq!(guard.accounts, expected.into());
    assert_eq!(guard.receivers, [(key("harbour", "shop"), number)].into());
}
