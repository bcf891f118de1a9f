//! An exchange log in memory, and entries for it.

use std::fmt::Write as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::Request;
use paymux::domain::identifiers::{OrderKey, Timestamp};
use paymux::domain::institutions::MessageFormat;
use paymux::store::StoreError;
use paymux::store::exchange_log::{Block, ExchangeLog, Removed};
use paymux::world::exchange_log::{ExchangeEntry, RequestCopy};

/// Stores blocks as received, and removes none.
#[derive(Default)]
pub(crate) struct MemoryLog {
    blocks: Mutex<Vec<Block>>,
    is_broken: AtomicBool,
}

impl MemoryLog {
    /// The blocks written so far.
    pub(crate) fn blocks(&self) -> Vec<Block> {
        self.blocks.lock().unwrap().clone()
    }

    /// Makes appends fail, or succeed again.
    pub(crate) fn break_down(&self, is_broken: bool) {
        self.is_broken.store(is_broken, Ordering::SeqCst);
    }
}

#[async_trait]
impl ExchangeLog for MemoryLog {
    async fn append(&self, block: &Block) -> Result<(), StoreError> {
        if self.is_broken.load(Ordering::SeqCst) {
            return Err(StoreError::Unavailable("broken".into()));
        }
        self.blocks.lock().unwrap().push(block.clone());
        Ok(())
    }

    async fn remove_oldest(&self, _: Option<Timestamp>, _: u64) -> Result<Removed, StoreError> {
        Ok(Removed::default())
    }
}

/// An entry about an order, with `n` as its `fee`, and noise that hardly compresses.
pub(crate) fn entry(about: OrderKey, at: Timestamp, n: u32, noise: usize) -> ExchangeEntry {
    let mut seed = u64::from(n) + 7;
    let mut words = String::new();
    while words.len() < noise {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        write!(words, "{seed:016x}").unwrap();
    }
    let request = Request::post("https://pay.example/v1/orders")
        .header("signature-input", words)
        .body(Bytes::from(format!("{{\"fee\":{n}}}")));
    let target = "https://pay.example/v1/orders".to_owned();
    ExchangeEntry {
        about,
        at,
        took: Duration::from_millis(1),
        with: "merchant M1".to_owned(),
        what: "query".to_owned(),
        result: "E3 accepted".to_owned(),
        is_unproven: false,
        is_paying: false,
        format: MessageFormat::INTERFACE,
        request: RequestCopy::of(&request.unwrap(), target),
        reply: None,
    }
}
