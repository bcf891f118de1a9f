//! A test dialect with products that send nothing: the payment action is a form, or what the product's
//! name says, made anew for each browser. Its callbacks may be hints. All else is as in the plain dialect.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use paymux::domain::amount::{Amount, CNY};
use paymux::domain::attempt::{AttemptState, Stamp};
use paymux::domain::evidence::{
    Evidence, EvidenceSource, EvidenceSubject, Finding, OriginalPayment, PaymentAction,
    PaymentActionKind, PaymentForm, Receipt, Rejection, Reversal,
};
use paymux::domain::identifiers::{AttemptId, InstitutionId, Timestamp, hex};
use paymux::domain::institutions::{CreateSend, Ending, Facts, Mode, Product, Visibility};
use paymux::domain::order::{Applied, Order, OrderState};
use paymux::domain::personal::payer_context::{PayerAppId, PayerDetail, PayerDetails, PayerWallet};
use paymux::institution::{
    Acknowledgement, Call, CallState, Callback, Host, Institution, InstitutionKind, Operation,
    ProvenCallback, Step, Unverified, kind,
};
use serde_json::{Value, json};

use super::recorded::{order_with, order_with_refund};
use crate::world::dialect::PlainAdapter;
use crate::world::enrolment::snapshot;
use crate::world::fake_institution::{FakeInstitutionAbility, facts_of, only_product};
use crate::world::test_gateway::{TestGateway, TestReply, changed, naming};

const BANKS: [(&str, FakeInstitutionAbility); 1] = [("bank", FakeInstitutionAbility::ALL)];

/// How long after the deadline nobody can pay any more.
pub(super) const MARGIN: Duration = Duration::from_mins(5);

/// A form that the payer's browser posts: nothing is sent here.
pub(crate) const FRONT: Product = Product {
    create: CreateSend::Nothing,
    ending: Ending::CloseOnceActed,
    wants: &[],
    ..Product::plain("STANDARD", Visibility::AfterDeadline(MARGIN))
};

fn bank() -> InstitutionId {
    InstitutionId::parse("bank").unwrap()
}

struct FrontDialect {
    plain: PlainAdapter,
    /// What every query finds, instead of what the bank says.
    found: Option<Finding>,
    /// Where payers are led.
    there: String,
}

impl FrontDialect {
    fn evidence(&self, about: EvidenceSubject, by: EvidenceSource, finding: Finding) -> Evidence {
        Evidence {
            institution: self.plain.id().clone(),
            accounts: None,
            receiver: None,
            about,
            by,
            sum: None,
            along: OriginalPayment::default(),
            asked_at: None,
            proves_arrival: false,
            finding,
        }
    }
}

impl Institution for FrontDialect {
    fn id(&self) -> &InstitutionId {
        self.plain.id()
    }

    fn kind(&self) -> &'static InstitutionKind {
        kind("standard").unwrap()
    }

    fn facts(&self) -> &Facts {
        self.plain.facts()
    }

    fn origin(&self, host: Host) -> Option<&str> {
        self.plain.origin(host)
    }

    fn begin(&self, call: &Call<'_>, stamp: &Stamp) -> Step<Evidence> {
        let Operation::Create = call.operation else {
            return self.plain.begin(call, stamp);
        };
        let attempt = call.attempt;
        let fields = [
            ("orderId", attempt.id.as_str().to_owned()),
            ("payBy", attempt.pay_by.rfc3339()),
            ("nonce", hex(&stamp.nonce)),
        ];
        let url = format!("{}/pay?nonce={}&a=b", self.there, hex(&stamp.nonce));
        let way = match attempt.product.as_str() {
            "LINK" => PaymentActionKind::Redirect(url.into()),
            "CODE" => PaymentActionKind::QrCode(url.into()),
            "BRIDGE" => {
                let parameters = json!({ "appId": "wx1", "package": "a=\"b\"&<c>" });
                PaymentActionKind::SdkParameters(parameters.to_string().into())
            }
            _ => PaymentActionKind::Form(PaymentForm {
                url: format!("{}/pay", self.there).into(),
                fields: Vec::from(
                    fields.map(|(name, value)| (Box::from(name), value.into_boxed_str())),
                ),
            }),
        };
        let action = PaymentAction { way, expires: None };
        let finding = Finding::Accepted(Some(action));
        Step::Done(self.evidence(call.about(), call.means(), finding))
    }

    fn next(
        &self,
        call: &Call<'_>,
        state: &CallState,
        reply: &Response<Bytes>,
        stamp: &Stamp,
    ) -> Step<Evidence> {
        match (call.operation, &self.found) {
            (Operation::Query, Some(found)) => {
                Step::Done(self.evidence(call.about(), call.means(), found.clone()))
            }
            _ => self.plain.next(call, state, reply, stamp),
        }
    }

    fn read_callback<'c>(
        &'c self,
        callback: Callback<'c>,
        now: Timestamp,
    ) -> Result<ProvenCallback<'c>, Unverified> {
        let named = |name| callback.message.headers().get(name);
        let is_hint = named("x-hint").is_some();
        let Some(attempt) = named("x-hint").or_else(|| named("x-success")) else {
            return self.plain.read_callback(callback, now);
        };
        let about = AttemptId::parse(attempt.to_str().unwrap()).unwrap();
        let about = EvidenceSubject::Attempt(about);
        let by = EvidenceSource::Callback;
        Ok(ProvenCallback::new(about.clone(), move |currency| {
            let finding = if is_hint {
                Finding::Hint
            } else {
                Finding::Succeeded(receipt(Amount::parse("12.30", currency).unwrap(), now))
            };
            self.evidence(about, by, finding)
        }))
    }

    fn acknowledge(
        &self,
        callback: Callback<'_>,
        acknowledged: Acknowledgement,
        request_id: &str,
        stamp: &Stamp,
    ) -> Response<Bytes> {
        self.plain
            .acknowledge(callback, acknowledged, request_id, stamp)
    }
}

/// The receipt of this sum.
pub(super) fn receipt(amount: Amount, paid_at: Timestamp) -> Receipt {
    Receipt {
        amount,
        institution_no: Some("T-1".into()),
        paid_at,
        fee: None,
    }
}

/// A gateway whose bank has this one product.
fn gateway(product: Product) -> TestGateway {
    gateway_of(&[product], None)
}

/// A gateway whose bank has these products, all agreed, and finds this whenever it is queried.
pub(crate) fn gateway_of(products: &[Product], found: Option<Finding>) -> TestGateway {
    gateway_leading_to("https://front.example", products, found)
}

/// The same, with payers led to this origin.
pub(crate) fn gateway_leading_to(
    there: &str,
    products: &[Product],
    found: Option<Finding>,
) -> TestGateway {
    let mut enrolment = snapshot(&BANKS);
    let facts = Facts {
        products: products.to_vec(),
        ..facts_of(products[0], true)
    };
    let plain = PlainAdapter::new(bank(), facts.clone());
    let profile = enrolment.routing.institutions.get_mut(&bank());
    profile.unwrap().facts = facts;
    for contract in enrolment.routing.contracts.values_mut() {
        contract.products = products.iter().map(Product::stored_id).collect();
    }
    let there = there.to_owned();
    let front: Arc<dyn Institution> = Arc::new(FrontDialect {
        plain,
        found,
        there,
    });
    enrolment.adapters.insert(bank(), front);
    TestGateway::enrolled(&BANKS, enrolment)
}

pub(crate) fn select(gateway: &TestGateway, no: &str, of_payer: Value) -> TestReply {
    let body = changed(naming(no), json!({ "institutionId": "bank" }));
    gateway.ask("M1", "/v1/orders/select", &changed(body, of_payer))
}

pub(super) fn state(gateway: &TestGateway) -> AttemptState {
    gateway.order("T1").attempts[0].state
}

/// A1, A3: a product that sends nothing is accepted by the commit that writes its intent. Nothing is
/// sent, and its payment action is stored nowhere.
#[test]
fn a_product_that_sends_nothing_is_accepted_at_once() {
    let gateway = gateway(FRONT);
    gateway.place("T1", json!({}));
    let reply = gateway.select("T1", "bank");
    assert_eq!((reply.status, reply.text("result")), (200, "ACCEPTED"));
    assert_eq!(reply.text("attemptStatus"), "ACCEPTED");
    let page = reply.text("payUrl").to_owned();
    assert!(page.starts_with("https://pay.example/pay/"), "{page}");
    let order = gateway.order("T1");
    assert_eq!(order.attempts[0].state, AttemptState::Accepted);
    assert_eq!(order.attempts[0].pay_by, order.expires);
    assert_eq!(order.attempts[0].payment_action, None);
    let known = gateway.at("bank", |books| books.payments.len());
    assert_eq!(known, 0, "nothing was sent");
    // The same choice again changes nothing and is answered again.
    let again = gateway.select("T1", "bank");
    assert_eq!((again.status, again.text("payUrl")), (200, page.as_str()));
    assert_eq!(gateway.order("T1").version, order.version);
    // So is an order that names the institution.
    let named = gateway.place("T2", json!({ "institutionId": "bank" }));
    assert_eq!((named.status, named.text("result")), (200, "ACCEPTED"));
}

/// A5, V5: before the deadline and its margin "not found" ends nothing; afterwards nobody can pay any
/// more.
#[test]
fn what_no_payer_acted_on_ends_after_its_deadline() {
    let gateway = gateway(FRONT);
    gateway.place("T1", json!({ "expireMinutes": 10 }));
    gateway.select("T1", "bank");
    for _ in 0..14 {
        gateway.advance_s(60);
        gateway.poll_unresolved();
        assert!(state(&gateway).is_live(), "{:?}", state(&gateway));
    }
    gateway.advance_s(3_600);
    gateway.poll_unresolved();
    assert_eq!(state(&gateway), AttemptState::Closed);
    assert_eq!(gateway.order("T1").state, OrderState::Closed);
}

/// T2: a clock that jumped ahead ends nothing that can still be paid.
#[test]
fn a_deadline_passed_by_the_wall_clock_alone_ends_nothing() {
    let order = order_with(AttemptState::Accepted, Mode::Webview);
    let facts = facts_of(FRONT, true);
    let attempt = &order.attempts[0];
    let late = attempt.pay_by.plus(MARGIN);
    let allowed = Some(attempt.pay_by.since(attempt.sent_at) + MARGIN);
    let short = Some(Duration::from_mins(1));
    assert!(attempt.is_not_found_conclusive(allowed, late, &facts));
    assert!(!attempt.is_not_found_conclusive(short, late, &facts));
    assert!(!attempt.is_not_found_conclusive(None, late, &facts));
    assert!(!attempt.is_not_found_conclusive(allowed, attempt.pay_by, &facts));
}

/// A6: a hint makes the next question due now, durably, and changes nothing else.
#[test]
fn a_hint_only_brings_the_next_question_forward() {
    let gateway = gateway(FRONT);
    gateway.place("T1", json!({}));
    gateway.select("T1", "bank");
    let before = gateway.order("T1");
    gateway.advance_s(1);
    let hint = || callback_of("x-hint", &before);
    assert_eq!(gateway.send(hint()).status, 200);
    let after = gateway.order("T1");
    assert!(before.attempts[0].schedule.next > after.attempts[0].schedule.next);
    assert_eq!(after.attempts[0].state, AttemptState::Accepted);
    assert_eq!(after.due(), Some(after.attempts[0].schedule.next));
    assert_eq!(gateway.send(hint()).status, 200);
    assert_eq!(gateway.order("T1").version, after.version, "due already");
}

/// A callback about the first attempt: `x-hint` or `x-success`.
pub(super) fn callback_of(what: &str, order: &Order) -> Request<Bytes> {
    Request::post("/v1/callbacks/bank")
        .header(what, order.attempts[0].id.as_str())
        .body(Bytes::new())
        .unwrap()
}

fn apply(order: &Order, by: EvidenceSource, finding: Finding) -> Applied {
    let facts = facts_of(only_product(Duration::from_mins(1)), true);
    let attempt = &order.attempts[0];
    let plain = PlainAdapter::new(attempt.institution.clone(), facts.clone());
    let about = EvidenceSubject::Attempt(attempt.id.clone());
    let (found, there) = (None, String::new());
    let front = FrontDialect {
        plain,
        found,
        there,
    };
    let evidence = front.evidence(about, by, finding);
    order.apply(&evidence, &facts, order.created)
}

fn becomes(order: &Order, by: EvidenceSource, finding: Finding) -> Option<Order> {
    match apply(order, by, finding) {
        Applied::Commit(change) => change.into_order(),
        Applied::Repeat | Applied::ConfirmByQuery | Applied::Quarantine(_) => None,
    }
}

/// E1: a sending that was rejected before it was processed ends only what no earlier one may have
/// begun.
#[test]
fn a_rejected_sending_ends_only_an_intent() {
    let rejected = || Finding::NotExecuted(Rejection::Rate);
    let intent = order_with(AttemptState::Intent, Mode::Webview);
    let ended = becomes(&intent, EvidenceSource::Create, rejected()).unwrap();
    assert_eq!(ended.attempts[0].state, AttemptState::Failed);
    let reason = ended.attempts[0].reason.as_ref().unwrap();
    assert_eq!(reason.as_str(), "REJECTED_RATE");
    for state in [
        AttemptState::Unknown,
        AttemptState::Accepted,
        AttemptState::Closing,
    ] {
        let order = order_with(state, Mode::Webview);
        assert_eq!(becomes(&order, EvidenceSource::Create, rejected()), None);
    }
    assert_eq!(becomes(&intent, EvidenceSource::Query, rejected()), None);
    // A rejected question says nothing about the refund it is about.
    let order = order_with_refund("UNKNOWN", Mode::Webview);
    assert_eq!(becomes(&order, EvidenceSource::Query, rejected()), None);
}

/// A9, M1: money that was taken and given back before it paid anything ends the attempt, and is booked
/// as received and returned.
#[test]
fn money_that_was_given_back_is_booked_both_ways() {
    let order = order_with(AttemptState::Closing, Mode::Webview);
    let receipt = receipt(order.attempts[0].amount, order.created);
    let returned = |receipt: &Receipt| Finding::Reversed(Reversal::Returned(receipt.clone()));
    let Applied::Commit(change) = apply(&order, EvidenceSource::Query, returned(&receipt)) else {
        panic!("it is a change");
    };
    let entries = &change.rows().unwrap().entries;
    let names: Vec<_> = entries.iter().map(|entry| entry.kind).collect();
    assert_eq!(names, ["EXCESS", "EXCESS_REFUNDED"]);
    let after = change.into_order().unwrap();
    assert_eq!(after.attempts[0].state, AttemptState::Closed);
    assert!(after.attempts[0].is_returned() && after.refunds.is_empty());
    assert_eq!(
        apply(&after, EvidenceSource::Query, returned(&receipt)),
        Applied::Repeat
    );
    let less = Receipt {
        amount: Amount::parse("0.01", CNY).unwrap(),
        ..receipt
    };
    let other = apply(&order, EvidenceSource::Query, returned(&less));
    assert!(matches!(other, Applied::Quarantine(_)), "{other:?}");
    // Nothing had been taken: it is closed.
    let unpaid = Finding::Reversed(Reversal::Unpaid);
    let closed = becomes(&order, EvidenceSource::Close, unpaid).unwrap();
    assert_eq!(closed.attempts[0].state, AttemptState::Closed);
    assert!(!closed.attempts[0].is_returned());
}

/// Q7, A3: what a request says of the payer belongs to the attempt that begins, is kept if its product
/// wants it, and is no part of the order.
#[test]
fn what_is_said_of_a_payer_belongs_to_the_attempt() {
    let wanting = Product {
        wants: &[PayerDetail::ClientIp],
        ..FRONT
    };
    let gateway = gateway(wanting);
    gateway.place("T1", json!({ "payerClientIp": "203.0.113.9" }));
    let refused = select(&gateway, "T1", json!({ "mode": "NATIVE" }));
    assert_eq!(
        (refused.status, refused.text("reason")),
        (422, "PAYER_CONTEXT_MISSING")
    );
    let of_payer = json!({ "payerClientIp": "::ffff:203.0.113.9", "payerDevice": "IOS" });
    assert_eq!(select(&gateway, "T1", of_payer).status, 200);
    let kept = gateway.order("T1").attempts[0].payer.clone();
    let ip = kept.ip.map(|ip| ip.expose());
    assert_eq!((ip.as_deref(), kept.device), (Some("203.0.113.9"), None));
    let elsewhere = json!({ "payerClientIp": "198.51.100.1" });
    assert_eq!(select(&gateway, "T1", elsewhere.clone()).status, 200);
    let now = gateway.order("T1").attempts[0].payer.ip;
    assert!(now == kept.ip, "an attempt keeps what it began with");
    let repeated = gateway.place("T1", elsewhere);
    assert_eq!(repeated.status, 200, "no conflict: {}", repeated.json);
}

/// In a wallet's browser only what works there is offered, and listed.
#[test]
fn in_a_wallet_only_what_works_there_is_offered() {
    let inside = Product {
        wallets: &[PayerWallet::Alipay],
        ..FRONT
    };
    let gateway = gateway(inside);
    let listed = |wallet: &str, no: &str| {
        let asked = json!({ "payerWallet": wallet, "explainInstitutions": true });
        let reply = gateway.place(no, asked);
        reply.json["institutions"][0]["reason"].clone()
    };
    assert_eq!(listed("WECHAT", "T1"), "NOT_IN_THIS_WALLET");
    assert_eq!(listed("ALIPAY", "T2"), Value::Null);
    let refused = select(&gateway, "T1", json!({ "payerWallet": "WECHAT" }));
    assert_eq!(
        (refused.status, refused.text("reason")),
        (422, "NOT_IN_THIS_WALLET")
    );
}

/// An order that is about to expire starts no attempt of a product that would outlive it.
#[test]
fn an_order_about_to_expire_starts_nothing() {
    let slow = Product {
        least_left: Duration::from_mins(1),
        ..FRONT
    };
    let gateway = gateway(slow);
    gateway.place("T1", json!({ "expireMinutes": 2 }));
    gateway.advance_s(61);
    let refused = select(&gateway, "T1", json!({}));
    assert_eq!(
        (refused.status, refused.text("reason")),
        (422, "ORDER_EXPIRES_SOON")
    );
}

/// An id of the payer counts in an application of the account only, and never without one.
#[test]
fn a_payers_id_needs_an_application_of_the_account() {
    let jsapi = Product {
        wants: &[PayerDetail::OpenId],
        ..FRONT
    };
    let mut gateway = gateway(jsapi);
    gateway.place("T1", json!({}));
    let known = json!({ "payerOpenId": "o-1", "payerAppId": "wx1" });
    let refused = select(&gateway, "T1", known.clone());
    assert_eq!(
        (refused.status, refused.text("code")),
        (422, "app_not_enrolled")
    );
    assert_eq!(refused.text("field"), "payerAppId");
    let half = select(&gateway, "T1", json!({ "payerOpenId": "o-1" }));
    assert_eq!((half.status, half.text("code")), (400, "fields_disagree"));
    enrol_app(&mut gateway, "wx1");
    assert_eq!(select(&gateway, "T1", known).status, 200);
    let kept = gateway.order("T1").attempts[0].payer.clone();
    assert_eq!(kept.identity.unwrap().app.as_str(), "wx1");
}

/// Enrols the account that the bank's contracts name, with this application.
fn enrol_app(gateway: &mut TestGateway, app: &str) {
    use paymux::domain::institutions::{AccountProfile, AccountRole, Credentials};
    let snapshot = Arc::get_mut(&mut gateway.api.snapshot).unwrap();
    let contract = snapshot.routing.contracts.values().next().unwrap().clone();
    let account = AccountProfile {
        id: contract.account.clone(),
        institution: bank(),
        role: AccountRole::Direct,
        receiver: contract.receiver.clone(),
        apps: vec![PayerAppId::parse(app).unwrap()],
        credentials: Credentials::default(),
    };
    let key = (bank(), contract.account);
    snapshot.routing.accounts.insert(key, account);
}

/// D1: nothing of a payer's surroundings is printed with an attempt.
#[test]
fn an_attempt_does_not_print_its_payer() {
    let mut order = order_with(AttemptState::Accepted, Mode::Webview);
    order.attempts[0].payer = PayerDetails {
        ip: paymux::domain::personal::payer_context::PayerIp::parse("203.0.113.9").ok(),
        ..PayerDetails::UNKNOWN
    };
    assert!(!format!("{order:?}").contains("203.0.113"));
}
