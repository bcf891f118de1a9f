//! What the acts claim, held against books and inboxes, and how answers are read and told.

use std::time::Duration;

use anyhow::Context;
use serde_json::{Value, json};

use crate::command::demo::enrolment::DemoInstitutionProfile;
use crate::command::demo::environment::{DemoEnvironment, DemoMerchant, payment_of};
use crate::command::demo::printing::{milliseconds, same};
use crate::domain::amount::{Amount, CNY};
use crate::sandbox::{ClientResponse, PaymentState, SandboxNotification};

/// Queries in doubt until the institution's word is there; each of them asks it.
const QUERIES_MAX: u32 = 5;

/// The answer is the gateway's own, proven, and says this.
pub(super) fn answered(answer: &ClientResponse, status: u16, result: &str) -> anyhow::Result<()> {
    let (found, said) = (answer.status, answer.text("result"));
    let (code, detail) = (answer.text("code"), answer.text("detail"));
    anyhow::ensure!(
        found == status && said == result,
        "expected {status} {result}, found {found} {said} {code} {detail}"
    );
    if let Err(fault) = &answer.proof {
        anyhow::bail!("expected an answer signed by the gateway, found {fault}");
    }
    Ok(())
}

/// A page of ours in this state.
pub(super) fn shows(html: &str, state: &str) -> anyhow::Result<()> {
    let found = html
        .split_once("data-state=\"")
        .and_then(|(_, rest)| rest.split('"').next());
    same("state of the page", &Some(state), &found)
}

/// Fields of an order with others, or other ones.
pub(super) fn with(mut order: Value, more: Value) -> Value {
    if let (Some(order), Value::Object(more)) = (order.as_object_mut(), more) {
        order.extend(more);
    }
    order
}

pub(super) fn field<'a>(value: &'a Value, name: &str) -> &'a str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// Each institution of an answer, with the reason where it is withheld.
pub(super) fn listed(answer: &ClientResponse) -> Vec<(&str, &str)> {
    institutions(answer)
        .map(|it| (field(it, "institutionId"), field(it, "reason")))
        .collect()
}

fn institutions(answer: &ClientResponse) -> impl Iterator<Item = &Value> {
    let all = answer.json.get("institutions").and_then(Value::as_array);
    all.into_iter().flatten()
}

/// The same for people.
pub(super) fn offers(answer: &ClientResponse) -> String {
    let of = |is_withheld: bool| {
        let names: Vec<String> = institutions(answer)
            .filter(|it| field(it, "reason").is_empty() != is_withheld)
            .map(|it| match field(it, "reason") {
                "" => field(it, "nameEn").to_owned(),
                reason => format!("{} ({reason})", field(it, "nameEn")),
            })
            .collect();
        names.join(", ")
    };
    let ineligible = of(true);
    if ineligible.is_empty() {
        return format!("open: {}", of(false));
    }
    format!("open: {}; withheld: {ineligible}", of(false))
}

/// The merchant takes the payer's choice to the gateway.
pub(super) async fn choose(
    shop: &DemoMerchant,
    number: &str,
    cast: DemoInstitutionProfile,
) -> anyhow::Result<ClientResponse> {
    let choice = json!({ "institutionId": cast.id, "mode": "WEBVIEW" });
    shop.ask("/v1/orders/select", number, choice).await
}

/// How an attempt in doubt stands: each query asks the institution, within the little time that a
/// merchant waits.
pub(super) async fn known(shop: &DemoMerchant, number: &str) -> anyhow::Result<String> {
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

/// The merchant was told once, the money is in this institution's book once, the gateway says the
/// same; how long the news took.
pub(super) async fn expect_notified_once(
    stage: &DemoEnvironment,
    number: &str,
    through: DemoInstitutionProfile,
) -> anyhow::Result<String> {
    let shop = &stage.tea;
    let notice = shop.wait_for_notification("ORDER_PAID", number).await?;
    let sum = once(stage, number, through)?;
    same(
        "sum of the notification",
        &sum,
        &cents(field(&notice.fields, "orderAmount"))?,
    )?;
    let inbox = shop.merchant.inbox();
    let events = inbox.events.iter();
    let events = events.filter(|it| field(&it.fields, "merchantOrderNo") == number);
    same("events of the order", &1, &events.count())?;
    let answer = shop.ask("/v1/orders/query", number, json!({})).await?;
    let found = (answer.text("orderStatus"), answer.text("institutionId"));
    same("the gateway's word", &("PAID", through.id), &found)?;
    Ok(milliseconds(Duration::from_millis(delay_ms(
        stage, &notice,
    )?)))
}

/// Paid exactly once, by the books of all institutions; the sum. Unit: cents.
pub(super) fn once(
    stage: &DemoEnvironment,
    number: &str,
    through: DemoInstitutionProfile,
) -> anyhow::Result<i64> {
    let mut found = Vec::new();
    for (cast, institution) in stage.institutions() {
        let book = institution.books();
        let payments = book.payments();
        let of_order = payments.filter(|it| it.terms.goods_no.as_deref() == Some(number));
        found.extend(
            of_order
                .filter(|it| it.taken_cents != 0 || it.state == PaymentState::Paid)
                .map(|it| (cast.id, it.terms.sum_cents, it.taken_cents)),
        );
    }
    let (_, sum, _) = *found
        .first()
        .context("expected a payment in a book, found none")?;
    same("paid, by the books", &vec![(through.id, sum, sum)], &found)?;
    Ok(sum)
}

/// From the institution's booking to the arrival at the merchant. Unit: milliseconds.
pub(super) fn delay_ms(
    stage: &DemoEnvironment,
    notice: &SandboxNotification,
) -> anyhow::Result<u64> {
    let number = field(&notice.fields, "merchantOrderNo");
    let booked = stage
        .institutions()
        .into_iter()
        .find_map(|(_, institution)| payment_of(&institution.books(), number)?.paid_ms)
        .with_context(|| format!("expected {number} paid in a book, found it in none"))?;
    Ok(u64::try_from(notice.arrived_ms.saturating_sub(booked)).unwrap_or_default())
}

/// A sum on the wire. Unit: cents.
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
