//! What a payment is about: the fields that create it, checked as each product lists them. Equal
//! terms under one number are one order.

use serde_json::Value;

use crate::sandbox::alipay::answer::AlipayRefusal;
use crate::sandbox::alipay::biz::BizContent;
use crate::sandbox::alipay::clock::{DAY_MS, compact, parse_local};

const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 3_600_000;

const SHARED_FIELDS: &[&str] = &[
    "out_trade_no",
    "total_amount",
    "subject",
    "product_code",
    "body",
    "time_expire",
    "timeout_express",
    "passback_params",
    "goods_detail",
    "extend_params",
    "store_id",
    "operator_id",
    "terminal_id",
    "seller_id",
    "disable_pay_channels",
    "enable_pay_channels",
];
const CREATE_FIELDS: &[&str] = &[
    "buyer_id",
    "buyer_open_id",
    "buyer_logon_id",
    "op_app_id",
    "op_buyer_open_id",
    "query_options",
    "discountable_amount",
    "sub_merchant",
    "settle_info",
    "agreement_sign_params",
    "bkagent_req_info",
];

/// How a payment is created.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AlipayProduct {
    /// `alipay.trade.page.pay`.
    Page,
    /// `alipay.trade.wap.pay`.
    Wap,
    /// `alipay.trade.app.pay`.
    App,
    /// `alipay.trade.precreate`.
    Precreate,
    /// `alipay.trade.create`.
    Create,
    /// `alipay.trade.pay`.
    Code,
}

impl AlipayProduct {
    /// The method that creates it.
    pub fn method(self) -> &'static str {
        match self {
            Self::Page => "alipay.trade.page.pay",
            Self::Wap => "alipay.trade.wap.pay",
            Self::App => "alipay.trade.app.pay",
            Self::Precreate => "alipay.trade.precreate",
            Self::Create => "alipay.trade.create",
            Self::Code => "alipay.trade.pay",
        }
    }

    /// Whether closings and full refunds are notified, beside successes.
    pub(super) fn tells_ends(self) -> bool {
        matches!(self, Self::Wap | Self::App)
    }

    fn own_fields(self) -> &'static [&'static str] {
        match self {
            Self::Page | Self::Precreate => &[],
            Self::Wap => &["quit_url"],
            Self::App => &["agreement_sign_params"],
            Self::Create => CREATE_FIELDS,
            Self::Code => &["scene", "auth_code"],
        }
    }

    fn accepts(self, code: Option<&str>) -> bool {
        match self {
            Self::Page => code == Some("FAST_INSTANT_TRADE_PAY"),
            Self::Wap => code == Some("QUICK_WAP_WAY"),
            Self::App => code == Some("QUICK_MSECURITY_PAY"),
            Self::Precreate => {
                matches!(
                    code,
                    None | Some("FACE_TO_FACE_PAYMENT" | "QR_CODE_OFFLINE")
                )
            }
            Self::Create => matches!(code, None | Some("FACE_TO_FACE_PAYMENT" | "JSAPI_PAY")),
            Self::Code => code == Some("FACE_TO_FACE_PAYMENT"),
        }
    }

    /// How long its address, code or order string can be used without a deadline.
    fn offer_ms(self) -> i64 {
        match self {
            Self::Precreate => HOUR_MS.saturating_mul(2),
            Self::Page | Self::Wap | Self::App | Self::Create | Self::Code => {
                DAY_MS.saturating_mul(15)
            }
        }
    }

    /// How long its trade waits for the payer without a deadline.
    fn trade_ms(self) -> i64 {
        match self {
            Self::Precreate | Self::Create | Self::Code => HOUR_MS.saturating_mul(3),
            Self::Page | Self::Wap | Self::App => DAY_MS.saturating_mul(15),
        }
    }
}

/// When a payment can no longer be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Deadline {
    None,
    /// `time_expire`. Unit: Unix milliseconds.
    At(i64),
    /// `timeout_express`, from the creation of the trade. Unit: milliseconds.
    After(i64),
    /// `timeout_express` `1c`: the end of the day.
    Today,
}

/// The terms of a payment.
#[derive(Debug, Clone, PartialEq)]
pub struct AlipayTerms {
    /// How it is created.
    pub product: AlipayProduct,
    /// The merchant's number.
    pub out_trade_no: String,
    /// Unit: fen.
    pub total_fen: i64,
    /// What the payer reads.
    pub subject: String,
    /// Description.
    pub body: Option<String>,
    /// Returned in notifications.
    pub passback_params: Option<String>,
    /// Where a payer goes who gives up.
    pub quit_url: Option<String>,
    /// The merchant's shop.
    pub store_id: Option<String>,
    /// The merchant's till.
    pub terminal_id: Option<String>,
    /// The merchant's cashier.
    pub operator_id: Option<String>,
    deadline: Deadline,
    /// Every other field as it came: it belongs to the terms too.
    others: Vec<(&'static str, Value)>,
}

impl AlipayTerms {
    /// Reads and checks the fields of a product's call.
    pub(super) fn read(
        product: AlipayProduct,
        biz: &BizContent,
        seller_id: &str,
        now_ms: i64,
    ) -> Result<Self, AlipayRefusal> {
        biz.only(&[SHARED_FIELDS, product.own_fields()])?;
        if !product.accepts(biz.text("product_code", 64)?) {
            return Err(biz.wrong("product_code"));
        }
        if biz
            .text("seller_id", 28)?
            .is_some_and(|seller| seller != seller_id)
        {
            return Err(AlipayRefusal::business("ACQ.PARTNER_ERROR", "seller_id"));
        }
        let owned = |text: Option<&str>| text.map(str::to_owned);
        let number = biz.number("out_trade_no")?;
        let terms = Self {
            product,
            out_trade_no: owned(number).ok_or_else(|| biz.wrong("out_trade_no"))?,
            total_fen: biz.amount("total_amount")?,
            subject: biz.required("subject", 256)?.to_owned(),
            body: owned(biz.text("body", 128)?),
            passback_params: owned(passback(biz)?),
            quit_url: owned(biz.text("quit_url", 400)?),
            store_id: owned(biz.text("store_id", 32)?),
            terminal_id: owned(biz.text("terminal_id", 32)?),
            operator_id: owned(biz.text("operator_id", 28)?),
            deadline: deadline(biz, now_ms)?,
            others: others(product, biz)?,
        };
        Ok(terms)
    }

    /// When the address, the code or the order string is dead. Unit: Unix milliseconds.
    pub(super) fn offer_deadline_ms(&self, made_ms: i64) -> i64 {
        match self.deadline {
            Deadline::At(at_ms) => at_ms,
            Deadline::None | Deadline::After(_) | Deadline::Today => {
                made_ms.saturating_add(self.product.offer_ms())
            }
        }
    }

    /// When a trade that waits for the payer is closed. Unit: Unix milliseconds.
    pub(super) fn trade_deadline_ms(&self, created_ms: i64) -> i64 {
        match self.deadline {
            Deadline::At(at_ms) => at_ms,
            Deadline::After(for_ms) => created_ms.saturating_add(for_ms),
            Deadline::Today => end_of_day(created_ms),
            Deadline::None => created_ms.saturating_add(self.product.trade_ms()),
        }
    }
}

/// Midnight in UTC+8 after a moment.
pub(super) fn end_of_day(moment_ms: i64) -> i64 {
    let date = compact(moment_ms);
    let date = date.get(..8).unwrap_or_default();
    start_of_day(date).map_or(moment_ms, |start| start.saturating_add(DAY_MS))
}

/// Midnight in UTC+8 at the beginning of `yyyyMMdd`.
pub(super) fn start_of_day(date: &str) -> Option<i64> {
    let (year, rest) = date.split_at_checked(4)?;
    let (month, day) = rest.split_at_checked(2)?;
    parse_local(&format!("{year}-{month}-{day} 00:00:00"))
}

/// Percent-encoded by the merchant, because it travels inside a form.
fn passback(biz: &BizContent) -> Result<Option<&str>, AlipayRefusal> {
    let text = biz.text("passback_params", 512)?;
    let unreserved = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~%*+".contains(&byte);
    match text {
        Some(text) if !text.bytes().all(unreserved) => Err(biz.wrong("passback_params")),
        _ => Ok(text),
    }
}

/// `time_expire` counts if both are given.
fn deadline(biz: &BizContent, now_ms: i64) -> Result<Deadline, AlipayRefusal> {
    let express = biz.text("timeout_express", 6)?;
    let express = express.map(|text| {
        let found = timeout(text);
        found.ok_or_else(|| biz.wrong("timeout_express"))
    });
    let express = express.transpose()?;
    let Some(text) = biz.text("time_expire", 19)? else {
        return Ok(express.unwrap_or(Deadline::None));
    };
    let at_ms = parse_local(text).ok_or_else(|| biz.wrong("time_expire"))?;
    if at_ms <= now_ms {
        return Err(biz.wrong("time_expire"));
    }
    Ok(Deadline::At(at_ms))
}

/// `1m` to `15d`, or `1c`.
fn timeout(text: &str) -> Option<Deadline> {
    if text == "1c" {
        return Some(Deadline::Today);
    }
    let unit = text.chars().last()?;
    let count = text.strip_suffix(unit)?;
    if count.starts_with('0') || !count.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let unit_ms = match unit {
        'm' => MINUTE_MS,
        'h' => HOUR_MS,
        'd' => DAY_MS,
        _ => return None,
    };
    let for_ms = count.parse::<i64>().ok()?.checked_mul(unit_ms)?;
    let longest_ms = DAY_MS.saturating_mul(15);
    (MINUTE_MS..=longest_ms)
        .contains(&for_ms)
        .then_some(Deadline::After(for_ms))
}

/// The fields that belong to the terms without a meaning here, their lengths and types checked.
fn others(
    product: AlipayProduct,
    biz: &BizContent,
) -> Result<Vec<(&'static str, Value)>, AlipayRefusal> {
    let mut found = Vec::new();
    for (name, max) in [
        ("disable_pay_channels", 1_024),
        ("enable_pay_channels", 1_024),
        ("buyer_id", 28),
        ("buyer_open_id", 128),
        ("buyer_logon_id", 100),
        ("op_app_id", 32),
        ("op_buyer_open_id", 128),
        ("discountable_amount", 12),
    ] {
        if let Some(text) = biz.text(name, max)? {
            found.push((name, text.into()));
        }
    }
    for name in ["goods_detail", "query_options"] {
        match biz.value(name) {
            None => (),
            Some(value @ Value::Array(_)) => found.push((name, value.clone())),
            Some(_) => return Err(biz.wrong(name)),
        }
    }
    for name in [
        "extend_params",
        "sub_merchant",
        "settle_info",
        "agreement_sign_params",
        "bkagent_req_info",
    ] {
        match biz.value(name) {
            None => (),
            Some(value @ Value::Object(_)) => found.push((name, value.clone())),
            Some(_) => return Err(biz.wrong(name)),
        }
    }
    let names = |name: &str| found.iter().any(|(known, _)| *known == name);
    let is_named = names("buyer_id") != names("buyer_open_id") || names("buyer_logon_id");
    if product == AlipayProduct::Create && !is_named {
        return Err(biz.wrong("buyer_id"));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(product: AlipayProduct, biz: &Value) -> Result<AlipayTerms, AlipayRefusal> {
        let biz = BizContent::parse(&biz.to_string(), "ACQ.INVALID_PARAMETER").unwrap();
        AlipayTerms::read(product, &biz, "2088123412341234", 1_767_225_600_000)
    }

    /// Each product has its own code, and unlisted fields are refused.
    #[test]
    fn each_product_demands_its_own_code() {
        let of = |code: &str| {
            serde_json::json!({ "out_trade_no": "A_1", "total_amount": "1.00", "subject": "x",
                "product_code": code })
        };
        assert!(read(AlipayProduct::Wap, &of("QUICK_WAP_WAY")).is_ok());
        assert!(read(AlipayProduct::Wap, &of("QUICK_WAP_PAY")).is_err());
        assert!(read(AlipayProduct::Page, &of("FAST_INSTANT_TRADE_PAY")).is_ok());
        assert!(read(AlipayProduct::App, &of("QUICK_MSECURITY_PAY")).is_ok());
        let mut more = of("QUICK_WAP_WAY");
        more["notify_url"] = "https://a.example".into();
        assert!(read(AlipayProduct::Wap, &more).is_err());
    }

    /// `time_expire` is absolute; `timeout_express` counts from the creation of the trade.
    #[test]
    fn deadlines_are_read_in_both_forms() {
        let now = 1_767_225_600_000;
        let of = |name: &str, value: &str| {
            let mut biz = serde_json::json!({ "out_trade_no": "A1", "total_amount": "1.00",
                "subject": "x" });
            biz[name] = value.into();
            read(AlipayProduct::Precreate, &biz)
        };
        let at = of("time_expire", "2026-01-01 08:03:00").unwrap();
        assert_eq!(at.offer_deadline_ms(now), now + 180_000);
        assert_eq!(at.trade_deadline_ms(now + 1), now + 180_000);
        let after = of("timeout_express", "3m").unwrap();
        assert_eq!(after.offer_deadline_ms(now), now + 7_200_000);
        assert_eq!(after.trade_deadline_ms(now + 1), now + 180_001);
        let today = of("timeout_express", "1c").unwrap();
        assert_eq!(today.trade_deadline_ms(now), now + 16 * 3_600_000);
        for (name, wrong) in [
            ("time_expire", "2026-01-01 08:00:00"),
            ("time_expire", "2026-01-01T09:00"),
            ("timeout_express", "0m"),
            ("timeout_express", "16d"),
            ("timeout_express", "3"),
            ("timeout_express", "3s"),
        ] {
            assert!(of(name, wrong).is_err(), "{wrong}");
        }
    }
}
