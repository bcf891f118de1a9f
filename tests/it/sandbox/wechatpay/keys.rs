//! Platform keys: the certificate list, its three ways to be empty, and the switch to the public
//! key while running.

use http::Method;
use paymux::sandbox::wechatpay::{KeyPhase, NoCertificates};
use serde_json::json;

use super::client::WechatReply;
use super::{MCHID, PLATFORM_SERIAL, PUBLIC_KEY_ID, WechatTestbed, vectors};

impl WechatTestbed {
    async fn asking_for(&self, serial: Option<&str>) -> WechatReply {
        let path = format!("/v3/pay/transactions/out-trade-no/ORDER-1?mchid={MCHID}");
        let mut request = self.request(Method::GET, &path, "");
        if let Some(serial) = serial {
            let headers = request.headers_mut();
            headers.insert("wechatpay-serial", serial.parse().unwrap());
        }
        self.client.send(request).await.unwrap()
    }
}

/// Section 5.2: the list, each certificate encrypted with the merchant's secret.
#[tokio::test]
async fn the_certificates_are_listed_encrypted() {
    let bed = WechatTestbed::build().await;
    let list = bed.get("/v3/certificates").await;
    assert!(list.is_signed(PLATFORM_SERIAL));
    let line = &list.json["data"][0];
    assert_eq!(line["serial_no"], PLATFORM_SERIAL);
    assert_eq!(line["effective_time"], "2025-01-01T08:00:00+08:00");
    assert_eq!(
        line["encrypt_certificate"]["associated_data"],
        "certificate"
    );
    let opened = vectors::opened(&line["encrypt_certificate"]).unwrap();
    assert_eq!(
        opened,
        vectors::pem("platform_certificate", "CERTIFICATE").into_bytes()
    );
    let again = bed.get("/v3/certificates").await;
    let nonce = |reply: &WechatReply| reply.json["data"][0]["encrypt_certificate"]["nonce"].clone();
    assert_ne!(nonce(&list), nonce(&again));
}

/// Section 5.1: three ways to have none, all signed with the public key.
#[tokio::test]
async fn there_may_be_no_certificates_in_three_ways() {
    let bed = WechatTestbed::build().await;
    bed.set_phase(KeyPhase::PublicKey);
    let control = bed.wechat.control();
    let none = bed.get("/v3/certificates").await;
    assert_eq!(none.refusal(), (404, "RESOURCE_NOT_EXISTS"));
    assert!(none.is_signed(PUBLIC_KEY_ID));
    control.set_no_certificates(NoCertificates::EmptyList);
    let none = bed.get("/v3/certificates").await;
    assert_eq!((none.status, none.json), (200, json!({ "data": [] })));
    control.set_no_certificates(NoCertificates::NotEnough);
    assert_eq!(
        bed.get("/v3/certificates").await.refusal(),
        (403, "NOT_ENOUGH")
    );
}

/// Section 5.3: before the switch a certificate signs whatever is asked for, then what is asked for,
/// at the end the public key alone.
#[tokio::test]
async fn answers_follow_the_switch_of_keys() {
    let bed = WechatTestbed::build().await;
    let since_s = bed.wechat.control().now_s();
    let cases = [
        (KeyPhase::Certificates, None, PLATFORM_SERIAL),
        (KeyPhase::Certificates, Some(PUBLIC_KEY_ID), PLATFORM_SERIAL),
        (KeyPhase::Switching { since_s }, None, PLATFORM_SERIAL),
        (
            KeyPhase::Switching { since_s },
            Some(PLATFORM_SERIAL),
            PLATFORM_SERIAL,
        ),
        (
            KeyPhase::Switching { since_s },
            Some(PUBLIC_KEY_ID),
            PUBLIC_KEY_ID,
        ),
        (KeyPhase::PublicKey, None, PUBLIC_KEY_ID),
        (KeyPhase::PublicKey, Some(PLATFORM_SERIAL), PUBLIC_KEY_ID),
    ];
    for (phase, asked, serial) in cases {
        bed.set_phase(phase);
        let reply = bed.asking_for(asked).await;
        assert!(reply.is_signed(serial), "{phase:?}, asked for {asked:?}");
    }
}
