//! A pretend merchant's inbox: keeps every notification by its `eventId`, and says that it heard
//! when it is in the mood to.

use std::collections::BTreeMap;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use serde_json::Value;

/// How a merchant answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Mood {
    /// `noticeResult: SUCCESS`.
    #[default]
    Hears,
    /// HTTP 200, but not the word that ends delivery.
    Mutters,
    /// HTTP 500.
    Stumbles,
    /// HTTP 404 with the right word.
    Contradicts,
}

/// One event as it was heard.
#[derive(Debug, Clone)]
pub(crate) struct Notice {
    pub(crate) raw: Bytes,
    pub(crate) times: u32,
    /// This inbox said SUCCESS to it at least once.
    pub(crate) acknowledged: bool,
}

impl Notice {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.raw).unwrap()
    }
}

#[derive(Default)]
pub(crate) struct Inbox {
    pub(crate) mood: Mood,
    pub(crate) notices: BTreeMap<String, Notice>,
    /// Whole requests, in the order they came, where a test wants to look at them.
    pub(crate) requests: Vec<Request<Bytes>>,
    /// What cannot be, and was.
    pub(crate) faults: Vec<String>,
}

impl Inbox {
    pub(crate) fn answer(&mut self, notice: &Request<Bytes>) -> Response<Bytes> {
        let fields: Value = serde_json::from_slice(notice.body()).unwrap();
        let id = fields["eventId"].as_str().unwrap().to_owned();
        let known = self.notices.entry(id).or_insert_with(|| Notice {
            raw: notice.body().clone(),
            times: 0,
            acknowledged: false,
        });
        if known.raw != notice.body() {
            let fault = "N3: one event came with two bodies";
            self.faults.push(fault.to_owned());
        }
        known.times += 1;
        known.acknowledged |= self.mood == Mood::Hears;
        self.requests.push(notice.clone());
        let (status, body) = match self.mood {
            Mood::Hears => (StatusCode::OK, r#"{"noticeResult":"SUCCESS"}"#),
            Mood::Mutters => (StatusCode::OK, r#"{"noticeResult":"success"}"#),
            Mood::Stumbles => (StatusCode::INTERNAL_SERVER_ERROR, ""),
            Mood::Contradicts => (StatusCode::NOT_FOUND, r#"{"noticeResult":"SUCCESS"}"#),
        };
        let mut answer = Response::new(Bytes::from_static(body.as_bytes()));
        *answer.status_mut() = status;
        answer
    }
}
