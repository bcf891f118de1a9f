//! Limits, permits and health thresholds: no number of a configuration needs a restart (F1).

use std::collections::BTreeSet;

use paymux::command::demo::enrolment::BLUE;
use paymux::sandbox::{InstitutionFault, SandboxCall};

use super::{KeptConnection, accepted, tea, written};
use crate::journey::{PAYER, open, order, placed};

/// Q1, Q8, F1: a reload applies other limits, of the edge and of merchants; the earlier file
/// restores them.
#[tokio::test(flavor = "multi_thread")]
async fn a_reload_applies_limits() {
    let (stage, _open) = open().await;
    let (shop, first) = (&stage.tea, written(&stage));
    placed(shop, &shop.order("T1", "AGGREGATED", "1.00", PAYER)).await;
    let slow = format!("{first}\n[limits]\nrequests_per_second_per_merchant = 1\n");
    let (_, changes, _) = accepted(&stage, &slow).await;
    assert_eq!(
        changes,
        ["limits: requests_per_second_per_merchant: set to 1"]
    );
    let mut codes = BTreeSet::new();
    for number in 0..3 {
        let wanted = shop.order(&format!("S{number}"), "AGGREGATED", "1.00", PAYER);
        let answer = shop.place(&wanted).await.unwrap();
        codes.insert(answer.text("code").to_owned());
    }
    assert!(codes.contains("too_often"), "{codes:?}");
    accepted(&stage, &first).await;
    placed(shop, &shop.order("T2", "AGGREGATED", "1.00", PAYER)).await;

    let padded = format!("{{\"padding\":\"{}\"}}", "x".repeat(5_000));
    let large = || shop.client.signed("/v1/orders", &padded).unwrap();
    for (text, status) in [
        (format!("{first}\n[limits]\nbody_bytes_max = 4096\n"), 413),
        (first.clone(), 400),
    ] {
        accepted(&stage, &text).await;
        let mut fresh = KeptConnection::connect(&stage, &tea(&stage)).await;
        let (answer, json) = fresh.send(large()).await;
        assert_eq!(answer.status(), status, "{json}");
    }
}

/// Q8, F1: a reload applies another rate of an institution and other health thresholds.
#[tokio::test(flavor = "multi_thread")]
async fn a_reload_applies_rates_and_health_thresholds() {
    let (stage, _open) = open().await;
    let (shop, first) = (&stage.tea, written(&stage));
    let named = format!("id = \"{}\"\n", BLUE.id);
    let slow = first.replacen(&named, &format!("{named}calls_per_second = 1\n"), 1);
    let slow = format!("{slow}\n[limits]\npermit_wait_ms = 0\n");
    let (_, changes, _) = accepted(&stage, &slow).await;
    assert_eq!(changes.len(), 2, "{changes:?}");
    let mut answers = Vec::new();
    while answers.len() < 50 && answers.last() != Some(&429) {
        let wanted = order(shop, &format!("S{}", answers.len()), "1.00", BLUE.id);
        answers.push(shop.place(&wanted).await.unwrap().status);
    }
    assert_eq!(answers.last(), Some(&429), "{answers:?}");

    let strict = "\n[health]\ncalls_min = 2\nfailures_percent = 1\nopen_ms = 60_000\n";
    accepted(&stage, &format!("{first}{strict}")).await;
    let control = stage.blue.control();
    control.next_at(SandboxCall::Create, InstitutionFault::AnswerLost, 2);
    for number in ["LOST-1", "LOST-2"] {
        let wanted = order(shop, number, "1.00", BLUE.id);
        shop.place(&wanted).await.unwrap();
    }
    let refused = shop.place(&order(shop, "T1", "1.00", BLUE.id)).await;
    let refused = refused.unwrap();
    assert_eq!(refused.text("reason"), "INSTITUTION_UNHEALTHY");
}
