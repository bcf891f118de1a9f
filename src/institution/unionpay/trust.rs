//! Who sent a message: each brings its certificate, which counts only if it was issued under the root
//! of our account and names UnionPay. Fails closed at each step.

use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::crypto::certificate::Certificate;
use crate::crypto::digest::sha256;
use crate::domain::identifiers::Timestamp;
use crate::institution::unionpay::message::{SIGNATURE, UnionPayMessage};
use crate::institution::unionpay::requests::{ENCODING, VERSION};
use crate::institution::unionpay::signing::{UnionPayProvingKey, UnionPaySignMethod};

/// The owner of the certificates, in the third part of their common name.
const OWNER: &str = "中国银联股份有限公司";
/// The same in the test environment, where [`OWNER`] occurs too.
const TEST_OWNER: &str = "00040000:SIGN";

/// The most certificates that are remembered: UnionPay uses one, and two while it changes it.
const REMEMBERED_MAX: usize = 4;
/// How long a verified chain counts. Unit: seconds.
const REMEMBERED_S: u64 = 600;

/// Where an account's messages come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum UnionPayEnvironment {
    /// With real money.
    Production,
    /// With none.
    Test,
}

/// Why a message is not proven.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum UnionPayUnproven {
    /// Another version of the interface.
    Version,
    /// Not said to be in UTF-8.
    Encoding,
    /// Signed by another method than agreed, which may be a weaker one.
    SignMethod,
    /// No certificate that can be read, or not one for this method.
    Certificate,
    /// A certificate that was not issued under our root, or is not valid now.
    Chain,
    /// A certificate of somebody else.
    Owner,
    /// Not signed by the key of its certificate.
    Signature,
}

impl UnionPayUnproven {
    /// A stable word for metrics.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Version => "version",
            Self::Encoding => "encoding",
            Self::SignMethod => "sign_method",
            Self::Certificate => "certificate",
            Self::Chain => "chain",
            Self::Owner => "owner",
            Self::Signature => "signature",
        }
    }
}

/// What proves UnionPay's messages to one account.
pub(super) struct UnionPayTrustAnchors {
    method: UnionPaySignMethod,
    environment: UnionPayEnvironment,
    middles: Vec<Certificate>,
    roots: Vec<Certificate>,
    remembered: Mutex<Vec<RememberedCertificate>>,
}

/// A certificate whose chain was verified a short time ago.
struct RememberedCertificate {
    /// SHA-256 of its text as it came.
    fingerprint: [u8; 32],
    validity_s: (i64, i64),
    verified_s: i64,
    key: Arc<UnionPayProvingKey>,
}

impl UnionPayTrustAnchors {
    pub(super) fn new(
        method: UnionPaySignMethod,
        environment: UnionPayEnvironment,
        middles: Vec<Certificate>,
        roots: Vec<Certificate>,
    ) -> Self {
        Self {
            method,
            environment,
            middles,
            roots,
            remembered: Mutex::default(),
        }
    }

    /// Verifies that UnionPay sent this message. What it is about is not compared here.
    ///
    /// # Errors
    /// [`UnionPayUnproven`].
    pub(super) fn verify(
        &self,
        message: &UnionPayMessage,
        now: Timestamp,
    ) -> Result<(), UnionPayUnproven> {
        if message.get("version") != Some(VERSION) {
            return Err(UnionPayUnproven::Version);
        }
        if message.get("encoding") != Some(ENCODING) {
            return Err(UnionPayUnproven::Encoding);
        }
        if message.get("signMethod") != Some(self.method.word()) {
            return Err(UnionPayUnproven::SignMethod);
        }
        let certificate = message.get("signPubKeyCert");
        let key = self.key(certificate.ok_or(UnionPayUnproven::Certificate)?, now)?;
        let signature = message.get(SIGNATURE).map(|text| STANDARD.decode(text));
        let Some(Ok(signature)) = signature else {
            return Err(UnionPayUnproven::Signature);
        };
        let with_empty = || {
            let text = message.signed_text_with_empty();
            text.is_some_and(|text| key.verifies(&text, &signature))
        };
        if key.verifies(&message.signed_text(), &signature) || with_empty() {
            Ok(())
        } else {
            Err(UnionPayUnproven::Signature)
        }
    }

    fn key(&self, text: &str, now: Timestamp) -> Result<Arc<UnionPayProvingKey>, UnionPayUnproven> {
        let (fingerprint, now_s) = (sha256(text.as_bytes()), now.seconds());
        if let Some(known) = self.remembered(fingerprint, now_s) {
            return Ok(known);
        }
        let certificate = Certificate::from_pem(text).ok_or(UnionPayUnproven::Certificate)?;
        certificate
            .verify_chain(&self.middles, &self.roots, now_s)
            .map_err(|_| UnionPayUnproven::Chain)?;
        if !self.is_unionpay(&certificate) {
            return Err(UnionPayUnproven::Owner);
        }
        let key = UnionPayProvingKey::of(self.method, &certificate);
        let key = Arc::new(key.ok_or(UnionPayUnproven::Certificate)?);
        let mut all = self.lock();
        all.retain(|one| one.fingerprint != fingerprint);
        if all.len() >= REMEMBERED_MAX {
            all.remove(0);
        }
        all.push(RememberedCertificate {
            fingerprint,
            validity_s: certificate.validity_s(),
            verified_s: now_s,
            key: Arc::clone(&key),
        });
        Ok(key)
    }

    fn remembered(&self, fingerprint: [u8; 32], now_s: i64) -> Option<Arc<UnionPayProvingKey>> {
        let all = self.lock();
        let one = all.iter().find(|one| one.fingerprint == fingerprint)?;
        let (from, until) = one.validity_s;
        let counts = now_s.abs_diff(one.verified_s) < REMEMBERED_S;
        (counts && (from..=until).contains(&now_s)).then(|| Arc::clone(&one.key))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<RememberedCertificate>> {
        self.remembered
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// `041@number@owner@serial`.
    fn is_unionpay(&self, certificate: &Certificate) -> bool {
        let owner = certificate
            .common_name()
            .and_then(|name| name.split('@').nth(2));
        let is_test = self.environment == UnionPayEnvironment::Test;
        owner == Some(OWNER) || (is_test && owner == Some(TEST_OWNER))
    }
}
