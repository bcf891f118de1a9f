//! A gateway's callback listener: verifies callbacks, records them, acknowledges them signed.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use paymux::sandbox::PemIdentity;
use paymux::signature::{KeyRing, Question, SigningKey, sign_response, verify_request};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// Any time: the keys of these tests are valid at all times.
const NOW_S: i64 = 1_767_225_600;

/// A running listener; ends with the test's runtime.
pub(super) struct CallbackListener {
    ear: Arc<CallbackServer>,
}

struct CallbackServer {
    origin: String,
    key: SigningKey,
    senders: KeyRing,
    received: Mutex<Vec<Value>>,
    forged: Mutex<u32>,
}

impl CallbackListener {
    pub(super) async fn start(identity: &PemIdentity, key: SigningKey, senders: KeyRing) -> Self {
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
        let ear = Arc::new(CallbackServer {
            origin: format!("https://{}", socket.local_addr().unwrap()),
            key,
            senders,
            received: Mutex::default(),
            forged: Mutex::default(),
        });
        let listening = Arc::clone(&ear);
        tokio::spawn(async move {
            while let Ok((stream, _)) = socket.accept().await {
                let (ear, acceptor) = (Arc::clone(&listening), acceptor.clone());
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else {
                        return;
                    };
                    let answer = service_fn(|request| ear.receive(request));
                    let served =
                        http1::Builder::new().serve_connection(TokioIo::new(stream), answer);
                    // A caller that hangs up early is no fault of the listener.
                    let _ = served.await;
                });
            }
        });
        Self { ear }
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.ear.origin)
    }

    /// The body of every authentic callback.
    pub(super) fn bodies(&self) -> Vec<Value> {
        self.ear.received.lock().unwrap().clone()
    }

    /// The number of callbacks that were not authentic.
    pub(super) fn forged(&self) -> u32 {
        *self.ear.forged.lock().unwrap()
    }
}

impl CallbackServer {
    async fn receive(
        &self,
        request: Request<Incoming>,
    ) -> Result<Response<Full<Bytes>>, Infallible> {
        let (head, body) = request.into_parts();
        let request = Request::from_parts(head, body.collect().await.unwrap().to_bytes());
        let target = format!("{}{}", self.origin, request.uri());
        let question = Question::of(&request, &target);
        let acknowledgement = if verify_request(&request, &target, &self.senders, NOW_S).is_ok() {
            let body = serde_json::from_slice(request.body()).unwrap();
            self.received.lock().unwrap().push(body);
            r#"{"noticeResult":"SUCCESS"}"#
        } else {
            *self.forged.lock().unwrap() += 1;
            r#"{"noticeResult":"REFUSED"}"#
        };
        let mut answer = Response::builder()
            .header("content-type", "application/json")
            .body(Bytes::from_static(acknowledgement.as_bytes()))
            .unwrap();
        sign_response(&mut answer, question.as_ref(), &self.key, NOW_S).unwrap();
        Ok(answer.map(Full::new))
    }
}
