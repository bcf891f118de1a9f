//! Every public error code, once. A code never changes its meaning; texts may.
//!
//! HTTP status and problem document are made in `api/refusal.rs`.

use std::time::Duration;

use crate::domain::amount::{Amount, AmountFault};
use crate::domain::identifiers::Malformed;
use crate::domain::institutions::{IneligibleReason, RefundLack};

/// What we answer when we do not do what was asked. `Display` is the `detail`: what was expected
/// and what to do; it never quotes a value, which may be personal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The body is not one JSON object, read strictly (Q10).
    #[error("the body must be one JSON object of plain fields, in UTF-8: {0}")]
    BodyUnreadable(&'static str),
    /// A name stands twice in the object (Q10).
    #[error("the field stands twice; send each field once")]
    FieldTwice(Box<str>),
    /// A field the interface does not have.
    #[error("this interface has no such field; remove it or correct its name")]
    FieldUnknown(Box<str>),
    /// A required field is absent.
    #[error("the field is required")]
    FieldMissing(&'static str),
    /// Of two fields either would do, and both are absent.
    #[error("expected {0} or {1}, found neither; send one of them")]
    NeitherField(&'static str, &'static str),
    /// A field does not have its shape.
    #[error("expected {expected}")]
    FieldMalformed {
        /// Which field.
        field: &'static str,
        /// What would have been accepted.
        expected: &'static str,
    },
    /// Something follows a `?` in the address: numbers and names stay out of addresses, which others
    /// write down (R-6.5-1c).
    #[error("this interface takes no query; send fields in the body, and the path alone as target")]
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
    /// Too many or too large header lines.
    #[error("too many header lines, or too large ones")]
    HeadTooLarge,
    /// The body did not arrive in time.
    #[error("the request did not arrive within the time allowed")]
    TooSlow,
    /// No such path.
    #[error("there is no such interface; see the list in GET /openapi.yaml")]
    PathUnknown,
    /// The path exists under another method.
    #[error("use the method {0}")]
    MethodWrong(&'static str),
    /// Signed for, or sent to, another authority.
    #[error("this gateway answers for {expected}; sign and send to that origin")]
    AuthorityWrong {
        /// Our public origin.
        expected: Box<str>,
    },
    /// No usable signature: missing, malformed, covering too little, two at once.
    #[error("{0}")]
    SignatureUnusable(Box<str>),
    /// The key is not enrolled.
    #[error("no enrolled key has this keyid; check the keyid against what was enrolled")]
    KeyUnknown,
    /// The key is outside its validity (R-6.3.1-1c).
    #[error("the key is outside its validity period; sign with a current key")]
    KeyExpired,
    /// The body is not the one that was digested.
    #[error("content-digest does not match the body received; digest the exact bytes sent")]
    DigestMismatch,
    /// The signature does not verify. Carries the base we computed, when the caller may see it.
    #[error("the signature does not verify{}", .base.as_ref().map(|base| format!("; the signature base computed here is:\n{base}")).unwrap_or_default())]
    SignatureMismatch {
        /// The signature base (never a secret).
        base: Option<Box<str>>,
    },
    /// `created` or `expires` outside the window.
    #[error("{0}")]
    OutsideWindow(&'static str),
    /// The nonce was used before (Q5).
    #[error("this nonce was used before; sign each request with a new one")]
    NonceSpent,
    /// The nonce is missing or malformed.
    #[error("the signature needs a nonce of 16 to 64 characters of base64url")]
    NonceMalformed,
    /// A client certificate is required and was not shown.
    #[error("this merchant connects with an enrolled client certificate")]
    CertificateMissing,
    /// Signed with a shared secret, and no client certificate was shown (R-6.3.1-1b).
    #[error(
        "a shared secret (hmac-sha256) counts only on a connection with an enrolled client \
         certificate; connect with one, or sign with a private key"
    )]
    SecretAlone,
    /// The client certificate is outside its validity, perhaps since the connection was made.
    #[error("the client certificate is outside its validity period; connect with a current one")]
    CertificateExpired,
    /// The client certificate is not one of this merchant's (Q4).
    #[error("the client certificate is not enrolled for the merchant of this key")]
    CertificateForeign,
    /// The merchant may not transact (R-4-3).
    #[error("this merchant is not admitted at present; ask the operator")]
    MerchantNotAdmitted,
    /// `merchantId` is not the caller's (Q4).
    #[error("merchantId is not the merchant that signed")]
    MerchantForeign,
    /// No such order of this caller (K3).
    #[error("this merchant has no such order with these particulars")]
    OrderUnknown,
    /// Same number, other content (Q7).
    #[error("this merchantOrderNo was used for an order with other content; use a new number")]
    OrderConflict,
    /// The order is closed, expired or being closed (O4).
    #[error("the order is closed or being closed; place a new one")]
    OrderClosed,
    /// The order is paid and cannot be closed.
    #[error("the order is paid; it cannot be closed, only refunded")]
    OrderPaid,
    /// Nothing was paid, so nothing goes back (R8).
    #[error("the order is not paid; there is nothing to refund")]
    OrderUnpaid,
    /// No such refund of this caller (K3).
    #[error("this merchant has no such refund")]
    RefundUnknown,
    /// Same number, other content (R6).
    #[error("this merchantRefundNo was used for another refund; use a new number")]
    RefundConflict,
    /// More than is left of what was paid (R1).
    #[error("{}", over_rest(.rest.as_ref()))]
    RefundExceedsRemaining {
        /// What is left, pending refunds taken off; `None` when nothing may be refunded any more.
        rest: Option<Amount>,
    },
    /// Too long after the payment.
    #[error(
        "the time in which the institution refunds this payment is over; pay back by other means"
    )]
    RefundWindowOver,
    /// Too many refunds of one order.
    #[error("this order had as many refunds as an order may have")]
    RefundsExhausted,
    /// The institution does not make such refunds, and an operator recorded that (R-6.1.5-2).
    #[error("the institution that was paid makes no such refund ({})", .0.word())]
    RefundNotSupported(RefundLack),
    /// `noticeUrl` is not under a registered origin.
    #[error("noticeUrl must be https and lie under an origin registered for this merchant")]
    NoticeUrlUnregistered,
    /// The sum to refund cannot be read, is too precise or out of range.
    #[error("{0}")]
    RefundAmount(AmountFault),
    /// Too many attempts on one order.
    #[error("this order had as many attempts as an order may have; place a new one")]
    AttemptsExhausted,
    /// Others kept writing to the order until the deadline.
    #[error("the order is being changed by several requests at once; ask again")]
    Contended,
    /// The sum cannot be read, is too precise or out of range.
    #[error("{0}")]
    Amount(#[from] AmountFault),
    /// The currency is not known here.
    #[error("expected a currency that institutions here settle in: {settled}")]
    CurrencyUnknown {
        /// Their codes.
        settled: Box<str>,
    },
    /// A text holds what merchants must neither collect nor pass on (R-6.1.4-1).
    #[error(
        "the text holds what looks like a card number, a security code or a password; leave it out"
    )]
    SecretInText(&'static str),
    /// `merchantName` is not the enrolled one.
    #[error("merchantName is not the enrolled name of this merchant")]
    MerchantNameWrong,
    /// `bankReturnUrl` is not under a registered origin.
    #[error("bankReturnUrl must be https and lie under an origin registered for this merchant")]
    ReturnUrlUnregistered,
    /// No such institution.
    #[error("there is no such institution; see the list of this order")]
    InstitutionUnknown,
    /// An institution must be named in this mode.
    #[error(
        "name an institution: this mode has no enrolled default and not exactly one institution is open to this payer"
    )]
    InstitutionRequired,
    /// The merchant has no contract with the institution.
    #[error("this merchant has no contract with the institution; ask the operator")]
    InstitutionNotContracted,
    /// The institution is not open to this payment.
    #[error("the institution is not open to this payment ({})", .0.word())]
    InstitutionUnavailable(IneligibleReason),
    /// A mode, type or interface that this gateway does not offer yet.
    #[error("not offered by this gateway: {0}")]
    NotOffered(&'static str),
    /// Too often; nothing was recorded (Q8).
    #[error("too many requests; nothing was recorded, ask again after the time given")]
    TooOften {
        /// How long to wait.
        wait: Duration,
    },
    /// Overloaded, draining, or the store cannot be reached; nothing was recorded (Q8).
    #[error("not able to serve at present; nothing was recorded, ask again after the time given")]
    Unavailable,
    /// A commit's outcome could not be learned (Q8).
    #[error("the outcome could not be learned; ask again with the same number")]
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
            Self::NotOffered(_) => "not_offered",
            Self::TooOften { .. } => "too_often",
            Self::Unavailable => "unavailable",
            Self::OutcomeUnknown => "outcome_unknown",
        }
    }

    /// The field to blame, where there is one.
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "few refusals have one; a new one has none until said"
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
            Self::OrderConflict => Some("merchantOrderNo"),
            Self::InstitutionUnknown
            | Self::InstitutionRequired
            | Self::InstitutionNotContracted
            | Self::InstitutionUnavailable(_) => Some("institutionId"),
            _ => None,
        }
    }

    /// How a malformed value of a field is refused.
    pub fn malformed(field: &'static str) -> impl Fn(Malformed) -> Self {
        move |fault| Self::FieldMalformed {
            field,
            expected: fault.expected,
        }
    }
}

fn over_rest(rest: Option<&Amount>) -> String {
    match rest {
        Some(rest) => {
            format!("refunds of this order, pending ones included, leave {rest} to refund")
        }
        None => "nothing is left to refund of this order, pending refunds included".into(),
    }
}
