//! A merchant's server for notifications: keeps every message as it came, and answers with the
//! statuses it was given, then with 204.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use paymux::crypto::aead::Aes256GcmKey;
use paymux::sandbox::PemIdentity;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use super::client::is_signed;
use super::vectors;

/// Stands for an answer that never comes.
pub(super) const NEVER: u16 = 0;

/// One message as it came.
#[derive(Clone)]
pub(super) struct ReceivedNotice {
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl ReceivedNotice {
    pub(super) fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name);
        value.map_or("", |value| value.to_str().unwrap())
    }

    pub(super) fn is_signed(&self, serial: &str) -> bool {
        is_signed(&self.headers, &self.body, serial)
    }

    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// The decrypted resource; `None` if it is not authentic.
    pub(super) fn plain(&self) -> Option<Value> {
        vectors::opened(&self.json()["resource"]).map(|text| serde_json::from_slice(&text).unwrap())
    }
}

/// A running server; ends with the test's runtime.
pub(super) struct NoticeReceiver {
    origin: String,
    received: watch::Receiver<Vec<ReceivedNotice>>,
    statuses: Arc<Mutex<Vec<u16>>>,
}

/// Decrypts what the platform sealed.
pub(super) fn opened(resource: &Value, apiv3_key: &str) -> Option<Vec<u8>> {
    let key = Aes256GcmKey::new(apiv3_key.as_bytes().try_into().unwrap()).unwrap();
    let text = |name: &str| resource[name].as_str().unwrap();
    assert_eq!(text("algorithm"), "AEAD_AES_256_GCM");
    let nonce = text("nonce").as_bytes().try_into().unwrap();
    let sealed = STANDARD.decode(text("ciphertext")).unwrap();
    key.open(nonce, text("associated_data").as_bytes(), &sealed)
}

impl NoticeReceiver {
    pub(super) async fn start(identity: &PemIdentity) -> Self {
        let chain = CertificateDer::pem_slice_iter(identity.certificates_pem.as_bytes());
        let chain = chain.collect::<Result<Vec<_>, _>>().unwrap();
        let private = PrivateKeyDer::from_pem_slice(identity.key_pem.as_bytes()).unwrap();
        let tls = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, private)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(tls));
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = format!("https://{}", socket.local_addr().unwrap());
        let (sender, received) = watch::channel(Vec::new());
        let sender = Arc::new(sender);
        let statuses = Arc::new(Mutex::new(Vec::new()));
        let planned = Arc::clone(&statuses);
        tokio::spawn(async move {
            while let Ok((stream, _)) = socket.accept().await {
                let (acceptor, sender) = (acceptor.clone(), Arc::clone(&sender));
                let planned = Arc::clone(&planned);
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else {
                        return;
                    };
                    let answer = service_fn(|request| receive(&sender, &planned, request));
                    let served = http1::Builder::new();
                    // A platform that hangs up early is no fault of the receiver.
                    let _ = served.serve_connection(TokioIo::new(stream), answer).await;
                });
            }
        });
        Self {
            origin,
            received,
            statuses,
        }
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.origin)
    }

    /// The next answers.
    pub(super) fn answer_with(&self, statuses: &[u16]) {
        self.statuses.lock().unwrap().extend_from_slice(statuses);
    }

    /// Every message, once there are at least this many.
    pub(super) async fn messages(&self, at_least: usize) -> Vec<ReceivedNotice> {
        let mut received = self.received.clone();
        let enough = received.wait_for(|received| received.len() >= at_least);
        let enough = tokio::time::timeout(Duration::from_secs(20), enough).await;
        enough.expect("not enough notifications").unwrap().clone()
    }
}

async fn receive(
    sender: &watch::Sender<Vec<ReceivedNotice>>,
    planned: &Mutex<Vec<u16>>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let notice = ReceivedNotice {
        headers: head.headers,
        body: body.collect().await.unwrap().to_bytes(),
    };
    let status = {
        let mut planned = planned.lock().unwrap();
        if planned.is_empty() {
            204
        } else {
            planned.remove(0)
        }
    };
    sender.send_modify(|received| received.push(notice));
    if status == NEVER {
        std::future::pending::<()>().await;
    }
    let mut answer = Response::new(Full::new(Bytes::new()));
    *answer.status_mut() = http::StatusCode::from_u16(status).unwrap();
    if status == 302 {
        let elsewhere = "https://127.0.0.1:1/".parse().unwrap();
        answer.headers_mut().insert("location", elsewhere);
    }
    Ok(answer)
}
