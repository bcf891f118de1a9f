//! Notifications: what they hold, when they repeat, and what can be wrong with them.

use super::client::{FORM, UnionPayFieldList};
use super::{BACK, UnionPayTestbed};
use paymux::sandbox::{UnionPayCall, UnionPayFault, UnionPayState};

const NUMBER: &str = "5GM20260101000001";

fn messages(testbed: &UnionPayTestbed) -> Vec<UnionPayFieldList> {
    let forms = testbed.listener.forms();
    forms
        .iter()
        .map(|form| UnionPayFieldList::of_form(&form.body))
        .collect()
}

/// A notification is a signed form to the address of the request, its query included.
#[tokio::test]
async fn a_notification_is_a_signed_form() {
    let testbed = UnionPayTestbed::build().await;
    let payment = testbed.qr(NUMBER, "1001").with("reqReserved", "abc-1");
    testbed.post(BACK, &payment).await;
    testbed.press(NUMBER, "pay").await;
    testbed.acknowledged(NUMBER, 1).await;
    let form = testbed.listener.forms().remove(0);
    assert_eq!((&*form.path, &*form.media_type), ("/notify?a=1", FORM));
    let fields = UnionPayFieldList::of_form(&form.body);
    assert_eq!(testbed.trust.check(&fields), Ok(()));
    for (name, value) in [
        ("merId", super::MER_ID),
        ("orderId", NUMBER),
        ("txnTime", super::MORNING),
        ("txnType", "01"),
        ("txnSubType", "07"),
        ("txnAmt", "1001"),
        ("currencyCode", "156"),
        ("respCode", "00"),
        ("settleAmt", "1001"),
        ("reqReserved", "abc-1"),
    ] {
        assert_eq!(fields.get(name), value, "{name}");
    }
    assert_eq!(fields.get("queryId").len(), 21);
    assert!(fields.get("signPubKeyCert").contains("CERTIFICATE-----\n"));
}

/// Up to five sendings, until one is answered with 200; 302 counts as well.
#[tokio::test]
async fn a_notification_is_repeated_up_to_five_times() {
    let testbed = UnionPayTestbed::build().await;
    testbed.listener.answer_next(&[500, 404, 503, 200]);
    testbed.post(BACK, &testbed.qr(NUMBER, "1001")).await;
    testbed.press(NUMBER, "pay").await;
    let found = testbed.acknowledged(NUMBER, 1).await;
    assert_eq!(found.notifications, 4);
    let bodies = messages(&testbed);
    assert!(
        bodies.iter().all(|body| body == &bodies[0]),
        "each has the same content"
    );
    testbed
        .listener
        .answer_next(&[500, 500, 500, 500, 500, 200]);
    let second = "5GM20260101000002";
    testbed.post(BACK, &testbed.qr(second, "1001")).await;
    testbed.press(second, "pay").await;
    let found = testbed
        .wait_for(second, |found| found.notifications == 5)
        .await;
    assert_eq!(found.acknowledged, 0);
    testbed.listener.answer_next(&[302]);
    let third = "5GM20260101000003";
    testbed.post(BACK, &testbed.qr(third, "1001")).await;
    testbed.press(third, "pay").await;
    assert_eq!(testbed.acknowledged(third, 1).await.notifications, 1);
    let found = testbed.wait_for(second, |_| true).await;
    assert_eq!(found.notifications, 5, "there is no sixth");
}

/// Nobody is notified at the address that stands for none, nor of a failed payment in the browser.
#[tokio::test]
async fn what_is_not_wanted_is_not_notified() {
    let testbed = UnionPayTestbed::build().await;
    let quiet = testbed
        .qr(NUMBER, "1001")
        .with("backUrl", "http://www.specialUrl.com");
    testbed.post(BACK, &quiet).await;
    testbed.press(NUMBER, "pay").await;
    testbed
        .arrive(&testbed.front("5GM20260101000002", "1001"))
        .await;
    testbed.press("5GM20260101000002", "fail").await;
    testbed.control.next(UnionPayFault::LostNotification, 1);
    testbed
        .post(BACK, &testbed.qr("5GM20260101000003", "1001"))
        .await;
    testbed.press("5GM20260101000003", "pay").await;
    testbed.paid("5GM20260101000004", "1001").await;
    let numbers: Vec<String> = messages(&testbed)
        .iter()
        .map(|fields| fields.get("orderId").to_owned())
        .collect();
    assert_eq!(numbers, ["5GM20260101000004"]);
}

/// A notification can come before the answer to the call.
#[tokio::test]
async fn a_notification_can_come_before_the_answer() {
    let testbed = UnionPayTestbed::build().await;
    for (number, payment) in [
        (NUMBER, testbed.qr(NUMBER, "1069")),
        (
            "5GM20260101000002",
            testbed.barcode("5GM20260101000002", "1069"),
        ),
    ] {
        assert_eq!(testbed.post(BACK, &payment).await.code(), "00");
        let books = testbed.unionpay.books();
        let found = books.transaction(number).unwrap();
        assert_eq!(
            (found.state, found.acknowledged),
            (UnionPayState::Succeeded, 1)
        );
    }
}

/// A spoilt notification fails for its own reason, and the right one follows.
#[tokio::test]
async fn spoilt_notifications_fail_for_their_own_reason() {
    let testbed = UnionPayTestbed::build().await;
    for (order, (fault, reason)) in (1_u32..).zip([
        (UnionPayFault::WrongSignature, Err("signature")),
        (UnionPayFault::SingleHash, Err("signature")),
        (UnionPayFault::OtherName, Err("name")),
        (UnionPayFault::ForeignChain, Err("chain")),
        (UnionPayFault::ExpiredCertificate, Err("expired")),
        (UnionPayFault::Downgrade, Err("version or method")),
        (UnionPayFault::WrongAmount, Ok(())),
    ]) {
        let number = format!("5GM2026010100000{order}");
        testbed.post(BACK, &testbed.qr(&number, "1001")).await;
        testbed
            .control
            .next_at(UnionPayCall::Notification, fault, 1);
        testbed.press(&number, "pay").await;
        testbed.acknowledged(&number, 2).await;
        let [spoilt, right] = &messages(&testbed)[..] else {
            panic!("two sendings of {number}")
        };
        assert_eq!(testbed.trust.check(spoilt), reason, "{fault:?}");
        assert_eq!(testbed.trust.check(right), Ok(()));
        assert_eq!(right.get("txnAmt"), "1001");
        assert_eq!(
            spoilt.get("txnAmt") == "1002",
            fault == UnionPayFault::WrongAmount
        );
        testbed.listener.forget();
    }
}

/// Repeats after an acknowledgement, and late ones, when ordered.
#[tokio::test]
async fn duplicates_and_late_ones_come_when_ordered() {
    let testbed = UnionPayTestbed::build().await;
    for (number, fen, times) in [(NUMBER, "1081", 2), ("5GM20260101000002", "1082", 1)] {
        testbed.post(BACK, &testbed.qr(number, fen)).await;
        testbed.press(number, "pay").await;
        assert_eq!(
            testbed.acknowledged(number, times).await.notifications,
            times
        );
    }
}
