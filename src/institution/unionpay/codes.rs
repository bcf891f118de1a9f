//! Response codes, one by one (C3), and what each proves where it stands. Only codes decide: texts are
//! for people, and the range of a code says nothing. Who sent it was verified before.

use crate::domain::evidence::{Ambiguity, Finding, Reason, Rejection};

pub(super) type UnionPayFinding = Result<Finding, Ambiguity>;

/// What a code means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ResponseClass {
    /// Done, perhaps with a defect. Of a call that only begins something: accepted.
    Success,
    /// Not known yet.
    Unfinished,
    /// Not executed; later it may be.
    Later,
    /// Not executed: the request cannot be read.
    Format,
    /// Not executed: our signature was rejected.
    Signature,
    /// The merchant may not do this.
    Authorisation,
    /// The number was used before.
    Duplicate,
    /// The number is not known.
    UnknownNumber,
    /// Failed, for whatever reason.
    Failed,
    /// Refused by a rule.
    Refused,
    /// Taken too late, and given back.
    GivenBack,
    /// Refused of this card; another one may pay.
    Card,
    /// The payer was led to another way to pay.
    Redirected,
    /// Of files and batches.
    OfFiles,
}

/// The class of a code; `None` if it is not listed.
fn class(code: &str) -> Option<ResponseClass> {
    Some(match code {
        "00" | "A6" => ResponseClass::Success,
        "03" | "04" | "05" => ResponseClass::Unfinished,
        "02" | "06" | "37" => ResponseClass::Later,
        "10" | "13" => ResponseClass::Format,
        "11" => ResponseClass::Signature,
        "12" => ResponseClass::Duplicate,
        "34" => ResponseClass::UnknownNumber,
        "30" | "31" | "32" => ResponseClass::Authorisation,
        "01" | "99" => ResponseClass::Failed,
        "33" | "35" | "36" | "38" | "39" | "40" | "41" | "43" | "44" => ResponseClass::Refused,
        "42" => ResponseClass::GivenBack,
        "60" | "61" | "62" | "63" | "64" | "65" | "66" | "67" | "68" | "69" | "71" | "72"
        | "73" | "74" | "75" | "76" | "77" | "78" | "79" | "80" | "82" => ResponseClass::Card,
        "70" => ResponseClass::Redirected,
        "14" | "98" => ResponseClass::OfFiles,
        _ => return None,
    })
}

/// How a payment is begun: by whom a failed try can be followed by another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PaymentStart {
    /// On UnionPay's page or in its application, where the payer may try with another card.
    Front,
    /// By scanning a code.
    Scanned,
}

/// What an answer says of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum TransactionState {
    /// The money moved.
    Succeeded,
    /// The money was taken too late and is given back.
    GivenBack,
    /// Anything else.
    Other(UnionPayFinding),
}

/// The answer to a create; `None` if it was accepted. No answer but that gives anybody a way to pay.
pub(super) fn of_create(
    code: &str,
    start: PaymentStart,
    is_first: bool,
) -> Option<UnionPayFinding> {
    let Some(class) = class(code) else {
        return Some(Err(Ambiguity::UnlistedWord));
    };
    Some(match class {
        ResponseClass::Success => return None,
        ResponseClass::Later => Ok(Finding::NotExecuted(Rejection::Rate)),
        ResponseClass::Format => Ok(Finding::NotExecuted(Rejection::Format)),
        ResponseClass::Signature => Ok(Finding::NotExecuted(Rejection::Signature)),
        ResponseClass::Unfinished
        | ResponseClass::Redirected
        | ResponseClass::Duplicate
        | ResponseClass::UnknownNumber => Err(Ambiguity::NoAnswer),
        ResponseClass::Failed | ResponseClass::Card if start == PaymentStart::Scanned => {
            Err(Ambiguity::NoAnswer)
        }
        ResponseClass::Authorisation
        | ResponseClass::Failed
        | ResponseClass::Refused
        | ResponseClass::Card => refused_first(code, is_first),
        ResponseClass::GivenBack | ResponseClass::OfFiles => Err(Ambiguity::UnlistedWord),
    })
}

/// The answer to a refund: accepted is not refunded.
pub(super) fn of_refund(code: &str, is_first: bool) -> UnionPayFinding {
    match class(code).ok_or(Ambiguity::UnlistedWord)? {
        ResponseClass::Success => Ok(Finding::Accepted(None)),
        ResponseClass::Format => Ok(Finding::NotExecuted(Rejection::Format)),
        ResponseClass::Signature => Ok(Finding::NotExecuted(Rejection::Signature)),
        // It may have been taken before it was counted.
        ResponseClass::Later
        | ResponseClass::Unfinished
        | ResponseClass::Duplicate
        | ResponseClass::UnknownNumber => Err(Ambiguity::NoAnswer),
        ResponseClass::Authorisation
        | ResponseClass::Failed
        | ResponseClass::Refused
        | ResponseClass::Card => refused_first(code, is_first),
        ResponseClass::GivenBack | ResponseClass::Redirected | ResponseClass::OfFiles => {
            Err(Ambiguity::UnlistedWord)
        }
    }
}

/// The code of a query itself; `None` if it was answered. If it was not, nothing is learned of the
/// transaction.
pub(super) fn of_question(code: &str) -> Option<UnionPayFinding> {
    if code == "00" {
        return None;
    }
    let Some(class) = class(code) else {
        return Some(Err(Ambiguity::UnlistedWord));
    };
    Some(match class {
        ResponseClass::UnknownNumber => Ok(Finding::NotFound),
        ResponseClass::Later => Ok(Finding::NotExecuted(Rejection::Rate)),
        ResponseClass::Format => Ok(Finding::NotExecuted(Rejection::Format)),
        ResponseClass::Signature => Ok(Finding::NotExecuted(Rejection::Signature)),
        ResponseClass::Authorisation => Ok(Finding::NotExecuted(Rejection::Authorisation)),
        ResponseClass::Unfinished
        | ResponseClass::Duplicate
        | ResponseClass::Failed
        | ResponseClass::Refused => Err(Ambiguity::NoAnswer),
        ResponseClass::Success
        | ResponseClass::GivenBack
        | ResponseClass::Card
        | ResponseClass::Redirected
        | ResponseClass::OfFiles => Err(Ambiguity::UnlistedWord),
    })
}

/// The result of a payment that was asked about. Until its deadline and a margin have passed no
/// failure of a try is one of the payment.
pub(super) fn of_payment(code: &str, start: PaymentStart, is_over: bool) -> TransactionState {
    let Some(class) = class(code) else {
        return TransactionState::Other(Err(Ambiguity::UnlistedWord));
    };
    let is_scanned = start == PaymentStart::Scanned;
    TransactionState::Other(match class {
        ResponseClass::Success => return TransactionState::Succeeded,
        ResponseClass::GivenBack => return TransactionState::GivenBack,
        ResponseClass::OfFiles => Err(Ambiguity::UnlistedWord),
        ResponseClass::Unfinished | ResponseClass::Redirected => Ok(Finding::Accepted(None)),
        ResponseClass::Later
        | ResponseClass::Format
        | ResponseClass::Signature
        | ResponseClass::Authorisation
        | ResponseClass::Refused
            if is_scanned =>
        {
            Ok(refused(code))
        }
        ResponseClass::Later
        | ResponseClass::Format
        | ResponseClass::Signature
        | ResponseClass::Authorisation
        | ResponseClass::Duplicate
        | ResponseClass::UnknownNumber
        | ResponseClass::Failed
        | ResponseClass::Refused
        | ResponseClass::Card
            if !is_over =>
        {
            Ok(Finding::Accepted(None))
        }
        ResponseClass::UnknownNumber => Ok(Finding::NotFound),
        // The existing one may be paid.
        ResponseClass::Duplicate => Err(Ambiguity::NoAnswer),
        ResponseClass::Later
        | ResponseClass::Format
        | ResponseClass::Signature
        | ResponseClass::Authorisation
        | ResponseClass::Failed
        | ResponseClass::Refused
        | ResponseClass::Card => Ok(refused(code)),
    })
}

/// The result of a refund that was asked about.
pub(super) fn of_refund_state(code: &str) -> TransactionState {
    let Some(class) = class(code) else {
        return TransactionState::Other(Err(Ambiguity::UnlistedWord));
    };
    TransactionState::Other(match class {
        ResponseClass::Success => return TransactionState::Succeeded,
        ResponseClass::Unfinished => Ok(Finding::Accepted(None)),
        ResponseClass::UnknownNumber => Ok(Finding::NotFound),
        ResponseClass::Duplicate => Err(Ambiguity::NoAnswer),
        ResponseClass::Later
        | ResponseClass::Format
        | ResponseClass::Signature
        | ResponseClass::Authorisation
        | ResponseClass::Failed
        | ResponseClass::Refused
        | ResponseClass::Card => Ok(refused(code)),
        ResponseClass::GivenBack | ResponseClass::Redirected | ResponseClass::OfFiles => {
            Err(Ambiguity::UnlistedWord)
        }
    })
}

/// The result of a payment in a message that nobody asked for: only a success is said of a payment as
/// a whole, anything else is a reason to ask.
pub(super) fn of_payment_notice(code: &str) -> TransactionState {
    match class(code) {
        Some(ResponseClass::Success) => TransactionState::Succeeded,
        Some(ResponseClass::OfFiles) | None => {
            TransactionState::Other(Err(Ambiguity::UnlistedWord))
        }
        Some(_) => TransactionState::Other(Ok(Finding::Hint)),
    }
}

/// The same of a refund, of which failures are notified too.
pub(super) fn of_refund_notice(code: &str) -> TransactionState {
    match of_refund_state(code) {
        TransactionState::Other(Ok(Finding::NotFound) | Err(Ambiguity::NoAnswer)) => {
            TransactionState::Other(Ok(Finding::Hint))
        }
        other @ (TransactionState::Succeeded
        | TransactionState::GivenBack
        | TransactionState::Other(_)) => other,
    }
}

/// A repeat may be refused although the first sending was not.
fn refused_first(code: &str, is_first: bool) -> UnionPayFinding {
    if is_first {
        Ok(refused(code))
    } else {
        Err(Ambiguity::NoAnswer)
    }
}

fn refused(code: &str) -> Finding {
    Finding::Refused(Reason::from_code(code))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each documented code and what it proves: of a create on a page or in an application, and of one
    /// of a code to scan; of a refund; of a query; of a payment on a page before and after its
    /// deadline; of a scanned one before; of a refund that was asked about. `-` is a refusal, `?` no
    /// answer, `!` an unlisted word.
    #[rustfmt::skip]
    const TABLE: [(&str, [&str; 8]); 58] = [
        ("00", ["done", "done", "open", "done", "paid", "paid", "paid", "paid"]),
        ("A6", ["done", "done", "open", "!", "paid", "paid", "paid", "paid"]),
        ("01", ["-", "?", "-", "?", "open", "-", "open", "-"]),
        ("02", ["rate", "rate", "?", "rate", "open", "-", "-", "-"]),
        ("03", ["?", "?", "?", "?", "open", "open", "open", "open"]),
        ("04", ["?", "?", "?", "?", "open", "open", "open", "open"]),
        ("05", ["?", "?", "?", "?", "open", "open", "open", "open"]),
        ("06", ["rate", "rate", "?", "rate", "open", "-", "-", "-"]),
        ("10", ["format", "format", "format", "format", "open", "-", "-", "-"]),
        ("11", ["signature", "signature", "signature", "signature", "open", "-", "-", "-"]),
        ("12", ["?", "?", "?", "?", "open", "?", "open", "?"]),
        ("13", ["format", "format", "format", "format", "open", "-", "-", "-"]),
        ("14", ["!"; 8]),
        ("30", ["-", "-", "-", "authorisation", "open", "-", "-", "-"]),
        ("31", ["-", "-", "-", "authorisation", "open", "-", "-", "-"]),
        ("32", ["-", "-", "-", "authorisation", "open", "-", "-", "-"]),
        ("33", ["-", "-", "-", "?", "open", "-", "-", "-"]),
        ("34", ["?", "?", "?", "not found", "open", "not found", "open", "not found"]),
        ("35", ["-", "-", "-", "?", "open", "-", "-", "-"]),
        ("36", ["-", "-", "-", "?", "open", "-", "-", "-"]),
        ("37", ["rate", "rate", "?", "rate", "open", "-", "-", "-"]),
        ("38", ["-", "-", "-", "?", "open", "-", "-", "-"]),
        ("39", ["-", "-", "-", "?", "open", "-", "-", "-"]),
        ("40", ["-", "-", "-", "?", "open", "-", "-", "-"]),
        ("41", ["-", "-", "-", "?", "open", "-", "-", "-"]),
        ("42", ["!", "!", "!", "!", "given back", "given back", "given back", "!"]),
        ("43", ["-", "-", "-", "?", "open", "-", "-", "-"]),
        ("44", ["-", "-", "-", "?", "open", "-", "-", "-"]),
        ("60", CARD), ("61", CARD), ("62", CARD), ("63", CARD), ("64", CARD), ("65", CARD),
        ("66", CARD), ("67", CARD), ("68", CARD), ("69", CARD),
        ("70", ["?", "?", "!", "!", "open", "open", "open", "!"]),
        ("71", CARD), ("72", CARD), ("73", CARD), ("74", CARD), ("75", CARD), ("76", CARD),
        ("77", CARD), ("78", CARD), ("79", CARD), ("80", CARD), ("82", CARD),
        ("98", ["!"; 8]),
        ("99", ["-", "?", "-", "?", "open", "-", "open", "-"]),
        // Not listed, whatever their range.
        ("", ["!"; 8]), ("0", ["!"; 8]), ("000", ["!"; 8]), ("07", ["!"; 8]), ("81", ["!"; 8]),
        ("a6", ["!"; 8]),
    ];
    const CARD: [&str; 8] = ["-", "?", "-", "!", "open", "-", "open", "-"];

    fn word(found: &UnionPayFinding) -> &'static str {
        match found {
            Ok(Finding::Refused(_)) => "-",
            Ok(Finding::Accepted(None)) => "open",
            Ok(Finding::NotFound) => "not found",
            Ok(Finding::Hint) => "hint",
            Ok(Finding::NotExecuted(Rejection::Rate)) => "rate",
            Ok(Finding::NotExecuted(Rejection::Format)) => "format",
            Ok(Finding::NotExecuted(Rejection::Signature)) => "signature",
            Ok(Finding::NotExecuted(Rejection::Authorisation)) => "authorisation",
            Err(Ambiguity::NoAnswer) => "?",
            Err(Ambiguity::UnlistedWord) => "!",
            other => panic!("{other:?}"),
        }
    }

    fn answered(found: Option<&UnionPayFinding>) -> &'static str {
        found.map_or("done", word)
    }

    fn state(found: &TransactionState) -> &'static str {
        match found {
            TransactionState::Succeeded => "paid",
            TransactionState::GivenBack => "given back",
            TransactionState::Other(found) => word(found),
        }
    }

    /// C3, E2: every documented code proves what is listed for it, and an unlisted one nothing.
    #[test]
    fn every_documented_code_proves_what_is_listed() {
        for (code, expected) in TABLE {
            let found = [
                answered(of_create(code, PaymentStart::Front, true).as_ref()),
                answered(of_create(code, PaymentStart::Scanned, true).as_ref()),
                word(&of_refund(code, true)),
                answered(of_question(code).as_ref()),
                state(&of_payment(code, PaymentStart::Front, false)),
                state(&of_payment(code, PaymentStart::Front, true)),
                state(&of_payment(code, PaymentStart::Scanned, false)),
                state(&of_refund_state(code)),
            ];
            assert_eq!(found, expected, "{code}");
        }
    }

    /// V1, V2: a refused repeat says nothing of the first sending, and a code of a scanned payment
    /// after its deadline the same as of one on a page.
    #[test]
    fn a_refused_repeat_ends_nothing() {
        for (code, _) in TABLE {
            for start in [PaymentStart::Front, PaymentStart::Scanned] {
                assert_ne!(
                    answered(of_create(code, start, false).as_ref()),
                    "-",
                    "{code}"
                );
            }
            assert_ne!(word(&of_refund(code, false)), "-", "{code}");
            let over = [PaymentStart::Front, PaymentStart::Scanned]
                .map(|start| of_payment(code, start, true));
            assert_eq!(over[0], over[1], "{code}");
        }
    }

    /// C3: a notification is a success, of a refund a failure, or a reason to ask.
    #[test]
    fn a_notification_of_anything_else_is_a_reason_to_ask() {
        for (code, expected) in TABLE {
            let payment = state(&of_payment_notice(code));
            let expected_payment = match expected[4] {
                "paid" => "paid",
                "!" => "!",
                _ => "hint",
            };
            assert_eq!(payment, expected_payment, "{code}");
            let refund = state(&of_refund_notice(code));
            let expected_refund = match expected[7] {
                "?" | "not found" => "hint",
                other => other,
            };
            assert_eq!(refund, expected_refund, "{code}");
        }
    }
}
