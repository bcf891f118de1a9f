//! the payer's page.

use bytes::Bytes;
use http::Request;

use crate::api::{Answer, Api};
use crate::domain::refusal::Refusal;
use crate::flow::register::Register;

/// Answers the page, its form and its status.
pub async fn answer(
    api: &Api,
    _register: &Register,
    _token: &str,
    _status: bool,
    _request: &Request<Bytes>,
) -> Answer {
    api.refused("page", &Refusal::PathUnknown)
}
