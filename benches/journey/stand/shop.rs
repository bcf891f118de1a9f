//! The merchant's endpoint for notifications, on the load's core: hears everything, says `SUCCESS`,
//! and tells whoever waits when it had said so. It can be closed for a while, so that notifications
//! pile up and are measured alone.

use std::collections::HashMap;
use std::net::TcpListener;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use http::HeaderMap;
use rustls::ServerConfig;
use tokio::sync::{oneshot, watch};

use crate::load::wire::{Message, written};
use crate::stand::https::{Reply, Site, serve};

/// The endpoint.
pub(crate) struct Shop {
    pub(crate) origin: String,
    open: watch::Sender<bool>,
    waiting: Mutex<HashMap<String, oneshot::Sender<Instant>>>,
}

impl Shop {
    /// Serves, open.
    pub(crate) fn serve(tls: Arc<ServerConfig>) -> Result<Arc<Self>> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let port = listener.local_addr()?.port();
        let shop = Arc::new(Self {
            origin: format!("https://localhost:{port}"),
            open: watch::Sender::new(true),
            waiting: Mutex::default(),
        });
        serve(listener, Some(tls), Arc::clone(&shop))?;
        Ok(shop)
    }

    /// From now on answers are sent, or held back.
    pub(crate) fn set_open(&self, open: bool) {
        self.open.send_replace(open);
    }

    /// The moment at which the notification about this order was answered.
    pub(crate) fn expect(&self, order: &str) -> oneshot::Receiver<Instant> {
        let (sender, receiver) = oneshot::channel();
        held(&self.waiting).insert(order.to_owned(), sender);
        receiver
    }
}

impl Site for Shop {
    fn answer(&self, asked: &Message<'_>) -> Result<Reply> {
        let body = std::str::from_utf8(asked.body)?;
        let name = "\"merchantOrderNo\":\"";
        let (_, number) = body.split_once(name).context("no merchantOrderNo")?;
        let (number, _) = number.split_once('"').context("no merchantOrderNo")?;
        let said = Bytes::from_static(b"{\"noticeResult\":\"SUCCESS\"}");
        let mut headers = HeaderMap::new();
        let json = http::HeaderValue::from_static("application/json");
        headers.insert(http::header::CONTENT_TYPE, json);
        Ok(Reply {
            bytes: written("HTTP/1.1 200 OK", &headers, &said),
            written: held(&self.waiting).remove(number),
        })
    }

    async fn hold(&self) {
        let mut open = self.open.subscribe();
        let _ = open.wait_for(|open| *open).await;
    }
}

fn held<T>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}
