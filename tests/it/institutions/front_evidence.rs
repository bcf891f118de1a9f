//! Evidence about attempts of a product that sends nothing, through the gateway: what "not found", a
//! hint and a contradicted success do to them, and which product an attempt begins with.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response};
use paymux::domain::attempt::AttemptState;
use paymux::domain::evidence::{Ambiguity, Finding, Reversal};
use paymux::domain::identifiers::{InstitutionId, MerchantId};
use paymux::domain::institutions::{CreateSend, Product, Visibility};
use paymux::world::{
    Outbound, OutboundOptions, OutboundParty, Permit, PermitUnavailable, SendError,
};
use serde_json::json;

use super::front::{FRONT, MARGIN, callback_of, gateway_of, receipt, select, state};
use crate::world::clock::ManualClock;
use crate::world::test_gateway::TestGateway;

/// A5, T2: a clock that is set ahead ends nothing that the payer can still pay, however long the
/// process has run.
#[test]
fn a_clock_set_ahead_ends_nothing_that_can_be_paid() {
    let gateway = gateway_of(&[FRONT], None);
    gateway.advance_s(86_400);
    gateway.place("T1", json!({ "expireMinutes": 10 }));
    gateway.select("T1", "bank");
    gateway.clock.set_off(7_200_000);
    for _ in 0..3 {
        gateway.advance_s(60);
        gateway.poll_unresolved();
        assert!(state(&gateway).is_live(), "{:?}", state(&gateway));
    }
    gateway.advance_s(600);
    gateway.poll_unresolved();
    gateway.advance_s(3_600);
    gateway.poll_unresolved();
    assert_eq!(state(&gateway), AttemptState::Closed);
}

/// An attempt that ended by its deadline, at a bank whose queries find this.
fn ended(found: Option<Finding>) -> TestGateway {
    let gateway = gateway_of(&[FRONT], found);
    gateway.place("T1", json!({ "expireMinutes": 10 }));
    gateway.select("T1", "bank");
    for _ in 0..3 {
        gateway.advance_s(3_600);
        gateway.poll_unresolved();
    }
    assert_eq!(state(&gateway), AttemptState::Closed);
    gateway
}

/// C4, V4: a success that the query does not confirm is not acknowledged, also where the query finds
/// that nothing had been taken: the institution has to repeat it.
#[test]
fn a_success_contradicted_by_a_reversal_is_not_acknowledged() {
    let gateway = ended(Some(Finding::Reversed(Reversal::Unpaid)));
    let before = gateway.order("T1");
    assert_eq!(gateway.send(callback_of("x-success", &before)).status, 503);
    assert_eq!(gateway.order("T1").version, before.version);
}

/// A9: a hint about an attempt that has ended is asked about, for money may have come and gone; if it
/// has not, the hint is acknowledged.
#[test]
fn a_hint_about_an_ended_attempt_is_asked_about() {
    let gateway = ended(None);
    let before = gateway.order("T1");
    assert_eq!(gateway.send(callback_of("x-hint", &before)).status, 200);
    assert_eq!(gateway.order("T1").version, before.version);
    let mut gateway = gateway;
    let unanswered = Finding::Ambiguous(Ambiguity::NoAnswer);
    gateway.api.snapshot = gateway_of(&[FRONT], Some(unanswered)).snapshot();
    assert_eq!(
        gateway.send(callback_of("x-hint", &before)).status,
        503,
        "not answered"
    );
    let amount = before.attempts[0].amount;
    let returned = Reversal::Returned(receipt(amount, before.created));
    gateway.api.snapshot = gateway_of(&[FRONT], Some(Finding::Reversed(returned))).snapshot();
    assert_eq!(gateway.send(callback_of("x-hint", &before)).status, 200);
    assert!(gateway.order("T1").attempts[0].is_returned());
    let known = gateway.order("T1").version;
    assert_eq!(gateway.send(callback_of("x-hint", &before)).status, 200);
    assert_eq!(gateway.order("T1").version, known, "booked once");
}

/// A2: what nobody can pay any more is closed before another attempt begins, and made no more.
#[test]
fn a_code_that_is_over_is_closed_first() {
    let short = Product {
        pay_within: Some(Duration::from_mins(3)),
        ..FRONT
    };
    let gateway = gateway_of(&[short], None);
    gateway.place("T1", json!({ "expireMinutes": 30 }));
    assert_eq!(select(&gateway, "T1", json!({})).status, 200);
    gateway.advance_s(179);
    assert_eq!(select(&gateway, "T1", json!({})).status, 200);
    assert_eq!(state(&gateway), AttemptState::Accepted);
    gateway.advance_s(1);
    assert_eq!(select(&gateway, "T1", json!({})).status, 202);
    assert_eq!(state(&gateway), AttemptState::Closing);
    gateway.advance_s(MARGIN.as_secs().try_into().unwrap());
    gateway.poll_unresolved();
    assert_eq!(state(&gateway), AttemptState::Closed);
    assert_eq!(select(&gateway, "T1", json!({})).status, 200);
    assert_eq!(gateway.order("T1").attempts.len(), 2);
}

/// Permits that take half a minute.
struct SlowPermits {
    inner: Arc<dyn Outbound>,
    clock: Arc<ManualClock>,
}

#[async_trait]
impl Outbound for SlowPermits {
    async fn send(
        &self,
        party: &OutboundParty,
        request: Request<Bytes>,
        options: OutboundOptions,
    ) -> Result<Response<Bytes>, SendError> {
        self.inner.send(party, request, options).await
    }

    async fn permit(
        &self,
        institution: &InstitutionId,
        merchant: &MerchantId,
    ) -> Result<Permit, PermitUnavailable> {
        self.clock.pass(30_000);
        self.inner.permit(institution, merchant).await
    }
}

/// An attempt begins with a product that fits when it begins, not with the one that fitted before the
/// wait for a permit.
#[test]
fn a_product_that_no_longer_fits_is_not_started() {
    let sent = Product {
        create: CreateSend::Repeatable,
        least_left: Duration::from_mins(1),
        ..Product::plain("SLOW", Visibility::AfterSend(Duration::from_mins(1)))
    };
    let mut gateway = gateway_of(&[sent, FRONT], None);
    gateway.api.world.outbound = Arc::new(SlowPermits {
        inner: Arc::clone(&gateway.api.world.outbound),
        clock: Arc::clone(&gateway.clock),
    });
    gateway.place("T1", json!({ "expireMinutes": 2 }));
    gateway.advance_s(40);
    assert_eq!(select(&gateway, "T1", json!({})).status, 200);
    assert_eq!(gateway.order("T1").attempts[0].product.as_str(), "STANDARD");
}
