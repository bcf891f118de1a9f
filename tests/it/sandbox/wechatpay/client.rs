//! A merchant's client of the counterpart, of a few lines: signs a request by the protocol's text,
//! sends it over TLS, and verifies the answer. Shares no code with what it calls.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, Method, Request};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use paymux::crypto::rsa::{RsaPrivateKey, RsaPublicKey, RsaScheme};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::vectors;

/// An answer.
pub(super) struct WechatReply {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    pub(super) json: Value,
}

impl WechatReply {
    pub(super) fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name);
        value.map_or("", |value| value.to_str().unwrap())
    }

    /// Status and `code`.
    pub(super) fn refusal(&self) -> (u16, &str) {
        (self.status, self.json["code"].as_str().unwrap_or_default())
    }

    /// The digits after the last hyphen of `Request-ID`.
    pub(super) fn reason(&self) -> &str {
        self.header("request-id").rsplit('-').next().unwrap()
    }

    /// Whether the answer is signed with the platform's key, under this serial.
    pub(super) fn is_signed(&self, serial: &str) -> bool {
        is_signed(&self.headers, &self.body, serial)
    }
}

/// Whether the platform's key signed a message, under this serial.
pub(super) fn is_signed(headers: &HeaderMap, body: &[u8], serial: &str) -> bool {
    let header = |name: &str| headers.get(name).map_or("", |it| it.to_str().unwrap());
    let (timestamp, nonce) = (header("wechatpay-timestamp"), header("wechatpay-nonce"));
    let mut text = format!("{timestamp}\n{nonce}\n").into_bytes();
    text.extend_from_slice(body);
    text.push(b'\n');
    let key = RsaPublicKey::from_spki(&vectors::der("platform_public"), RsaScheme::Pkcs1Sha256);
    let signature = STANDARD.decode(header("wechatpay-signature"));
    header("wechatpay-serial") == serial
        && header("wechatpay-signature-type") == "WECHATPAY2-SHA256-RSA2048"
        && signature.is_ok_and(|signature| key.unwrap().verify(&text, &signature))
}

/// What a request is signed with.
pub(super) struct WechatSigning<'a> {
    pub(super) mchid: &'a str,
    pub(super) serial: &'a str,
    pub(super) timestamp: String,
    pub(super) nonce: String,
}

/// The client.
#[derive(Clone)]
pub(super) struct WechatTestClient {
    tls: TlsConnector,
    origin: String,
    key: Arc<RsaPrivateKey>,
}

impl WechatTestClient {
    pub(super) fn new(roots_pem: &str, origin: String) -> Self {
        let mut roots = RootCertStore::empty();
        for root in CertificateDer::pem_slice_iter(roots_pem.as_bytes()) {
            roots.add(root.unwrap()).unwrap();
        }
        let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let key =
            RsaPrivateKey::from_pkcs8(&vectors::der("merchant_private"), RsaScheme::Pkcs1Sha256);
        Self {
            tls: TlsConnector::from(Arc::new(config)),
            origin,
            key: Arc::new(key.unwrap()),
        }
    }

    /// The same client at another host.
    pub(super) fn at(&self, origin: String) -> Self {
        Self {
            origin,
            ..self.clone()
        }
    }

    /// A text signed with the merchant's key, as Base64.
    pub(super) fn sign(&self, text: &str) -> String {
        STANDARD.encode(self.key.sign(text.as_bytes()).unwrap())
    }

    /// A request with all it needs.
    pub(super) fn signed(
        &self,
        (method, path): (Method, &str),
        body: &str,
        by: &WechatSigning<'_>,
    ) -> Request<Bytes> {
        let WechatSigning {
            mchid,
            serial,
            timestamp,
            nonce,
        } = by;
        let signature = self.sign(&format!("{method}\n{path}\n{timestamp}\n{nonce}\n{body}\n"));
        let authorization = format!(
            "WECHATPAY2-SHA256-RSA2048 mchid=\"{mchid}\",nonce_str=\"{nonce}\",timestamp=\"{timestamp}\",\
             serial_no=\"{serial}\",signature=\"{signature}\""
        );
        let mut request = Request::builder()
            .method(method.clone())
            .uri(path)
            .header("accept", "application/json")
            .header("user-agent", "paymux-test/1")
            .header("authorization", authorization)
            .body(Bytes::from(body.to_owned()))
            .unwrap();
        if method == Method::POST {
            let json = "application/json".parse().unwrap();
            request.headers_mut().insert("content-type", json);
        }
        request
    }

    /// `None` if there is no answer.
    pub(super) async fn send(&self, mut request: Request<Bytes>) -> Option<WechatReply> {
        let authority = self.origin.strip_prefix("https://").unwrap();
        let stream = TcpStream::connect(authority).await.unwrap();
        let host = authority.split(':').next().unwrap().to_owned();
        let name = ServerName::try_from(host).unwrap();
        let stream = self.tls.connect(name, stream).await.ok()?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        let driven = tokio::spawn(connection);
        let host = authority.parse().unwrap();
        request.headers_mut().entry("host").or_insert(host);
        let answer = sender.send_request(request.map(Full::new)).await.ok()?;
        let (head, body) = answer.into_parts();
        let body = body.collect().await.ok()?.to_bytes();
        driven.abort();
        Some(WechatReply {
            status: head.status.as_u16(),
            headers: head.headers,
            json: serde_json::from_slice(&body).unwrap_or(Value::Null),
            body,
        })
    }
}
