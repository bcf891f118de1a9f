//! Somebody between a program and the gateway who can do what TLS would prevent: change answers,
//! hand over others, lose them.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use paymux::signature::{Question, SigningKey, sign_response};
use paymux::world::{Clock, SystemClock};

use super::wire::{HttpAnswerer, TestServer, send};

/// What becomes of the next answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tampering {
    /// It arrives as it was.
    None,
    /// The next one never arrives; the ones after it do.
    Lost,
    /// Another body.
    Body,
    /// Another body with its digest.
    BodyAndDigest,
    /// Another status.
    Status,
    /// The signature is gone.
    Unsigned,
    /// The answer to the question before, which said the same.
    Earlier,
    /// Another body, signed with the platform's own key as an answer to this question. This is
    /// what would be believed: it shows that the others fail for what is wrong with them.
    Resigned,
    /// The same, as an answer to no question.
    Unbound,
    /// The same, long ago.
    Old,
    /// The same, by a stranger who uses the name of the platform's key.
    Stranger,
}

/// Everything that must be found out.
pub(super) const ALL: [Tampering; 8] = [
    Tampering::Body,
    Tampering::BodyAndDigest,
    Tampering::Status,
    Tampering::Unsigned,
    Tampering::Earlier,
    Tampering::Unbound,
    Tampering::Old,
    Tampering::Stranger,
];

/// Who stands between.
pub(super) struct Relay {
    between: Arc<RelayServer>,
    _door: TestServer,
}

struct RelayServer {
    certs: PathBuf,
    /// What the gateway calls itself, and where it really is.
    origin: String,
    gateway: u16,
    merchant: String,
    state: Mutex<RelayState>,
}

struct RelayState {
    tampering: Tampering,
    earlier: Option<Response<Bytes>>,
    asked: Vec<Request<Bytes>>,
    publishing: KeyPublication,
    looks: usize,
}

/// What becomes of the gateway's set of keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KeyPublication {
    /// It is as it is.
    Honest,
    /// The key was taken out.
    Withdrawn,
    /// It is said to be elsewhere, and is there.
    Elsewhere,
    /// It cannot be had.
    Broken,
}

impl Relay {
    /// Stands at `port`, which is the gateway's public address, before `gateway`.
    pub(super) async fn open(certs: &Path, port: u16, gateway: u16, merchant: &str) -> Self {
        let between = Arc::new(RelayServer {
            certs: certs.to_owned(),
            origin: format!("https://localhost:{port}"),
            gateway,
            merchant: merchant.to_owned(),
            state: Mutex::new(RelayState {
                tampering: Tampering::None,
                earlier: None,
                asked: Vec::new(),
                publishing: KeyPublication::Honest,
                looks: 0,
            }),
        });
        Self {
            _door: TestServer::open(certs, port, Arc::clone(&between)).await,
            between,
        }
    }

    pub(super) fn next(&self, tampering: Tampering) {
        self.between.state.lock().unwrap().tampering = tampering;
    }

    /// From now on.
    pub(super) fn publish(&self, publishing: KeyPublication) {
        self.between.state.lock().unwrap().publishing = publishing;
    }

    /// How often anybody asked for the keys.
    pub(super) fn looks(&self) -> usize {
        self.between.state.lock().unwrap().looks
    }

    /// Every question so far.
    pub(super) fn asked(&self) -> Vec<Request<Bytes>> {
        self.between.state.lock().unwrap().asked.clone()
    }
}

impl HttpAnswerer for RelayServer {
    async fn answer(self: Arc<Self>, request: Request<Bytes>) -> Option<Response<Bytes>> {
        let asked = request.clone();
        let answer = send(&self.certs, Some(&self.merchant), self.gateway, request).await;
        if asked.method() == Method::GET {
            return Some(self.published(asked.uri().query(), answer));
        }
        let mut state = self.state.lock().unwrap();
        let earlier = state.earlier.replace(answer.clone());
        let tampering = state.tampering;
        if tampering == Tampering::Lost {
            state.tampering = Tampering::None;
        }
        state.asked.push(asked.clone());
        drop(state);
        self.tampered(tampering, &asked, answer, earlier)
    }
}

impl RelayServer {
    fn published(&self, query: Option<&str>, mut keys: Response<Bytes>) -> Response<Bytes> {
        let mut state = self.state.lock().unwrap();
        state.looks += 1;
        match state.publishing {
            KeyPublication::Honest => (),
            KeyPublication::Withdrawn => {
                *keys.body_mut() = Bytes::from_static(b"{\"keys\":[]}");
                keys.headers_mut().remove(header::CONTENT_LENGTH);
            }
            KeyPublication::Elsewhere if query.is_some() => (),
            KeyPublication::Elsewhere => {
                *keys.status_mut() = StatusCode::FOUND;
                let elsewhere = HeaderValue::from_static("/.well-known/jwks.json?elsewhere");
                keys.headers_mut().insert(header::LOCATION, elsewhere);
            }
            KeyPublication::Broken => *keys.status_mut() = StatusCode::SERVICE_UNAVAILABLE,
        }
        keys
    }

    fn tampered(
        &self,
        tampering: Tampering,
        asked: &Request<Bytes>,
        mut answer: Response<Bytes>,
        earlier: Option<Response<Bytes>>,
    ) -> Option<Response<Bytes>> {
        let target = format!("{}{}", self.origin, asked.uri());
        let question = Question::of(asked, &target).unwrap();
        let now = SystemClock::start().now().seconds();
        let mut sign = |question, key: &SigningKey, created| {
            *answer.body_mut() = paid(answer.body());
            sign_response(&mut answer, question, key, created).unwrap();
        };
        match tampering {
            Tampering::None => (),
            Tampering::Lost => return None,
            Tampering::Earlier => return earlier,
            Tampering::Body => *answer.body_mut() = paid(answer.body()),
            Tampering::BodyAndDigest => {
                *answer.body_mut() = paid(answer.body());
                let digest = content_digest(answer.body());
                answer.headers_mut().insert("content-digest", digest);
            }
            Tampering::Status => *answer.status_mut() = StatusCode::ACCEPTED,
            Tampering::Unsigned => {
                answer.headers_mut().remove("signature");
                answer.headers_mut().remove("signature-input");
            }
            Tampering::Resigned => sign(Some(&question), &platform(&self.certs), now),
            Tampering::Unbound => sign(None, &platform(&self.certs), now),
            Tampering::Old => sign(Some(&question), &platform(&self.certs), now - 1_000),
            Tampering::Stranger => sign(Some(&question), &unauthenticated(), now),
        }
        Some(answer)
    }
}

/// The body of a query's answer that says more than is true.
fn paid(body: &Bytes) -> Bytes {
    let text = std::str::from_utf8(body).unwrap();
    let changed = text.replace("\"orderStatus\":\"OPEN\"", "\"orderStatus\":\"PAID\"");
    assert_ne!(text, changed, "there is something to change");
    changed.into()
}

/// The field's value for a body.
pub(super) fn content_digest(body: &[u8]) -> HeaderValue {
    let digest = STANDARD.encode(digest(&SHA256, body));
    format!("sha-256=:{digest}:").parse().unwrap()
}

/// The key that signs answers and notifications.
pub(super) fn platform(certs: &Path) -> SigningKey {
    let pem = std::fs::read_to_string(certs.join("platform-1.key")).unwrap();
    SigningKey::from_pkcs8_pem("platform-1", &pem).unwrap()
}

/// Another one of the same name.
pub(super) fn unauthenticated() -> SigningKey {
    let (pem, _) = SigningKey::generate_ed25519().unwrap();
    SigningKey::from_pkcs8_pem("platform-1", &pem).unwrap()
}
