//! Clause 6.3.1: our own keys have a validity period, and an expired one signs nothing.

use paymux::command::demo::enrolment::{BLUE, RED};
use paymux::command::demo::environment::DemoEnvironment;

use super::super::{open, operations, order, placed};
use super::{changed, checked};

/// Our key at Red Pay as the environment enrols it.
fn own_key(stage: &DemoEnvironment) -> (String, String) {
    let text = std::fs::read_to_string(&stage.config).unwrap();
    let (_, after) = text
        .split_once("key = \"file:certs/paymux-redpay.key\"\n")
        .unwrap();
    let (days, _) = after.split_once("\n[[").unwrap();
    let named = format!("key = \"file:certs/paymux-redpay.key\"\n{days}");
    (named.clone(), named.replace(days, ""))
}

/// F3, R-6.3.1-1c: an expired key of ours is a finding of `paymux check`; nothing is called with it
/// and nothing new is taken there; the others go on.
#[tokio::test(flavor = "multi_thread")]
async fn an_expired_key_of_ours_is_a_finding() {
    let stage = DemoEnvironment::set(crate::socket::ports::free(), "")
        .await
        .unwrap();
    let (valid, bare) = own_key(&stage);
    let ended = format!("{bare}key_not_before = 2020-01-01\nkey_not_after = 2020-12-31\n");
    let (served, printed) = checked(&stage, &[(&valid, &ended)]);
    assert!(!served && printed.contains("key_not_after"), "{printed}");
    let found = "a key in force today, found one from 2020-01-01 to 2020-12-31";
    assert!(
        printed.contains(found) && printed.contains("1 cannot be used"),
        "{printed}"
    );

    let _open = stage.open().await.unwrap();
    let shop = &stage.tea;
    let refused = shop
        .place(&order(shop, "T1", "12.30", RED.id))
        .await
        .unwrap();
    let found = (refused.status, refused.text("reason"));
    assert_eq!(found, (422, "INSTITUTION_DOWN"), "{}", refused.json);
    assert_eq!(stage.red.books().calls, 0);
    let other = placed(shop, &order(shop, "T2", "12.30", BLUE.id)).await;
    stage.payer.pay(other.text("payUrl")).await.unwrap();
    shop.wait_for_notification("ORDER_PAID", "T2")
        .await
        .unwrap();
}

/// R-6.3.1-1c: the expiry of our key at an institution is measured, so that an alarm can be raised;
/// a key without an expiry date is warned about.
#[tokio::test(flavor = "multi_thread")]
async fn the_expiry_of_our_key_is_announced_in_advance() {
    let (stage, _open) = open().await;
    let page = operations(&stage, "/metrics").await;
    let line = "paymux_key_expiry_timestamp_seconds{class=\"towards_institution\"}";
    assert!(page.contains(line), "{page}");
    let (valid, bare) = own_key(&stage);
    let (served, printed) = checked(&stage, &[(&valid, &bare)]);
    assert!(served, "{printed}");
    let warned = printed.lines().any(|line| {
        line.starts_with("warning") && line.contains("key_not_after: expected the last day")
    });
    assert!(warned, "{printed}");
    changed(
        &stage,
        &[(&bare, &format!("{bare}key_not_after = 2099-12-31\n"))],
    );
    let (served, printed) = checked(&stage, &[]);
    assert!(!served && printed.contains("key_not_before"), "{printed}");
}
