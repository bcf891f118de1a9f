//! Parses refund requests at a simulated institution (A3.4, X-5).

use std::fmt;

use serde::Deserialize;

use crate::sandbox::institution::ledger::PaymentKey;
use crate::sandbox::institution::terms::{
    all_digits, digits, is_number, is_text, read_cents, text_or_number,
};
use crate::sandbox::refusal::SandboxRefusal;

/// Prefix of the numbers generated here, for refunds without a merchant's number.
pub(super) const OWN_NUMBERS: &str = "AUTO-";
const REASON_CHARS_MAX: usize = 128;
/// Most digits before the decimal point.
const YUAN_DIGITS_MAX: usize = 13;

/// A3.4's request.
#[derive(Clone, PartialEq, Eq)]
pub struct RefundTerms {
    /// The merchant's account at the institution.
    pub merchant_id: String,
    /// The merchant's number of the payment.
    pub merchant_order_no: String,
    /// The payment's `orderDate`, `yyyyMMdd`.
    pub order_date: String,
    /// The amount to refund. Unit: cents.
    pub sum_cents: i64,
    /// The payer's mobile number.
    pub mobile_no: String,
    /// The merchant's number of the refund.
    pub merchant_refund_no: Option<String>,
    /// The reason.
    pub refund_reason: Option<String>,
    /// The callback URL.
    pub notice_url: Option<String>,
}

/// Keeps personal data out of logs.
impl fmt::Debug for RefundTerms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (of, cents) = (&self.merchant_order_no, self.sum_cents);
        write!(f, "RefundTerms(of {of}, {cents} cents)")
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RefundRequestBody {
    merchant_id: String,
    merchant_order_no: String,
    order_date: String,
    #[serde(deserialize_with = "text_or_number")]
    refund_amount: String,
    #[serde(deserialize_with = "digits")]
    mobile_no: String,
    #[serde(default)]
    merchant_refund_no: Option<String>,
    #[serde(default)]
    refund_reason: Option<String>,
    #[serde(default)]
    notice_url: Option<String>,
}

impl RefundTerms {
    /// Parses and validates a refund call's body.
    pub(super) fn read(body: &[u8]) -> Result<Self, SandboxRefusal> {
        let wire: RefundRequestBody =
            serde_json::from_slice(body).map_err(|fault| SandboxRefusal::unreadable(&fault))?;
        let refund_no = wire.merchant_refund_no.as_deref();
        let reason = wire.refund_reason.as_deref();
        let notice_url = wire.notice_url.as_deref();
        let checks = [
            ("merchantId", is_number(&wire.merchant_id)),
            ("merchantOrderNo", is_number(&wire.merchant_order_no)),
            (
                "orderDate",
                wire.order_date.len() == 8 && all_digits(&wire.order_date),
            ),
            ("mobileNo", wire.mobile_no.len() == 11),
            (
                "merchantRefundNo",
                refund_no.is_none_or(|it| is_number(it) && !it.starts_with(OWN_NUMBERS)),
            ),
            (
                "refundReason",
                reason.is_none_or(|it| is_text(it) && it.chars().count() <= REASON_CHARS_MAX),
            ),
            (
                "noticeUrl",
                notice_url.is_none_or(|it| it.starts_with("https://")),
            ),
        ];
        for (field, right) in checks {
            if !right {
                return Err(
                    SandboxRefusal::of(400, "field_malformed", "see the interface").at(field),
                );
            }
        }
        Ok(Self {
            sum_cents: read_sum(&wire.refund_amount)?,
            merchant_id: wire.merchant_id,
            merchant_order_no: wire.merchant_order_no,
            order_date: wire.order_date,
            mobile_no: wire.mobile_no,
            merchant_refund_no: wire.merchant_refund_no,
            refund_reason: wire.refund_reason,
            notice_url: wire.notice_url,
        })
    }

    /// The payment's key in the ledger.
    pub(super) fn payment_key(&self) -> PaymentKey {
        (self.merchant_id.clone(), self.merchant_order_no.clone())
    }
}

/// Parses an amount above zero without loss; refuses unreadable, too precise and out-of-range ones.
fn read_sum(text: &str) -> Result<i64, SandboxRefusal> {
    let refused =
        |status, code, detail| SandboxRefusal::of(status, code, detail).at("refundAmount");
    let (yuan, fen) = text.split_once('.').unwrap_or((text, "0"));
    let padded = yuan.len() > 1 && yuan.starts_with('0');
    if yuan.is_empty() || fen.is_empty() || padded || !all_digits(yuan) || !all_digits(fen) {
        let detail = "an amount such as 12.30: digits and at most one point";
        return Err(refused(400, "amount_unreadable", detail));
    }
    if fen.len() > 2 {
        let detail = "at most two digits after the point";
        return Err(refused(422, "amount_too_precise", detail));
    }
    let cents = read_cents(text).filter(|cents| yuan.len() <= YUAN_DIGITS_MAX && *cents > 0);
    let detail = "above zero, at most thirteen digits before the point";
    cents.ok_or_else(|| refused(422, "amount_out_of_range", detail))
}

/// X-5's request: the account, and at least one of the refund's two numbers.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct RefundReference {
    pub(super) merchant_id: String,
    #[serde(default)]
    pub(super) merchant_refund_no: Option<String>,
    #[serde(default)]
    pub(super) refund_order_no: Option<String>,
}

impl RefundReference {
    pub(super) fn read(body: &[u8]) -> Result<Self, SandboxRefusal> {
        let reference: Self =
            serde_json::from_slice(body).map_err(|fault| SandboxRefusal::unreadable(&fault))?;
        if reference.merchant_refund_no.is_none() && reference.refund_order_no.is_none() {
            let detail = "merchantRefundNo or refundOrderNo";
            return Err(SandboxRefusal::of(400, "field_missing", detail).at("merchantRefundNo"));
        }
        Ok(reference)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// G-11
    #[test]
    fn a_refunds_amount_is_exact_or_refused() {
        for (text, sum) in [("12.30", 1_230), ("12.3", 1_230), ("0.01", 1), ("7", 700)] {
            assert_eq!(read_sum(text).unwrap(), sum, "{text}");
        }
        for (text, status, code) in [
            ("", 400, "amount_unreadable"),
            ("1.", 400, "amount_unreadable"),
            (".5", 400, "amount_unreadable"),
            ("-1", 400, "amount_unreadable"),
            ("1e2", 400, "amount_unreadable"),
            ("012.00", 400, "amount_unreadable"),
            ("null", 400, "amount_unreadable"),
            ("1.230", 422, "amount_too_precise"),
            ("0", 422, "amount_out_of_range"),
            ("0.00", 422, "amount_out_of_range"),
            ("99999999999999", 422, "amount_out_of_range"),
        ] {
            let refusal = read_sum(text).unwrap_err();
            assert_eq!((refusal.status, refusal.code), (status, code), "{text}");
            assert_eq!(refusal.field.as_deref(), Some("refundAmount"));
        }
    }
}
