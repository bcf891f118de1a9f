//! Maps a refusal to HTTP: status, problem document (RFC 9457), headers; only here.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use serde::Serialize;

use crate::api::response::json_as;
use crate::domain::amount::AmountFault;
use crate::domain::institutions::IneligibleReason;
use crate::domain::refusal::Refusal;

/// How long a caller waits before retrying, where nothing better is known. Unit: seconds.
pub const RETRY_AFTER_S: u64 = 1;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ProblemDetails<'a> {
    r#type: String,
    title: &'static str,
    status: u16,
    detail: String,
    result: &'static str,
    code: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    request_id: &'a str,
}

/// The problem document of a refusal.
pub fn problem(refusal: &Refusal, request_id: &str) -> Response<Bytes> {
    let status = status(refusal);
    let code = refusal.code();
    let body = ProblemDetails {
        r#type: format!("urn:paymux:problem:{code}"),
        title: status.canonical_reason().unwrap_or("Refused"),
        status: status.as_u16(),
        detail: refusal.to_string(),
        result: "REFUSED",
        code,
        field: refusal.field(),
        reason: reason(refusal),
        request_id,
    };
    let mut answer = json_as("application/problem+json", status, &body);
    let headers = answer.headers_mut();
    if let Some(wait) = retry_after_s(refusal) {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(wait));
    }
    if let Refusal::MethodWrong(allowed) = refusal {
        headers.insert(header::ALLOW, HeaderValue::from_static(allowed));
    }
    answer
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "few refusals have one; a new one has none until it is added here"
)]
fn reason(refusal: &Refusal) -> Option<&'static str> {
    match refusal {
        Refusal::InstitutionUnavailable(ineligible) => Some(ineligible.word()),
        Refusal::InstitutionNotContracted => Some(IneligibleReason::NotContracted.word()),
        Refusal::RefundNotSupported(lack) => Some(lack.word()),
        _ => None,
    }
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "few refusals have one; a new one has none until it is added here"
)]
fn retry_after_s(refusal: &Refusal) -> Option<u64> {
    match refusal {
        Refusal::TooOften { wait } => Some(
            wait.as_secs()
                .saturating_add(u64::from(wait.subsec_nanos() > 0))
                .max(1),
        ),
        Refusal::Unavailable | Refusal::OutcomeUnknown | Refusal::Contended => Some(RETRY_AFTER_S),
        _ => None,
    }
}

/// The HTTP status of a refusal (`docs/openapi.yaml`, `Problem`).
pub fn status(refusal: &Refusal) -> StatusCode {
    match refusal {
        Refusal::BodyUnreadable(_)
        | Refusal::FieldTwice(_)
        | Refusal::FieldUnknown(_)
        | Refusal::FieldMissing(_)
        | Refusal::NeitherField(..)
        | Refusal::FieldMalformed { .. }
        | Refusal::FieldsDisagree(_)
        | Refusal::QueryUnexpected
        | Refusal::Amount(AmountFault::Unreadable)
        | Refusal::RefundAmount(AmountFault::Unreadable) => StatusCode::BAD_REQUEST,
        Refusal::SignatureUnusable(_)
        | Refusal::KeyUnknown
        | Refusal::KeyExpired
        | Refusal::DigestMismatch
        | Refusal::SignatureMismatch { .. }
        | Refusal::OutsideWindow(_)
        | Refusal::NonceSpent
        | Refusal::NonceMalformed => StatusCode::UNAUTHORIZED,
        Refusal::CertificateMissing
        | Refusal::SecretAlone
        | Refusal::CertificateExpired
        | Refusal::CertificateForeign
        | Refusal::MerchantNotAdmitted
        | Refusal::CrossSite
        | Refusal::MerchantForeign
        | Refusal::InstitutionNotContracted => StatusCode::FORBIDDEN,
        Refusal::PathUnknown | Refusal::OrderUnknown | Refusal::RefundUnknown => {
            StatusCode::NOT_FOUND
        }
        Refusal::MethodWrong(_) => StatusCode::METHOD_NOT_ALLOWED,
        Refusal::TooSlow => StatusCode::REQUEST_TIMEOUT,
        Refusal::OrderConflict
        | Refusal::OrderClosed
        | Refusal::OrderPaid
        | Refusal::OrderUnpaid
        | Refusal::RefundConflict
        | Refusal::RefundExceedsRemaining { .. }
        | Refusal::RefundWindowOver
        | Refusal::RefundsExhausted
        | Refusal::AttemptsExhausted
        | Refusal::Contended => StatusCode::CONFLICT,
        Refusal::BodyTooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
        Refusal::MediaTypeWrong => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        Refusal::AuthorityWrong { .. } => StatusCode::MISDIRECTED_REQUEST,
        Refusal::Amount(AmountFault::TooPrecise | AmountFault::OutOfRange)
        | Refusal::RefundAmount(AmountFault::TooPrecise | AmountFault::OutOfRange)
        | Refusal::RefundNotSupported(_)
        | Refusal::NoticeUrlUnregistered
        | Refusal::CurrencyUnknown { .. }
        | Refusal::SecretInText(_)
        | Refusal::MerchantNameWrong
        | Refusal::ReturnUrlUnregistered
        | Refusal::InstitutionUnknown
        | Refusal::InstitutionRequired
        | Refusal::InstitutionUnavailable(_)
        | Refusal::AppNotEnrolled
        | Refusal::NotOffered(_) => StatusCode::UNPROCESSABLE_ENTITY,
        Refusal::TooOften { .. } => StatusCode::TOO_MANY_REQUESTS,
        Refusal::HeadTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        Refusal::OutcomeUnknown => StatusCode::INTERNAL_SERVER_ERROR,
        Refusal::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
    }
}
