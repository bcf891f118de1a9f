//! A merchant's buying side: signs a JSON request, sends it to a gateway, and checks that the answer
//! is the gateway's and answers this question. For demonstrations, tests and the command line.

use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, Method, Request};
use serde_json::Value;

use crate::sandbox::authority::{CertificateFault, PemIdentity};
use crate::sandbox::clock::{draw_token, now_s};
use crate::sandbox::exchange::{ExchangeFault, SandboxCaller};
use crate::signature::{
    Covering, KeyRing, Proven, Question, SignatureFault, SigningKey, sign_request, verify_response,
};

/// How long a request's signature is good. Unit: seconds.
const SIGNATURE_LIFETIME_S: i64 = 120;

/// Who calls, and whom.
#[derive(Clone)]
pub struct ClientSettings {
    /// `https://host:port`, as the gateway calls itself (`public_origin`).
    pub gateway_origin: String,
    /// Whom the client trusts, in PEM.
    pub roots_pem: String,
    /// The certificate it shows, if any.
    pub identity: Option<PemIdentity>,
    /// What it signs with.
    pub key: SigningKey,
    /// The keys whose answers count.
    pub gateway_keys: KeyRing,
}

/// A merchant that calls a gateway.
pub struct MerchantClient {
    caller: SandboxCaller,
    settings: ClientSettings,
}

/// What came back.
#[derive(Debug, Clone)]
pub struct ClientResponse {
    /// HTTP status.
    pub status: u16,
    /// Header fields.
    pub headers: HeaderMap,
    /// The raw body.
    pub body: Bytes,
    /// The body as JSON; `null` if it is none.
    pub json: Value,
    /// Who signed it, bound to the question; or why that is not proven.
    pub proof: Result<Proven, SignatureFault>,
    /// From the first step of connecting to the last byte.
    pub took: Duration,
}

impl ClientResponse {
    /// A text field of the answer; empty if it is not there.
    pub fn text(&self, field: &str) -> &str {
        self.json
            .get(field)
            .and_then(Value::as_str)
            .unwrap_or_default()
    }
}

impl MerchantClient {
    /// Makes a client; connects to nobody yet.
    ///
    /// # Errors
    /// [`CertificateFault`] for certificates that cannot be read.
    pub fn new(settings: ClientSettings) -> Result<Self, CertificateFault> {
        let caller = SandboxCaller::new(&settings.roots_pem, settings.identity.as_ref())?;
        Ok(Self { caller, settings })
    }

    /// Signs and sends a call.
    ///
    /// # Errors
    /// [`ExchangeFault`] without a whole answer: the call may still have been taken.
    pub async fn post(&self, path: &str, body: &Value) -> Result<ClientResponse, ExchangeFault> {
        let request = self
            .signed(path, &body.to_string())
            .map_err(|fault| ExchangeFault::NotConnected(fault.to_string()))?;
        self.send(request).await
    }

    /// A signed call that is not sent yet; its URI is absolute.
    ///
    /// # Errors
    /// [`SignatureFault`] for a path that cannot be signed.
    pub fn signed(&self, path: &str, body: &str) -> Result<Request<Bytes>, SignatureFault> {
        let target = format!("{}{path}", self.settings.gateway_origin);
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(&target)
            .header(CONTENT_TYPE, "application/json")
            .body(Bytes::from(body.to_owned()))
            .map_err(|_| SignatureFault::Malformed("the target is not an absolute URI"))?;
        let created_s = now_s();
        let nonce = draw_token();
        let with = Covering {
            created_s,
            expires_s: Some(created_s.saturating_add(SIGNATURE_LIFETIME_S)),
            nonce: Some(&nonce),
        };
        sign_request(&mut request, &target, &self.settings.key, &with)?;
        Ok(request)
    }

    /// Sends a call as it is, whatever became of it since it was signed.
    ///
    /// # Errors
    /// See [`MerchantClient::post`].
    #[expect(
        clippy::disallowed_methods,
        reason = "a merchant measures by a clock of its own"
    )]
    pub async fn send(&self, request: Request<Bytes>) -> Result<ClientResponse, ExchangeFault> {
        let target = request.uri().to_string();
        let question = Question::of(&request, &target);
        let begun = std::time::Instant::now();
        let answer = self.caller.send(request).await?;
        let took = begun.elapsed();
        let proof = match &question {
            Some(question) => {
                verify_response(&answer, question, &self.settings.gateway_keys, now_s())
            }
            None => Err(SignatureFault::Unsigned),
        };
        let (head, body) = answer.into_parts();
        Ok(ClientResponse {
            status: head.status.as_u16(),
            headers: head.headers,
            json: serde_json::from_slice(&body).unwrap_or(Value::Null),
            body,
            proof,
            took,
        })
    }
}
