//! The platform's error codes, one by one (C3), and what an error answer proves.
//!
//! Decided by status and code; texts are for people. An error answer need not be signed: unsigned it
//! proves only, of a create, that this sending gave nobody a way to pay.

use http::StatusCode;

use crate::domain::evidence::{Ambiguity, Finding, Reason, Rejection};

pub(super) type WechatFinding = Result<Finding, Ambiguity>;

/// What a code means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CodeMeaning {
    /// A final refusal of a payment.
    RefusedPayment,
    /// A final refusal of a payment and of a refund.
    Refused,
    /// The same number was used with other data, or the request cannot be met: final the first time
    /// only.
    Invalid,
    /// Our signature was rejected.
    Signature,
    /// Too many requests.
    Rate,
    /// The platform does not have the payment.
    PaymentUnknown,
    /// The platform does not have the refund, or what a refund names.
    RefundUnknown,
    /// The payment is closed.
    Closed,
    /// The payment is paid: only a query says so with what proves it.
    Paid,
    /// Not finished.
    Unfinished,
    /// The platform failed, before or after it acted.
    Outage,
}

/// Codes as documented, without their underscores: older spellings have none.
#[rustfmt::skip]
const CODES: [(&str, CodeMeaning); 25] = [
    ("ACCOUNTERROR", CodeMeaning::RefusedPayment),
    ("APPIDMCHIDNOTMATCH", CodeMeaning::RefusedPayment),
    ("BANKERROR", CodeMeaning::Outage),
    ("FREQUENCYLIMITED", CodeMeaning::Rate),
    ("INVALIDREQUEST", CodeMeaning::Invalid),
    ("INVALIDTRANSACTIONID", CodeMeaning::RefusedPayment),
    ("MCHNOTEXISTS", CodeMeaning::Refused),
    ("NOAUTH", CodeMeaning::Refused),
    ("NOTENOUGH", CodeMeaning::Refused),
    ("OPENIDMISMATCH", CodeMeaning::RefusedPayment),
    ("ORDERCLOSED", CodeMeaning::Closed),
    ("ORDERNOTEXIST", CodeMeaning::PaymentUnknown),
    ("ORDERPAID", CodeMeaning::Paid),
    ("OUTTRADENOUSED", CodeMeaning::RefusedPayment),
    ("PARAMERROR", CodeMeaning::Refused),
    ("RATELIMITED", CodeMeaning::Rate),
    ("RATELIMITEXCEEDED", CodeMeaning::Rate),
    ("RESOURCENOTEXISTS", CodeMeaning::RefundUnknown),
    ("RULELIMIT", CodeMeaning::RefusedPayment),
    ("SERVICEUNAVAILABLE", CodeMeaning::Outage),
    ("SIGNERROR", CodeMeaning::Signature),
    ("SYSTEMERROR", CodeMeaning::Outage),
    ("TRADEERROR", CodeMeaning::RefusedPayment),
    ("USERACCOUNTABNORMAL", CodeMeaning::Refused),
    ("USERPAYING", CodeMeaning::Unfinished),
];

/// Codes that are final although their status says that the platform failed.
const FINAL_DESPITE_STATUS: [&str; 2] = ["INVALIDTRANSACTIONID", "OPENIDMISMATCH"];

/// What was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    /// A payment, for the first time or again.
    Prepay { is_first: bool },
    /// The state of a payment.
    Payment,
    /// A refund, for the first time or again.
    Refund { is_first: bool },
    /// The state of a refund.
    RefundState,
}

/// The finding of an error answer. `code` is `None` if there is none to read.
pub(super) fn of_error(
    wanted: Wanted,
    is_proven: bool,
    status: StatusCode,
    code: Option<&str>,
) -> WechatFinding {
    // Accepted and not finished.
    if status == StatusCode::ACCEPTED {
        return Err(Ambiguity::NoAnswer);
    }
    let meaning = code.and_then(meaning);
    if status.is_server_error() {
        let is_final = code.is_some_and(|code| FINAL_DESPITE_STATUS.contains(&&*plain(code)));
        if !is_final {
            return Err(Ambiguity::ServerFault);
        }
    } else if !status.is_client_error() {
        return Err(Ambiguity::UnlistedWord);
    }
    match wanted {
        Wanted::Prepay { is_first } => of_prepay(is_first, meaning, code),
        // Whatever its code, the platform may have taken it.
        Wanted::Refund { .. } if status == StatusCode::TOO_MANY_REQUESTS => {
            Err(Ambiguity::NoAnswer)
        }
        Wanted::Payment | Wanted::Refund { .. } | Wanted::RefundState if !is_proven => {
            Err(Ambiguity::Unproven)
        }
        Wanted::Payment => of_question(meaning, CodeMeaning::PaymentUnknown, code),
        Wanted::RefundState => of_question(meaning, CodeMeaning::RefundUnknown, code),
        Wanted::Refund { is_first } => of_refund(is_first, meaning, code),
    }
}

/// Whether a close answered with this code has nothing left to close.
pub(super) fn says_closed_or_unknown(code: &str) -> bool {
    matches!(
        meaning(code),
        Some(CodeMeaning::Closed | CodeMeaning::PaymentUnknown)
    )
}

/// Whether it is no use to go on with a call after this error: our signature was rejected, or the
/// account asks too often.
pub(super) fn stops_call(status: StatusCode, code: Option<&str>) -> bool {
    let stops = |meaning| matches!(meaning, CodeMeaning::Signature | CodeMeaning::Rate);
    status == StatusCode::TOO_MANY_REQUESTS
        || status == StatusCode::UNAUTHORIZED
        || code.and_then(meaning).is_some_and(stops)
}

/// Nobody got a way to pay with this sending. But it says nothing about an earlier one, whose way may
/// be in use.
fn of_prepay(is_first: bool, meaning: Option<CodeMeaning>, code: Option<&str>) -> WechatFinding {
    match meaning {
        Some(CodeMeaning::Signature) => Ok(Finding::NotExecuted(Rejection::Signature)),
        Some(CodeMeaning::Rate) => Ok(Finding::NotExecuted(Rejection::Rate)),
        Some(
            CodeMeaning::RefusedPayment
            | CodeMeaning::Refused
            | CodeMeaning::Invalid
            | CodeMeaning::Closed,
        ) if is_first => Ok(refused(code)),
        // Our repeat was not equal.
        Some(CodeMeaning::Invalid) => Err(Ambiguity::Mismatch),
        Some(CodeMeaning::Outage) => Err(Ambiguity::ServerFault),
        Some(CodeMeaning::Unfinished) => Err(Ambiguity::NoAnswer),
        Some(
            CodeMeaning::RefusedPayment
            | CodeMeaning::Refused
            | CodeMeaning::Closed
            | CodeMeaning::Paid
            | CodeMeaning::PaymentUnknown
            | CodeMeaning::RefundUnknown,
        ) => Err(Ambiguity::UnlistedWord),
        None => Err(unlisted(code)),
    }
}

/// A refund is refused only by what is documented for refunds; anything else is asked about.
fn of_refund(is_first: bool, meaning: Option<CodeMeaning>, code: Option<&str>) -> WechatFinding {
    match meaning {
        Some(CodeMeaning::Signature) => Ok(Finding::NotExecuted(Rejection::Signature)),
        Some(CodeMeaning::Refused | CodeMeaning::Invalid | CodeMeaning::RefundUnknown)
            if is_first =>
        {
            Ok(refused(code))
        }
        Some(CodeMeaning::Rate | CodeMeaning::Unfinished) => Err(Ambiguity::NoAnswer),
        Some(CodeMeaning::Outage) => Err(Ambiguity::ServerFault),
        Some(
            CodeMeaning::RefusedPayment
            | CodeMeaning::Refused
            | CodeMeaning::Invalid
            | CodeMeaning::RefundUnknown
            | CodeMeaning::PaymentUnknown
            | CodeMeaning::Closed
            | CodeMeaning::Paid,
        ) => Err(Ambiguity::UnlistedWord),
        None => Err(unlisted(code)),
    }
}

fn of_question(
    meaning: Option<CodeMeaning>,
    not_there: CodeMeaning,
    code: Option<&str>,
) -> WechatFinding {
    match meaning {
        Some(known) if known == not_there => Ok(Finding::NotFound),
        Some(CodeMeaning::Signature) => Ok(Finding::NotExecuted(Rejection::Signature)),
        Some(CodeMeaning::Rate) => Ok(Finding::NotExecuted(Rejection::Rate)),
        Some(CodeMeaning::Outage) => Err(Ambiguity::ServerFault),
        Some(CodeMeaning::Unfinished) => Err(Ambiguity::NoAnswer),
        Some(
            CodeMeaning::RefusedPayment
            | CodeMeaning::Refused
            | CodeMeaning::Invalid
            | CodeMeaning::PaymentUnknown
            | CodeMeaning::RefundUnknown
            | CodeMeaning::Closed
            | CodeMeaning::Paid,
        ) => Err(Ambiguity::UnlistedWord),
        None => Err(unlisted(code)),
    }
}

fn refused(code: Option<&str>) -> Finding {
    Finding::Refused(Reason::from_code(code.unwrap_or("REFUSED")))
}

fn unlisted(code: Option<&str>) -> Ambiguity {
    code.map_or(Ambiguity::Unreadable, |_| Ambiguity::UnlistedWord)
}

fn plain(code: &str) -> String {
    code.replace('_', "")
}

fn meaning(code: &str) -> Option<CodeMeaning> {
    let plain = plain(code);
    let mut all = CODES.iter();
    all.find(|(known, _)| *known == plain)
        .map(|(_, meaning)| *meaning)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Wanted = Wanted::Prepay { is_first: true };
    const AGAIN: Wanted = Wanted::Prepay { is_first: false };
    const REFUND: Wanted = Wanted::Refund { is_first: true };
    const REFUND_AGAIN: Wanted = Wanted::Refund { is_first: false };
    const ALL: [Wanted; 6] = [
        FIRST,
        AGAIN,
        Wanted::Payment,
        REFUND,
        REFUND_AGAIN,
        Wanted::RefundState,
    ];

    /// Every documented code with its documented status, and what it proves of a create, its repeat,
    /// a query, a refund, its repeat and a refund query: `-` is a refusal.
    #[rustfmt::skip]
    const TABLE: [(u16, &str, [&str; 6]); 32] = [
        (202, "USERPAYING", ["no_answer"; 6]),
        (202, "USER_PAYING", ["no_answer"; 6]),
        (400, "PARAM_ERROR", ["-", "unlisted", "unlisted", "-", "unlisted", "unlisted"]),
        (400, "INVALID_REQUEST", ["-", "mismatch", "unlisted", "-", "unlisted", "unlisted"]),
        (400, "APPID_MCHID_NOT_MATCH", ["-", "unlisted", "unlisted", "unlisted", "unlisted", "unlisted"]),
        (400, "MCH_NOT_EXISTS", ["-", "unlisted", "unlisted", "-", "unlisted", "unlisted"]),
        (400, "ORDER_CLOSED", ["-", "unlisted", "unlisted", "unlisted", "unlisted", "unlisted"]),
        (400, "ORDERCLOSED", ["-", "unlisted", "unlisted", "unlisted", "unlisted", "unlisted"]),
        (400, "ORDERPAID", ["unlisted"; 6]),
        (400, "ORDER_PAID", ["unlisted"; 6]),
        (401, "SIGN_ERROR", ["signature"; 6]),
        (403, "NO_AUTH", ["-", "unlisted", "unlisted", "-", "unlisted", "unlisted"]),
        (403, "NOAUTH", ["-", "unlisted", "unlisted", "-", "unlisted", "unlisted"]),
        (403, "ACCOUNT_ERROR", ["-", "unlisted", "unlisted", "unlisted", "unlisted", "unlisted"]),
        (403, "NOT_ENOUGH", ["-", "unlisted", "unlisted", "-", "unlisted", "unlisted"]),
        (403, "OUT_TRADE_NO_USED", ["-", "unlisted", "unlisted", "unlisted", "unlisted", "unlisted"]),
        (403, "RULE_LIMIT", ["-", "unlisted", "unlisted", "unlisted", "unlisted", "unlisted"]),
        (403, "TRADE_ERROR", ["-", "unlisted", "unlisted", "unlisted", "unlisted", "unlisted"]),
        (403, "USER_ACCOUNT_ABNORMAL", ["-", "unlisted", "unlisted", "-", "unlisted", "unlisted"]),
        (404, "ORDER_NOT_EXIST", ["unlisted", "unlisted", "not_found", "unlisted", "unlisted", "unlisted"]),
        (404, "ORDERNOTEXIST", ["unlisted", "unlisted", "not_found", "unlisted", "unlisted", "unlisted"]),
        (404, "RESOURCE_NOT_EXISTS", ["unlisted", "unlisted", "unlisted", "-", "unlisted", "not_found"]),
        (429, "FREQUENCY_LIMITED", ["rate", "rate", "rate", "no_answer", "no_answer", "rate"]),
        (429, "RATELIMIT_EXCEEDED", ["rate", "rate", "rate", "no_answer", "no_answer", "rate"]),
        (429, "RATE_LIMITED", ["rate", "rate", "rate", "no_answer", "no_answer", "rate"]),
        (403, "FREQUENCY_LIMITED", ["rate", "rate", "rate", "no_answer", "no_answer", "rate"]),
        (500, "SYSTEM_ERROR", ["fault"; 6]),
        (500, "SYSTEMERROR", ["fault"; 6]),
        (500, "BANK_ERROR", ["fault"; 6]),
        (500, "OPENID_MISMATCH", ["-", "unlisted", "unlisted", "unlisted", "unlisted", "unlisted"]),
        (500, "INVALID_TRANSACTIONID", ["-", "unlisted", "unlisted", "unlisted", "unlisted", "unlisted"]),
        (503, "SERVICE_UNAVAILABLE", ["fault"; 6]),
    ];

    fn word(found: &WechatFinding) -> &'static str {
        match found {
            Ok(Finding::Refused(_)) => "-",
            Ok(Finding::NotFound) => "not_found",
            Ok(Finding::NotExecuted(Rejection::Signature)) => "signature",
            Ok(Finding::NotExecuted(Rejection::Rate)) => "rate",
            Err(Ambiguity::NoAnswer) => "no_answer",
            Err(Ambiguity::ServerFault) => "fault",
            Err(Ambiguity::UnlistedWord) => "unlisted",
            Err(Ambiguity::Mismatch) => "mismatch",
            Err(Ambiguity::Unproven) => "unproven",
            Err(Ambiguity::Unreadable) => "unreadable",
            other => panic!("{other:?}"),
        }
    }

    fn found(wanted: Wanted, is_proven: bool, status: u16, code: Option<&str>) -> &'static str {
        let status = StatusCode::from_u16(status).unwrap();
        word(&of_error(wanted, is_proven, status, code))
    }

    /// C3, E2: every documented code proves what is listed for it, and of nothing else.
    #[test]
    fn every_documented_code_proves_what_is_listed() {
        for (status, code, expected) in TABLE {
            let all = ALL.map(|wanted| found(wanted, true, status, Some(code)));
            assert_eq!(all, expected, "{status} {code}");
        }
        for (known, _) in CODES {
            let is_tried = |code: &str| plain(code) == known;
            assert!(TABLE.iter().any(|(_, code, _)| is_tried(code)), "{known}");
        }
    }

    /// E2, V1: an unsigned error proves nothing about a query or a refund, whatever it says; and a
    /// refund that was throttled is unknown, signed or not.
    #[test]
    fn an_unsigned_error_ends_nothing_but_a_first_create() {
        for (status, code, _) in TABLE {
            for wanted in ALL {
                let unsigned = found(wanted, false, status, Some(code));
                let signed = found(wanted, true, status, Some(code));
                match wanted {
                    Wanted::Prepay { .. } => assert_eq!(unsigned, signed, "{code}"),
                    Wanted::Payment | Wanted::Refund { .. } | Wanted::RefundState => {
                        let nothing = ["unproven", "no_answer", "fault"];
                        assert!(nothing.contains(&unsigned), "{status} {code}: {unsigned}");
                    }
                }
            }
        }
        for code in [None, Some("FREQUENCY_LIMITED"), Some("PARAM_ERROR")] {
            assert_eq!(found(REFUND, true, 429, code), "no_answer", "{code:?}");
        }
    }

    /// C3, V1: an unlisted code, or none, proves nothing, with whatever status.
    #[test]
    fn an_unlisted_code_proves_nothing() {
        for code in [
            None,
            Some(""),
            Some("SUCCESS"),
            Some("param_error"),
            Some("PARAM ERROR"),
        ] {
            for status in [300, 400, 401, 403, 404, 409, 429, 500, 502, 503, 504] {
                for wanted in ALL {
                    let found = found(wanted, true, status, code);
                    let nothing = ["unlisted", "unreadable", "fault", "no_answer"];
                    assert!(nothing.contains(&found), "{status} {code:?}: {found}");
                }
            }
        }
    }
}
