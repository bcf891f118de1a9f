//! The requests of UnionPay's interface: which there are, which fields each must and may have, and
//! the form of each field. Judges a request by itself, without books.

use encoding_rs::GBK;
use http::Uri;

use crate::sandbox::unionpay::answer::UnionPayRejection;
use crate::sandbox::unionpay::clock::parse_beijing;
use crate::sandbox::unionpay::form::UnionPayFields;

/// The one version.
pub(super) const VERSION: &str = "5.1.0";

/// The calls of the interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum UnionPayCall {
    /// The payer's browser arrives with a payment (web and mobile web).
    Front,
    /// A payment for the app's SDK.
    App,
    /// A code that the payer scans.
    Qr,
    /// A payment by the payer's code.
    Barcode,
    /// A query of any transaction.
    Query,
    /// A refund.
    Refund,
    /// A revoke of a payment of the same settlement day.
    Revoke,
    /// A reversal of a payment by the payer's code.
    Reversal,
    /// The reconciliation file.
    File,
    /// A notification to the merchant; no call, but faults can be ordered for it.
    Notification,
}

/// Every call, with the control interface's word.
const CALLS: [(UnionPayCall, &str); 10] = [
    (UnionPayCall::Front, "front"),
    (UnionPayCall::App, "app"),
    (UnionPayCall::Qr, "qr"),
    (UnionPayCall::Barcode, "barcode"),
    (UnionPayCall::Query, "query"),
    (UnionPayCall::Refund, "refund"),
    (UnionPayCall::Revoke, "revoke"),
    (UnionPayCall::Reversal, "reversal"),
    (UnionPayCall::File, "file"),
    (UnionPayCall::Notification, "notification"),
];

impl UnionPayCall {
    /// Parses the control interface's word.
    pub fn from_word(word: &str) -> Option<Self> {
        CALLS
            .iter()
            .find_map(|(call, known)| (*known == word).then_some(*call))
    }

    /// The control interface's word.
    pub fn word(self) -> &'static str {
        CALLS
            .iter()
            .find_map(|(call, word)| (*call == self).then_some(*word))
            .unwrap_or_default()
    }

    /// Whether it asks the payer for money.
    pub(super) fn is_payment(self) -> bool {
        matches!(self, Self::Front | Self::App | Self::Qr | Self::Barcode)
    }

    /// Whether only the browser makes the transaction, and only success is notified.
    pub(super) fn is_front(self) -> bool {
        matches!(self, Self::Front | Self::App)
    }
}

/// A call as the document describes it.
pub(super) struct UnionPayCallShape {
    pub(super) call: UnionPayCall,
    path: &'static str,
    kind: [&'static str; 2],
    biz_types: &'static [&'static str],
    channel_types: &'static [&'static str],
    needs: &'static [&'static str],
    may: &'static [&'static str],
}

const FRONT: &str = "/gateway/api/frontTransReq.do";
const BACK: &str = "/gateway/api/backTransReq.do";
const APP: &str = "/gateway/api/appTransReq.do";
const QUERY: &str = "/gateway/api/queryTrans.do";
/// The path of files, on a host of its own.
const FILES: &str = "/";

/// Both kinds of payments; a refund has the one of its payment.
const ANY: &[&str] = &["000201", "000000"];
const ONLINE: &[&str] = &["000201"];
const DEFAULT: &[&str] = &["000000"];
const PC_OR_MOBILE: &[&str] = &["07", "08"];
const MOBILE: &[&str] = &["08"];
const NONE: &[&str] = &[];

const EVERY_REQUEST: [&str; 11] = [
    "version",
    "encoding",
    "signMethod",
    "certId",
    "signature",
    "txnType",
    "txnSubType",
    "bizType",
    "accessType",
    "merId",
    "txnTime",
];

#[rustfmt::skip]
const SHAPES: [UnionPayCallShape; 9] = [
    UnionPayCallShape { call: UnionPayCall::Front, path: FRONT, kind: ["01", "01"], biz_types: ONLINE, channel_types: PC_OR_MOBILE,
        needs: &["orderId", "txnAmt", "currencyCode", "frontUrl", "backUrl"],
        may: &["payTimeout", "riskRateInfo", "orderDesc", "reqReserved", "reserved", "frontFailUrl"] },
    UnionPayCallShape { call: UnionPayCall::App, path: APP, kind: ["01", "01"], biz_types: ONLINE, channel_types: MOBILE,
        needs: &["orderId", "txnAmt", "currencyCode", "backUrl"],
        may: &["payTimeout", "riskRateInfo", "orderDesc", "reqReserved", "reserved", "frontUrl"] },
    UnionPayCallShape { call: UnionPayCall::Qr, path: BACK, kind: ["01", "07"], biz_types: DEFAULT, channel_types: MOBILE,
        needs: &["orderId", "txnAmt", "currencyCode", "backUrl"],
        may: &["payTimeout", "termId", "riskRateInfo", "orderDesc", "reqReserved", "reserved"] },
    UnionPayCallShape { call: UnionPayCall::Barcode, path: BACK, kind: ["01", "06"], biz_types: DEFAULT, channel_types: MOBILE,
        needs: &["orderId", "txnAmt", "currencyCode", "backUrl", "qrNo", "termId"],
        may: &["accType", "payTimeout", "riskRateInfo", "orderDesc", "reqReserved", "reserved"] },
    UnionPayCallShape { call: UnionPayCall::Query, path: QUERY, kind: ["00", "00"], biz_types: ANY, channel_types: NONE,
        needs: &["orderId"], may: &[] },
    UnionPayCallShape { call: UnionPayCall::Refund, path: BACK, kind: ["04", "00"], biz_types: ANY, channel_types: PC_OR_MOBILE,
        needs: &["orderId", "txnAmt", "backUrl"],
        may: &["origQryId", "origOrderId", "origTxnTime", "currencyCode", "termId", "reqReserved", "reserved"] },
    UnionPayCallShape { call: UnionPayCall::Revoke, path: BACK, kind: ["31", "00"], biz_types: ANY, channel_types: PC_OR_MOBILE,
        needs: &["orderId", "txnAmt", "backUrl", "origQryId"],
        may: &["currencyCode", "termId", "reqReserved", "reserved"] },
    UnionPayCallShape { call: UnionPayCall::Reversal, path: BACK, kind: ["99", "01"], biz_types: DEFAULT, channel_types: MOBILE,
        needs: &["orderId"], may: &["reqReserved", "reserved"] },
    UnionPayCallShape { call: UnionPayCall::File, path: FILES, kind: ["76", "01"], biz_types: DEFAULT, channel_types: NONE,
        needs: &["settleDate", "fileType"], may: &[] },
];

/// Fields of service providers: the access type they belong to; payments need them all.
const OF_PROVIDERS: [(&str, &str); 7] = [
    ("acqInsCode", "1"),
    ("merCatCode", "1"),
    ("merName", "1"),
    ("merAbbr", "1"),
    ("subMerId", "2"),
    ("subMerName", "2"),
    ("subMerAbbr", "2"),
];

/// The names of the fields of service providers.
pub(super) fn provider_fields() -> impl Iterator<Item = &'static str> {
    OF_PROVIDERS.iter().map(|(name, _)| *name)
}

/// Whether requests are posted to this path.
pub(super) fn is_endpoint(path: &str) -> bool {
    SHAPES.iter().any(|shape| shape.path == path)
}

/// Whether the payer's browser posts to this path.
pub(super) fn is_for_browsers(path: &str) -> bool {
    path == FRONT
}

impl UnionPayCallShape {
    /// The call of this path and these types.
    pub(super) fn find(
        path: &str,
        fields: &UnionPayFields,
    ) -> Result<&'static Self, UnionPayRejection> {
        for name in EVERY_REQUEST {
            if fields.get(name).is_none() {
                return Err(UnionPayRejection::at("13", name));
            }
            // The other methods have no certificate, and would lack `certId`.
            if name == "signMethod" && fields.text(name) != "01" {
                return Err(UnionPayRejection::at("11", name));
            }
        }
        let mut here = SHAPES.iter().filter(|shape| shape.path == path);
        let kind = [fields.text("txnType"), fields.text("txnSubType")];
        here.find(|shape| shape.kind == kind)
            .ok_or(UnionPayRejection::at("10", "txnType"))
    }

    /// Whether the fields are those of this call, each in its form.
    pub(super) fn check(&self, fields: &UnionPayFields) -> Result<(), UnionPayRejection> {
        let has_channel = !self.channel_types.is_empty();
        let channel = has_channel.then_some("channelType");
        for name in self.needs.iter().copied().chain(channel) {
            if fields.get(name).is_none() {
                return Err(UnionPayRejection::at("13", name));
            }
        }
        self.check_access(fields)?;
        self.check_origin(fields)?;
        for (name, value) in fields.pairs() {
            let known = EVERY_REQUEST.contains(&name)
                || self.needs.contains(&name)
                || self.may.contains(&name)
                || OF_PROVIDERS.iter().any(|(field, _)| *field == name)
                || has_channel && name == "channelType";
            let allowed = match name {
                "bizType" => self.biz_types.contains(&value),
                "channelType" => self.channel_types.contains(&value),
                _ => true,
            };
            if !known || !allowed || !is_well_formed(name, value) {
                return Err(UnionPayRejection::at("10", name));
            }
        }
        Ok(())
    }

    /// The fields of another access type must not occur.
    fn check_access(&self, fields: &UnionPayFields) -> Result<(), UnionPayRejection> {
        let access = fields.text("accessType");
        for (name, of) in OF_PROVIDERS {
            let is_given = fields.get(name).is_some();
            if is_given && of != access {
                return Err(UnionPayRejection::at("10", name));
            }
            if !is_given && of == access && self.call.is_payment() {
                return Err(UnionPayRejection::at("13", name));
            }
        }
        Ok(())
    }

    /// A refund names its payment in one way; by number and time only for codes.
    fn check_origin(&self, fields: &UnionPayFields) -> Result<(), UnionPayRejection> {
        if self.call != UnionPayCall::Refund {
            return Ok(());
        }
        let given =
            ["origQryId", "origOrderId", "origTxnTime"].map(|name| fields.get(name).is_some());
        match given {
            [true, false, false] => Ok(()),
            [false, true, true] if fields.text("bizType") == "000000" => Ok(()),
            [false, false, false] => Err(UnionPayRejection::at("13", "origQryId")),
            _ => Err(UnionPayRejection::at("10", "origQryId")),
        }
    }
}

/// Whether a value has the documented form of its field. Unknown fields have none.
pub(super) fn is_well_formed(name: &str, value: &str) -> bool {
    let chars = value.chars().count();
    let digits = value.bytes().all(|byte| byte.is_ascii_digit());
    let alphanumeric = value.bytes().all(|byte| byte.is_ascii_alphanumeric());
    match name {
        "version" => value == VERSION,
        "encoding" => value == "UTF-8",
        "currencyCode" => value == "156",
        "signMethod" | "txnType" | "txnSubType" | "channelType" => digits && chars == 2,
        "bizType" => digits && chars == 6,
        "certId" => digits && (1..=64).contains(&chars),
        "signature" => (1..=1024).contains(&chars),
        "accessType" => ["0", "1", "2"].contains(&value),
        "merId" => digits && chars == 15,
        "orderId" | "origOrderId" => alphanumeric && (8..=32).contains(&chars),
        "txnTime" | "origTxnTime" | "payTimeout" => parse_beijing(value).is_some(),
        "txnAmt" => digits && (1..=12).contains(&chars) && !value.starts_with('0'),
        "frontUrl" | "backUrl" | "frontFailUrl" => is_address(value),
        "orderDesc" => chars <= 32 && !value.chars().any(char::is_control),
        "riskRateInfo" | "reserved" => is_nested(value),
        "reqReserved" => value.len() <= 1024 && !value.contains(is_structural),
        "termId" => alphanumeric && chars == 8,
        "qrNo" => digits && chars == 19 && value.starts_with("62"),
        "accType" => value == "01",
        "origQryId" => digits && chars == 21,
        "fileType" => value == "00",
        "acqInsCode" => digits && (8..=11).contains(&chars),
        "merCatCode" | "settleDate" => digits && chars == 4,
        "merName" | "merAbbr" | "subMerName" => is_text(value, 40),
        "subMerId" => alphanumeric && (5..=15).contains(&chars),
        "subMerAbbr" => chars <= 8 && value.chars().all(char::is_alphanumeric),
        _ => false,
    }
}

/// Characters that a message uses itself.
fn is_structural(character: char) -> bool {
    "&={}[]\"'".contains(character) || character.is_whitespace()
}

/// Text of at most so many bytes in GBK.
fn is_text(value: &str, bytes_max: usize) -> bool {
    let (encoded, _, has_unmappable) = GBK.encode(value);
    !has_unmappable && encoded.len() <= bytes_max && !value.chars().any(char::is_control)
}

/// `{name=value&name=value}`, one level deep.
fn is_nested(value: &str) -> bool {
    let inner = value
        .strip_prefix('{')
        .and_then(|rest| rest.strip_suffix('}'));
    inner.is_some_and(|inner| {
        !inner.contains(['{', '}', '[', ']'])
            && inner.split('&').all(|pair| {
                let pair = pair.split_once('=');
                pair.is_some_and(|(name, value)| !name.is_empty() && !value.is_empty())
            })
    })
}

fn is_address(value: &str) -> bool {
    let uri: Option<Uri> = value.parse().ok();
    let is_web = |uri: Uri| {
        matches!(uri.scheme_str(), Some("http" | "https"))
            && uri.host().is_some_and(|host| !host.is_empty())
    };
    value.len() <= 256 && uri.is_some_and(is_web)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The words of the control interface name one call each.
    #[test]
    fn words_name_one_call_each() {
        for (call, word) in CALLS {
            assert_eq!(
                (UnionPayCall::from_word(word), call.word()),
                (Some(call), word)
            );
        }
    }

    /// Each field has its form.
    #[test]
    fn fields_are_judged_by_their_form() {
        for (name, good, bad) in [
            ("orderId", "5GM20260101000001", "5GM-20260101000001"),
            ("orderId", "12345678", "1234567"),
            ("txnAmt", "1001", "01001"),
            ("txnAmt", "1", "0"),
            ("txnAmt", "100", "1.00"),
            ("currencyCode", "156", "CNY"),
            ("reqReserved", "a-b_c", "a=b"),
            ("reqReserved", "a", "a b"),
            (
                "riskRateInfo",
                "{commodityName=话费充值}",
                "commodityName=话费充值",
            ),
            ("reserved", "{a=1&b=2}", "{a={b=1}}"),
            ("subMerId", "00001", "0001"),
            (
                "subMerName",
                "示例商城有限公司",
                "示例商城有限公司示例商城有限公司示例商城有",
            ),
            ("subMerAbbr", "示例商城", "示例 商城"),
            (
                "backUrl",
                "https://pay.example.com/a?b=1",
                "pay.example.com/a",
            ),
            ("payTimeout", "20260101080300", "20260101086000"),
            ("merId", "777290058110048", "77729005811004"),
        ] {
            assert!(is_well_formed(name, good), "{name}={good}");
            assert!(!is_well_formed(name, bad), "{name}={bad}");
        }
        assert!(!is_well_formed("merchantName", "x"));
    }
}
