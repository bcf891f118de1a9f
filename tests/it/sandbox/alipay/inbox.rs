//! A merchant's server for notifications: records every form, and answers what the test says.

use std::collections::{BTreeMap, VecDeque};
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
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// The fields of a notification.
pub(super) type NoticeForm = BTreeMap<String, String>;

/// A running server; ends with the test's runtime.
#[derive(Clone)]
pub(super) struct NoticeInbox {
    origin: String,
    received: Arc<Mutex<Vec<NoticeForm>>>,
    answers: Arc<Mutex<VecDeque<(u16, &'static str)>>>,
}

impl NoticeInbox {
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
        let inbox = Self {
            origin: format!("https://{}", socket.local_addr().unwrap()),
            received: Arc::default(),
            answers: Arc::default(),
        };
        let listening = inbox.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = socket.accept().await {
                let (inbox, acceptor) = (listening.clone(), acceptor.clone());
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else {
                        return;
                    };
                    let answer = service_fn(|request| inbox.receive(request));
                    let served =
                        http1::Builder::new().serve_connection(TokioIo::new(stream), answer);
                    // A caller that hangs up early is no fault of the server.
                    let _ = served.await;
                });
            }
        });
        inbox
    }

    pub(super) fn url(&self) -> String {
        format!("{}/notify/alipay?tenant=1", self.origin)
    }

    /// What to answer next, before `success` to all that follow.
    pub(super) fn answer(&self, answers: &[(u16, &'static str)]) {
        self.answers.lock().unwrap().extend(answers);
    }

    pub(super) fn forms(&self) -> Vec<NoticeForm> {
        self.received.lock().unwrap().clone()
    }

    async fn receive(
        &self,
        request: Request<Incoming>,
    ) -> Result<Response<Full<Bytes>>, Infallible> {
        let media_type = request.headers()["content-type"].to_str().unwrap();
        assert!(media_type.starts_with("application/x-www-form-urlencoded"));
        let body = request.into_body().collect().await.unwrap().to_bytes();
        assert!(body.is_ascii(), "Chinese text is percent-encoded");
        let form = form_urlencoded::parse(&body).into_owned().collect();
        self.received.lock().unwrap().push(form);
        let answer = self.answers.lock().unwrap().pop_front();
        let (status, body) = answer.unwrap_or((200, "success"));
        let mut answer = Response::new(Full::new(Bytes::from_static(body.as_bytes())));
        *answer.status_mut() = http::StatusCode::from_u16(status).unwrap();
        Ok(answer)
    }
}
