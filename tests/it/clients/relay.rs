//! A relay between a program and the gateway that does what TLS would prevent: changes replies,
//! substitutes others, loses them.

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

/// What happens to the next replies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tampering {
    /// Unchanged.
    None,
    /// The next one is lost; the ones after it arrive.
    Lost,
    /// Another body.
    Body,
    /// Another body with its digest.
    BodyAndDigest,
    /// Another status.
    Status,
    /// The signature is removed.
    Unsigned,
    /// The reply to the previous request, which was the same.
    Earlier,
    /// Another body, signed with the platform's own key as a reply to this request. This is
    /// accepted: it shows that the others fail for what is wrong with them.
    Resigned,
    /// The same, bound to no request.
    Unbound,
    /// The same, with an old date.
    Old,
    /// The same, signed by an unknown key under the id of the platform's key.
    UnknownKey,
}

/// Everything that must be detected.
pub(super) const ALL: [Tampering; 8] = [
    Tampering::Body,
    Tampering::BodyAndDigest,
    Tampering::Status,
    Tampering::Unsigned,
    Tampering::Earlier,
    Tampering::Unbound,
    Tampering::Old,
    Tampering::UnknownKey,
];

/// The relay's state.
pub(super) struct Relay {
    between: Arc<RelayServer>,
    _door: TestServer,
}

struct RelayServer {
    certs: PathBuf,
    /// The gateway's public origin, and its real address.
    origin: String,
    gateway: u16,
    merchant: String,
    state: Mutex<RelayState>,
}

struct RelayState {
    tampering: Tampering,
    earlier: Option<Response<Bytes>>,
    requests: Vec<Request<Bytes>>,
    publishing: KeyPublication,
    looks: usize,
}

/// What happens to the gateway's set of keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KeyPublication {
    /// Unchanged.
    Honest,
    /// The key is removed.
    Withdrawn,
    /// The set names another address, and is there.
    Elsewhere,
    /// The set cannot be fetched.
    Broken,
}

impl Relay {
    /// Listens on `port`, which is the gateway's public address, in front of `gateway`.
    pub(super) async fn open(certs: &Path, port: u16, gateway: u16, merchant: &str) -> Self {
        let between = Arc::new(RelayServer {
            certs: certs.to_owned(),
            origin: format!("https://localhost:{port}"),
            gateway,
            merchant: merchant.to_owned(),
            state: Mutex::new(RelayState {
                tampering: Tampering::None,
                earlier: None,
                requests: Vec::new(),
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

    /// How often the keys were fetched.
    pub(super) fn key_fetches(&self) -> usize {
        self.between.state.lock().unwrap().looks
    }

    /// Every request so far.
    pub(super) fn requests(&self) -> Vec<Request<Bytes>> {
        self.between.state.lock().unwrap().requests.clone()
    }
}

impl HttpAnswerer for RelayServer {
    async fn answer(self: Arc<Self>, request: Request<Bytes>) -> Option<Response<Bytes>> {
        let received = request.clone();
        let answer = send(&self.certs, Some(&self.merchant), self.gateway, request).await;
        if received.method() == Method::GET {
            return Some(self.published(received.uri().query(), answer));
        }
        let mut state = self.state.lock().unwrap();
        let earlier = state.earlier.replace(answer.clone());
        let tampering = state.tampering;
        if tampering == Tampering::Lost {
            state.tampering = Tampering::None;
        }
        state.requests.push(received.clone());
        drop(state);
        self.tampered(tampering, &received, answer, earlier)
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
        received: &Request<Bytes>,
        mut answer: Response<Bytes>,
        earlier: Option<Response<Bytes>>,
    ) -> Option<Response<Bytes>> {
        let target = format!("{}{}", self.origin, received.uri());
        let question = Question::of(received, &target).unwrap();
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
            Tampering::UnknownKey => sign(Some(&question), &unauthenticated(), now),
        }
        Some(answer)
    }
}

/// The body of a query's reply, changed to say that the order is paid.
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

/// The key that signs replies and notifications.
pub(super) fn platform(certs: &Path) -> SigningKey {
    let pem = std::fs::read_to_string(certs.join("platform-1.key")).unwrap();
    SigningKey::from_pkcs8_pem("platform-1", &pem).unwrap()
}

/// Another key with the same id.
pub(super) fn unauthenticated() -> SigningKey {
    let (pem, _) = SigningKey::generate_ed25519().unwrap();
    SigningKey::from_pkcs8_pem("platform-1", &pem).unwrap()
}
