//! Builders of orders and changes, with defaults for everything a scenario is not about.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use paymux::domain::amount::{Amount, CNY, Fee};
use paymux::domain::attempt::{Epoch, Stamp};
use paymux::domain::change::{Change, ChangeCause};
use paymux::domain::evidence::{
    Evidence, EvidenceSource, EvidenceSubject, Finding, OriginalPayment, PaymentAction,
    PaymentActionKind, Receipt,
};
use paymux::domain::identifiers::{
    AccountId, AttemptId, CalendarDay, FreshNonce, InstitutionId, KeyId, MerchantId,
    MerchantOrderNo, PayOrderNo, ReceiverId, Timestamp,
};
use paymux::domain::institutions::{BusinessType, Facts, Mode, TransactionType};
use paymux::domain::order::{Applied, NewAttempt, NewOrder, Order, OrderTerms};
use paymux::domain::personal::MobileNo;
use paymux::domain::personal::payer_context::PayerDetails;
use paymux::store::outbox::{DESTINATION_SHARE, DeliveryShares};
use paymux::store::unresolved::LaneShares;
use paymux::store::{Committed, Lease, LeaseKind, Store, StoreError};

use crate::world::fake_institution::{facts_of, only_product};

/// The payer's phone number in every order here.
pub(crate) const MOBILE: &str = "13812345678";

/// A time, in seconds after the scenario's start.
pub(crate) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_s(1_800_000_000 + seconds)
}

pub(crate) fn draw(n: u32) -> [u8; 10] {
    let mut draw = [7; 10];
    draw[..4].copy_from_slice(&n.to_be_bytes());
    draw
}

pub(crate) fn merchant(name: &str) -> MerchantId {
    MerchantId::parse(name).unwrap()
}

pub(crate) fn institution(name: &str) -> InstitutionId {
    InstitutionId::parse(name).unwrap()
}

/// The nonce of a request made in the scenario's first second.
pub(crate) fn nonce(value: &str) -> FreshNonce {
    FreshNonce {
        key: KeyId::parse("key-1").unwrap(),
        value: value.into(),
        created: at(1),
        keep_until: at(400),
    }
}

pub(crate) fn request(value: &str) -> ChangeCause {
    ChangeCause::Request(nonce(value))
}

pub(crate) fn terms(n: u32) -> OrderTerms {
    OrderTerms {
        merchant: merchant("M1"),
        merchant_order_no: MerchantOrderNo::parse(&format!("ORDER-{n}")).unwrap(),
        merchant_name: "茶馆".into(),
        order_date: CalendarDay::parse("20270115").unwrap(),
        amount: Amount::from_minor(1230, CNY).unwrap(),
        business_type: BusinessType::Aggregated,
        transaction_type: TransactionType::PasswordPay,
        return_url: "https://shop.example/notice".into(),
        mobile: MobileNo::parse(MOBILE).unwrap(),
        goods_no: Some("G-1".into()),
        goods_name: Some("乌龙茶 \"二两\"".into()),
        goods_description: Some("".into()),
        attach: Some("table=4;\u{1F375}".into()),
        expire_minutes: 30,
        named: Some((institution("harbour"), Some(Mode::Webview))),
    }
}

pub(crate) fn opening(n: u32, terms: OrderTerms) -> NewOrder {
    NewOrder {
        no: PayOrderNo::mint(at(1), draw(n)),
        page_secret: [9; 16],
        terms,
        notice_url: Some("https://shop.example:8443/events".into()),
    }
}

/// Places order `n`, by a request with its own nonce.
pub(crate) fn place(n: u32, first: Option<NewAttempt>) -> Change {
    let cause = request(&format!("placing-{n}-........"));
    Order::open(opening(n, terms(n)), first, cause, at(1))
}

pub(crate) fn start(n: u32, through: &str, epoch: Epoch) -> NewAttempt {
    NewAttempt {
        id: AttemptId::mint(at(1), draw(n)),
        institution: institution(through),
        account: AccountId::parse("ACC-1").unwrap(),
        receiver: ReceiverId::parse("ACC-1").unwrap(),
        mode: Mode::Webview,
        product: facts().products[0],
        payer: PayerDetails::UNKNOWN,
        stamp: Stamp {
            now: at(1),
            nonce: draw(n + 1_000),
        },
        configuration: 3,
        epoch,
    }
}

pub(crate) fn facts() -> Facts {
    facts_of(only_product(Duration::from_mins(1)), true)
}

pub(crate) fn accepted() -> Finding {
    Finding::Accepted(Some(PaymentAction {
        way: PaymentActionKind::Redirect("https://harbour.example/pay?token=secret".into()),
        expires: Some(at(600)),
    }))
}

pub(crate) fn succeeded() -> Finding {
    Finding::Succeeded(Receipt {
        amount: Amount::from_minor(1230, CNY).unwrap(),
        institution_no: Some("H-0001".into()),
        paid_at: at(20),
        fee: Some(Fee::parse("0.0125", CNY).unwrap()),
    })
}

/// Applies a finding about the order's attempt number `seq`.
pub(crate) fn apply(
    order: &Order,
    seq: usize,
    finding: Finding,
    by: EvidenceSource,
    s: i64,
) -> Change {
    let attempt = &order.attempts[seq - 1];
    let evidence = Evidence {
        institution: attempt.institution.clone(),
        accounts: Some(vec![attempt.account.clone()]),
        receiver: Some(attempt.receiver.clone()),
        about: EvidenceSubject::Attempt(attempt.id.clone()),
        by,
        sum: None,
        along: OriginalPayment::default(),
        asked_at: None,
        proves_arrival: matches!(finding, Finding::Accepted(_) | Finding::Succeeded(_)),
        finding,
    };
    match order.apply(&evidence, &facts(), at(s)) {
        Applied::Commit(change) => *change,
        other @ (Applied::Repeat | Applied::ConfirmByQuery | Applied::Quarantine(_)) => {
            panic!("expected a change, not {other:?}")
        }
    }
}

/// Commits a change that must succeed, and returns the resulting order.
pub(crate) async fn done(store: &Store, change: Change) -> Order {
    assert_eq!(store.changes.commit(&change).await, Ok(Committed::Done));
    change.into_order().unwrap()
}

/// Order `n`, placed and paid through `through`.
pub(crate) async fn paid(store: &Store, n: u32, through: &str, terms: OrderTerms) -> Order {
    let cause = request(&format!("placing-{n}-........"));
    let first = Some(start(n, through, store.epoch));
    let order = done(store, Order::open(opening(n, terms), first, cause, at(1))).await;
    done(
        store,
        apply(&order, 1, succeeded(), EvidenceSource::Callback, 20),
    )
    .await
}

/// Writes a file only its owner can access, as a store's must be.
pub(crate) fn private(path: &Path, bytes: &[u8]) {
    let mut options = std::fs::File::options();
    let options = options.create(true).truncate(true).write(true);
    let made = options.mode(0o600).open(path);
    made.unwrap().write_all(bytes).unwrap();
}

/// Leases work of a kind with the full share for every lane and destination.
pub(crate) async fn lease(
    store: &Store,
    work: LeaseKind,
    now: Timestamp,
    count: u32,
) -> Result<Vec<Lease>, StoreError> {
    match work {
        LeaseKind::Orders => {
            let all = LaneShares::same(u32::MAX);
            store.unresolved.lease_orders(&all, now, count).await
        }
        LeaseKind::OrphanedCalls => store.nodes.lease_orphaned(now, count).await,
        LeaseKind::Events => {
            let few = DeliveryShares::same(DESTINATION_SHARE);
            store.outbox.lease_events(&few, now, count).await
        }
    }
}

/// When the next order or event is due.
pub(crate) async fn next_due(
    store: &Store,
    work: LeaseKind,
) -> Result<Option<Timestamp>, StoreError> {
    match work {
        LeaseKind::Orders => {
            let all = LaneShares::same(u32::MAX);
            let next = store.unresolved.next_order(&all).await?;
            Ok(next.due)
        }
        LeaseKind::OrphanedCalls => panic!("they are looked for at a start only"),
        LeaseKind::Events => {
            let few = DeliveryShares::same(DESTINATION_SHARE);
            store.outbox.next_event(&few).await
        }
    }
}
