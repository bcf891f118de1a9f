//! No account is lost that payments need, and none becomes another receiver (F2, R5, C2).

use super::super::placed;
use super::*;
use paymux::command::demo::enrolment::BLUE;

const BOOKS_AT_BLUE: &str = "id = \"M2002\"\ninstitution = \"bluebank\"";

/// The contract of the book shop with Blue Bank goes over the other account there.
fn over_another_account(text: &str) -> String {
    let (was, is) = ("account = \"M2002\"\n", "account = \"M1001\"\n");
    assert!(text.contains(was));
    text.replace(was, is)
}

fn without_account(text: &str) -> String {
    without(text, "account", "merchant_id = \"M2002-bluebank\"")
}

/// F2, R5, C2: an account in service, or one that payments need, is neither taken out nor given another
/// number; without contracts it takes nothing new and ends what it has; then it may go.
#[tokio::test(flavor = "multi_thread")]
async fn no_reload_loses_an_account_that_payments_need() {
    let (stage, _open) = open().await;
    let (shop, first) = (&stage.books, written(&stage));
    assert!(first.contains(BOOKS_AT_BLUE));
    let answer = placed(shop, &order(shop, "T1", "12.30", BLUE.id)).await;

    let kept = over_another_account(&first);
    let gone = without_account(&kept);
    let renumbered = |text: &str| {
        let (was, is) = (
            "merchant_id = \"M2002-bluebank\"",
            "merchant_id = \"M2002-other\"",
        );
        assert!(text.contains(was));
        text.replace(was, is)
    };
    for text in [&gone, &renumbered(&first)] {
        let why = refused(&stage, text).await;
        let expected = "account M2002 at bluebank: expected to take out or change only what was out of \
                        service before, found an account in service";
        assert!(why.contains(expected), "{why}");
    }

    accepted(&stage, &kept).await;
    let why = refused(&stage, &gone).await;
    for expected in [
        "account M2002 at bluebank: expected its [[account]], because payments need it",
        "found none, with 1 unfinished",
    ] {
        assert!(why.contains(expected), "{expected} is not in {why}");
    }
    let why = refused(&stage, &renumbered(&kept)).await;
    let expected =
        "account M2002 at bluebank: expected the number M2002-bluebank, with 1 unfinished";
    assert!(
        why.contains(expected) && why.contains("found M2002-other"),
        "{why}"
    );

    stage.payer.pay(answer.text("payUrl")).await.unwrap();
    shop.wait_for_notification("ORDER_PAID", "T1")
        .await
        .unwrap();
    let why = refused(&stage, &gone).await;
    assert!(
        why.contains("0 unfinished payments and refunds, and 1 payments"),
        "{why}"
    );
    long_ago(&stage, 366);
    let (_, changes, _) = accepted(&stage, &gone).await;
    let taken_out = "account M2002 at bluebank: taken out".to_owned();
    assert!(changes.contains(&taken_out), "{changes:?}");
}
