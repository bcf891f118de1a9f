//! The calls of the gateway: which method each is, the parameters that all have, and their signature.

use serde::Serialize;

use crate::domain::attempt::{Attempt, Stamp};
use crate::domain::institutions::AccountRole;
use crate::institution::alipay::account::AlipayAccount;
use crate::institution::alipay::parameters::{
    CHARSET, RSA2, RequestParameters, SIGN_TYPE, SignedForm, UTF_8,
};
use crate::institution::alipay::payments::CloseAnswer;
use crate::institution::alipay::products::Creation;
use crate::institution::alipay::settings::APP_AUTH_TOKEN;
use crate::institution::alipay::values::local_time;
use crate::institution::{Call, Unmade};

const QUERY: &str = "alipay.trade.query";
const CLOSE: &str = "alipay.trade.close";
const REFUND: &str = "alipay.trade.refund";
const REFUND_QUERY: &str = "alipay.trade.fastpay.refund.query";

/// What was asked last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AlipayQuestion {
    /// A create, by this method.
    Creating(&'static str, Creation),
    /// A close; its answer proves nothing yet.
    Closing,
    /// A query, alone or after a close.
    Querying(Option<CloseAnswer>),
    /// A refund.
    Refunding,
    /// A refund query.
    QueryingRefund,
}

impl AlipayQuestion {
    /// The method that was called.
    pub(super) fn method(self) -> &'static str {
        match self {
            Self::Creating(method, _) => method,
            Self::Closing => CLOSE,
            Self::Querying(_) => QUERY,
            Self::Refunding => REFUND,
            Self::QueryingRefund => REFUND_QUERY,
        }
    }
}

/// The parameters of every call.
///
/// # Errors
/// [`Unmade::Unsigned`]: of a provider's account, without the token of the merchant who receives the
/// money. A call without it would be about ourselves, and "not found" would mean nothing.
pub(super) fn common(
    call: &Call<'_>,
    account: &AlipayAccount,
    method: &str,
    stamp: &Stamp,
) -> Result<RequestParameters, Unmade> {
    let token = call.sub_merchant.and_then(|sub| sub.secret(APP_AUTH_TOKEN));
    let token = match (account.role, token) {
        (AccountRole::Provider, Some(token)) => token.expose(),
        (AccountRole::Direct, None) => "",
        (AccountRole::Provider, None) | (AccountRole::Direct, Some(_)) => {
            return Err(Unmade::Unsigned);
        }
    };
    let parameters = RequestParameters::default()
        .with("app_id", &*account.app_id)
        .with("method", method)
        .with("format", "JSON")
        .with(CHARSET, UTF_8)
        .with(SIGN_TYPE, RSA2)
        .with("timestamp", local_time(stamp.now))
        .with("version", "1.0")
        .with("app_auth_token", token);
    Ok(match account.certificate_numbers() {
        Some(numbers) => parameters
            .with("app_cert_sn", numbers.app.as_str())
            .with("alipay_root_cert_sn", numbers.root.as_str()),
        None => parameters,
    })
}

/// Signs as the account.
///
/// # Errors
/// [`Unmade::Unsigned`]: its key cannot be used.
pub(super) fn signed(
    parameters: RequestParameters,
    account: &AlipayAccount,
) -> Result<SignedForm, Unmade> {
    let key = account.signing().ok_or(Unmade::Unsigned)?;
    parameters.signed(key).ok_or(Unmade::Unsigned)
}

/// How a query and a close name a payment.
#[derive(Serialize)]
pub(super) struct TradeFields<'a> {
    out_trade_no: &'a str,
}

impl<'a> TradeFields<'a> {
    pub(super) fn of(attempt: &'a Attempt) -> Self {
        Self {
            out_trade_no: attempt.id.as_str(),
        }
    }
}
