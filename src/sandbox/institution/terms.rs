//! Parses the dialect's requests at a simulated institution: checks every field's name, type and
//! format; refuses unknown and duplicate fields.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _};
use serde_json::value::RawValue;

use crate::sandbox::institution::ledger::PaymentKey;
use crate::sandbox::refusal::SandboxRefusal;

const MINUTES_DEFAULT: u16 = 15;
const MINUTES_MAX: u16 = 1_440;
const TEXT_CHARS_MAX: usize = 256;

/// A3.1's request, as an institution receives it.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PaymentTerms {
    /// The transaction type.
    pub transaction_type: String,
    /// The mode in which the payer pays.
    pub business_type: String,
    /// The callback URL.
    pub bank_return_url: String,
    /// The merchant's number of the payment.
    pub merchant_order_no: String,
    /// The merchant's name, shown to the payer.
    pub merchant_name: String,
    /// `yyyyMMdd`.
    pub order_date: String,
    /// The amount. Unit: cents.
    #[serde(rename = "orderAmount", deserialize_with = "cents")]
    pub sum_cents: i64,
    /// ISO 4217; `CNY` if absent (G-2).
    #[serde(default = "yuan")]
    pub currency: String,
    /// The merchant's account at the institution.
    pub merchant_id: String,
    /// The payer's mobile number (G-1).
    #[serde(deserialize_with = "digits")]
    pub mobile_no: String,
    /// The goods' number.
    #[serde(default)]
    pub goods_no: Option<String>,
    /// The goods' name.
    #[serde(default)]
    pub goods_name: Option<String>,
    /// A description of the goods.
    #[serde(default)]
    pub goods_description: Option<String>,
    /// Time the payer has to pay. Unit: minutes.
    #[serde(default = "minutes")]
    pub expire_minutes: u16,
    /// Returned unchanged.
    #[serde(default)]
    pub attach: Option<String>,
}

/// Keeps personal data out of logs.
impl fmt::Debug for PaymentTerms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (number, cents) = (&self.merchant_order_no, self.sum_cents);
        write!(f, "Terms({number}, {cents} cents)")
    }
}

impl PaymentTerms {
    /// Parses and validates a create call's body.
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
        terms.check_supported()?;
        Ok(terms)
    }

    /// Refuses well-formed values that are not supported here.
    fn check_supported(&self) -> Result<(), SandboxRefusal> {
        let impossible = |code, detail| Err(SandboxRefusal::of(422, code, detail));
        // A password-free payment without an agreement gets the password page.
        let offered = ["PASSWORD_PAY", "PASSWORD_FREE_PAY", "SCAN_PAY"];
        if !offered.contains(&self.transaction_type.as_str()) {
            return impossible("not_offered", "this transaction type is not supported");
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
            return impossible("amount_out_of_range", "the amount must be above zero");
        }
        Ok(())
    }

    /// Its key in the ledger.
    pub(super) fn key(&self) -> PaymentKey {
        (self.merchant_id.clone(), self.merchant_order_no.clone())
    }

    pub(super) fn lifetime_s(&self) -> i64 {
        i64::from(self.expire_minutes).saturating_mul(60)
    }
}

/// A query or close request: account and number, and optional fields that must match.
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

/// Cents as a decimal text: `12.30`.
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

/// The text of a JSON string, or of a JSON number without loss.
pub(super) fn text_or_number<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    let raw = <&RawValue>::deserialize(from)?.get();
    if raw.starts_with('"') {
        return serde_json::from_str(raw).map_err(D::Error::custom);
    }
    Ok(raw.to_owned())
}

fn cents<'de, D: Deserializer<'de>>(from: D) -> Result<i64, D::Error> {
    let text = text_or_number(from)?;
    read_cents(&text).ok_or_else(|| D::Error::custom("orderAmount is not an amount such as 12.30"))
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
    fn amounts_are_read_exactly_or_refused() {
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
    fn an_unknown_or_duplicate_field_is_refused() {
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
