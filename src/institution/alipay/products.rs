//! The products, and what creates a payment with each: an address, an order string, or a call.
//!
//! A web page or an application needs no call: what the payer carries to the institution is signed
//! here, and creates nothing there before the payer acts.

use std::time::Duration;

use serde::Serialize;

use crate::domain::institutions::{
    AccountRole, CreateSend, Ending, Mode, Product, ReplyBinding, Visibility,
};
use crate::domain::order::OrderTerms;
use crate::domain::personal::payer_context::{PayerDetail, PayerDevice, PayerWallet};
use crate::institution::alipay::account::{AlipayAccount, PayerField};
use crate::institution::alipay::values::local_time;
use crate::institution::{Call, Unmade};

/// How long after the deadline nobody can pay any more.
const MARGIN: Duration = Duration::from_mins(5);

/// A request is accepted for 15 minutes after its timestamp, by a clock that may be half a minute
/// off.
pub(super) const VISIBLE_AFTER: Duration = Duration::from_secs(930);

/// How long a payee's code is shown at most.
const CODE_SHOWN: Duration = Duration::from_mins(3);

/// The least time a payer needs.
const LEAST_LEFT: Duration = Duration::from_mins(1);

/// What most products have in common.
const UNSENT: Product = Product {
    create: CreateSend::Nothing,
    ending: Ending::CloseOnceActed,
    binding: ReplyBinding::Echo,
    wallets: &[PayerWallet::None],
    least_left: LEAST_LEFT,
    ..Product::plain("", Visibility::AfterDeadline(MARGIN))
};

/// A mobile web page.
const WAP: Product = Product {
    id: "WAP",
    help: "the wallet, from a web page on a phone or inside the wallet",
    modes: &[Mode::Webview],
    wallets: &[PayerWallet::Alipay, PayerWallet::None],
    devices: &[PayerDevice::Ios, PayerDevice::Android, PayerDevice::Other],
    ..UNSENT
};

/// A web page on a desktop.
const PAGE: Product = Product {
    id: "PAGE",
    help: "the cashier's page, on a desktop",
    modes: &[Mode::Webview],
    devices: &[PayerDevice::Desktop],
    ..UNSENT
};

/// A code that the payer scans.
const PRECREATE: Product = Product {
    id: "PRECREATE",
    help: "a code on a desktop, scanned with the wallet",
    modes: &[Mode::Webview],
    create: CreateSend::Repeatable,
    devices: &[PayerDevice::Desktop],
    pay_within: Some(CODE_SHOWN),
    ..UNSENT
};

/// A payment in a mini program of the wallet.
const CREATE: Product = Product {
    id: "CREATE",
    help: "a mini program inside the wallet",
    modes: &[Mode::Native],
    create: CreateSend::Repeatable,
    visibility: Visibility::AfterSend(VISIBLE_AFTER),
    ending: Ending::Close,
    wants: &[PayerDetail::OpenId],
    wallets: &[PayerWallet::Alipay, PayerWallet::None],
    ..UNSENT
};

/// The wallet's SDK in an application.
const APP: Product = Product {
    id: "APP",
    help: "the wallet, from an application",
    modes: &[Mode::Native],
    devices: &[PayerDevice::Ios, PayerDevice::Android, PayerDevice::Other],
    ..UNSENT
};

/// Every product, in order of preference.
pub(super) const PRODUCTS: &[Product] = &[WAP, PAGE, PRECREATE, CREATE, APP];

/// How a payment is created.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Creation {
    /// The payer's browser is sent to the cashier.
    Page,
    /// The application gets an order string.
    OrderString,
    /// A call, answered with a code to scan.
    Code,
    /// A call, answered with a number to pay by.
    Number,
}

/// The method that creates a payment with a product, how, and its `product_code`.
pub(super) struct CreationTerms<'a> {
    pub(super) method: &'static str,
    pub(super) creation: Creation,
    product_code: Option<&'a str>,
}

/// How a payment is created with the product of this id.
pub(super) fn creation<'a>(id: &str, account: &'a AlipayAccount) -> Option<CreationTerms<'a>> {
    let precreate_code = account.precreate_code.as_deref();
    let create_code = account.create_code.as_deref().unwrap_or("JSAPI_PAY");
    let (method, creation, product_code) = match id {
        "WAP" => (
            "alipay.trade.wap.pay",
            Creation::Page,
            Some("QUICK_WAP_WAY"),
        ),
        "PAGE" => (
            "alipay.trade.page.pay",
            Creation::Page,
            Some("FAST_INSTANT_TRADE_PAY"),
        ),
        "APP" => (
            "alipay.trade.app.pay",
            Creation::OrderString,
            Some("QUICK_MSECURITY_PAY"),
        ),
        "PRECREATE" => ("alipay.trade.precreate", Creation::Code, precreate_code),
        "CREATE" => ("alipay.trade.create", Creation::Number, Some(create_code)),
        _ => return None,
    };
    Some(CreationTerms {
        method,
        creation,
        product_code,
    })
}

/// The business fields of a payment. Nothing of the stamp: equal creates have equal fields (A3).
#[derive(Serialize)]
struct TradeCreationFields<'a> {
    out_trade_no: &'a str,
    total_amount: String,
    subject: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    product_code: Option<&'a str>,
    time_expire: String,
    #[serde(flatten)]
    payer: Option<PayerFields<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    extend_params: Option<ExtendedFields<'a>>,
}

/// Who pays, in which mini program.
#[expect(clippy::struct_field_names, reason = "the protocol's names")]
#[derive(Serialize)]
struct PayerFields<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    buyer_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    buyer_open_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    op_buyer_open_id: Option<&'a str>,
    op_app_id: &'a str,
}

/// The service provider that the payment came over.
#[derive(Serialize)]
struct ExtendedFields<'a> {
    sys_service_provider_id: &'a str,
}

/// `biz_content` of a create.
///
/// # Errors
/// [`Unmade::Malformed`]: a payer who must be named is not known any more.
pub(super) fn content(
    call: &Call<'_>,
    account: &AlipayAccount,
    terms: &CreationTerms<'_>,
) -> Result<String, Unmade> {
    let attempt = call.attempt;
    let payer = match terms.creation {
        Creation::Number => Some(payer(call, account).ok_or(Unmade::Malformed)?),
        Creation::Page | Creation::OrderString | Creation::Code => None,
    };
    let extend_params = match account.role {
        AccountRole::Provider => Some(ExtendedFields {
            sys_service_provider_id: account.receiver.as_str(),
        }),
        AccountRole::Direct => None,
    };
    let fields = TradeCreationFields {
        out_trade_no: attempt.id.as_str(),
        total_amount: attempt.amount.to_string(),
        subject: subject(call.terms),
        product_code: terms.product_code,
        time_expire: local_time(attempt.pay_by),
        payer,
        extend_params,
    };
    serde_json::to_string(&fields).map_err(|_| Unmade::Malformed)
}

fn payer<'a>(call: &Call<'a>, account: &AlipayAccount) -> Option<PayerFields<'a>> {
    let identity = call.attempt.payer.identity.as_ref()?;
    let (id, app) = (identity.open_id.expose(), identity.app.as_str());
    let mut fields = PayerFields {
        buyer_id: None,
        buyer_open_id: None,
        op_buyer_open_id: None,
        op_app_id: app,
    };
    match account.payer_field {
        PayerField::UserId => fields.buyer_id = Some(id),
        // An open id belongs to the application that asked for it.
        PayerField::OpenId if app == &*account.app_id => fields.buyer_open_id = Some(id),
        PayerField::OpenId => fields.op_buyer_open_id = Some(id),
    }
    Some(fields)
}

/// The longest subject. Unit: bytes, so that it fits whether characters or bytes are counted.
const SUBJECT_BYTES_MAX: usize = 256;

/// What is paid for: the goods, else the merchant. `/`, `=` and `&` become blanks, as the protocol
/// advises.
fn subject(terms: &OrderTerms) -> String {
    let goods = terms.goods_name.as_deref().map(plain);
    let goods = goods.filter(|subject| !subject.is_empty());
    goods.unwrap_or_else(|| {
        let merchant = plain(&terms.merchant_name);
        if merchant.is_empty() {
            terms.merchant_order_no.to_string()
        } else {
            merchant
        }
    })
}

fn plain(text: &str) -> String {
    let blank = |it: char| matches!(it, '/' | '=' | '&') || it.is_control();
    let text = text.replace(blank, " ");
    let text = text.trim();
    let end = text.floor_char_boundary(SUBJECT_BYTES_MAX);
    text.get(..end).unwrap_or_default().trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A3: a subject is cut at a character, and `/ = &` become blanks.
    #[test]
    fn a_subject_is_plain_and_fits() {
        for (text, expected) in [
            ("5G消息-话费充值", "5G消息-话费充值"),
            ("A&B=C/D", "A B C D"),
            (" tea\n", "tea"),
            ("/=&", ""),
        ] {
            assert_eq!(plain(text), expected, "{text}");
        }
        let long = plain(&"茶".repeat(200));
        assert_eq!(long, "茶".repeat(85));
    }

    /// Every product has its own method, and only products that send nothing are made without a
    /// call.
    #[test]
    fn products_that_send_nothing_call_no_method() {
        let account = crate::institution::alipay::tests::account();
        for product in PRODUCTS {
            let terms = creation(product.id, &account).unwrap();
            let sends_nothing = matches!(terms.creation, Creation::Page | Creation::OrderString);
            assert_eq!(sends_nothing, product.create == CreateSend::Nothing);
        }
        assert!(creation("STANDARD", &account).is_none());
    }
}
