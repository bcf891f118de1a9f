//! What `paymux check` accepts, the gateway serves.

use paymux::command::demo::enrolment::RED;
use paymux::command::demo::environment::DemoEnvironment;
use paymux::domain::institutions::{Mode, TransactionType};
use serde_json::json;

use super::{paymux, ran, text};
use crate::journey::{PAYER, open, placed};

/// The lines of `check` about configured values that are not served.
async fn not_served(stage: &DemoEnvironment) -> String {
    let printed = text(&ran(paymux(&["check"], &stage.config)).await.stdout);
    let lines = printed
        .lines()
        .filter(|line| line.contains("does not serve"));
    lines.collect::<Vec<_>>().join("\n")
}

/// Every type and mode that the file can name is either served or reported as not served.
#[tokio::test(flavor = "multi_thread")]
async fn what_check_accepts_is_served() {
    let (stage, open) = open().await;
    let right = std::fs::read_to_string(&stage.config).unwrap();
    for (number, kind) in TransactionType::ALL.into_iter().enumerate() {
        let types = format!("transaction_types = [\"{}\"]", kind.name());
        let file = right.replace("transaction_types = [\"PASSWORD_PAY\"]", &types);
        std::fs::write(&stage.config, file).unwrap();
        let held = not_served(&stage).await;
        let mut wanted = stage
            .tea
            .order(&format!("T-{number}"), "AGGREGATED", "12.30", PAYER);
        wanted["transactionType"] = json!(kind.name());
        let answer = stage.tea.place(&wanted).await.unwrap();
        let is_held = held.contains(kind.name());
        assert_eq!(
            answer.status == 200,
            !is_held,
            "{kind:?}: {held} {}",
            answer.json
        );
    }
    let modes = "modes = [\"WEBVIEW\", \"NATIVE\"]";
    let with = right
        .replace(modes, "modes = [\"WEBVIEW\", \"CHATBOT\", \"NATIVE\"]")
        .replace("capabilities = [\n", "capabilities = [\n    \"queries\",\n");
    std::fs::write(&stage.config, with).unwrap();
    let reload = ran(paymux(&["reload"], &stage.config)).await;
    assert!(reload.status.success(), "{}", text(&reload.stdout));
    let held = not_served(&stage).await;
    for mode in Mode::ALL {
        let mut wanted = stage.tea.order(mode.name(), mode.name(), "12.30", PAYER);
        wanted["institutionId"] = json!("bluebank");
        let answer = stage.tea.place(&wanted).await.unwrap();
        let is_held = held.contains(mode.name()) && mode == Mode::Chatbot;
        assert_eq!(
            answer.status == 200,
            !is_held,
            "{mode:?}: {held} {}",
            answer.json
        );
    }
    open.close().await.unwrap();
}

/// What a refusal lists as expected is accepted, and only mandatory fields are called required.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_refusal_expects_is_accepted() {
    let (stage, open) = open().await;
    for (field, expected) in [
        ("businessType", "expected one of WEBVIEW NATIVE AGGREGATED"),
        ("transactionType", "expected PASSWORD_PAY"),
        ("mode", "expected one of WEBVIEW NATIVE"),
        ("currency", "expected one of the settlement currencies: CNY"),
    ] {
        let mut wanted = stage.tea.order("T-1", "AGGREGATED", "12.30", PAYER);
        wanted[field] = json!("NONSENSE");
        let refused = stage.tea.place(&wanted).await.unwrap();
        assert_eq!(refused.text("detail"), refused.text("detail").trim());
        assert!(
            refused.text("detail").ends_with(expected),
            "{}",
            refused.json
        );
    }
    let unnamed = json!({ "merchantId": "M1001" });
    for (path, either) in [
        ("/v1/orders/query", ["payOrderNo", "merchantOrderNo"]),
        ("/v1/refunds/query", ["refundOrderNo", "merchantRefundNo"]),
    ] {
        let refused = stage.tea.client.post(path, &unnamed).await.unwrap();
        assert_eq!(
            (refused.status, refused.text("code")),
            (400, "field_missing")
        );
        assert!(refused.json["field"].is_null(), "{}", refused.json);
        for name in either {
            assert!(refused.text("detail").contains(name), "{}", refused.json);
        }
    }
    open.close().await.unwrap();
}

/// The merchant's default institution comes first on our page for a payer without a last one.
#[tokio::test(flavor = "multi_thread")]
async fn the_merchants_default_comes_first_on_the_page() {
    let (stage, open) = open().await;
    let right = std::fs::read_to_string(&stage.config).unwrap();
    let table = "[merchant.default_institution]\n";
    assert!(right.contains(table));
    let with = right.replacen(table, &format!("{table}WEBVIEW = \"{}\"\n", RED.id), 1);
    let first = |html: &str| {
        let at = html.find("id=\"institution-").unwrap();
        html[at + 16..].split('"').next().unwrap().to_owned()
    };
    for (number, file, default) in [("T-1", &right, "bluebank"), ("T-2", &with, RED.id)] {
        std::fs::write(&stage.config, file).unwrap();
        ran(paymux(&["reload"], &stage.config)).await;
        let wanted = stage.tea.order(number, "WEBVIEW", "12.30", PAYER);
        let link = placed(&stage.tea, &wanted).await.text("payUrl").to_owned();
        let html = stage.payer.open(&link).await.unwrap().html;
        assert_eq!(first(&html), default, "{number}");
    }
    open.close().await.unwrap();
}
