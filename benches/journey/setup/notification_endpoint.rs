//! The merchant's endpoint for notifications, on the load's core: hears everything, says `SUCCESS`,
//! and tells whoever waits when it had said so. For a while it can hold its answers back, so that
//! notifications are measured alone, or say nothing at all, so that they pile up.

use std::collections::HashMap;
use std::net::TcpListener;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use http::HeaderMap;
use rustls::ServerConfig;
use tokio::sync::{oneshot, watch};

use crate::load::wire::{RawMessage, written};
use crate::setup::https::{BenchReply, BenchResponder, serve};

/// What it does with what it hears.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EndpointBehaviour {
    Answers,
    /// Answers later, once it answers again.
    HoldsBack,
    /// Never answers this one: whoever sent it has to send it again.
    Silent,
}

/// The endpoint.
pub(crate) struct NotificationEndpoint {
    pub(crate) origin: String,
    manner: watch::Sender<EndpointBehaviour>,
    /// Notifications that it never answered.
    pub(crate) unanswered: AtomicUsize,
    /// Notifications that somebody waited for and that it answered.
    pub(crate) answered: AtomicUsize,
    waiting: Mutex<HashMap<String, oneshot::Sender<Instant>>>,
}

impl NotificationEndpoint {
    /// Serves, and answers.
    pub(crate) fn serve(tls: Arc<ServerConfig>) -> Result<Arc<Self>> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let port = listener.local_addr()?.port();
        let shop = Arc::new(Self {
            origin: format!("https://localhost:{port}"),
            manner: watch::Sender::new(EndpointBehaviour::Answers),
            unanswered: AtomicUsize::new(0),
            answered: AtomicUsize::new(0),
            waiting: Mutex::default(),
        });
        serve(listener, Some(tls), Arc::clone(&shop))?;
        Ok(shop)
    }

    /// From now on it does so.
    pub(crate) fn permit(&self, manner: EndpointBehaviour) {
        self.manner.send_replace(manner);
    }

    fn is_silent(&self) -> bool {
        *self.manner.borrow() == EndpointBehaviour::Silent
    }

    /// The moment at which the notification about this order was answered.
    pub(crate) fn expect(&self, order: &str) -> oneshot::Receiver<Instant> {
        let (sender, receiver) = oneshot::channel();
        held(&self.waiting).insert(order.to_owned(), sender);
        receiver
    }
}

impl BenchResponder for NotificationEndpoint {
    fn answer(&self, asked: &RawMessage<'_>) -> Result<BenchReply> {
        let body = std::str::from_utf8(asked.body)?;
        let name = "\"merchantOrderNo\":\"";
        let (_, number) = body.split_once(name).context("no merchantOrderNo")?;
        let (number, _) = number.split_once('"').context("no merchantOrderNo")?;
        let waits = if self.is_silent() {
            None
        } else {
            held(&self.waiting).remove(number)
        };
        if waits.is_some() {
            self.answered.fetch_add(1, Ordering::Relaxed);
        }
        let said = Bytes::from_static(b"{\"noticeResult\":\"SUCCESS\"}");
        let mut headers = HeaderMap::new();
        let json = http::HeaderValue::from_static("application/json");
        headers.insert(http::header::CONTENT_TYPE, json);
        Ok(BenchReply {
            bytes: written("HTTP/1.1 200 OK", &headers, &said),
            written: waits,
        })
    }

    async fn hold(&self) -> bool {
        let silent = self.is_silent();
        if silent {
            self.unanswered.fetch_add(1, Ordering::Relaxed);
        }
        let mut manner = self.manner.subscribe();
        let _ = manner
            .wait_for(|manner| *manner == EndpointBehaviour::Answers)
            .await;
        !silent
    }
}

fn held<T>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}
