//! A client certificate that ends while its connection stands.

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

use super::{Identity, ask, client, connect};
use crate::world::books::Ability;
use crate::world::enrolment::{order_fields, register};
use crate::world::town::Town;

const PLACE: &str = "/v1/orders";

/// Self-signed, in force for a minute of the town's time.
fn short_lived(now_s: i64) -> Identity {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let moment = |s| OffsetDateTime::from_unix_timestamp(s).unwrap();
    (params.not_before, params.not_after) = (moment(now_s - 60), moment(now_s + 60));
    let certificate = params.self_signed(&key).unwrap();
    Identity {
        certificate: certificate.der().clone(),
        key: key.serialize_der(),
    }
}

fn raw(town: &Town, number: &str) -> String {
    let (parts, body) = town
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

/// Q4, R-6.3.1-1c: over real TLS, a certificate that was in force at the handshake and has ended
/// since is refused with the next request of the same connection, and nothing is recorded.
#[tokio::test]
async fn a_certificate_that_ends_mid_connection_is_refused() {
    const ONE: [(&str, Ability); 1] = [("bank", Ability::ALL)];
    let town = Town::with(&ONE);
    let merchant = short_lived(town.now_s());
    let mut enrolled = register(&ONE);
    let id = MerchantId::parse("M1").unwrap();
    let known = enrolled.directory.merchants.get_mut(&id).unwrap();
    known.certificates.push(merchant.digest());
    let town = Arc::new(Town::enrolled(&ONE, enrolled));
    let answering = Arc::clone(&town);
    let responder: Responder = Arc::new(move |request: Request<Bytes>, peer: Peer| {
        let town = Arc::clone(&answering);
        Box::pin(async move { town.api.answer(request, peer).await.response })
    });
    let server = Identity::new();
    let shown = TlsIdentity::new(server.chain(), server.key()).unwrap();
    let listener = Listener {
        address: "127.0.0.1:0".parse().unwrap(),
        identity: Some(Arc::new(shown)),
        responder,
        enrolled: Arc::new(|_| true),
    };
    let refuse: Refuse = Arc::new(|refusal| problem(refusal, "R1"));
    let metrics = Arc::new(Metrics::new().unwrap());
    let edge = Edge::bind(vec![listener], Bounds::default(), &refuse, &metrics).unwrap();
    let (address, stop) = (edge.addresses()[0], edge.stopper());
    let serving = tokio::spawn(edge.serve());

    let client = client(&server, &[&TLS13], Some(&merchant));
    let mut stream = connect(&client, address).await.unwrap();
    let answer = ask(&mut stream, raw(&town, "T1")).await.unwrap();
    let text = String::from_utf8_lossy(&answer.body).into_owned();
    assert_eq!(answer.status(), 200, "{text}");
    town.pass_s(61);
    let before = town.snapshot();
    let answer = ask(&mut stream, raw(&town, "T2")).await.unwrap();
    let text = String::from_utf8_lossy(&answer.body).into_owned();
    assert_eq!(answer.status(), 403, "{text}");
    assert!(text.contains("certificate_expired"), "{text}");
    // What was proven spends its nonce whatever the answer (Q5), and does nothing else.
    let mut after = town.snapshot();
    assert_eq!(after.nonces.len(), before.nonces.len() + 1);
    after.nonces.clone_from(&before.nonces);
    assert_eq!(after, before);
    drop(stream);
    stop.stop();
    serving.await.unwrap();
}
