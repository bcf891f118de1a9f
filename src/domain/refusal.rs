//! All public error codes. A code never changes its meaning; its text may.
//!
//! HTTP status and problem document are built in `api/refusal.rs`.

use std::time::Duration;

use crate::domain::amount::{Amount, AmountFault};
use crate::domain::identifiers::Malformed;
use crate::domain::institutions::{IneligibleReason, RefundLack};

/// Why a request is refused. `Display` is the `detail`: what was expected and what to do; it never
/// quotes a value, which may be personal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The body is not a single JSON object, parsed strictly (Q10).
    #[error("the body must be a single JSON object of plain fields, in UTF-8: {0}")]
    BodyUnreadable(&'static str),
    /// The object has a duplicate name (Q10).
    #[error("duplicate field; send each field once")]
    FieldTwice(Box<str>),
    /// The API has no such field.
    #[error("unknown field; remove it or correct its name")]
    FieldUnknown(Box<str>),
    /// A required field is absent.
    #[error("the field is required")]
    FieldMissing(&'static str),
    /// Either of two fields is required, and both are absent.
    #[error("expected {0} or {1}, found neither; send one of them")]
    NeitherField(&'static str, &'static str),
    /// A field has the wrong format.
    #[error("expected {expected}")]
    FieldMalformed {
        /// Which field.
        field: &'static str,
        /// The expected format.
        expected: &'static str,
    },
    /// The request target has a query: order numbers and names must stay out of URLs, which others
    /// log (R-6.5-1c).
    #[error("query strings are not accepted; send fields in the body")]
    QueryUnexpected,
    /// Two fields contradict each other.
    #[error("{0}")]
    FieldsDisagree(&'static str),
    /// The media type is not JSON.
    #[error("send content-type: application/json")]
    MediaTypeWrong,
    /// The body is over the limit.
    #[error("the body is larger than {bytes_max} bytes")]
    BodyTooLarge {
        /// The limit.
        bytes_max: usize,
    },
    /// Too many header fields, or too large.
    #[error("too many header fields, or too large")]
    HeadTooLarge,
    /// The body did not arrive in time.
    #[error("the request did not arrive within the time allowed")]
    TooSlow,
    /// A page of another site posted the form of a payer's page.
    #[error("the form was posted by a page of another site; nothing was done")]
    CrossSite,
    /// No such path.
    #[error("no such endpoint; see the list in GET /openapi.yaml")]
    PathUnknown,
    /// The path exists for another method.
    #[error("use the method {0}")]
    MethodWrong(&'static str),
    /// The signature or the request names another authority.
    #[error("this gateway serves {expected}; sign and send requests for that origin")]
    AuthorityWrong {
        /// Our public origin.
        expected: Box<str>,
    },
    /// No usable signature: missing, malformed, covering too little, or several at once.
    #[error("{0}")]
    SignatureUnusable(Box<str>),
    /// The key is not enrolled.
    #[error("no enrolled key has this keyid; compare it with the enrolled one")]
    KeyUnknown,
    /// The key is outside its validity (R-6.3.1-1c).
    #[error("the key is outside its validity period; sign with a current key")]
    KeyExpired,
    /// The body does not match its digest.
    #[error("content-digest does not match the received body; digest the exact bytes sent")]
    DigestMismatch,
    /// The signature does not verify. Includes the signature base we computed, if the caller may
    /// see it.
    #[error("the signature does not verify{}", .base.as_ref().map(|base| format!("; expected signature base:\n{base}")).unwrap_or_default())]
    SignatureMismatch {
        /// The signature base (never a secret).
        base: Option<Box<str>>,
    },
    /// `created` or `expires` outside the window.
    #[error("{0}")]
    OutsideWindow(&'static str),
    /// The nonce was used before (Q5).
    #[error("this nonce was used before; sign each request with a new nonce")]
    NonceSpent,
    /// The nonce is missing or malformed.
    #[error("the signature needs a nonce of 16 to 64 characters of base64url")]
    NonceMalformed,
    /// A client certificate is required and was not presented.
    #[error("this merchant must connect with an enrolled client certificate")]
    CertificateMissing,
    /// Signed with a shared secret, and no client certificate was presented (R-6.3.1-1b).
    #[error(
        "a shared secret (hmac-sha256) is accepted only on a connection with an enrolled client \
         certificate; connect with one, or sign with a private key"
    )]
    SecretAlone,
    /// The client certificate is outside its validity period, possibly since the connection was
    /// made.
    #[error("the client certificate is outside its validity period; connect with a current one")]
    CertificateExpired,
    /// The client certificate is not one of this merchant's (Q4).
    #[error("the client certificate is not enrolled for the merchant of this key")]
    CertificateForeign,
    /// The merchant may not transact (R-4-3).
    #[error("this merchant is currently not admitted; contact the people who run the gateway")]
    MerchantNotAdmitted,
    /// `merchantId` is not the caller's (Q4).
    #[error("merchantId is not the merchant that signed the request")]
    MerchantForeign,
    /// The caller has no such order (K3).
    #[error("this merchant has no order with these values")]
    OrderUnknown,
    /// Same number, different content (Q7).
    #[error("this merchantOrderNo was used for an order with different content; use a new number")]
    OrderConflict,
    /// The order is closed, expired or being closed (O4).
    #[error("the order is closed or being closed; create a new one")]
    OrderClosed,
    /// The order is paid and cannot be closed.
    #[error("the order is paid; it cannot be closed, only refunded")]
    OrderPaid,
    /// Nothing was paid, so nothing can be refunded (R8).
    #[error("the order is not paid; there is nothing to refund")]
    OrderUnpaid,
    /// The caller has no such refund (K3).
    #[error("this merchant has no such refund")]
    RefundUnknown,
    /// Same number, different content (R6).
    #[error("this merchantRefundNo was used for another refund; use a new number")]
    RefundConflict,
    /// More than the refundable amount (R1).
    #[error("{}", remaining_text(.rest.as_ref()))]
    RefundExceedsRemaining {
        /// The refundable amount, net of pending refunds; `None` when nothing more can be refunded.
        rest: Option<Amount>,
    },
    /// The refund window is over.
    #[error(
        "the institution's refund window for this payment is over; return the money by other means"
    )]
    RefundWindowOver,
    /// The order has the maximum number of refunds.
    #[error("this order has the maximum number of refunds")]
    RefundsExhausted,
    /// The institution does not support such refunds, and a waiver records that (R-6.1.5-2).
    #[error("the institution that was paid does not support such refunds ({})", .0.word())]
    RefundNotSupported(RefundLack),
    /// `noticeUrl` is not under a registered origin.
    #[error("noticeUrl must be https and under an origin registered for this merchant")]
    NoticeUrlUnregistered,
    /// The refund amount is unreadable, too precise or out of range.
    #[error("{0}")]
    RefundAmount(AmountFault),
    /// The order has the maximum number of attempts.
    #[error("this order has the maximum number of attempts; create a new one")]
    AttemptsExhausted,
    /// Concurrent writes to the order until the deadline.
    #[error("the order is being changed by concurrent requests; retry")]
    Contended,
    /// The amount is unreadable, too precise or out of range.
    #[error("{0}")]
    Amount(#[from] AmountFault),
    /// The currency is not supported here.
    #[error("expected one of the settlement currencies: {settled}")]
    CurrencyUnknown {
        /// Their codes.
        settled: Box<str>,
    },
    /// A text contains data that merchants must neither collect nor pass on (R-6.1.4-1).
    #[error("the text appears to contain a card number, a security code or a password; remove it")]
    SecretInText(&'static str),
    /// `merchantName` is not the enrolled one.
    #[error("merchantName is not this merchant's enrolled name")]
    MerchantNameWrong,
    /// `bankReturnUrl` is not under a registered origin.
    #[error("bankReturnUrl must be https and under an origin registered for this merchant")]
    ReturnUrlUnregistered,
    /// No such institution.
    #[error("no such institution; see this order's list")]
    InstitutionUnknown,
    /// An institution must be named in this mode.
    #[error(
        "institutionId is required: this mode has no default institution, and the payer does not have exactly one available"
    )]
    InstitutionRequired,
    /// The merchant has no contract with the institution.
    #[error(
        "this merchant has no contract with the institution; contact the people who run the gateway"
    )]
    InstitutionNotContracted,
    /// The institution is not available for this payment.
    #[error("the institution is not available for this payment ({})", .0.word())]
    InstitutionUnavailable(IneligibleReason),
    /// The payer's id belongs to an application that is none of ours there.
    #[error("payerAppId is no application of the account that this merchant is paid through")]
    AppNotEnrolled,
    /// A mode, type or endpoint that this gateway does not support yet.
    #[error("not supported by this gateway: {0}")]
    NotOffered(&'static str),
    /// Rate limited; nothing was recorded (Q8).
    #[error("too many requests; nothing was recorded; retry after the time given")]
    TooOften {
        /// How long to wait.
        wait: Duration,
    },
    /// Overloaded, draining, or the store is unavailable; nothing was recorded (Q8).
    #[error("temporarily unavailable; nothing was recorded; retry after the time given")]
    Unavailable,
    /// The outcome of a commit is unknown (Q8).
    #[error("the outcome is unknown; retry with the same number")]
    OutcomeUnknown,
}

impl Refusal {
    /// The stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::BodyUnreadable(_) => "body_unreadable",
            Self::FieldTwice(_) => "field_duplicate",
            Self::FieldUnknown(_) => "field_unknown",
            Self::FieldMissing(_) | Self::NeitherField(..) => "field_missing",
            Self::FieldMalformed { .. } => "field_malformed",
            Self::FieldsDisagree(_) => "fields_disagree",
            Self::QueryUnexpected => "query_unexpected",
            Self::MediaTypeWrong => "media_type_wrong",
            Self::BodyTooLarge { .. } => "body_too_large",
            Self::HeadTooLarge => "head_too_large",
            Self::TooSlow => "too_slow",
            Self::CrossSite => "cross_site",
            Self::PathUnknown => "path_unknown",
            Self::MethodWrong(_) => "method_wrong",
            Self::AuthorityWrong { .. } => "authority_wrong",
            Self::SignatureUnusable(_) => "signature_unusable",
            Self::KeyUnknown => "key_unknown",
            Self::KeyExpired => "key_expired",
            Self::DigestMismatch => "digest_mismatch",
            Self::SignatureMismatch { .. } => "signature_mismatch",
            Self::OutsideWindow(_) => "outside_window",
            Self::NonceSpent => "nonce_spent",
            Self::NonceMalformed => "nonce_malformed",
            Self::CertificateMissing | Self::SecretAlone => "certificate_missing",
            Self::CertificateExpired => "certificate_expired",
            Self::CertificateForeign => "certificate_foreign",
            Self::MerchantNotAdmitted => "merchant_not_admitted",
            Self::MerchantForeign => "merchant_foreign",
            Self::OrderUnknown => "order_unknown",
            Self::OrderConflict => "order_conflict",
            Self::OrderClosed => "order_closed",
            Self::OrderPaid => "order_paid",
            Self::OrderUnpaid => "order_unpaid",
            Self::RefundUnknown => "refund_unknown",
            Self::RefundConflict => "refund_conflict",
            Self::RefundExceedsRemaining { .. } => "refund_over_rest",
            Self::RefundWindowOver => "refund_window_over",
            Self::RefundsExhausted => "refunds_exhausted",
            Self::RefundNotSupported(_) => "refund_not_supported",
            Self::NoticeUrlUnregistered => "notice_url_unregistered",
            Self::AttemptsExhausted => "attempts_exhausted",
            Self::Contended => "contended",
            Self::Amount(fault) | Self::RefundAmount(fault) => match fault {
                AmountFault::Unreadable => "amount_unreadable",
                AmountFault::TooPrecise => "amount_too_precise",
                AmountFault::OutOfRange => "amount_out_of_range",
            },
            Self::CurrencyUnknown { .. } => "currency_unknown",
            Self::SecretInText(_) => "secret_in_text",
            Self::MerchantNameWrong => "merchant_name_wrong",
            Self::ReturnUrlUnregistered => "return_url_unregistered",
            Self::InstitutionUnknown => "institution_unknown",
            Self::InstitutionRequired => "institution_required",
            Self::InstitutionNotContracted => "institution_not_contracted",
            Self::InstitutionUnavailable(_) => "institution_unavailable",
            Self::AppNotEnrolled => "app_not_enrolled",
            Self::NotOffered(_) => "not_offered",
            Self::TooOften { .. } => "too_often",
            Self::Unavailable => "unavailable",
            Self::OutcomeUnknown => "outcome_unknown",
        }
    }

    /// The field at fault, if there is one.
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "few refusals have a field; new ones have none by default"
    )]
    pub fn field(&self) -> Option<&str> {
        match self {
            Self::FieldTwice(field) | Self::FieldUnknown(field) => Some(field),
            Self::FieldMissing(field)
            | Self::FieldMalformed { field, .. }
            | Self::SecretInText(field) => Some(field),
            Self::Amount(_) => Some("orderAmount"),
            Self::RefundAmount(_)
            | Self::RefundExceedsRemaining { .. }
            | Self::RefundNotSupported(_) => Some("refundAmount"),
            Self::RefundConflict => Some("merchantRefundNo"),
            Self::NoticeUrlUnregistered => Some("noticeUrl"),
            Self::CurrencyUnknown { .. } => Some("currency"),
            Self::MerchantForeign => Some("merchantId"),
            Self::MerchantNameWrong => Some("merchantName"),
            Self::ReturnUrlUnregistered => Some("bankReturnUrl"),
            Self::AppNotEnrolled => Some("payerAppId"),
            Self::OrderConflict => Some("merchantOrderNo"),
            Self::InstitutionUnknown
            | Self::InstitutionRequired
            | Self::InstitutionNotContracted
            | Self::InstitutionUnavailable(_) => Some("institutionId"),
            _ => None,
        }
    }

    /// Converts a malformed value of a field.
    pub fn malformed(field: &'static str) -> impl Fn(Malformed) -> Self {
        move |fault| Self::FieldMalformed {
            field,
            expected: fault.expected,
        }
    }
}

fn remaining_text(rest: Option<&Amount>) -> String {
    match rest {
        Some(rest) => {
            format!(
                "the refundable amount is {rest}, after deducting all refunds, including pending ones"
            )
        }
        None => "the order has no refundable amount left, including pending refunds".into(),
    }
}
