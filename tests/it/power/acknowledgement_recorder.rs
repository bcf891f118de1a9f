//! Writes down what a store acknowledged, before anybody else hears.

use std::fmt::Display;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use paymux::domain::change::Change;
use paymux::domain::event::Event;
use paymux::domain::identifiers::Timestamp;
use paymux::store::{
    Archive, ArchiveOutcome, Changes, Committed, InboxMessage, NonceRetention, Store, StoreError,
};

use super::acknowledged::NOTIFIED;

/// In front of whatever acknowledges something with a method of its own; deliveries are reported to it.
pub(super) struct AcknowledgementRecorder {
    store: Arc<Store>,
    reported: Mutex<File>,
}

impl AcknowledgementRecorder {
    pub(super) fn new(store: Arc<Store>, folder: &Path) -> Self {
        let reported = File::options()
            .create(true)
            .append(true)
            .open(folder.join(NOTIFIED))
            .unwrap();
        Self {
            store,
            reported: Mutex::new(reported),
        }
    }

    /// As the gateway is given it.
    pub(super) fn handles(self: &Arc<Self>) -> Arc<Store> {
        Arc::new(Store {
            changes: self.clone(),
            archive: self.clone(),
            nonces: self.clone(),
            ..Store::clone(&self.store)
        })
    }

    /// The store has acknowledged that this event was delivered.
    pub(super) fn delivered(&self, event: &Event) {
        self.tell(format_args!("delivered {}", event.id.as_str()));
    }

    /// A line, in one write.
    fn tell(&self, what: impl Display) {
        let line = format!("{what}\n");
        self.reported
            .lock()
            .unwrap()
            .write_all(line.as_bytes())
            .unwrap();
    }
}

#[async_trait]
impl Changes for AcknowledgementRecorder {
    async fn commit(&self, change: &Change) -> Result<Committed, StoreError> {
        let committed = self.store.changes.commit(change).await?;
        if committed == Committed::Done {
            if let Some(order) = change.order() {
                self.tell(format_args!("order {} {}", order.no, order.version));
            }
            if let Some(nonce) = change.nonce() {
                let (key, created) = (nonce.key.as_str(), nonce.created.ms());
                self.tell(format_args!("nonce {key} {} {created}", nonce.value));
            }
        }
        Ok(committed)
    }
}

#[async_trait]
impl Archive for AcknowledgementRecorder {
    async fn archive(&self, message: &InboxMessage) -> Result<ArchiveOutcome, StoreError> {
        let outcome = self.store.archive.archive(message).await?;
        if outcome == ArchiveOutcome::New {
            self.tell("kept");
        }
        Ok(outcome)
    }
}

#[async_trait]
impl NonceRetention for AcknowledgementRecorder {
    async fn forget_nonces(&self, until: Timestamp) -> Result<(), StoreError> {
        self.store.nonces.forget_nonces(until).await?;
        for (first, last) in self.store.replay_floor.forgotten().spans() {
            self.tell(format_args!("forgotten {} {}", first.ms(), last.ms()));
        }
        Ok(())
    }
}
