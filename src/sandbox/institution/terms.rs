//! The requests of the dialect as a pretend institution reads them: every field by name, type and
//! form, unknown and doubled ones refused.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _};
use serde_json::value::RawValue;

use crate::sandbox::institution::ledger::PaymentKey;
use crate::sandbox::refusal::SandboxRefusal;

const MINUTES_DEFAULT: u16 = 15;
const MINUTES_MAX: u16 = 1_440;
const TEXT_CHARS_MAX: usize = 256;

/// A3.1's request, as far as it is the institution's business.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PaymentTerms {
    /// Kind of transaction.
    pub transaction_type: String,
    /// Chosen mode: how the payer pays.
    pub business_type: String,
    /// Where the result is sent.
    pub bank_return_url: String,
    /// The merchant's number of the payment.
    pub merchant_order_no: String,
    /// Whom the payer pays.
    pub merchant_name: String,
    /// `yyyyMMdd`.
    pub order_date: String,
    /// Unit: cents.
    #[serde(rename = "orderAmount", deserialize_with = "cents")]
    pub sum_cents: i64,
    /// ISO 4217; `CNY` where none was given (G-2).
    #[serde(default = "yuan")]
    pub currency: String,
    /// The merchant's account at the institution.
    pub merchant_id: String,
    /// The payer's number (G-1).
    #[serde(deserialize_with = "digits")]
    pub mobile_no: String,
    /// What is bought: its number.
    #[serde(default)]
    pub goods_no: Option<String>,
    /// What is bought.
    #[serde(default)]
    pub goods_name: Option<String>,
    /// What is bought, at length.
    #[serde(default)]
    pub goods_description: Option<String>,
    /// How long the payer may take. Unit: minutes.
    #[serde(default = "minutes")]
    pub expire_minutes: u16,
    /// Returned as it came.
    #[serde(default)]
    pub attach: Option<String>,
}

/// Whose payer it is stays out of logs.
impl fmt::Debug for PaymentTerms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (number, cents) = (&self.merchant_order_no, self.sum_cents);
        write!(f, "Terms({number}, {cents} cents)")
    }
}

impl PaymentTerms {
    /// Reads and judges a create call's body.
    pub(super) fn read(body: &[u8]) -> Result<Self, SandboxRefusal> {
        let terms: Self =
            serde_json::from_slice(body).map_err(|fault| SandboxRefusal::unreadable(&fault))?;
        let number = |text: &str| is_number(text);
        let checks = [
            ("merchantOrderNo", number(&terms.merchant_order_no)),
            ("merchantId", number(&terms.merchant_id)),
            (
                "orderDate",
                terms.order_date.len() == 8 && all_digits(&terms.order_date),
            ),
            ("mobileNo", terms.mobile_no.len() == 11),
            (
                "bankReturnUrl",
                terms.bank_return_url.starts_with("https://"),
            ),
            ("merchantName", is_text(&terms.merchant_name)),
            ("goodsNo", terms.goods_no.as_deref().is_none_or(is_text)),
            ("goodsName", terms.goods_name.as_deref().is_none_or(is_text)),
            (
                "goodsDescription",
                terms.goods_description.as_deref().is_none_or(is_text),
            ),
            (
                "expireMinutes",
                (1..=MINUTES_MAX).contains(&terms.expire_minutes),
            ),
        ];
        for (field, right) in checks {
            if !right {
                return Err(
                    SandboxRefusal::of(400, "field_malformed", "see the interface").at(field),
                );
            }
        }
        terms.judge()?;
        Ok(terms)
    }

    /// What was understood and is impossible here.
    fn judge(&self) -> Result<(), SandboxRefusal> {
        let impossible = |code, detail| Err(SandboxRefusal::of(422, code, detail));
        // Without an agreement a password-free payment is offered the password page.
        let offered = ["PASSWORD_PAY", "PASSWORD_FREE_PAY", "SCAN_PAY"];
        if !offered.contains(&self.transaction_type.as_str()) {
            return impossible("not_offered", "no such transaction type here");
        }
        if !matches!(
            self.business_type.as_str(),
            "WEBVIEW" | "NATIVE" | "CHATBOT"
        ) {
            return impossible("not_offered", "modes: WEBVIEW, NATIVE, CHATBOT");
        }
        if self.currency != "CNY" {
            return impossible("currency_unknown", "currency: CNY");
        }
        if self.sum_cents <= 0 {
            return impossible("amount_out_of_range", "the sum must be above zero");
        }
        Ok(())
    }

    /// Under what it stands in the book.
    pub(super) fn key(&self) -> PaymentKey {
        (self.merchant_id.clone(), self.merchant_order_no.clone())
    }

    pub(super) fn lifetime_s(&self) -> i64 {
        i64::from(self.expire_minutes).saturating_mul(60)
    }
}

/// A query's or a close call's request: two numbers, and whatever else must match.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct PaymentReference {
    pub(super) merchant_order_no: String,
    pub(super) merchant_id: String,
    #[serde(default)]
    pub(super) pay_order_no: Option<String>,
    #[serde(default)]
    pub(super) create_date: Option<String>,
    #[serde(default, deserialize_with = "digits_if_any")]
    pub(super) mobile_no: Option<String>,
}

impl PaymentReference {
    pub(super) fn read(body: &[u8]) -> Result<Self, SandboxRefusal> {
        serde_json::from_slice(body).map_err(|fault| SandboxRefusal::unreadable(&fault))
    }

    pub(super) fn key(&self) -> PaymentKey {
        (self.merchant_id.clone(), self.merchant_order_no.clone())
    }
}

/// Cents as the wire has them: `12.30`.
pub(super) fn yuan_text(cents: i64) -> String {
    format!("{}.{:02}", cents / 100, cents % 100)
}

fn yuan() -> String {
    "CNY".to_owned()
}

fn minutes() -> u16 {
    MINUTES_DEFAULT
}

pub(super) fn all_digits(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}

pub(super) fn is_number(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    (1..=32).contains(&text.len()) && text.bytes().all(allowed)
}

pub(super) fn is_text(text: &str) -> bool {
    text.chars().count() <= TEXT_CHARS_MAX && !text.chars().any(char::is_control)
}

/// A string, or a number without loss: its text either way.
pub(super) fn text_or_number<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    let raw = <&RawValue>::deserialize(from)?.get();
    if raw.starts_with('"') {
        return serde_json::from_str(raw).map_err(D::Error::custom);
    }
    Ok(raw.to_owned())
}

fn cents<'de, D: Deserializer<'de>>(from: D) -> Result<i64, D::Error> {
    let text = text_or_number(from)?;
    read_cents(&text).ok_or_else(|| D::Error::custom("orderAmount is not a sum such as 12.30"))
}

pub(super) fn read_cents(text: &str) -> Option<i64> {
    let (yuan, fen) = text.split_once('.').unwrap_or((text, "0"));
    let well_formed = (1..=13).contains(&yuan.len())
        && (1..=2).contains(&fen.len())
        && all_digits(yuan)
        && all_digits(fen);
    if !well_formed {
        return None;
    }
    let fen: i64 = format!("{fen:0<2}").parse().ok()?;
    yuan.parse::<i64>().ok()?.checked_mul(100)?.checked_add(fen)
}

pub(super) fn digits<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    let text = text_or_number(from)?;
    if all_digits(&text) {
        Ok(text)
    } else {
        Err(D::Error::custom("mobileNo is not eleven digits"))
    }
}

fn digits_if_any<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    digits(from).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// G-11
    #[test]
    fn sums_are_read_exactly_or_not_at_all() {
        for (text, sum) in [("12.30", 1_230), ("12.3", 1_230), ("0.01", 1), ("7", 700)] {
            assert_eq!(read_cents(text), Some(sum), "{text}");
        }
        for text in [
            "",
            ".5",
            "1.",
            "1.234",
            "-1",
            "1e2",
            "+1",
            "1,00",
            "99999999999999",
        ] {
            assert_eq!(read_cents(text), None, "{text}");
        }
        assert_eq!(yuan_text(1_205), "12.05");
    }

    /// R-A3.1-1
    #[test]
    fn a_missing_field_is_named() {
        let refusal = PaymentTerms::read(b"{}").unwrap_err();
        assert_eq!((refusal.status, refusal.code), (400, "field_missing"));
        assert_eq!(refusal.field.as_deref(), Some("transactionType"));
    }

    /// R-A3.1-1
    #[test]
    fn an_unknown_or_doubled_field_is_refused() {
        let unknown = PaymentReference::read(br#"{"merchantOrder":"1"}"#)
            .err()
            .unwrap();
        assert_eq!(unknown.code, "field_unknown");
        let twice = br#"{"merchantOrderNo":"1","merchantOrderNo":"1","merchantId":"m"}"#;
        assert_eq!(
            PaymentReference::read(twice).err().unwrap().code,
            "field_duplicate"
        );
    }
}
