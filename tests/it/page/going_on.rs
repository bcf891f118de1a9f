//! From our page to the institution and back: what each address does, and that only the POST of the page
//! has an effect.

use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request};
use paymux::domain::identifiers::MerchantId;
use paymux::domain::institutions::{ActionOpening, Product};
use paymux::domain::merchant::OrderPage;
use paymux::domain::personal::payer_context::{PayerDetail, PayerDevice, PayerWallet};
use paymux::world::Clock as _;
use serde_json::json;

use crate::institutions::front::{FRONT, gateway_of, select};
use crate::world::enrolment::ORIGIN;
use crate::world::test_gateway::{TestGateway, TestReply};

const IPHONE: &str = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) Mobile/15E148";
const WECHAT: &str = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0) Mobile/15E148 MicroMessenger/8.0.49";
const ALIPAY: &str = "Mozilla/5.0 (Linux; Android 14) Mobile AlipayClient/10.6.0";

/// What only the payer's browser shows.
const ASKING: Product = Product {
    wants: &[PayerDetail::ClientIp, PayerDetail::Device],
    ..FRONT
};

fn sent(gateway: &TestGateway, method: Method, path: &str, agent: &str) -> TestReply {
    let request = Request::builder().method(method).uri(path);
    let request = request.header("user-agent", agent);
    gateway.send(request.body(Bytes::new()).unwrap())
}

fn fetched(gateway: &TestGateway, path: &str) -> TestReply {
    sent(gateway, Method::GET, path, IPHONE)
}

/// The payer presses the button of the bank, on a page of this site.
fn pressed(gateway: &TestGateway, no: &str, site: &str) -> TestReply {
    let request = Request::post(gateway.page(no))
        .header("content-type", "application/x-www-form-urlencoded")
        .header("user-agent", IPHONE)
        .header("sec-fetch-site", site)
        .body(Bytes::from_static(b"institutionId=bank"));
    gateway.send(request.unwrap())
}

fn html(reply: &TestReply) -> &str {
    std::str::from_utf8(reply.response.body()).unwrap()
}

fn head<'a>(reply: &'a TestReply, name: &str) -> &'a str {
    reply.response.headers()[name].to_str().unwrap()
}

fn webview(no: &str, gateway: &TestGateway) -> TestReply {
    let named = json!({ "businessType": "WEBVIEW", "institutionId": "bank" });
    gateway.place(no, named)
}

/// Messengers and mail scanners fetch every address they see: that changes nothing, wherever the order
/// stands.
#[test]
fn fetching_every_address_changes_nothing() {
    for product in [FRONT, ASKING] {
        let gateway = gateway_of(&[product], None);
        webview("T1", &gateway);
        gateway.place("T2", json!({ "businessType": "WEBVIEW" }));
        let before = gateway.durable_state();
        for no in ["T1", "T2"] {
            for part in ["", "/go", "/return", "/return?looked=9", "/status"] {
                for method in [Method::GET, Method::HEAD] {
                    let path = format!("{}{part}", gateway.page(no));
                    let reply = sent(&gateway, method, &path, "scanner/1.0");
                    assert!(reply.status < 400, "{path}: {}", reply.result);
                }
            }
        }
        assert_eq!(gateway.durable_state(), before);
    }
}

/// A product that has to be told what only the browser shows: the merchant's choice is stored, and the
/// attempt begins when the payer goes on, with what is seen then. In native mode nobody can supply it.
#[test]
fn a_choice_waits_for_what_the_browser_shows() {
    let gateway = gateway_of(&[ASKING], None);
    gateway.place("T1", json!({}));
    let native = select(&gateway, "T1", json!({ "mode": "NATIVE" }));
    assert_eq!(native.text("reason"), "PAYER_CONTEXT_MISSING");
    let chosen = select(&gateway, "T1", json!({ "mode": "WEBVIEW" }));
    assert_eq!((chosen.status, chosen.text("result")), (200, "ACCEPTED"));
    assert_eq!(chosen.text("attemptStatus"), "NONE");
    let page = format!("{ORIGIN}{}", gateway.page("T1"));
    assert_eq!(chosen.text("payUrl"), page);
    let order = gateway.order("T1");
    assert!(order.attempts.is_empty(), "nothing has begun");
    let entries = gateway.durable_state().audit_entries;
    let (entry, ..) = entries.last().unwrap();
    assert_eq!(
        (&*entry.action, &*entry.result),
        ("order.choose", "OPEN bank=CHOSEN")
    );
    select(&gateway, "T1", json!({ "mode": "WEBVIEW" }));
    assert_eq!(gateway.order("T1").version, order.version, "a repeat");

    let shown = fetched(&gateway, &gateway.page("T1"));
    assert!(html(&shown).contains("data-state=\"start\""));
    assert!(html(&shown).contains("id=\"continue\" name=\"institutionId\" value=\"bank\""));
    let go = format!("{}/go", gateway.page("T1"));
    assert_eq!(
        head(&fetched(&gateway, &go), "location"),
        gateway.page("T1")
    );

    let on = pressed(&gateway, "T1", "same-origin");
    assert_eq!((on.status, head(&on, "location")), (303, go.as_str()));
    let order = gateway.order("T1");
    assert_eq!((order.attempts.len(), order.chosen.as_ref()), (1, None));
    let kept = &order.attempts[0].payer;
    assert_eq!(kept.ip.unwrap().expose(), "127.0.0.1");
    assert_eq!(kept.device, Some(PayerDevice::Ios));
    assert!(html(&fetched(&gateway, &go)).contains("name=\"orderId\""));
}

/// The same for an order that names its institution; the merchant that knows the payer's browser has the
/// attempt begin at once.
#[test]
fn a_named_institution_waits_for_what_the_browser_shows() {
    let gateway = gateway_of(&[ASKING], None);
    let placed = webview("T1", &gateway);
    assert_eq!((placed.status, placed.text("attemptStatus")), (200, "NONE"));
    let again = webview("T1", &gateway);
    assert_eq!(again.text("payOrderNo"), placed.text("payOrderNo"));
    let shown = fetched(&gateway, &gateway.page("T1"));
    assert!(html(&shown).contains("data-state=\"start\""));
    assert_eq!(pressed(&gateway, "T1", "none").result, "ACCEPTED");
    assert_eq!(gateway.order("T1").attempts.len(), 1);
    let of_payer = json!({ "payerClientIp": "203.0.113.9", "payerDevice": "IOS" });
    gateway.place("T2", json!({}));
    let begun = select(&gateway, "T2", of_payer);
    assert_eq!(begun.text("attemptStatus"), "ACCEPTED");
}

/// A less preferred product begins at once only on a device that the merchant named: a payer on a phone
/// cannot scan a code that it shows.
#[test]
fn a_code_is_shown_to_desktops_alone() {
    let code = Product {
        id: "CODE",
        devices: &[PayerDevice::Desktop],
        ..FRONT
    };
    let gateway = gateway_of(&[ASKING, code], None);
    for (no, device, status) in [
        ("T1", json!(null), "NONE"),
        ("T2", json!("IOS"), "NONE"),
        ("T3", json!("DESKTOP"), "ACCEPTED"),
    ] {
        gateway.place(no, json!({}));
        let chosen = select(&gateway, no, json!({ "payerDevice": device }));
        assert_eq!(chosen.text("attemptStatus"), status, "{device}");
    }
}

/// A2: a choice through another institution is stored once the live attempt has ended.
#[test]
fn a_stored_choice_waits_for_the_live_attempt_to_end() {
    let gateway = gateway_of(
        &[
            Product {
                id: "LINK",
                ..FRONT
            },
            ASKING,
        ],
        None,
    );
    gateway.place("T1", json!({}));
    assert_eq!(gateway.select("T1", "bank").status, 200);
    let native = select(&gateway, "T1", json!({ "mode": "NATIVE" }));
    assert_eq!(native.status, 202, "its attempt is closed first");
    assert_eq!(gateway.order("T1").attempts.len(), 1);
}

/// Each kind of payment action has its page, with our own scripts only where one is needed.
#[test]
fn every_action_leads_on_in_its_own_way() {
    let led = |product: Product| {
        let gateway = gateway_of(&[product], None);
        webview("T1", &gateway);
        pressed(&gateway, "T1", "same-origin");
        fetched(&gateway, &format!("{}/go", gateway.page("T1")))
    };
    let form = led(FRONT);
    let button = "<button class=\"go\" id=\"onward\">";
    for part in [
        "action=\"https://front.example/pay\"",
        "<input type=\"hidden\" name=\"nonce\"",
        button,
        "<script>document.getElementById(\"onward\").click();",
    ] {
        assert!(html(&form).contains(part), "{part}");
    }
    let policy = head(&form, "content-security-policy");
    assert!(policy.contains("script-src 'sha256-") && !policy.contains("unsafe"));
    assert_eq!(head(&form, "referrer-policy"), "no-referrer");

    let link = Product {
        id: "LINK",
        ..FRONT
    };
    let plain = led(link);
    assert_eq!(plain.status, 303);
    assert!(head(&plain, "location").starts_with("https://front.example/pay?nonce="));
    let checked = led(Product {
        opening: ActionOpening::FromOurOrigin,
        ..link
    });
    assert_eq!(
        (checked.status, head(&checked, "referrer-policy")),
        (200, "origin")
    );
    assert!(html(&checked).contains("&amp;a=b\">"), "{}", html(&checked));

    let code = led(Product {
        id: "CODE",
        ..FRONT
    });
    assert!(html(&code).contains("<svg class=\"code\"") && !html(&code).contains("<script"));
    assert!(!head(&code, "content-security-policy").contains("script"));

    let bridge = led(Product {
        id: "BRIDGE",
        opening: ActionOpening::WeChatBridge,
        ..FRONT
    });
    assert!(html(&bridge).contains("data-parameters=\"{&quot;appId&quot;:&quot;wx1&quot;"));
    assert!(html(&bridge).contains("&amp;&lt;c&gt;") && html(&bridge).contains("getBrandWCPay"));
    let nowhere = led(Product {
        id: "BRIDGE",
        ..FRONT
    });
    assert_eq!(nowhere.status, 303, "no browser opens these");
}

/// A link that has expired is made again by the payer's POST, never by a GET.
#[test]
fn an_expired_link_is_made_again_by_a_post() {
    let gateway = TestGateway::new();
    webview("T1", &gateway);
    let creates = || {
        gateway.at("bank", |books| {
            let calls = books.calls.iter();
            calls.filter(|(call, _)| call == "create").count()
        })
    };
    let link = gateway.onward("T1");
    assert!(link.starts_with("https://bank.example/pay/"), "{link}");
    gateway.advance_s(121);
    assert_eq!(gateway.onward("T1"), gateway.page("T1"));
    assert_eq!(creates(), 1);
    assert_eq!(pressed(&gateway, "T1", "same-origin").result, "ACCEPTED");
    assert_eq!((creates(), gateway.onward("T1")), (2, link));
    assert_eq!(gateway.order("T1").attempts.len(), 1);
}

/// Whoever fetches a page again and again has nothing signed for it after a while, and is told to wait;
/// other orders are not held up.
#[test]
fn many_fetches_of_one_page_sign_little() {
    let gateway = gateway_of(&[FRONT], None);
    for no in ["T1", "T2"] {
        webview(no, &gateway);
        pressed(&gateway, no, "same-origin");
    }
    let go = |no: &str| fetched(&gateway, &format!("{}/go", gateway.page(no)));
    for _ in 0..5 {
        assert_eq!(go("T1").status, 200);
    }
    let refused = go("T1");
    assert_eq!((refused.status, refused.result), (429, "too_often"));
    assert_eq!(head(&refused, "retry-after"), "1");
    assert!(html(&refused).contains("系统繁忙"));
    assert_eq!(go("T2").status, 200);
    gateway.advance_s(1);
    assert_eq!(go("T1").status, 200);
}

/// A payer who presses twice, or comes back and presses again, pays once.
#[test]
fn a_form_that_is_posted_twice_begins_once() {
    let gateway = gateway_of(&[ASKING], None);
    webview("T1", &gateway);
    for _ in 0..2 {
        assert_eq!(pressed(&gateway, "T1", "same-origin").status, 303);
    }
    assert_eq!(gateway.order("T1").attempts.len(), 1);
}

/// A page of another site cannot have a payer's attempt begin.
#[test]
fn a_form_from_another_site_is_refused() {
    let gateway = gateway_of(&[ASKING], None);
    webview("T1", &gateway);
    let before = gateway.durable_state();
    let refused = pressed(&gateway, "T1", "cross-site");
    assert_eq!((refused.status, refused.result), (403, "cross_site"));
    assert!(html(&refused).contains("其他网站"));
    assert_eq!(gateway.durable_state(), before);
    for site in ["same-origin", "same-site", "none"] {
        assert_eq!(pressed(&gateway, "T1", site).status, 303, "{site}");
    }
}

/// What an institution's page, or anybody, brings along to the address of return is not believed: the
/// institution is asked, and the page says so until the answer is there.
#[test]
fn a_forged_return_only_has_the_institution_asked() {
    let gateway = gateway_of(&[FRONT], None);
    webview("T1", &gateway);
    let back = format!("{}/return", gateway.page("T1"));
    let early = fetched(&gateway, &back);
    assert_eq!(early.status, 200, "accepted at once: it may be paid");
    pressed(&gateway, "T1", "same-origin");
    let before = gateway.durable_state();
    let posted = |body: Vec<u8>| {
        let request = Request::post(&back).header("sec-fetch-site", "cross-site");
        gateway.send(request.body(Bytes::from(body)).unwrap())
    };
    let paid = b"respCode=00&orderId=1&status=PAID".to_vec();
    let answer = posted(paid);
    assert_eq!(
        (answer.status, head(&answer, "location")),
        (303, back.as_str())
    );
    assert_eq!(gateway.api.world.signals.next(), Some(gateway.clock.now()));
    assert_eq!(posted(vec![b'a'; 16 * 1024]).status, 303);
    assert_eq!(posted(vec![b'a'; 16 * 1024 + 1]).status, 413);

    let forged = fetched(
        &gateway,
        &format!("{back}?trade_status=TRADE_SUCCESS&looked=4"),
    );
    assert!(html(&forged).contains("data-state=\"confirming\""));
    assert!(html(&forged).contains("content=\"3;url=?looked=1\""));
    assert!(!html(&forged).contains("<form"), "nothing to pay again");
    let last = fetched(&gateway, &format!("{back}?looked=4"));
    let unpaid = format!("{}?returned", gateway.page("T1"));
    assert_eq!(
        (last.status, head(&last, "location")),
        (303, unpaid.as_str())
    );
    let unpaid = fetched(&gateway, &unpaid);
    assert!(html(&unpaid).contains("data-state=\"not-paid\""));
    assert!(html(&unpaid).contains("id=\"continue\""));
    assert_eq!(gateway.durable_state(), before);
}

/// A payer who comes back before leaving, or after paying, is shown how the order stands.
#[test]
fn a_return_without_a_payment_under_way_shows_the_order() {
    let gateway = TestGateway::new();
    gateway.place("T1", json!({ "businessType": "WEBVIEW" }));
    let back = format!("{}/return", gateway.page("T1"));
    let never = fetched(&gateway, &back);
    assert_eq!(
        (never.status, head(&never, "location")),
        (303, gateway.page("T1").as_str())
    );
    assert_eq!(gateway.api.world.signals.next(), None, "nobody to ask");
    gateway.select("T1", "bank");
    assert!(html(&fetched(&gateway, &back)).contains("data-state=\"confirming\""));
    let paid = gateway.pay("T1", "bank");
    gateway.call_back("bank", &paid);
    let done = fetched(&gateway, &back);
    assert_eq!(
        (done.status, head(&done, "location")),
        (303, gateway.page("T1").as_str())
    );
    let page = fetched(&gateway, &gateway.page("T1"));
    assert!(html(&page).contains("data-state=\"paid\""));
}

/// In a wallet's browser only what works there is offered, and a chosen institution that does not work
/// there says so.
#[test]
fn a_wallets_browser_is_offered_what_works_there() {
    let inside = Product {
        wallets: &[PayerWallet::WeChat],
        ..ASKING
    };
    let gateway = gateway_of(&[inside], None);
    gateway.place("T1", json!({ "businessType": "WEBVIEW" }));
    webview("T2", &gateway);
    let shown = |no: &str, agent: &str| {
        let reply = sent(&gateway, Method::GET, &gateway.page(no), agent);
        html(&reply).to_owned()
    };
    assert!(shown("T1", WECHAT).contains("id=\"institution-bank\""));
    assert!(shown("T2", WECHAT).contains("id=\"continue\""));
    for agent in [ALIPAY, IPHONE] {
        assert!(shown("T1", agent).contains("id=\"none\""), "{agent}");
        let chosen = shown("T2", agent);
        assert!(chosen.contains("id=\"not-here\"") && !chosen.contains("<button"));
    }
    let refused = pressed(&gateway, "T2", "same-origin");
    assert_eq!(
        (refused.status, refused.result),
        (422, "institution_unavailable")
    );
    assert!(gateway.order("T2").attempts.is_empty());
}

/// The payer of a merchant that shows its orders itself is led straight on, where that makes nothing; who
/// comes back unpaid is shown the page.
#[test]
fn a_merchants_own_order_page_leads_straight_on() {
    let direct = |mut gateway: TestGateway| {
        let snapshot = Arc::get_mut(&mut gateway.api.snapshot).unwrap();
        let m1 = MerchantId::parse("M1").unwrap();
        let merchant = snapshot.routing.merchants.get_mut(&m1).unwrap();
        merchant.order_page = OrderPage::Direct;
        webview("T1", &gateway);
        gateway
    };
    let gateway = direct(TestGateway::new());
    let before = gateway.durable_state();
    let led = fetched(&gateway, &gateway.page("T1"));
    assert_eq!(led.status, 303);
    assert_eq!(head(&led, "location"), gateway.onward("T1"));
    let unpaid = fetched(&gateway, &format!("{}?returned", gateway.page("T1")));
    assert!(html(&unpaid).contains("data-state=\"not-paid\""));
    gateway.advance_s(121);
    let expired = fetched(&gateway, &gateway.page("T1"));
    assert_eq!(expired.status, 200, "made again by a POST only");
    assert_eq!(gateway.durable_state(), before);
    let made = direct(gateway_of(&[FRONT], None));
    let shown = fetched(&made, &made.page("T1"));
    assert!(html(&shown).contains("data-state=\"continue\""));
}

/// An address with a port or a zone, or one that is too long, is refused before anything begins.
#[test]
fn an_address_that_is_none_is_refused() {
    let gateway = TestGateway::new();
    let long = format!("{}1", "0".repeat(45));
    for bad in [
        "203.0.113.9:80",
        "[2001:db8::1]:80",
        "fe80::1%eth0",
        long.as_str(),
    ] {
        let reply = gateway.place("T1", json!({ "payerClientIp": bad }));
        assert_eq!((reply.status, reply.text("field")), (400, "payerClientIp"));
    }
    assert!(gateway.durable_state().orders.is_empty());
}
