//! What the gateway's owner asks about events that were given up: which there are, and that they be
//! sent again (N2). A question is a word and, behind it, whose events are meant.

use crate::domain::identifiers::{EventId, MerchantId};
use crate::store::Outbox;
use crate::store::notifying::WorkerSignals;
use crate::store::outbox::DeadEventFilter;
use crate::world::Clock;

use super::control::{ControlReply, DeadLetteredEvent};

/// Lists dead events.
pub const DEAD: &str = "dead";
/// Has dead events sent again.
pub const RESEND: &str = "resend";

/// Dead events in one answer at most; all are counted.
const SHOWN_MAX: u32 = 100;

/// A word with whose events are meant.
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

/// Reads whose events are meant; `None` if there is anything else.
pub(super) fn meant(rest: &str) -> Option<DeadEventFilter> {
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

/// Counts and lists them.
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

/// Has them sent again; the record of it says by whom, whose and how many (L5).
pub(super) async fn resend(
    outbox: &dyn Outbox,
    (clock, worker_signals): (&dyn Clock, &WorkerSignals),
    (which, by): (&DeadEventFilter, &str),
) -> ControlReply {
    match outbox.resend(which, by, clock.now()).await {
        Ok(count) => {
            if count > 0 {
                worker_signals.events.notify_one();
            }
            tracing::info!(count, by, "dead events are sent again");
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

    /// N2: whose events are meant is understood as it was said, and nothing else is guessed.
    #[test]
    fn an_event_filter_is_read_back_as_written() {
        let event = format!("E{}", "0".repeat(31));
        let all = DeadEventFilter::default();
        let one = DeadEventFilter {
            merchant: MerchantId::parse("M1").ok(),
            event: EventId::parse(&event).ok(),
        };
        for which in [all, one] {
            let asked = question(RESEND, &which);
            assert_eq!(meant(asked.strip_prefix(RESEND).unwrap()), Some(which));
        }
        for wrong in [
            " M1",
            " merchant=",
            " event=E1",
            " all=yes",
            " merchant=M 1",
        ] {
            assert_eq!(meant(wrong), None, "{wrong}");
        }
    }
}
