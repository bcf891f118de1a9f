//! Rate limits: refused with 429 and `Retry-After`, nothing recorded, and the same request succeeds
//! afterwards.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response, header};
use paymux::api::Peer;
use paymux::domain::identifiers::{InstitutionId, MerchantId};
use paymux::domain::institutions::{CallEnd, CallPurpose, Health};
use paymux::health::HealthTracker;
use paymux::limits::{LimitSettings, Rate};
use paymux::world::{
    Clock, Outbound, OutboundOptions, OutboundParty, Permit, PermitUnavailable, SendError, World,
};
use serde_json::json;

use super::{good, with};
use crate::world::enrolment::shown;
use crate::world::network::TestNetwork;
use crate::world::test_gateway::{PEER, TestGateway, TestReply, naming};

fn rate(per_second: u32) -> Rate {
    let per_second = NonZeroU32::new(per_second).unwrap();
    Rate {
        per_second,
        burst: per_second,
    }
}

/// 429, with whole seconds to wait, and nothing written.
fn too_often(gateway: &TestGateway, request: Request<Bytes>, peer: Peer) -> TestReply {
    let before = gateway.durable_state();
    let reply = gateway.send_from(request, peer);
    assert_eq!(
        (reply.status, reply.result),
        (429, "too_often"),
        "{:?}",
        reply.json
    );
    assert_eq!(gateway.durable_state(), before);
    reply
}

fn wait_s(reply: &TestReply) -> u64 {
    let wait = &reply.response.headers()[header::RETRY_AFTER];
    wait.to_str().unwrap().parse().unwrap()
}

/// Q1, Q8: limited by address or certificate before the signature, by merchant after it; a limited
/// caller may send the same bytes again, because the nonce was not spent.
#[test]
fn a_limited_caller_can_repeat_its_request() {
    let with_certificate = Peer {
        certificate: Some(shown("M1", i64::MAX)),
        ..PEER
    };
    for (settings, peer, signed) in [
        ([1, 9, 9], PEER, false),
        ([9, 1, 9], with_certificate, false),
        ([9, 9, 1], PEER, true),
    ] {
        let gateway = TestGateway::new();
        let [address, certificate, merchant] = settings.map(rate);
        gateway.api.admission.limits.replace(&LimitSettings {
            certificate,
            address,
            merchant,
        });
        assert_eq!(gateway.send_from(good(&gateway), peer).status, 200);
        let again = with(&gateway, json!({ "merchantOrderNo": "T2" }));
        let reply = too_often(&gateway, again.clone(), peer);
        assert_eq!(wait_s(&reply), 1);
        assert_eq!(reply.response.headers().contains_key("signature"), signed);
        gateway.advance_s(1);
        assert_eq!(gateway.send_from(again, peer).status, 200);
    }
}

/// An institution without a free permit for now.
struct RateLimitedNetwork(Arc<TestNetwork>, AtomicBool);

#[async_trait]
impl Outbound for RateLimitedNetwork {
    async fn send(
        &self,
        party: &OutboundParty,
        request: Request<Bytes>,
        options: OutboundOptions,
    ) -> Result<Response<Bytes>, SendError> {
        assert!(
            !self.1.load(Ordering::SeqCst),
            "nothing is sent without a permit"
        );
        self.0.send(party, request, options).await
    }

    async fn permit(
        &self,
        _: &InstitutionId,
        merchant: &MerchantId,
    ) -> Result<Permit, PermitUnavailable> {
        assert_eq!(merchant.as_str(), "M1", "permits are by merchant");
        if self.1.load(Ordering::SeqCst) {
            return Err(PermitUnavailable {
                wait: Duration::from_millis(1_001),
            });
        }
        Ok(Permit::free())
    }
}

/// Q8, A1: while an institution has no permit, placing through it and selecting it are refused
/// before anything is written; the same requests succeed when it has one. A query needs no permit.
#[test]
fn nothing_is_written_without_a_permit() {
    let mut gateway = TestGateway::new();
    let busy = Arc::new(RateLimitedNetwork(
        Arc::clone(&gateway.network),
        AtomicBool::new(true),
    ));
    gateway.api.world.outbound = Arc::<RateLimitedNetwork>::clone(&busy);
    assert_eq!(gateway.place("T1", json!({})).status, 200);
    let mut choice = naming("T1");
    choice["institutionId"] = json!("bank");
    let choose = gateway.signed("M1", "/v1/orders/select", &choice);
    let named = json!({ "merchantOrderNo": "T2", "institutionId": "bank" });
    let place = with(&gateway, named);
    for request in [&choose, &place] {
        let reply = too_often(&gateway, request.clone(), PEER);
        assert_eq!(wait_s(&reply), 2, "rounded up");
    }
    assert_eq!(gateway.query("T1").status, 200);
    assert!(gateway.order("T1").attempts.is_empty());
    busy.1.store(false, Ordering::SeqCst);
    for request in [choose, place] {
        let reply = gateway.send(request);
        assert_eq!(
            (reply.status, reply.text("attemptStatus")),
            (200, "ACCEPTED")
        );
    }
    busy.1.store(true, Ordering::SeqCst);
    let reply = gateway.select("T1", "bank");
    assert_eq!(
        reply.status, 200,
        "the stored payment action needs no permit"
    );
    let named = json!({ "merchantOrderNo": "T2", "institutionId": "bank" });
    let reply = gateway.send(with(&gateway, named));
    assert_eq!(
        (reply.status, reply.text("attemptStatus")),
        (200, "ACCEPTED")
    );
    let other = json!({ "merchantOrderNo": "T2", "institutionId": "bank", "orderAmount": "7.00" });
    let reply = gateway.send(with(&gateway, other));
    assert_eq!((reply.status, reply.result), (409, "order_conflict"));
}

/// An institution that fails while its permit is waited for.
struct FailingNetwork(Arc<TestNetwork>, Arc<HealthTracker>, Arc<dyn Clock>);

#[async_trait]
impl Outbound for FailingNetwork {
    async fn send(
        &self,
        party: &OutboundParty,
        request: Request<Bytes>,
        options: OutboundOptions,
    ) -> Result<Response<Bytes>, SendError> {
        self.0.send(party, request, options).await
    }

    async fn permit(
        &self,
        institution: &InstitutionId,
        _: &MerchantId,
    ) -> Result<Permit, PermitUnavailable> {
        let now = self.2.now();
        while self.1.standing(institution, now) != Health::Open {
            let begun = self.1.begin(institution, now);
            let (purpose, end) = (CallPurpose::Query, CallEnd::Unreachable);
            self.1.end(institution, begun, purpose, end, now);
        }
        Ok(Permit::free())
    }
}

/// An order that waited for its permit is judged after the wait: where the institution has failed
/// meanwhile, nothing is sent there and no order is placed.
#[test]
fn an_order_that_waited_for_its_permit_is_judged_after_the_wait() {
    let mut gateway = TestGateway::new();
    let network = Arc::clone(&gateway.network);
    let World { health, clock, .. } = gateway.api.world.clone();
    gateway.api.world.outbound = Arc::new(FailingNetwork(network, health, clock));
    let reply = gateway.place("T1", json!({ "institutionId": "bank" }));
    assert_eq!(
        (reply.status, reply.result),
        (422, "institution_unavailable")
    );
    assert_eq!(reply.text("reason"), "INSTITUTION_UNHEALTHY");
    assert!(gateway.network.parties().sent.is_empty());
    let reply = gateway.place("T1", json!({}));
    assert_eq!(reply.status, 200, "the number is free");
}

/// Q8, S3: while the disk is nearly full nothing new is begun, recorded or spent; what was begun is
/// paid, notified, closed and refunded.
#[test]
fn a_nearly_full_disk_takes_no_orders_and_loses_no_result() {
    let gateway = TestGateway::new();
    gateway.place("T1", json!({}));
    gateway.place("T2", json!({}));
    gateway.select("T1", "bank");
    let short = |is_short| gateway.api.world.disk.set_short(is_short);
    short(true);
    let body = crate::world::enrolment::order_fields("M1", "T3");
    let placing = gateway.signed("M1", "/v1/orders", &body);
    let again = placing.clone();
    let reply = gateway.send(placing);
    assert_eq!((reply.status, reply.result), (503, "unavailable"));
    assert!(reply.response.headers().contains_key("retry-after"));
    assert_eq!(gateway.select("T2", "bank").status, 503);

    let id = gateway.pay("T1", "bank");
    assert_eq!(gateway.call_back("bank", &id).status, 200);
    assert_eq!(gateway.query("T1").text("orderStatus"), "PAID");
    assert_eq!(gateway.deliver().len(), 1);
    assert_eq!(gateway.close("T2").text("result"), "CLOSED");
    let refund = json!({
        "merchantOrderNo": "T1", "orderDate": "20260925", "refundAmount": "1",
        "merchantId": "M1", "mobileNo": "13812345678",
    });
    assert_eq!(gateway.ask("M1", "/v1/refunds", &refund).status, 200);

    short(false);
    assert_eq!(
        gateway.send(again).status,
        200,
        "the refused request's nonce was not spent"
    );
}
