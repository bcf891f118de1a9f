//! A fake merchant's inbox: stores every notification by its `eventId`, and acknowledges it
//! according to its behaviour.

use std::collections::BTreeMap;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use serde_json::Value;

/// How a merchant answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum FakeMerchantBehaviour {
    /// `noticeResult: SUCCESS`.
    #[default]
    Acknowledges,
    /// HTTP 200, but not the word that ends delivery.
    AnswersOtherWord,
    /// HTTP 500.
    ServerError,
    /// HTTP 404 with the right word.
    NotFoundWithSuccess,
}

/// One event as received.
#[derive(Debug, Clone)]
pub(crate) struct FakeMerchantNotification {
    pub(crate) raw: Bytes,
    pub(crate) times: u32,
    /// This inbox answered SUCCESS at least once.
    pub(crate) acknowledged: bool,
}

impl FakeMerchantNotification {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.raw).unwrap()
    }
}

#[derive(Default)]
pub(crate) struct FakeMerchant {
    pub(crate) behaviour: FakeMerchantBehaviour,
    pub(crate) notices: BTreeMap<String, FakeMerchantNotification>,
    /// Complete requests, in order of arrival, where a test needs them.
    pub(crate) requests: Vec<Request<Bytes>>,
    /// Violations observed.
    pub(crate) faults: Vec<String>,
}

impl FakeMerchant {
    pub(crate) fn answer(&mut self, notice: &Request<Bytes>) -> Response<Bytes> {
        let fields: Value = serde_json::from_slice(notice.body()).unwrap();
        let id = fields["eventId"].as_str().unwrap().to_owned();
        let known = self
            .notices
            .entry(id)
            .or_insert_with(|| FakeMerchantNotification {
                raw: notice.body().clone(),
                times: 0,
                acknowledged: false,
            });
        if known.raw != notice.body() {
            let fault = "N3: one event came with two bodies";
            self.faults.push(fault.to_owned());
        }
        known.times += 1;
        known.acknowledged |= self.behaviour == FakeMerchantBehaviour::Acknowledges;
        self.requests.push(notice.clone());
        let (status, body) = match self.behaviour {
            FakeMerchantBehaviour::Acknowledges => {
                (StatusCode::OK, r#"{"noticeResult":"SUCCESS"}"#)
            }
            FakeMerchantBehaviour::AnswersOtherWord => {
                (StatusCode::OK, r#"{"noticeResult":"success"}"#)
            }
            FakeMerchantBehaviour::ServerError => (StatusCode::INTERNAL_SERVER_ERROR, ""),
            FakeMerchantBehaviour::NotFoundWithSuccess => {
                (StatusCode::NOT_FOUND, r#"{"noticeResult":"SUCCESS"}"#)
            }
        };
        let mut answer = Response::new(Bytes::from_static(body.as_bytes()));
        *answer.status_mut() = status;
        answer
    }
}
