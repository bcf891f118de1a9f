//! An institution's address does not change unseen while something is unfinished there.

use paymux::command::demo::enrolment::RED;

use super::{accepted, fs, open, order, placed, refused, stopped, written};

/// F2, A5: neither a reload nor a start moves an institution with unfinished payments; the fault
/// says how many, and what to do. Staff may declare that the same institution answers elsewhere;
/// one that is stopped and has nothing unfinished may move.
#[tokio::test(flavor = "multi_thread")]
async fn the_route_of_a_live_payment_does_not_move_unseen() {
    let (stage, running) = open().await;
    let (shop, first) = (&stage.tea, written(&stage));
    let place = |text: &str| {
        let table = text.find("id = \"redpay\"").unwrap();
        let from = table + text[table..].find("url = \"").unwrap() + 7;
        from..from + text[from..].find('"').unwrap()
    };
    let old = first[place(&first)].to_owned();
    // With another address, and with this line behind it.
    let at = |text: &str, url: &str, more: &str| {
        let place = place(text);
        format!(
            "{}{url}\"\n{more}{}",
            &text[..place.start],
            &text[place.end + 1..]
        )
    };
    let wrong = "https://localhost:1";
    let moved = at(&first, wrong, "");

    let why = refused(&stage, &moved).await;
    assert!(why.contains("while it is in service"), "{why}");

    let answer = placed(shop, &order(shop, "T1", "12.30", RED.id)).await;
    let shut = stopped(&first, RED.id);
    accepted(&stage, &shut).await;
    for text in [&moved, &at(&shut, wrong, "")] {
        let why = refused(&stage, text).await;
        for expected in [
            "institution redpay: expected kind \"standard\" and url",
            &old,
            "where 1 payments and refunds are unfinished",
            "moved_from = ",
        ] {
            assert!(why.contains(expected), "{expected} is not in {why}");
        }
    }
    running.close().await.unwrap();
    fs::write(&stage.config, &moved).unwrap();
    let why = stage.open().await.err().expect("refused");
    assert!(format!("{why:#}").contains("are unfinished"), "{why:#}");

    fs::write(&stage.config, &first).unwrap();
    let running = stage.open().await.unwrap();
    let same = at(&first, wrong, &format!("moved_from = \"{old}\""));
    accepted(&stage, &same).await;
    let back = at(&first, &old, &format!("moved_from = \"{wrong}\""));
    accepted(&stage, &back).await;
    stage.payer.pay(answer.text("payUrl")).await.unwrap();
    shop.wait_for_notification("ORDER_PAID", "T1")
        .await
        .unwrap();
    accepted(&stage, &shut).await;
    accepted(&stage, &at(&shut, wrong, "")).await;
    running.close().await.unwrap();
}
