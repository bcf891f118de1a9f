//! Notifications: signed, encrypted, repeated on schedule until acknowledged by 200 or 204 in time,
//! and wrong in each ordered way.

use std::collections::BTreeSet;
use std::time::Duration;

use paymux::sandbox::wechatpay::{KeyPhase, NotificationFault, WechatBook, WechatRefundState};
use serde_json::json;

use super::receiver::NEVER;
use super::{PLATFORM_SERIAL, PUBLIC_KEY_ID, WechatTestbed};
use crate::sandbox::TIMEOUT;

/// Section 12, in seconds.
const SCHEDULE: [u32; 15] = [
    15, 15, 30, 180, 600, 1_200, 1_800, 1_800, 1_800, 3_600, 10_800, 10_800, 10_800, 21_600, 21_600,
];

impl WechatTestbed {
    async fn notified(&self, number: &str, sent: u32, acknowledged: u32) {
        let found = |book: &WechatBook| {
            let order = book.order(number)?;
            (order.notified >= sent && order.acknowledged >= acknowledged).then_some(())
        };
        let found = self.wechat.wait_for(found, TIMEOUT).await;
        assert!(found.is_some(), "{number}: not notified {sent} times");
    }
}

/// Section 12: a payment is notified with the same object that a query shows.
#[tokio::test]
async fn a_payment_is_notified_signed_and_encrypted() {
    let bed = WechatTestbed::build().await;
    bed.paid("ORDER-1").await;
    bed.notified("ORDER-1", 1, 1).await;
    let notice = bed.receiver.messages(1).await.remove(0);
    assert!(notice.is_signed(PLATFORM_SERIAL));
    assert_eq!(notice.header("content-type"), "application/json");
    let body = notice.json();
    assert_eq!(body["event_type"], "TRANSACTION.SUCCESS");
    assert_eq!(body["resource_type"], "encrypt-resource");
    assert_eq!(body["resource"]["original_type"], "transaction");
    assert_eq!(body["resource"]["associated_data"], "transaction");
    assert!(body["id"].as_str().unwrap().len() <= 36);
    let plain = notice.plain().unwrap();
    assert_eq!(plain, bed.query("ORDER-1").await.json);
    bed.wechat.control().advance(2 * 86_400);
    assert_eq!(bed.receiver.messages(1).await.len(), 1, "acknowledged once");
}

/// Section 12: fifteen repeats in a day, each signed anew, the same content; then none.
#[tokio::test]
async fn what_is_not_acknowledged_is_repeated_on_schedule() {
    let bed = WechatTestbed::build().await;
    bed.receiver.answer_with(&[500; 16]);
    bed.paid("ORDER-1").await;
    for (sent, pause_s) in (1..).zip(SCHEDULE) {
        bed.notified("ORDER-1", sent, 0).await;
        bed.wechat.control().advance(pause_s / 2);
        let book = bed.wechat.books();
        assert_eq!(book.order("ORDER-1").unwrap().notified, sent, "too early");
        bed.wechat.control().advance(pause_s - pause_s / 2);
    }
    bed.notified("ORDER-1", 16, 0).await;
    bed.wechat.control().advance(7 * 86_400);
    let messages = bed.receiver.messages(16).await;
    assert_eq!(messages.len(), 16);
    let of = |name: &str| -> BTreeSet<&str> { messages.iter().map(|it| it.header(name)).collect() };
    assert_eq!(of("wechatpay-nonce").len(), 16);
    assert!(messages.iter().all(|it| it.body == messages[0].body));
    assert!(messages.iter().all(|it| it.is_signed(PLATFORM_SERIAL)));
}

/// Section 12: only 200 and 204 acknowledge, and only in time; redirects are not followed.
#[tokio::test]
async fn only_two_statuses_in_time_acknowledge() {
    let bed = WechatTestbed::build_with(Vec::new(), |settings| {
        settings.waits.acknowledge = Duration::from_secs(2);
    })
    .await;
    let refused = [201, 202, 302, 400, 401, 503, NEVER];
    bed.receiver.answer_with(&refused);
    bed.receiver.answer_with(&[200]);
    bed.paid("ORDER-1").await;
    for (sent, pause_s) in (1..).zip(SCHEDULE).take(refused.len()) {
        bed.notified("ORDER-1", sent, 0).await;
        bed.wechat.control().advance(pause_s);
    }
    bed.notified("ORDER-1", 8, 1).await;
    let book = bed.wechat.books();
    let order = book.order("ORDER-1").unwrap();
    assert_eq!((order.notified, order.acknowledged), (8, 1));
    bed.paid("ORDER-2").await;
    bed.notified("ORDER-2", 1, 1).await;
}

/// Section 21: wrong in one way each, and right at the repeat.
#[tokio::test]
async fn a_notification_is_wrong_when_ordered_and_right_at_the_repeat() {
    let bed = WechatTestbed::build().await;
    let faults = [
        NotificationFault::Probe,
        NotificationFault::UnknownSerial,
        NotificationFault::ForeignKey,
        NotificationFault::OldTimestamp,
        NotificationFault::DamagedTag,
        NotificationFault::WrongSum,
        NotificationFault::UnlistedState,
    ];
    for (round, fault) in faults.into_iter().enumerate() {
        let number = format!("ORDER-{round}");
        bed.wechat.control().next_notification(fault);
        bed.receiver.answer_with(&[500]);
        bed.paid(&number).await;
        bed.notified(&number, 1, 0).await;
        bed.wechat.control().advance(15);
        bed.notified(&number, 2, 1).await;
        let messages = bed.receiver.messages(2 * round + 2).await;
        let (wrong, right) = (&messages[2 * round], &messages[2 * round + 1]);
        assert!(right.is_signed(PLATFORM_SERIAL), "{fault:?}");
        assert_eq!(right.plain().unwrap()["amount"]["total"], 1_001);
        let plain = wrong.plain();
        let age_s = bed.wechat.control().now_s()
            - wrong.header("wechatpay-timestamp").parse::<i64>().unwrap();
        let probes = wrong
            .header("wechatpay-signature")
            .starts_with("WECHATPAY/SIGNTEST/");
        assert_eq!(probes, fault == NotificationFault::Probe);
        match fault {
            NotificationFault::Probe | NotificationFault::ForeignKey => {
                assert!(!wrong.is_signed(PLATFORM_SERIAL));
                assert_eq!(wrong.header("wechatpay-serial"), PLATFORM_SERIAL);
            }
            NotificationFault::UnknownSerial => {
                assert_ne!(wrong.header("wechatpay-serial"), PLATFORM_SERIAL);
            }
            NotificationFault::OldTimestamp => {
                assert!(age_s > 300 && wrong.is_signed(PLATFORM_SERIAL));
            }
            NotificationFault::DamagedTag => {
                assert!(plain.is_none() && wrong.is_signed(PLATFORM_SERIAL));
            }
            NotificationFault::WrongSum => {
                assert_eq!(plain.unwrap()["amount"]["total"], 1_002);
            }
            NotificationFault::UnlistedState => {
                assert_eq!(plain.unwrap()["trade_state"], "SETTLING");
            }
            NotificationFault::Duplicate
            | NotificationFault::Concurrent
            | NotificationFault::BeforeAnswer
            | NotificationFault::NeverSent => unreachable!("{fault:?} changes no content"),
        }
    }
}

/// Sections 17.2 and 21: twice in turn, twice at once, before the answer, and never.
#[tokio::test]
async fn a_notification_comes_twice_early_or_never_when_ordered() {
    let bed = WechatTestbed::build().await;
    let control = bed.wechat.control();
    for (number, fault) in [
        ("ORDER-1", NotificationFault::Duplicate),
        ("ORDER-2", NotificationFault::Concurrent),
    ] {
        control.next_notification(fault);
        bed.paid(number).await;
        bed.notified(number, 2, 2).await;
    }
    control.next_notification(NotificationFault::BeforeAnswer);
    let answered = bed.place("native", "ORDER-3").await;
    assert_eq!(answered.status, 200);
    assert_eq!(bed.receiver.messages(5).await.len(), 5, "before the answer");
    control.next_notification(NotificationFault::NeverSent);
    bed.paid("ORDER-4").await;
    bed.paid("ORDER-5").await;
    bed.notified("ORDER-5", 1, 1).await;
    assert_eq!(bed.wechat.books().order("ORDER-4").unwrap().notified, 0);
}

/// Section 12: a refund's end is notified, under other names than an answer has.
#[tokio::test]
async fn each_end_of_a_refund_is_notified() {
    let bed = WechatTestbed::build_with(Vec::new(), |settings| {
        settings.waits.refund_s = Some(30);
    })
    .await;
    bed.paid("ORDER-1").await;
    bed.receiver.messages(1).await;
    bed.refund("ORDER-1", "R1", 300).await;
    assert_eq!(bed.query_refund("R1").await.json["status"], "PROCESSING");
    bed.wechat.control().advance(30);
    let succeeded = bed.receiver.messages(2).await.remove(1);
    assert!(succeeded.is_signed(PLATFORM_SERIAL));
    assert_eq!(succeeded.json()["event_type"], "REFUND.SUCCESS");
    assert_eq!(succeeded.json()["resource"]["original_type"], "refund");
    let plain = succeeded.plain().unwrap();
    assert_eq!(plain["refund_status"], "SUCCESS");
    assert!(plain.get("status").is_none() && plain["amount"].get("currency").is_none());
    assert!(plain["success_time"].is_string());
    bed.wechat.control().advance(60);
    for (at, (refund, state, event)) in [
        ("R2", WechatRefundState::Abnormal, "REFUND.ABNORMAL"),
        ("R3", WechatRefundState::Closed, "REFUND.CLOSED"),
    ]
    .into_iter()
    .enumerate()
    {
        bed.refund("ORDER-1", refund, 100).await;
        assert!(bed.wechat.control().move_refund(refund, state));
        let notice = bed.receiver.messages(3 + at).await.remove(2 + at);
        assert_eq!(notice.json()["event_type"], event);
        assert!(notice.plain().unwrap().get("success_time").is_none());
        bed.wechat.control().advance(61);
    }
    let mut quiet = bed.refund_body("ORDER-1", "R4", 100);
    quiet["notify_url"] = json!(null);
    bed.post("/v3/refund/domestic/refunds", &quiet).await;
    assert!(
        bed.wechat
            .control()
            .move_refund("R4", WechatRefundState::Success)
    );
    assert_eq!(bed.wechat.books().refund("R4").unwrap().notified, 0);
}

/// Section 5.3: which key signs a notification is not the merchant's choice.
#[tokio::test]
async fn notifications_follow_the_switch_of_keys() {
    let bed = WechatTestbed::build().await;
    let since_s = bed.wechat.control().now_s();
    for (round, (phase, serial)) in [
        (KeyPhase::Certificates, PLATFORM_SERIAL),
        (
            KeyPhase::Switching {
                since_s: since_s - 7 * 86_400,
            },
            PUBLIC_KEY_ID,
        ),
        (KeyPhase::PublicKey, PUBLIC_KEY_ID),
    ]
    .into_iter()
    .enumerate()
    {
        bed.set_phase(phase);
        bed.paid(&format!("ORDER-{round}")).await;
        let notice = bed.receiver.messages(round + 1).await.remove(round);
        assert!(notice.is_signed(serial), "{phase:?}");
    }
}
