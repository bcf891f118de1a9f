//! A pretend institution of the `standard` dialect, as cheap as one can be: it believes every
//! request and signs what the gateway will check. It runs on the load's core, so nothing of it is
//! counted; it keeps no books.

use std::net::TcpListener;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{Request, Response};
use paymux::signature::{Question, SigningKey, sign_response};
use rustls::ServerConfig;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio_rustls::TlsAcceptor;

use crate::requests::now_s;
use crate::wire::{Inbox, Message, lines, written};

/// The institution's key, and how the gateway addresses it.
pub(crate) struct Institution {
    pub(crate) key: SigningKey,
    pub(crate) origin: String,
}

/// Serves on the load's core.
pub(crate) fn serve(
    listener: TcpListener,
    tls: Arc<ServerConfig>,
    institution: Institution,
) -> Result<()> {
    listener.set_nonblocking(true)?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let (acceptor, institution) = (TlsAcceptor::from(tls), Arc::new(institution));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, institution) = (acceptor.clone(), Arc::clone(&institution));
            tokio::spawn(async move {
                let _ = stream.set_nodelay(true);
                let Ok(mut stream) = acceptor.accept(stream).await else {
                    return;
                };
                let mut inbox = Inbox::default();
                loop {
                    let answer = inbox
                        .next(&mut stream, |asked| institution.answer(&asked))
                        .await;
                    let Ok(Some(Ok(answer))) = answer else {
                        break;
                    };
                    if stream.write_all(&answer).await.is_err() || stream.flush().await.is_err() {
                        break;
                    }
                }
            });
        }
    });
    Ok(())
}

impl Institution {
    fn answer(&self, asked: &Message<'_>) -> Result<Bytes> {
        let request = request(asked)?;
        let target = format!("{}{}", self.origin, request.uri());
        let fields: Value = serde_json::from_slice(request.body())?;
        // Asked about, the order is over there: the gateway then stops asking.
        let placed = fields.get("orderAmount").is_some();
        let body = json!({
            "payOrderNo": "P20260701000000000001",
            "merchantId": fields["merchantId"],
            "merchantOrderNo": fields["merchantOrderNo"],
            "orderAmount": fields.get("orderAmount").unwrap_or(&json!("25.80")),
            "currency": "CNY",
            "result": "ACCEPTED",
            "orderStatus": if placed { "OPEN" } else { "CLOSED" },
            "payUrl": format!("{}/pay/0123456789abcdef", self.origin),
        });
        let mut response = Response::builder()
            .header(CONTENT_TYPE, "application/json")
            .body(Bytes::from(body.to_string()))?;
        let question = Question::of(&request, &target);
        sign_response(&mut response, question.as_ref(), &self.key, now_s())?;
        Ok(written(
            "HTTP/1.1 200 OK",
            response.headers(),
            response.body(),
        ))
    }
}

fn request(asked: &Message<'_>) -> Result<Request<Bytes>> {
    let head = std::str::from_utf8(asked.head)?;
    let path = head.split(' ').nth(1).context("no request line")?;
    let mut request = Request::post(path);
    for (name, value) in lines(asked.head) {
        request = request.header(name, value);
    }
    Ok(request.body(Bytes::copy_from_slice(asked.body))?)
}
