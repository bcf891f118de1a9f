//! The cost of the parts of a request, on the load's core: the gateway's functions on real
//! messages. It shows where to optimise, not the cost of a request.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{Request, Response};
use paymux::domain::fields::Fields;
use paymux::domain::identifiers::{MerchantId, MerchantOrderNo, OrderKey, Timestamp, Uptime};
use paymux::domain::institutions::MessageFormat;
use paymux::flow::exchange_log::block::OpenBlock;
use paymux::seal::{Seal, SealBinding};
use paymux::signature::{
    Covering, EnrolledKey, KeyRing, Question, SigningKey, VerifyingKey, sign_request,
    sign_response, verify_request,
};
use paymux::world::exchange_log::{ExchangeEntry, ReplyCopy, RequestCopy};

use crate::setup::requests::now_s;

const TIMES: u32 = 5_000;
const TARGET: &str = "https://localhost:8443/v1/orders";

/// A name, and microseconds per call.
pub(crate) type Piece = (&'static str, f64);

/// Measures each part.
pub(crate) fn measure(request_body: &Bytes, answer_body: &Bytes) -> Result<Vec<Piece>> {
    let (private, public) = SigningKey::generate_ed25519()?;
    let key = SigningKey::from_pkcs8_pem("bench", &private)?;
    let now = now_s();
    let ring = KeyRing::new(vec![EnrolledKey {
        id: "bench".to_owned(),
        owner: "M100001".to_owned(),
        key: VerifyingKey::from_spki_pem(&public)?,
        not_before_s: 0,
        not_after_s: i64::MAX,
    }])?;
    let covering = Covering {
        created_s: now,
        expires_s: Some(now + 300),
        nonce: Some("0123456789abcdef"),
    };
    let mut request = Request::post(TARGET)
        .header(CONTENT_TYPE, "application/json")
        .body(request_body.clone())?;
    sign_request(&mut request, TARGET, &key, &covering)?;
    let question = Question::of(&request, TARGET).context("no question")?;
    let keys = std::iter::once(("k1".to_owned(), [7; 32])).collect();
    let seal = Seal::new("k1", keys, [9; 32])?;
    let place = SealBinding {
        table: "orders",
        row: "P20260701000000000001",
        column: "mobile",
    };

    let verify = timed(|| verify_request(&request, TARGET, &ring, now).is_ok());
    let sign = timed(|| {
        let mut answer = Response::new(answer_body.clone());
        let json = http::HeaderValue::from_static("application/json");
        answer.headers_mut().insert(CONTENT_TYPE, json);
        sign_response(&mut answer, Some(&question), &key, now).is_ok()
    });
    let read = timed(|| Fields::parse(request_body).is_ok());
    let about = OrderKey::MerchantOrderNo(
        MerchantId::parse("M100001")?,
        MerchantOrderNo::parse("T20260701000001")?,
    );
    let mut answer = Response::new(answer_body.clone());
    sign_response(&mut answer, Some(&question), &key, now)?;
    let mut open = OpenBlock::default();
    let logged = timed(|| {
        let entry = ExchangeEntry {
            about: about.clone(),
            at: Timestamp::from_s(now),
            took: Duration::from_millis(1),
            with: "merchant M100001".to_owned(),
            what: "A3.1".to_owned(),
            result: "ACCEPTED".to_owned(),
            is_unproven: false,
            is_paying: false,
            format: MessageFormat::INTERFACE,
            request: RequestCopy::of(&request, TARGET.to_owned()),
            reply: Some(ReplyCopy::of(&answer)),
        };
        open.append(&entry, Uptime::from_ms(0)).is_ok()
    });
    let sealed = timed(|| seal.seal(place, b"13812345678").is_ok());
    Ok(vec![
        ("verify the request: digest, Ed25519", verify?),
        ("sign the answer: digest, Ed25519", sign?),
        ("read the body strictly", read?),
        ("seal one personal field", sealed?),
        ("an entry of the exchange log: copy, mask", logged?),
    ])
}

fn timed(mut work: impl FnMut() -> bool) -> Result<f64> {
    let start = Instant::now();
    let mut good = true;
    for _ in 0..TIMES {
        good &= std::hint::black_box(work());
    }
    anyhow::ensure!(good, "a measured part failed");
    Ok(start.elapsed().as_secs_f64() * 1_000_000.0 / f64::from(TIMES))
}
