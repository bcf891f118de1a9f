//! Keys by id: who signs, whose signature counts, and by which algorithm.
//! The key decides the algorithm (Q3). Private keys are never shown.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{PrivatePkcs8KeyDer, SubjectPublicKeyInfoDer};
use sfv::StringRef;

use crate::signature::ed25519;
use crate::signature::fault::KeyFault;

/// Every algorithm there is; a further one is a file of its own and a line here.
///
/// Where keys of two algorithms look alike, the first that reads the key has it.
const SCHEMES: &[Scheme] = &[ed25519::SCHEME];

const KEY_ID_BYTES_MAX: usize = 64;
const PRIVATE_LABEL: &str = "PRIVATE KEY";
const PUBLIC_LABEL: &str = "PUBLIC KEY";

/// What the file of an algorithm offers.
pub(super) struct Scheme {
    pub(super) algorithm: Algorithm,
    /// PKCS #8 to a key that signs; nothing if the key is not of this algorithm or no good.
    pub(super) read_private: fn(&[u8]) -> Option<Arc<dyn Sign>>,
    /// `SubjectPublicKeyInfo` to a key that verifies; nothing as above.
    pub(super) read_public: fn(&[u8]) -> Option<Arc<dyn Verify>>,
}

/// A private key of some algorithm.
pub(super) trait Sign: Send + Sync {
    /// Nothing if the library fails.
    fn sign(&self, base: &[u8]) -> Option<Vec<u8>>;
    /// The public half as `SubjectPublicKeyInfo`.
    fn public_der(&self) -> Vec<u8>;
    /// The public half as RFC 7517 has it, with `alg` and without what the owner adds.
    fn public_jwk(&self) -> serde_json::Value;
}

/// A public key of some algorithm.
pub(super) trait Verify: Send + Sync {
    fn verifies(&self, base: &[u8], signature: &[u8]) -> bool;
}

/// A signature algorithm by its name in the registry of RFC 9421, or ours where that has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Algorithm(pub(super) &'static str);

impl Algorithm {
    /// The name as `alg` has it: `ed25519`.
    pub fn name(self) -> &'static str {
        self.0
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// A private key and the id by which others know its public half. Cannot be printed.
#[derive(Clone)]
pub struct SigningKey {
    id: String,
    algorithm: Algorithm,
    private: Arc<dyn Sign>,
}

impl SigningKey {
    /// Reads a private key.
    ///
    /// Shape: PKCS #8 in PEM, not encrypted; the id as it will stand in `keyid`.
    ///
    /// # Errors
    /// [`KeyFault::BadId`], [`KeyFault::Unreadable`], [`KeyFault::Unsupported`].
    pub fn from_pkcs8_pem(id: &str, pem: &str) -> Result<Self, KeyFault> {
        check_id(id)?;
        let der = PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes()).map_err(|_| {
            KeyFault::Unreadable {
                expected: PRIVATE_LABEL,
            }
        })?;
        SCHEMES
            .iter()
            .find_map(|scheme| {
                let private = (scheme.read_private)(der.secret_pkcs8_der())?;
                Some(Self {
                    id: id.to_owned(),
                    algorithm: scheme.algorithm,
                    private,
                })
            })
            .ok_or_else(unsupported)
    }

    /// Makes a new Ed25519 key: the private key (PKCS #8) and the public key, both in PEM.
    ///
    /// # Errors
    /// [`KeyFault::NotGenerated`] if the library has no randomness.
    pub fn generate_ed25519() -> Result<(String, String), KeyFault> {
        let (private, public) = ed25519::generate().ok_or(KeyFault::NotGenerated)?;
        Ok((pem(PRIVATE_LABEL, &private), pem(PUBLIC_LABEL, &public)))
    }

    /// What stands in `keyid`.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What this key signs with.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The public half as a JSON Web Key with `kid`, `use` and `alg`; whoever publishes it adds `nbf` and `exp`.
    pub fn public_jwk(&self) -> serde_json::Value {
        let mut jwk = self.private.public_jwk();
        if let Some(members) = jwk.as_object_mut() {
            members.insert("kid".to_owned(), self.id.as_str().into());
            members.insert("use".to_owned(), "sig".into());
        }
        jwk
    }

    /// The public half as `SubjectPublicKeyInfo` in PEM: what is enrolled elsewhere.
    pub fn public_pem(&self) -> String {
        pem(PUBLIC_LABEL, &self.private.public_der())
    }

    pub(super) fn sign(&self, base: &[u8]) -> Option<Vec<u8>> {
        self.private.sign(base)
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({}, {})", self.id, self.algorithm)
    }
}

/// A public key.
#[derive(Clone)]
pub struct VerifyingKey {
    algorithm: Algorithm,
    public: Arc<dyn Verify>,
}

impl VerifyingKey {
    /// Reads a public key.
    ///
    /// Shape: `SubjectPublicKeyInfo` in PEM.
    ///
    /// # Errors
    /// [`KeyFault::Unreadable`], [`KeyFault::Unsupported`].
    pub fn from_spki_pem(pem: &str) -> Result<Self, KeyFault> {
        let der = SubjectPublicKeyInfoDer::from_pem_slice(pem.as_bytes()).map_err(|_| {
            KeyFault::Unreadable {
                expected: PUBLIC_LABEL,
            }
        })?;
        SCHEMES
            .iter()
            .find_map(|scheme| {
                let public = (scheme.read_public)(&der)?;
                Some(Self {
                    algorithm: scheme.algorithm,
                    public,
                })
            })
            .ok_or_else(unsupported)
    }

    /// What signatures of this key are made with; nothing in a message can say otherwise (Q3).
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    pub(super) fn verifies(&self, base: &[u8], signature: &[u8]) -> bool {
        // Q3: no algorithm here has an empty signature, and none is asked whether it has.
        !signature.is_empty() && self.public.verifies(base, signature)
    }
}

impl fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VerifyingKey({})", self.algorithm)
    }
}

/// A public key, whose it is, and when it counts.
#[derive(Debug, Clone)]
pub struct EnrolledKey {
    /// What stands in `keyid`.
    pub id: String,
    /// Whose signatures these are: a merchant, an institution, the platform.
    pub owner: String,
    /// The key.
    pub key: VerifyingKey,
    /// First second in which it counts. Unit: Unix seconds.
    pub not_before_s: i64,
    /// Last second in which it counts. Unit: Unix seconds.
    pub not_after_s: i64,
}

/// The keys whose signatures count, by id.
#[derive(Debug, Clone, Default)]
pub struct KeyRing(HashMap<String, EnrolledKey>);

impl KeyRing {
    /// Puts keys on a ring.
    ///
    /// # Errors
    /// [`KeyFault::IdTaken`] if an id comes twice, whosever it is; [`KeyFault::BadId`].
    pub fn new(keys: Vec<EnrolledKey>) -> Result<Self, KeyFault> {
        let mut ring = HashMap::with_capacity(keys.len());
        for key in keys {
            check_id(&key.id)?;
            if let Some(taken) = ring.insert(key.id.clone(), key) {
                return Err(KeyFault::IdTaken { id: taken.id });
            }
        }
        Ok(Self(ring))
    }

    /// The key of this id, in force or not.
    pub fn key(&self, id: &str) -> Option<&EnrolledKey> {
        self.0.get(id)
    }
}

fn check_id(id: &str) -> Result<(), KeyFault> {
    let quoted_as_is = !id.contains(['"', '\\']) && StringRef::from_str(id).is_ok();
    if id.is_empty() || id.len() > KEY_ID_BYTES_MAX || !quoted_as_is {
        return Err(KeyFault::BadId);
    }
    Ok(())
}

fn unsupported() -> KeyFault {
    let names: Vec<&str> = SCHEMES
        .iter()
        .map(|scheme| scheme.algorithm.name())
        .collect();
    KeyFault::Unsupported(names.join(", "))
}

/// One PEM block, lines of 64 characters (RFC 7468).
fn pem(label: &str, der: &[u8]) -> String {
    let mut text = format!("-----BEGIN {label}-----\n");
    for line in der.chunks(48) {
        STANDARD.encode_string(line, &mut text);
        text.push('\n');
    }
    text.push_str("-----END ");
    text.push_str(label);
    text.push_str("-----\n");
    text
}
