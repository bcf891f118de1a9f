//! What is kept of a callback: the message in the archive, and the exchange in the exchange log.

use bytes::Bytes;
use http::Request;

use super::CallbackOutcome;
use crate::domain::identifiers::{InstitutionId, Timestamp};
use crate::flow::configuration_snapshot::ConfigurationSnapshot;
use crate::institution::Institution;
use crate::store::{InboxMessage, InboxStatus};
use crate::world::World;
use crate::world::exchange_log::{ExchangeEntry, ReplyCopy, RequestCopy};

/// Bytes of a callback that are archived, headers and body.
const ARCHIVED_BYTES_MAX: usize = 16 * 1024;

pub(super) fn log_exchange(
    world: &World,
    snapshot: &ConfigurationSnapshot,
    (adapter, callback): (&dyn Institution, &Request<Bytes>),
    (at, outcome): (Timestamp, &CallbackOutcome),
) {
    let Some(about) = outcome.about.clone() else {
        return;
    };
    let path = callback.uri().path_and_query();
    let path = path.map_or("/", |target| target.as_str());
    world.exchange_log.append(ExchangeEntry {
        about,
        at,
        took: world.clock.now().since(at),
        with: format!("institution {}", adapter.id()),
        what: "callback".to_owned(),
        result: outcome.status.clone(),
        is_unproven: outcome.received.status == InboxStatus::Forged,
        is_paying: outcome.has_paid,
        format: adapter.kind().message_format(),
        request: RequestCopy::of(callback, format!("{}{path}", snapshot.platform.origin)),
        reply: Some(ReplyCopy::of(&outcome.received.answer)),
    });
}

pub(super) fn message(
    institution: &InstitutionId,
    callback: &Request<Bytes>,
    status: InboxStatus,
    at: Timestamp,
) -> InboxMessage {
    let mut raw = Vec::with_capacity(callback.body().len().saturating_add(1_024));
    for (name, value) in callback.headers() {
        raw.extend_from_slice(name.as_str().as_bytes());
        raw.extend_from_slice(b": ");
        raw.extend_from_slice(value.as_bytes());
        raw.extend_from_slice(b"\r\n");
    }
    raw.extend_from_slice(b"\r\n");
    raw.extend_from_slice(callback.body());
    raw.truncate(ARCHIVED_BYTES_MAX);
    InboxMessage {
        institution: institution.clone(),
        status,
        raw,
        at,
    }
}
