//! Clauses of the standard that other tests only touch, each with a test of its own over real
//! sockets that fails when the clause is not met.

mod keys;
mod modes;
mod reached;
mod refunds;
mod secrets;
mod watched;

use std::process::Command;

use paymux::command::demo::enrolment::{BLUE, RED};
use paymux::command::demo::environment::{DemoEnvironment, DemoMerchant};
use paymux::sandbox::{BrowserPage, ClientResponse};
use serde_json::{Value, json};

use super::{PAYER, placed};

/// The standard's ways to pay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ClauseMode {
    /// The payer chooses on our page.
    Webview,
    /// The SDK of the merchant's enrolled institution.
    Native,
    /// Chosen from the list, on the institution's page.
    AggregatedWebview,
    /// Chosen from the list, in the institution's SDK.
    AggregatedNative,
}

impl ClauseMode {
    /// The institution whose page or SDK is used in these tests.
    fn institution(self, stage: &DemoEnvironment) -> &paymux::sandbox::SandboxInstitution {
        match self {
            Self::Webview | Self::AggregatedWebview => &stage.red,
            Self::Native | Self::AggregatedNative => &stage.blue,
        }
    }

    /// Places the merchant's order and takes it to the institution; returns the reply that says how
    /// to pay, and our page's reply where there is one.
    async fn ready(
        self,
        stage: &DemoEnvironment,
        number: &str,
        sum: &str,
    ) -> (ClientResponse, String) {
        let shop = &stage.tea;
        let business_type = match self {
            Self::Webview => "WEBVIEW",
            Self::Native => "NATIVE",
            Self::AggregatedWebview | Self::AggregatedNative => "AGGREGATED",
        };
        let answer = placed(shop, &shop.order(number, business_type, sum, PAYER)).await;
        match self {
            Self::Webview => {
                let page = answer.text("payUrl");
                let link = stage.payer.choose(page, RED.id).await.unwrap();
                (answer, link)
            }
            Self::Native => (answer, String::new()),
            Self::AggregatedWebview => {
                let chosen = chosen(shop, number, RED.id, "WEBVIEW").await;
                let there = stage.payer.arrive(chosen.text("payUrl")).await.unwrap();
                (chosen, there.url)
            }
            Self::AggregatedNative => {
                (chosen(shop, number, BLUE.id, "NATIVE").await, String::new())
            }
        }
    }

    /// The payer's action at the institution: `pay`, or `fail` to fail verification.
    async fn does(
        self,
        stage: &DemoEnvironment,
        (answer, link): &(ClientResponse, String),
        what: &str,
    ) -> BrowserPage {
        let payer = &stage.payer;
        let done = match self {
            Self::Webview | Self::AggregatedWebview => payer.press(link, "outcome", what).await,
            Self::Native | Self::AggregatedNative => {
                let parameters = &answer.json["sdkParameters"];
                payer
                    .pay_by_sdk(&stage.blue.origin(), parameters, what)
                    .await
            }
        };
        done.unwrap()
    }
}

/// The payer's choice, submitted by the merchant.
async fn chosen(
    shop: &DemoMerchant,
    number: &str,
    institution: &str,
    mode: &str,
) -> ClientResponse {
    let choice = json!({ "institutionId": institution, "mode": mode });
    let answer = shop.ask("/v1/orders/select", number, choice).await.unwrap();
    let found = (answer.status, answer.text("attemptStatus"));
    assert_eq!(found, (200, "ACCEPTED"), "{}", answer.json);
    answer
}

/// A page as JSON.
fn read(page: &BrowserPage) -> Value {
    assert_eq!(page.status, 200, "{}", page.html);
    serde_json::from_str(&page.html).unwrap()
}

/// What `paymux check` prints for a changed configuration, and whether it would be served.
fn checked(stage: &DemoEnvironment, changes: &[(&str, &str)]) -> (bool, String) {
    changed(stage, changes);
    let output = Command::new(env!("CARGO_BIN_EXE_paymux"))
        .args(["check", "--config"])
        .arg(&stage.config)
        .output()
        .unwrap();
    let printed = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(printed).unwrap())
}

/// Rewrites the configuration with these changes, each of which must match.
fn changed(stage: &DemoEnvironment, changes: &[(&str, &str)]) {
    let mut text = std::fs::read_to_string(&stage.config).unwrap();
    for (from, to) in changes {
        assert!(text.contains(from), "{from} is not in {text}");
        text = text.replacen(from, to, 1);
    }
    std::fs::write(&stage.config, text).unwrap();
}
