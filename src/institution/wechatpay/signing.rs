//! What is signed and how: requests, the payer's parameters, answers and notifications. All are lines
//! of text, each ended by a line feed, signed with RSASSA-PKCS1-v1_5 and SHA-256.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::crypto::digest::sha256;
use crate::domain::attempt::Stamp;
use crate::domain::identifiers::{Timestamp, hex};
use crate::institution::wechatpay::accounts::WechatAccount;
use crate::signature::SigningKey;

/// The scheme of the `Authorization` header, and the signature type of answers.
const SCHEME: &str = "WECHATPAY2-SHA256-RSA2048";

/// How far the timestamp of a message may be from our clock. Unit: seconds.
const WINDOW_S: u64 = 300;

/// A nonce has 32 characters.
const NONCE_CHARS: usize = 32;

/// The signature of a probe, with which the platform tests whether we verify.
const PROBE: &str = "WECHATPAY/SIGNTEST/";

const TIMESTAMP: HeaderName = HeaderName::from_static("wechatpay-timestamp");
const NONCE: HeaderName = HeaderName::from_static("wechatpay-nonce");
const SIGNATURE: HeaderName = HeaderName::from_static("wechatpay-signature");
const SIGNATURE_TYPE: HeaderName = HeaderName::from_static("wechatpay-signature-type");
/// The serial of a key: of a message the key that signed it, of a request the one that we ask for.
pub(super) const SERIAL: HeaderName = HeaderName::from_static("wechatpay-serial");

/// Lines, each ended by a line feed.
pub(super) fn lines(all: &[&[u8]]) -> Vec<u8> {
    all.iter().fold(Vec::new(), |mut text, line| {
        text.extend_from_slice(line);
        text.push(b'\n');
        text
    })
}

/// Signs lines; `None` if the library fails.
pub(super) fn sign(key: &SigningKey, all: &[&[u8]]) -> Option<String> {
    Some(STANDARD.encode(key.sign(&lines(all))?))
}

/// A nonce of this step. The label and the time keep apart what shares random bytes: a repeated
/// create has those of the first, and must not look like a replay (Q5).
pub(super) fn nonce(label: &str, stamp: &Stamp) -> String {
    let seed = [
        label.as_bytes(),
        &stamp.nonce,
        &stamp.now.ms().to_be_bytes(),
    ];
    let mut text = hex(&sha256(&lines(&seed)));
    text.truncate(NONCE_CHARS);
    text
}

/// What a request is signed for.
pub(super) struct SignedRequest<'a> {
    /// `GET` or `POST`.
    pub(super) method: &'a str,
    /// Path and query, as sent.
    pub(super) target: &'a str,
    /// The body, as sent.
    pub(super) body: &'a [u8],
}

/// The `Authorization` header of a request; `None` if the library fails.
pub(super) fn authorization(
    request: &SignedRequest<'_>,
    mchid: &str,
    key: &SigningKey,
    nonce: &str,
    now: Timestamp,
) -> Option<HeaderValue> {
    let (timestamp, serial) = (now.seconds().to_string(), key.id());
    let signature = sign(
        key,
        &[
            request.method.as_bytes(),
            request.target.as_bytes(),
            timestamp.as_bytes(),
            nonce.as_bytes(),
            request.body,
        ],
    )?;
    let text = format!(
        "{SCHEME} mchid=\"{mchid}\",nonce_str=\"{nonce}\",timestamp=\"{timestamp}\",\
         serial_no=\"{serial}\",signature=\"{signature}\""
    );
    HeaderValue::from_str(&text).ok()
}

/// Why a message is not proven.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WechatUnproven {
    /// Not signed by a key of this account.
    Signature,
    /// Signed too long ago, or in the future.
    Window,
    /// A deliberately wrong signature of the platform.
    Probe,
}

impl WechatUnproven {
    /// A stable word for metrics.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Signature => "signature",
            Self::Window => "outside_window",
            Self::Probe => "probe",
        }
    }
}

/// Verifies that the platform sent this message to this account, over its raw bytes. Fails closed at
/// each step: headers, time, key, signature.
pub(super) fn verify(
    headers: &HeaderMap,
    body: &[u8],
    account: &WechatAccount,
    now: Timestamp,
) -> Result<(), WechatUnproven> {
    let named = |name: &HeaderName| header(headers, name).ok_or(WechatUnproven::Signature);
    let (timestamp, nonce) = (named(&TIMESTAMP)?, named(&NONCE)?);
    let (signature, serial) = (named(&SIGNATURE)?, named(&SERIAL)?);
    if signature.starts_with(PROBE) {
        return Err(WechatUnproven::Probe);
    }
    // Absent, it is this one.
    let is_rsa = !headers.contains_key(&SIGNATURE_TYPE) || named(&SIGNATURE_TYPE)? == SCHEME;
    let is_number = timestamp.bytes().all(|byte| byte.is_ascii_digit());
    let signed_s: Option<i64> = timestamp.parse().ok().filter(|_| is_number);
    let (Some(signed_s), true) = (signed_s, is_rsa) else {
        return Err(WechatUnproven::Signature);
    };
    if now.seconds().abs_diff(signed_s) >= WINDOW_S {
        return Err(WechatUnproven::Window);
    }
    let key = account.proving(serial, now);
    let signature = STANDARD.decode(signature).ok();
    let (Some(key), Some(signature)) = (key, signature) else {
        return Err(WechatUnproven::Signature);
    };
    let signed = lines(&[timestamp.as_bytes(), nonce.as_bytes(), body]);
    if key.verifies(&signed, &signature) {
        Ok(())
    } else {
        Err(WechatUnproven::Signature)
    }
}

/// The value of a header that is there exactly once.
fn header<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    let mut all = headers.get_all(name).iter();
    match (all.next(), all.next()) {
        (Some(only), None) => only.to_str().ok().filter(|text| !text.is_empty()),
        (Some(_) | None, _) => None,
    }
}
