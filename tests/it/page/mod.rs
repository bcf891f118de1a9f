//! The payer's page: what a payer sees and may do in each state, through the whole public API,
//! without sockets.

mod going_on;
mod message_cards;
mod one_order;

use bytes::Bytes;
use http::Request;

use paymux::api::AnsweredCaller;
use paymux::api::page::markup;
use paymux::domain::change::ChangeCause;
use paymux::domain::evidence::Finding;
use paymux::domain::identifiers::Timestamp;
use paymux::domain::institutions::{BusinessType, Mode};
use paymux::domain::merchant::Admission;
use paymux::domain::order::CloseReason;
use paymux::flow::call_institution::{CREATE_TIMEOUTS, call_institution};
use paymux::flow::start_attempt::{OrderOutcome, OrderReply};
use paymux::institution::{Call, Operation};
use paymux::world::SendError;

use crate::world::test_gateway::PEER;
use one_order::*;

/// R-A2.1-5: before paying, the payer sees the payee, the amount and the purpose, and can choose;
/// the phone number is masked (R-6.3.2-3b).
#[tokio::test]
async fn the_payer_sees_the_order_before_paying() {
    let order = open(terms(webview()), None);
    let page = fetched(&api(&order, lost()), &path(&order)).await;
    assert_eq!(page.status(), 200);
    let page = text(&page);
    for seen in [
        "清风茶舍",
        "<small>¥</small>128.50",
        "明前龙井",
        "T20261122000001",
        "138****5678",
    ] {
        assert!(page.contains(seen), "{seen}");
    }
    assert!(page.contains(order.no.as_str()));
    assert!(page.contains("id=\"institution-harbour\"") && page.contains("Harbour Bank"));
    assert!(!page.contains("13812345678"));
}

/// R-5.1.1-3: only institutions that have a page and are eligible for this payment are offered, in
/// aggregated orders as well; an order for an SDK offers none.
#[tokio::test]
async fn only_institutions_with_a_page_are_offered() {
    for business_type in [webview(), BusinessType::Aggregated] {
        let order = open(terms(business_type), None);
        let page = fetched(&api(&order, lost()), &path(&order)).await;
        assert!(text(&page).contains("id=\"institution-lake\""));
        assert!(!text(&page).contains("meadow") && !text(&page).contains("peak"));
    }
    let order = open(terms(BusinessType::Single(Mode::Native)), None);
    let page = fetched(&api(&order, lost()), &path(&order)).await;
    assert!(text(&page).contains("data-state=\"elsewhere\""));
    assert!(!text(&page).contains("<button"));
}

/// R-6.1.1-3a, R-6.3.1-2e, R-6.5-1b: the page runs no script, cannot be framed or cached, and its
/// address is not sent to the institution.
#[tokio::test]
async fn the_page_cannot_be_framed_or_cached() {
    let order = open(terms(webview()), None);
    let api = api(&order, lost());
    let (sent_on, _) = posted(&api, &path(&order), "institutionId=harbour").await;
    let missing = fetched(&api, "/pay/nothing").await;
    for answer in [fetched(&api, &path(&order)).await, sent_on, missing] {
        let policy = head(&answer, "content-security-policy");
        assert!(
            policy.starts_with("default-src 'none'; style-src 'sha256-"),
            "{policy}"
        );
        assert!(!policy.contains("unsafe") && !policy.contains("script"));
        for part in [
            "form-action 'self' https:",
            "frame-ancestors 'none'",
            "base-uri 'none'",
        ] {
            assert!(policy.contains(part), "{part}");
        }
        assert_eq!(head(&answer, "referrer-policy"), "no-referrer");
        assert_eq!(head(&answer, "x-frame-options"), "DENY");
        assert_eq!(head(&answer, "cache-control"), "no-store");
        assert!(head(&answer, "strict-transport-security").starts_with("max-age="));
        assert!(!answer.headers().contains_key("set-cookie"));
        assert!(!answer.headers().contains_key("access-control-allow-origin"));
    }
}

/// R-6.5-1a, R-6.5-1c, R-6.1.1-3b: in no state does the page hold a script, a field for a secret,
/// its own address, the institution's link, or a resource from elsewhere.
#[test]
fn the_page_holds_no_secret_and_no_script() {
    let secret = open(terms(webview()), None).page_token().expose();
    for (state, page) in every_state() {
        assert!(
            page.contains(&format!("id=\"state\" data-state=\"{state}\"")),
            "{state}"
        );
        for never in [
            "<script",
            "<input",
            "javascript:",
            " style=",
            "src=",
            "http://",
            "https://",
        ] {
            assert!(!page.contains(never), "{state}: {never}");
        }
        assert!(!page.contains(&secret), "{state}");
        assert_eq!(page.matches("<style>").count(), 1);
        assert!(page.contains("<html lang=\"zh-CN\">") && page.contains("lang=\"en\""));
    }
}

/// Only the page of an unresolved attempt refreshes itself.
#[test]
fn only_an_unresolved_page_refreshes_itself() {
    for (state, page) in every_state() {
        assert_eq!(
            page.contains("http-equiv=\"refresh\""),
            state == "confirming",
            "{state}"
        );
    }
}

/// R-6.1.1-2: the page of a paid order says that it is paid, and starts nothing.
#[tokio::test]
async fn a_paid_order_says_so_and_starts_nothing() {
    let order = paid();
    let api = api(&order, lost());
    let (answer, result) = posted(&api, &path(&order), "institutionId=lake").await;
    assert_eq!((answer.status().as_u16(), result), (303, "ALREADY_PAID"));
    assert_eq!(head(&answer, "location"), path(&order));
    let page = fetched(&api, &path(&order)).await;
    for seen in [
        "支付成功",
        "无需再次付款",
        "already paid",
        "返回箭头",
        "2026-11-22 00:31:35",
    ] {
        assert!(text(&page).contains(seen), "{seen}");
    }
    assert!(!text(&page).contains("<form"));
}

/// R-5.1.1-0a: a choice leads on to the institution's page, and returning leads there again.
#[tokio::test]
async fn choosing_leads_to_the_institution() {
    let order = open(terms(webview()), None);
    let api = api(&order, lost());
    for _ in 0..2 {
        let (answer, result) = posted(&api, &path(&order), "institutionId=harbour").await;
        assert_eq!((answer.status().as_u16(), result), (303, "ACCEPTED"));
        let onward = format!("{}/go", path(&order));
        assert_eq!(head(&answer, "location"), onward);
        let there = fetched(&api, &onward).await;
        assert_eq!(there.status(), 303);
        assert_eq!(head(&there, "location"), LINK);
        assert_eq!(head(&there, "referrer-policy"), "no-referrer");
    }
    let page = fetched(&api, &path(&order)).await;
    let page = text(&page);
    assert!(page.contains("id=\"continue\"") && page.contains("value=\"harbour\""));
    assert!(
        page.contains("id=\"institution-lake\"") && !page.contains("id=\"institution-harbour\"")
    );
}

/// Q8, S3: while the disk is nearly full a payer's choice begins nothing either, and the page says
/// to come back; with free space again it succeeds.
#[tokio::test]
async fn a_nearly_full_disk_starts_no_attempt_by_the_page() {
    let order = open(terms(webview()), None);
    let api = api(&order, lost());
    api.world.disk.set_short(true);
    let (answer, result) = posted(&api, &path(&order), "institutionId=harbour").await;
    assert_eq!((answer.status().as_u16(), result), (503, "unavailable"));
    let page = fetched(&api, &path(&order)).await;
    assert!(
        text(&page).contains("id=\"institution-harbour\""),
        "nothing was begun"
    );
    api.world.disk.set_short(false);
    let (answer, result) = posted(&api, &path(&order), "institutionId=harbour").await;
    assert_eq!((answer.status().as_u16(), result), (303, "ACCEPTED"));
}

/// A2: another institution is chosen only after the first attempt has ended; until then the page
/// says that it is being confirmed, and offers nothing.
#[tokio::test]
async fn choosing_another_waits_for_the_first_to_end() {
    let order = tried(link(LINK));
    let api = api(&order, lost());
    let (answer, result) = posted(&api, &path(&order), "institutionId=lake").await;
    assert_eq!((answer.status().as_u16(), result), (303, "PENDING"));
    let page = fetched(&api, &path(&order)).await;
    assert!(text(&page).contains("data-state=\"confirming\"") && !text(&page).contains("<form"));
}

/// V1: no reply means unresolved, not failed; the payer may still cancel what was never confirmed.
#[tokio::test]
async fn no_reply_is_shown_as_unresolved() {
    let order = open(terms(webview()), None);
    let api = api(&order, lost());
    let (answer, result) = posted(&api, &path(&order), "institutionId=lake").await;
    assert_eq!((answer.status().as_u16(), result), (303, "PENDING"));
    let page = fetched(&api, &path(&order)).await;
    assert!(text(&page).contains("data-state=\"confirming\""));
    assert!(
        text(&page).contains("请勿重复付款") && text(&page).contains("id=\"institution-harbour\"")
    );
}

/// After a refusal the order is open and the page names the institution that refused.
#[tokio::test]
async fn a_refusal_asks_for_another_institution() {
    let order = open(terms(webview()), None);
    let api = api(&order, SendError::NotSent("refused".into()));
    let (answer, result) = posted(&api, &path(&order), "institutionId=lake").await;
    assert_eq!((answer.status().as_u16(), result), (200, "REFUSED"));
    let page = text(&answer);
    assert!(page.contains("id=\"refused\"") && page.contains("湖畔支付"));
    assert!(page.contains("请换一家") && page.contains("id=\"institution-harbour\""));
}

/// O4: the page of a closed order says so, says what to do, and accepts no choice.
#[tokio::test]
async fn a_closed_order_says_what_to_do() {
    let order = ended(CloseReason::Expired);
    let api = api(&order, lost());
    let (answer, result) = posted(&api, &path(&order), "institutionId=lake").await;
    assert_eq!((answer.status().as_u16(), result), (303, "CLOSED"));
    let page = fetched(&api, &path(&order)).await;
    assert!(text(&page).contains("订单已过期") && text(&page).contains("重新下单"));
    assert!(!text(&page).contains("<form"));
}

/// V2: an attempt that is live at the order's expiry may still be paid, so the page does not show
/// the order as ended.
#[test]
fn time_alone_ends_nothing_on_the_page() {
    let live = tried(link(LINK));
    assert!(shown(&live, live.expires).contains("data-state=\"confirming\""));
    let idle = open(terms(webview()), None);
    assert!(shown(&idle, idle.expires).contains("data-state=\"expired\""));
}

/// K3: a malformed, an unknown and a wrong token get the same page.
#[tokio::test]
async fn every_wrong_token_gets_the_same_page() {
    let order = open(terms(webview()), None);
    let api = api(&order, lost());
    let wrong = format!("/pay/{}.{}", order.no, "0".repeat(32));
    let unknown = format!("/pay/P{}.{}", "0".repeat(26), "0".repeat(32));
    let first = fetched(&api, &wrong).await;
    assert_eq!(first.status(), 404);
    assert!(text(&first).contains("This payment page does not exist"));
    for path in [unknown.as_str(), "/pay/", "/pay/..", "/pay/P1.zz"] {
        let answer = fetched(&api, path).await;
        assert_eq!(answer.status(), 404, "{path}");
        assert_eq!(answer.body(), first.body(), "{path}");
        assert_eq!(answer.headers(), first.headers(), "{path}");
    }
    let (answer, result) = posted(&api, &wrong, "institutionId=lake").await;
    assert_eq!((answer.status().as_u16(), result), (404, "order_unknown"));
}

/// R-6.3.1-3a: the form is parsed strictly, and its fault is shown on a page.
#[tokio::test]
async fn a_form_that_is_not_ours_is_refused() {
    let order = open(terms(webview()), None);
    let api = api(&order, lost());
    let long = format!("institutionId={}", "a".repeat(300));
    for (form, status) in [
        ("", 400),
        ("institution=lake", 400),
        ("institutionId=", 400),
        ("institutionId=lake&x=1", 400),
        ("institutionId=%6cake", 400),
        (long.as_str(), 413),
        ("institutionId=nobody", 422),
        ("institutionId=meadow", 422),
        ("institutionId=peak", 422),
    ] {
        let (answer, _) = posted(&api, &path(&order), form).await;
        assert_eq!(answer.status(), status, "{form}");
        assert_eq!(head(&answer, "content-type"), "text/html; charset=utf-8");
        assert!(text(&answer).contains("id=\"back\""), "{form}");
    }
    for media in ["application/json", "multipart/form-data", "text/plain"] {
        let request = Request::post(path(&order))
            .header("content-type", media)
            .body(Bytes::from_static(b"institutionId=lake"))
            .unwrap();
        assert_eq!(responded(&api, request).await.0.status(), 415, "{media}");
    }
}

/// R-6.3.1-3a: text from a merchant is shown as text, wherever it appears.
#[test]
fn text_from_outside_is_never_markup() {
    let mut hostile = terms(webview());
    hostile.merchant_name = HOSTILE.into();
    hostile.goods_name = Some(HOSTILE.into());
    hostile.goods_description = Some(HOSTILE.into());
    let page = shown(&open(hostile, None), NOW);
    assert!(!page.contains("<script") && !page.contains('\u{202e}'));
    let safe = "&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;&quot;&amp;";
    assert_eq!(page.matches(safe).count(), 3);
    assert_eq!(markup::escape(HOSTILE), safe);
}

/// page and SDK read the state as JSON; HEAD works; it has nothing personal.
#[tokio::test]
async fn the_state_is_returned_as_json() {
    let order = paid();
    let api = api(&order, lost());
    let answer = fetched(&api, &format!("{}/status", path(&order))).await;
    let state: serde_json::Value = serde_json::from_slice(answer.body()).unwrap();
    let expected = serde_json::json!({
        "orderStatus": "PAID", "attemptStatus": "PAID", "payOrderNo": order.no.as_str(),
        "orderAmount": "128.50", "currency": "CNY", "expireTime": "2026-11-22T00:45:00+08:00",
        "paymentDate": "20261122", "paymentTime": "003135",
    });
    assert_eq!(state, expected);
    assert_eq!(head(&answer, "cache-control"), "no-store");
    for path in [path(&order), format!("{}/status", path(&order))] {
        let request = Request::head(&path).body(Bytes::new()).unwrap();
        let (answer, result) = responded(&api, request).await;
        assert_eq!((answer.status().as_u16(), result), (200, "SHOWN"));
        // The edge sends its length and omits the body.
        assert_eq!(answer.body(), fetched(&api, &path).await.body());
    }
    let missing = fetched(&api, "/pay/nothing/status").await;
    assert_eq!(missing.status(), 404);
    assert_eq!(head(&missing, "content-type"), "application/problem+json");
}

/// R-6.3.1-3a: page and state of an order prove the same of whoever opens them; another order's do not.
#[tokio::test]
async fn page_and_state_name_one_order() {
    let order = open(terms(webview()), None);
    let api = api(&order, lost());
    let caller = async |path: String| {
        let request = Request::get(path).body(Bytes::new()).unwrap();
        api.answer(request, PEER).await.caller
    };
    let page = caller(path(&order)).await;
    assert_eq!(page, AnsweredCaller::Payer(order.no.clone()));
    assert_eq!(caller(format!("{}/status", path(&order))).await, page);
    let other = format!("/pay/P{}.{}", "0".repeat(26), "0".repeat(32));
    assert_ne!(caller(other).await, page);
}

/// O4, R-6.1.1-2: an order that is closing, or is paid, links to no page where it could be paid,
/// though the institution's reply still brings one.
#[tokio::test]
async fn an_order_that_is_closing_has_no_link() {
    let order = open(terms(webview()), Some(start("harbour", Mode::Webview)));
    let order = order
        .end(CloseReason::Merchant, ChangeCause::Clock, NOW)
        .unwrap()
        .into_order()
        .unwrap();
    let order = after(&order, link(LINK));
    assert_eq!(order.due(), Some(NOW), "closed at once");
    let api = api(&order, lost());
    let (answer, _) = posted(&api, &path(&order), "institutionId=harbour").await;
    assert_eq!(head(&answer, "location"), path(&order));
    let onward = fetched(&api, &format!("{}/go", path(&order))).await;
    assert_eq!(head(&onward, "location"), path(&order));
    let reply = OrderReply::of(order, OrderOutcome::Pending);
    let shown = paymux::api::order::reply::pay_url(&api.snapshot, &reply).unwrap();
    assert!(shown.starts_with("https://pay.example/pay/"), "{shown}");
}

/// R-4-3, R-6.3.2-4b: a suspended merchant's orders cannot be started, on their pages either.
#[tokio::test]
async fn a_suspended_merchants_page_starts_nothing() {
    let order = open(terms(webview()), None);
    let mut api = api(&order, lost());
    let mut snapshot = one_order::snapshot();
    for merchant in snapshot.routing.merchants.values_mut() {
        merchant.admission = Admission::Suspended;
    }
    api.snapshot = std::sync::Arc::new(snapshot);
    let (_, result) = posted(&api, &path(&order), "institutionId=harbour").await;
    assert_eq!(result, "merchant_not_admitted");
    let page = fetched(&api, &path(&order)).await;
    assert!(!text(&page).contains("institution-harbour"));
}

/// A5, Q9: a create whose intent was written long ago, by a process that was paused since, is not
/// sent any more: by now it is unresolved, and may have been closed.
#[tokio::test]
async fn a_create_that_is_too_old_is_not_sent() {
    let mut late = start("lake", Mode::Webview);
    late.stamp.now = Timestamp::from_ms(NOW.ms() - 15_000);
    let order = open(terms(webview()), Some(late));
    let api = api(&order, lost());
    let adapter = &api.snapshot.adapters[&order.attempts[0].institution];
    let call = Call::new(Operation::Create, &order.attempts[0], &order.terms);
    let evidence = call_institution(&api.world, &**adapter, &call, CREATE_TIMEOUTS).await;
    assert_eq!(evidence.finding, Finding::NotSent);
}
