//! Signing and verifying keys, by id. The key determines the algorithm (Q3). Private keys are never
//! printed.

use std::fmt;
use std::sync::Arc;

use serde_json::Value;
use sfv::StringRef;

use crate::crypto::digest::sha256;
use crate::crypto::pem;
use crate::signature::fault::KeyFault;
use crate::signature::{ecdsa, ed25519, hmac, rsa};

/// All algorithms; each has its own file and is registered here.
///
/// Keys of different algorithms can look alike (RSA): the first algorithm that parses the key is
/// used, unless one is named.
const SCHEMES: &[Scheme] = &[
    ed25519::SCHEME,
    ecdsa::SCHEME,
    rsa::PSS,
    rsa::PKCS1,
    hmac::SCHEME,
];

const KEY_ID_BYTES_MAX: usize = 64;

/// What an algorithm's file provides.
pub(super) struct Scheme {
    pub(super) algorithm: Algorithm,
    /// Parses a signing key from PKCS #8; `None` if it is of another algorithm or unsuitable.
    pub(super) read_private: fn(&[u8]) -> Option<Arc<dyn Sign>>,
    /// Parses a verifying key from `SubjectPublicKeyInfo`; `None` as above.
    pub(super) read_public: fn(&[u8]) -> Option<Arc<dyn Verify>>,
    /// Parses a verifying key from a JSON Web Key (RFC 7517); `None` as above.
    pub(super) read_jwk: fn(&Value) -> Option<Arc<dyn Verify>>,
    /// Generates a key, as PKCS #8; `None` if not supported.
    pub(super) generate: fn() -> Option<Vec<u8>>,
    /// Whether signing takes about as long as the rest of a request.
    pub(super) slow: bool,
}

/// A private key of some algorithm.
pub(super) trait Sign: Send + Sync {
    /// `None` if the library fails.
    fn sign(&self, base: &[u8]) -> Option<Vec<u8>>;
    /// The public half as `SubjectPublicKeyInfo`; empty if there is none.
    fn public_der(&self) -> Vec<u8>;
    /// The public half in RFC 7517 format, with `alg` but without members that the owner adds; null
    /// if there is none.
    fn public_jwk(&self) -> Value;
}

/// A public key of some algorithm.
pub(super) trait Verify: Send + Sync {
    fn verifies(&self, base: &[u8], signature: &[u8]) -> bool;
}

/// A signature algorithm by its name in the registry of RFC 9421, or our own name where that has
/// none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Algorithm(pub(super) &'static str);

impl Algorithm {
    /// The algorithm with this name, if supported.
    pub fn parse(name: &str) -> Option<Self> {
        Self::all().find(|algorithm| algorithm.0 == name)
    }

    /// All algorithms that we verify.
    pub fn all() -> impl Iterator<Item = Self> {
        SCHEMES.iter().map(|scheme| scheme.algorithm)
    }

    /// The name used in `alg`: `ed25519`.
    pub fn name(self) -> &'static str {
        self.0
    }

    /// Whether it uses a shared secret, so that a signature proves less than one with a private key
    /// (R-6.3.1-1b).
    pub fn is_shared(self) -> bool {
        self == hmac::SCHEME.algorithm
    }

    /// The algorithm whose key generation serves this one: RSA key pairs are the same for both
    /// paddings.
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

/// Our default signing algorithm: the fastest.
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

/// A private key and the id of its public half. Cannot be printed.
#[derive(Clone)]
pub struct SigningKey {
    id: String,
    algorithm: Algorithm,
    private: Arc<dyn Sign>,
    is_slow: bool,
}

impl SigningKey {
    /// Parses a private key.
    ///
    /// Format: unencrypted PKCS #8 in PEM; the id as used in `keyid`.
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
                    is_slow: scheme.slow,
                })
            })
            .ok_or_else(unsupported)
    }

    /// Parses a private key for this algorithm. An RSA key does not say which padding it is for: the
    /// dialect fixes it (Q3).
    ///
    /// # Errors
    /// As [`SigningKey::from_pkcs8_pem`], also for a key of another algorithm.
    pub fn of_algorithm(algorithm: Algorithm, id: &str, pem: &str) -> Result<Self, KeyFault> {
        check_id(id)?;
        let der = pem::read_private_key(pem.as_bytes()).ok_or(KeyFault::Unreadable {
            expected: pem::PRIVATE_KEY,
        })?;
        let scheme = algorithm.scheme().ok_or_else(unsupported)?;
        Ok(Self {
            id: id.to_owned(),
            algorithm,
            private: (scheme.read_private)(&der).ok_or_else(unsupported)?,
            is_slow: scheme.slow,
        })
    }

    /// A shared secret: `hmac-sha256`. It has no public half.
    ///
    /// # Errors
    /// [`KeyFault::BadId`]; [`KeyFault::SecretUnfit`] for one that could be guessed.
    pub fn from_secret(id: &str, secret: &[u8]) -> Result<Self, KeyFault> {
        check_id(id)?;
        Ok(Self {
            id: id.to_owned(),
            algorithm: hmac::SCHEME.algorithm,
            private: hmac::read(secret).ok_or(KeyFault::SecretUnfit)?,
            is_slow: false,
        })
    }

    /// Generates a key: the private key (PKCS #8) and the public key, both in PEM.
    ///
    /// # Errors
    /// [`KeyFault::NotMadeHere`] for an algorithm that is only verified, or has no key pairs;
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

    /// Generates an Ed25519 key, like [`SigningKey::generate`].
    ///
    /// # Errors
    /// [`KeyFault::NotGenerated`] if the library has no randomness.
    pub fn generate_ed25519() -> Result<(String, String), KeyFault> {
        Self::generate(Algorithm::default())
    }

    /// Its `keyid`.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Its algorithm.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Whether signing takes about as long as the rest of a request: an async caller signs in the
    /// signing pool.
    pub fn is_slow(&self) -> bool {
        self.is_slow
    }

    /// The public half as a JSON Web Key with `kid`, `use` and `alg`; the publisher adds `nbf` and
    /// `exp`. Null for a shared secret.
    pub fn public_jwk(&self) -> Value {
        let mut jwk = self.private.public_jwk();
        if let Some(members) = jwk.as_object_mut() {
            members.insert("kid".to_owned(), self.id.as_str().into());
            members.insert("use".to_owned(), "sig".into());
        }
        jwk
    }

    /// The public half as `SubjectPublicKeyInfo` in PEM, for enrolment elsewhere. An empty block
    /// for a shared secret.
    pub fn public_pem(&self) -> String {
        pem::write(pem::PUBLIC_KEY, &self.private.public_der())
    }

    /// Signs bytes, whatever they mean; `None` if the library fails.
    pub fn sign(&self, base: &[u8]) -> Option<Vec<u8>> {
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
    /// Parses a public key; the algorithm follows from the key, for RSA keys it is
    /// `rsa-pss-sha512`.
    ///
    /// Format: `SubjectPublicKeyInfo` in PEM.
    ///
    /// # Errors
    /// [`KeyFault::Unreadable`], [`KeyFault::Unsupported`].
    pub fn from_spki_pem(pem: &str) -> Result<Self, KeyFault> {
        let der = spki(pem)?;
        let read = |scheme: &Scheme| Some(Self::of(scheme, (scheme.read_public)(&der)?, &der));
        SCHEMES.iter().find_map(read).ok_or_else(unsupported)
    }

    /// Parses a public key for this algorithm. An RSA key does not say which padding it is for: the
    /// enrolment fixes it (Q3).
    ///
    /// # Errors
    /// As [`VerifyingKey::from_spki_pem`], also for a key of another algorithm.
    pub fn of_algorithm(algorithm: Algorithm, pem: &str) -> Result<Self, KeyFault> {
        let der = spki(pem)?;
        let read = |scheme: &Scheme| Some(Self::of(scheme, (scheme.read_public)(&der)?, &der));
        algorithm.scheme().and_then(read).ok_or_else(unsupported)
    }

    /// Parses a published public key (RFC 7517), by `kty` and, for RSA, by `alg`.
    ///
    /// # Errors
    /// [`KeyFault::Unsupported`].
    pub fn from_jwk(jwk: &Value) -> Result<Self, KeyFault> {
        let text = jwk.to_string();
        let read =
            |scheme: &Scheme| Some(Self::of(scheme, (scheme.read_jwk)(jwk)?, text.as_bytes()));
        SCHEMES.iter().find_map(read).ok_or_else(unsupported)
    }

    /// A shared secret: `hmac-sha256`.
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

    /// The algorithm of its signatures; nothing in a message can override it (Q3).
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Whether this is a signature of these bytes by this key.
    #[must_use]
    pub fn verifies(&self, base: &[u8], signature: &[u8]) -> bool {
        // Q3: an empty signature is refused for every algorithm, before the algorithm is called.
        !signature.is_empty() && self.public.verifies(base, signature)
    }
}

impl fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VerifyingKey({})", self.algorithm)
    }
}

/// Checks that an id can be written in `keyid` without escapes.
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

fn unsupported() -> KeyFault {
    let names: Vec<&str> = Algorithm::all().map(Algorithm::name).collect();
    KeyFault::Unsupported(names.join(", "))
}
