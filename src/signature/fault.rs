//! Faults of keys and signatures: what was expected, what was found, what to do. Never quotes a
//! secret; quoted text from the sender is truncated.

use crate::signature::key::Algorithm;

/// How much of the sender's text a fault quotes. Unit: characters.
const SHOWN_CHARS_MAX: usize = 64;

/// Why a key cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyFault {
    /// Not PEM, or PEM of another kind.
    #[error("the key cannot be read: expected one PEM block '{expected}'")]
    Unreadable {
        /// The label of the expected block.
        expected: &'static str,
    },
    /// Readable, but of no supported algorithm, damaged, or too weak.
    #[error(
        "the key is damaged, weak (RSA: 2048 to 4096 bits, an exponent of 65537 or more), or of an \
         algorithm that is not supported (supported: {0})"
    )]
    Unsupported(String),
    /// A shared secret that could be guessed.
    #[error("a shared secret must be 32 to 256 random bytes")]
    SecretUnfit,
    /// A key id is sent as a quoted string in a header.
    #[error(
        "a key id must be 1 to 64 characters of printable ASCII without quotes and backslashes"
    )]
    BadId,
    /// A key id must be unique, or a signature could belong to two owners.
    #[error("the key id '{id}' is enrolled twice")]
    IdTaken {
        /// The id.
        id: String,
    },
    /// We only verify this algorithm, or it has no key pairs.
    #[error("{0} is only verified here; key pairs cannot be generated for it")]
    NotMadeHere(Algorithm),
    /// The library could not generate a key.
    #[error("no key could be generated")]
    NotGenerated,
}

/// Why a message does not verifiably come from the owner of a key, or could not be signed.
///
/// The texts are for developers of the other side; programs use the variant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignatureFault {
    /// Neither `Signature-Input` nor `Signature` is present.
    #[error(
        "the message is not signed: expected the headers Content-Digest (RFC 9530), \
         Signature-Input and Signature (RFC 9421)"
    )]
    Unsigned,
    /// A header breaks its grammar or contradicts another.
    #[error("the signature cannot be read: {0}")]
    Malformed(&'static str),
    /// The signature covers too little of the message (Q2).
    #[error("the signature covers too little: add {missing} to the covered components")]
    CoversTooLittle {
        /// The missing identifiers, separated by spaces.
        missing: String,
    },
    /// A required signature parameter is missing.
    #[error("the signature lacks the parameter '{0}'")]
    ParameterMissing(&'static str),
    /// A covered component is of an unsupported form.
    #[error(
        "the component {0} is not supported: cover plain fields and @method, @target-uri, \
         @authority, @scheme, @path, @query, @request-target, @status"
    )]
    UnsupportedComponent(String),
    /// A covered or required component is not in the message.
    #[error("the component {0} is not part of the message")]
    ComponentAbsent(String),
    /// Two signatures by known keys: ambiguous.
    #[error("more than one signature by a known key: send exactly one")]
    TooManySignatures,
    /// No signature names a known key.
    #[error("the key '{named}' is unknown: 'keyid' must name an enrolled key")]
    KeyUnknown {
        /// The key id of the first signature; empty if none.
        named: String,
    },
    /// The key is known but not valid yet.
    #[error("the key '{key_id}' is not valid before {not_before_s} (Unix seconds)")]
    KeyNotYetValid {
        /// The key.
        key_id: String,
        /// The first second of its validity.
        not_before_s: i64,
    },
    /// The key is known but no longer valid.
    #[error("the key '{key_id}' was valid until {not_after_s} (Unix seconds): use the current key")]
    KeyExpired {
        /// The key.
        key_id: String,
        /// The last second of its validity.
        not_after_s: i64,
    },
    /// The message names another algorithm than the key's (Q3).
    #[error("'alg' is '{named}', the key is for '{expected}': correct or omit 'alg'")]
    AlgorithmMismatch {
        /// The algorithm named in the message.
        named: String,
        /// The algorithm of the key.
        expected: Algorithm,
    },
    /// The body does not match its digest.
    #[error("Content-Digest does not match the body, whose digest is {computed}")]
    DigestMismatch {
        /// The digest of the received body, in header format.
        computed: String,
    },
    /// The signature does not verify.
    #[error("the signature does not match this signature base:\n{base}")]
    SignatureMismatch {
        /// The signature base computed from the received message.
        base: String,
    },
    /// The library failed to sign.
    #[error("the message could not be signed")]
    NotSigned,
}

impl SignatureFault {
    /// The signature base computed from the message, if the signature did not match it.
    pub fn base(&self) -> Option<&str> {
        if let Self::SignatureMismatch { base } = self {
            Some(base)
        } else {
            None
        }
    }
}

/// The sender's text, truncated for quoting.
pub(super) fn shown(text: &str) -> String {
    text.chars().take(SHOWN_CHARS_MAX).collect()
}
