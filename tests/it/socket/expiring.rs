//! A client certificate that expires while its connection is open.

use std::sync::Arc;

use bytes::Bytes;
use http::Request;
use paymux::api::Peer;
use paymux::api::refusal::problem;
use paymux::domain::identifiers::MerchantId;
use paymux::edge::{Bounds, Edge, Listener, Refuse, Responder, TlsIdentity};
use paymux::metrics::Metrics;
use rustls::version::TLS13;
use time::OffsetDateTime;

use super::{TestIdentity, ask, client, connect};
use crate::world::enrolment::{order_fields, snapshot};
use crate::world::fake_institution::FakeInstitutionAbility;
use crate::world::test_gateway::TestGateway;

const PLACE: &str = "/v1/orders";

/// Self-signed, valid for a minute of the test gateway's time.
fn short_validity(now_s: i64) -> TestIdentity {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let moment = |s| OffsetDateTime::from_unix_timestamp(s).unwrap();
    (params.not_before, params.not_after) = (moment(now_s - 60), moment(now_s + 60));
    let certificate = params.self_signed(&key).unwrap();
    TestIdentity {
        certificate: certificate.der().clone(),
        key: key.serialize_der(),
    }
}

fn raw(gateway: &TestGateway, number: &str) -> String {
    let (parts, body) = gateway
        .signed("M1", PLACE, &order_fields("M1", number))
        .into_parts();
    let mut text = format!(
        "POST {PLACE} HTTP/1.1\r\ncontent-length: {}\r\n",
        body.len()
    );
    for (name, value) in &parts.headers {
        let value = value.to_str().unwrap();
        text.extend([name.as_str(), ": ", value, "\r\n"]);
    }
    text + "\r\n" + std::str::from_utf8(&body).unwrap()
}

/// Q4, R-6.3.1-1c: over real TLS, a certificate that was valid at the handshake and has expired
/// since is refused with the next request of the same connection, and nothing is recorded.
#[tokio::test]
async fn a_certificate_that_ends_mid_connection_is_refused() {
    const ONE: [(&str, FakeInstitutionAbility); 1] = [("bank", FakeInstitutionAbility::ALL)];
    let gateway = TestGateway::with(&ONE);
    let merchant = short_validity(gateway.now_s());
    let mut enrolled = snapshot(&ONE);
    let id = MerchantId::parse("M1").unwrap();
    let known = enrolled.routing.merchants.get_mut(&id).unwrap();
    known.certificates.push(merchant.digest());
    let gateway = Arc::new(TestGateway::enrolled(&ONE, enrolled));
    let answering = Arc::clone(&gateway);
    let responder: Responder = Arc::new(move |request: Request<Bytes>, peer: Peer, matched| {
        let gateway = Arc::clone(&answering);
        Box::pin(async move {
            gateway
                .api
                .answer_matched(matched, request, peer)
                .await
                .response
                .into()
        })
    });
    let server = TestIdentity::new();
    let shown = TlsIdentity::new(server.chain(), server.key()).unwrap();
    let listener = Listener {
        address: "127.0.0.1:0".parse().unwrap(),
        identity: Some(Arc::new(shown)),
        responder,
        trusted_proxies: Arc::default(),
        enrolled: Arc::new(|_| true),
    };
    let refuse: Refuse = Arc::new(|refusal| problem(refusal, "R1"));
    let metrics = Arc::new(Metrics::new().unwrap());
    let edge = Edge::bind(vec![listener], Bounds::default(), &refuse, &metrics).unwrap();
    let (address, stop) = (edge.addresses()[0], edge.stopper());
    let serving = tokio::spawn(edge.serve());

    let client = client(&server, &[&TLS13], Some(&merchant));
    let mut stream = connect(&client, address).await.unwrap();
    let answer = ask(&mut stream, raw(&gateway, "T1")).await.unwrap();
    let text = String::from_utf8_lossy(&answer.body).into_owned();
    assert_eq!(answer.status(), 200, "{text}");
    gateway.advance_s(61);
    let before = gateway.durable_state();
    let answer = ask(&mut stream, raw(&gateway, "T2")).await.unwrap();
    let text = String::from_utf8_lossy(&answer.body).into_owned();
    assert_eq!(answer.status(), 403, "{text}");
    assert!(text.contains("certificate_expired"), "{text}");
    // An authenticated request spends its nonce whatever the reply (Q5), and does nothing else.
    let mut after = gateway.durable_state();
    assert_eq!(after.nonces.len(), before.nonces.len() + 1);
    after.nonces.clone_from(&before.nonces);
    assert_eq!(after, before);
    drop(stream);
    stop.stop();
    serving.await.unwrap();
}
