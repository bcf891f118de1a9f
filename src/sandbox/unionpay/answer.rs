//! What UnionPay answers: the codes with their texts, the fields every answer echoes, and the raw,
//! signed text, which is not encoded.

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Response, StatusCode};

use crate::sandbox::unionpay::crypto::{
    UnionPayCertificateChoice, UnionPaySigningSet, UnionPaySigningWay,
};
use crate::sandbox::unionpay::faults::UnionPayFault;
use crate::sandbox::unionpay::form::UnionPayFields;
use crate::sandbox::unionpay::request::{VERSION, is_well_formed};

/// Fields that an answer repeats from its request, if they are well-formed there.
const ECHOED: [&str; 8] = [
    "txnType",
    "txnSubType",
    "bizType",
    "accessType",
    "merId",
    "orderId",
    "txnTime",
    "reqReserved",
];

/// A request that is not carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct UnionPayRejection {
    pub(super) code: &'static str,
    /// The field at fault, or nothing.
    pub(super) field: &'static str,
}

impl UnionPayRejection {
    pub(super) fn of(code: &'static str) -> Self {
        Self { code, field: "" }
    }

    /// Names the field at fault. A name that the document does not know is not repeated, because
    /// an answer is not encoded.
    pub(super) fn at(code: &'static str, field: &str) -> Self {
        let field = NAMED.iter().find(|known| **known == field);
        Self {
            code,
            field: field.copied().unwrap_or("unknown field"),
        }
    }

    /// `respMsg`: text, and a detail of seven digits.
    pub(super) fn message(self) -> String {
        let blank = if self.field.is_empty() { "" } else { " " };
        let (text, detail) = text_of(self.code);
        format!("{text}{blank}{}[{detail}]", self.field)
    }
}

#[rustfmt::skip]
const NAMED: [&str; 38] = [
    "version", "encoding", "signMethod", "certId", "signature", "txnType", "txnSubType", "bizType", "channelType",
    "accessType", "merId", "txnTime", "orderId", "txnAmt", "currencyCode", "frontUrl", "frontFailUrl", "backUrl",
    "payTimeout", "riskRateInfo", "orderDesc", "reqReserved", "reserved", "termId", "qrNo", "accType", "origQryId",
    "origOrderId", "origTxnTime", "settleDate", "fileType", "acqInsCode", "merCatCode", "merName", "merAbbr",
    "subMerId", "subMerName", "subMerAbbr",
];

/// The codes that the counterpart uses, with text and detail.
const TEXTS: [(&str, &str, &str); 24] = [
    ("00", "成功", "0000000"),
    ("01", "交易失败", "1000001"),
    ("02", "系统未开放或暂时关闭", "1000002"),
    ("03", "交易通讯超时", "1000003"),
    ("04", "交易状态未明", "1000004"),
    ("05", "交易已受理，请稍后查询交易结果", "1000005"),
    ("06", "系统繁忙，请稍后再试", "1000006"),
    ("10", "报文格式错误", "1000010"),
    ("11", "验证签名失败", "9100004"),
    ("12", "重复交易", "3000012"),
    ("13", "报文交易要素缺失", "1000013"),
    ("30", "交易未通过，商户号不存在", "3000030"),
    ("32", "无此交易权限", "3000032"),
    ("34", "查无此交易", "2600000"),
    ("35", "原交易不存在或状态不正确", "3000035"),
    ("36", "与原交易信息不符", "3000036"),
    ("37", "已超过最大查询次数或操作过于频繁", "3000037"),
    ("44", "超过交易时间限制", "3000044"),
    ("60", "交易失败，详情请咨询您的发卡行", "6000060"),
    ("61", "输入的卡号无效，请确认后输入", "6000061"),
    ("69", "付款超时", "6000069"),
    ("88", "", "8888888"),
    ("98", "文件不存在", "3000098"),
    ("A6", "有缺陷的成功", "0000106"),
];

/// The text and the seven digits of a code.
fn text_of(code: &str) -> (&'static str, &'static str) {
    TEXTS
        .iter()
        .find_map(|(known, text, detail)| (*known == code).then_some((*text, *detail)))
        .unwrap_or(("", "9999999"))
}

/// `respMsg` of a code without a field.
pub(super) fn message_of(code: &str) -> String {
    let (text, detail) = text_of(code);
    format!("{text}[{detail}]")
}

/// The fields of an answer before its signature.
pub(super) fn answer_to(
    request: &UnionPayFields,
    rejection: UnionPayRejection,
    more: &UnionPayFields,
) -> UnionPayFields {
    let mut fields = opening();
    for name in ECHOED {
        let echoed = request.get(name);
        if let Some(value) = echoed.filter(|value| is_well_formed(name, value)) {
            fields.set(name, value);
        }
    }
    fields.set("respCode", rejection.code);
    fields.set("respMsg", rejection.message());
    for (name, value) in more.pairs() {
        fields.set(name, value);
    }
    fields
}

/// What every message of UnionPay begins with.
pub(super) fn opening() -> UnionPayFields {
    let mut fields = UnionPayFields::default();
    fields.set("version", VERSION);
    fields.set("encoding", "UTF-8");
    fields.set("signMethod", "01");
    fields
}

/// Adds certificate and signature, as a fault may want them.
pub(super) fn sealed(
    mut fields: UnionPayFields,
    signing: &UnionPaySigningSet,
    fault: Option<UnionPayFault>,
    line_end: &str,
) -> UnionPayFields {
    let choice = match fault {
        Some(UnionPayFault::OtherName) => UnionPayCertificateChoice::OtherName,
        Some(UnionPayFault::ExpiredCertificate) => UnionPayCertificateChoice::Expired,
        Some(UnionPayFault::ForeignChain) => UnionPayCertificateChoice::Foreign,
        _ => UnionPayCertificateChoice::Right,
    };
    let way = match fault {
        Some(UnionPayFault::WrongSignature) => UnionPaySigningWay::Forged,
        Some(UnionPayFault::SingleHash) => UnionPaySigningWay::SingleHash,
        _ => UnionPaySigningWay::Right,
    };
    if fault == Some(UnionPayFault::Downgrade) {
        fields.set("signMethod", "11");
    }
    fields.set("signPubKeyCert", signing.certificate(choice, line_end));
    let signature = signing.sign(&fields, way);
    if fault != Some(UnionPayFault::Unsigned) {
        fields.set("signature", signature);
    }
    fields
}

/// The raw text of an answer.
pub(super) fn raw(fields: &UnionPayFields, fault: Option<UnionPayFault>) -> Response<Bytes> {
    let text = fields.raw_text();
    let text = if fault == Some(UnionPayFault::Wrapped) {
        format!("{{{text}}}")
    } else {
        text
    };
    written(StatusCode::OK, "text/plain;charset=UTF-8", text)
}

/// A page that is no answer, as proxies and maintenance send it.
pub(super) fn html_page(status: StatusCode) -> Response<Bytes> {
    let text = "<!DOCTYPE html><html lang=\"zh-CN\"><head><meta charset=\"utf-8\">\
                <title>系统维护</title></head><body><h1>系统维护中</h1>\
                <p>respCode=00&amp;respMsg=成功</p></body></html>";
    written(status, "text/html;charset=UTF-8", text.to_owned())
}

/// A response of any kind; never cached.
pub(super) fn written(
    status: StatusCode,
    media_type: &'static str,
    body: String,
) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An answer is not encoded, so it repeats nothing that could pass for another field.
    #[test]
    fn malformed_values_are_not_repeated() {
        let mut request = UnionPayFields::default();
        request.set("orderId", "12345678&respCode=00");
        request.set("merId", "777290058110048");
        let rejection = UnionPayRejection::at("10", "x&respCode=00");
        let text = answer_to(&request, rejection, &UnionPayFields::default()).raw_text();
        assert_eq!(text.matches("respCode=").count(), 1, "{text}");
        assert!(text.contains("merId=777290058110048&respCode=10"));
        assert!(text.ends_with("unknown field[1000010]"), "{text}");
    }

    /// Every code has a text and a detail of seven digits.
    #[test]
    fn messages_end_with_seven_digits() {
        for (code, _, detail) in TEXTS {
            assert_eq!(detail.len(), 7, "{code}");
        }
        assert_eq!(message_of("34"), "查无此交易[2600000]");
        assert_eq!(
            UnionPayRejection::at("13", "backUrl").message(),
            "报文交易要素缺失 backUrl[1000013]"
        );
    }
}
