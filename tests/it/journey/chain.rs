//! Two gateways in a row: to the first, the second is an institution of the `standard` dialect; to
//! the second, the first is a merchant.

use std::path::Path;

use paymux::command::demo::enrolment::BLUE;
use paymux::command::demo::environment::{
    DemoEnvironment, TemporaryFolder, WAIT_MAX, identity, payment_of,
};
use paymux::command::demo::ports::{Ports, loopback};
use paymux::command::keys;
use paymux::config;
use paymux::run::Gateway;
use paymux::sandbox::{
    ClientSettings, MerchantClient, MerchantSettings, SandboxMerchant, SimulatedPayer,
};
use paymux::signature::{EnrolledKey, KeyRing, SigningKey, VerifyingKey};
use paymux::world::{Clock, SystemClock};
use serde_json::json;

use super::PAYER;

/// The first gateway, as enrolled at the second.
fn front_as_merchant(front: &TemporaryFolder, port: u16) -> String {
    let certs = front.path().join("certs");
    let certs = certs.display();
    format!(
        r#"
[[merchant]]
id = "FRONT"
name = "Front Gateway"
state = "admitted"
evidence = "a test"
since = 2026-01-01
mtls = "off"
notify_origins = ["https://localhost:{port}"]

[[merchant.keys]]
id = "paymux-back"
algorithm = "ed25519"
file = "{certs}/paymux-back.pub"
not_before = 2020-01-01
not_after = 2099-12-31

[[contract]]
merchant = "FRONT"
institution = "bluebank"
account = "M1001"
modes = ["WEBVIEW"]
transaction_types = ["PASSWORD_PAY"]
"#
    )
}

/// The first gateway's settings; it trusts the second's certificate.
fn front(folder: &Path, ports: &Ports, back: &DemoEnvironment) -> String {
    let Ports {
        public, operations, ..
    } = ports;
    let (folder, theirs) = (folder.display(), back.certs());
    let theirs = theirs.display();
    format!(
        r#"
[listen]
public = "127.0.0.1:{public}"
operations = "127.0.0.1:{operations}"
public_origin = "https://localhost:{public}"
certificate = "{theirs}/server.pem"
key = "file:{theirs}/server.key"

[store]
url = "sqlite:{folder}/front.sqlite"
seal_key = "seal-1"
digest_key = "file:certs/digest.key"

[[store.seal_keys]]
id = "seal-1"
key = "file:certs/seal-1.key"

[[platform.keys]]
id = "front-1"
key = "file:certs/front-1.key"
not_before = 2020-01-01
not_after = 2099-12-31

[outbound]
merchant_roots = "{theirs}/ca.pem"
allowed_private_networks = ["127.0.0.0/8", "::1/128"]
"#
    )
}

/// The first gateway's parties: one merchant, and the second gateway as the only institution.
fn front_parties(shop: &str, back: &DemoEnvironment) -> String {
    let (origin, theirs) = (back.origin(), back.certs());
    let theirs = theirs.display();
    format!(
        r#"
[[merchant]]
id = "M9"
name = "Corner Shop"
state = "admitted"
evidence = "a test"
since = 2026-01-01
mtls = "off"
notify_origins = ["{shop}"]

[[merchant.keys]]
id = "M9-1"
algorithm = "ed25519"
file = "certs/M9-1.pub"
not_before = 2020-01-01
not_after = 2099-12-31

[[institution]]
id = "back"
kind = "standard"
url = "{origin}"
name = "后台网关"
name_en = "The gateway behind"
merchant_name = "Front Gateway"
state = "admitted"
evidence = "a test"
since = 2026-01-01
modes = ["WEBVIEW"]
capabilities = ["password_pay", "full_refund", "partial_refund", "repeated_refund", "bind_card", "reset_password"]
roots = "{theirs}/ca.pem"

[[account]]
id = "front"
institution = "back"
merchant_id = "FRONT"
key_id = "paymux-back"
key = "file:certs/paymux-back.key"
key_not_before = 2020-01-01
key_not_after = 2099-12-31

[[account.keys]]
id = "platform-1"
algorithm = "ed25519"
file = "{theirs}/platform-1.pub"
not_before = 2020-01-01
not_after = 2099-12-31

[[contract]]
merchant = "M9"
institution = "back"
account = "front"
modes = ["WEBVIEW"]
transaction_types = ["PASSWORD_PAY"]

[[route]]
institution = "back"
"#
    )
}

fn ring(certs: &Path, id: &str) -> KeyRing {
    let pem = std::fs::read_to_string(certs.join(format!("{id}.pub"))).unwrap();
    let key = EnrolledKey {
        id: id.to_owned(),
        owner: "front".to_owned(),
        key: VerifyingKey::from_spki_pem(&pem).unwrap(),
        not_before_s: 0,
        not_after_s: i64::MAX,
    };
    KeyRing::new(vec![key]).unwrap()
}

/// Client settings of one of the two parties, for this run only.
fn client_settings(back: &DemoEnvironment, port: u16, platform: KeyRing) -> MerchantSettings {
    MerchantSettings {
        id: "M9".to_owned(),
        listen: loopback(port),
        host: "localhost".to_owned(),
        identity: identity(&back.certs(), "server").unwrap(),
        platform,
        slow: WAIT_MAX,
    }
}

/// A2.4, A3.1, A3.3: an order goes through two gateways to a bank, and the result comes back
/// through both; one payment, one notification.
#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_serves_as_an_institution_of_another() {
    let (folder, ports) = (
        TemporaryFolder::make().unwrap(),
        crate::socket::ports::free(),
    );
    let more = front_as_merchant(&folder, ports.public);
    let back = DemoEnvironment::set(crate::socket::ports::free(), &more)
        .await
        .unwrap();
    let shop_origin = format!("https://localhost:{}", ports.tea);
    let file = folder.path().join(config::FILE);
    let text = front(folder.path(), &ports, &back);
    std::fs::write(&file, text + &front_parties(&shop_origin, &back)).unwrap();
    let (certs, now) = (folder.path().join("certs"), SystemClock::start().now());
    keys::dev(&mut Vec::new(), &file, &certs, now).unwrap();

    let _back = back.open().await.unwrap();
    let config = config::read(&file, now, &|_| None).unwrap_or_else(|faults| panic!("{faults}"));
    let gateway = Gateway::build(config).await.unwrap();
    let stopper = gateway.stopper();
    let serving = tokio::spawn(gateway.serve());
    let platform = ring(&certs, "front-1");
    let settings = client_settings(&back, ports.tea, platform.clone());
    let shop = SandboxMerchant::start(settings).await.unwrap();
    let key = std::fs::read_to_string(certs.join("M9-1.key")).unwrap();
    let roots_pem = std::fs::read_to_string(back.certs().join("ca.pem")).unwrap();
    let payer = SimulatedPayer::new(&roots_pem).unwrap();
    let client = MerchantClient::new(ClientSettings {
        gateway_origin: format!("https://localhost:{}", ports.public),
        roots_pem,
        identity: None,
        key: SigningKey::from_pkcs8_pem("M9-1", &key).unwrap(),
        gateway_keys: platform,
    })
    .unwrap();

    let mut order = back.tea.order("T1", "WEBVIEW", "12.30", PAYER);
    order["merchantId"] = json!("M9");
    order["merchantName"] = json!("Corner Shop");
    order["bankReturnUrl"] = json!(shop.notice_url());
    order["institutionId"] = json!("back");
    let placed = client.post("/v1/orders", &order).await.unwrap();
    assert_eq!(placed.status, 200, "{}", placed.json);
    let page = payer.arrive(placed.text("payUrl")).await.unwrap().url;
    assert!(
        page.starts_with(&format!("{}/pay/", back.origin())),
        "{page}"
    );
    let link = payer.choose(&page, BLUE.id).await.unwrap();
    payer.pay(&link).await.unwrap();

    let paid = shop.wait_for(|inbox| inbox.event("ORDER_PAID", "T1").cloned(), WAIT_MAX);
    let notice = paid.await.expect("the result comes through both");
    assert_eq!(notice.fields["orderAmount"], "12.30");
    assert_eq!(notice.fields["merchantName"], "Corner Shop");
    let number = json!({ "merchantId": "M9", "merchantOrderNo": "T1" });
    let found = client.post("/v1/orders/query", &number).await.unwrap();
    assert_eq!(
        (found.text("orderStatus"), found.text("institutionId")),
        ("PAID", "back")
    );
    assert_eq!(
        payment_of(&back.blue.books(), "T1").unwrap().taken_cents,
        1_230
    );
    assert_eq!(back.blue.books().payments().count(), 1);
    assert_eq!(shop.inbox().deliveries.len(), 1);
    stopper.stop();
    serving.await.unwrap();
}
