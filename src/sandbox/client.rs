//! A merchant's API client: signs a JSON request, sends it to a gateway, and verifies that the
//! response is signed by the gateway and bound to the request. For demonstrations and tests.

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

/// Lifetime of a request's signature. Unit: seconds.
const SIGNATURE_LIFETIME_S: i64 = 120;

/// Settings of a client.
#[derive(Clone)]
pub struct ClientSettings {
    /// The gateway's `public_origin`: `https://host:port`.
    pub gateway_origin: String,
    /// Trusted roots, in PEM.
    pub roots_pem: String,
    /// The client certificate, if any.
    pub identity: Option<PemIdentity>,
    /// The signing key.
    pub key: SigningKey,
    /// The keys accepted for signatures of responses.
    pub gateway_keys: KeyRing,
}

/// A merchant's client of a gateway.
pub struct MerchantClient {
    caller: SandboxCaller,
    settings: ClientSettings,
}

/// A response.
#[derive(Debug, Clone)]
pub struct ClientResponse {
    /// HTTP status.
    pub status: u16,
    /// Header fields.
    pub headers: HeaderMap,
    /// The raw body.
    pub body: Bytes,
    /// The body as JSON; `null` if it is not JSON.
    pub json: Value,
    /// The verified signature, bound to the request; or why verification failed.
    pub proof: Result<Proven, SignatureFault>,
    /// From the start of connecting to the last byte.
    pub took: Duration,
}

impl ClientResponse {
    /// A text field of the response; empty if absent.
    pub fn text(&self, field: &str) -> &str {
        self.json
            .get(field)
            .and_then(Value::as_str)
            .unwrap_or_default()
    }
}

impl MerchantClient {
    /// Creates a client; does not connect yet.
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
    /// [`ExchangeFault`] without a complete response: the call may still have been carried out.
    pub async fn post(&self, path: &str, body: &Value) -> Result<ClientResponse, ExchangeFault> {
        let request = self
            .signed(path, &body.to_string())
            .map_err(|fault| ExchangeFault::NotConnected(fault.to_string()))?;
        self.send(request).await
    }

    /// Signs a call without sending it; its URI is absolute.
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

    /// Sends a call as it is, even if it was changed after signing.
    ///
    /// # Errors
    /// See [`MerchantClient::post`].
    #[expect(
        clippy::disallowed_methods,
        reason = "a merchant measures with its own clock"
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
