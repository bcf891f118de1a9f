//! The dialects of real institutions through the running gateway: its own process, and the strict
//! counterpart of each, over TLS on loopback. Each test has both for itself.

mod alipay;
mod unionpay;
mod wechatpay;

use std::fs;

use bytes::Bytes;
use http::Request;
use paymux::command::demo::enrolment::TEA;
use paymux::command::demo::environment::{DemoEnvironment, DemoMerchant, WAIT_MAX};
use paymux::command::sandbox::{self, RunningSandbox, SandboxArgs};
use paymux::sandbox::ClientResponse;
use serde_json::{Value, json};

use crate::journey::process::GatewayProcess;
use crate::journey::{PAYER, operations, queried};

/// How often a merchant asks for the state of an order, each time waiting for its notification.
const ASKED_MAX: u32 = 40;

/// A gateway, the counterparts that were asked for, and the demonstration's merchants.
struct DialectTestbed {
    stage: DemoEnvironment,
    sandbox: RunningSandbox,
    _served: GatewayProcess,
}

impl DialectTestbed {
    /// Starts the counterparts, enrols them with these tables, and starts the gateway.
    async fn open(
        adjust: impl FnOnce(&mut SandboxArgs),
        tables: impl FnOnce(&DemoEnvironment, &RunningSandbox) -> String,
    ) -> Self {
        let stage = DemoEnvironment::set(crate::socket::ports::free(), "")
            .await
            .unwrap();
        let mut args = SandboxArgs {
            dir: stage.certs(),
            port: 0,
            without_merchant: true,
            host: "localhost".to_owned(),
            merchant: TEA.id.to_owned(),
            platform_key: "platform-1".to_owned(),
            wechatpay_port: None,
            alipay_port: None,
            unionpay_port: None,
        };
        adjust(&mut args);
        let sandbox = sandbox::open(&args).await.unwrap();
        let before = fs::read_to_string(&stage.config).unwrap();
        fs::write(&stage.config, before + &tables(&stage, &sandbox)).unwrap();
        let served = GatewayProcess::start(&stage);
        Self {
            stage,
            sandbox,
            _served: served,
        }
    }

    fn shop(&self) -> &DemoMerchant {
        &self.stage.tea
    }

    /// Places an order at this institution, and what the merchant says of its payer.
    async fn placed(&self, mode: &str, institution: &str, payer: Value) -> ClientResponse {
        let mut order = self.shop().order("T1", mode, "12.30", PAYER);
        order["institutionId"] = json!(institution);
        for (name, value) in payer.as_object().unwrap() {
            order[name] = value.clone();
        }
        let answer = self.shop().place(&order).await.unwrap();
        let found = (answer.status, answer.text("attemptStatus"));
        assert_eq!(found, (200, "ACCEPTED"), "{}", answer.json);
        answer
    }

    async fn notified_of_payment(&self) {
        let notice = self.shop().wait_for_notification("ORDER_PAID", "T1");
        assert_eq!(notice.await.unwrap().fields["orderAmount"], "12.30");
        assert_eq!(queried(self.shop(), "T1").await.text("orderStatus"), "PAID");
    }

    /// The merchant asks until it is notified: each question is a reason to ask the institution.
    async fn paid_by_asking(&self) {
        for _ in 0..ASKED_MAX {
            let answer = queried(self.shop(), "T1").await;
            assert_eq!(answer.status, 200, "{}", answer.json);
            let notified = self.shop().merchant.wait_for(
                |inbox| inbox.event("ORDER_PAID", "T1").cloned(),
                WAIT_MAX / ASKED_MAX,
            );
            if notified.await.is_some() {
                return self.notified_of_payment().await;
            }
        }
        panic!("nobody found the payment");
    }

    /// Asks for a refund and waits until it is reported as made.
    async fn refunded(&self, number: &str, sum: &str) {
        let shop = self.shop();
        let of = shop.order("T1", "NATIVE", sum, PAYER);
        let request = json!({
            "merchantId": shop.role.id, "merchantOrderNo": "T1", "orderDate": of["orderDate"],
            "refundAmount": sum, "mobileNo": PAYER, "merchantRefundNo": number,
        });
        let answer = shop.client.post("/v1/refunds", &request).await.unwrap();
        assert!(
            [200, 202].contains(&answer.status),
            "{number}: {}",
            answer.json
        );
        let event = shop.merchant.wait_for(
            |inbox| inbox.refund_event("REFUND_SUCCEEDED", number).cloned(),
            WAIT_MAX,
        );
        assert!(event.await.is_some(), "{number} is reported as made");
    }

    /// Closes the order and waits until it is closed.
    async fn closed(&self) {
        let asked = self.shop().ask("/v1/orders/close", "T1", json!({}));
        let answer = asked.await.unwrap();
        assert!([200, 202].contains(&answer.status), "{}", answer.json);
        let closed = self.shop().wait_for_notification("ORDER_CLOSED", "T1");
        closed.await.unwrap();
    }

    /// How many callbacks of an institution were put aside.
    async fn quarantined(&self, institution: &str) -> bool {
        let page = operations(&self.stage, "/metrics").await;
        let line = format!(
            "paymux_callbacks_total{{institution=\"{institution}\",status=\"QUARANTINED\"}} 1"
        );
        page.contains(&line)
    }

    /// Sends JSON to a counterpart, as a payer's client or as who steers it.
    async fn post(&self, url: &str, body: &Value) -> ClientResponse {
        let request = Request::post(url)
            .header("content-type", "application/json")
            .body(Bytes::from(body.to_string()))
            .unwrap();
        self.shop().client.send(request).await.unwrap()
    }
}

/// The table of an institution.
fn institution(id: &str, kind: &str, url: &str, more: &str) -> String {
    format!(
        r#"
[[institution]]
id = "{id}"
kind = "{kind}"
url = "{url}"
{more}name = "{id}"
name_en = "{id}"
state = "admitted"
evidence = "played on this machine"
since = 2020-01-01
modes = ["WEBVIEW", "NATIVE"]
capabilities = [
    "password_pay", "full_refund", "partial_refund", "repeated_refund", "bind_card",
    "reset_password",
]
roots = "certs/ca.pem"

[[route]]
institution = "{id}"
order = 9
"#
    )
}

/// The table of a contract for these products.
fn contract(merchant: &str, institution: &str, account: &str, products: &str) -> String {
    format!(
        r#"
[[contract]]
merchant = "{merchant}"
institution = "{institution}"
account = "{account}"
products = [{products}]
modes = ["WEBVIEW", "NATIVE"]
transaction_types = ["PASSWORD_PAY"]
amount_min = "0.01"
amount_max = "50000.00"
"#
    )
}
