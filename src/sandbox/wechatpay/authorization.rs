//! Who calls: the Authorization header, judged as strictly as the protocol words it, and the other
//! headers that every request must have (sections 2 and 3).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderName, USER_AGENT};
use http::{Method, Request};

use crate::crypto::rsa::RsaPublicKey;
use crate::sandbox::wechatpay::merchants::{EnrolledMerchant, EnrolledMerchants};
use crate::sandbox::wechatpay::platform::PlatformKeys;
use crate::sandbox::wechatpay::refusal::WechatRefusal;

/// The scheme, with the blank that follows it.
const SCHEME: &str = "WECHATPAY2-SHA256-RSA2048 ";
const PARTS: [&str; 5] = ["mchid", "nonce_str", "timestamp", "serial_no", "signature"];
/// How far a request's moment may be from the platform's clock. Unit: seconds.
const WINDOW_S: u64 = 300;
const NONCE_CHARS_MAX: usize = 64;

/// What a request must have besides its signature.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Expected {
    /// Answered in JSON.
    Json,
    /// A file, of whatever type.
    File,
}

/// The five values of an Authorization header.
#[derive(Debug, PartialEq, Eq)]
struct AuthorizationParts<'a> {
    mchid: &'a str,
    nonce: &'a str,
    timestamp: &'a str,
    serial: &'a str,
    signature: &'a str,
}

fn parse(header: &str) -> Result<AuthorizationParts<'_>, WechatRefusal> {
    let malformed = |issue: String| WechatRefusal::signature("authorization", issue);
    let list = header
        .strip_prefix(SCHEME)
        .ok_or_else(|| malformed(format!("the scheme is not {}", SCHEME.trim_end())))?;
    let mut values = [None; PARTS.len()];
    for part in list.split(',') {
        let (name, quoted) = part
            .split_once('=')
            .ok_or_else(|| malformed(format!("{part:?} is no name and value")))?;
        let value = quoted
            .strip_prefix('"')
            .and_then(|rest| rest.strip_suffix('"'))
            .filter(|value| !value.is_empty() && !value.contains('"'));
        let value =
            value.ok_or_else(|| malformed(format!("{name}: a value is in double quotes")))?;
        let at = PARTS.iter().position(|known| *known == name);
        let place = at.and_then(|at| values.get_mut(at));
        let place = place.ok_or_else(|| malformed(format!("{name:?} is not a parameter")))?;
        if place.replace(value).is_some() {
            return Err(malformed(format!("{name} comes twice")));
        }
    }
    let [
        Some(mchid),
        Some(nonce),
        Some(timestamp),
        Some(serial),
        Some(signature),
    ] = values
    else {
        let lacking = PARTS.iter().zip(values).find(|(_, value)| value.is_none());
        let name = lacking.map_or("", |(name, _)| name);
        return Err(malformed(format!("{name} is missing")));
    };
    Ok(AuthorizationParts {
        mchid,
        nonce,
        timestamp,
        serial,
        signature,
    })
}

/// The merchant that signed a request, and the key it wants the answer signed with.
pub(super) fn verify<'a>(
    merchants: &'a EnrolledMerchants,
    request: &Request<Bytes>,
    now_s: i64,
) -> Result<&'a EnrolledMerchant, WechatRefusal> {
    let header = one(request, &AUTHORIZATION)?
        .ok_or_else(|| WechatRefusal::signature("authorization", "the header is missing"))?;
    let parts = parse(header)?;
    let unfit = |field, issue: &str| Err(WechatRefusal::signature(field, issue));
    let Some(merchant) = merchants.find(parts.mchid) else {
        return unfit("mchid", "no such merchant");
    };
    let alphanumeric = parts.nonce.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if !alphanumeric || parts.nonce.len() > NONCE_CHARS_MAX {
        return unfit("nonce_str", "letters and digits, 32 of them");
    }
    let digits = parts.timestamp.bytes().all(|byte| byte.is_ascii_digit());
    let moment: Option<i64> = digits.then(|| parts.timestamp.parse().ok()).flatten();
    let Some(moment) = moment else {
        return unfit("timestamp", "seconds since 1970, decimal");
    };
    if moment.abs_diff(now_s) > WINDOW_S {
        return unfit("timestamp", "more than 5 minutes from the platform's clock");
    }
    let Some(key) = merchant.key(parts.serial) else {
        return unfit("serial_no", "not a certificate of this merchant");
    };
    let Ok(signature) = STANDARD.decode(parts.signature) else {
        return unfit("signature", "not Base64");
    };
    if !verifies(key, request, (parts.timestamp, parts.nonce), &signature) {
        return unfit("signature", "does not fit what was sent");
    }
    Ok(merchant)
}

fn verifies(
    key: &RsaPublicKey,
    request: &Request<Bytes>,
    (timestamp, nonce): (&str, &str),
    signature: &[u8],
) -> bool {
    let target = request.uri().path_and_query();
    let target = target.map_or("/", |target| target.as_str());
    let method = request.method();
    let mut text = format!("{method}\n{target}\n{timestamp}\n{nonce}\n").into_bytes();
    text.extend_from_slice(request.body());
    text.push(b'\n');
    key.verify(&text, signature)
}

/// The headers that a request must have: `User-Agent`, `Accept`, and `Content-Type` with a body.
pub(super) fn check_headers(
    request: &Request<Bytes>,
    expected: Expected,
) -> Result<(), WechatRefusal> {
    let agent = one(request, &USER_AGENT)?.unwrap_or_default();
    if agent.trim().is_empty() {
        return Err(WechatRefusal::header("User-Agent", "missing or empty"));
    }
    let accept = one(request, &ACCEPT)?.unwrap_or_default();
    let takes_json = |part: &str| {
        let media_type = part.split(';').next().unwrap_or_default().trim();
        media_type.eq_ignore_ascii_case("application/json") || media_type == "*/*"
    };
    let accepted = match expected {
        Expected::Json => accept.split(',').any(takes_json),
        Expected::File => !accept.trim().is_empty(),
    };
    if !accepted {
        return Err(WechatRefusal::header("Accept", "application/json"));
    }
    let content_type = one(request, &CONTENT_TYPE)?.unwrap_or_default();
    let media_type = content_type.split(';').next().unwrap_or_default().trim();
    let is_json = media_type.eq_ignore_ascii_case("application/json");
    if *request.method() == Method::POST && !is_json {
        return Err(WechatRefusal::header("Content-Type", "application/json"));
    }
    if *request.method() == Method::GET && !request.body().is_empty() {
        return Err(WechatRefusal::member("", "a GET has no body"));
    }
    Ok(())
}

/// The key that the answer is to be signed with, if the request names one.
pub(super) fn key_asked(
    request: &Request<Bytes>,
    keys: &PlatformKeys,
) -> Result<Option<String>, WechatRefusal> {
    let name = HeaderName::from_static("wechatpay-serial");
    let Some(asked) = one(request, &name)? else {
        return Ok(None);
    };
    if keys.knows(asked) {
        return Ok(Some(asked.to_owned()));
    }
    Err(WechatRefusal::header(
        "Wechatpay-Serial",
        "not a key of the platform",
    ))
}

/// A header that may come once.
fn one<'a>(
    request: &'a Request<Bytes>,
    name: &HeaderName,
) -> Result<Option<&'a str>, WechatRefusal> {
    let mut values = request.headers().get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => value
            .to_str()
            .map(Some)
            .map_err(|_| WechatRefusal::header(name.as_str(), "not plain text")),
        (Some(_), Some(_)) => Err(WechatRefusal::header(name.as_str(), "comes twice")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RIGHT: &str = "WECHATPAY2-SHA256-RSA2048 mchid=\"1\",nonce_str=\"2\",timestamp=\"3\",\
                         serial_no=\"4\",signature=\"5==\"";

    /// Section 3 of the protocol: the order of the parameters is free, their form is not.
    #[test]
    fn five_quoted_parameters_are_read_in_any_order() {
        let parts = parse(RIGHT).unwrap();
        assert_eq!((parts.mchid, parts.signature), ("1", "5=="));
        let turned = "WECHATPAY2-SHA256-RSA2048 signature=\"5==\",serial_no=\"4\",\
                      timestamp=\"3\",nonce_str=\"2\",mchid=\"1\"";
        assert_eq!(parse(turned).unwrap(), parts);
    }

    #[test]
    fn another_form_is_refused() {
        for (from, to) in [
            ("WECHATPAY2-SHA256-RSA2048 ", "WECHATPAY2-SM2-WITH-SM3 "),
            ("WECHATPAY2-SHA256-RSA2048 ", ""),
            ("mchid=\"1\",", ""),
            ("mchid=\"1\"", "mchid=1"),
            ("mchid=\"1\"", "mchid=\"\""),
            ("mchid=\"1\"", "mchid=\"1\",mchid=\"1\""),
            ("mchid=\"1\"", "mch_id=\"1\""),
            ("\",nonce_str", "\", nonce_str"),
        ] {
            let header = RIGHT.replacen(from, to, 1);
            let refusal = parse(&header).unwrap_err();
            assert_eq!(refusal.code.word(), "SIGN_ERROR", "{header}");
        }
    }
}
