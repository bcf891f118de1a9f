//! From our page to an institution and back in Chromium: the form, the page of our origin, the code and
//! WeChat's bridge. A gateway with a test dialect is served on loopback, and so is the institution, which
//! shows what arrives.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Request, Response};
use paymux::domain::institutions::{ActionOpening, Product};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::PrivateKeyDer;
use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::{Browser, Scripts};
use crate::institutions::front::{FRONT, gateway_leading_to};
use crate::world::test_gateway::{PEER, TestGateway};

/// What the institution received: the header lines in lower case and the body.
type ArrivedRequests = Arc<Mutex<Vec<String>>>;

/// A gateway and an institution, each at a port of its own.
struct LeadingTestbed {
    gateway: Arc<TestGateway>,
    origin: String,
    there: String,
    arrivals: ArrivedRequests,
}

impl LeadingTestbed {
    /// With an order that names the institution, whose only product is this one.
    async fn of(product: Product) -> Self {
        let institution = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let there = format!(
            "https://localhost:{}",
            institution.local_addr().unwrap().port()
        );
        let arrivals = ArrivedRequests::default();
        tokio::spawn(receive(institution, Arc::clone(&arrivals)));
        let gateway = Arc::new(gateway_leading_to(&there, &[product], None));
        gateway.place(
            "T1",
            json!({ "businessType": "WEBVIEW", "institutionId": "bank" }),
        );
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = format!("http://localhost:{}", listener.local_addr().unwrap().port());
        tokio::spawn(serve(listener, Arc::clone(&gateway)));
        Self {
            gateway,
            origin,
            there,
            arrivals,
        }
    }

    fn page(&self) -> String {
        format!("{}{}", self.origin, self.gateway.page("T1"))
    }

    /// What arrived on the path where payers are led.
    fn arrived(&self) -> String {
        let all = self.arrivals.lock().unwrap();
        let there = all.iter().find(|one| one.contains(" /pay"));
        there.cloned().unwrap_or_default()
    }
}

/// Reads one request: head and body.
async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Option<(String, Vec<u8>)> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).unwrap();
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        (name.eq_ignore_ascii_case("content-length")).then(|| value.trim().parse().unwrap())
    });
    let mut body = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut body).await.ok()?;
    Some((head, body))
}

async fn reply(stream: &mut (impl AsyncWrite + Unpin), response: &Response<Bytes>) {
    let mut text = format!(
        "HTTP/1.1 {}\r\nconnection: close\r\ncontent-length: {}\r\n",
        response.status(),
        response.body().len()
    );
    for (name, value) in response.headers() {
        write!(text, "{name}: {}\r\n", value.to_str().unwrap()).unwrap();
    }
    text.push_str("\r\n");
    let _ = stream.write_all(text.as_bytes()).await;
    let _ = stream.write_all(response.body()).await;
    let _ = stream.shutdown().await;
}

/// Answers with the gateway's public interface.
async fn serve(listener: TcpListener, gateway: Arc<TestGateway>) {
    while let Ok((mut stream, _)) = listener.accept().await {
        let gateway = Arc::clone(&gateway);
        tokio::spawn(async move {
            let Some((head, body)) = read(&mut stream).await else {
                return;
            };
            let mut lines = head.lines();
            let mut first = lines.next().unwrap().split(' ');
            let method = first.next().unwrap();
            let mut request = Request::builder().method(method).uri(first.next().unwrap());
            for (name, value) in lines.filter_map(|line| line.split_once(':')) {
                request = request.header(name, value.trim());
            }
            let request = request.body(Bytes::from(body)).unwrap();
            let answer = gateway.api.answer(request, PEER).await;
            reply(&mut stream, &answer.response).await;
        });
    }
}

/// Notes what arrives, behind TLS.
async fn receive(listener: TcpListener, arrivals: ArrivedRequests) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    while let Ok((stream, _)) = listener.accept().await {
        let (acceptor, arrivals) = (acceptor.clone(), Arc::clone(&arrivals));
        tokio::spawn(async move {
            let Ok(mut stream) = acceptor.accept(stream).await else {
                return;
            };
            let Some((head, body)) = read(&mut stream).await else {
                return;
            };
            let body = String::from_utf8(body).unwrap();
            arrivals
                .lock()
                .unwrap()
                .push(format!("{}{body}", head.to_lowercase()));
            let page = "<!DOCTYPE html><p id=\"there\">there</p>";
            let response = Response::builder().header("content-type", "text/html");
            reply(&mut stream, &response.body(Bytes::from(page)).unwrap()).await;
        });
    }
}

/// R-6.3.1-2e, K3: the payer's browser posts the institution's form by itself, with every field, and does
/// not say where it comes from.
#[tokio::test(flavor = "multi_thread")]
async fn a_form_is_posted_by_itself() {
    let bed = LeadingTestbed::of(FRONT).await;
    let browser = Browser::start_with(Scripts::Run).await;
    browser.go(&bed.page()).await;
    browser.shot("9-start").await;
    browser.tap("#continue").await;
    browser.find("#there").await;
    assert!(browser.url().await.starts_with(&bed.there));
    let arrived = bed.arrived();
    assert!(arrived.starts_with("post /pay http/1.1"), "{arrived}");
    let attempt = bed.gateway.attempt("T1", "bank");
    assert!(
        arrived.contains(&format!("orderId={attempt}&")),
        "{arrived}"
    );
    assert!(!arrived.contains("referer:"), "{arrived}");
}

/// Without scripts a button remains.
#[tokio::test(flavor = "multi_thread")]
async fn a_form_without_scripts_has_a_button() {
    let bed = LeadingTestbed::of(FRONT).await;
    let browser = Browser::start().await;
    browser.go(&bed.page()).await;
    browser.tap("#continue").await;
    browser.find("[data-state=leading]").await;
    browser.shot("10-leading").await;
    browser.fits("#onward", 44.0).await;
    browser.tap("#onward").await;
    browser.find("#there").await;
    assert!(bed.arrived().starts_with("post /pay"));
}

/// An institution that checks where payers come from learns our origin, and not the page's address.
#[tokio::test(flavor = "multi_thread")]
async fn an_institution_that_checks_it_learns_our_origin() {
    let link = Product {
        id: "LINK",
        opening: ActionOpening::FromOurOrigin,
        ..FRONT
    };
    let bed = LeadingTestbed::of(link).await;
    let browser = Browser::start_with(Scripts::Run).await;
    browser.go(&bed.page()).await;
    browser.tap("#continue").await;
    browser.find("#there").await;
    let arrived = bed.arrived();
    let referer = format!("referer: {}/\r\n", bed.origin);
    assert!(arrived.contains(&referer), "{arrived}");
    assert!(arrived.contains("&a=b http/1.1"), "{arrived}");
}

/// The same without scripts, by a link that can be read.
#[tokio::test(flavor = "multi_thread")]
async fn a_link_without_scripts_tells_our_origin() {
    let link = Product {
        id: "LINK",
        opening: ActionOpening::FromOurOrigin,
        ..FRONT
    };
    let bed = LeadingTestbed::of(link).await;
    let browser = Browser::start().await;
    browser.go(&bed.page()).await;
    browser.tap("#continue").await;
    browser.find("[data-state=leading]").await;
    browser.shot("15-leading-link").await;
    browser.tap("#onward").await;
    browser.find("#there").await;
    let referer = format!("referer: {}/\r\n", bed.origin);
    assert!(bed.arrived().contains(&referer), "{}", bed.arrived());
}

/// A code is shown to be scanned, and a payer who says to have paid is shown that it is being confirmed.
#[tokio::test(flavor = "multi_thread")]
async fn a_code_is_shown_to_be_scanned() {
    let bed = LeadingTestbed::of(Product {
        id: "CODE",
        ..FRONT
    })
    .await;
    let browser = Browser::start().await;
    browser.go(&bed.page()).await;
    browser.tap("#continue").await;
    browser.find("[data-state=scan]").await;
    browser.shot("11-scan").await;
    browser.fits("#code", 200.0).await;
    browser.tap("#refresh").await;
    browser.find("[data-state=confirming]").await;
    browser.shot("12-returned").await;
    // It looks four times by itself, and then shows the order again.
    browser.find("[data-state=not-paid]").await;
    browser.shot("13-not-paid").await;
}

/// The bridge of WeChat's browser gets the parameters unchanged, whenever it becomes ready, and our page
/// is shown when it has ended.
#[tokio::test(flavor = "multi_thread")]
async fn wechats_bridge_gets_the_parameters() {
    let bridge = Product {
        id: "BRIDGE",
        opening: ActionOpening::WeChatBridge,
        ..FRONT
    };
    let bed = LeadingTestbed::of(bridge).await;
    let browser = Browser::start_with(Scripts::Run).await;
    browser.go(&bed.page()).await;
    browser.tap("#continue").await;
    browser.find("#bridge").await;
    browser.shot("14-bridge").await;
    let script = "window.WeixinJSBridge = { invoke: function (name, parameters, done) {
            window.invoked = [name, parameters]; window.done = done; } };
        document.dispatchEvent(new Event('WeixinJSBridgeReady')); return window.invoked;";
    let invoked = browser
        .post("execute/sync", &json!({ "script": script, "args": [] }))
        .await;
    let parameters = json!({ "appId": "wx1", "package": "a=\"b\"&<c>" });
    assert_eq!(invoked, json!(["getBrandWCPayRequest", parameters]));
    let done =
        json!({ "script": "window.done({ err_msg: 'get_brand_wcpay_request:ok' });", "args": [] });
    browser.post("execute/sync", &done).await;
    browser.find("[data-state=confirming]").await;
    assert!(browser.url().await.ends_with("/return"));
}
