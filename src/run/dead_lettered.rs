//! Lists dead-lettered events and resends them, on request over the control socket (N2). A request
//! is a command word followed by a filter of events.

use crate::domain::identifiers::{EventId, MerchantId};
use crate::store::Outbox;
use crate::store::notifying::WorkerSignals;
use crate::store::outbox::DeadEventFilter;
use crate::world::Clock;

use super::control::{ControlReply, DeadLetteredEvent};

/// Lists dead-lettered events.
pub const DEAD: &str = "dead";
/// Resends dead-lettered events.
pub const RESEND: &str = "resend";

/// The most events in one reply; `count` still counts all of them.
const SHOWN_MAX: u32 = 100;

/// A command word followed by the filter.
pub fn question(word: &str, which: &DeadEventFilter) -> String {
    let mut question = word.to_owned();
    if let Some(merchant) = &which.merchant {
        question.push_str(" merchant=");
        question.push_str(merchant.as_str());
    }
    if let Some(event) = &which.event {
        question.push_str(" event=");
        question.push_str(event.as_str());
    }
    question
}

/// Parses the filter; `None` if it contains anything else.
pub(super) fn parse_filter(rest: &str) -> Option<DeadEventFilter> {
    let mut which = DeadEventFilter::default();
    for word in rest.split_whitespace() {
        match word.split_once('=')? {
            ("merchant", id) => which.merchant = Some(MerchantId::parse(id).ok()?),
            ("event", id) => which.event = Some(EventId::parse(id).ok()?),
            _ => return None,
        }
    }
    Some(which)
}

/// Counts them and lists the first of them.
pub(super) async fn dead(outbox: &dyn Outbox, which: &DeadEventFilter) -> ControlReply {
    match outbox.dead_lettered(which, SHOWN_MAX).await {
        Ok(dead) => ControlReply::Dead {
            count: dead.count,
            shown: dead
                .shown
                .iter()
                .map(|event| DeadLetteredEvent {
                    event_id: event.id.as_str().to_owned(),
                    event_type: event.kind.name().to_owned(),
                    merchant_id: event.merchant.to_string(),
                    sequence: event.sequence,
                    pay_order_no: event.order.to_string(),
                    born: event.born.rfc3339(),
                })
                .collect(),
        },
        Err(fault) => ControlReply::Failed {
            fault: fault.to_string(),
        },
    }
}

/// Resends them; the audit entry records by whom, for whom and how many (L5).
pub(super) async fn resend(
    outbox: &dyn Outbox,
    clock: &dyn Clock,
    worker_signals: &WorkerSignals,
    which: &DeadEventFilter,
    by: &str,
) -> ControlReply {
    match outbox.resend(which, by, clock.now()).await {
        Ok(count) => {
            if count > 0 {
                worker_signals.events.notify_one();
            }
            tracing::info!(count, by, "dead-lettered events are resent");
            ControlReply::Resent { count }
        }
        Err(fault) => ControlReply::Failed {
            fault: fault.to_string(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// N2: the filter is parsed exactly as it was written, and nothing else is guessed.
    #[test]
    fn an_event_filter_is_read_back_as_written() {
        let event = format!("E{}", "0".repeat(31));
        let all = DeadEventFilter::default();
        let one = DeadEventFilter {
            merchant: MerchantId::parse("M1").ok(),
            event: EventId::parse(&event).ok(),
        };
        for which in [all, one] {
            let request = question(RESEND, &which);
            assert_eq!(
                parse_filter(request.strip_prefix(RESEND).unwrap()),
                Some(which)
            );
        }
        for wrong in [
            " M1",
            " merchant=",
            " event=E1",
            " all=yes",
            " merchant=M 1",
        ] {
            assert_eq!(parse_filter(wrong), None, "{wrong}");
        }
    }
}
