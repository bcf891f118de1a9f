//! The merchant's notification endpoint, on the load's core: accepts every notification with
//! `SUCCESS`, and reports when the answer was sent. It can hold answers back for a while, so that
//! notifications are measured separately, or not answer at all, so that they pile up.

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

/// What it does with a notification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EndpointBehaviour {
    Answers,
    /// Holds the answer back until it answers again.
    HoldsBack,
    /// Never answers it, so the sender has to retry.
    Silent,
}

/// The endpoint.
pub(crate) struct NotificationEndpoint {
    pub(crate) origin: String,
    behaviour: watch::Sender<EndpointBehaviour>,
    /// Notifications that it never answered.
    pub(crate) unanswered: AtomicUsize,
    /// Expected notifications that it answered.
    pub(crate) answered: AtomicUsize,
    waiting: Mutex<HashMap<String, oneshot::Sender<Instant>>>,
}

impl NotificationEndpoint {
    /// Starts serving, with answers.
    pub(crate) fn serve(tls: Arc<ServerConfig>) -> Result<Arc<Self>> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let port = listener.local_addr()?.port();
        let shop = Arc::new(Self {
            origin: format!("https://localhost:{port}"),
            behaviour: watch::Sender::new(EndpointBehaviour::Answers),
            unanswered: AtomicUsize::new(0),
            answered: AtomicUsize::new(0),
            waiting: Mutex::default(),
        });
        serve(listener, Some(tls), Arc::clone(&shop))?;
        Ok(shop)
    }

    /// Changes its behaviour.
    pub(crate) fn set_behaviour(&self, behaviour: EndpointBehaviour) {
        self.behaviour.send_replace(behaviour);
    }

    fn is_silent(&self) -> bool {
        *self.behaviour.borrow() == EndpointBehaviour::Silent
    }

    /// A receiver for the time at which the notification about this order is answered.
    pub(crate) fn expect(&self, order: &str) -> oneshot::Receiver<Instant> {
        let (sender, receiver) = oneshot::channel();
        lock(&self.waiting).insert(order.to_owned(), sender);
        receiver
    }
}

impl BenchResponder for NotificationEndpoint {
    fn answer(&self, request: &RawMessage<'_>) -> Result<BenchReply> {
        let body = std::str::from_utf8(request.body)?;
        let name = "\"merchantOrderNo\":\"";
        let (_, number) = body.split_once(name).context("no merchantOrderNo")?;
        let (number, _) = number.split_once('"').context("no merchantOrderNo")?;
        let waits = if self.is_silent() {
            None
        } else {
            lock(&self.waiting).remove(number)
        };
        if waits.is_some() {
            self.answered.fetch_add(1, Ordering::Relaxed);
        }
        let reply = Bytes::from_static(b"{\"noticeResult\":\"SUCCESS\"}");
        let mut headers = HeaderMap::new();
        let json = http::HeaderValue::from_static("application/json");
        headers.insert(http::header::CONTENT_TYPE, json);
        Ok(BenchReply {
            bytes: written("HTTP/1.1 200 OK", &headers, &reply),
            written: waits,
        })
    }

    async fn hold(&self) -> bool {
        let silent = self.is_silent();
        if silent {
            self.unanswered.fetch_add(1, Ordering::Relaxed);
        }
        let mut behaviour = self.behaviour.subscribe();
        let _ = behaviour
            .wait_for(|behaviour| *behaviour == EndpointBehaviour::Answers)
            .await;
        !silent
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
