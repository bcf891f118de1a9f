//! What is kept of a callback: the message in the archive, and the exchange in the exchange log.

use super::{CallbackOutcome, IncomingCallback};
use crate::flow::FlowScope;
use crate::store::{InboxMessage, InboxStatus};
use crate::world::exchange_log::{ExchangeEntry, ReplyCopy, RequestCopy};

/// Bytes of a callback that are archived, headers and body.
const ARCHIVED_BYTES_MAX: usize = 16 * 1024;

pub(super) fn log_exchange(
    scope: FlowScope<'_>,
    incoming: &IncomingCallback<'_>,
    outcome: &CallbackOutcome,
) {
    let Some(about) = outcome.about.clone() else {
        return;
    };
    let FlowScope {
        world, snapshot, ..
    } = scope;
    let at = incoming.stamp.now;
    let path = incoming.callback.message.uri().path_and_query();
    let path = path.map_or("/", |target| target.as_str());
    world.exchange_log.append(ExchangeEntry {
        about,
        at,
        took: world.clock.now().since(at),
        with: format!("institution {}", incoming.institution),
        what: "callback".to_owned(),
        result: outcome.status.clone(),
        is_unproven: outcome.received.status == InboxStatus::Forged,
        is_paying: outcome.has_paid,
        format: incoming.adapter.kind().message_format(),
        request: RequestCopy::of(
            incoming.callback.message,
            format!("{}{path}", snapshot.platform.origin),
        ),
        reply: Some(ReplyCopy::of(&outcome.received.answer)),
    });
}

impl IncomingCallback<'_> {
    /// The message for the archive.
    pub(super) fn archived_as(&self, status: InboxStatus) -> InboxMessage {
        let body = self.callback.message.body();
        let mut raw = Vec::with_capacity(body.len().saturating_add(1_024));
        for (name, value) in self.callback.message.headers() {
            raw.extend_from_slice(name.as_str().as_bytes());
            raw.extend_from_slice(b": ");
            raw.extend_from_slice(value.as_bytes());
            raw.extend_from_slice(b"\r\n");
        }
        raw.extend_from_slice(b"\r\n");
        raw.extend_from_slice(body);
        raw.truncate(ARCHIVED_BYTES_MAX);
        InboxMessage {
            institution: self.institution.clone(),
            status,
            raw,
            at: self.stamp.now,
        }
    }
}
