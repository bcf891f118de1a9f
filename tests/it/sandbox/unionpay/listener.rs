//! The merchant's side of notifications and returns: records every form and answers with the
//! ordered status.

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

/// A form as it came.
#[derive(Debug, Clone)]
pub(super) struct UnionPayReceivedForm {
    pub(super) path: String,
    pub(super) media_type: String,
    pub(super) body: Bytes,
}

/// A running listener; ends with the test's runtime.
pub(super) struct UnionPayFormListener {
    origin: String,
    shared: Arc<UnionPayRecordedForms>,
}

#[derive(Default)]
struct UnionPayRecordedForms {
    forms: Mutex<Vec<UnionPayReceivedForm>>,
    /// Of the next answers; afterwards 200.
    statuses: Mutex<Vec<u16>>,
}

impl UnionPayFormListener {
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
        let shared = Arc::new(UnionPayRecordedForms::default());
        let listening = Arc::clone(&shared);
        tokio::spawn(async move {
            while let Ok((stream, _)) = socket.accept().await {
                let (recorded, acceptor) = (Arc::clone(&listening), acceptor.clone());
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else {
                        return;
                    };
                    let answer = service_fn(|request| recorded.receive(request));
                    let served =
                        http1::Builder::new().serve_connection(TokioIo::new(stream), answer);
                    // A caller that hangs up early is no fault of the listener.
                    let _ = served.await;
                });
            }
        });
        Self { origin, shared }
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.origin)
    }

    pub(super) fn forms(&self) -> Vec<UnionPayReceivedForm> {
        self.shared.forms.lock().unwrap().clone()
    }

    /// Drops what was recorded.
    pub(super) fn forget(&self) {
        self.shared.forms.lock().unwrap().clear();
    }

    /// The next answers.
    pub(super) fn answer_next(&self, statuses: &[u16]) {
        *self.shared.statuses.lock().unwrap() = statuses.iter().rev().copied().collect();
    }
}

impl UnionPayRecordedForms {
    async fn receive(
        &self,
        request: Request<Incoming>,
    ) -> Result<Response<Full<Bytes>>, Infallible> {
        let (head, body) = request.into_parts();
        let media_type = head.headers.get("content-type");
        let form = UnionPayReceivedForm {
            path: head.uri.to_string(),
            media_type: media_type
                .map_or("", |text| text.to_str().unwrap())
                .to_owned(),
            body: body.collect().await.unwrap().to_bytes(),
        };
        self.forms.lock().unwrap().push(form);
        let status = self.statuses.lock().unwrap().pop().unwrap_or(200);
        let mut answer = Response::new(Full::new(Bytes::from_static(b"ok")));
        *answer.status_mut() = status.try_into().unwrap();
        Ok(answer)
    }
}
