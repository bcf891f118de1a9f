//! Keys and certificates of single parties that have expired or cannot be read (F3).

use std::fs;

use paymux::command::demo::enrolment::{BLUE, RED};
use paymux::command::demo::environment::{DemoEnvironment, WAIT_MAX};
use paymux::domain::identifiers::Timestamp;
use paymux::world::{Clock, SystemClock};
use rcgen::{CertificateParams, KeyPair, date_time_ymd};

use super::{paymux, ran, text};
use crate::journey::{operations, order, placed};

/// A certificate of an authority or a party that expired some years ago.
fn over() -> String {
    let mut params = CertificateParams::new(vec!["old.example".to_owned()]).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.not_before = date_time_ymd(2019, 1, 1);
    params.not_after = date_time_ymd(2020, 1, 1);
    params
        .self_signed(&KeyPair::generate().unwrap())
        .unwrap()
        .pem()
}

/// What is made unusable, and whose it is.
struct CredentialFault {
    party: &'static str,
    /// Findings: one of several has expired, or none is left.
    count: u8,
    spoil: fn(&DemoEnvironment),
    /// The refusals of an order of the second merchant, and of one through the red institution.
    books: Option<(u16, &'static str)>,
    red: Option<(u16, &'static str)>,
}

fn replace(stage: &DemoEnvironment, from: &str, to: &str) {
    let text = fs::read_to_string(&stage.config).unwrap();
    assert!(text.contains(from), "{from}");
    fs::write(&stage.config, text.replace(from, to)).unwrap();
}

/// Replaces in the table of the red institution only.
fn replace_of_red(stage: &DemoEnvironment, from: &str, to: &str) {
    let text = fs::read_to_string(&stage.config).unwrap();
    let (before, red) = text.split_once("id = \"redpay\"\n").unwrap();
    let red = red.replacen(from, to, 1);
    fs::write(&stage.config, format!("{before}id = \"redpay\"\n{red}")).unwrap();
}

const SHUT: Option<(u16, &str)> = Some((422, "institution_unavailable"));

const SPOILED: [CredentialFault; 7] = [
    CredentialFault {
        party: "merchant",
        count: 1,
        spoil: |stage| {
            fs::write(stage.certs().join("old.pem"), over()).unwrap();
            let more = "\"certs/M2002.pem\", \"certs/old.pem\"";
            replace(stage, "\"certs/M2002.pem\"", more);
        },
        books: None,
        red: None,
    },
    CredentialFault {
        party: "merchant",
        count: 1,
        spoil: |stage| fs::write(stage.certs().join("M2002.pem"), "no certificate").unwrap(),
        books: Some((403, "certificate_foreign")),
        red: None,
    },
    CredentialFault {
        party: "merchant",
        count: 1,
        spoil: |stage| fs::remove_file(stage.certs().join("M2002-1.pub")).unwrap(),
        books: Some((401, "key_unknown")),
        red: None,
    },
    CredentialFault {
        party: "institution",
        count: 1,
        spoil: |stage| {
            let ca = fs::read_to_string(stage.certs().join("ca.pem")).unwrap();
            fs::write(stage.certs().join("bundle.pem"), over() + &ca).unwrap();
            replace_of_red(stage, "certs/ca.pem", "certs/bundle.pem");
        },
        books: None,
        red: None,
    },
    CredentialFault {
        party: "institution",
        count: 2,
        spoil: |stage| {
            fs::write(stage.certs().join("old.pem"), over()).unwrap();
            replace_of_red(stage, "certs/ca.pem", "certs/old.pem");
        },
        books: None,
        red: SHUT,
    },
    CredentialFault {
        party: "institution",
        count: 1,
        spoil: |stage| fs::write(stage.certs().join("paymux-redpay.key"), "").unwrap(),
        books: None,
        red: SHUT,
    },
    CredentialFault {
        party: "institution",
        count: 1,
        spoil: |stage| fs::write(stage.certs().join("redpay-1.pub"), "rubbish").unwrap(),
        books: None,
        red: SHUT,
    },
];

async fn holds(stage: &DemoEnvironment, spoiled: &CredentialFault, permit: &str) {
    let number = |who: &str| format!("{permit}-{who}");
    placed(
        &stage.tea,
        &order(&stage.tea, &number("blue"), "12.30", BLUE.id),
    )
    .await;
    for (shop, institution, refused) in [
        (&stage.books, BLUE.id, spoiled.books),
        (&stage.tea, RED.id, spoiled.red),
    ] {
        let wanted = order(shop, &number(institution), "12.30", institution);
        let answer = shop.place(&wanted).await.unwrap();
        match refused {
            None => assert_eq!(answer.status, 200, "{}", answer.json),
            Some((status, code)) => {
                assert_eq!((answer.status, answer.text("code")), (status, code));
            }
        }
    }
    let page = operations(stage, "/metrics").await;
    for party in ["merchant", "institution", "staff", "gateway"] {
        let count = if party == spoiled.party {
            spoiled.count
        } else {
            0
        };
        let line = format!("paymux_credentials_unusable{{party=\"{party}\"}} {count}\n");
        assert!(page.contains(&line), "{line}{page}");
    }
}

/// F3: an expired or unreadable key or certificate of one party affects that party only: a reload
/// and a start go on for all others, its requests are refused with the reason, a metric counts it,
/// and `paymux check` finds it.
#[tokio::test(flavor = "multi_thread")]
async fn an_unusable_credential_affects_only_its_party() {
    for spoiled in &SPOILED {
        let stage = DemoEnvironment::set(crate::socket::ports::free(), "")
            .await
            .unwrap();
        let open = stage.open().await.unwrap();
        (spoiled.spoil)(&stage);
        let reload = ran(paymux(&["reload"], &stage.config)).await;
        let printed = text(&reload.stdout);
        assert!(reload.status.success(), "{printed}");
        assert!(printed.contains("cannot be used: "), "{printed}");
        holds(&stage, spoiled, "reloaded").await;
        open.close().await.unwrap();
        let open = stage.open().await.unwrap();
        holds(&stage, spoiled, "started").await;
        open.close().await.unwrap();
        let check = ran(paymux(&["check"], &stage.config)).await;
        let printed = text(&check.stdout);
        assert_eq!(check.status.code(), Some(3), "{printed}");
        let found = format!("cannot be used, of one {}: ", spoiled.party);
        assert!(
            printed.contains(&found)
                && printed.contains(&format!("{} cannot be used", spoiled.count)),
            "{printed}"
        );
    }
}

/// F3: without a usable platform key nothing could be signed: that stops a start.
#[tokio::test(flavor = "multi_thread")]
async fn an_unusable_platform_key_stops_the_start() {
    let stage = DemoEnvironment::set(crate::socket::ports::free(), "")
        .await
        .unwrap();
    fs::remove_file(stage.certs().join("platform-1.key")).unwrap();
    assert!(stage.open().await.is_err());
    let check = ran(paymux(&["check"], &stage.config)).await;
    assert!(text(&check.stdout).contains("nothing of this file would be used"));
}

const DAY_S: i64 = 86_400;

fn rfc3339(second: i64) -> String {
    Timestamp::from_s(second).rfc3339()
}

async fn reloaded(stage: &DemoEnvironment) -> String {
    let reload = ran(paymux(&["reload"], &stage.config)).await;
    let printed = text(&reload.stdout);
    assert!(reload.status.success(), "{printed}");
    printed
}

/// The reply to an order through the red institution.
async fn through_red(stage: &DemoEnvironment, number: &str) -> (u16, String) {
    let wanted = order(&stage.tea, number, "12.30", RED.id);
    let answer = stage.tea.place(&wanted).await.unwrap();
    (answer.status, answer.text("reason").to_owned())
}

fn down() -> (u16, String) {
    (422, "INSTITUTION_DOWN".to_owned())
}

/// F3, R-6.3.1-1c: a key that begins tomorrow is not valid today: it is a finding, and its
/// institution takes nothing new.
#[tokio::test(flavor = "multi_thread")]
async fn an_institution_whose_key_begins_tomorrow_takes_nothing_new() {
    let stage = DemoEnvironment::set(crate::socket::ports::free(), "")
        .await
        .unwrap();
    let now_s = SystemClock::start().now().seconds();
    let file = "file = \"certs/redpay-1.pub\"\n";
    let days = |from, until| {
        let (from, until) = (rfc3339(from), rfc3339(until));
        format!("{file}not_before = {from}\nnot_after = {until}\n")
    };
    let before = fs::read_to_string(&stage.config).unwrap();
    let (_, after) = before.split_once(file).unwrap();
    let named: String = after.split_inclusive('\n').take(2).collect();
    let tomorrow = days(now_s + DAY_S, now_s + 400 * DAY_S);
    replace(&stage, &format!("{file}{named}"), &tomorrow);
    let check = ran(paymux(&["check"], &stage.config)).await;
    let printed = text(&check.stdout);
    assert_eq!(check.status.code(), Some(3), "{printed}");
    assert!(
        printed.contains("the first day of the next one on"),
        "{printed}"
    );
    assert!(
        printed.contains("redpay (no usable key or certificate)"),
        "{printed}"
    );
    let open = stage.open().await.unwrap();
    assert_eq!(through_red(&stage, "T1").await, down());
    assert_eq!(stage.red.books().calls, 0);
    open.close().await.unwrap();
}

/// F3, R-6.3.1-1c: a key that expires while the gateway runs is counted from that second on, and
/// nothing new is taken there, without a reload.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_ends_while_running_stops_new_orders() {
    let stage = DemoEnvironment::set(crate::socket::ports::free(), "")
        .await
        .unwrap();
    let open = stage.open().await.unwrap();
    assert_eq!(through_red(&stage, "before").await.0, 200);
    let text = fs::read_to_string(&stage.config).unwrap();
    let (_, red) = text.split_once("id = \"redpay\"\n").unwrap();
    let of_ours = |line: &&str| line.starts_with("key_not_after");
    let old = red.lines().find(of_ours).unwrap();
    let now_s = SystemClock::start().now().seconds();
    replace_of_red(
        &stage,
        old,
        &format!("key_not_after = {}", rfc3339(now_s + 3)),
    );
    let printed = reloaded(&stage).await;
    assert!(!printed.contains("cannot be used: "), "{printed}");
    let ending = async {
        for number in 0.. {
            let found = through_red(&stage, &format!("after-{number}")).await;
            if found.0 != 200 {
                return found;
            }
        }
        unreachable!()
    };
    assert_eq!(
        tokio::time::timeout(WAIT_MAX, ending).await.unwrap(),
        down()
    );
    let page = operations(&stage, "/metrics").await;
    let line = "paymux_credentials_unusable{party=\"institution\"} 1\n";
    assert!(page.contains(line), "{page}");
    open.close().await.unwrap();
}
