//! Keys by id: who signs, whose signature counts, and by which algorithm.
//! The key decides the algorithm (Q3). Private keys are never shown.

use std::fmt;
use std::num::NonZero;
use std::sync::Arc;

use serde_json::Value;
use sfv::StringRef;
use tokio::sync::Semaphore;

use crate::crypto::digest::sha256;
use crate::crypto::pem;
use crate::signature::fault::KeyFault;
use crate::signature::{ecdsa, ed25519, hmac, rsa};

/// Every algorithm there is; a further one is a file of its own and a line here.
///
/// Where keys of two algorithms look alike, as those of RSA do, the first that reads the key has it
/// unless the algorithm is named beside it.
const SCHEMES: &[Scheme] = &[
    ed25519::SCHEME,
    ecdsa::SCHEME,
    rsa::PSS,
    rsa::PKCS1,
    hmac::SCHEME,
];

const KEY_ID_BYTES_MAX: usize = 64;

/// What the file of an algorithm offers.
pub(super) struct Scheme {
    pub(super) algorithm: Algorithm,
    /// PKCS #8 to a key that signs; nothing if the key is not of this algorithm or no good.
    pub(super) read_private: fn(&[u8]) -> Option<Arc<dyn Sign>>,
    /// `SubjectPublicKeyInfo` to a key that verifies; nothing as above.
    pub(super) read_public: fn(&[u8]) -> Option<Arc<dyn Verify>>,
    /// A JSON Web Key (RFC 7517) to a key that verifies; nothing as above.
    pub(super) read_jwk: fn(&Value) -> Option<Arc<dyn Verify>>,
    /// A new key, as PKCS #8; nothing where none is made in this form.
    pub(super) generate: fn() -> Option<Vec<u8>>,
    /// Whether signing takes as long as everything else of a request together.
    pub(super) slow: bool,
}

/// A private key of some algorithm.
pub(super) trait Sign: Send + Sync {
    /// Nothing if the library fails.
    fn sign(&self, base: &[u8]) -> Option<Vec<u8>>;
    /// The public half as `SubjectPublicKeyInfo`; empty if there is none.
    fn public_der(&self) -> Vec<u8>;
    /// The public half as RFC 7517 has it, with `alg` and without what the owner adds; null if
    /// there is none.
    fn public_jwk(&self) -> Value;
}

/// A public key of some algorithm.
pub(super) trait Verify: Send + Sync {
    fn verifies(&self, base: &[u8], signature: &[u8]) -> bool;
}

/// A signature algorithm by its name in the registry of RFC 9421, or ours where that has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Algorithm(pub(super) &'static str);

impl Algorithm {
    /// The algorithm of that name, if it is one of ours.
    pub fn parse(name: &str) -> Option<Self> {
        Self::all().find(|algorithm| algorithm.0 == name)
    }

    /// Every algorithm that is verified here.
    pub fn all() -> impl Iterator<Item = Self> {
        SCHEMES.iter().map(|scheme| scheme.algorithm)
    }

    /// The name as `alg` has it: `ed25519`.
    pub fn name(self) -> &'static str {
        self.0
    }

    /// Whether both sides hold the same secret, so that a signature proves less than one of a
    /// private key does (R-6.3.1-1b).
    pub fn is_shared(self) -> bool {
        self == hmac::SCHEME.algorithm
    }

    /// The algorithm whose key pairs serve this one: an RSA pair is made alike for either padding.
    #[must_use]
    pub fn of_pairs(self) -> Self {
        if self == rsa::PKCS1.algorithm {
            rsa::PSS.algorithm
        } else {
            self
        }
    }

    fn scheme(self) -> Option<&'static Scheme> {
        SCHEMES.iter().find(|scheme| scheme.algorithm == self)
    }
}

/// What we sign with unless somebody wishes otherwise: the quickest.
impl Default for Algorithm {
    fn default() -> Self {
        ed25519::SCHEME.algorithm
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
    /// Of a slow key: how many may sign with it at once.
    permits: Option<Arc<Semaphore>>,
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
        let der = pem::read_private_key(pem.as_bytes()).ok_or(KeyFault::Unreadable {
            expected: pem::PRIVATE_KEY,
        })?;
        SCHEMES
            .iter()
            .find_map(|scheme| {
                let private = (scheme.read_private)(&der)?;
                Some(Self {
                    id: id.to_owned(),
                    algorithm: scheme.algorithm,
                    private,
                    permits: scheme.slow.then(permits),
                })
            })
            .ok_or_else(unsupported)
    }

    /// A key of which both sides hold the same bytes: `hmac-sha256`. It has no public half.
    ///
    /// # Errors
    /// [`KeyFault::BadId`]; [`KeyFault::SecretUnfit`] for one that could be guessed.
    pub fn from_secret(id: &str, secret: &[u8]) -> Result<Self, KeyFault> {
        check_id(id)?;
        Ok(Self {
            id: id.to_owned(),
            algorithm: hmac::SCHEME.algorithm,
            private: hmac::read(secret).ok_or(KeyFault::SecretUnfit)?,
            permits: None,
        })
    }

    /// Makes a new key: the private key (PKCS #8) and the public key, both in PEM.
    ///
    /// # Errors
    /// [`KeyFault::NotMadeHere`] for an algorithm that is only verified, or whose keys are no pairs;
    /// [`KeyFault::NotGenerated`] if the library has no randomness.
    pub fn generate(algorithm: Algorithm) -> Result<(String, String), KeyFault> {
        let made = algorithm.scheme().ok_or_else(unsupported)?;
        let Some(private) = (made.generate)() else {
            let makes = algorithm == algorithm.of_pairs() && !algorithm.is_shared();
            return Err(if makes {
                KeyFault::NotGenerated
            } else {
                KeyFault::NotMadeHere(algorithm)
            });
        };
        let key = (made.read_private)(&private).ok_or(KeyFault::NotGenerated)?;
        let public = pem::write(pem::PUBLIC_KEY, &key.public_der());
        Ok((pem::write(pem::PRIVATE_KEY, &private), public))
    }

    /// Makes a new Ed25519 key, as [`SigningKey::generate`] does.
    ///
    /// # Errors
    /// [`KeyFault::NotGenerated`] if the library has no randomness.
    pub fn generate_ed25519() -> Result<(String, String), KeyFault> {
        Self::generate(Algorithm::default())
    }

    /// What stands in `keyid`.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What this key signs with.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Of a key that takes long to sign: its turns, one for each that may sign at once. Whoever
    /// answers others meanwhile takes a turn and signs elsewhere. Quick keys have none.
    pub fn permits(&self) -> Option<&Arc<Semaphore>> {
        self.permits.as_ref()
    }

    /// The public half as a JSON Web Key with `kid`, `use` and `alg`; whoever publishes it adds
    /// `nbf` and `exp`. Null for a shared secret.
    pub fn public_jwk(&self) -> Value {
        let mut jwk = self.private.public_jwk();
        if let Some(members) = jwk.as_object_mut() {
            members.insert("kid".to_owned(), self.id.as_str().into());
            members.insert("use".to_owned(), "sig".into());
        }
        jwk
    }

    /// The public half as `SubjectPublicKeyInfo` in PEM: what is enrolled elsewhere. Of a shared
    /// secret an empty block.
    pub fn public_pem(&self) -> String {
        pem::write(pem::PUBLIC_KEY, &self.private.public_der())
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
    /// What tells it from every other one.
    fingerprint: [u8; 32],
    public: Arc<dyn Verify>,
}

impl VerifyingKey {
    /// Reads a public key; the algorithm is the one it is for, of RSA keys `rsa-pss-sha512`.
    ///
    /// Shape: `SubjectPublicKeyInfo` in PEM.
    ///
    /// # Errors
    /// [`KeyFault::Unreadable`], [`KeyFault::Unsupported`].
    pub fn from_spki_pem(pem: &str) -> Result<Self, KeyFault> {
        let der = spki(pem)?;
        let read = |scheme: &Scheme| Some(Self::of(scheme, (scheme.read_public)(&der)?, &der));
        SCHEMES.iter().find_map(read).ok_or_else(unsupported)
    }

    /// Reads a public key of this algorithm. An RSA key does not say which padding it is for: the
    /// enrolment does, once and for all (Q3).
    ///
    /// # Errors
    /// As [`VerifyingKey::from_spki_pem`], also for a key of another algorithm.
    pub fn of_algorithm(algorithm: Algorithm, pem: &str) -> Result<Self, KeyFault> {
        let der = spki(pem)?;
        let read = |scheme: &Scheme| Some(Self::of(scheme, (scheme.read_public)(&der)?, &der));
        algorithm.scheme().and_then(read).ok_or_else(unsupported)
    }

    /// Reads a public key as it is published (RFC 7517), by `kty` and, of RSA, by `alg`.
    ///
    /// # Errors
    /// [`KeyFault::Unsupported`].
    pub fn from_jwk(jwk: &Value) -> Result<Self, KeyFault> {
        let text = jwk.to_string();
        let read =
            |scheme: &Scheme| Some(Self::of(scheme, (scheme.read_jwk)(jwk)?, text.as_bytes()));
        SCHEMES.iter().find_map(read).ok_or_else(unsupported)
    }

    /// A key of which both sides hold the same bytes: `hmac-sha256`.
    ///
    /// # Errors
    /// [`KeyFault::SecretUnfit`] for one that could be guessed: an empty one never verifies (Q3).
    pub fn from_secret(secret: &[u8]) -> Result<Self, KeyFault> {
        let public = hmac::read(secret).ok_or(KeyFault::SecretUnfit)?;
        Ok(Self::of(&hmac::SCHEME, public, secret))
    }

    fn of(scheme: &Scheme, public: Arc<dyn Verify>, source: &[u8]) -> Self {
        Self {
            algorithm: scheme.algorithm,
            fingerprint: sha256(source),
            public,
        }
    }

    /// Whether both were read from the same bytes for the same algorithm: then what one proves, the other
    /// proves.
    pub fn is_same_as(&self, other: &Self) -> bool {
        self.algorithm == other.algorithm && self.fingerprint == other.fingerprint
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

/// Whether an id can stand in `keyid` as it is.
pub(super) fn check_id(id: &str) -> Result<(), KeyFault> {
    let quoted_as_is = !id.contains(['"', '\\']) && StringRef::from_str(id).is_ok();
    if id.is_empty() || id.len() > KEY_ID_BYTES_MAX || !quoted_as_is {
        return Err(KeyFault::BadId);
    }
    Ok(())
}

fn spki(pem: &str) -> Result<Vec<u8>, KeyFault> {
    pem::read_public_key(pem.as_bytes()).ok_or(KeyFault::Unreadable {
        expected: pem::PUBLIC_KEY,
    })
}

/// Half of the processors for one key: the other half goes on answering.
fn permits() -> Arc<Semaphore> {
    let processors = std::thread::available_parallelism().map_or(1, NonZero::get);
    Arc::new(Semaphore::new(processors.div_ceil(2)))
}

fn unsupported() -> KeyFault {
    let names: Vec<&str> = Algorithm::all().map(Algorithm::name).collect();
    KeyFault::Unsupported(names.join(", "))
}
