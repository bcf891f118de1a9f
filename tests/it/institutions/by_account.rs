//! A kind with a callback address for each account, and with settings of a sub-merchant: the tiny
//! dialect at the gateway's own router.

use std::sync::Arc;

use bytes::Bytes;
use http::Request;
use paymux::domain::identifiers::{AccountId, InstitutionId, ReceiverId};
use paymux::domain::institutions::{AccountProfile, AccountRole, Credentials};
use paymux::domain::order::OrderState;
use paymux::institution::{Call, Operation, OwnedCall, SettingValue, SettingValues};

use super::two_steps::{
    STORE, StepsTestbed, TAG, TinyDialect, TinyQuirk, field, form, lost, tag_of,
};
use crate::world::enrolment::snapshot;
use crate::world::fake_institution::FakeInstitutionAbility;
use crate::world::test_gateway::TestGateway;

/// The two institutions of a gateway whose first is of this dialect.
const INSTITUTIONS: [(&str, FakeInstitutionAbility); 2] = [
    ("bank", FakeInstitutionAbility::ALL),
    ("purse", FakeInstitutionAbility::ALL),
];

/// A gateway at which the bank speaks this dialect, with two accounts there, once M1's payer has
/// chosen it; and the attempt.
fn waiting_at_tiny() -> (TestGateway, String) {
    let mut gateway = TestGateway::with(&INSTITUTIONS);
    gateway.place("T1", serde_json::json!({}));
    gateway.select("T1", "bank");
    let attempt = gateway.attempt("T1", "bank");
    let mut enrolled = snapshot(&INSTITUTIONS);
    let mut tiny = TinyDialect::new(TinyQuirk::No);
    tiny.id = InstitutionId::parse("bank").unwrap();
    for account in ["shop", "books"] {
        let profile = AccountProfile {
            id: AccountId::parse(account).unwrap(),
            institution: tiny.id.clone(),
            role: AccountRole::Direct,
            receiver: ReceiverId::parse("M1-at-bank").unwrap(),
            apps: Vec::new(),
            credentials: Credentials::default(),
        };
        let key = (tiny.id.clone(), profile.id.clone());
        enrolled.routing.accounts.insert(key, profile);
    }
    let bank = enrolled.routing.institutions.get_mut(&tiny.id).unwrap();
    bank.facts = tiny.facts.clone();
    enrolled.adapters.insert(tiny.id.clone(), Arc::new(tiny));
    gateway.api.snapshot = Arc::new(enrolled);
    (gateway, attempt)
}

/// A callback that M1's order is paid, to this path, under the secret of one account and naming
/// one.
fn tiny_callback(attempt: &str, path: &str, signer: &str, named: &str) -> Request<Bytes> {
    let mut fields = vec![
        ("attempt", attempt),
        ("receiver", "M1-at-bank"),
        ("minor", "1230"),
    ];
    if !named.is_empty() {
        fields.push(("account", named));
    }
    let body = form(&fields);
    Request::post(path)
        .header(TAG, tag_of(&AccountId::parse(signer).unwrap(), &body))
        .body(Bytes::from(body))
        .unwrap()
}

/// C1, C2, X-11: where a kind has an address for each account, the account of the path decides
/// whose key proves a callback, and of whom it is evidence; every other address is unknown.
#[test]
fn a_callback_by_account_is_of_the_account_in_its_path() {
    let (gateway, attempt) = waiting_at_tiny();
    let before = gateway.order("T1");
    let path = |rest: &str| format!("/v1/callbacks/{rest}");
    for (rest, status) in [
        ("bank", 404),
        ("bank/nobody", 404),
        ("bank/", 404),
        ("bank/shop/", 404),
        ("bank/shop/more", 404),
        // The plain dialect has one address for the institution.
        ("purse/shop", 404),
        ("nobody/shop", 404),
        ("bank/shop?a=b", 400),
    ] {
        let sent = gateway.send(tiny_callback(&attempt, &path(rest), "shop", "shop"));
        assert_eq!(sent.status, status, "{rest}: {}", sent.result);
    }
    let answer = |signer: &str, to: &str, named: &str| {
        let sent = gateway.send(tiny_callback(&attempt, &path(to), signer, named));
        let body = String::from_utf8(sent.response.body().to_vec()).unwrap();
        (sent.result, body)
    };
    let forged = ("FORGED", "Unverified by shop".to_owned());
    assert_eq!(answer("books", "bank/shop", "shop"), forged);
    // Another account's key proves nothing about this one's attempt, whatever it names.
    let put_aside = ("QUARANTINED", "Quarantined by books".to_owned());
    assert_eq!(answer("books", "bank/books", "shop"), put_aside);
    assert_eq!(answer("books", "bank/books", "books"), put_aside);
    assert_eq!(answer("books", "bank/books", ""), put_aside, "names none");
    assert_eq!(
        gateway.order("T1").attempts[0].state,
        before.attempts[0].state
    );
    let recorded = ("GENUINE", "Recorded by shop".to_owned());
    assert_eq!(answer("shop", "bank/shop", "shop"), recorded);
    assert_eq!(gateway.order("T1").state, OrderState::Paid);
}

/// R5: what a provider's contract says of its sub-merchant reaches the adapter with the call, on
/// every thread, as long as the contract names the attempt's receiver.
#[tokio::test]
async fn a_call_has_the_settings_of_its_sub_merchant() {
    let bed = StepsTestbed::new(TinyQuirk::No);
    let (gateway, _) = waiting_at_tiny();
    let order = gateway.order("T1");
    let (attempt, terms) = (&order.attempts[0], &order.terms);
    let mut enrolled = snapshot(&INSTITUTIONS);
    let key = (terms.merchant.clone(), attempt.institution.clone());
    let sub = SettingValues::default().with(STORE, SettingValue::Text("S-7".into()));
    enrolled.sub_merchants.insert(key.clone(), sub);
    let store_of = async |call: &Call<'_>| {
        let (_, sent) = bed.call(call, [lost()]).await;
        field(sent[0].body(), STORE)
    };
    let call = enrolled.call(Operation::Query, attempt, terms);
    assert_eq!(store_of(&call).await.as_deref(), Some("S-7"));
    let own = OwnedCall::of(&call);
    assert_eq!(store_of(&own.call().unwrap()).await.as_deref(), Some("S-7"));
    let contract = enrolled.routing.contracts.get_mut(&key).unwrap();
    contract.receiver = ReceiverId::parse("another").unwrap();
    let call = enrolled.call(Operation::Query, attempt, terms);
    assert_eq!(store_of(&call).await, None);
}
