//! Checks of the scenarios against ledgers and inboxes, and helpers to read and format responses.

use std::time::Duration;

use anyhow::Context;
use serde_json::{Value, json};

use crate::command::demo::enrolment::DemoInstitutionProfile;
use crate::command::demo::environment::{DemoEnvironment, DemoMerchant, payment_of};
use crate::command::demo::printing::{milliseconds, same};
use crate::domain::amount::{Amount, CNY};
use crate::sandbox::{ClientResponse, PaymentState, SandboxNotification};

/// Queries of an unresolved attempt; each of them makes the gateway query the institution.
const QUERIES_MAX: u32 = 5;

/// Checks the response's status and result, and that the gateway signed it.
pub(super) fn answered(answer: &ClientResponse, status: u16, result: &str) -> anyhow::Result<()> {
    let (found, found_result) = (answer.status, answer.text("result"));
    let (code, detail) = (answer.text("code"), answer.text("detail"));
    anyhow::ensure!(
        found == status && found_result == result,
        "expected {status} {result}, found {found} {found_result} {code} {detail}"
    );
    if let Err(fault) = &answer.proof {
        anyhow::bail!("expected a response signed by the gateway, found {fault}");
    }
    Ok(())
}

/// Checks the state of a page of the gateway.
pub(super) fn shows(html: &str, state: &str) -> anyhow::Result<()> {
    let found = html
        .split_once("data-state=\"")
        .and_then(|(_, rest)| rest.split('"').next());
    same("state of the page", &Some(state), &found)
}

/// Adds fields to an order, or overrides them.
pub(super) fn with(mut order: Value, more: Value) -> Value {
    if let (Some(order), Value::Object(more)) = (order.as_object_mut(), more) {
        order.extend(more);
    }
    order
}

pub(super) fn field<'a>(value: &'a Value, name: &str) -> &'a str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// Each institution of a response, with the reason if it is ineligible.
pub(super) fn listed(answer: &ClientResponse) -> Vec<(&str, &str)> {
    institutions(answer)
        .map(|it| (field(it, "institutionId"), field(it, "reason")))
        .collect()
}

fn institutions(answer: &ClientResponse) -> impl Iterator<Item = &Value> {
    let all = answer.json.get("institutions").and_then(Value::as_array);
    all.into_iter().flatten()
}

/// The same as text.
pub(super) fn offers(answer: &ClientResponse) -> String {
    let of = |is_ineligible: bool| {
        let names: Vec<String> = institutions(answer)
            .filter(|it| field(it, "reason").is_empty() != is_ineligible)
            .map(|it| match field(it, "reason") {
                "" => field(it, "nameEn").to_owned(),
                reason => format!("{} ({reason})", field(it, "nameEn")),
            })
            .collect();
        names.join(", ")
    };
    let ineligible = of(true);
    if ineligible.is_empty() {
        return format!("available: {}", of(false));
    }
    format!("available: {}; not available: {ineligible}", of(false))
}

/// The merchant sends the payer's choice to the gateway.
pub(super) async fn choose(
    shop: &DemoMerchant,
    number: &str,
    profile: DemoInstitutionProfile,
) -> anyhow::Result<ClientResponse> {
    let choice = json!({ "institutionId": profile.id, "mode": "WEBVIEW" });
    shop.ask("/v1/orders/select", number, choice).await
}

/// The status of an unresolved attempt. Each query makes the gateway query the institution, within
/// the time that a merchant waits.
pub(super) async fn resolved_status(shop: &DemoMerchant, number: &str) -> anyhow::Result<String> {
    let mut status = String::new();
    for _ in 0..QUERIES_MAX {
        let answer = shop.ask("/v1/orders/query", number, json!({})).await?;
        answer.text("attemptStatus").clone_into(&mut status);
        if status != "PENDING" {
            break;
        }
    }
    Ok(status)
}

/// Checks that the merchant was notified once, this institution's ledger has the payment once, and
/// the gateway agrees; returns the delay of the notification.
pub(super) async fn expect_notified_once(
    stage: &DemoEnvironment,
    number: &str,
    through: DemoInstitutionProfile,
) -> anyhow::Result<String> {
    let shop = &stage.tea;
    let notice = shop.wait_for_notification("ORDER_PAID", number).await?;
    let sum = once(stage, number, through)?;
    same(
        "amount in the notification",
        &sum,
        &cents(field(&notice.fields, "orderAmount"))?,
    )?;
    let inbox = shop.merchant.inbox();
    let events = inbox.events.iter();
    let events = events.filter(|it| field(&it.fields, "merchantOrderNo") == number);
    same("events of the order", &1, &events.count())?;
    let answer = shop.ask("/v1/orders/query", number, json!({})).await?;
    let found = (answer.text("orderStatus"), answer.text("institutionId"));
    same("status in the gateway", &("PAID", through.id), &found)?;
    Ok(milliseconds(Duration::from_millis(delay_ms(
        stage, &notice,
    )?)))
}

/// Checks in all institutions' ledgers that the order was paid exactly once; returns the amount.
/// Unit: cents.
pub(super) fn once(
    stage: &DemoEnvironment,
    number: &str,
    through: DemoInstitutionProfile,
) -> anyhow::Result<i64> {
    let mut found = Vec::new();
    for (profile, institution) in stage.institutions() {
        let book = institution.books();
        let payments = book.payments();
        let of_order = payments.filter(|it| it.terms.goods_no.as_deref() == Some(number));
        found.extend(
            of_order
                .filter(|it| it.taken_cents != 0 || it.state == PaymentState::Paid)
                .map(|it| (profile.id, it.terms.sum_cents, it.taken_cents)),
        );
    }
    let (_, sum, _) = *found
        .first()
        .context("expected a payment in a ledger, found none")?;
    same(
        "payments in the ledgers",
        &vec![(through.id, sum, sum)],
        &found,
    )?;
    Ok(sum)
}

/// From the institution's booking to the notification's arrival. Unit: milliseconds.
pub(super) fn delay_ms(
    stage: &DemoEnvironment,
    notice: &SandboxNotification,
) -> anyhow::Result<u64> {
    let number = field(&notice.fields, "merchantOrderNo");
    let booked = stage
        .institutions()
        .into_iter()
        .find_map(|(_, institution)| payment_of(&institution.books(), number)?.paid_ms)
        .with_context(|| format!("expected {number} paid in a ledger, found it in none"))?;
    Ok(u64::try_from(notice.arrived_ms.saturating_sub(booked)).unwrap_or_default())
}

/// Parses a decimal amount. Unit: cents.
pub(super) fn cents(text: &str) -> anyhow::Result<i64> {
    Ok(Amount::parse(text, CNY)?.minor())
}

pub(super) fn yuan(cents: i64) -> String {
    format!("¥{}", CNY.decimal_text(cents))
}

/// `138****1234`.
pub(super) fn masked(mobile: &str) -> String {
    let part = |range| mobile.get(range).unwrap_or_default();
    format!("{}****{}", part(0..3), part(7..11))
}
