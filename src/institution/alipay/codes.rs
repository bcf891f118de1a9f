//! The codes of answers, one by one (C3): what is not listed proves nothing. `msg` and `sub_msg` are
//! for people and decide nothing.

use crate::domain::evidence::Rejection;

/// What the `code` of an answer says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AnswerCode {
    /// `10000`: executed; the fields tell how.
    Executed,
    /// `10003`: the payer must still confirm.
    PayerConfirming,
    /// The request was not executed.
    NotExecuted(Rejection),
    /// `20000`: whether it was executed is unknown.
    Unknown,
    /// `40004`: `sub_code` tells.
    Business,
    /// Another one.
    Unlisted,
}

/// Reads `code` and `sub_code`.
pub(super) fn answer_code(code: &str, sub_code: Option<&str>) -> AnswerCode {
    match code {
        "10000" => AnswerCode::Executed,
        "10003" => AnswerCode::PayerConfirming,
        "20000" => AnswerCode::Unknown,
        "20001" | "40006" => AnswerCode::NotExecuted(Rejection::Authorisation),
        "40001" => AnswerCode::NotExecuted(Rejection::Format),
        "40002" => AnswerCode::NotExecuted(match sub_code {
            Some("isv.invalid-signature") => Rejection::Signature,
            Some("isv.invalid-timestamp") => Rejection::Clock,
            Some("isv.invalid-app-id" | "aop.invalid-app-auth-token") => Rejection::Authorisation,
            Some(_) | None => Rejection::Format,
        }),
        "40003" => AnswerCode::NotExecuted(match sub_code {
            Some("isv.missing-signature-config") => Rejection::Signature,
            Some(_) | None => Rejection::Authorisation,
        }),
        "40004" => AnswerCode::Business,
        _ => AnswerCode::Unlisted,
    }
}

/// What the `sub_code` of a business failure says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BusinessCode {
    /// It was definitely not done.
    Definite,
    /// Whether it was done is unknown.
    Unknown,
    /// An earlier call with this number had other terms.
    Inconsistent,
    /// The institution does not know the number.
    TradeNotExist,
    /// Another one; also one that only a query can explain.
    Unlisted,
}

/// Whether it was done is unknown.
const SYSTEM_ERROR: &str = "ACQ.SYSTEM_ERROR";
/// The number is unknown.
const TRADE_NOT_EXIST: &str = "ACQ.TRADE_NOT_EXIST";

/// Final refusals of a payment.
const PAYMENT_REFUSALS: [&str; 25] = [
    "ACQ.ACCESS_FORBIDDEN",
    "ACQ.BEYOND_PAY_RESTRICTION",
    "ACQ.BEYOND_PER_RECEIPT_RESTRICTION",
    "ACQ.BUYER_BALANCE_NOT_ENOUGH",
    "ACQ.BUYER_BANKCARD_BALANCE_NOT_ENOUGH",
    "ACQ.BUYER_ENABLE_STATUS_FORBID",
    "ACQ.BUYER_PAYMENT_AMOUNT_DAY_LIMIT_ERROR",
    "ACQ.BUYER_PAYMENT_AMOUNT_MONTH_LIMIT_ERROR",
    "ACQ.BUYER_SELLER_EQUAL",
    "ACQ.ERROR_BALANCE_PAYMENT_DISABLE",
    "ACQ.ERROR_BUYER_CERTIFY_LEVEL_LIMIT",
    "ACQ.EXIST_FORBIDDEN_WORD",
    "ACQ.INVALID_PARAMETER",
    "ACQ.MOBILE_PAYMENT_SWITCH_OFF",
    "ACQ.NO_PAYMENT_INSTRUMENTS_AVAILABLE",
    "ACQ.PARTNER_ERROR",
    "ACQ.PAYMENT_AUTH_CODE_INVALID",
    "ACQ.PAYMENT_FAIL",
    "ACQ.PAYMENT_REQUEST_HAS_RISK",
    "ACQ.PULL_MOBILE_CASHIER_FAIL",
    "ACQ.SELLER_BEEN_BLOCKED",
    "ACQ.TOTAL_FEE_EXCEED",
    "ACQ.TRADE_BUYER_NOT_MATCH",
    "ACQ.TRADE_HAS_CLOSE",
    "ACQ.USER_FACE_PAYMENT_SWITCH_OFF",
];

/// Final refusals of a refund.
const REFUND_REFUSALS: [&str; 10] = [
    "ACQ.INVALID_PARAMETER",
    "ACQ.REASON_TRADE_BEEN_FREEZEN",
    "ACQ.REASON_TRADE_REFUND_FEE_ERR",
    "ACQ.REASON_TRADE_STATUS_INVALID",
    "ACQ.REFUND_AMT_NOT_EQUAL_TOTAL",
    "ACQ.SELLER_BALANCE_NOT_ENOUGH",
    "ACQ.TRADE_HAS_FINISHED",
    TRADE_NOT_EXIST,
    "ACQ.TRADE_NOT_ALLOW_REFUND",
    "ACQ.TRADE_STATUS_ERROR",
];

/// Refusals to close that leave the trade as it is.
const CLOSE_REFUSALS: [&str; 4] = [
    "ACQ.ACCESS_FORBIDDEN",
    "ACQ.INVALID_PARAMETER",
    "ACQ.REASON_TRADE_STATUS_INVALID",
    "ACQ.TRADE_STATUS_ERROR",
];

/// Reads the `sub_code` of a create. That it was paid already (`ACQ.TRADE_HAS_SUCCESS`) is neither
/// success nor refusal: the query that follows brings the receipt.
pub(super) fn of_create(sub_code: &str) -> BusinessCode {
    match sub_code {
        SYSTEM_ERROR => BusinessCode::Unknown,
        "ACQ.CONTEXT_INCONSISTENT" => BusinessCode::Inconsistent,
        listed if PAYMENT_REFUSALS.contains(&listed) => BusinessCode::Definite,
        _ => BusinessCode::Unlisted,
    }
}

/// Reads the `sub_code` of a query.
pub(super) fn of_query(sub_code: &str) -> BusinessCode {
    match sub_code {
        SYSTEM_ERROR => BusinessCode::Unknown,
        TRADE_NOT_EXIST => BusinessCode::TradeNotExist,
        _ => BusinessCode::Unlisted,
    }
}

/// Reads the `sub_code` of a close.
pub(super) fn of_close(sub_code: &str) -> BusinessCode {
    match sub_code {
        SYSTEM_ERROR => BusinessCode::Unknown,
        TRADE_NOT_EXIST => BusinessCode::TradeNotExist,
        listed if CLOSE_REFUSALS.contains(&listed) => BusinessCode::Definite,
        _ => BusinessCode::Unlisted,
    }
}

/// Reads the `sub_code` of a refund. That an earlier call had another amount shows that there was an
/// earlier call.
pub(super) fn of_refund(sub_code: &str) -> BusinessCode {
    match sub_code {
        SYSTEM_ERROR => BusinessCode::Unknown,
        "ACQ.DISCORDANT_REPEAT_REQUEST" => BusinessCode::Inconsistent,
        listed if REFUND_REFUSALS.contains(&listed) => BusinessCode::Definite,
        _ => BusinessCode::Unlisted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// C3: each code means what the protocol lists for it, and no other code means anything.
    #[test]
    fn each_code_has_its_own_meaning() {
        use AnswerCode::{Business, Executed, NotExecuted, PayerConfirming, Unknown, Unlisted};
        for (code, sub_code, expected) in [
            ("10000", None, Executed),
            ("10003", None, PayerConfirming),
            ("20000", Some("isp.unknow-error"), Unknown),
            ("20000", Some("aop.unknow-error"), Unknown),
            (
                "20001",
                Some("aop.invalid-auth-token"),
                NotExecuted(Rejection::Authorisation),
            ),
            (
                "20001",
                Some("aop.auth-token-time-out"),
                NotExecuted(Rejection::Authorisation),
            ),
            (
                "40001",
                Some("isv.missing-method"),
                NotExecuted(Rejection::Format),
            ),
            (
                "40002",
                Some("isv.invalid-signature"),
                NotExecuted(Rejection::Signature),
            ),
            (
                "40002",
                Some("isv.invalid-timestamp"),
                NotExecuted(Rejection::Clock),
            ),
            (
                "40002",
                Some("isv.invalid-app-id"),
                NotExecuted(Rejection::Authorisation),
            ),
            (
                "40002",
                Some("aop.invalid-app-auth-token"),
                NotExecuted(Rejection::Authorisation),
            ),
            (
                "40002",
                Some("isv.invalid-format"),
                NotExecuted(Rejection::Format),
            ),
            ("40002", None, NotExecuted(Rejection::Format)),
            (
                "40003",
                Some("isv.missing-signature-config"),
                NotExecuted(Rejection::Signature),
            ),
            ("40003", None, NotExecuted(Rejection::Authorisation)),
            ("40004", Some(SYSTEM_ERROR), Business),
            (
                "40006",
                Some("isv.insufficient-isv-permissions"),
                NotExecuted(Rejection::Authorisation),
            ),
            // Described by one source only.
            ("40005", None, Unlisted),
            ("0", None, Unlisted),
            ("", None, Unlisted),
            ("10000 ", None, Unlisted),
            ("１００００", None, Unlisted),
        ] {
            assert_eq!(answer_code(code, sub_code), expected, "{code} {sub_code:?}");
        }
    }

    /// C3, E2: unknown, paid already and unlisted never refuse anything.
    #[test]
    fn only_listed_refusals_are_definite() {
        use BusinessCode::{Definite, Inconsistent, TradeNotExist, Unknown, Unlisted};
        for read in [of_create, of_query, of_close, of_refund] {
            assert_eq!(read(SYSTEM_ERROR), Unknown);
            for other in ["ACQ.TRADE_HAS_SUCCESS", "ACQ.NEW_WORD", "SYSTEM_ERROR", ""] {
                assert_eq!(read(other), Unlisted, "{other}");
            }
        }
        for code in PAYMENT_REFUSALS {
            assert_eq!(of_create(code), Definite, "{code}");
            assert_eq!(of_query(code), Unlisted, "{code}");
        }
        for code in REFUND_REFUSALS {
            assert_eq!(of_refund(code), Definite, "{code}");
        }
        for code in CLOSE_REFUSALS {
            assert_eq!(of_close(code), Definite, "{code}");
        }
        assert_eq!(of_create("ACQ.CONTEXT_INCONSISTENT"), Inconsistent);
        assert_eq!(of_refund("ACQ.DISCORDANT_REPEAT_REQUEST"), Inconsistent);
        assert_eq!(of_query(TRADE_NOT_EXIST), TradeNotExist);
        assert_eq!(of_close(TRADE_NOT_EXIST), TradeNotExist);
        assert_eq!(of_create(TRADE_NOT_EXIST), Unlisted);
    }
}
